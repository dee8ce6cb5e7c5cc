using System.Data.Common;
using System.Globalization;
using System.Text.RegularExpressions;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Who holds a lock of PostgreSQL, asked over every driver.</summary>
public sealed class HolderTests
{
    private static readonly LockOptions Shared = new() { Shared = true };

    private static PostgreSqlTestServer Server => PostgreSqlTestServer.Instance;

    private string Name { get; } = "holders:" + Guid.NewGuid();

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task Of_several_keys_the_first_that_is_held_elsewhere_is_told(string driver, bool async)
    {
        var keys = LockKey.All(Enumerable.Range(0, 5).Select(n => (LockKey)$"{Name}:{n}").Append((Random.Shared.Next(), 7)));
        await using var connection = await Drivers.OpenAsync(driver);
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false;Application Name=worker-4");
        await using var all = new Lock(connection, keys, Drivers.Interface(driver));
        Assert.Empty(await HoldersAsync(all, async));
        foreach (var key in keys.Keys.Reverse())
        {
            Assert.True(await new Lock(holder, key).AcquireAsync(block: false));
            var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => all.Run(async, () => Assert.Fail("It ran."), TimeSpan.FromMilliseconds(20)));
            Assert.Contains($"'{key}' is held by pid {holder.ProcessID} (application 'worker-4'", error.Message, StringComparison.Ordinal);
            Assert.Equal(holder.ProcessID, Assert.Single(error.Holders!).Session!.Id);
        }

        // Of those that are held here the first in order is told, when none is held elsewhere.
        await holder.CloseAsync();
        await Server.UntilFreeAsync(keys.Keys[0]);
        Assert.True(await all.Try(async));
        Assert.True(Assert.Single(await HoldersAsync(all, async)).Session!.IsOwn);

        // One of them is gone: the work was not alone on it.
        await using (var command = connection.CreateCommand())
        {
            command.CommandText = $"select pg_advisory_unlock({keys.Keys[2].Number})";
            Assert.True(await command.ExecuteScalarAsync() is true or 1 or "1");
        }

        await Assert.ThrowsAsync<LockLostException>(() => all.Release(async));
        Assert.False(all.IsHeld);
        foreach (var key in keys.Keys)
        {
            Assert.False(await Server.IsHeldAsync(key));
        }
    }

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task The_holder_and_the_number_of_waiters_are_told_in_words(string driver, bool async)
    {
        await using var connection = await Drivers.OpenAsync(driver);
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false;Application Name=worker-3");
        await using var asked = new Lock(connection, Name, Drivers.Interface(driver));
        await using var held = new Lock(holder, Name);
        Assert.Empty(await HoldersAsync(asked, async));
        Assert.Equal($"'{Name}' is held by nobody at this moment", (await HoldersAsync(asked, async)).ToString());
        await using var transaction = await holder.BeginTransactionAsync();
        held.Transaction = transaction;
        Assert.True(await held.AcquireAsync());
        var waiting = new List<Task>();
        await using var waiters = await OpenManyAsync(3);
        foreach (var waiter in waiters.Connections)
        {
            waiting.Add(new Lock(waiter, Name).AcquireAsync(TimeSpan.FromMinutes(1)).AsTask());
            await Server.UntilWaitingAsync(waiter.ProcessID);
        }

        var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => asked.Run(async, () => Assert.Fail("It ran."), TimeSpan.FromMilliseconds(100)));
        Assert.Matches(
            $@"'{Regex.Escape(Name)}' is held by pid {holder.ProcessID} \(application 'worker-3', user 'postgres', 127\.0\.0\.1\) for at least \d+(\.\d)? s, idle in transaction; 3 others wait\. ",
            error.Message);
        foreach (var holders in new[] { error.Holders!, await HoldersAsync(asked, async) })
        {
            Assert.Equal(3, holders.Waiting);
            var only = Assert.Single(holders);
            Assert.False(only.Shared);
            Assert.Null(only.PreparedTransaction);
            var session = Assert.IsType<PgSession>(only.Session);
            Assert.Equal((holder.ProcessID, "worker-3", "postgres", "127.0.0.1", "idle in transaction"), (session.Pid, session.Application, session.User, session.Client, session.State));
            Assert.Equal("client backend", session.BackendType);
            Assert.Equal("postgres", session.Database);
            Assert.False(session.IsPartial);
            Assert.False(session.IsOwn);
            Assert.True(session.IsSuperuser);
            Assert.InRange(session.Since!.Value, DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddMinutes(1));
            Assert.NotNull(session.TransactionAge);
            Assert.NotNull(session.Query);
        }

        await transaction.CommitAsync();
        Assert.True(await held.ReleaseAsync());
        foreach (var (waiter, done) in waiters.Connections.Zip(waiting))
        {
            await done;
            await waiter.CloseAsync();
        }
    }

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task An_acquired_lock_asks_nothing_about_holders(string driver, bool async)
    {
        await using var connection = await Drivers.OpenAsync(driver);
        var counting = new CountingDriver(Drivers.Interface(driver).Driver);
        await using var counted = new Lock(connection, Name, new LockInterface("Counting", counting, LockDialect.PostgreSql));
        await counted.Run(async, () => { }, TimeSpan.FromMinutes(1));
        Assert.Equal(2, counting.Count);
        await using var other = await Drivers.OpenAsync(driver);
        await using var held = new Lock(other, Name, Drivers.Interface(driver));
        Assert.True(await held.AcquireAsync());
        Assert.False(await counted.Try(async));
        Assert.False(await counted.TryRun(async, () => { }));
        Assert.Equal(4, counting.Count);
    }

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task Shared_holders_are_all_told_and_a_few_are_named(string driver, bool async)
    {
        await using var sessions = await OpenManyAsync(20);
        foreach (var connection in sessions.Connections)
        {
            Assert.True(await new Lock(connection, (-7, Math.Abs(Name.GetHashCode(StringComparison.Ordinal))), options: Shared).AcquireAsync());

            // Twenty such answers are longer than what ODBC drivers give at once.
            await LockSpecification.ExecuteAsync(connection, $"select '{new string('é', 900)}'");
        }

        await using var asking = await Drivers.OpenAsync(driver);
        await using var asked = new Lock(asking, (-7, Math.Abs(Name.GetHashCode(StringComparison.Ordinal))), Drivers.Interface(driver));
        var holders = await HoldersAsync(asked, async);
        Assert.Equal(sessions.Connections.Select(connection => (long)connection.ProcessID).Order(), holders.Select(holder => holder.Session!.Id).Order());
        Assert.All(holders, holder => Assert.True(holder.Shared));
        Assert.All(holders, holder => Assert.Contains("éé", holder.Session!.Query, StringComparison.Ordinal));
        Assert.EndsWith(" and by 17 more", holders.ToString(), StringComparison.Ordinal);
    }

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task A_transaction_sees_the_holders_of_now_and_stays_usable(string driver, bool async)
    {
        await using var asking = await Drivers.OpenAsync(driver);
        await using var asked = new Lock(asking, Name, Drivers.Interface(driver));
        await using var transaction = await asking.BeginTransactionAsync();
        asked.Transaction = transaction;
        for (var round = 0; round < 3; round++)
        {
            await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Application Name=round-{round}");
            await using var held = new Lock(holder, Name);
            Assert.True(await held.AcquireAsync());
            var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => asked.Run(async, () => { }, TimeSpan.FromMilliseconds(20)));
            Assert.Equal((holder.ProcessID, $"round-{round}"), (error.Holders!.Single().Session!.Id, error.Holders!.Single().Session!.Application));
            Assert.Equal(holder.ProcessID, (await HoldersAsync(asked, async)).Single().Session!.Id);
            Assert.True(await held.ReleaseAsync());
        }

        Assert.Equal(1, await LockSpecification.ExecuteAsync(asking, "select 1", transaction));
        Assert.True(await asked.Try(async));
        Assert.True((await HoldersAsync(asked, async)).Single().Session!.IsOwn);
        await transaction.CommitAsync();
        Assert.True(await asked.Release(async));
    }

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task A_role_without_rights_is_told_what_it_may_not_see(string driver, bool async)
    {
        var role = "blind_" + Guid.NewGuid().ToString("N");
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false;Application Name=hidden");
        await LockSpecification.ExecuteAsync(holder, $"create role {role}");
        await using var held = new Lock(holder, Name);
        Assert.True(await held.AcquireAsync());
        await using (var asking = await Drivers.OpenAsync(driver))
        {
            await LockSpecification.ExecuteAsync(asking, $"set role {role}");
            await using var asked = new Lock(asking, Name, Drivers.Interface(driver));
            var error = await Assert.ThrowsAsync<LockNotAcquiredException>(() => asked.Run(async, () => { }, TimeSpan.FromMilliseconds(20)));
            var session = error.Holders!.Single().Session!;
            Assert.True(session.IsPartial);
            Assert.Equal((holder.ProcessID, "postgres"), (session.Id, session.User));
            Assert.Null(session.State);
            Assert.Null(session.Since);
            Assert.Contains("pg_read_all_stats", error.Message, StringComparison.Ordinal);
        }

        await LockSpecification.ExecuteAsync(holder, $"drop role {role}");
    }

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task A_question_that_is_refused_costs_no_transaction(string driver, bool async)
    {
        // The right to these views is everybody's, so it is taken in a database of its own.
        var (database, role) = ("blind_" + Guid.NewGuid().ToString("N"), "blind_" + Guid.NewGuid().ToString("N"));
        await using var administrator = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await LockSpecification.ExecuteAsync(administrator, $"create role {role}");
        await LockSpecification.ExecuteAsync(administrator, $"create database {database}");
        await using (var asking = await Drivers.OpenAsync(driver, database))
        await using (var holder = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database={database}"))
        {
            await LockSpecification.ExecuteAsync(holder, "revoke select on pg_stat_activity from public");
            await using var held = new Lock(holder, Name);
            Assert.True(await held.AcquireAsync());
            await LockSpecification.ExecuteAsync(asking, $"set role {role}");
            await using var transaction = await asking.BeginTransactionAsync();
            await using var asked = new Lock(asking, Name, Drivers.Interface(driver)) { Transaction = transaction };
            Assert.Null((await Assert.ThrowsAsync<LockNotAcquiredException>(() => asked.Run(async, () => { }, TimeSpan.FromMilliseconds(20)))).Holders);
            Assert.Equal("42501", Drivers.Interface(driver).Driver.Read(await Assert.ThrowsAnyAsync<DbException>(() => HoldersAsync(asked, async))).SqlState);
            Assert.Equal(1, await LockSpecification.ExecuteAsync(asking, "select 1", transaction));
            await transaction.RollbackAsync();
        }

        await LockSpecification.ExecuteAsync(administrator, $"drop database {database} with (force)");
        await LockSpecification.ExecuteAsync(administrator, $"drop role {role}");
    }

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task A_prepared_transaction_is_named(string driver, bool async)
    {
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync();
        if (Convert.ToInt32(await LockSpecification.ExecuteAsync(holder, "show max_prepared_transactions"), CultureInfo.InvariantCulture) == 0)
        {
            return;
        }

        var transaction = await holder.BeginTransactionAsync();
        await using var held = new Lock(holder, Name, options: new LockOptions { Scope = LockScope.Transaction }) { Transaction = transaction };
        Assert.True(await held.AcquireAsync());
        await LockSpecification.ExecuteAsync(holder, $"prepare transaction '{Name}'");
        await using var asking = await Drivers.OpenAsync(driver);
        await using var asked = new Lock(asking, Name, Drivers.Interface(driver));
        var only = (await HoldersAsync(asked, async)).Single();
        Assert.Null(only.Session);
        Assert.Equal(Name, only.PreparedTransaction);
        Assert.Contains($"ROLLBACK PREPARED", only.ToString(), StringComparison.Ordinal);
        await LockSpecification.ExecuteAsync(holder, $"rollback prepared '{Name}'");
        Assert.Empty(await HoldersAsync(asked, async));
    }

    [Fact]
    public async Task Other_locks_databases_and_key_spaces_are_not_mixed_in()
    {
        var number = Random.Shared.NextInt64();
        var database = "other_" + Guid.NewGuid().ToString("N");
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync();
        await LockSpecification.ExecuteAsync(connection, $"create database {database}");
        await using (var elsewhere = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database={database}"))
        await using (var pairs = await PostgreSqlTestServer.OpenNpgsqlAsync())
        {
            await using var other = new Lock(elsewhere, number);
            Assert.True(await other.AcquireAsync());
            await using var pair = new Lock(pairs, ((int)(number >> 32), (int)number));
            Assert.True(await pair.AcquireAsync());
            await using var asked = new Lock(connection, number);
            Assert.Empty(await asked.GetHoldersAsync());
            Assert.Equal(elsewhere.ProcessID, (await other.GetHoldersAsync()).Single().Session!.Id);
            Assert.Equal(pairs.ProcessID, (await new Lock(connection, pair.Key).GetHoldersAsync()).Single().Session!.Id);
        }

        await LockSpecification.ExecuteAsync(connection, $"drop database {database} with (force)");
    }

    private static async Task<LockHolders> HoldersAsync(Lock @lock, bool async) => async ? await @lock.GetHoldersAsync() : @lock.GetHolders();

    private static async Task<Sessions> OpenManyAsync(int count)
    {
        var sessions = new Sessions();
        for (var i = 0; i < count; i++)
        {
            sessions.Connections.Add(await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false"));
        }

        return sessions;
    }

    private sealed class Sessions : IAsyncDisposable
    {
        public List<NpgsqlConnection> Connections { get; } = [];

        public async ValueTask DisposeAsync()
        {
            foreach (var connection in Connections)
            {
                await connection.DisposeAsync();
            }
        }
    }
}
