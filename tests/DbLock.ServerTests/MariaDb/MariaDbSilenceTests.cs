using System.Data;
using System.Data.Common;
using System.Diagnostics;
using MySqlConnector;

namespace DbLock.ServerTests.MariaDb;

/// <summary>A limit is a limit over MySqlConnector, too, whose own timer DbLock does without (docs/drivers.md).</summary>
public sealed class MariaDbSilenceTests
{
    [Theory]
    [InlineData(false, "asking"), InlineData(false, "waiting"), InlineData(false, "inside a wrapper")]
    [InlineData(true, "asking"), InlineData(true, "waiting"), InlineData(true, "inside a wrapper")]
    public async Task A_call_ends_within_its_limit_whatever_the_network_does(bool async, string when)
    {
        var key = (LockKey)("silence:" + Guid.NewGuid());
        var server = new MySqlConnectionStringBuilder((await MariaDbTestServer.ServerAsync).ConnectionString) { Pooling = false };
        await using var relay = new SilentRelay(server.Server, (int)server.Port);
        (server.Server, server.Port) = ("127.0.0.1", (uint)relay.Port);
        var inner = new MySqlConnection(server.ConnectionString);
        await using DbConnection connection = when == "inside a wrapper" ? Decorated.Wrap(inner, "property") : inner;
        await connection.OpenAsync();
        await using var other = await MariaDbTestServer.OpenAsync();
        var holder = new Lock(other, key);
        Assert.True(await holder.AcquireAsync(block: false));
        var session = await MariaDbTestServer.Instance.SessionIdAsync(connection);
        var kept = new Lock(connection, key.Name + ":kept", LockInterface.AdoNet);
        Assert.True(await kept.Try(async));
        var @lock = new Lock(connection, key, LockInterface.AdoNet);
        if (when == "asking")
        {
            relay.FallSilent();
        }

        var start = Stopwatch.GetTimestamp();
        var acquire = @lock.Start(async, TimeSpan.FromSeconds(2));
        if (when != "asking")
        {
            await MariaDbTestServer.Instance.UntilWaitingAsync(session);
            relay.FallSilent();
        }

        var told = await Assert.ThrowsAsync<LockException>(() => acquire);
        Assert.Contains("has not answered", told.Message, StringComparison.Ordinal);
        Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(10));
        Assert.True(kept.Lost.IsCancellationRequested);

        // The call has been ended from beside, though the network is still silent; the connection and the lock are of use again.
        await TestServer.UntilAsync(() => Task.FromResult(connection.State == ConnectionState.Closed), "the connection is closed");
        relay.GoOn();
        await connection.OpenAsync();
        Assert.True(await holder.ReleaseAsync());
        Assert.True(await @lock.Acquire(async, TimeSpan.FromMinutes(1)));
        Assert.True(await @lock.Release(async));
    }

    [Theory]
    [InlineData(false, "trying"), InlineData(false, "releasing"), InlineData(true, "trying"), InlineData(true, "releasing")]
    public async Task A_call_without_a_limit_has_the_connections_time_and_the_provider_no_timer(bool async, string what)
    {
        var server = new MySqlConnectionStringBuilder((await MariaDbTestServer.ServerAsync).ConnectionString) { Pooling = false, DefaultCommandTimeout = 2 };
        await using var relay = new SilentRelay(server.Server, (int)server.Port);
        (server.Server, server.Port) = ("127.0.0.1", (uint)relay.Port);
        await using var connection = new MySqlConnection(server.ConnectionString);
        await connection.OpenAsync();
        var @lock = new Lock(connection, "silence:" + Guid.NewGuid(), LockInterface.AdoNet);
        if (what == "releasing")
        {
            Assert.True(await @lock.Try(async));
        }

        relay.FallSilent();
        var told = what == "releasing" ? (await Assert.ThrowsAsync<LockLostException>(() => @lock.Release(async))).InnerException!
            : await Assert.ThrowsAsync<LockException>(() => @lock.Try(async));
        Assert.Contains("has not answered", told.Message, StringComparison.Ordinal);

        await TestServer.UntilAsync(() => Task.FromResult(connection.State == ConnectionState.Closed), "the connection is closed");

        // The provider's timer would have made a second one, for a KILL QUERY.
        Assert.Equal(1, relay.Connections);
    }
}
