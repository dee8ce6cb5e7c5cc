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
    [InlineData(false, "a try"), InlineData(false, "a release"), InlineData(false, "a try inside a wrapper"), InlineData(false, "a try for a lease")]
    [InlineData(true, "a try"), InlineData(true, "a release"), InlineData(true, "a try inside a wrapper"), InlineData(true, "a try for a lease")]
    [InlineData(true, "a try with a token")]
    public async Task What_has_no_time_of_its_own_has_the_connections_and_the_provider_no_timer(bool async, string what)
    {
        await using var network = await NetworkAsync(commandTimeout: 2);
        var inner = new MySqlConnection(network.ConnectionString);
        await using DbConnection connection = what.Contains("wrapper", StringComparison.Ordinal) ? Decorated.Wrap(inner, "property") : inner;
        await connection.OpenAsync();
        await LeaseServers.SourceAsync("MySqlConnector");
        var options = new LockOptions { Scope = what.EndsWith("for a lease", StringComparison.Ordinal) ? LockScope.Lease : LockScope.Session };
        var @lock = new Lock(connection, "silence:" + Guid.NewGuid(), LockInterface.AdoNet, options);
        using var token = new CancellationTokenSource();

        // What is known of the connection is asked for once.
        Assert.True(await @lock.Try(async));
        if (what != "a release")
        {
            Assert.True(await @lock.Release(async));
        }

        network.Relay.FallSilent();
        Exception told = what switch
        {
            "a release" => (await Assert.ThrowsAsync<LockLostException>(() => @lock.Release(async))).InnerException!,
            "a try with a token" => await Assert.ThrowsAsync<LockException>(() => @lock.AcquireAsync(TimeSpan.Zero, token.Token).AsTask()),
            _ => await Assert.ThrowsAsync<LockException>(() => @lock.Try(async)),
        };
        Assert.Contains("answer", told.Message, StringComparison.Ordinal);
        await TestServer.UntilAsync(() => Task.FromResult(connection.State == ConnectionState.Closed), "the connection is closed");

        // The provider's timer would have made a second one, for a KILL QUERY.
        Assert.Equal(1, network.Relay.Connections);
    }

    [Theory]
    [InlineData(false), InlineData(true)]
    public async Task A_release_of_a_data_source_has_the_shorter_of_both_times(bool async)
    {
        await using var network = await NetworkAsync(commandTimeout: 2);
        await using var source = new MySqlDataSource(network.ConnectionString);
        var held = source.AcquireLock("silence:" + Guid.NewGuid());
        network.Relay.FallSilent();
        var start = Stopwatch.GetTimestamp();
        await Assert.ThrowsAsync<LockLostException>(async () => _ = async ? await held.ReleaseAsync() : held.Release());
        Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(15));
        Assert.Equal(1, network.Relay.Connections);
    }

    [Theory]
    [InlineData(0), InlineData(7)]
    public async Task The_time_is_the_one_of_the_connection_string(int seconds)
    {
        await using var connection = new MySqlConnection($"Server=127.0.0.1;Default Command Timeout={seconds}");
        Assert.Equal(seconds == 0 ? Timeout.InfiniteTimeSpan : TimeSpan.FromSeconds(seconds), LockInterface.AdoNet.Driver.OwnLimit(connection));
    }

    private static async Task<Network> NetworkAsync(int commandTimeout)
    {
        var server = new MySqlConnectionStringBuilder((await MariaDbTestServer.ServerAsync).ConnectionString) { Pooling = false, DefaultCommandTimeout = (uint)commandTimeout };
        var relay = new SilentRelay(server.Server, (int)server.Port);
        (server.Server, server.Port) = ("127.0.0.1", (uint)relay.Port);
        return new(relay, server.ConnectionString);
    }

    private sealed record Network(SilentRelay Relay, string ConnectionString) : IAsyncDisposable
    {
        public ValueTask DisposeAsync() => Relay.DisposeAsync();
    }
}
