using System.Data.Common;
using System.Globalization;
using System.Text.RegularExpressions;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>The name of a lock and its holder, where a person at the server sees them, and what is read back of it.</summary>
public sealed class ToldNameTests
{
    private static readonly LockOptions InTransaction = new() { Scope = LockScope.Transaction };
    private static readonly TimeSpan Long = TimeSpan.FromMinutes(1);

    private static PostgreSqlTestServer Server => PostgreSqlTestServer.Instance;

    // As it stands in a comment, and short enough for an application_name.
    private string Name { get; } = "report-" + Guid.NewGuid().ToString("N")[..12];

    /// <summary>Gets names that mean something to a server, a provider, a log or a terminal.</summary>
    public static TheoryData<string, string> Hostile
    {
        get
        {
            var names = new TheoryData<string, string>();
            foreach (var driver in new[] { "Npgsql", "AdoNet", "Odbc" })
            {
                foreach (var name in HostileNames)
                {
                    names.Add(driver, name);
                }
            }

            return names;
        }
    }

    private static string[] HostileNames =>
    [
        "x */ select 1 --", "/* x", "x /", "*", "a?b", "@p0", "$1", ":name", "{fn now()}", "{0}", "a;b",
        "'\"`\\", "line\nbreak\r", "\u001b[2J", "\u202e", "a,b", "%41", "100%", "a [b 2026-11-26T18:03:22Z]", "🔒 Größe",
        "a  b ", "#x", "-- x", new string('ä', 1_000_000),
    ];

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task The_name_is_seen_in_the_statement_of_a_callers_connection(string driver, bool async)
    {
        await using var connection = await Drivers.OpenAsync(driver);
        var pid = Convert.ToInt32(await LockSpecification.ExecuteAsync(connection, "select pg_backend_pid()"), CultureInfo.InvariantCulture);
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using (var tries = new Lock(connection, Name, Drivers.Interface(driver)))
        {
            Assert.True(await tries.Try(async));
            Assert.StartsWith($"/* dblock {Name} */ select case", await QueryAsync(pid), StringComparison.Ordinal);
        }

        // In transaction scope the try is the last statement.
        await using (var transaction = await connection.BeginTransactionAsync())
        {
            var scoped = new Lock(connection, Name, Drivers.Interface(driver), InTransaction) { Transaction = transaction };
            Assert.True(await scoped.Try(async));
            Assert.Contains($"/* dblock {Name} */ select case", await QueryAsync(pid), StringComparison.Ordinal);
            Assert.Equal(Name, Assert.Single(await observer.GetLocksAsync(Advisory(pid))).Key!.Name);
            await transaction.RollbackAsync();
        }

        // Who waits, out of a transaction and in it, is found by name.
        foreach (var scope in new LockScope?[] { null, LockScope.Session, LockScope.Transaction })
        {
            await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
            var held = new Lock(holder, Name);
            Assert.True(await held.AcquireAsync(block: false));
            await using var transaction = scope is null ? null : await connection.BeginTransactionAsync();
            var options = new LockOptions { Scope = scope ?? LockScope.Session };
            var waits = new Lock(connection, Name, Drivers.Interface(driver), options) { Transaction = transaction };
            var wait = Task.Run(async () => await waits.Acquire(async, Long));
            await Server.UntilWaitingAsync(pid);
            Assert.Contains($"/* dblock {Name} */ ", await QueryAsync(pid), StringComparison.Ordinal);
            var waiting = Assert.Single(await observer.GetLocksAsync(new PgLockFilter { Pids = [pid], Granted = false }));
            Assert.Equal((Name, Name), (waiting.Key!.Name, waiting.Session!.LockName));

            var graph = await observer.GetWaitGraphAsync(new PgLockFilter { Pids = [pid] });
            Assert.Matches($"(waits|has waited [0-9.]+ s) for Exclusive on advisory lock '{Name}'", graph.ToString());
            Assert.True(await held.ReleaseAsync());
            Assert.True(await wait);
            await (transaction?.CommitAsync() ?? Task.CompletedTask);
            await waits.DisposeAsync();
        }
    }

    [Theory, InlineData("Npgsql", false), InlineData("Npgsql", true), InlineData("AdoNet", false), InlineData("AdoNet", true)]
    public async Task A_session_of_the_locks_own_tells_name_and_time_and_its_beats_do_not_reset_it(string driver, bool async)
    {
        await using var source = await SourceAsync("worker-3", "Maximum Pool Size=1;No Reset On Close=true");
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var asking = new Lock(observer, Name);
        var before = await ClockAsync(observer);
        var held = async
            ? await source.AcquireLockAsync(Name, Long, Drivers.Interface(driver))
            : source.AcquireLock(Name, Long, Drivers.Interface(driver));
        var after = await ClockAsync(observer);
        var pid = Assert.Single(await asking.GetHoldersAsync()).Session!.Id;
        await TestServer.UntilAsync(
            async () => (await ApplicationAsync(pid)).EndsWith("Z]", StringComparison.Ordinal), "it tells since when");
        var told = await ApplicationAsync(pid);
        for (var beat = 0; beat < 4; beat++)
        {
            var last = await StateChangeAsync(pid);
            await TestServer.UntilAsync(async () => await StateChangeAsync(pid) != last, "the next question comes");
        }

        // By the server's clock, and not by the questions, of which the last has just been.
        var earliest = await ClockAsync(observer);
        var holder = Assert.Single(await asking.GetHoldersAsync());
        var latest = await ClockAsync(observer);
        Assert.InRange(holder.Session!.LockSince!.Value, before, after + TimeSpan.FromSeconds(1));
        Assert.InRange(holder.HeldFor!.Value, earliest - after - TimeSpan.FromSeconds(2), latest - before);
        Assert.Equal((told, Name, "worker-3"), (await ApplicationAsync(pid), holder.Session.LockName, holder.Session.Application));
        Assert.Matches(
            $@"^'{Name}' is held by pid {pid} \(application 'worker-3', user 'postgres', [^)]*\) for [0-9]+ s$",
            (await asking.GetHoldersAsync()).ToString());
        Assert.DoesNotContain("at least", holder.ToString(), StringComparison.Ordinal);

        var seen = Assert.Single(await observer.GetLocksAsync(Advisory((int)pid)));
        Assert.Equal(Name, seen.Key!.Name);
        Assert.NotNull(seen.HeldFor);
        Assert.Contains($"has held Exclusive on advisory lock '{Name}' for ", seen.ToString(), StringComparison.Ordinal);

        Assert.True(async ? await held.ReleaseAsync() : held.Release());
        Assert.Equal("worker-3", await ApplicationAsync(pid));
        Assert.Equal("worker-3", await AskAsync(source, "select current_setting('application_name')"));
    }

    [Fact]
    public async Task Who_waits_on_a_session_of_the_locks_own_is_told_as_asking_and_is_put_back()
    {
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var held = new Lock(holder, Name);
        Assert.True(await held.AcquireAsync(block: false));
        await using var source = await SourceAsync("", "Maximum Pool Size=1;No Reset On Close=true");
        var pid = (int)(await AskAsync(source, "select pg_backend_pid()"))!;
        using var cancel = new CancellationTokenSource();
        var wait = source.AcquireLockAsync(Name, cancellationToken: cancel.Token).AsTask();
        await Server.UntilWaitingAsync(pid);

        // No application of its own: host and process stand there.
        var process = $"{Environment.MachineName}:{Environment.ProcessId.ToString(CultureInfo.InvariantCulture)}";
        Assert.Equal(process[..Math.Min(process.Length, 20)], (await ApplicationAsync(pid))[..Math.Min(process.Length, 20)]);
        Assert.EndsWith($" [{Name} asked for]", await ApplicationAsync(pid), StringComparison.Ordinal);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait);
        Assert.Equal("", await AskAsync(source, "select current_setting('application_name')"));
    }

    [Theory, InlineData("Npgsql"), InlineData("AdoNet")]
    public async Task A_pool_tells_that_it_is_one_and_its_holds_are_not_told_shorter_than_they_are(string driver)
    {
        await using var source = await SourceAsync("worker-5", "");
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var pool = new LockPool(source, Drivers.Interface(driver));
        await using var held = await pool.AcquireLockAsync(Name);
        var holder = Assert.Single(await new Lock(observer, Name).GetHoldersAsync());
        Assert.Equal("worker-5 [pool of locks]", await ApplicationAsync(holder.Session!.Id));
        Assert.Equal(("worker-5", null, null), (holder.Session.Application, holder.Session.LockName, holder.HeldFor));
        Assert.Matches(@"\), whose session began [0-9.]+ s ago$", holder.ToString());
    }

    [Theory, MemberData(nameof(Drivers.All), MemberType = typeof(Drivers))]
    public async Task With_the_option_off_nothing_is_written(string driver, bool async)
    {
        var options = new LockOptions { ShowName = false };
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using (var connection = await Drivers.OpenAsync(driver))
        {
            await using var tries = new Lock(connection, Name, Drivers.Interface(driver), options);
            Assert.True(await tries.Try(async));
            var pid = Assert.Single(await tries.GetHoldersAsync()).Session!.Id;
            Assert.True(await tries.Release(async));
            Assert.True(await tries.Acquire(async, Long));
            Assert.DoesNotContain("/*", await QueryAsync(pid), StringComparison.Ordinal);
        }

        if (driver != "Odbc")
        {
            await using var source = await SourceAsync("worker-6", "");
            await using var held = await source.AcquireLockAsync(Name, lockInterface: Drivers.Interface(driver), options: options);
            await using var pool = new LockPool(source, Drivers.Interface(driver), new LockPoolOptions { ShowName = false });
            await using var pooled = await pool.AcquireLockAsync(Name + "-pooled");
            await using var asking = new Lock(observer, Name);
            var pid = Assert.Single(await asking.GetHoldersAsync()).Session!.Id;
            await TestServer.UntilAsync(
                async () => (await QueryAsync(pid)).Contains("= pg_catalog.pg_backend_pid()", StringComparison.Ordinal), "it asks");
            Assert.DoesNotContain("/*", await QueryAsync(pid), StringComparison.Ordinal);
            Assert.Equal("worker-6", await ApplicationAsync(pid));

            // Its questions reset the age of its state, which is not taken for that of the hold.
            Assert.Matches(@"\), whose session began [0-9.]+ s ago$", Assert.Single(await asking.GetHoldersAsync()).ToString());
            var carrier = Assert.Single(await new Lock(observer, Name + "-pooled").GetHoldersAsync());
            Assert.Equal("worker-6", await ApplicationAsync(carrier.Session!.Id));
        }
    }

    [Theory, MemberData(nameof(Hostile))]
    public async Task A_hostile_name_is_harmless_text_and_is_read_back(string driver, string hostile)
    {
        var name = hostile + Name;
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync();
        await using var connection = await Drivers.OpenAsync(driver);
        var pid = Convert.ToInt32(await LockSpecification.ExecuteAsync(connection, "select pg_backend_pid()"), CultureInfo.InvariantCulture);
        await using var @lock = new Lock(connection, name, Drivers.Interface(driver));
        for (var use = 0; use < 4; use++)
        {
            Assert.True(await @lock.Acquire(use % 2 == 0, use < 2 ? TimeSpan.Zero : Long));
            if (use == 0)
            {
                Assert.Matches(@"^/\* dblock [A-Za-z0-9_.\-/ %,]* \*/ select case\n", await QueryAsync(pid));
                var told = (await observer.GetLocksAsync(Advisory(pid))).Single();
                Assert.Equal(name.Length > 1000 ? @lock.Key.Number.ToString(CultureInfo.InvariantCulture) : name, told.Key!.Name);
            }

            Assert.True(await @lock.ReleaseAsync());
        }

        await using (var transaction = await connection.BeginTransactionAsync())
        {
            var scoped = new Lock(connection, name, Drivers.Interface(driver), InTransaction) { Transaction = transaction };
            Assert.True(await scoped.AcquireAsync(Long));
            await transaction.CommitAsync();
        }

        if (driver != "Odbc")
        {
            await using var source = await SourceAsync("worker-7", "Pooling=false");
            await using var held = await source.AcquireLockAsync(name, lockInterface: Drivers.Interface(driver));
            await using var asking = new Lock(connection, name, Drivers.Interface(driver));
            await UntilToldAsync(asking);
            var own = await ApplicationAsync(Assert.Single(await asking.GetHoldersAsync()).Session!.Id);
            Assert.Matches(@"^worker-7 \[[ -Z\\^-~]* [0-9TZ:-]{20}\]$", own);
            Assert.InRange(own.Length, 1, 63);
        }
    }

    [Theory, InlineData("MySqlConnector"), InlineData("MySql.Data"), InlineData("Odbc")]
    public async Task On_MariaDB_hostile_names_are_harmless_and_who_waits_is_seen(string provider)
    {
        foreach (var hostile in HostileNames)
        {
            await using var connection = await OpenMariaDbAsync(provider);
            await using var other = await OpenMariaDbAsync(provider);
            await using var observer = await MariaDbTestServer.OpenAsync();
            LockKey key = hostile + Name;
            await using var @lock = new Lock(connection, key);
            await using var waits = new Lock(other, key);
            Assert.True(await @lock.AcquireAsync(Long));
            var wait = waits.AcquireAsync(Long).AsTask();
            await TestServer.UntilAsync(async () => await InfosAsync() > 0, "it waits, and is seen");
            Assert.True(await @lock.ReleaseAsync());
            Assert.True(await wait);
            Assert.True(await waits.ReleaseAsync());

            async Task<long> InfosAsync() => Convert.ToInt64(
                await LockSpecification.ExecuteAsync(
                    observer,
                    "select count(*) from information_schema.processlist where state = 'User lock'"
                    + @" and info regexp '^/[*] dblock [-A-Za-z0-9_./ %,]* [*]/ select get_lock' "
                    + $"and info like '%{(hostile.Length > 1000 ? "%C3%A4.." : Name)} */%'"),
                CultureInfo.InvariantCulture);
        }
    }

    [Theory, InlineData("LATIN1"), InlineData("SQL_ASCII")]
    public async Task A_database_of_another_encoding_takes_every_name(string encoding)
    {
        var database = "enc_" + Guid.NewGuid().ToString("N");
        await using var administrator = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await administrator.ExecuteAsync(
            $"create database {database} template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'");
        try
        {
            foreach (var driver in new[] { "Npgsql", "AdoNet", "Odbc" })
            {
                var name = "🔒 Größe " + driver + Name;
                await using var connection = await Drivers.OpenAsync(driver, database);
                await using var @lock = new Lock(connection, name, Drivers.Interface(driver));
                Assert.True(await @lock.AcquireAsync(Long));
                Assert.True(Assert.Single(await @lock.GetHoldersAsync()).Session!.IsOwn);
                Assert.True(await @lock.ReleaseAsync());
                if (driver != "Odbc")
                {
                    await using var source = await SourceAsync("worker-8", $"Database={database};Pooling=false");
                    await using var held = await source.AcquireLockAsync(name, lockInterface: Drivers.Interface(driver));
                    await UntilToldAsync(@lock);
                }
            }
        }
        finally
        {
            await administrator.ExecuteAsync($"drop database {database} with (force)");
        }
    }

    [Fact]
    public async Task What_a_session_tells_is_not_believed_where_it_cannot_be()
    {
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var held = new Lock(holder, Name);
        Assert.True(await held.AcquireAsync());
        var now = await ClockAsync(observer);
        var session = Assert.Single(await new Lock(observer, Name).GetHoldersAsync()).Session!.Since!.Value;
        foreach (var (told, application) in new[]
        {
            ($"x [{Name} 2026-99-99T00:00:00Z]", "x"), ($"x [{Name} 2999-01-01T00:00:00Z]", "x"),
            ($"x [{Name} {Written(session.AddSeconds(-2))}]", "x"),
            ($"x [another {Written(now)}]", "x"), ($"x [{Name} {Written(now)}] ", $"x [{Name} {Written(now)}] "),
            ($"x [{Name}]", $"x [{Name}]"), ("[]", "[]"), ("x [ asked for]", "x"),
        })
        {
            await holder.ExecuteAsync($"set application_name = '{told}'");
            var only = Assert.Single(await new Lock(observer, Name).GetHoldersAsync());
            Assert.Equal((null, application), (only.HeldFor, only.Session!.Application));
            Assert.Contains("for at least", only.ToString(), StringComparison.Ordinal);
            Assert.Null(Assert.Single(await observer.GetLocksAsync(Advisory(holder.ProcessID))).HeldFor);
        }

        // What can be so is believed. A key that is asked by its number is the one whose name is told.
        await holder.ExecuteAsync($"set application_name = 'x [{Name} {Written(now.AddSeconds(1))}]'");
        Assert.NotNull(Assert.Single(await new Lock(observer, Name).GetHoldersAsync()).HeldFor);
        Assert.NotNull(Assert.Single(await new Lock(observer, held.Key.Number).GetHoldersAsync()).HeldFor);
        Assert.Equal(Name, Assert.Single(await observer.GetLocksAsync(Advisory(holder.ProcessID))).Key!.Name);

        static string Written(DateTimeOffset time) => time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);
    }

    [Fact]
    public async Task Filters_and_exceptions_know_an_application_that_tells_a_lock()
    {
        var application = "worker of a department with a long name " + Name[^12..];
        await using var source = await SourceAsync(application, "");
        await using var other = await SourceAsync(Name + "-app", "");
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var held = await source.AcquireLockAsync(Name);
        await using var second = await other.AcquireLockAsync("b-" + Name[^6..]);
        var filtered = await observer.GetLocksAsync(new PgLockFilter { Applications = [Name + "-app"], LockTypes = ["advisory"] });
        Assert.Equal("b-" + Name[^6..], Assert.Single(filtered).Key!.Name);

        // Of a name that was cut so that the lock has room, the beginning is enough to be spared.
        var filter = new PgLockFilter { Keys = [Name] };
        var options = new PgClearOptions { ExceptApplications = [application], IncludeSuperusers = true, DryRun = true };
        Assert.Equal(PgClearOutcome.Spared, Assert.Single(await observer.ClearLocksAsync(filter, PgSignal.Terminate, options)).Outcome);
        options = options with { ExceptApplications = ["worker"] };
        Assert.Equal(PgClearOutcome.Planned, Assert.Single(await observer.ClearLocksAsync(filter, PgSignal.Terminate, options)).Outcome);
    }

    [Theory, InlineData("Npgsql"), InlineData("AdoNet")]
    public async Task Ever_new_names_leave_no_prepared_statement_each(string driver)
    {
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        for (var n = 0; n < 100; n++)
        {
            var @lock = new Lock(connection, $"{Name}-{n}", Drivers.Interface(driver));
            for (var use = 0; use < 3; use++)
            {
                Assert.True(await @lock.AcquireAsync(block: false));
                Assert.True(await @lock.ReleaseAsync());
            }
        }

        Assert.InRange((long)(await connection.ExecuteAsync("select count(*) from pg_prepared_statements"))!, 1, 20);
        Assert.InRange(
            (long)(await connection.ExecuteAsync("select count(*) from pg_prepared_statements where statement like '/* dblock %'"))!,
            0, 16);
    }

    [Fact]
    public async Task A_role_that_sees_nothing_else_of_a_session_sees_the_lock_that_it_tells()
    {
        var role = "name_" + Guid.NewGuid().ToString("N");
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var source = await SourceAsync("worker-9", "");
        await using var held = await source.AcquireLockAsync(Name);
        await observer.ExecuteAsync($"create role {role}; set role {role}");
        var asking = new Lock(observer, Name);
        await UntilToldAsync(asking);
        var holder = Assert.Single(await asking.GetHoldersAsync());
        Assert.True(holder.Session!.IsPartial);
        Assert.Equal((Name, null), (holder.Session.LockName, holder.Session.Query));
        Assert.Matches(@"^pid [0-9]+ \(application 'worker-9', user 'postgres'\) for [0-9]+ s$", holder.ToString());
        await observer.ExecuteAsync($"reset role; drop role {role}");
    }

    [Fact]
    public async Task Several_keys_are_told_by_their_names()
    {
        var keys = LockKey.All(Name, (LockKey)$"{Name}:b", (LockKey)$"{Name},c");
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var held = new Lock(connection, keys);
        Assert.True(await held.AcquireAsync(block: false));
        var locks = await observer.GetLocksAsync(Advisory(connection.ProcessID));
        Assert.Equal(
            keys.Keys.Select(key => key.Name).Order(StringComparer.Ordinal),
            locks.Select(@lock => @lock.Key!.Name).Order(StringComparer.Ordinal));
    }

    private static async Task<DbConnection> OpenMariaDbAsync(string provider) => provider switch
    {
        "MySqlConnector" => await MariaDbTestServer.OpenAsync<MySqlConnector.MySqlConnection>(pooled: false),
        "MySql.Data" => await MariaDbTestServer.OpenAsync<MySql.Data.MySqlClient.MySqlConnection>(pooled: false),
        _ => await MariaDbTestServer.OpenAsync(),
    };

    private static async Task<NpgsqlDataSource> SourceAsync(string application, string more) => NpgsqlDataSource.Create(
        new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString + ";" + more)
        {
            ApplicationName = application.Length == 0 ? null : application,
        });

    private static async Task<object?> AskAsync(NpgsqlDataSource source, string sql)
    {
        await using var connection = await source.OpenConnectionAsync();
        return await connection.ExecuteAsync(sql);
    }

    private static async Task<string> ActivityAsync(string column, long pid)
    {
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync();
        var sql = string.Create(
            CultureInfo.InvariantCulture, $"select coalesce({column}::text, '') from pg_stat_activity where pid = {pid}");
        return (string)(await connection.ExecuteAsync(sql))!;
    }

    private static Task UntilToldAsync(Lock asking) =>
        TestServer.UntilAsync(async () => Assert.Single(await asking.GetHoldersAsync()).HeldFor is not null, "it tells since when");

    private static PgLockFilter Advisory(int pid) => new() { Pids = [pid], LockTypes = ["advisory"] };

    private static Task<string> QueryAsync(long pid) => ActivityAsync("query", pid);

    private static Task<string> ApplicationAsync(long pid) => ActivityAsync("application_name", pid);

    private static Task<string> StateChangeAsync(long pid) => ActivityAsync("state_change", pid);

    private static async Task<DateTimeOffset> ClockAsync(NpgsqlConnection connection) =>
        new((DateTime)(await connection.ExecuteAsync("select clock_timestamp() at time zone 'UTC'"))!, TimeSpan.Zero);
}
