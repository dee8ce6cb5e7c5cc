using System.Collections.Concurrent;

namespace DbLock.Tests.Sessions;

/// <summary>Every job is run once, whatever a thread does at that moment that has waited for long enough.</summary>
public sealed class OwnThreadsTests
{
    private const int Callers = 8;
    private const int Jobs = 3_000;

    [Fact]
    public void A_job_has_what_flows_with_its_caller_and_not_with_the_one_before()
    {
        var threads = new OwnThreads(TimeSpan.FromMinutes(1));
        var flows = new AsyncLocal<string?>();
        Assert.Equal("first", Ask("first"));
        Assert.Null(Ask(null));
        Assert.Equal("third", Ask("third"));

        string? Ask(string? value)
        {
            flows.Value = value;
            var (seen, done) = (default(string), new ManualResetEventSlim());
            threads.Run(() =>
            {
                seen = flows.Value;
                done.Set();
            });
            Assert.True(done.Wait(TimeSpan.FromMinutes(1)));
            return seen;
        }
    }

    [Theory, InlineData(0), InlineData(1), InlineData(10_000)]
    public void Every_job_is_run_once(int lingerMilliseconds)
    {
        var threads = new OwnThreads(TimeSpan.FromMilliseconds(lingerMilliseconds));
        var ids = new ConcurrentDictionary<int, bool>();
        var runs = new int[Callers * Jobs];
        var callers = Enumerable.Range(0, Callers).Select(caller => new Thread(() =>
        {
            for (var n = 0; n < Jobs; n++)
            {
                var (place, done) = ((caller * Jobs) + n, new ManualResetEventSlim());
                threads.Run(() =>
                {
                    Interlocked.Increment(ref runs[place]);
                    ids[Environment.CurrentManagedThreadId] = true;
                    done.Set();
                });
                Assert.True(done.Wait(TimeSpan.FromMinutes(1)));
            }
        })).ToList();
        callers.ForEach(caller => caller.Start());
        callers.ForEach(caller => caller.Join());
        Assert.All(runs, count => Assert.Equal(1, count));

        // One that waits for its next job is used again, unless it is not back yet when its caller asks again.
        Assert.True(lingerMilliseconds < 10_000 || ids.Count <= Jobs / 10, $"There were {ids.Count} threads.");
    }
}
