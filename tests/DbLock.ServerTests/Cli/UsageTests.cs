using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Npgsql;

namespace DbLock.ServerTests.Cli;

/// <summary>What <c>dblock</c> says of a command line that makes no sense, and where it looks for the database.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class UsageTests : IDisposable
{
    private string Key { get; } = "usage:" + Guid.NewGuid().ToString("N");

    private string Folder { get; } = Directory.CreateTempSubdirectory("dblock-usage-").FullName;

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    [Theory]
    [InlineData("lst", "there is no command lst (did you mean list?): write run, list, blocked, watch, cancel, terminate, key, doctor, lease-table or completion")]
    [InlineData("run", "KEY and COMMAND are missing: write dblock run [options] KEY -- COMMAND")]
    [InlineData("run x", "COMMAND is missing: write dblock run [options] KEY -- COMMAND")]
    [InlineData("run --nonblok x -- true", "there is no option --nonblok (did you mean --nonblock?)")]
    [InlineData("run -E x k -- true", "--conflict-exit-code takes a whole number, and 'x' is none")]
    [InlineData("run --on-lost stop k -- true", "--on-lost cannot be 'stop': write ignore, kill or terminate")]
    [InlineData("run -t soon k -- true", "--timeout: 'soon' is no duration: write 30s,")]
    [InlineData("run -t 1 -t 2 k -- true", "--timeout is given 2 times: give it once")]
    [InlineData("watch --interval", "--interval lacks its value: write --interval DURATION")]
    [InlineData("list --pid abc", "--pid takes a whole number, and 'abc' is none")]
    [InlineData("list --mode exlusive", "--mode cannot be 'exlusive' (did you mean Exclusive?): write AccessExclusive, AccessShare,")]
    [InlineData("list -o xml", "--output cannot be 'xml': write csv, json or table")]
    [InlineData("list --key-scheme sqly --key a", "--key-scheme cannot be 'sqly' (did you mean sqlx?): write ")]
    [InlineData("list --state idel", "--state cannot be 'idel' (did you mean idle?): write active, idle, ")]
    [InlineData("list --type avisory", "--type cannot be 'avisory' (did you mean advisory?): write ")]
    [InlineData("list foo", "dblock list does not take 'foo': it takes options alone")]
    [InlineData("list --kye a", "there is no option --kye (did you mean --key?)")]
    [InlineData("list postgres://u:hush@h/d", "dblock list takes the address of the database after --connection")]
    [InlineData("watch blokked", "WHAT cannot be 'blokked' (did you mean blocked?): write blocked or list")]
    [InlineData("watch --count 1.5", "--count takes a whole number, and '1.5' is none")]
    [InlineData("cancel 12a", "PID takes whole numbers, and '12a' is none")]
    [InlineData("cancel --max many 1", "--max takes a whole number, and 'many' is none")]
    [InlineData("terminate --blockin", "there is no option --blockin (did you mean --blocking?)")]
    [InlineData("key", "NAME is missing: write dblock key NAME")]
    [InlineData("key ", "the KEY is empty")]
    [InlineData("run  -- true", "the KEY is empty")]
    [InlineData("list --key ", "the KEY is empty")]
    [InlineData("list -c sqlite:x.db --key ", "the KEY is empty")]
    [InlineData("key --ouput json", "there is no option --ouput (did you mean --output?)")]
    [InlineData("completion bsh", "SHELL cannot be 'bsh' (did you mean bash?): write bash, fish or zsh")]
    public async Task A_wrong_line_is_told_with_its_argument_the_choices_and_what_was_probably_meant(string line, string text)
    {
        var (code, output, error) = await DblockProcess.RunAsync([], line.Split(' '));
        Assert.Equal((64, ""), (code, output));
        Assert.StartsWith("dblock: " + text, error, StringComparison.Ordinal);
        Assert.InRange(error.TrimEnd().Split('\n').Length, 1, 2);
        Assert.DoesNotContain("System.", error, StringComparison.Ordinal);
        Assert.DoesNotContain("hush", error, StringComparison.Ordinal);
        Assert.DoesNotContain('\uFFFD', error);
    }

    [Theory]
    [InlineData("--blocking --waiting", "--blocking means locks that are held, --waiting locks that are waited for")]
    [InlineData("--blocking --min-wait 1s", "--blocking means locks that are held, --min-wait locks that are waited for")]
    [InlineData("--granted --min-wait 1s", "--granted means locks that are held")]
    [InlineData("--granted --waiting", "leave both out")]
    [InlineData("--key a --relation b", "a lock is on a key or on a table")]
    [InlineData("--key a --type relation", "of type advisory")]
    [InlineData("--relation a --type advisory", "of type relation")]
    [InlineData("--key a --mode AccessShare", "advisory locks are Exclusive or Share")]
    [InlineData("--type advisory --mode RowExclusive", "advisory locks are Exclusive or Share")]
    [InlineData("--waiting --mode SIRead", "nobody waits for such a lock")]
    [InlineData("--blocking --mode SIRead", "nobody waits for such a lock")]
    [InlineData("--waiting --state idle", "a session that waits for a lock is active")]
    [InlineData("--min-wait 1s --state=idle", "a session that waits for a lock is active")]
    [InlineData("--state idle --min-transaction-age 1s", "has no transaction")]
    [InlineData("--pid 0", "no process id")]
    [InlineData("--relation a --database elsewhere", "in the connection's own database alone")]
    [InlineData("--user 0123456789012345678901234567890123456789012345678901234567890123456789", "no more of one")]
    public async Task What_can_never_match_is_refused_in_place_of_an_empty_answer(string filter, string text)
    {
        foreach (var command in new[] { "list", "blocked", "watch --count 1", "cancel --yes", "terminate --yes" })
        {
            var (code, output, error) = await DblockProcess.RunAsync([.. command.Split(' '), .. filter.Split(' ')]);
            Assert.Equal((64, ""), (code, output));
            Assert.Contains(text, error, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("prefer"), InlineData("require"), InlineData("disable")]
    public async Task Another_engines_port_is_named_as_that(string sslMode)
    {
        var client = new System.Data.Common.DbConnectionStringBuilder { ConnectionString = (await MariaDbTestServer.ServerAsync).ConnectionString };
        var port = Convert.ToInt32(client["Port"], CultureInfo.InvariantCulture);
        using var sqlServer = new TcpListener(IPAddress.Loopback, 0);
        sqlServer.Start();
        using var stop = new CancellationTokenSource();
        var answering = AnswerPreLoginAsync(sqlServer, stop.Token);
        foreach (var (at, name) in new[] { (port, "MariaDB"), (((IPEndPoint)sqlServer.LocalEndpoint).Port, "SQL Server") })
        {
            var (code, _, error) = await DblockProcess.RunAsync([], "list", "-c", $"postgres://u:hush@127.0.0.1:{at.ToString(CultureInfo.InvariantCulture)}/d?sslmode={sslMode}");
            Assert.Equal(69, code);
            Assert.Contains($"{name} answers there", error, StringComparison.Ordinal);
            Assert.DoesNotContain("hush", error, StringComparison.Ordinal);
        }

        await stop.CancelAsync();
        await answering;
    }

    [Fact]
    public async Task The_database_is_the_one_that_psql_finds()
    {
        var right = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString);
        var port = right.Port.ToString(CultureInfo.InvariantCulture);
        await using var sessions = new Sessions();
        var holder = await sessions.OpenAsync();
        await holder.ExecuteAsync($"select pg_advisory_lock({((LockKey)Key).Number.ToString(CultureInfo.InvariantCulture)})");
        var service = $"# of the tests\n[other]\nhost=nowhere.invalid\n\n[mine]\nhost={right.Host}\nport={port}\n  user={right.Username}\npassword={right.Password}\ndbname={right.Database}\n[mine]\nport=1\n";
        await File.WriteAllTextAsync(Path.Combine(Folder, "services"), service);
        Directory.CreateDirectory(Path.Combine(Folder, "home"));
        Directory.CreateDirectory(Path.Combine(Folder, "etc"));
        await File.WriteAllTextAsync(Path.Combine(Folder, "home", ".pg_service.conf"), service);
        await File.WriteAllTextAsync(Path.Combine(Folder, "etc", "pg_service.conf"), service);
        var passwords = Path.Combine(Folder, "pgpass");
        await File.WriteAllTextAsync(passwords, $"elsewhere:*:*:*:wrong\nnamed.invalid:{port}:*:{right.Username}:{right.Password!.Replace("\\", "\\\\", StringComparison.Ordinal).Replace(":", "\\:", StringComparison.Ordinal)}\n");
        File.SetUnixFileMode(passwords, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        var open = Path.Combine(Folder, "pgpass-open");
        File.Copy(passwords, open);
        File.SetUnixFileMode(open, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
        var refused = await DblockProcess.RunAsync([("PGPASSFILE", open), ("PGUSER", right.Username), ("PGDATABASE", right.Database), ("PGHOST", "named.invalid"), ("PGHOSTADDR", right.Host), ("PGPORT", port)], "list");
        Assert.Equal(69, refused.ExitCode);
        Assert.Contains($"chmod 600 {open}", refused.Error, StringComparison.Ordinal);
        (string, string?)[] user = [("PGUSER", right.Username), ("PGDATABASE", right.Database)];
        (string, string?)[] all = [.. user, ("PGPASSWORD", right.Password)];
        var url = $"{right.Username}:{Uri.EscapeDataString(right.Password)}@";
        foreach (var (environment, arguments) in new ((string, string?)[], string[])[]
        {
            ([("PGSERVICE", "mine"), ("PGSERVICEFILE", Path.Combine(Folder, "services"))], []),
            ([("PGSERVICE", "mine"), ("HOME", Path.Combine(Folder, "home"))], []),
            ([("PGSERVICE", "mine"), ("HOME", Folder), ("PGSYSCONFDIR", Path.Combine(Folder, "etc"))], []),

            // A service comes before the variables.
            ([("PGSERVICE", "mine"), ("HOME", Path.Combine(Folder, "home")), ("PGHOST", "nowhere.invalid"), ("PGPORT", "1")], []),
            ([("HOME", Path.Combine(Folder, "home"))], ["-c", "postgres:///?service=mine"]),
            ([.. all, ("PGHOST", "nowhere.invalid"), ("PGHOSTADDR", right.Host), ("PGPORT", port)], []),
            ([.. user, ("PGHOST", "named.invalid"), ("PGHOSTADDR", right.Host), ("PGPORT", port), ("PGPASSFILE", passwords)], []),
            ([.. all, ("PGHOST", $"{right.Host},{right.Host}"), ("PGPORT", $"1,{port}")], []),
            ([.. all, ("PGHOST", $"::1,{right.Host}"), ("PGPORT", port)], []),
            ([.. all, ("PGHOST", right.Host), ("PGPORT", port), ("PGCLIENTENCODING", "LATIN1"), ("PGCONNECT_TIMEOUT", "-1"), ("PGTARGETSESSIONATTRS", "read-write")], []),
            ([], ["-c", $"PostgreSQL://{url}{right.Host}:{port}/{right.Database}"]),
            ([], ["-c", $"postgres://{url}{right.Host}:1,{right.Host}:{port}/{right.Database}?target_session_attrs=any&load_balance_hosts=disable"]),
            ([], ["-c", $"postgres://{url}{right.Host},{right.Host}/{right.Database}?port={port}"]),
            ([], ["-c", $"postgres://{url}/{right.Database}?host={right.Host}&port={port}"]),
            ([], ["-c", $"postgres://{url}nowhere.invalid:{port}/{right.Database}?hostaddr={right.Host}"]),
        })
        {
            var (code, output, error) = await DblockProcess.RunAsync(environment, ["list", "--key", Key, .. arguments]);
            Assert.Equal((0, ""), (code, error));
            Assert.Contains($"\n{holder.ProcessID} ", output, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("PGSERVICE=none", "PGSERVICE asks for the service 'none'")]
    [InlineData("PGSSLCRL=/x", "PGSSLCRL"), InlineData("PGSSLCRLDIR=/x", "PGSSLCRLDIR"), InlineData("PGREQUIREPEER=postgres", "PGREQUIREPEER"), InlineData("PGSSLCERTMODE=require", "PGSSLCERTMODE")]
    [InlineData("PGSSLMINPROTOCOLVERSION=TLSv1.3", "PGSSLMINPROTOCOLVERSION"), InlineData("PGSSLROOTCERT=system", "PGSSLROOTCERT"), InlineData("PGSSLMODE=nonsense", "PGSSLMODE")]
    [InlineData("PGHOST=a,b PGPORT=1,2,3", "PGPORT has 3 ports for 2 hosts"), InlineData("PGHOST=a,b PGHOSTADDR=127.0.0.1", "PGHOSTADDR"), InlineData("PGPORT=x", "PGPORT")]
    [InlineData("PGHOST=a PGHOSTADDR=127.0.0.1 PGSSLMODE=verify-full", "PGHOSTADDR")]
    public async Task What_psql_would_heed_and_dblock_cannot_is_refused_by_name(string variables, string text)
    {
        var environment = variables.Split(' ').Select(pair => (pair.Split('=')[0], (string?)pair.Split('=')[1]));
        var (code, _, error) = await DblockProcess.RunAsync(environment, "list");
        Assert.Equal(64, code);
        Assert.Contains(text, error, StringComparison.Ordinal);
    }

    // What a SQL Server does: nothing until it is asked in its own way, and the end for all else.
    private static async Task AnswerPreLoginAsync(TcpListener listener, CancellationToken cancellationToken)
    {
        try
        {
            while (true)
            {
                using var client = await listener.AcceptTcpClientAsync(cancellationToken);
                var question = new byte[64];
                if (await client.GetStream().ReadAsync(question, cancellationToken) > 0 && question[0] == 0x12)
                {
                    await client.GetStream().WriteAsync(new byte[] { 4, 1, 0, 8, 0, 0, 1, 0 }, cancellationToken);
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The test is over.
        }
    }
}
