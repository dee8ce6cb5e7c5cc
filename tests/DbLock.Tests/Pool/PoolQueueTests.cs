using System.Globalization;

namespace DbLock.Tests.Pool;

/// <summary>
/// The queue of a pool, by random steps of a few processes on a few keys. DBLOCK_POOL_SEED runs one seed again, the one that a failure
/// names.
/// </summary>
public sealed class PoolQueueTests
{
    private const int Steps = 20_000;

    [Fact]
    public void Random_steps_let_no_two_in_forget_nobody_and_leave_nothing()
    {
        int[] seeds = Environment.GetEnvironmentVariable("DBLOCK_POOL_SEED") is { Length: > 0 } given
            ? [int.Parse(given, CultureInfo.InvariantCulture)]
            : [.. Enumerable.Range(0, 16), Random.Shared.Next()];
        foreach (var next in seeds)
        {
            var run = new PoolQueueRun(next);
            try
            {
                run.Run(Steps);
            }
            catch (Exception e)
            {
                Assert.Fail(string.Create(CultureInfo.InvariantCulture, $"DBLOCK_POOL_SEED={next} fails at step {run.Step}: {e}"));
            }
        }
    }

    [Fact]
    public async Task A_timeout_below_a_millisecond_is_not_over_too_soon()
    {
        var (clock, server) = (new HandClock(), new ModelServer());
        var pool = new ModelPool(clock);
        Assert.True(server.TryTake(this, new CarriedLock(1, IsPair: false, Shared: false)));
        var request = pool.Ask(1, shared: false, TimeSpan.FromMicroseconds(500));
        var round = pool.Next()!;
        var (released, acquired) = server.Carry(pool, round);
        pool.Answers.Apply(pool.Queue.Owner!, round, new CarrierAnswer(released, null, acquired, 0, null), took: 1, more: 0);
        clock.Advance(TimeSpan.FromMicroseconds(499));
        pool.Queue.Tick();
        Assert.False(request.IsEnded);
        clock.Advance(TimeSpan.FromMicroseconds(1));
        pool.Queue.Tick();
        Assert.Null(await request.Answer);
    }
}
