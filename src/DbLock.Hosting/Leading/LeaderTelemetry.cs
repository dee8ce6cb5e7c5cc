using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace DbLock;

/// <summary>The metrics of elections, under the name <see cref="Lock.TelemetryName"/>.</summary>
internal static class LeaderTelemetry
{
    private static readonly Meter Meter = new(Lock.TelemetryName, typeof(LeaderTelemetry).Assembly.GetName().Version?.ToString(3));

    private static readonly UpDownCounter<long> Leading =
        Meter.CreateUpDownCounter<long>("dblock.leader", "{leader}", "1 while this instance leads.");

    private static readonly Histogram<double> Terms =
        Meter.CreateHistogram<double>("dblock.leader.term.duration", "s", "How long this instance led, with how it ended.");

    /// <summary>Notes that a term begins.</summary>
    /// <param name="service">The name of the service's type.</param>
    /// <param name="key">The key; null where telemetry is not to have it.</param>
    public static void Begin(string service, LockKey? key) => Quietly(() => Leading.Add(1, Tags(service, key)));

    /// <summary>Notes that a term has ended.</summary>
    /// <param name="service">The name of the service's type.</param>
    /// <param name="key">The key; null where telemetry is not to have it.</param>
    /// <param name="start">When it began, on the clock of <see cref="Stopwatch"/>.</param>
    /// <param name="change">How it ended.</param>
    public static void End(string service, LockKey? key, long start, LeaderChange change) => Quietly(() =>
    {
        var tags = Tags(service, key);
        Leading.Add(-1, tags);
        tags.Add("dblock.outcome", change switch
        {
            LeaderChange.Lost => "lost",
            LeaderChange.Failed => "failed",
            _ => "resigned",
        });
        Terms.Record(Stopwatch.GetElapsedTime(start).TotalSeconds, tags);
    });

    private static TagList Tags(string service, LockKey? key)
    {
        var tags = new TagList { { "dblock.leader.service", service } };
        if (key is not null)
        {
            tags.Add("dblock.key", key.Name);
        }

        return tags;
    }

    // If the exception of a listener came out, it would end the term.
    private static void Quietly(Action tell)
    {
        try
        {
            tell();
        }
        catch (Exception)
        {
            // The exception is the listener's own.
        }
    }
}
