using System.Data.Common;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>What goes over the wire, counted by a proxy between the client and the server.</summary>
public sealed class RoundTripTests
{
    private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(30);

    /// <summary>Gets every driver with every mode.</summary>
    public static TheoryData<string, bool, string> Modes
    {
        get
        {
            var modes = new TheoryData<string, bool, string>();
            foreach (var driver in new[] { "Npgsql", "AdoNet", "Odbc" })
            {
                foreach (var async in new[] { false, true })
                {
                    foreach (var mode in new[] { "try", "timeout", "wait", "shared", "several", "try in a transaction", "wait in a transaction", "transaction scope", "wait in transaction scope", "several in transaction scope" })
                    {
                        modes.Add(driver, async, mode);
                    }
                }
            }

            return modes;
        }
    }

    [Theory, MemberData(nameof(Modes))]
    public async Task An_acquire_and_a_release_are_one_round_trip_each(string driver, bool async, string mode)
    {
        var server = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        await using var proxy = new PostgreSqlProxy(server.Host!, server.Port);
        await using var connection = await Drivers.OpenAsync(driver, proxy.Port);
        await using var direct = await PostgreSqlTestServer.OpenNpgsqlAsync();
        var isOdbc = driver == "Odbc";
        LockKey first = $"round trips:{Guid.NewGuid()}";
        var key = mode.Contains("several", StringComparison.Ordinal) ? LockKey.All(first, first.Name + ":2", first.Name + ":3") : first;
        var scope = mode.Contains("scope", StringComparison.Ordinal) ? LockScope.Transaction : LockScope.Session;
        var timeout = mode switch
        {
            "timeout" => TimeSpan.FromSeconds(5),
            _ when mode.Contains("wait", StringComparison.Ordinal) => Timeout.InfiniteTimeSpan,
            _ => TimeSpan.Zero,
        };
        var options = new LockOptions { Shared = mode == "shared", Scope = scope };
        var @lock = new Lock(connection, key, Drivers.Interface(driver), options);
        var other = new Lock(direct, key.Keys[^1]);

        // psqlODBC sets its own timeout on the server before its first command, and whenever it changes, which a wait for ever needs.
        await LockSpecification.ExecuteAsync(connection, "select 1");
        var more = isOdbc && timeout == Timeout.InfiniteTimeSpan ? 1 : 0;
        // In a transaction nothing is prepared: what somebody has deallocated would cost the transaction.
        var prepares = !isOdbc && !mode.Contains("transaction", StringComparison.Ordinal);
        var prepared = 0;
        for (var use = 1; use <= 5; use++)
        {
            await using var transaction = mode.Contains("transaction", StringComparison.Ordinal) ? await connection.BeginTransactionAsync() : null;
            @lock.Transaction = transaction;
            await LockSpecification.ExecuteAsync(connection, "select 1", transaction);

            // What prepares is the second use of a statement, once for each. The first acquire looks whether the server can be trusted, and the statement after it does not.
            proxy.Take();
            Assert.True(await @lock.Acquire(async, timeout));
            var acquire = proxy.RoundTrips;
            var sent = proxy.Take();
            Assert.InRange(acquire - more, 1, prepares && use == 3 ? 2 : 1);
            prepared += acquire - more - 1;

            Assert.Equal(scope == LockScope.Session, await @lock.Release(async));
            var release = proxy.RoundTrips;
            proxy.Take();
            var expected = scope == LockScope.Session ? 1 + more : 0;
            Assert.InRange(release, expected, expected + (prepares && use == 2 ? 1 : 0));
            if (use > 3 && prepares)
            {
                // Prepared: nothing to parse or to describe.
                Assert.DoesNotContain('P', sent);
                Assert.DoesNotContain('D', sent);
            }

            await (transaction?.CommitAsync() ?? Task.CompletedTask);
        }

        Assert.Equal(prepares ? 1 : 0, prepared);

        // Held elsewhere: a try knows in one round trip; a wait that has failed asks once more what became of it. The second use of what was not used before prepares.
        Assert.True(await other.Try(async));
        for (var use = 1; use <= 5; use++)
        {
            await using var transaction = mode.Contains("transaction", StringComparison.Ordinal) ? await connection.BeginTransactionAsync() : null;
            @lock.Transaction = transaction;
            await LockSpecification.ExecuteAsync(connection, "select 1", transaction);
            proxy.Take();
            Assert.False(await @lock.Acquire(async, timeout == TimeSpan.Zero ? timeout : Short));
            var expected = timeout == TimeSpan.Zero ? 1 : 2;
            Assert.InRange(proxy.RoundTrips, 1, use > 3 || isOdbc ? expected : expected + 1);
            await (transaction?.RollbackAsync() ?? Task.CompletedTask);
        }

        Assert.True(await other.Release(async));
    }

    [Theory, InlineData("Npgsql", false), InlineData("Npgsql", true), InlineData("AdoNet", false), InlineData("AdoNet", true)]
    public async Task A_lock_on_a_connection_of_its_own_costs_one_round_trip_at_each_end(string driver, bool async)
    {
        var server = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        await using var proxy = new PostgreSqlProxy(server.Host!, server.Port);
        (server.Host, server.Port, server.SslMode) = ("127.0.0.1", proxy.Port, SslMode.Disable);
        await using var source = NpgsqlDataSource.Create(server);
        LockKey key = $"round trips:{Guid.NewGuid()}";
        await using (await source.OpenConnectionAsync())
        {
        }

        var fewest = (Acquire: int.MaxValue, Release: int.MaxValue, Try: int.MaxValue);
        for (var use = 0; use < 5; use++)
        {
            proxy.Take();
            var held = async ? await source.AcquireLockAsync(key, lockInterface: Drivers.Interface(driver)) : source.AcquireLock(key, lockInterface: Drivers.Interface(driver));
            var acquire = proxy.RoundTrips;
            proxy.Take();
            Assert.True(async ? await held.ReleaseAsync() : held.Release());
            fewest = (Math.Min(fewest.Acquire, acquire), Math.Min(fewest.Release, proxy.RoundTrips), fewest.Try);
        }

        await using var direct = await PostgreSqlTestServer.OpenNpgsqlAsync();
        await using var other = new Lock(direct, key);
        Assert.True(await other.AcquireAsync(block: false));
        proxy.Take();
        Assert.Null(async ? await source.TryAcquireLockAsync(key, lockInterface: Drivers.Interface(driver)) : source.TryAcquireLock(key, lockInterface: Drivers.Interface(driver)));
        Assert.Equal((1, 1, 1), (fewest.Acquire, fewest.Release, proxy.RoundTrips));
    }

    [Theory, InlineData("Npgsql"), InlineData("AdoNet"), InlineData("Odbc")]
    public async Task Nothing_is_prepared_for_a_session_that_may_be_anothers(string driver)
    {
        var server = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        await using var proxy = new PostgreSqlProxy(server.Host!, server.Port);
        await using var connection = await Drivers.OpenAsync(driver, proxy.Port);
        var @lock = new Lock(connection, $"trusted:{Guid.NewGuid()}", Drivers.Interface(driver), new LockOptions { TrustPooler = true });
        for (var use = 0; use < 4; use++)
        {
            Assert.True(await @lock.AcquireAsync(TimeSpan.FromSeconds(5)));
            Assert.True(await @lock.ReleaseAsync());
        }

        Assert.Equal(0L, await LockSpecification.ExecuteAsync(connection, "select count(*) from pg_prepared_statements"));
    }

    [Theory, InlineData("Npgsql", false), InlineData("Npgsql", true), InlineData("AdoNet", false), InlineData("AdoNet", true)]
    public async Task Behind_a_transaction_pooler_transaction_scope_works_unprepared(string driver, bool async)
    {
        await using var bouncer = await PgBouncer.StartAsync(await PostgreSqlTestServer.ServerAsync, "transaction", poolSize: 3);
        LockKey key = $"pooled:{Guid.NewGuid()}";
        await Task.WhenAll(Enumerable.Range(0, 3).Select(async _ =>
        {
            await using var connection = new NpgsqlConnection(bouncer.ConnectionString + ";Pooling=false");
            await connection.OpenAsync();
            var @lock = new Lock(connection, key, Drivers.Interface(driver), new LockOptions { Scope = LockScope.Transaction });
            for (var use = 0; use < 20; use++)
            {
                await using var transaction = await connection.BeginTransactionAsync();
                @lock.Transaction = transaction;
                Assert.True(await @lock.Acquire(async, Timeout.InfiniteTimeSpan));
                Assert.Equal(0L, await LockSpecification.ExecuteAsync(connection, "select count(*) from pg_prepared_statements", transaction));
                await transaction.CommitAsync();
            }
        }));
    }
}
