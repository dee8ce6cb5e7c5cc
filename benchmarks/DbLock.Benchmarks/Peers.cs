using System.Diagnostics;
using Medallion.Threading.Postgres;
using Npgsql;

namespace DbLock.Benchmarks;

/// <summary>DbLock beside DistributedLock.Postgres, which a .NET program would take instead: the same work, in turn.</summary>
internal sealed class Peers(string connectionString, int rounds) : IAsyncDisposable
{
    private const string OneKey = "peers: one key";

    private readonly NpgsqlConnection _connection = new(connectionString + ";Pooling=false");
    private readonly NpgsqlDataSource _source = NpgsqlDataSource.Create(connectionString + ";Application Name=DbLock");
    private readonly string _multiplexed = connectionString + ";Application Name=DistributedLock";
    private readonly List<Comparison> _comparisons = [];

    /// <summary>The same work by both, in microseconds, in turn.</summary>
    /// <param name="What">The work.</param>
    /// <param name="Remark">What stands beside what; empty where that is plain.</param>
    /// <param name="Times">What each took, in one round after the other.</param>
    public sealed record Comparison(string What, string Remark, IReadOnlyList<(double DbLock, double Peer)> Times);

    public async Task<IReadOnlyList<Comparison>> MeasureAsync()
    {
        await _connection.OpenAsync();
        await using var pool = new LockPool(_source);

        var (own, peer) = (new Lock(_connection, "peers: own"), new PostgresDistributedLock(Key("peers: peer"), _connection));
        await CompareAsync("caller's connection, try", "", 16, () => OnceAsync(own, TimeSpan.Zero), () => OnceAsync(peer, TimeSpan.Zero));
        await CompareAsync("caller's connection, timeout of 1 s", "", 16, () => OnceAsync(own, TimeSpan.FromSeconds(1)), () => OnceAsync(peer, TimeSpan.FromSeconds(1)));
        await CompareAsync("caller's transaction: begin, try, commit", "", 16, OwnTransactionAsync, PeerTransactionAsync);

        var fromSource = new PostgresDistributedLock(Key("peers: from a data source"), _source);
        var multiplexed = new PostgresDistributedLock(Key("peers: multiplexed"), _multiplexed);
        await CompareAsync("a lock from a data source, try", "over the same data source", 16, OwnFromSourceAsync, () => OnceAsync(fromSource, TimeSpan.Zero));
        await CompareAsync("a lock from a data source, try", "over a connection string, which multiplexes", 16, OwnFromSourceAsync, () => OnceAsync(multiplexed, TimeSpan.Zero));
        await CompareAsync("a lock of a pool, one task", "over a connection string, which multiplexes", 16, () => OwnPooledAsync(pool, OneKey), () => OnceAsync(multiplexed, Timeout.InfiniteTimeSpan));

        LockKey[] fifty = [.. Enumerable.Range(0, 50).Select(n => (LockKey)$"peers: {n}")];
        var (all, peers) = (new Lock(_connection, LockKey.All(fifty)), fifty.Select(key => new PostgresDistributedLock(Key(key.Name), _connection)).ToList());
        await CompareAsync("50 keys, caller's connection", "one after the other", 1, () => OnceAsync(all, TimeSpan.Zero), () => OneAfterTheOtherAsync(peers));
        var hundred = Enumerable.Range(0, 100).Select(n => (Name: $"peers: {n}", Peer: new PostgresDistributedLock(Key($"peers: task {n}"), _multiplexed))).ToList();
        await CompareAsync(
            "100 tasks, each on a key of its own", "pool; over a connection string", 1,
            () => Task.WhenAll(hundred.Select(task => OwnPooledAsync(pool, task.Name))),
            () => Task.WhenAll(hundred.Select(task => OnceAsync(task.Peer, Timeout.InfiniteTimeSpan))));
        await CompareAsync(
            "50 tasks on one key", "pool; over a connection string", 1,
            () => Task.WhenAll(Enumerable.Range(0, 50).Select(_ => OwnPooledAsync(pool, OneKey))),
            () => Task.WhenAll(Enumerable.Range(0, 50).Select(_ => OnceAsync(multiplexed, Timeout.InfiniteTimeSpan))));
        return _comparisons;
    }

    public async ValueTask DisposeAsync()
    {
        await _connection.DisposeAsync();
        await _source.DisposeAsync();
    }

    private static PostgresAdvisoryLockKey Key(string name) => new(LockKey.From(name).Number);

    private static async Task OnceAsync(Lock @lock, TimeSpan timeout)
    {
        Check(await @lock.AcquireAsync(timeout));
        await @lock.ReleaseAsync();
    }

    private static async Task OnceAsync(PostgresDistributedLock peer, TimeSpan timeout)
    {
        await using var handle = timeout < TimeSpan.Zero ? await peer.AcquireAsync() : await peer.TryAcquireAsync(timeout);
        Check(handle is not null);
    }

    private static async Task OwnPooledAsync(LockPool pool, LockKey key)
    {
        await using var held = await pool.AcquireLockAsync(key);
    }

    private static async Task OneAfterTheOtherAsync(List<PostgresDistributedLock> peers)
    {
        var handles = new List<IAsyncDisposable>();
        foreach (var peer in peers)
        {
            handles.Add((await peer.TryAcquireAsync())!);
        }

        foreach (var handle in handles)
        {
            await handle.DisposeAsync();
        }
    }

    private static void Check(bool isAcquired)
    {
        if (!isAcquired)
        {
            throw new InvalidOperationException("A lock was held elsewhere, and what was measured is not what was meant.");
        }
    }

    private async Task OwnFromSourceAsync()
    {
        await using var held = await _source.TryAcquireLockAsync("peers: from a data source, own");
        Check(held is not null);
    }

    private async Task OwnTransactionAsync()
    {
        await using var transaction = await _connection.BeginTransactionAsync();
        var @lock = new Lock(_connection, "peers: transaction, own", options: new LockOptions { Scope = LockScope.Transaction }) { Transaction = transaction };
        Check(await @lock.AcquireAsync(block: false));
        await transaction.CommitAsync();
    }

    private async Task PeerTransactionAsync()
    {
        await using var transaction = await _connection.BeginTransactionAsync();
        Check(await PostgresDistributedLock.TryAcquireWithTransactionAsync(Key("peers: transaction"), transaction));
        await transaction.CommitAsync();
    }

    private async Task CompareAsync(string what, string remark, int times, Func<Task> own, Func<Task> peer)
    {
        var measured = new List<(double DbLock, double Peer)>();
        for (var round = -50; round < rounds; round++)
        {
            var pair = (await TimeAsync(own, times), await TimeAsync(peer, times));
            if (round >= 0)
            {
                measured.Add(pair);
            }
        }

        _comparisons.Add(new(what, remark, measured));
    }

    private static async Task<double> TimeAsync(Func<Task> work, int times)
    {
        var start = Stopwatch.GetTimestamp();
        for (var i = 0; i < times; i++)
        {
            await work();
        }

        return Stopwatch.GetElapsedTime(start).TotalMicroseconds / times;
    }
}
