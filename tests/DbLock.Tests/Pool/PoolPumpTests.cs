using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace DbLock.Tests.Pool;

/// <summary>What the conversation of a pool with its server does after the process stood still.</summary>
public sealed class PoolPumpTests
{
    [Fact]
    public async Task A_process_that_stood_still_for_longer_than_the_trust_lasts_is_told_before_anything_is_asked()
    {
        var server = new InMemoryLockServer();
        for (var round = 0; round < 50; round++)
        {
            await using var pool = new LockPool(server.CreateDataSource());
            await using var held = await pool.AcquireLockAsync("pump:" + round, cancellationToken: TestContext.Current.CancellationToken);
            var (pump, carrier) = (Pump(pool), Pump(pool).Carrier!);

            // The round that granted may not have come to its end, and what it confirms is newer.
            await UntilQuietAsync(pump);
            var stopped = Stopwatch.GetTimestamp() - (16 * Stopwatch.Frequency);
            Trust(carrier).Ask(stopped);
            Trust(carrier).Confirm();
            LastCount(carrier) = stopped;

            // As a release that is heard of does it: a beat is due, and would be answered.
            pump.Wake();
            await UntilQuietAsync(pump);
            Assert.False(held.IsHeld);
            Assert.True(held.Lost.IsCancellationRequested);
        }
    }

    private static async Task UntilQuietAsync(PoolPump pump)
    {
        while (Volatile.Read(ref IsBusy(pump)))
        {
            await Task.Yield();
        }
    }

    private static PoolPump Pump(LockPool pool) => (PoolPump)PumpOf(pool);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_pump")]
    private static extern ref IPoolPump PumpOf(LockPool pool);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_isBusy")]
    private static extern ref bool IsBusy(PoolPump pump);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_trust")]
    private static extern ref TrustWindow Trust(Carrier carrier);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_lastCount")]
    private static extern ref long LastCount(Carrier carrier);
}
