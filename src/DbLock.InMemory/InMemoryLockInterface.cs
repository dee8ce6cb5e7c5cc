namespace DbLock;

/// <summary>The name of the driver in memory.</summary>
public static class InMemoryLockInterface
{
    /// <summary>Gets the interface, as <see cref="LockInterface.For"/> finds it.</summary>
    public static LockInterface Instance { get; } = new("InMemory", new InMemoryDriver(), InMemoryDialect.Instance);

    extension(LockInterface)
    {
        /// <summary>Gets the driver for an <see cref="InMemoryConnection"/>.</summary>
        public static LockInterface InMemory => Instance;
    }
}
