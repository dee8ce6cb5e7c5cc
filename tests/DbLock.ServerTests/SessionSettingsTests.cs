using System.Data.Common;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>The settings of a session that only locks use: there while it is theirs, and not after.</summary>
public sealed class SessionSettingsTests
{
    private const string Settings = """
        select string_agg(name || '=' || current_setting(name), ' ' order by name) from pg_settings
        where name like 'tcp_%'
          or name in ('client_connection_check_interval', 'idle_session_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')
        """;

    // Short enough to be seen whole where a lock is told after it.
    private string Name { get; } = "set:" + Guid.NewGuid().ToString("N")[..12];

    private LockKey Key => Name;

    [Theory, InlineData("Npgsql", false), InlineData("Npgsql", true), InlineData("AdoNet", false), InlineData("AdoNet", true)]
    public async Task They_are_there_while_a_lock_has_a_session_of_its_own_and_nothing_is_left(string driver, bool async)
    {
        await using var source = await OneConnectionAsync();
        var (before, kept) = await BeforeAsync(source);
        var looking = new SendingDriver(Drivers.Interface(driver).Driver) { Looks = Settings };
        for (var use = 0; use < 3; use++)
        {
            var held = async
                ? await source.AcquireLockAsync(Key, TimeSpan.FromSeconds(10), looking.Interface)
                : source.AcquireLock(Key, TimeSpan.FromSeconds(10), looking.Interface);
            await TestServer.UntilAsync(() => Task.FromResult(Equals(looking.Seen, kept)), "they are set");
            Assert.True(async ? await held.ReleaseAsync() : held.Release());
            Assert.Equal(before, await AskAsync(source, Settings));
        }

        // Not acquired: the session goes back as it came, too.
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync();
        using var other = new Lock(holder, Key);
        Assert.True(await other.AcquireAsync(block: false));
        Assert.Null(async ? await source.TryAcquireLockAsync(Key, lockInterface: looking.Interface) : source.TryAcquireLock(Key, lockInterface: looking.Interface));
        Assert.Equal(before, await AskAsync(source, Settings));
    }

    [Fact]
    public async Task They_are_there_while_a_pool_has_its_connection_and_nothing_is_left()
    {
        await using var source = await OneConnectionAsync();
        var (before, kept) = await BeforeAsync(source);
        var looking = new SendingDriver(LockInterface.Npgsql.Driver) { Looks = Settings };
        await using (var pool = new LockPool(source, looking.Interface))
        {
            await using var held = await pool.AcquireLockAsync(Key);
            Assert.Equal(kept, looking.Seen);
        }

        Assert.Equal(before, await AskAsync(source, Settings));
    }

    [Fact]
    public async Task A_role_without_rights_whose_idle_sessions_are_ended_keeps_its_locks()
    {
        var role = "hurried_" + Guid.NewGuid().ToString("N");
        var server = await PostgreSqlTestServer.ServerAsync;
        await using var administrator = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        if (administrator.PostgreSqlVersion.Major < 14)
        {
            return;
        }

        await administrator.ExecuteAsync($"create role {role} login password 'hurried'; alter role {role} set idle_session_timeout = '300ms'");
        await using (var source = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(server.ConnectionString) { Username = role, Password = "hurried", ApplicationName = Name, Pooling = false }))
        {
            await using var pool = new LockPool(source);
            await using var other = new LockPool(source);
            await using var untended = await source.AcquireLockAsync(Name + "untended", options: new LockOptions { TrustPooler = true });
            await using var held = await source.AcquireLockAsync(Key);
            await using var pooled = await pool.AcquireLockAsync(Name + "pooled");
            var wait = other.AcquireLockAsync(Name + "pooled").AsTask();
            await TestServer.UntilAsync(async () => await ListenersAsync() != "", "a pool listens");
            var listener = await ListenersAsync();

            // The first question comes half a second after the grant. Nothing was set on the one that may be behind a pooler.
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Delay(Timeout.Infinite, untended.Lost).WaitAsync(TimeSpan.FromSeconds(30)));
            Assert.True(await held.ReleaseAsync());
            Assert.Equal(listener, await ListenersAsync());
            Assert.True(await pooled.ReleaseAsync());
            await (await wait).DisposeAsync();
        }

        await administrator.ExecuteAsync($"drop role {role}");

        async Task<string> ListenersAsync() =>
            (string)(await administrator.ExecuteAsync(
                $"select coalesce(string_agg(pid::text, ' '), '') from pg_stat_activity"
                + $" where application_name like '{Name}%' and query like 'listen %'"))!;
    }

    [Theory, InlineData("Npgsql"), InlineData("AdoNet")]
    public async Task Who_waits_and_whose_client_is_gone_leaves_the_queue(string driver)
    {
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        if (holder.PostgreSqlVersion.Major < 14)
        {
            return;
        }

        await using var held = new Lock(holder, Key);
        Assert.True(await held.AcquireAsync(block: false));
        var server = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        var proxy = new PostgreSqlProxy(server.Host!, server.Port);
        (server.Host, server.Port, server.SslMode, server.ApplicationName) = ("127.0.0.1", proxy.Port, SslMode.Disable, Name);
        await using var source = NpgsqlDataSource.Create(server);
        var wait = source.AcquireLockAsync(Key, lockInterface: Drivers.Interface(driver)).AsTask();
        await TestServer.UntilAsync(async () => await WaitersAsync() == 1, "it waits");
        await proxy.DisposeAsync();
        await Assert.ThrowsAnyAsync<DbException>(() => wait);
        await TestServer.UntilAsync(async () => await WaitersAsync() == 0, "nobody waits");

        async Task<long> WaitersAsync() =>
            (long)(await holder.ExecuteAsync(
                $"select count(*) from pg_locks as l join pg_stat_activity as a using (pid)"
                + $" where not l.granted and a.application_name like '{Name}%'"))!;
    }

    [Fact]
    public async Task Another_clients_session_behind_a_pooler_is_left_alone()
    {
        await using var bouncer = await PgBouncer.StartAsync(await PostgreSqlTestServer.ServerAsync, "transaction", poolSize: 1);
        await using var source = NpgsqlDataSource.Create(bouncer.ConnectionString);
        var before = await AskAsync(source, Settings);
        var looking = new SendingDriver(LockInterface.Npgsql.Driver) { Looks = Settings };
        await Assert.ThrowsAsync<LockException>(() => source.AcquireLockAsync(Key, lockInterface: looking.Interface).AsTask());
        Assert.Equal(before, looking.Seen);

        // Told to trust, wrongly here: it cannot be known, so nothing is set.
        await (await source.AcquireLockAsync(Key, lockInterface: looking.Interface, options: new LockOptions { TrustPooler = true })).DisposeAsync();
        Assert.Equal(before, looking.Seen);
    }

    [Fact]
    public async Task A_server_that_does_not_let_them_be_set_gives_its_locks_all_the_same()
    {
        await using var source = await OneConnectionAsync();
        var refused = new SendingDriver(LockInterface.Npgsql.Driver) { Fails = "tcp_user_timeout" };
        var logger = new RecordingLogger();
        await using (var held = await source.AcquireLockAsync(Key, lockInterface: refused.Interface, options: new LockOptions { Logger = logger }))
        {
            await TestServer.UntilAsync(() => Task.FromResult(logger.Texts.Any(text => text.Contains("keepalives", StringComparison.Ordinal))), "it is told");
            Assert.True(held.IsHeld);
        }

        await using (var pool = new LockPool(source, refused.Interface))
        {
            await using var held = await pool.AcquireLockAsync(Key);
        }

        Assert.Contains(logger.Texts, text => text.Contains("keepalives", StringComparison.Ordinal));
        Assert.Empty(logger.Warnings);
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_session_that_cannot_be_put_back_does_not_go_back(bool async)
    {
        await using var source = await OneConnectionAsync();
        var failing = new SendingDriver(LockInterface.Npgsql.Driver) { Fails = "string_to_array" };
        var pid = await AskAsync(source, "select pg_backend_pid()");
        var held = async ? await source.AcquireLockAsync(Key, lockInterface: failing.Interface) : source.AcquireLock(Key, lockInterface: failing.Interface);
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync();
        await TestServer.UntilAsync(
            async () => await observer.ExecuteAsync($"select application_name from pg_stat_activity where pid = {pid}") is string told && told.Contains('['),
            "the session is set");
        Assert.True(async ? await held.ReleaseAsync() : held.Release());
        Assert.NotEqual(pid, await AskAsync(source, "select pg_backend_pid()"));
    }

    [Fact]
    public async Task A_pool_whose_session_cannot_be_put_back_tells_no_loss()
    {
        await using var source = await OneConnectionAsync();
        var failing = new SendingDriver(LockInterface.Npgsql.Driver) { Fails = "string_to_array" };
        var pid = await AskAsync(source, "select pg_backend_pid()");
        var pool = new LockPool(source, failing.Interface);
        var held = await Task.WhenAll(Enumerable.Range(0, 10).Select(n => pool.AcquireLockAsync($"{Name}{n}").AsTask()));

        // Under way while the pool ends.
        var releases = held.Select(one => one.ReleaseAsync().AsTask()).ToList();
        await pool.DisposeAsync();
        Assert.All(await Task.WhenAll(releases), Assert.True);
        Assert.NotEqual(pid, await AskAsync(source, "select pg_backend_pid()"));
    }

    private static async Task<object?> AskAsync(NpgsqlDataSource source, string sql)
    {
        await using var connection = await source.OpenConnectionAsync();
        return await connection.ExecuteAsync(sql);
    }

    // The session has settings of its own, which Npgsql does not reset: 99 stands for what somebody wanted.
    [Theory, InlineData("Npgsql", false), InlineData("Npgsql", true), InlineData("AdoNet", false), InlineData("AdoNet", true)]
    public async Task A_limit_on_transactions_that_ends_a_wait_is_told_and_a_session_of_the_locks_own_has_none(string driver, bool async)
    {
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        if (holder.PostgreSqlVersion.Major < 17)
        {
            return;
        }

        using var held = new Lock(holder, Key);
        Assert.True(await held.AcquireAsync(block: false));
        var server = (await PostgreSqlTestServer.ServerAsync).ConnectionString;
        await using var source = NpgsqlDataSource.Create($"{server};Options=-c transaction_timeout=300ms;Application Name={Name}");
        await using (var connection = await source.OpenConnectionAsync())
        {
            var @lock = new Lock(connection, Key, Drivers.Interface(driver));
            var error = await Assert.ThrowsAsync<LockNotAcquiredException>(
                async () => _ = async ? await @lock.AcquireAsync(TimeSpan.FromMinutes(1)) : @lock.Acquire(TimeSpan.FromMinutes(1)));
            Assert.Equal("25P04", Assert.IsType<PostgresException>(error.InnerException).SqlState);
        }

        // It waits longer than that, until it is its turn.
        var wait = async
            ? source.AcquireLockAsync(Key, TimeSpan.FromMinutes(1), Drivers.Interface(driver)).AsTask()
            : Task.Run(() => source.AcquireLock(Key, TimeSpan.FromMinutes(1), Drivers.Interface(driver)));
        await TestServer.UntilAsync(
            async () => wait.IsCompleted || (bool)(await holder.ExecuteAsync(
                "select exists (select from pg_locks as l join pg_stat_activity as a using (pid) where not l.granted"
                + $" and a.application_name like '{Name}%' and clock_timestamp() > a.xact_start + interval '1s')"))!,
            "it has waited longer than the limit");
        Assert.True(await held.ReleaseAsync());
        await using var acquired = await wait;
        Assert.True(acquired.IsHeld);
    }

    [Theory, InlineData("Npgsql", false), InlineData("Npgsql", true), InlineData("AdoNet", false), InlineData("AdoNet", true)]
    public async Task A_session_that_idled_too_long_in_its_transaction_is_told_by_the_acquire(string driver, bool async)
    {
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var transaction = await connection.BeginTransactionAsync();
        await connection.ExecuteAsync("set local idle_in_transaction_session_timeout = '1ms'");
        await TestServer.UntilAsync(
            async () => (bool)(await observer.ExecuteAsync(
                $"select not exists (select from pg_stat_activity where pid = {connection.ProcessID})"))!,
            "the session has ended");
        var @lock = new Lock(connection, Key, Drivers.Interface(driver)) { Transaction = transaction };
        var error = await Assert.ThrowsAsync<LockNotAcquiredException>(
            async () => _ = async ? await @lock.AcquireAsync(block: false) : @lock.Acquire(block: false));
        Assert.Equal("25P03", Assert.IsType<PostgresException>(error.InnerException).SqlState);
    }

    private static async Task<(object? Before, string Kept)> BeforeAsync(NpgsqlDataSource source)
    {
        await using var connection = await source.OpenConnectionAsync();
        await connection.ExecuteAsync("set tcp_keepalives_idle = 99; set idle_in_transaction_session_timeout = '99s'");
        var isOld = connection.PostgreSqlVersion.Major < 14;
        var hasTransactionTimeout = connection.PostgreSqlVersion.Major >= 17;
        if (hasTransactionTimeout)
        {
            await connection.ExecuteAsync("set transaction_timeout = '99s'");
        }

        return (await connection.ExecuteAsync(Settings), $"{(isOld ? "" : "client_connection_check_interval=1s ")}idle_in_transaction_session_timeout=0 {(isOld ? "" : "idle_session_timeout=0 ")}"
            + "tcp_keepalives_count=2 tcp_keepalives_idle=10 tcp_keepalives_interval=5 tcp_user_timeout=20000"
            + (hasTransactionTimeout ? " transaction_timeout=0" : ""));
    }

    // What is left on the connection is seen by its next user.
    private async Task<NpgsqlDataSource> OneConnectionAsync() =>
        NpgsqlDataSource.Create($"{(await PostgreSqlTestServer.ServerAsync).ConnectionString};Maximum Pool Size=1;No Reset On Close=true;Application Name={Name}");
}
