using System.Data.Common;
using System.Globalization;
using MySqlConnector;

namespace DbLock.Cli;

/// <summary>A database of MariaDB's or MySQL's, which only the server tells apart.</summary>
internal sealed class MySqlDatabase(string connectionString) : Database(connectionString)
{
    private readonly MySqlConnectionStringBuilder _address = new(connectionString);

    public override string Engine => "MariaDB or MySQL";

    public override LockInterface Interface => LockInterface.AdoNet;

    public override string Place => string.Create(CultureInfo.InvariantCulture, $"{_address.Server}, port {_address.Port}");

    protected override long ConnectSeconds => _address.ConnectionTimeout;

    protected override DbProviderFactory Factory => MySqlConnectorFactory.Instance;

    /// <summary>Returns the connection string as dblock uses it.</summary>
    /// <exception cref="UsageException">The provider does not understand it.</exception>
    public static string Checked(string given) => TryCheck(given) ?? throw OtherEngines.Malformed("MySqlConnector");

    /// <summary>Returns the connection string as dblock uses it; null when the provider does not understand it.</summary>
    public static string? TryCheck(string given)
    {
        try
        {
            var address = new MySqlConnectionStringBuilder(given) { Pooling = false };
            return address.Server.Length == 0 ? null : address.ConnectionString;
        }
        catch (Exception e) when (e is ArgumentException or FormatException or InvalidOperationException)
        {
            // The exception's message may quote what was given, a password included, and so it is not shown.
            return null;
        }
    }

    public override string? Lack(RunJob job) => job.Options.Shared ? $"{Engine} has no shared locks: leave --shared out" : null;

    public override Database ForLock() => new MySqlDatabase(
        new MySqlConnectionStringBuilder(ConnectionString) { DefaultCommandTimeout = 0, Keepalive = 60 }.ConnectionString);

    public override Database WithoutTimeout() =>
        new MySqlDatabase(new MySqlConnectionStringBuilder(ConnectionString) { ConnectionTimeout = 0 }.ConnectionString);

    public override long SessionId(DbConnection connection) => ((MySqlConnection)connection).ServerThread;

    // The session is dblock's own: a limit of the server's for idle sessions or for statements is not for it. 31536000 seconds are the most
    // that wait_timeout takes.
    public override async Task<bool> PrepareAsync(DbConnection connection, LockOptions options, CancellationToken cancellationToken)
    {
        var isMariaDb = connection.ServerVersion.Contains("MariaDB", StringComparison.OrdinalIgnoreCase);
        await AskAsync(
            connection,
            $"set session wait_timeout = 31536000, session {(isMariaDb ? "max_statement_time" : "max_execution_time")} = 0",
            cancellationToken).ConfigureAwait(false);
        return isMariaDb && await HasSequenceAsync(connection, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Says whether the user sees the sequence of tokens, of which docs/fencing.md says how it is made.</summary>
    public static async Task<bool> HasSequenceAsync(DbConnection connection, CancellationToken cancellationToken) => await AskAsync(
        connection, "select 1 from information_schema.tables where table_schema = database() and table_name = 'dblock_fencing'",
        cancellationToken).ConfigureAwait(false) is not null;
}
