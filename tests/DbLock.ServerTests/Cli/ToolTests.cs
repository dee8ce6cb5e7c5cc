using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests.Cli;

/// <summary>What <c>dblock</c> shows, and what it clears.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class ToolTests : IDisposable
{
    private string Unique { get; } = Guid.NewGuid().ToString("N");

    private string Key => "tool:" + Unique;

    private long Number => ((LockKey)Key).Number;

    private string App => "app_" + Unique;

    private string Folder { get; } = Directory.CreateTempSubdirectory("dblock-cli-").FullName;

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    [Fact]
    public async Task Locks_are_listed_for_people_and_for_programs()
    {
        await using var sessions = new Sessions();
        var holder = await sessions.OpenAsync($"Application Name={App}");
        await holder.ExecuteAsync($"select pg_advisory_lock({Number}), 'a,\"b\n'");
        var waiter = await sessions.OpenWaitingAsync($"select pg_advisory_lock_shared({Number})");
        using (var json = JsonDocument.Parse(await OutputAsync("list", "--key", Key, "--output", "json")))
        {
            Assert.Equal(2, json.RootElement.GetArrayLength());
            var (waiting, held) = (json.RootElement[0], json.RootElement[1]);
            Assert.Equal((waiter.ProcessID, false, "Share"), (waiting.GetProperty("pid").GetInt32(), waiting.GetProperty("granted").GetBoolean(), waiting.GetProperty("mode").GetString()));
            Assert.Equal((holder.ProcessID, true, "Exclusive"), (held.GetProperty("pid").GetInt32(), held.GetProperty("granted").GetBoolean(), held.GetProperty("mode").GetString()));
            Assert.Equal((Key, App, "postgres", "idle"), (held.GetProperty("key").GetString(), held.GetProperty("application").GetString(), held.GetProperty("database").GetString(), held.GetProperty("state").GetString()));
            Assert.Equal($"select pg_advisory_lock({Number}), 'a,\"b\n'", held.GetProperty("query").GetString());
            Assert.Equal(JsonValueKind.Null, held.GetProperty("wait_s").ValueKind);
            Assert.Equal(((LockKey)Key).ToPgLocks().ClassId, held.GetProperty("classid").GetUInt32());
        }

        var csv = await OutputAsync("list", "-k", Key, "--granted", "-o", "csv");
        Assert.StartsWith("pid,database,type,object,mode,granted,wait_s,user,application,client,state,", csv, StringComparison.Ordinal);
        Assert.Contains("\"select pg_advisory_lock(" + Number.ToString(CultureInfo.InvariantCulture) + "), 'a,\"\"b\n'\"", csv, StringComparison.Ordinal);
        Assert.StartsWith($"{holder.ProcessID},postgres,advisory,{Key},Exclusive,true,,postgres,{App},", csv.Split("\r\n")[1], StringComparison.Ordinal);

        var table = (await OutputAsync("list", "--key", Key, "--waiting")).TrimEnd('\n').Split('\n');
        Assert.Equal(2, table.Length);
        Assert.Matches(@"^pid +database +type +object +mode +granted +wait_s +user +application +state +state_s +query$", table[0]);
        Assert.Matches($@"^{waiter.ProcessID} +postgres +advisory +{Key} +Share +false ", table[1]);
        Assert.DoesNotContain("\u001b", table[1], StringComparison.Ordinal);

        // By number, with the name that is told.
        Assert.Contains($" {Key} ", await OutputAsync("list", "--pid", $"{holder.ProcessID}", "--name", Key), StringComparison.Ordinal);
        Assert.DoesNotContain($" {Key} ", await OutputAsync("list", "--pid", $"{holder.ProcessID}"), StringComparison.Ordinal);
        Assert.Contains($" {Number} ", await OutputAsync("list", "-a", App, "--key-scheme", "number", "-k", $"{Number}"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Nothing_found_is_an_empty_list_and_no_failure()
    {
        Assert.Equal("[]\n", await OutputAsync("list", "--key", Key, "-o", "json"));
        Assert.Single((await OutputAsync("list", "--key", Key, "-o", "csv")).TrimEnd().Split('\n'));
        Assert.Single((await OutputAsync("list", "--key", Key)).TrimEnd().Split('\n'));
        Assert.Equal("[]\n", await OutputAsync("blocked", "--key", Key, "-o", "json"));
        Assert.Equal("", await OutputAsync("blocked", "--key", Key));
        Assert.Contains("Nothing matches", await OutputAsync("terminate", "--key", Key, "--yes"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Who_waits_for_whom_is_a_tree()
    {
        await using var sessions = new Sessions();
        var holder = await sessions.OpenAsync($"Application Name={App}");
        await holder.ExecuteAsync($"create table t_{Unique} (n int)");
        await holder.ExecuteAsync($"begin; select * from t_{Unique}");
        var alter = await sessions.OpenWaitingAsync($"alter table t_{Unique} add m int");
        var reader = await sessions.OpenWaitingAsync($"select * from t_{Unique}");
        var tree = (await OutputAsync("blocked", "--relation", $"public.t_{Unique}")).Split('\n');
        Assert.StartsWith($"pid {holder.ProcessID} (application '{App}'", tree[0], StringComparison.Ordinal);
        Assert.StartsWith($"  pid {alter.ProcessID} ", tree[1], StringComparison.Ordinal);
        Assert.StartsWith($"    pid {reader.ProcessID} ", tree[2], StringComparison.Ordinal);
        using (var json = JsonDocument.Parse(await OutputAsync("blocked", "-r", $"t_{Unique}", "-o", "json")))
        {
            var root = json.RootElement.EnumerateArray().Single();
            var middle = root.GetProperty("waiters").EnumerateArray().Single();
            Assert.Equal((holder.ProcessID, "idle in transaction"), (root.GetProperty("pid").GetInt32(), root.GetProperty("state").GetString()));
            Assert.Equal((alter.ProcessID, $"public.t_{Unique}", "AccessExclusive"),
                (middle.GetProperty("pid").GetInt32(), middle.GetProperty("waits_for_object").GetString(), middle.GetProperty("waits_for_mode").GetString()));
            Assert.Equal(reader.ProcessID, middle.GetProperty("waiters").EnumerateArray().Single().GetProperty("pid").GetInt32());
        }

        var edges = (await OutputAsync("blocked", "-r", $"t_{Unique}", "-o", "csv")).TrimEnd().Split("\r\n")[1..];
        Assert.Contains(edges, edge => edge.StartsWith($"{alter.ProcessID},{holder.ProcessID},true,relation,public.t_{Unique},AccessExclusive,", StringComparison.Ordinal));
        Assert.Contains(edges, edge => edge.StartsWith($"{reader.ProcessID},{alter.ProcessID},false,relation,", StringComparison.Ordinal));
        Assert.Equal(2, edges.Length);

        // Live, and on a terminal.
        var watched = await OutputAsync("watch", "--count", "2", "--interval", "100ms", "-r", $"t_{Unique}");
        Assert.Equal(2, watched.Split($"pid {holder.ProcessID} ").Length - 1);
        Assert.DoesNotContain("\u001b", watched, StringComparison.Ordinal);
        Assert.Contains($"\n{alter.ProcessID} ", await OutputAsync("watch", "list", "--count", "1", "--waiting", "-r", $"t_{Unique}"), StringComparison.Ordinal);
        await using var terminal = await DblockProcess.StartInTerminalAsync("watch", "-i", "100ms", "-r", $"t_{Unique}");
        await terminal.UntilAsync($"pid {reader.ProcessID} ");
        await terminal.UntilAsync("└──");
        await terminal.TypeAsync("\u0003");
        Assert.Equal(130, await terminal.ExitAsync());
        await using var listed = await DblockProcess.StartInTerminalAsync("list", "-r", $"t_{Unique}");
        Assert.Equal(0, await listed.ExitAsync());
        Assert.Contains("\u001b[", listed.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Sessions_are_ended_by_process_or_filter_after_a_look_and_a_question()
    {
        await using var sessions = await StartAsync();
        var holder = await HoldAsync(sessions);
        var pid = $"{holder.ProcessID}";

        // Only a look, or no answer: nothing happens.
        var (code, output, _) = await DblockProcess.RunAsync("terminate", pid, "--dry-run");
        Assert.Equal(0, code);
        Assert.Equal(1, (await DblockProcess.RunAsync("terminate", pid, "--dry-run", "--except-user", App)).ExitCode);
        Assert.Matches($@"{pid} +{App} +{App} .* Planned", output);
        var (asked, _, error) = await DblockProcess.RunAsync("terminate", pid);
        Assert.Equal(64, asked);
        Assert.Contains("--yes", error, StringComparison.Ordinal);
        Assert.Equal(64, (await DblockProcess.RunAsync("terminate", "--yes")).ExitCode);
        Assert.Equal(64, (await DblockProcess.RunAsync("cancel", "--name", Key, "--yes")).ExitCode);
        await using (var no = await DblockProcess.StartInTerminalAsync("terminate", pid))
        {
            await no.UntilAsync("Terminate 1 session? (y/N)");
            await no.TypeAsync("n\n");
            Assert.Equal(1, await no.ExitAsync());
            Assert.Contains("nothing was done", no.Output, StringComparison.Ordinal);
        }

        // A cancel does not reach who is idle.
        Assert.Equal(1, (await DblockProcess.RunAsync("cancel", pid, "--yes", "--grace", "50ms")).ExitCode);
        Assert.Equal(1, await holder.ExecuteAsync("select 1"));
        Assert.Equal(1, (await DblockProcess.RunAsync("terminate", pid, "--yes", "--except-user", App)).ExitCode);
        Assert.Equal(1, (await DblockProcess.RunAsync("terminate", pid, "--yes", "--max", "0")).ExitCode);
        Assert.Equal(1, await holder.ExecuteAsync("select 1"));
        await using (var yes = await DblockProcess.StartInTerminalAsync("terminate", pid))
        {
            await yes.UntilAsync("Terminate 1 session? (y/N)");
            await yes.TypeAsync("y\n");
            Assert.Equal(0, await yes.ExitAsync());
            Assert.Contains("Ended", yes.Output, StringComparison.Ordinal);
        }

        Assert.Equal("57P01", (await Assert.ThrowsAsync<PostgresException>(() => holder.ExecuteAsync("select 1"))).SqlState);
        var second = await HoldAsync(sessions);
        using var json = JsonDocument.Parse(await OutputAsync("cancel", "--key", Key, "--then-terminate", "--grace", "50ms", "--yes", "-o", "json"));
        var ended = json.RootElement.EnumerateArray().Single();
        Assert.Equal((second.ProcessID, "Ended", "Terminate"), (ended.GetProperty("pid").GetInt32(), ended.GetProperty("outcome").GetString(), ended.GetProperty("signal").GetString()));
    }

    [Fact]
    public async Task What_somebody_else_has_written_does_not_command_the_terminal()
    {
        await using var sessions = new Sessions();
        var holder = await sessions.OpenAsync();
        await holder.ExecuteAsync($"select pg_advisory_lock({Number}) /* \u001b]0;owned\u0007 \u009b31m \u202e */");
        var output = await OutputAsync("list", "--key", Key);
        Assert.Contains("owned", output, StringComparison.Ordinal);
        Assert.DoesNotContain(output, c => c is '\u001b' or '\u0007' or '\u009b' or '\u202e');
        using var json = JsonDocument.Parse(await OutputAsync("list", "--key", Key, "-o", "json"));
        Assert.Contains("\u001b]0;owned\u0007", json.RootElement[0].GetProperty("query").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Watching_ends_when_nobody_reads()
    {
        var output = await ShellAsync($"watch --interval 100ms | head -1; echo ${LeftBrace}PIPESTATUS[0]{RightBrace}");
        Assert.EndsWith("\n0\n", output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("watch --count 1"), InlineData("list"), InlineData("list -o json"), InlineData("key x")]
    public async Task An_output_for_which_there_is_no_room_is_told(string line)
    {
        var output = await ShellAsync($"{line} 2>&1 >/dev/full; echo $?");
        Assert.Matches("^dblock: the output cannot be written: .*\n70\n$", output);
    }

    [Fact]
    public async Task Keys_are_those_that_the_server_locks()
    {
        using var json = JsonDocument.Parse(await OutputAsync("key", Key, "-o", "json"));
        var schemes = json.RootElement.EnumerateArray().ToDictionary(row => row.GetProperty("scheme").GetString()!);
        Assert.Equal(["mariadb", "mysql", "sqlserver"], schemes.Where(one => one.Value.GetProperty("classid").ValueKind == JsonValueKind.Null).Select(one => one.Key).Order());
        schemes = schemes.Where(one => one.Value.GetProperty("classid").ValueKind == JsonValueKind.Number).ToDictionary();
        Assert.Equal(9, schemes.Count);
        Assert.Equal(LockKey.From(Key, KeyScheme.Sqlx).Number.ToString(CultureInfo.InvariantCulture), schemes["sqlx"].GetProperty("key").GetString());
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        foreach (var (name, row) in schemes)
        {
            await connection.ExecuteAsync(row.GetProperty("sql").GetString()!);
            var (classId, objId, objSubId) = (row.GetProperty("classid").GetUInt32(), row.GetProperty("objid").GetUInt32(), row.GetProperty("objsubid").GetInt32());
            Assert.True(
                await connection.ExecuteAsync($"select exists (select from pg_locks where pid = {connection.ProcessID} and classid::bigint = {classId} and objid::bigint = {objId} and objsubid = {objSubId})") is true,
                name);
            await connection.ExecuteAsync("select pg_advisory_unlock_all()");
        }

        Assert.Contains("number", await OutputAsync("key", "42"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_doctor_finds_what_breaks_locks()
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();
        var (code, healthy) = await DoctorAsync(server.ConnectionString);
        Assert.Equal(0, code);
        Assert.All(healthy.Values, finding => Assert.Equal("ok", finding.Result));
        Assert.Equal(["capacity", "engine", "exclusion", "pooler", "right to lock", "right to see", "right to signal", "standby", "timeouts"], healthy.Keys.Order());
        await using var administrator = new NpgsqlConnection(server.ConnectionString);
        await administrator.OpenAsync();
        await administrator.ExecuteAsync("create role weak login password 'weak'; alter role weak set statement_timeout = '3s'");
        var (weakCode, weak) = await DoctorAsync(server.ConnectionString + ";Username=weak;Password=weak");
        Assert.Equal(0, weakCode);
        Assert.Equal(("warning", "warning", "warning"), (weak["right to see"].Result, weak["right to signal"].Result, weak["timeouts"].Result));
        Assert.Contains("pg_read_all_stats", weak["right to see"].Remedy, StringComparison.Ordinal);
        await using (var pooler = await PgBouncer.StartAsync(server, "transaction"))
        {
            var (pooledCode, pooled) = await DoctorAsync(pooler.ConnectionString);
            Assert.Equal((1, "error"), (pooledCode, pooled["pooler"].Result));
            Assert.Contains("--trust-pooler", pooled["pooler"].Remedy, StringComparison.Ordinal);
        }

        await using var standby = await server.StartStandbyAsync();
        var (standbyCode, findings) = await DoctorAsync(standby.ConnectionString);
        Assert.Equal((1, "error", "error"), (standbyCode, findings["standby"].Result, findings["exclusion"].Result));
    }

    [Fact]
    public async Task Saved_filters_stand_in_for_their_options()
    {
        await using var sessions = await StartAsync();
        var holder = await HoldAsync(sessions);
        var file = Path.Combine(Folder, "dblock.json");
        await File.WriteAllTextAsync(file, $$"""
            { "filters": { // what blocks
                "mine": { "application": ["{{App}}", "other"], "granted": true, "type": "advisory", "min-state-age": 0, "blocking": false },
                "wrong": { "nonsense": 1 }, "acts": { "yes": true }, "elsewhere": { "connection": "Host=nowhere" }, "odd": { "pid": null }, "users": { "user": "{{App}}" }
            } }
            """, System.Text.Encoding.UTF8);
        (string, string?)[] environment = [.. await DblockProcess.EnvironmentAsync(), ("DBLOCK_CONFIG", file)];
        Assert.Contains($"\n{holder.ProcessID} ", (await DblockProcess.RunAsync(environment, "list", "--filter", "mine")).Output, StringComparison.Ordinal);

        // What is given beside it comes first.
        Assert.DoesNotContain($"\n{holder.ProcessID} ", (await DblockProcess.RunAsync(environment, "list", "-f", "mine", "--application", "other")).Output, StringComparison.Ordinal);
        Assert.Contains($"\n{holder.ProcessID} ", (await DblockProcess.RunAsync(environment, "list", "--application", App, "-f", "mine", "--user", App)).Output, StringComparison.Ordinal);
        foreach (var (arguments, text) in new (string[], string)[] { (["list", "-f", "none"], "no such filter"), (["list", "-f", "wrong"], "only options that filter") })
        {
            var (code, _, error) = await DblockProcess.RunAsync(environment, arguments);
            Assert.Equal(64, code);
            Assert.Contains(text, error, StringComparison.Ordinal);
        }

        foreach (var filter in new[] { "acts", "elsewhere", "odd" })
        {
            Assert.Equal(64, (await DblockProcess.RunAsync(environment, "list", "-f", filter)).ExitCode);
        }

        // However it is written, and whatever the option beside it is called.
        foreach (var spelling in new[] { "--filter=mine", "--filter:mine", "-fmine", "-f=mine" })
        {
            var listed = (await DblockProcess.RunAsync(environment, "list", spelling, "-o", "csv")).Output;
            Assert.Equal(2, listed.TrimEnd().Split("\r\n").Length);
        }

        Assert.DoesNotContain($"\n{holder.ProcessID} ", (await DblockProcess.RunAsync(environment, "list", "-u", "postgres", "-f", "users")).Output, StringComparison.Ordinal);
        Assert.Equal(64, (await DblockProcess.RunAsync([.. environment, ("DBLOCK_CONFIG", "/nowhere/dblock.json")], "list", "-f", "mine")).ExitCode);
        var ended = await DblockProcess.RunAsync(environment, "terminate", "--filter", "mine", "--yes");
        Assert.Equal(0, ended.ExitCode);
        Assert.Contains("Ended", ended.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_shell_completes_commands_and_options()
    {
        var script = $"""
            PATH={Path.GetDirectoryName(DblockProcess.Program)}:$PATH
            source <(dblock completion bash)
            complete_line() {LeftBrace} COMP_LINE=$1; COMP_POINT=$(expr length "$1"); COMP_WORDS=($1); COMP_CWORD=$(expr $(set -- $1; echo $#) - 1); _dblock; echo "$COMPREPLY"; {RightBrace}
            complete_line 'dblock bl'
            complete_line 'dblock run --conf'
            """;
        using var bash = Process.Start(new ProcessStartInfo("bash", ["-c", script]) { RedirectStandardOutput = true })!;
        var output = await bash.StandardOutput.ReadToEndAsync();
        await bash.WaitForExitAsync();
        Assert.Equal("blocked\n--conflict-exit-code\n", output);
        foreach (var shell in new[] { "zsh", "fish" })
        {
            Assert.Contains("[suggest:", await OutputAsync("completion", shell), StringComparison.Ordinal);
        }
    }

    private const string LeftBrace = "{";
    private const string RightBrace = "}";

    private static async Task<(int Code, Dictionary<string, (string Result, string? Remedy)> Findings)> DoctorAsync(string connection)
    {
        var (code, output, error) = await DblockProcess.RunAsync([], "doctor", "--connection", connection, "--output", "json");
        Assert.Equal("", error);
        using var json = JsonDocument.Parse(output);
        return (code, json.RootElement.EnumerateArray().ToDictionary(row => row.GetProperty("check").GetString()!, row => (row.GetProperty("result").GetString()!, row.GetProperty("remedy").GetString())));
    }

    private static async Task<string> OutputAsync(params string[] arguments)
    {
        var (code, output, error) = await DblockProcess.RunAsync(arguments);
        Assert.Equal((0, ""), (code, error));
        return output;
    }

    private static async Task<string> ShellAsync(string afterProgram)
    {
        using var shell = Process.Start(new ProcessStartInfo("bash", ["-c", $"'{DblockProcess.Program}' {afterProgram}"])
        {
            RedirectStandardOutput = true,
            Environment = { ["DBLOCK_CONNECTION"] = (await PostgreSqlTestServer.ServerAsync).ConnectionString },
        })!;
        var output = await shell.StandardOutput.ReadToEndAsync();
        await shell.WaitForExitAsync();
        return output;
    }

    private async Task<Sessions> StartAsync()
    {
        var sessions = new Sessions();
        sessions.Roles.Add(App);
        await (await sessions.OpenAsync()).ExecuteAsync($"create role {App} login password 'app'");
        return sessions;
    }

    private async Task<NpgsqlConnection> HoldAsync(Sessions sessions)
    {
        var holder = await sessions.OpenAsync($"Username={App};Password=app;Application Name={App}");
        await holder.ExecuteAsync($"select pg_advisory_lock({Number})");
        return holder;
    }
}
