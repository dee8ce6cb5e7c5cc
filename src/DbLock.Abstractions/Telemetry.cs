using System.Data.Common;
using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace DbLock;

/// <summary>What DbLock tells OpenTelemetry, under the name <see cref="Lock.TelemetryName"/>. Attributes: https://opentelemetry.io/docs/specs/semconv/database/</summary>
internal static class Telemetry
{
    public const string Acquired = "acquired";
    public const string NotAcquired = "not_acquired";
    public const string Released = "released";
    public const string Lost = "lost";

    public static readonly ActivitySource Source = new(Lock.TelemetryName, typeof(Lock).Assembly.GetName().Version?.ToString(3));

    private static readonly Meter Meter = new(Source.Name, Source.Version);

    private static readonly InstrumentAdvice<double> Seconds = new() { HistogramBucketBoundaries = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600] };

    private static readonly Histogram<double> Wait = Meter.CreateHistogram(
        "dblock.wait.duration", "s", "How long an acquire took, from the call to its outcome.", tags: null, Seconds);

    private static readonly Histogram<double> Hold = Meter.CreateHistogram(
        "dblock.hold.duration", "s", "How long a lock of session scope was held.", tags: null, Seconds);

    private static readonly UpDownCounter<long> Queue = Meter.CreateUpDownCounter<long>("dblock.queue.length", "{acquire}", "Acquires that are under way.");

    private static readonly Counter<long> Losses = Meter.CreateCounter<long>("dblock.lost", "{lock}", "Locks that the server no longer held while we did.");

    /// <summary>Gets whether anybody listens to acquires.</summary>
    public static bool HearsAcquires => Source.HasListeners() || Wait.Enabled || Queue.Enabled;

    /// <summary>Gets whether anybody listens to holds.</summary>
    public static bool HearsHolds => Hold.Enabled || Losses.Enabled;

    public static void Enter(DbConnection connection) => Queue.Add(1, new KeyValuePair<string, object?>("db.namespace", connection.Database));

    public static void Exit(DbConnection connection) => Queue.Add(-1, new KeyValuePair<string, object?>("db.namespace", connection.Database));

    /// <summary>Tells how an acquire ended.</summary>
    public static void Waited(Activity? activity, DbConnection connection, LockDialect? dialect, LockKey key, LockOptions options, string outcome, Exception? error, long start)
    {
        var tags = Tags(connection.Database, dialect, key, options);
        tags.Add("dblock.outcome", outcome);
        if (error is not null)
        {
            tags.Add("error.type", error.GetType().FullName);
        }

        Wait.Record(Stopwatch.GetElapsedTime(start).TotalSeconds, tags);
        if (activity is not null)
        {
            foreach (var (name, value) in tags)
            {
                activity.SetTag(name, value);
            }

            activity.SetTag("db.operation.name", activity.OperationName);
            if (error is not null)
            {
                activity.SetStatus(ActivityStatusCode.Error, error.Message);
            }
        }
    }

    /// <summary>Tells how a hold ended.</summary>
    public static void Held(Hold hold, string outcome)
    {
        var tags = Tags(hold.Database, hold.Identity.Dialect, hold.Key, hold.Options);
        if (outcome == Lost)
        {
            Losses.Add(1, tags);
        }

        tags.Add("dblock.outcome", outcome);
        if (hold.Start != 0)
        {
            Hold.Record(Stopwatch.GetElapsedTime(hold.Start).TotalSeconds, tags);
        }
    }

    private static TagList Tags(string? database, LockDialect? dialect, LockKey key, LockOptions options)
    {
        var tags = new TagList { { "db.namespace", database }, { "dblock.shared", options.Shared } };
        if (dialect is not null)
        {
            tags.Add("db.system.name", dialect.SystemName);
        }

        if (options.TelemetryKey)
        {
            tags.Add("dblock.key", key.Name);
        }

        return tags;
    }
}
