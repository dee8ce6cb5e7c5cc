namespace DbLock;

/// <summary>The name of the native Npgsql driver.</summary>
public static class NpgsqlLockInterface
{
    /// <summary>Gets the interface, as <see cref="LockInterface.For"/> finds it.</summary>
    public static LockInterface Instance { get; } = new("Npgsql", new NpgsqlDriver(), LockDialect.PostgreSql);

    extension(LockInterface)
    {
        /// <summary>Gets the native driver for an <c>NpgsqlConnection</c>.</summary>
        public static LockInterface Npgsql => Instance;
    }
}
