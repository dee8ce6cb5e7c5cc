using System.Globalization;
using System.Text.Json;
using DbLock.ServerTests.MariaDb;
using Microsoft.Data.Sqlite;

namespace DbLock.ServerTests.Cli;

/// <summary>What dblock does beside running a command on the engines that are not PostgreSQL, and what it says where they cannot.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class EngineTests : IDisposable
{
    private string Key { get; } = "cli engine:" + Guid.NewGuid();

    private string Folder { get; } = Directory.CreateTempSubdirectory("dblock-engines-").FullName;

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    [Fact]
    public async Task Who_holds_and_how_many_wait_is_listed_and_the_way_is_cleared()
    {
        var environment = await CliServer.MariaDb.EnvironmentAsync();
        await using var holder = await CliServer.MariaDb.OpenAsync();
        var id = await MariaDbTestServer.Instance.SessionIdAsync(holder);
        await using var held = new Lock(holder, Key);
        Assert.True(await held.AcquireAsync());
        await using var waiter = DblockProcess.Start(environment, "run", "-v", Key, "--", "echo", "ran");
        await TestServer.UntilAsync(async () => (await held.GetHoldersAsync()).Waiting == 1, "it waits");
        var (code, output, error) = await DblockProcess.RunAsync(environment, "list", "--key", Key, "--key", Key + ":other", "-o", "json");
        Assert.Equal((0, ""), (code, error));
        using var json = JsonDocument.Parse(output);
        var row = Assert.Single(json.RootElement.EnumerateArray());
        Assert.Equal((id, Key, 1, "root"), (row.GetProperty("pid").GetInt64(), row.GetProperty("key").GetString(), row.GetProperty("waiting").GetInt32(), row.GetProperty("user").GetString()));

        // Who idles has no statement that could be cancelled.
        Assert.Equal(1, (await DblockProcess.RunAsync(environment, "cancel", "--key", Key, "--yes", "--grace", "100ms")).ExitCode);
        Assert.Equal(0, (await DblockProcess.RunAsync(environment, "terminate", "--key", Key, "--dry-run")).ExitCode);
        Assert.Equal(64, (await DblockProcess.RunAsync(environment, "terminate", "--key", Key)).ExitCode);
        Assert.True(await MariaDbTestServer.Instance.IsHeldByAsync(id, Key));
        var (terminated, told, _) = await DblockProcess.RunAsync(environment, "terminate", "--key", Key, "--yes");
        Assert.Equal(0, terminated);
        Assert.Contains(id.ToString(CultureInfo.InvariantCulture), told, StringComparison.Ordinal);
        Assert.Contains("Gone", told, StringComparison.Ordinal);
        Assert.Equal(0, await waiter.ExitAsync());
        Assert.Equal("ran\n", waiter.Output);
        Assert.Contains("Nothing matches.", (await DblockProcess.RunAsync(environment, "terminate", "--key", Key, "--yes")).Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_doctor_examines_a_server_of_MariaDB_and_a_file_of_SQLite()
    {
        var environment = await CliServer.MariaDb.EnvironmentAsync();
        var (code, output, error) = await DblockProcess.RunAsync(environment, "doctor", "-o", "json");
        Assert.Equal((0, ""), (code, error));
        var findings = Findings(output);
        Assert.Equal(["cluster", "durability", "engine", "exclusion", "fencing", "proxy", "replica", "right to see", "timeouts"], findings.Keys.Order());

        // The tests' server writes to disk once a second.
        Assert.All(findings, finding => Assert.Equal(finding.Key == "durability" ? "warning" : "ok", finding.Value));
        await using var user = await MariaDbUser.CreateAsync();
        var address = $"mysql://{user.Name}:{user.Name}@127.0.0.1:{await CliServer.MariaDb.PortAsync()}/dblock";
        var ofUser = await DoctorAsync(address);
        Assert.Equal(("warning", "error"), (ofUser["right to see"], ofUser["fencing"]));
        var file = $"sqlite:{Folder}/locks.db";
        Assert.Equal(0, (await DblockProcess.RunAsync([], "lease-table", "-c", file)).ExitCode);
        var ofFile = await DoctorAsync(file);
        Assert.Equal(("ok", "ok"), (ofFile["leases"], ofFile["writes"]));
        var unwritable = await DoctorAsync($"Data Source={Folder}/locks.db;Mode=ReadOnly");
        Assert.Equal(("ok", "error"), (unwritable["leases"], unwritable["writes"]));
        await using var writer = new SqliteConnection($"Data Source={Folder}/locks.db;Pooling=false");
        await writer.OpenAsync();
        await using var writing = await writer.BeginTransactionAsync();
        Assert.Equal("warning", (await DoctorAsync(file))["writes"]);
        await writing.RollbackAsync();
        await using var exclusive = writer.CreateCommand();
        exclusive.CommandText = "pragma journal_mode = delete; begin exclusive";
        await exclusive.ExecuteNonQueryAsync();
        Assert.Equal("warning", (await DoctorAsync(file))["writes"]);

        static async Task<Dictionary<string, string?>> DoctorAsync(string connection) =>
            Findings((await DblockProcess.RunAsync([], "doctor", "-c", connection, "-o", "json")).Output);

        static Dictionary<string, string?> Findings(string text)
        {
            using var json = JsonDocument.Parse(text);
            return json.RootElement.EnumerateArray().ToDictionary(one => one.GetProperty("check").GetString()!, one => one.GetProperty("result").GetString());
        }
    }

    [Fact]
    public async Task A_command_has_a_token_where_there_is_a_sequence_and_runs_without_where_there_is_none()
    {
        await using var user = await MariaDbUser.CreateAsync("create, drop on *.*");
        var database = user.Name;
        await using var connection = await CliServer.MariaDb.OpenAsync();
        await using var command = connection.CreateCommand();
        command.CommandText = $"create database {database}";
        await command.ExecuteNonQueryAsync();
        var address = $"mariadb://{user.Name}:{user.Name}@127.0.0.1:{await CliServer.MariaDb.PortAsync()}/{database}";
        Assert.Equal((0, "none\n", ""), await DblockProcess.RunAsync([], "run", "-c", address, Key, "--", "sh", "-c", "echo ${DBLOCK_FENCING_TOKEN-none}"));
        command.CommandText = $"drop database {database}";
        await command.ExecuteNonQueryAsync();
    }

    [Fact]
    public async Task The_name_of_each_engine_is_the_one_that_its_server_locks()
    {
        await using var connection = await CliServer.MariaDb.OpenAsync();
        foreach (var name in new[] { Key, Key + "'é`\\", Key + "\n\t" })
        {
            using var json = JsonDocument.Parse((await DblockProcess.RunAsync([], "key", name, "-o", "json")).Output);
            var rows = json.RootElement.EnumerateArray().ToDictionary(row => row.GetProperty("scheme").GetString()!);
            Assert.Equal(name, rows["sqlserver"].GetProperty("key").GetString());
            Assert.All(rows.Values, row => Assert.DoesNotContain('\n', row.GetProperty("sql").GetString()!));
            await using var command = connection.CreateCommand();
            command.CommandText = rows["mariadb"].GetProperty("sql").GetString();
            await command.ExecuteNonQueryAsync();
            Assert.True(await MariaDbTestServer.Instance.IsHeldByAsync(await MariaDbTestServer.Instance.SessionIdAsync(connection), name));
        }
    }

    /// <summary>One sentence, and in it what helps.</summary>
    [Theory]
    [InlineData("run -c sqlite:x.db KEY -- true", "dblock run --lease")]
    [InlineData("run -c sqlite::memory: --lease 5s KEY -- true", "give SQLite a file")]
    [InlineData("run -s -c mysql://h/d KEY -- true", "leave --shared out")]
    [InlineData("run --wait yield -c mysql://h/d KEY -- true", "leave --wait out")]
    [InlineData("run --trust-pooler -c mariadb://h/d KEY -- true", "leave --trust-pooler out")]
    [InlineData("run --key-scheme number -c sqlserver://h/d 5 -- true", "leave --key-scheme out")]
    [InlineData("list -c mysql://h/d", "--key KEY")]
    [InlineData("list -c mysql://h/d --key KEY --waiting", "leave --waiting out")]
    [InlineData("blocked -c mysql://h/d", "dblock list --key KEY")]
    [InlineData("watch -c mysql://h/d", "dblock list --key KEY")]
    [InlineData("cancel -y -c sqlserver://h/d --key KEY", "dblock terminate")]
    [InlineData("terminate -y -c mysql://h/d --key KEY --max 3", "leave --max out")]
    [InlineData("terminate -y -c sqlite:x.db --key KEY", "dblock_leases")]
    [InlineData("list -c mysql://u:hush@h:0/d", "from 1 to 65535")]
    [InlineData("list -c mysql://u:hush@h/d?nonsense=hush", "mysql:Server=")]
    [InlineData("list -c mysql:Server=h;Nonsense=hush", "mysql:Server=")]
    [InlineData("list -c oracle://u:hush@h/d", "dblock does not know")]
    [InlineData("list -c jdbc:mysql://u:hush@h/d", "mysql://user@host")]
    public async Task What_an_engine_cannot_is_one_sentence_with_what_helps(string line, string remedy)
    {
        // One file has no SQL Server, which is what it says then.
        var (code, output, error) = await DblockProcess.RunAsync([], line.Split(' '));
        Assert.Equal((64, ""), (code, output));
        Assert.Contains(DblockProcess.IsOneFile && line.Contains("sqlserver", StringComparison.Ordinal) ? "install the .NET tool" : remedy, error, StringComparison.Ordinal);
        Assert.Single(error.TrimEnd('\n').Split('\n'));
        Assert.DoesNotContain("hush", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("mysql://u:hush-hush@127.0.0.1:PORT/d", "Access denied")]
    [InlineData("mysql://u:hush-hush@127.0.0.1:1/d", "no connection to 127.0.0.1, port 1")]
    [InlineData("mariadb:Server=127.0.0.1;Port=PORT;User ID=u;Password=hush-hush", "Access denied")]
    [InlineData("postgres://u:hush-hush@127.0.0.1:PORT/d", "mariadb://")]
    [InlineData("sqlite:/there/is/no/such/folder/locks.db", "the file /there/is/no/such/folder/locks.db")]
    public async Task No_connection_is_told_in_a_sentence_without_the_password(string address, string text)
    {
        address = address.Replace("PORT", (await CliServer.MariaDb.PortAsync()).ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal);
        var (code, output, error) = await DblockProcess.RunAsync([("DBLOCK_CONNECTION", address)], "run", "--lease", "5s", Key, "--", "echo", "ran");
        Assert.Equal((69, ""), (code, output));
        Assert.Contains(text, error, StringComparison.Ordinal);
        Assert.DoesNotContain("hush", error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", error, StringComparison.Ordinal);
        Assert.Single(error.TrimEnd('\n').Split('\n'));
    }

    [Theory]
    [InlineData("list"), InlineData("doctor"), InlineData("lease-table --clear")]
    public async Task A_look_at_a_file_that_does_not_exist_does_not_make_it(string line)
    {
        var (code, output, error) = await DblockProcess.RunAsync([], [.. line.Split(' '), "-c", $"sqlite:{Folder}/wrong.db"]);
        Assert.Equal((69, "", $"dblock: no connection to the file {Folder}/wrong.db: there is no such file (dblock run --lease makes it, and dblock lease-table)\n"), (code, output, error));
        Assert.Empty(Directory.GetFiles(Folder));
    }

    [Fact]
    public async Task Leases_of_a_file_are_listed()
    {
        var file = $"sqlite:{Folder}/locks.db";
        await using var dblock = DblockProcess.Start([], "run", "-c", file, "--lease", "1m", Key, "--", "sh", "-c", "echo started; read x");
        await dblock.UntilAsync("started");
        foreach (var keys in new string[][] { [], ["--key", Key] })
        {
            using var json = JsonDocument.Parse((await DblockProcess.RunAsync([], ["list", "-c", file, "-o", "json", .. keys])).Output);
            var row = Assert.Single(json.RootElement.EnumerateArray());
            Assert.Equal((Key, "lease", dblock.Pid), (row.GetProperty("key").GetString(), row.GetProperty("type").GetString(), row.GetProperty("process").GetInt32()));
        }

        await dblock.TypeAsync("\n");
        await dblock.ExitAsync();
    }

    [Theory]
    [InlineData("sqlite:FOLDER/locks.db"), InlineData("Data Source=FOLDER/locks.db"), InlineData("sqlite:Data Source=FOLDER/locks.db;Pooling=true"), InlineData("sqlite://FOLDER/locks.db")]
    public async Task A_file_is_found_by_each_way_to_write_it(string address)
    {
        address = address.Replace("FOLDER", Folder, StringComparison.Ordinal);
        Assert.Equal((0, $"{Key}\n", ""), await DblockProcess.RunAsync([], "run", "-c", address, "--lease", "5s", Key, "--", "sh", "-c", "echo $DBLOCK_KEY"));
        Assert.True(File.Exists($"{Folder}/locks.db"));
        File.Move($"{Folder}/locks.db", $"{Folder}/of=mine.db");
        Assert.Equal(0, (await DblockProcess.RunAsync([], "list", "-c", $"sqlite:{Folder}/of=mine.db")).ExitCode);
    }
}
