namespace DbLock;

/// <summary>The name of the driver for any ADO.NET provider.</summary>
public static class AdoNetLockInterface
{
    /// <summary>Gets the interface, as <see cref="LockInterface.For"/> finds it.</summary>
    public static LockInterface Instance { get; } = new("AdoNet", new AdoNetDriver(), Dialects.All);

    extension(LockInterface)
    {
        /// <summary>Gets the driver for any <c>DbConnection</c> with named parameters, through Dapper.</summary>
        public static LockInterface AdoNet => Instance;
    }
}
