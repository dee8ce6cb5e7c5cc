using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace DbLock;

/// <summary>
/// The traces and metrics of DbLock, under the name <see cref="Lock.TelemetryName"/>. Attributes:
/// https://opentelemetry.io/docs/specs/semconv/database/
/// </summary>
internal static class Telemetry
{
    public const string Acquired = "acquired";
    public const string NotAcquired = "not_acquired";
    public const string Released = "released";
    public const string Lost = "lost";

    public const string Name = "DbLock";

    public static readonly ActivitySource Source = new(Name, typeof(Telemetry).Assembly.GetName().Version?.ToString(3));

    private static readonly Meter Meter = new(Source.Name, Source.Version);

    private static readonly InstrumentAdvice<double> Seconds = new()
    {
        HistogramBucketBoundaries = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1,
        5, 10, 30, 60, 300, 600]
    };

    private static readonly Histogram<double> Wait = Meter.CreateHistogram(
        "dblock.wait.duration", "s", "How long an acquire took, from the call to its outcome.", tags: null, Seconds);

    private static readonly Histogram<double> Hold = Meter.CreateHistogram(
        "dblock.hold.duration", "s", "How long a lock of session scope was held.", tags: null, Seconds);

    private static readonly UpDownCounter<long> Queue = Meter.CreateUpDownCounter<long>(
        "dblock.queue.length", "{acquire}", "Acquires that are under way.");

    private static readonly Counter<long> Losses = Meter.CreateCounter<long>(
        "dblock.lost", "{lock}", "Locks that the server no longer held while we did.");

    /// <summary>Gets whether anybody listens to acquires.</summary>
    public static bool HearsAcquires => Source.HasListeners() || Wait.Enabled || Queue.Enabled;

    /// <summary>Gets whether anybody listens to holds.</summary>
    public static bool HearsHolds => Hold.Enabled || Losses.Enabled;

    /// <summary>Runs an acquire and records how it ended.</summary>
    /// <param name="acquire">The acquire.</param>
    /// <param name="isAcquired">Says whether the result is a lock.</param>
    /// <param name="where">Returns the database and the dialect, as far as they are known.</param>
    /// <param name="key">The key.</param>
    /// <param name="options">How the lock is held.</param>
    public static async ValueTask<T> Tell<T>(
        Func<ValueTask<T>> acquire, Func<T, bool> isAcquired, Func<(string? Database, LockDialect? Dialect)> where, LockKey key,
        LockOptions options)
    {
        using var activity = Source.StartActivity("acquire", ActivityKind.Client);
        var start = Stopwatch.GetTimestamp();
        var (outcome, error) = ("error", default(Exception));
        var queue = new KeyValuePair<string, object?>("db.namespace", where().Database);
        Quietly(() => Queue.Add(1, queue));
        try
        {
            var answer = await acquire().ConfigureAwait(false);
            outcome = isAcquired(answer) ? Acquired : NotAcquired;
            return answer;
        }
        catch (Exception e)
        {
            error = e;
            outcome = e switch
            {
                OperationCanceledException => "cancelled",
                LockDeadlockException => "deadlock",
                LockNotAcquiredException => NotAcquired,
                LockLostException => Lost,
                _ => outcome,
            };
            throw;
        }
        finally
        {
            Quietly(() =>
            {
                Queue.Add(-1, queue);
                Waited(activity, where(), key, options, outcome, error, start);
            });
        }
    }

    /// <summary>Records how a hold ended.</summary>
    public static void Held(string? database, LockDialect? dialect, LockKey key, LockOptions options, long start, string outcome) =>
        Quietly(() =>
    {
        var tags = Tags(database, dialect, key, options);
        if (outcome == Lost)
        {
            Losses.Add(1, tags);
        }

        tags.Add("dblock.outcome", outcome);
        if (start != 0)
        {
            Hold.Record(Stopwatch.GetElapsedTime(start).TotalSeconds, tags);
        }
    });

    // Swallows the exceptions of a listener: if one came out, a lock could stay held.
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

    private static void Waited(
        Activity? activity, (string? Database, LockDialect? Dialect) where, LockKey key, LockOptions options, string outcome,
        Exception? error, long start)
    {
        var tags = Tags(where.Database, where.Dialect, key, options);
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
                // The message has the key in it, and may have the holder.
                activity.SetStatus(ActivityStatusCode.Error, options.TelemetryKey ? error.Message : outcome);
            }
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
