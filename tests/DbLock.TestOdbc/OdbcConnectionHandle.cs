namespace System.Data.Odbc;

/// <summary>A connection's handle: freeing it rolls back and disconnects.</summary>
internal sealed class OdbcConnectionHandle() : OdbcHandle(Native.Connection, Environment.Value)
{
    private static readonly Lazy<OdbcHandle> Environment = new(static () =>
    {
        var environment = new OdbcHandle(Native.Environment, parent: null);
        _ = Native.SQLSetEnvAttr(environment, Native.OdbcVersion, 3, 0);
        return environment;
    });

    private bool _connected;
    private bool _manualCommit;
    private bool _inTransaction;

    internal short Connect(string connectionString, int timeout)
    {
        _ = Native.SetConnection(this, Native.LoginTimeout, timeout);
        var code = Native.SQLDriverConnectW(this, 0, connectionString, Native.NullTerminated, 0, 0, 0, 0);
        _connected = Native.Ok(code);
        return code;
    }

    internal short BeginTransaction()
    {
        var code = Native.SetConnection(this, Native.AutoCommit, 0);
        _manualCommit = _inTransaction = Native.Ok(code);
        return code;
    }

    internal short EndTransaction(short completion)
    {
        var held = false;
        try
        {
            DangerousAddRef(ref held);
            return EndTransactionUnguarded(completion);
        }
        finally
        {
            if (held)
            {
                DangerousRelease();
            }
        }
    }

    protected override bool ReleaseHandle()
    {
        if (_connected)
        {
            _ = EndTransactionUnguarded(Native.Rollback);
            _ = Native.SQLDisconnect(handle);
        }

        return base.ReleaseHandle();
    }

    private short EndTransactionUnguarded(short completion)
    {
        var code = Native.Success;
        if (_inTransaction)
        {
            code = Native.SQLEndTran(Native.Connection, handle, completion);
            _inTransaction = !Native.Ok(code);
        }

        if (_manualCommit && !_inTransaction)
        {
            code = Native.SQLSetConnectAttrW(handle, Native.AutoCommit, 1, 0);
            _manualCommit = false;
        }

        return code;
    }
}
