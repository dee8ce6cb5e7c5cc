using System.Data;
using System.Data.Common;

namespace DbLock;

/// <summary>A transaction in memory: what ends the locks of transaction scope.</summary>
internal sealed class InMemoryTransaction(
    InMemoryConnection connection, InMemorySession session, IsolationLevel isolationLevel) : DbTransaction
{
    private InMemoryConnection? _connection = connection;

    public override IsolationLevel IsolationLevel => isolationLevel;

    // A transaction that has ended has no connection, as with other providers.
    protected override DbConnection? DbConnection => _connection;

    public override void Commit() => EndOrThrow();

    public override void Rollback() => EndOrThrow();

    public void End()
    {
        session.EndTransaction(this);
        _connection?.Forget(this);
        _connection = null;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing && _connection is not null)
        {
            End();
        }

        base.Dispose(disposing);
    }

    private void EndOrThrow()
    {
        if (_connection is null)
        {
            throw new InvalidOperationException("The transaction has ended.");
        }

        End();
    }
}
