namespace DbLock;

/// <summary>The name of the ODBC driver.</summary>
public static class OdbcLockInterface
{
    /// <summary>Gets the interface, as <see cref="LockInterface.For"/> finds it.</summary>
    public static LockInterface Instance { get; } = new("Odbc", new OdbcDriver(), Dialects.All);

    extension(LockInterface)
    {
        /// <summary>Gets the driver for an <c>OdbcConnection</c>.</summary>
        public static LockInterface Odbc => Instance;
    }
}
