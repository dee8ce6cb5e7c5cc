using System.Data.Common;
using System.Globalization;
using DotNet.Testcontainers.Builders;
using Npgsql;
using Testcontainers.PostgreSql;

namespace DbLock.LocalServers;

/// <summary>A PostgreSQL server for tests: one that is there already, or a private one.</summary>
public sealed class PostgreSqlServer : IAsyncDisposable
{
    private readonly PrivateServer? _server;
    private readonly IAsyncDisposable? _owned;
    private readonly string[] _settings;

    private PostgreSqlServer(
        string connectionString, Version version, PrivateServer? server = null, string? binDirectory = null, string[]? settings = null,
        IAsyncDisposable? owned = null)
    {
        ConnectionString = connectionString;
        Version = version;
        BinDirectory = binDirectory;
        _server = server;
        _settings = settings ?? [];
        _owned = owned ?? server;
    }

    /// <summary>The connection string, as Npgsql takes it, of a superuser.</summary>
    public string ConnectionString { get; }

    /// <summary>The connection string for psqlodbc, without a DSN.</summary>
    /// <exception cref="InvalidOperationException">psqlodbc is not installed.</exception>
    public string OdbcConnectionString => ToOdbc(ConnectionString);

    /// <summary>The host, or the folder of its socket.</summary>
    public string Host => new NpgsqlConnectionStringBuilder(ConnectionString).Host!;

    /// <summary>The port.</summary>
    public int Port => new NpgsqlConnectionStringBuilder(ConnectionString).Port;

    /// <summary>The version that the server gives.</summary>
    public Version Version { get; }

    /// <summary>
    /// The folder of its programs, of which only <c>postgres</c>, <c>initdb</c> and <c>pg_ctl</c> are sure; null when the server was
    /// there already.
    /// </summary>
    public string? BinDirectory { get; }

    /// <summary>
    /// Gives the server of DBLOCK_TEST_POSTGRES, an Npgsql connection string, when that is set, one in a container with
    /// DBLOCK_TEST_CONTAINERS=1, else a private one. DBLOCK_TEST_POSTGRES_VERSION picks the major version of what is started.
    /// </summary>
    /// <exception cref="InvalidOperationException">It cannot be started; the message says what is missing.</exception>
    public static async Task<PostgreSqlServer> StartAsync()
    {
        if (Environment.GetEnvironmentVariable("DBLOCK_TEST_POSTGRES") is { Length: > 0 } existing)
        {
            try
            {
                return new(existing, await ReadVersionAsync(existing));
            }
            catch (Exception e) when (e is NpgsqlException or ArgumentException)
            {
                throw new InvalidOperationException(
                    $"The server of DBLOCK_TEST_POSTGRES does not answer ({e.Message}): start it, mend the connection string, or unset the variable to have a private server of this machine.", e);
            }
        }

        return Environment.GetEnvironmentVariable("DBLOCK_TEST_CONTAINERS") == "1" ? await StartContainerAsync() : await StartPrivateAsync();
    }

    /// <summary>Starts a private server, which may be restarted and given a standby.</summary>
    /// <param name="settings">More lines for <c>postgresql.conf</c>, such as <c>deadlock_timeout = '10ms'</c>.</param>
    public static async Task<PostgreSqlServer> StartPrivateAsync(IEnumerable<string>? settings = null)
    {
        var password = PrivateServer.NewPassword();
        return await StartPrivateAsync(password, [.. settings ?? []], (server, programs) => server.RunAsync(
            Path.Combine(programs, "initdb"), "--pgdata=data", "--username=postgres", $"--pwfile={server.Write("password", password)}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"));
    }

    /// <summary>Starts a hot standby that streams from this server.</summary>
    /// <exception cref="NotSupportedException">The server is not private.</exception>
    public async Task<PostgreSqlServer> StartStandbyAsync()
    {
        var primary = new NpgsqlConnectionStringBuilder(ConnectionString);
        var source = Path.Combine(Private().Folder, "data");
        string[] settings = [.. _settings, "wal_retrieve_retry_interval = '100ms'",
            $"primary_conninfo = 'host={primary.Host} port={primary.Port} user={primary.Username} password={primary.Password}'"];
        return await StartPrivateAsync(primary.Password!, settings, (server, _) => CopyAsync(source, server));
    }

    /// <summary>Stops the server and starts it again, on the same port; every session ends. Pools keep their broken connections.</summary>
    /// <param name="immediate">As a crash: without a checkpoint, recovering at the start. Else as <c>pg_ctl stop -m fast</c>.</param>
    /// <exception cref="NotSupportedException">The server is not private.</exception>
    public Task RestartAsync(bool immediate) => Private().RestartAsync(immediate ? "QUIT" : "INT", () => AnswersAsync(ConnectionString));

    /// <summary>Ends the server as a crash does: without a checkpoint, and without a word to its standbys. Its folder stays.</summary>
    /// <exception cref="NotSupportedException">The server is not private.</exception>
    public Task CrashAsync() => Private().StopAsync("QUIT");

    /// <summary>Reads the server's log.</summary>
    /// <exception cref="NotSupportedException">The server is not private.</exception>
    public string ReadLog() => Private().ReadLog();

    /// <summary>Stops a private server and deletes its folder; an existing one stays as it is.</summary>
    public ValueTask DisposeAsync() => _owned?.DisposeAsync() ?? ValueTask.CompletedTask;

    /// <summary>Translates an Npgsql connection string for psqlodbc.</summary>
    internal static string ToOdbc(string connectionString)
    {
        var npgsql = new NpgsqlConnectionStringBuilder(connectionString);
        return new DbConnectionStringBuilder(useOdbcRules: true)
        {
            ["Driver"] = OdbcDriverFile.Find("psqlodbcw.so", "odbc-postgresql"),
            ["Servername"] = npgsql.Host!,
            ["Port"] = npgsql.Port,
            ["Database"] = npgsql.Database ?? npgsql.Username!,
            ["UID"] = npgsql.Username!,
            ["PWD"] = npgsql.Password ?? "",
        }.ConnectionString;
    }

    /// <summary>Whether the server at the address lets us in: nobody else's has the password.</summary>
    internal static async Task<bool> AnswersAsync(string connectionString)
    {
        try
        {
            await ReadVersionAsync(connectionString);
            return true;
        }
        catch (NpgsqlException)
        {
            return false;
        }
    }

    private static async Task<PostgreSqlServer> StartPrivateAsync(
        string password, string[] settings, Func<PrivateServer, string, Task> makeData)
    {
        var programs = await PostgreSqlBinaries.FindAsync();
        var reachable = await CanRunAsync(programs);
        string ProgramsIn(string folder) => reachable ? programs : Path.Combine(folder, "programs", "bin");

        // An immediate shutdown: it still gives back the shared memory, and there is nothing to be saved.
        var server = await PrivateServer.CreateAsync("postgresql", "QUIT", Command, PrepareAsync);
        var connectionString = "";
        await server.StartAsync(Configure, () => AnswersAsync(connectionString));
        return new(connectionString, await ReadVersionAsync(connectionString), server, ProgramsIn(server.Folder), settings);

        IEnumerable<string> Command(string folder) =>
            [Path.Combine(ProgramsIn(folder), "postgres"), "-D", $"{folder}/data", "-c", $"config_file={folder}/postgresql.conf"];

        async Task PrepareAsync(PrivateServer server)
        {
            if (!reachable)
            {
                await Programs.RunAsync(["cp", "-a", Path.GetDirectoryName(programs)!, Path.Combine(server.Folder, "programs")], "/");
            }

            await makeData(server, ProgramsIn(server.Folder));
        }

        void Configure()
        {
            connectionString = new NpgsqlConnectionStringBuilder
            {
                Host = "127.0.0.1",
                Port = server.Port,
                Database = "postgres",
                Username = "postgres",
                Password = password,
            }.ConnectionString;
            server.Write("postgresql.conf", Configuration(server, settings));
        }
    }

    // Shared memory in files of the folder: a server that is killed leaves none of them behind. Kept WAL: a standby starts later.
    private static string Configuration(PrivateServer server, string[] settings) => string.Create(CultureInfo.InvariantCulture, $"""
        listen_addresses = '127.0.0.1'
        port = {server.Port}
        unix_socket_directories = '{server.Folder}'
        max_connections = 300
        password_encryption = 'scram-sha-256'
        dynamic_shared_memory_type = 'mmap'
        synchronous_commit = on
        fsync = off
        full_page_writes = off
        max_prepared_transactions = 20
        wal_level = replica
        wal_keep_size = '128MB'
        hot_standby = on
        log_line_prefix = '%m [%p] %q%a '
        {string.Join('\n', settings)}

        """);

    /// <summary>
    /// Copies the data of a running server, by the steps of
    /// https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
    /// (pg_basebackup does the same, but not every source of the programs has it).
    /// </summary>
    private async Task CopyAsync(string source, PrivateServer standby)
    {
        await using var connection = new NpgsqlConnection(ConnectionString);
        await connection.OpenAsync();
        var (start, stop) = Version.Major >= 15
            ? ("pg_backup_start('standby', true)", "pg_backup_stop(false)")
            : ("pg_start_backup('standby', true, false)", "pg_stop_backup(false, false)");
        await using (var command = new NpgsqlCommand($"SELECT {start}", connection))
        {
            await command.ExecuteNonQueryAsync();
        }

        // Files may go away while they are copied, which cp complains about and recovery repairs.
        await standby.RunAsync("sh", "-c", "cp -a \"$1\" data 2>cp.log; rm -f data/postmaster.*", "cp", source);
        await using (var command = new NpgsqlCommand($"SELECT labelfile FROM {stop}", connection))
        {
            standby.Write("backup_label", (string)(await command.ExecuteScalarAsync())!);
        }

        await standby.RunAsync("sh", "-c", "cp backup_label data && touch data/standby.signal");
    }

    private static async Task<Version> ReadVersionAsync(string connectionString)
    {
        var unpooled = new NpgsqlConnectionStringBuilder(connectionString) { Pooling = false };
        await using var connection = new NpgsqlConnection(unpooled.ConnectionString);
        await connection.OpenAsync();
        return connection.PostgreSqlVersion;
    }

    // A checkout below /root is closed to the server's user.
    private static async Task<bool> CanRunAsync(string programs)
    {
        try
        {
            await Programs.RunAsync(ServerUser.Command([Path.Combine(programs, "postgres"), "--version"]), "/");
            return true;
        }
        catch (InvalidOperationException)
        {
            return false;
        }
    }

    private PrivateServer Private() =>
        _server ?? throw new NotSupportedException($"Only a server from {nameof(StartPrivateAsync)} can do this.");

    private static async Task<PostgreSqlServer> StartContainerAsync()
    {
        var version = Environment.GetEnvironmentVariable("DBLOCK_TEST_POSTGRES_VERSION");
        var container = Container($"postgres:{(string.IsNullOrEmpty(version) ? PostgreSqlBinaries.WithoutAny : version)}");
        try
        {
            await container.StartAsync();
            var connectionString = container.GetConnectionString();
            return new(connectionString, await ReadVersionAsync(connectionString), owned: container);
        }
        catch
        {
            await container.DisposeAsync();
            throw;
        }
    }

    // Building asks the engine whether it is there.
    private static PostgreSqlContainer Container(string image)
    {
        try
        {
            return new PostgreSqlBuilder(image).WithCommand("-c", "max_connections=300", "-c", "synchronous_commit=on").Build();
        }
        catch (Exception e) when (e is ArgumentException or DockerUnavailableException)
        {
            throw new InvalidOperationException(
                "DBLOCK_TEST_CONTAINERS is 1, and no Docker engine answers: start one, or unset DBLOCK_TEST_CONTAINERS to have a private server of this machine.", e);
        }
    }
}
