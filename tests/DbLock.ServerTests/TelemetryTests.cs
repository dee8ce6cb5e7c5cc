using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace DbLock.ServerTests;

/// <summary>What OpenTelemetry is told.</summary>
public sealed class TelemetryTests : IDisposable
{
    private readonly ConcurrentQueue<(string Instrument, double Value, Dictionary<string, object?> Tags)> _measured = new();
    private readonly ConcurrentQueue<Activity> _activities = new();
    private readonly MeterListener _meters = new();
    private readonly ActivityListener _listener;

    public TelemetryTests()
    {
        _meters.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == Lock.TelemetryName)
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _meters.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Measure(instrument, value, tags));
        _meters.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Measure(instrument, value, tags));
        _meters.Start();
        _listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == Lock.TelemetryName,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = _activities.Enqueue,
        };
        ActivitySource.AddActivityListener(_listener);
    }

    private static PostgreSqlTestServer Server => PostgreSqlTestServer.Instance;

    private LockKey Key { get; } = "telemetry:" + Guid.NewGuid();

    public void Dispose()
    {
        _meters.Dispose();
        _listener.Dispose();
    }

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task Every_outcome_of_an_acquire_and_every_hold_is_told(string driver, bool async)
    {
        await using var connection = await Drivers.OpenAsync(driver);
        await using var other = await PostgreSqlTestServer.OpenNpgsqlAsync();
        var @lock = new Lock(connection, Key, Drivers.Interface(driver), new LockOptions { TelemetryKey = true });
        var holder = new Lock(other, Key);
        Assert.True(await @lock.Try(async));
        Assert.True(await @lock.Release(async));
        Assert.True(await holder.AcquireAsync());
        Assert.False(await @lock.Acquire(async, TimeSpan.FromMilliseconds(30)));
        using (var cancel = new CancellationTokenSource(TimeSpan.FromMilliseconds(30)))
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => @lock.AcquireAsync(cancel.Token).AsTask());
        }

        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => @lock.Acquire(async, TimeSpan.FromDays(-1)));
        Assert.True(await holder.ReleaseAsync());
        Assert.True(await @lock.Try(async));
        await Server.KillAsync(await Server.SessionIdAsync(connection));
        await Server.UntilFreeAsync(Key);
        await Assert.ThrowsAsync<LockLostException>(() => @lock.Release(async));

        var waits = Of("dblock.wait.duration");
        Assert.Equal(["acquired", "not_acquired", "cancelled", "error", "acquired"], waits.Select(wait => wait.Tags["dblock.outcome"]));
        Assert.All(waits.Where(wait => !Equals(wait.Tags["dblock.outcome"], "error")), wait => Assert.Equal("postgresql", wait.Tags["db.system.name"]));
        Assert.All(waits, wait => Assert.Equal("postgres", wait.Tags["db.namespace"]));
        Assert.Equal(typeof(ArgumentOutOfRangeException).FullName, waits[3].Tags["error.type"]);
        Assert.True(waits[1].Value >= 0.025, $"{waits[1].Value} s");
        Assert.Equal(["released", "lost"], Of("dblock.hold.duration").Select(hold => hold.Tags["dblock.outcome"]));
        Assert.Equal(1, Assert.Single(Of("dblock.lost")).Value);

        var spans = _activities.Where(span => Equals(span.GetTagItem("dblock.key"), Key.Name)).ToList();
        Assert.Equal(["acquired", "not_acquired", "cancelled", "error", "acquired"], spans.Select(span => span.GetTagItem("dblock.outcome")));
        Assert.All(spans, span => Assert.Equal((ActivityKind.Client, "acquire"), (span.Kind, span.GetTagItem("db.operation.name"))));
        Assert.Equal(ActivityStatusCode.Error, spans[3].Status);
        Assert.Equal(ActivityStatusCode.Unset, spans[0].Status);
    }

    [Fact]
    public async Task The_locks_of_a_pool_are_told_as_any_other()
    {
        await using var source = Npgsql.NpgsqlDataSource.Create((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        await using var pool = new LockPool(source, options: new LockPoolOptions { TelemetryKey = true });
        await using var other = await PostgreSqlTestServer.OpenNpgsqlAsync();
        var holder = new Lock(other, Key);
        Assert.True(await (await pool.AcquireLockAsync(Key)).ReleaseAsync());
        Assert.True(await holder.AcquireAsync());
        Assert.Null(await pool.TryAcquireLockAsync(Key, TimeSpan.FromMilliseconds(30)));
        using (var cancel = new CancellationTokenSource(TimeSpan.FromMilliseconds(30)))
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => pool.AcquireLockAsync(Key, cancellationToken: cancel.Token).AsTask());
        }

        Assert.True(await holder.ReleaseAsync());
        var lost = await pool.AcquireLockAsync(Key, shared: true);
        await Server.KillHolderAsync(Key);
        await Assert.ThrowsAsync<LockLostException>(() => lost.ReleaseAsync().AsTask());

        var waits = Of("dblock.wait.duration");
        Assert.Equal(["acquired", "not_acquired", "cancelled", "acquired"], waits.Select(wait => wait.Tags["dblock.outcome"]));
        Assert.Equal([false, false, false, true], waits.Select(wait => wait.Tags["dblock.shared"]));
        Assert.All(waits, wait => Assert.Equal(("postgresql", "postgres"), (wait.Tags["db.system.name"], wait.Tags["db.namespace"])));
        Assert.Equal("released", Of("dblock.hold.duration")[0].Tags["dblock.outcome"]);
        Assert.Equal(4, _activities.Count(span => Equals(span.GetTagItem("dblock.key"), Key.Name)));
    }

    [Fact]
    public async Task A_listener_that_throws_costs_no_lock()
    {
        using var thrower = new MeterListener { InstrumentPublished = _meters.InstrumentPublished };
        thrower.SetMeasurementEventCallback<double>((_, _, tags, _) => Throw(tags));
        thrower.SetMeasurementEventCallback<long>((_, _, tags, _) => Throw(tags));
        thrower.Start();
        await using var source = Npgsql.NpgsqlDataSource.Create((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        await using var pool = new LockPool(source, options: new LockPoolOptions { TelemetryKey = true });
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync();
        using var @lock = new Lock(connection, Key, options: new LockOptions { TelemetryKey = true });
        for (var round = 0; round < 2; round++)
        {
            Assert.True(await (await pool.AcquireLockAsync(Key)).ReleaseAsync());
            Assert.True(await @lock.AcquireAsync(block: false));
            Assert.True(await @lock.ReleaseAsync());
            Assert.False(await Server.IsHeldAsync(Key));
        }

        void Throw(ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            if (tags.ToArray().Any(tag => Equals(tag.Value, Key.Name)))
            {
                throw new InvalidOperationException("the listener fails");
            }
        }
    }

    [Fact]
    public async Task Keys_are_told_only_when_asked_and_the_queue_ends_empty()
    {
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database=template1");
        await using var other = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database=template1");
        var (@lock, holder) = (new Lock(connection, Key), new Lock(other, Key));
        Assert.True(await holder.AcquireAsync());
        var waiting = @lock.AcquireAsync(TimeSpan.FromMinutes(1)).AsTask();
        await Server.UntilWaitingAsync(connection.ProcessID);
        var here = () => _measured.Where(measured => measured.Instrument == "dblock.queue.length" && Equals(measured.Tags["db.namespace"], "template1")).Sum(measured => measured.Value);
        Assert.Equal(1, here());
        Assert.True(await holder.ReleaseAsync());
        Assert.True(await waiting);
        Assert.Equal(0, here());
        Assert.True(await @lock.ReleaseAsync());
        Assert.DoesNotContain(_measured, measured => measured.Tags.ContainsValue(Key.Name));
        Assert.DoesNotContain(_activities, span => span.TagObjects.Any(tag => Equals(tag.Value, Key.Name)));
    }

    private List<(string Instrument, double Value, Dictionary<string, object?> Tags)> Of(string instrument) =>
        [.. _measured.Where(measured => measured.Instrument == instrument && measured.Tags.TryGetValue("dblock.key", out var key) && Equals(key, Key.Name))];

    private void Measure(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags) =>
        _measured.Enqueue((instrument.Name, value, tags.ToArray().ToDictionary(tag => tag.Key, tag => tag.Value)));
}
