using System.Globalization;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests.Cli;

/// <summary><c>dblock run</c> on PostgreSQL.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class RunTests() : RunContract(CliServer.PostgreSql)
{
    [Fact]
    public async Task Shared_holders_are_together_and_keep_others_out()
    {
        await using var first = await DblockProcess.StartAsync("run", "--shared", Key, "--", "sh", "-c", "echo started; read x");
        await first.UntilAsync("started");
        Assert.Equal(0, (await DblockProcess.RunAsync("run", "-ns", Key, "--", "true")).ExitCode);
        Assert.Equal(75, (await DblockProcess.RunAsync("run", "-n", Key, "--", "true")).ExitCode);
    }

    [Fact]
    public async Task In_a_terminal_the_command_has_it_and_gets_each_Ctrl_C_once()
    {
        await using var dblock = await DblockProcess.StartInTerminalAsync(
            "run", Key, "--", "sh", "-c", "test -t 0 && test -t 1 && echo terminal; n=0; trap 'n=$((n+1)); echo caught $n' INT; echo ready; until read x; do :; done; echo done $n; exit 5");
        await dblock.UntilAsync("ready");
        await dblock.TypeAsync("\u0003");
        await dblock.UntilAsync("caught 1");
        await dblock.TypeAsync("\u0003");
        await dblock.UntilAsync("caught 2");
        await dblock.TypeAsync("a\n");
        Assert.Equal(5, await dblock.ExitAsync());
        Assert.Contains("terminal", dblock.Output, StringComparison.Ordinal);
        Assert.Contains("done 2", dblock.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("caught 3", dblock.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task In_a_terminal_Ctrl_C_ends_a_wait()
    {
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var held = new Lock(holder, Key);
        Assert.True(await held.AcquireAsync());
        await using var dblock = await DblockProcess.StartInTerminalAsync("run", "-v", Key, "--", "echo", "ran");
        await dblock.UntilAsync("waiting");
        await dblock.TypeAsync("\u0003");
        Assert.Equal(130, await dblock.ExitAsync());
    }

    [Fact]
    public async Task A_loss_that_cannot_be_told_stops_the_command_all_the_same()
    {
        var running = DblockProcess.ShellAsync($"'{DblockProcess.Program}' run {Key} -- sh -c 'echo $$ >{Folder}/shell; echo $DBLOCK_PID >{Folder}/pid; exec sleep 1000' 2>/dev/full; echo $?");
        await TestServer.UntilAsync(() => Task.FromResult(File.Exists($"{Folder}/pid") && File.ReadAllText($"{Folder}/pid").EndsWith('\n')), "the command runs");
        await using var administrator = await PostgreSqlTestServer.OpenNpgsqlAsync();
        await administrator.ExecuteAsync($"select pg_terminate_backend({await File.ReadAllTextAsync($"{Folder}/pid")})");
        Assert.Equal("74\n", (await running).Output);
        await AssertEndedAsync(await File.ReadAllTextAsync($"{Folder}/shell"));
    }

    [Fact]
    public async Task Timeouts_of_the_role_do_not_cut_the_wait_nor_the_hold()
    {
        var role = "impatient_" + Guid.NewGuid().ToString("N");
        var right = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        await using var administrator = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await administrator.ExecuteAsync($"create role {role} login password 'impatient'; alter role {role} set statement_timeout = '1s'");
        if (administrator.PostgreSqlVersion.Major >= 14)
        {
            await administrator.ExecuteAsync($"alter role {role} set idle_session_timeout = '1s'");
        }

        await using (var held = new Lock(administrator, Key))
        {
            Assert.True(await held.AcquireAsync());
            await using var dblock = DblockProcess.Start(
                [("DBLOCK_CONNECTION", new NpgsqlConnectionStringBuilder(right.ConnectionString) { Username = role, Password = "impatient" }.ConnectionString)],
                "run", "-v", Key, "--", "sh", "-c", "echo started; sleep 1.5; exit 8");
            await dblock.UntilAsync("waiting");
            await administrator.ExecuteAsync("select pg_sleep(1.5)");
            Assert.True(await held.ReleaseAsync());
            Assert.Equal(8, await dblock.ExitAsync());
        }

        await administrator.ExecuteAsync($"drop role {role}");
    }

    [Fact]
    public async Task Who_is_killed_while_it_waits_leaves_the_queue()
    {
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        if (holder.PostgreSqlVersion.Major < 14)
        {
            return;
        }

        await using var held = new Lock(holder, Key);
        Assert.True(await held.AcquireAsync());
        await using var dblock = await DblockProcess.StartAsync("run", "-v", Key, "--", "true");
        await dblock.UntilAsync("waiting");
        await TestServer.UntilAsync(async () => (await held.GetHoldersAsync()).Waiting == 1, "it waits");
        await dblock.SignalAsync("KILL");
        await TestServer.UntilAsync(async () => (await held.GetHoldersAsync()).Waiting == 0, "nobody waits");
    }

    [Fact]
    public async Task A_server_that_goes_away_ends_the_command()
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();
        await using var dblock = DblockProcess.Start([("DBLOCK_CONNECTION", server.ConnectionString)], "run", Key, "--", "sh", "-c", "echo started; exec sleep 1000");
        await dblock.UntilAsync("started");
        await server.DisposeAsync();
        Assert.Equal(74, await dblock.ExitAsync());
    }

    [Fact]
    public async Task Commands_that_cannot_run_take_no_lock()
    {
        var file = Path.Combine(Folder, "text");
        await File.WriteAllTextAsync(file, "no program");
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var held = new Lock(holder, Key);
        Assert.True(await held.AcquireAsync());
        var (code, _, error) = await DblockProcess.RunAsync("run", Key, "--", "there-is-no-such-command");
        Assert.Equal((127, "dblock: there-is-no-such-command: there is no such command\n"), (code, error));
        Assert.Equal(127, (await DblockProcess.RunAsync("run", Key, "--", "./there/is/none")).ExitCode);
        Assert.Equal(126, (await DblockProcess.RunAsync("run", Key, "--", file)).ExitCode);
        Assert.Equal(126, (await DblockProcess.RunAsync("run", Key, "--", Folder)).ExitCode);
    }

    [Fact]
    public async Task A_command_of_the_current_folder_is_not_run_unless_it_is_named_so()
    {
        var file = Path.Combine(Folder, "true");
        await File.WriteAllTextAsync(file, "#!/bin/sh\nexit 9\n");
        File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserExecute | UnixFileMode.UserWrite);
        Assert.Equal("0 9\n", (await DblockProcess.ShellAsync($"cd {Folder}; '{DblockProcess.Program}' run {Key} -- true; a=$?; '{DblockProcess.Program}' run {Key} -- ./true; echo $a $?")).Output);
    }

    [Fact]
    public async Task No_connection_is_told_without_a_secret_or_a_stack_trace()
    {
        var right = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        var url = $"postgres://{right.Username}:hush%2Dhush@{right.Host}:{right.Port}/{right.Database}";
        foreach (var (connection, text) in new[]
        {
            (url, "password authentication failed"),
            (new NpgsqlConnectionStringBuilder(right.ConnectionString) { Password = "hush-hush" }.ConnectionString, "password authentication failed"),
            (url.Replace($":{right.Port}/", ":1/", StringComparison.Ordinal), "no connection to"),
            (url.Replace(right.Host!, "there.is.no.such.host.invalid", StringComparison.Ordinal), "there.is.no.such.host.invalid"),
        })
        {
            var (code, output, error) = await DblockProcess.RunAsync([], "run", "-c", connection, Key, "--", "echo", "ran");
            Assert.Equal((69, ""), (code, output));
            Assert.Contains(text, error, StringComparison.Ordinal);
            Assert.DoesNotContain("hush", error, StringComparison.Ordinal);
            Assert.DoesNotContain("   at ", error, StringComparison.Ordinal);
            Assert.Single(error.TrimEnd('\n').Split('\n'));
        }

        foreach (var malformed in new[] { "postgres://u:hush@[x/", "Host=x;Password=hush;Nonsense=hush", "postgres://u:hush@h/d?nonsense=hush", "postgres://u:hush@h/d?port=hush", "host=127.0.0.1 port=1 password=hush" })
        {
            var (code, _, error) = await DblockProcess.RunAsync([], "run", "-c", malformed, Key, "--", "true");
            Assert.Equal(64, code);
            Assert.DoesNotContain("hush", error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task The_database_is_found_in_each_of_the_usual_places()
    {
        var right = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        var port = right.Port.ToString(CultureInfo.InvariantCulture);
        var passwords = Path.Combine(Folder, "pgpass");
        await File.WriteAllTextAsync(passwords, $"{right.Host}:{port}:*:{right.Username}:{right.Password}\n");
        File.SetUnixFileMode(passwords, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        var url = $"postgresql://{right.Username}:{Uri.EscapeDataString(right.Password!)}@{right.Host}:{port}/{right.Database}?application_name=named&connect_timeout=5&sslmode=disable";
        (string, string?)[] variables = [("PGHOST", right.Host), ("PGPORT", port), ("PGUSER", right.Username), ("PGDATABASE", right.Database)];
        foreach (var (environment, arguments) in new ((string, string?)[], string[])[]
        {
            ([("DBLOCK_CONNECTION", right.ConnectionString)], []),
            ([("DBLOCK_CONNECTION", url)], []),
            ([("DBLOCK_CONNECTION", "Host=nowhere.invalid")], ["--connection", url]),
            ([.. variables, ("PGPASSWORD", right.Password), ("PGSSLMODE", "disable")], []),
            ([.. variables, ("PGPASSFILE", passwords)], []),
            ([.. variables, ("PGPASSWORD", right.Password), ("PGHOST", "nowhere.invalid")], ["-c", $"Host={right.Host}"]),
            ([], ["-c", $"{url}&channel_binding=prefer&keepalives=1&target_session_attrs=read-write"]),
            ([], ["-c", url.Replace($"@{right.Host}:{port}", $"@{right.Host}:1,{right.Host}:{port}", StringComparison.Ordinal) + "&target_session_attrs=primary"]),
        })
        {
            var (code, output, error) = await DblockProcess.RunAsync(environment, ["run", .. arguments, Key, "--", "echo", "ran"]);
            Assert.Equal((0, "ran\n", ""), (code, output, error));
        }
    }

    [Fact]
    public async Task Wrong_usage_is_64_and_says_what_is_right()
    {
        foreach (var (arguments, text) in new (string[], string)[]
        {
            ([], ""), (["run"], "run --help"), (["run", Key], "run --help"), (["run", "-n", "-t", "1s", Key, "--", "true"], "exclude each other"),
            (["run", "-t", "soon", Key, "--", "true"], "30s"), (["run", "-t", "-1s", Key, "--", "true"], "30s"), (["run", "-t", "100d", Key, "--", "true"], "24 days"),
            (["run", "-E", "256", Key, "--", "true"], "0 to 255"), (["run", "--on-lost", "panic", Key, "--", "true"], "terminate"),
            (["run", "--key-scheme", "number", "abc", "--", "true"], "number"), (["run", "--key-scheme", "pair", "1", "--", "true"], "pair"),
            (["run", "--nonsense", Key, "--", "true"], "--nonsense"), (["run", Key, "ls", "-s"], "--"), (["run", "--grace", "2d", Key, "--", "true"], "1d"), (["nonsense"], "nonsense"), (["watch", "nonsense"], "blocked"),
        })
        {
            var (code, _, error) = await DblockProcess.RunAsync(arguments);
            Assert.True(code == 64, string.Join(' ', arguments));
            Assert.Contains(text, error, StringComparison.Ordinal);
            Assert.DoesNotContain("   at ", error, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("django-pglock", "my_lock_id", -3531142854575798568)]
    [InlineData("number", "-42", -42)]
    [InlineData("sqlx", "my-lock", -7577905956304869515)]
    public async Task The_scheme_says_which_number_is_locked(string scheme, string key, long number)
    {
        var (code, output, _) = await DblockProcess.RunAsync("run", "--key-scheme", scheme, "--", key, "sh", "-c", "echo $DBLOCK_KEY");
        Assert.Equal((0, number.ToString(CultureInfo.InvariantCulture) + "\n"), (code, output));
    }

    [Fact]
    public async Task A_pooler_and_a_standby_are_refused()
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();
        await using var pooler = await PgBouncer.StartAsync(server, "session");
        var (code, _, error) = await DblockProcess.RunAsync([], "run", "-c", pooler.ConnectionString, Key, "--", "true");
        Assert.Equal(69, code);
        Assert.Contains("pooler", error, StringComparison.Ordinal);
        Assert.Equal(0, (await DblockProcess.RunAsync([], "run", "--trust-pooler", "-c", pooler.ConnectionString, Key, "--", "true")).ExitCode);
        await using var standby = await server.StartStandbyAsync();
        Assert.Equal(69, (await DblockProcess.RunAsync([], "run", "-c", standby.ConnectionString, Key, "--", "true")).ExitCode);
    }

    [Fact]
    public async Task A_session_that_may_be_a_poolers_has_no_keepalives_of_dblocks()
    {
        const string keepalives = "select string_agg(name || '=' || current_setting(name), ' ' order by name) from pg_settings where name like 'tcp_%' or name = 'client_connection_check_interval'";
        await using var pooler = await PgBouncer.StartAsync(await PostgreSqlTestServer.ServerAsync, "transaction", poolSize: 1);
        await using var source = NpgsqlDataSource.Create(pooler.ConnectionString);
        await using var connection = await source.OpenConnectionAsync();
        await connection.ExecuteAsync("set statement_timeout = '99s'");
        var before = await connection.ExecuteAsync(keepalives);
        var (pooled, _, _) = await DblockProcess.RunAsync([], "run", "-c", pooler.ConnectionString, Key, "--", "true");
        Assert.Equal((69, "99s"), (pooled, await connection.ExecuteAsync("select current_setting('statement_timeout')")));

        // Told to trust, wrongly here, so that what it has set can be seen.
        var (trusted, _, _) = await DblockProcess.RunAsync([], "run", "--trust-pooler", "-c", pooler.ConnectionString, Key, "--", "true");
        Assert.Equal((0, "0"), (trusted, await connection.ExecuteAsync("select current_setting('statement_timeout')")));
        Assert.Equal(before, await connection.ExecuteAsync(keepalives));
    }
}
