using System.Data.Common;
using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace DbLock.LocalServers;

/// <summary>A MariaDB server for tests: one that is there already, or a private one.</summary>
public sealed class MariaDbServer : IAsyncDisposable
{
    private readonly PrivateServer? _server;
    private readonly string? _existing;
    private readonly string _password;

    private MariaDbServer(string? existing, PrivateServer? server, string password)
    {
        _existing = existing;
        _server = server;
        _password = password;
    }

    /// <summary>The connection string for MariaDB's ODBC driver, without a DSN, of a user that may do everything.</summary>
    /// <exception cref="InvalidOperationException">The driver is not installed.</exception>
    public string OdbcConnectionString => _existing ?? new DbConnectionStringBuilder(useOdbcRules: true)
    {
        ["Driver"] = OdbcDriverFile.Find("libmaodbc.so", "odbc-mariadb"),
        ["Server"] = "127.0.0.1",
        ["Port"] = _server!.Port,
        ["Database"] = "dblock",
        ["UID"] = "root",
        ["PWD"] = _password,
    }.ConnectionString;

    /// <summary>The connection string as MySqlConnector and MySql.Data take it, of the same user.</summary>
    public string ConnectionString
    {
        get
        {
            var odbc = new DbConnectionStringBuilder(useOdbcRules: true) { ConnectionString = OdbcConnectionString };
            var client = new DbConnectionStringBuilder();
            foreach (var (name, odbcName) in new[] { ("Server", "Server"), ("Port", "Port"), ("Database", "Database"), ("User ID", "UID"), ("Password", "PWD") })
            {
                if (odbc.TryGetValue(odbcName, out var value))
                {
                    client[name] = value;
                }
            }

            return client.ConnectionString;
        }
    }

    /// <summary>Gives the server of DBLOCK_TEST_MARIADB, an ODBC connection string, when that is set, else a private one.</summary>
    /// <exception cref="InvalidOperationException">It cannot be started; the message says what to install.</exception>
    public static async Task<MariaDbServer> StartAsync()
    {
        if (Environment.GetEnvironmentVariable("DBLOCK_TEST_MARIADB") is { Length: > 0 } existing)
        {
            return new(existing, server: null, password: "");
        }

        return await StartPrivateAsync();
    }

    /// <summary>Starts a private server.</summary>
    /// <param name="settings">More lines of its configuration.</param>
    /// <exception cref="InvalidOperationException">It cannot be started; the message says what to install.</exception>
    public static async Task<MariaDbServer> StartPrivateAsync(params string[] settings)
    {
        var password = PrivateServer.NewPassword();
        var server = await CreateAsync(server => InstallAsync(server, password));
        await server.StartAsync(() => server.Write("my.cnf", Configuration(server) + string.Join('\n', settings)), () => AnswersAsync(server));
        return new(existing: null, server, password);
    }

    /// <summary>Gives the connection strings of a server that another class has started.</summary>
    internal static MariaDbServer Of(PrivateServer server, string password) => new(existing: null, server, password);

    // Killed at the end: there is nothing to be saved, and a shutdown would wait for its sessions.
    internal static Task<PrivateServer> CreateAsync(Func<PrivateServer, Task> prepare)
    {
        var program = Find("mariadbd");
        return PrivateServer.CreateAsync(
            "mariadb", "KILL", folder => [program, $"--defaults-file={folder}/my.cnf", $"--init-file={folder}/init.sql"], prepare);
    }

    // Makes its data, with a database and a user that may do everything.
    internal static Task InstallAsync(PrivateServer server, string password)
    {
        var install = Find("mariadb-install-db");
        server.Write("my.cnf", Configuration(server));
        server.Write("init.sql", $"""
            CREATE DATABASE IF NOT EXISTS dblock;
            CREATE OR REPLACE USER 'root'@'localhost' IDENTIFIED BY '{password}';
            CREATE OR REPLACE USER 'root'@'127.0.0.1' IDENTIFIED BY '{password}';
            GRANT ALL ON *.* TO 'root'@'localhost' WITH GRANT OPTION;
            GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;

            """);
        return server.RunAsync(
            install, $"--defaults-file={server.Folder}/my.cnf", "--auth-root-authentication-method=normal", "--skip-name-resolve",
            "--skip-test-db");
    }

    /// <summary>Reads the server's log.</summary>
    /// <exception cref="NotSupportedException">The server is not private.</exception>
    public string ReadLog() => _server?.ReadLog() ?? throw new NotSupportedException("DBLOCK_TEST_MARIADB keeps its log elsewhere.");

    /// <summary>The port of a private server.</summary>
    /// <exception cref="NotSupportedException">The server is not private.</exception>
    public int Port => _server?.Port ?? throw new NotSupportedException("DBLOCK_TEST_MARIADB has an address of its own.");

    /// <summary>Restarts a private server.</summary>
    /// <param name="immediate">Whether it is killed, rather than shut down in good order.</param>
    /// <exception cref="NotSupportedException">The server is not private.</exception>
    public Task RestartAsync(bool immediate = false) => _server is { } server
        ? server.RestartAsync(immediate ? "KILL" : "TERM", () => AnswersAsync(server))
        : throw new NotSupportedException("DBLOCK_TEST_MARIADB is not restarted.");

    /// <summary>Stops a private server and deletes its folder; an existing one stays as it is.</summary>
    public ValueTask DisposeAsync() => _server?.DisposeAsync() ?? ValueTask.CompletedTask;

    internal static string Find(string program) => Programs.Find(program)
        ?? throw new InvalidOperationException($"{program} was not found: apt-get install mariadb-server, or set DBLOCK_TEST_MARIADB.");

    internal static string Configuration(PrivateServer server) => string.Create(CultureInfo.InvariantCulture, $"""
        [mysqld]
        datadir = {server.Folder}/data
        socket = {server.Folder}/mariadb.sock
        pid-file = {server.Folder}/mariadb.pid
        tmpdir = {server.Folder}
        bind-address = 127.0.0.1
        port = {server.Port}
        skip-name-resolve
        skip-log-bin
        performance_schema = OFF
        max_connections = 300
        character-set-server = utf8mb4
        key_buffer_size = 1M
        aria_pagecache_buffer_size = 8M
        innodb_buffer_pool_size = 32M
        innodb_log_file_size = 8M
        innodb_flush_log_at_trx_commit = 0
        innodb_use_native_aio = OFF
        innodb_flush_method = nosync
        debug-no-sync

        """);

    // Its own log says that it listens, else it might be another server that has the port; the greeting says that it answers.
    // https://mariadb.com/docs/server/reference/clientserver-protocol/1-connecting/connection
    internal static async Task<bool> AnswersAsync(PrivateServer server)
    {
        if (!server.ReadLog().Contains("ready for connections", StringComparison.Ordinal))
        {
            return false;
        }

        try
        {
            using var client = new TcpClient();
            await client.ConnectAsync("127.0.0.1", server.Port);
            var greeting = new byte[5];
            await client.GetStream().ReadExactlyAsync(greeting);
            return greeting[4] == 10;
        }
        catch (Exception error) when (error is SocketException or IOException)
        {
            return false;
        }
    }
}
