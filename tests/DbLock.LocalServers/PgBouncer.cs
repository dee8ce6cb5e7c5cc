using System.Globalization;
using Npgsql;

namespace DbLock.LocalServers;

/// <summary>A private PgBouncer in front of a PostgreSQL server.</summary>
public sealed class PgBouncer : IAsyncDisposable
{
    private readonly PrivateServer _server;

    private readonly Func<Task<bool>> _answers;

    private PgBouncer(PrivateServer server, string connectionString, string mode, Func<Task<bool>> answers)
    {
        _server = server;
        _answers = answers;
        ConnectionString = connectionString;
        Mode = mode;
    }

    /// <summary>The pool mode.</summary>
    public string Mode { get; }

    /// <summary>The connection string through the pooler, as Npgsql takes it.</summary>
    public string ConnectionString { get; }

    /// <summary>The connection string through the pooler for psqlodbc, without a DSN.</summary>
    /// <exception cref="InvalidOperationException">psqlodbc is not installed.</exception>
    public string OdbcConnectionString => PostgreSqlServer.ToOdbc(ConnectionString);

    /// <summary>Starts a pooler.</summary>
    /// <param name="server">The server behind it.</param>
    /// <param name="poolMode"><c>session</c>, <c>transaction</c> or <c>statement</c>.</param>
    /// <param name="poolSize">The number of connections to the server.</param>
    /// <param name="role">Another role that may log in, with the same password; null for none.</param>
    /// <exception cref="InvalidOperationException">It cannot be started; the message says what to install.</exception>
    public static async Task<PgBouncer> StartAsync(PostgreSqlServer server, string poolMode, int poolSize = 2, string? role = null)
    {
        ArgumentNullException.ThrowIfNull(server);
        var program = Programs.Find("pgbouncer")
            ?? throw new InvalidOperationException("pgbouncer was not found: apt-get install pgbouncer");
        var target = new NpgsqlConnectionStringBuilder(server.ConnectionString);
        var connectionString = "";

        // Killed at the end: it has nothing to save, and from 1.23 on SIGTERM waits for its clients.
        var pooler = await PrivateServer.CreateAsync("pgbouncer", "KILL", folder => [program, $"{folder}/pgbouncer.ini"], PrepareAsync);
        await pooler.StartAsync(Configure, AnswersAsync);
        return new(pooler, connectionString, poolMode, AnswersAsync);

        Task PrepareAsync(PrivateServer pooler)
        {
            // The plain password: PgBouncer needs it to log in to the server by SCRAM.
            pooler.Write("users.txt", string.Concat(new[] { target.Username, role }.OfType<string>().Select(name => $"{Quote(name)} {Quote(target.Password)}\n")));
            return Task.CompletedTask;
        }

        void Configure()
        {
            connectionString = new NpgsqlConnectionStringBuilder(server.ConnectionString)
            {
                Host = "127.0.0.1",
                Port = pooler.Port,
            }.ConnectionString;
            pooler.Write("pgbouncer.ini", string.Create(CultureInfo.InvariantCulture, $"""
                [databases]
                * = host={target.Host} port={target.Port}

                [pgbouncer]
                listen_addr = 127.0.0.1
                listen_port = {pooler.Port}
                unix_socket_dir =
                auth_type = scram-sha-256
                auth_file = {pooler.Folder}/users.txt
                admin_users = {target.Username}
                pool_mode = {poolMode}
                default_pool_size = {poolSize}
                max_client_conn = 200
                server_login_retry = 1
                ignore_startup_parameters = extra_float_digits

                """));
        }

        // Another pooler of the same server would let us in too: the log is our own.
        async Task<bool> AnswersAsync() =>
            pooler.ReadLog().Contains($"listening on 127.0.0.1:{pooler.Port}", StringComparison.Ordinal)
            && await PostgreSqlServer.AnswersAsync(connectionString);
    }

    /// <summary>Kills the pooler and starts it again, on the same port; every connection breaks.</summary>
    public Task RestartAsync() => _server.RestartAsync("KILL", _answers);

    /// <summary>Gives a command to the pooler's console, which speaks the simple protocol alone, with psql, and returns what it answers.</summary>
    /// <exception cref="InvalidOperationException">psql is not installed, or the command failed.</exception>
    public Task<string> AdministerAsync(string command)
    {
        var address = new NpgsqlConnectionStringBuilder(ConnectionString);
        var psql = Programs.Find("psql") ?? throw new InvalidOperationException("psql was not found: apt-get install postgresql-client");
        return Programs.RunAsync(["env", $"PGPASSWORD={address.Password}", psql, "-X", "-h", address.Host!, "-p", $"{address.Port}", "-U", address.Username!, "-c", command, "pgbouncer"], "/");
    }

    /// <summary>Reads the pooler's log.</summary>
    public string ReadLog() => _server.ReadLog();

    /// <summary>Stops the pooler and deletes its folder.</summary>
    public ValueTask DisposeAsync() => _server.DisposeAsync();

    private static string Quote(string? text) => $"\"{text?.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
}
