using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests.Cli;

/// <summary>How <c>dblock run</c> finds and starts its command: as execvp does, and so flock, env and timeout.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class RunStartTests : IDisposable
{
    private const UnixFileMode Own = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    private string Key { get; } = "cli-start:" + Guid.NewGuid();

    private string Folder { get; } = Directory.CreateTempSubdirectory("dblock-start-").FullName;

    private static PostgreSqlTestServer Server => PostgreSqlTestServer.Instance;

    private string Dblock => $"'{DblockProcess.Program}' run {Key} --";

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    [Fact]
    public async Task A_script_that_names_no_interpreter_is_the_shells()
    {
        var file = Script("plain", "echo \"$0 $*\"; exit 4");
        Assert.Equal((4, $"{file} a b\n", ""), await DblockProcess.RunAsync("run", Key, "--", file, "a", "b"));
        Assert.Equal(($"{file} a\n./plain b\n4\n", ""), await DblockProcess.ShellAsync($"cd {Folder}; PATH={Folder}:$PATH {Dblock} plain a; PATH=:$PATH {Dblock} plain b; echo $?"));
    }

    [Fact]
    public async Task The_command_has_the_name_that_it_was_called_by() =>
        Assert.Equal((0, "sh\n", ""), await DblockProcess.RunAsync("run", Key, "--", "sh", "-c", "echo \"$0\""));

    [Fact]
    public async Task A_path_is_the_systems_to_read()
    {
        Directory.CreateDirectory($"{Folder}/real/sub");
        Directory.CreateSymbolicLink($"{Folder}/link", "real/sub");
        Script("real/prog", "echo right");
        Script("prog", "echo wrong");
        Assert.Equal(("right\nright\nright\n", ""), await DblockProcess.ShellAsync(
            $"cd {Folder}; {Dblock} link/../prog; {Dblock} {Folder}/link/../prog; PATH=link/..:$PATH {Dblock} prog"));
    }

    [Fact]
    public async Task PATH_is_searched_on_past_what_cannot_be_run()
    {
        Directory.CreateDirectory($"{Folder}/folder/prog");
        Script("text/prog", "echo wrong", Own);
        Script("broken/prog", "#!/there/is/no/such/interpreter");
        Script("good/prog", "echo right");
        Assert.Equal(("right\n", ""), await DblockProcess.ShellAsync($"cd {Folder}; PATH=none:folder:text:broken:good:$PATH {Dblock} prog"));
        foreach (var (path, code) in new[] { ("none", 127), ("folder", 126), ("text", 126), ("text:none", 126), ("good/prog", 127) })
        {
            Assert.Equal($"{code}\n", (await DblockProcess.ShellAsync($"cd {Folder}; PATH={path} {Dblock} prog; echo $?")).Output);
        }
    }

    [Fact]
    public async Task A_missing_interpreter_is_told_as_such()
    {
        var file = Script("broken", "#!/there/is/no/such/interpreter");
        var (code, _, error) = await DblockProcess.RunAsync("run", Key, "--", file);
        Assert.Equal((127, $"dblock: {file}: the interpreter that it names is not there\n"), (code, error));
        await Server.UntilFreeAsync(Key);
    }

    [Fact]
    public async Task Who_may_execute_a_file_the_system_says_before_the_lock_is_taken()
    {
        // As root without root's rights: the owner's bits are those that count, and the group's are not.
        var file = Script("groups", "echo ran", Own | UnixFileMode.GroupExecute);
        var how = Environment.IsPrivilegedProcess ? "setpriv --bounding-set=-all --inh-caps=-all" : "";
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        await using var held = new Lock(connection, Key);
        Assert.True(await held.AcquireAsync());
        Assert.Equal(("126\n", $"dblock: {file}: it cannot be executed\n"), await DblockProcess.ShellAsync($"{how} {Dblock} {file}; echo $?"));
    }

    [Fact]
    public async Task Arguments_that_are_too_long_for_the_system_are_told()
    {
        // Linux takes 128 KiB for each: this one is short of that, and DBLOCK_NAME with it is not.
        var key = Key + new string('x', (1 << 17) - 10 - Key.Length);
        Assert.Equal((126, "", "dblock: echo: Argument list too long\n"), await DblockProcess.RunAsync("run", key, "--", "echo", "ran"));
        await Server.UntilFreeAsync(key);
    }

    [Fact]
    public async Task Arguments_variables_and_the_program_come_to_the_command_byte_for_byte()
    {
        const string Octal = "od -An -to1 -v";
        var output = (await DblockProcess.ShellAsync($$"""
            cd {{Folder}}
            word=$(printf 'a\377\376b'); export V="$word" EMPTY=
            {{Dblock}} sh -c 'printf %s "$1|$2|$V|${EMPTY-none}" | {{Octal}}' sh "$word" ''
            printf 'echo ran' >"prog$word"; chmod +x "prog$word"
            {{Dblock}} "./prog$word"
            {{Dblock}} "./none$word"; echo $?
            rm "prog$word"
            """)).Output;
        Assert.Equal(" 141 377 376 142 174 174 141 377 376 142 174\nran\n127\n", output);
    }

    [Fact]
    public async Task What_is_not_UTF_8_is_no_key_and_no_password()
    {
        var (output, error) = await DblockProcess.ShellAsync($$"""
            bad=$(printf '\377')
            '{{DblockProcess.Program}}' run "$bad" -- echo ran; echo $?
            PGPASSWORD=$bad {{Dblock}} echo ran; echo $?
            DBLOCK_CONNECTION=Host=$bad {{Dblock}} echo ran; echo $?
            '{{DblockProcess.Program}}' run -c "postgres://$bad@localhost" {{Key}} -- echo ran; echo $?
            """);
        Assert.Equal("64\n64\n64\n64\n", output);
        Assert.Equal(["the KEY must", "PGPASSWORD is", "DBLOCK_CONNECTION is", "--connection is"], error.TrimEnd('\n').Split('\n').Select(line => string.Join(' ', line.Split(' ')[1..^0]).Split(" be UTF-8")[0].Split(" not UTF-8")[0]));
    }

    [Fact]
    public async Task Over_a_socket_of_the_machine_there_is_no_TLS_whatever_is_demanded()
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();
        await using var connection = new NpgsqlConnection(server.ConnectionString);
        await connection.OpenAsync();
        var right = new NpgsqlConnectionStringBuilder(server.ConnectionString) { Host = (string?)await connection.ExecuteAsync("select current_setting('unix_socket_directories')") };
        foreach (var (given, mode) in new[]
        {
            (right.ConnectionString, "require"), (right.ConnectionString + ";SSL Mode=VerifyFull", ""),
            ($"postgres://{right.Username}:{Uri.EscapeDataString(right.Password!)}@{Uri.EscapeDataString(right.Host!)}:{right.Port}/{right.Database}", "verify-full"),
        })
        {
            Assert.Equal((0, "ran\n", ""), await DblockProcess.RunAsync([("DBLOCK_CONNECTION", given), ("PGSSLMODE", mode)], "run", Key, "--", "echo", "ran"));
        }
    }

    private string Script(string name, string text, UnixFileMode mode = Own | UnixFileMode.UserExecute)
    {
        var file = $"{Folder}/{name}";
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        File.WriteAllText(file, text + "\n");
        File.SetUnixFileMode(file, mode);
        return file;
    }
}
