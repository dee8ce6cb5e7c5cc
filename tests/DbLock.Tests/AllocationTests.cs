using System.Data.Common;
using System.Runtime.CompilerServices;
using System.Threading.Tasks.Sources;

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

    [Fact]
    public void An_acquire_and_a_release_that_wait_for_their_answers_allocate_no_more()
    {
        var driver = new WaitingDriver();
        var options = new LockOptions { Dialect = LockDialect.PostgreSql };
        var @lock = new Lock(new UnknownConnection(), "key", new LockInterface("Waiting", driver, LockDialect.PostgreSql), options);
        for (var use = 0; use < 100; use++)
        {
            Assert.True(WaitAndRelease());
        }

        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var use = 0; use < 1000; use++)
        {
            WaitAndRelease();
        }

        Assert.InRange((GC.GetAllocatedBytesForCurrentThread() - before) / 1000, 1, Most);

        bool WaitAndRelease() => Answered(@lock.AcquireAsync()) && Answered(@lock.ReleaseAsync());

        // The answer comes on this thread, which then runs the call to its end.
        bool Answered(ValueTask<bool> call)
        {
            Assert.False(call.IsCompleted);
            driver.Grant();
            return call.IsCompleted && call.Result;
        }
    }

    /// <summary>A finalizer, such as a Timer has, would keep all that a lock knows over a collection, also where nobody disposes of it.</summary>
    [Fact]
    public void What_a_lock_knows_is_collected_as_soon_as_nobody_has_it()
    {
        using var connection = new UnknownConnection();
        var known = AcquireAndRelease(connection);
        GC.Collect();
        Assert.False(known.IsAlive);

        [MethodImpl(MethodImplOptions.NoInlining)]
        static WeakReference AcquireAndRelease(DbConnection connection)
        {
            var options = new LockOptions { Dialect = LockDialect.PostgreSql };
            var @lock = new Lock(connection, "key", new LockInterface("Granting", new GrantingDriver(), LockDialect.PostgreSql), options);
            Assert.True(@lock.AcquireAsync(TimeSpan.FromSeconds(10)).AsTask() is { IsCompletedSuccessfully: true, Result: true });
            Assert.True(@lock.ReleaseAsync().AsTask() is { IsCompletedSuccessfully: true, Result: true });
            return new WeakReference(@lock.Holding.Conversation, trackResurrection: true);
        }
    }

    private sealed class GrantingDriver : ILockDriver
    {
        private static readonly object Granted = 1;

        public bool Supports(DbConnection connection) => true;

        public ValueTask<object?> Execute(DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken) => new(Granted);

        public DbError Read(Exception exception) => default;
    }

    /// <summary>Answers yes when it is told to.</summary>
    private sealed class WaitingDriver : ILockDriver, IValueTaskSource<object?>
    {
        private static readonly object Granted = 1;

        private ManualResetValueTaskSourceCore<object?> _answer;

        public void Grant() => _answer.SetResult(Granted);

        public bool Supports(DbConnection connection) => true;

        public ValueTask<object?> Execute(
            DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
        {
            _answer.Reset();
            return new(this, _answer.Version);
        }

        public DbError Read(Exception exception) => default;

        public object? GetResult(short token) => _answer.GetResult(token);

        public ValueTaskSourceStatus GetStatus(short token) => _answer.GetStatus(token);

        public void OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
            _answer.OnCompleted(continuation, state, token, flags);
    }
}
