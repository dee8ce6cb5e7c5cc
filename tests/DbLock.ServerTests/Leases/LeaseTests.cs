using System.Data.Common;

namespace DbLock.ServerTests;

/// <summary>Leases from a data source, on every engine and through every pooler.</summary>
public sealed class LeaseTests
{
    private static readonly LockOptions Options = new() { Scope = LockScope.Lease, Lease = TimeSpan.FromSeconds(10) };

    private LockKey Key { get; } = "lease:" + Guid.NewGuid();

    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task A_lease_is_held_until_it_is_released_and_its_tokens_grow(string way)
    {
        var (source, other, driver) = (await LeaseServers.SourceAsync(way), await LeaseServers.NewSourceAsync(way), LeaseServers.Interface(way));
        await using var closing = other;
        var last = 0L;
        for (var use = 0; use < 3; use++)
        {
            var held = await source.AcquireLockAsync(Key, TimeSpan.FromSeconds(10), driver, Options);
            Assert.True(held.IsHeld);
            Assert.True(held.FencingToken > last);
            Assert.True(held.FencingToken > 1_700_000_000_000_000);
            last = held.FencingToken.Value;
            Assert.Null(await other.TryAcquireLockAsync(Key, default, driver, Options));
            Assert.Null(await source.TryAcquireLockAsync(Key, default, driver, Options));
            Assert.Null(other.TryAcquireLock(Key, default, driver, Options));
            var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => other.AcquireLockAsync(Key, TimeSpan.FromMilliseconds(30), driver, Options).AsTask());
            Assert.Contains($"is held by process {Environment.ProcessId} of '", error.Message, StringComparison.Ordinal);
            var lease = Assert.Single(error.Holders!).Lease!;
            Assert.Equal((last, Key.Name, Environment.MachineName), (lease.Token, lease.Name, lease.Host));
            Assert.True(await held.ReleaseAsync());
            Assert.False(await held.ReleaseAsync());
            Assert.False(held.IsHeld);
            Assert.False(held.Lost.IsCancellationRequested);
            using var next = other.TryAcquireLock(Key, default, driver, Options);
            Assert.True(next!.FencingToken > last);
            last = next.FencingToken.Value;
        }
    }

    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task Several_keys_are_acquired_all_or_none_with_one_token(string way)
    {
        var (source, other, driver) = (await LeaseServers.SourceAsync(way), await LeaseServers.NewSourceAsync(way), LeaseServers.Interface(way));
        await using var closing = other;
        LockKey[] keys = [.. Enumerable.Range(0, 20).Select(n => (LockKey)$"{Key}:{n} é 😀")];
        await using (var one = await source.AcquireLockAsync(keys[7], TimeSpan.FromSeconds(10), driver, Options))
        {
            Assert.Null(await other.TryAcquireLockAsync(LockKey.All(keys), default, driver, Options));
            await using var rest = await other.TryAcquireLockAsync(LockKey.All(keys.Where(key => key != keys[7])), default, driver, Options);
            Assert.NotNull(rest);
        }

        await using var all = await other.TryAcquireLockAsync(LockKey.All(keys), TimeSpan.FromSeconds(5), driver, Options);
        Assert.NotNull(all);
        Assert.Null(await source.TryAcquireLockAsync(LockKey.All(keys[3], Key), default, driver, Options));
        await all.ReleaseAsync();
        await using var again = await source.TryAcquireLockAsync(keys[3], default, driver, Options);
        Assert.True(again!.FencingToken > all.FencingToken);
    }

    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task Who_waits_gets_it_when_it_is_released(string way)
    {
        var (source, other, driver) = (await LeaseServers.SourceAsync(way), await LeaseServers.NewSourceAsync(way), LeaseServers.Interface(way));
        await using var closing = other;
        var held = await source.AcquireLockAsync(Key, null, driver, Options);
        var elsewhere = other.AcquireLockAsync(Key, null, driver, Options).AsTask();
        var here = source.AcquireLockAsync(Key, null, driver, Options).AsTask();
        var blocking = await SideBySide(() => source.AcquireLock(Key, TimeSpan.FromMinutes(1), driver, Options));
        Assert.False(elsewhere.IsCompleted || here.IsCompleted || blocking.IsCompleted);
        await held.DisposeAsync();
        HashSet<Task<HeldLock>> waiting = [elsewhere, here, blocking];
        while (waiting.Count > 0)
        {
            var next = await Task.WhenAny(waiting);
            waiting.Remove(next);
            Assert.DoesNotContain(waiting, wait => wait.IsCompleted);
            await (await next).DisposeAsync();
        }

        static async Task<Task<HeldLock>> SideBySide(Func<HeldLock> acquire)
        {
            var started = new TaskCompletionSource();
            var task = Task.Factory.StartNew(
                () =>
                {
                    started.SetResult();
                    return acquire();
                },
                TaskCreationOptions.LongRunning);
            await started.Task;
            return task;
        }
    }

    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task It_is_renewed_while_it_is_held_and_ends_by_itself_when_it_is_not(string way)
    {
        var (source, other) = (await LeaseServers.SourceAsync(way), await LeaseServers.NewSourceAsync(way));
        await using var closing = other;
        var options = Options with { Lease = LeaseLengths.Shortest };
        var held = await source.AcquireLockAsync(Key, null, null, options);
        var first = (await UntilAsync(other)).Until;
        while ((await UntilAsync(other)) is var lease && lease.Until <= first + LeaseLengths.Shortest)
        {
            Assert.True(held.IsHeld);
        }

        Assert.Equal(held.FencingToken, (await UntilAsync(other)).Token);
        await held.DisposeAsync();

        async Task<LockLease> UntilAsync(DbDataSource source)
        {
            var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => source.AcquireLockAsync(Key, TimeSpan.FromMilliseconds(100), null, options).AsTask());
            return Assert.Single(error.Holders!).Lease!;
        }
    }

    [Theory, MemberData(nameof(LeaseServers.Engines), MemberType = typeof(LeaseServers))]
    public async Task It_is_lost_when_its_row_is_taken_away_and_the_release_says_so(string way)
    {
        var source = await LeaseServers.SourceAsync(way);
        var held = await source.AcquireLockAsync(Key, null, null, Options with { Lease = LeaseLengths.Shortest });
        await using (var connection = await source.OpenConnectionAsync())
        await using (var command = connection.CreateCommand())
        {
            command.CommandText = $"update dblock_leases set owner = 'thief' where {(way == "MySqlConnector" ? "`key`" : "key")} = '{Key}'";
            Assert.Equal(1, await command.ExecuteNonQueryAsync());
        }

        var lost = new TaskCompletionSource();
        await using var registration = held.Lost.Register(lost.SetResult);
        await lost.Task.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.False(held.IsHeld);
        Assert.Throws<LockLostException>(held.ThrowIfLost);
        await Assert.ThrowsAsync<LockLostException>(() => held.ReleaseAsync().AsTask());
        await held.DisposeAsync();
    }

    [Theory, MemberData(nameof(LeaseServers.All), MemberType = typeof(LeaseServers))]
    public async Task Names_that_differ_are_different_leases(string way)
    {
        var (source, driver) = (await LeaseServers.SourceAsync(way), LeaseServers.Interface(way));
        string[] ends = ["a", "a ", "A", "ä", "Ä", "a\u0308", "a\0", "a\0b", "", " ", "'", "\"", "\\", "😀", "😁", new string('x', 500), new string('x', 501), new string('é', 300), new string('é', 301)];
        await using var all = await source.TryAcquireLockAsync(LockKey.All(ends.Select(end => (LockKey)(Key + end))), default, driver, Options);
        Assert.NotNull(all);
        foreach (var end in ends)
        {
            Assert.Null(await source.TryAcquireLockAsync(Key + end, default, driver, Options));
            await using var longer = await source.TryAcquireLockAsync(Key + end + "!", default, driver, Options);
            Assert.NotNull(longer);
        }
    }
}

/// <summary>How long leases are in tests.</summary>
internal static class LeaseLengths
{
    public static readonly TimeSpan Shortest = TimeSpan.FromSeconds(2);
}
