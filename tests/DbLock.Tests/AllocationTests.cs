using System.Data.Common;

namespace DbLock.Tests;

public sealed class AllocationTests
{
    // A debug build makes an object for each asynchronous method.
#if DEBUG
    private const int Most = 2048;
#else
    private const int Most = 112;
#endif

    [Fact]
    public void An_acquire_and_a_release_allocate_their_hold_and_nothing_else()
    {
        // Nobody listens to logs, metrics or traces here, and the driver allocates nothing.
        var @lock = new Lock(new UnknownConnection(), "key", new LockInterface("Granting", new GrantingDriver(), LockDialect.PostgreSql), new LockOptions { Dialect = LockDialect.PostgreSql });
        for (var use = 0; use < 100; use++)
        {
            Assert.True(@lock.Acquire(block: false));
            Assert.True(@lock.Release());
        }

        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var use = 0; use < 1000; use++)
        {
            @lock.Acquire(block: false);
            @lock.Release();
        }

        Assert.InRange((GC.GetAllocatedBytesForCurrentThread() - before) / 1000, 1, Most);
    }

    private sealed class GrantingDriver : ILockDriver
    {
        private static readonly object Granted = 1;

        public bool Supports(DbConnection connection) => true;

        public ValueTask<object?> Execute(DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken) => new(Granted);

        public DbError Read(Exception exception) => default;
    }
}
