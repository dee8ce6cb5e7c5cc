using System.Data.Common;

namespace System.Data.Odbc;

public sealed class OdbcTransaction : DbTransaction
{
    private OdbcConnection? _connection;
    private OdbcConnectionHandle? _handle;
    private IsolationLevel _isolation;

    internal OdbcTransaction(OdbcConnection connection, OdbcConnectionHandle handle, IsolationLevel isolation)
    {
        _connection = connection;
        _handle = handle;
        _isolation = isolation;
    }

    public new OdbcConnection? Connection => _connection;

    public override IsolationLevel IsolationLevel
    {
        get
        {
            var connection = Live();
            if (_isolation == IsolationLevel.Unspecified)
            {
                _isolation = connection.GetIsolation();
            }

            return _isolation;
        }
    }

    protected override DbConnection? DbConnection => _connection;

    public override void Commit() => End(Native.Commit, "CommitTransaction");

    public override void Rollback() => End(Native.Rollback, "RollbackTransaction");

    protected override void Dispose(bool disposing)
    {
        if (disposing && _handle is { } handle)
        {
            _handle = null;
            if (!handle.IsClosed)
            {
                var code = handle.EndTransaction(Native.Rollback);
                if (!Native.Ok(code))
                {
                    _ = _connection?.Failure(handle);
                }
            }

            Forget();
        }

        base.Dispose(disposing);
    }

    private void End(short completion, string method)
    {
        var connection = Live();
        connection.RequireOpen(method);

        // A failed end leaves the transaction to be tried again.
        connection.Check(_handle!, _handle!.EndTransaction(completion));
        Forget();
    }

    private void Forget()
    {
        if (_connection is { } connection)
        {
            connection.LocalTransaction = null;
        }

        _connection = null;
        _handle = null;
    }

    private OdbcConnection Live() =>
        _connection ?? throw new InvalidOperationException($"This {nameof(OdbcTransaction)} has completed; it is no longer usable.");
}
