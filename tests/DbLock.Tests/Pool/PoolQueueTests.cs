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
}
