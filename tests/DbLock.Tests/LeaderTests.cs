using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace DbLock.Tests;

/// <summary>Elections of the instances of an application, here in one process.</summary>
public sealed class LeaderTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    private readonly InMemoryLockServer _server = new();
    private readonly World _world = new();

    [Fact]
    public async Task One_of_several_instances_leads_and_the_next_when_it_stops()
    {
        List<IHost> instances = [];
        for (var instance = 0; instance < 3; instance++)
        {
            instances.Add(await StartAsync());
        }

        var token = 0L;
        for (var term = 0; term < 300; term++)
        {
            var (worker, leader) = await _world.NextAsync();
            Assert.True(leader.IsLeader);
            Assert.True(leader.FencingToken > token, "Tokens grow.");
            token = leader.FencingToken.Value;
            Assert.False(leader.Term.IsCancellationRequested);
            Assert.False(worker.Token.IsCancellationRequested);

            var its = instances.Single(instance => instance.Services.GetRequiredService<ILeader>() == leader);
            Assert.All(instances.Where(instance => instance != its), other => Assert.False(other.Services.GetRequiredService<ILeader>().IsLeader));
            Assert.All(instances.Where(instance => instance != its), other => Assert.True(other.Services.GetRequiredService<ILeader>().Term.IsCancellationRequested));
            await its.StopAsync();
            Assert.False(leader.IsLeader);
            Assert.Null(leader.FencingToken);
            Assert.True(leader.Term.IsCancellationRequested && worker.Token.IsCancellationRequested && worker.IsDisposed && worker.Scoped.IsDisposed);
            its.Dispose();
            instances.Remove(its);
            instances.Add(await StartAsync());
        }

        Assert.Equal(1, _world.MostAtOnce);
        await EndAsync([.. instances]);
    }

    [Theory, InlineData("scope"), InlineData("term")]
    public async Task A_failure_at_the_end_of_a_term_ends_that_term_alone(string what)
    {
        _world.ScopeFails = () => what == "scope" && _world.Count == 1;
        _world.Behaviour = async (worker, token) =>
        {
            if (_world.Count == 1)
            {
                _ = what == "term" ? worker.Leader.Term.Register(() => throw new IOException("What hangs at the term has failed.")) : default;
                throw new InvalidOperationException("The work has failed.");
            }

            await Task.Delay(Timeout.InfiniteTimeSpan, token);
        };
        using var instance = await StartAsync();
        await _world.NextAsync();
        var (_, leader) = await _world.NextAsync();
        Assert.True(leader.IsLeader);
        await EndAsync(instance);
        Assert.False(leader.IsLeader);
        Assert.False(_server.IsHeld("election"));
    }

    [Fact]
    public async Task The_token_fires_when_the_lock_is_lost_and_the_next_term_begins_when_the_service_has_stopped()
    {
        _world.Behaviour = async (worker, token) =>
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await worker.MayEnd.Task;
        };
        using var instance = await StartAsync(start: false);
        var changes = Changes(instance);
        await instance.StartAsync();
        var (worker, leader) = await _world.NextAsync();
        await worker.Begun.Task.WaitAsync(Limit);
        await EndSessionsAsync(() => worker.Token.IsCancellationRequested);
        Assert.False(leader.IsLeader);
        Assert.True(leader.Term.IsCancellationRequested);
        Assert.Equal(1, _world.Count);
        worker.MayEnd.SetResult();
        var (next, _) = await _world.NextAsync();
        Assert.NotSame(worker, next);
        Assert.Equal([LeaderChange.Elected, LeaderChange.Lost, LeaderChange.Elected], changes.Select(change => change.Change));
        Assert.True(changes.First().FencingToken < changes.Last().FencingToken, "Tokens grow.");
        Assert.Equal(1, _world.MostAtOnce);
        next.MayEnd.SetResult();
        await EndAsync(instance);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Who_fails_gives_up_the_lead(bool atStart)
    {
        var isFirst = 1;
        _world.FailsAtStart = () => atStart && Interlocked.Exchange(ref isFirst, 0) == 1;
        _world.Behaviour = async (_, token) =>
        {
            await Task.Yield();
            if (!atStart && Interlocked.Exchange(ref isFirst, 0) == 1)
            {
                throw new InvalidOperationException("The work has failed.");
            }

            await Task.Delay(Timeout.InfiniteTimeSpan, token);
        };
        using var one = await StartAsync();
        using var two = await StartAsync();
        var (worker, first) = await _world.NextAsync();
        var (_, second) = await _world.NextAsync();
        Assert.NotSame(first, second);
        Assert.True(worker.IsDisposed && second.IsLeader && !first.IsLeader);
        Assert.Equal(1, _world.MostAtOnce);
        await EndAsync(one, two);
    }

    [Fact]
    public async Task Who_has_come_to_his_end_still_leads()
    {
        _world.Behaviour = (_, _) => Task.CompletedTask;
        using var one = await StartAsync();
        using var two = await StartAsync();
        var (worker, leader) = await _world.NextAsync();
        await worker.Begun.Task.WaitAsync(Limit);
        await worker.ExecuteTask!;
        var other = new[] { one, two }.Single(instance => instance.Services.GetRequiredService<ILeader>() != leader);

        // The other stands for election behind the question.
        Assert.Null(await other.Services.GetRequiredService<ILeader>().GetHoldersAsync());
        Assert.True(leader.IsLeader && !other.Services.GetRequiredService<ILeader>().IsLeader);
        Assert.Equal(1, _world.Count);
        await EndAsync(one, two);
    }

    /// <summary>The host does not wait for ever, and nobody else may lead while the service runs.</summary>
    [Fact]
    public async Task The_lock_of_a_service_that_does_not_stop_is_kept()
    {
        _world.Behaviour = (worker, _) => worker.MayEnd.Task;
        using var instance = await StartAsync();
        var (worker, leader) = await _world.NextAsync();
        await worker.Begun.Task.WaitAsync(Limit);
        using var limit = new CancellationTokenSource();
        var stop = instance.StopAsync(limit.Token);
        await limit.CancelAsync();
        await Task.WhenAny(stop).WaitAsync(Limit);
        await UntilAsync(() => !leader.IsLeader);
        Assert.True(_server.IsHeld("election"));
        worker.MayEnd.SetResult();
    }

    [Fact]
    public async Task A_handler_that_throws_ends_nothing()
    {
        using var instance = await StartAsync(start: false);
        instance.Services.GetRequiredService<ILeader>().Changed += (_, _) => throw new InvalidOperationException("The handler has failed.");
        await instance.StartAsync();
        var (_, leader) = await _world.NextAsync();
        Assert.True(leader.IsLeader);
        await EndAsync(instance);
        Assert.False(_server.IsHeld("election"));
    }

    [Fact]
    public async Task Its_metrics_tell_who_leads_and_how_terms_end()
    {
        ConcurrentQueue<(string Name, double Value, string Tags)> told = [];
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, own) =>
        {
            if (instrument.Meter.Name == Lock.TelemetryName && instrument.Name.StartsWith("dblock.leader", StringComparison.Ordinal))
            {
                own.EnableMeasurementEvents(instrument);
            }
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Note(instrument, value, tags));
        listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Note(instrument, value, tags));
        listener.Start();

        // Other tests' elections have no key in theirs.
        using var instance = await StartAsync(options => options.TelemetryKey = true, key: "election that is measured");
        await _world.NextAsync();
        await EndAsync(instance);
        var own = told.Where(one => one.Tags.Contains("election that is measured", StringComparison.Ordinal)).ToList();
        Assert.Equal([("dblock.leader", 1), ("dblock.leader", -1)], own.Take(2).Select(one => (one.Name, one.Value)));
        Assert.Equal("dblock.leader.term.duration", own[2].Name);
        Assert.Contains("dblock.outcome=resigned", own[2].Tags, StringComparison.Ordinal);
        Assert.Contains("dblock.leader.service=Worker", own[2].Tags, StringComparison.Ordinal);

        void Note(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags) =>
            told.Enqueue((instrument.Name, value, string.Join(' ', tags.ToArray().Select(tag => $"{tag.Key}={tag.Value}"))));
    }

    [Fact]
    public async Task Several_elections_have_keys_of_their_own()
    {
        var services = new ServiceCollection().AddDbLockInMemory().AddSingleton(_world).AddScoped<Scoped>().AddLeader<Worker>("one").AddLeader<Worker>("two");
        await using var provider = services.BuildServiceProvider();
        Assert.Equal("one", provider.GetRequiredService<ILeader>().Key.Name);
        Assert.Equal("two", provider.GetRequiredKeyedService<ILeader>("two").Key.Name);
        Assert.Contains("'one'", Assert.Throws<ArgumentException>(() => services.AddLeader<Worker>("one")).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentNullException>(() => services.AddLeader<Worker>(null!));
        Assert.Throws<ArgumentNullException>(() => DbLockLeaderServiceCollectionExtensions.AddLeader<Worker>(null!, "k"));
    }

    [Fact]
    public async Task An_election_without_AddDbLock_is_told_at_the_start()
    {
        var builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddLeader<Worker>("election");
        using var host = builder.Build();
        Assert.Contains("AddDbLock()", (await Assert.ThrowsAsync<InvalidOperationException>(() => host.StartAsync())).Message, StringComparison.Ordinal);
    }

    private static ConcurrentQueue<LeaderEventArgs> Changes(IHost instance)
    {
        ConcurrentQueue<LeaderEventArgs> changes = [];
        instance.Services.GetRequiredService<ILeader>().Changed += (_, change) => changes.Enqueue(change);
        return changes;
    }

    private static async Task EndAsync(params IHost[] instances)
    {
        await Task.WhenAll(instances.Select(instance => instance.StopAsync()));
        Array.ForEach(instances, instance => instance.Dispose());
    }

    private static async Task UntilAsync(Func<bool> isSo)
    {
        var start = TimeProvider.System.GetTimestamp();
        for (; !isSo(); await Task.Delay(1))
        {
            Assert.True(TimeProvider.System.GetElapsedTime(start) < Limit, "Waited in vain.");
        }
    }

    // The session that carries the locks is one of the first.
    private Task EndSessionsAsync(Func<bool> isSo)
    {
        var session = 0;
        return UntilAsync(() =>
        {
            _server.EndSession(session = (session + 1) % 100);
            return isSo();
        });
    }

    private async Task<IHost> StartAsync(Action<DbLockOptions>? configure = null, string key = "election", bool start = true)
    {
        var builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddSingleton(_server).AddSingleton(_world).AddScoped<Scoped>()
            .AddDbLock(options =>
            {
                options.Fencing = true;
                configure?.Invoke(options);
            })
            .AddDbLockInMemory().AddLeader<Worker>(key);
        var host = builder.Build();
        if (start)
        {
            await host.StartAsync();
        }

        return host;
    }

    /// <summary>What all workers have together.</summary>
    private sealed class World
    {
        private readonly System.Threading.Channels.Channel<(Worker, ILeader)> _started = System.Threading.Channels.Channel.CreateUnbounded<(Worker, ILeader)>();
        private readonly object _gate = new();
        private int _running;

        public Func<Worker, CancellationToken, Task> Behaviour { get; set; } = static (_, token) => Task.Delay(Timeout.InfiniteTimeSpan, token);

        public Func<bool> ScopeFails { get; set; } = static () => false;

        public Func<bool> FailsAtStart { get; set; } = static () => false;

        public int MostAtOnce { get; private set; }

        public int Count { get; private set; }

        public async Task<(Worker Worker, ILeader Leader)> NextAsync() => await _started.Reader.ReadAsync().AsTask().WaitAsync(Limit);

        public void Begin(Worker worker, ILeader leader)
        {
            lock (_gate)
            {
                Count++;
                MostAtOnce = Math.Max(MostAtOnce, ++_running);
            }

            _started.Writer.TryWrite((worker, leader));
        }

        public void End()
        {
            lock (_gate)
            {
                _running--;
            }
        }

    }

    private sealed class Scoped(World world) : IDisposable
    {
        public bool IsDisposed { get; private set; }

        public void Dispose()
        {
            IsDisposed = true;
            if (world.ScopeFails())
            {
                throw new IOException("The scope cannot be disposed.");
            }
        }
    }

    private sealed class Worker(World world, ILeader leader, Scoped scoped) : BackgroundService
    {
        public CancellationToken Token { get; private set; }

        public bool IsDisposed { get; private set; }

        public Scoped Scoped => scoped;

        public ILeader Leader => leader;

        /// <summary>Gets what is done when it runs: the host gives it a thread of its own, later than its start.</summary>
        public TaskCompletionSource Begun { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public TaskCompletionSource MayEnd { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public override Task StartAsync(CancellationToken cancellationToken)
        {
            Token = cancellationToken;
            world.Begin(this, leader);
            return world.FailsAtStart() ? Task.FromException(new InvalidOperationException("The start has failed.")) : base.StartAsync(cancellationToken);
        }

        public override void Dispose()
        {
            IsDisposed = true;
            world.End();
            base.Dispose();
        }

        protected override Task ExecuteAsync(CancellationToken stoppingToken)
        {
            Begun.TrySetResult();
            return world.Behaviour(this, stoppingToken);
        }
    }
}
