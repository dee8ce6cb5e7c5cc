using System.Data.Common;

namespace DbLock.ServerTests.MariaDb;

public sealed class MariaDbHolderTests
{
    private LockKey Key { get; } = "holder:" + Guid.NewGuid();

    [Theory, MemberData(nameof(MariaDbDrivers.Both), MemberType = typeof(MariaDbDrivers))]
    public async Task Who_holds_it_is_told_with_the_session_and_who_waits(string driver, bool async)
    {
        await using var waiter = await MariaDbDrivers.OpenAsync(driver);
        await using var holder = await MariaDbDrivers.OpenAsync(driver);
        await using var asking = await MariaDbDrivers.OpenAsync(driver);
        var (held, asked) = (new Lock(holder, Key), new Lock(asking, Key));
        Assert.Empty(await Holders(asked, async));
        Assert.True(await held.Try(async));
        var waits = await IdAsync(waiter);
        var waiting = new Lock(waiter, Key).AcquireAsync().AsTask();
        await MariaDbTestServer.Instance.UntilWaitingAsync(waits);
        var told = await Holders(asked, async);
        var session = Assert.Single(told).Session!;
        Assert.Equal((await IdAsync(holder), "root", "dblock", true), (session.Id, session.User, session.Database, session.IsIdle));
        Assert.StartsWith("localhost", session.Client!.Replace("127.0.0.1", "localhost", StringComparison.Ordinal), StringComparison.Ordinal);
        Assert.Equal("Sleep", session.State);
        Assert.Equal(1, told.Waiting);
        Assert.Contains($"'{Key}' is held by session {session.Id} (user 'root', ", told.ToString(), StringComparison.Ordinal);
        Assert.True(Assert.Single(await Holders(held, async)).Session!.IsOwn);
        Assert.True(await held.Release(async));
        Assert.True(await waiting);
    }

    [Theory, MemberData(nameof(MariaDbDrivers.Both), MemberType = typeof(MariaDbDrivers))]
    public async Task Of_several_keys_the_one_that_is_held_is_told(string driver, bool async)
    {
        await using var holder = await MariaDbDrivers.OpenAsync(driver);
        await using var asking = await MariaDbDrivers.OpenAsync(driver);
        await using (var cutting = asking.CreateCommand())
        {
            // The server cuts its own lists at this length, which a question does not heed.
            cutting.CommandText = "set session group_concat_max_len = 64";
            await cutting.ExecuteNonQueryAsync();
        }

        LockKey held = Key.Name + ":é";
        Assert.True(await new Lock(holder, held).Try(async));
        var told = await Holders(new Lock(asking, LockKey.All(Key.Name + ":a", held, Key.Name + ":c")), async);
        Assert.Equal(await IdAsync(holder), Assert.Single(told).Session!.Id);
        Assert.Contains(held.Name, told.ToString(), StringComparison.Ordinal);
    }

    [Theory, MemberData(nameof(MariaDbDrivers.Both), MemberType = typeof(MariaDbDrivers))]
    public async Task A_failed_wait_says_who_holds_it_and_costs_one_round_trip_more(string driver, bool async)
    {
        await using var holder = await MariaDbDrivers.OpenAsync(driver);
        await using var connection = await MariaDbDrivers.OpenAsync(driver);
        Assert.True(await new Lock(holder, Key).Try(async));
        var plain = LockInterface.For(connection);
        var counting = new CountingDriver(plain.Driver);
        var waiting = new Lock(connection, Key, new LockInterface("Counting", counting, [.. plain.Dialects]));
        Assert.False(await waiting.Try(async));
        Assert.Equal(1, counting.Count);
        var timeout = TimeSpan.FromMilliseconds(50);
        var error = await Assert.ThrowsAsync<LockNotAcquiredException>(async () =>
        {
            if (async)
            {
                await waiting.RunAsync(static _ => Task.CompletedTask, timeout);
            }
            else
            {
                waiting.Run(static () => { }, timeout);
            }
        });
        Assert.Equal(await IdAsync(holder), Assert.Single(error.Holders!).Session!.Id);
        Assert.Contains($"is held by session {await IdAsync(holder)}", error.Message, StringComparison.Ordinal);
        Assert.Equal(3, counting.Count);
    }

    [Theory, MemberData(nameof(MariaDbDrivers.Both), MemberType = typeof(MariaDbDrivers))]
    public async Task A_user_without_the_right_sees_the_sessions_number_and_which_right_shows_more(string driver, bool async)
    {
        await using var holder = await MariaDbDrivers.OpenAsync(driver);
        Assert.True(await new Lock(holder, Key).Try(async));
        await using var user = await MariaDbUser.CreateAsync();
        await using var asking = await MariaDbDrivers.OpenAsync(driver, user.Name);
        var told = await Holders(new Lock(asking, Key), async);
        var session = Assert.Single(told).Session!;
        Assert.Equal((await IdAsync(holder), true, null), (session.Id, session.IsPartial, session.User));
        Assert.EndsWith("whose activity is hidden from this user (grant PROCESS to see it)", told.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Every_thousand_keys_are_asked_for_in_one_question()
    {
        await using var holder = await MariaDbDrivers.OpenAsync("MySqlConnector");
        var keys = Enumerable.Range(0, 1000).Select(n => (LockKey)$"{Key}:{n}").ToList();
        Assert.True(await new Lock(holder, keys[777]).AcquireAsync(block: false));
        await using var asking = await MariaDbDrivers.OpenAsync("MySqlConnector");
        Assert.Equal(await IdAsync(holder), Assert.Single(await new Lock(asking, LockKey.All(keys)).GetHoldersAsync()).Session!.Id);
    }

    private static async Task<LockHolders> Holders(Lock @lock, bool async) => async ? await @lock.GetHoldersAsync() : @lock.GetHolders();

    private static Task<long> IdAsync(DbConnection connection) => MariaDbTestServer.Instance.SessionIdAsync(connection);
}
