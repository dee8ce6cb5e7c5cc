using System.Data.Common;
using System.Globalization;
using Npgsql;

namespace DbLock.Cli;

/// <summary>A database of PostgreSQL's.</summary>
internal sealed class PostgreSqlDatabase(string connectionString) : Database(connectionString)
{
    private readonly NpgsqlConnectionStringBuilder _address = new(connectionString);

    public override string Engine => "PostgreSQL";

    public override LockInterface Interface => LockInterface.Npgsql;

    public override string Place => _address.Host!.Contains(',', StringComparison.Ordinal)
        ? _address.Host
        : string.Create(CultureInfo.InvariantCulture, $"{_address.Host}, port {_address.Port}");

    // Npgsql's own timeout is for one host, and does not end the wait for a server that takes the connection and says nothing.
    protected override long ConnectSeconds => (long)_address.Timeout * _address.Host!.Split(',').Length;

    protected override DbProviderFactory Factory => NpgsqlFactory.Instance;

    public async Task<NpgsqlConnection> OpenNpgsqlAsync(CancellationToken cancellationToken) =>
        (NpgsqlConnection)await OpenAsync(cancellationToken).ConfigureAwait(false);

    public override string? Lack(RunJob job) => null;

    public override Database ForLock()
    {
        // dblock has a limit of its own for every question, and asks by itself whether the connection lives: Npgsql is to do neither.
        var address = new NpgsqlConnectionStringBuilder(ConnectionString) { TcpKeepAlive = true, CommandTimeout = 0, KeepAlive = 0 };

        // The server's own types are enough here. Npgsql would ask for the others while it opens the connection, and a pooler that has no
        // session to give yet would keep that question, and so the opening, waiting.
        address["Server Compatibility Mode"] = "NoTypeLoading";
        return new PostgreSqlDatabase(address.ConnectionString);
    }

    public override Database WithoutTimeout() =>
        new PostgreSqlDatabase(new NpgsqlConnectionStringBuilder(ConnectionString) { Timeout = 0 }.ConnectionString);

    public override DbDataSource CreateSource() => NpgsqlDataSource.Create(ConnectionString);

    public override long SessionId(DbConnection connection) => ((NpgsqlConnection)connection).ProcessID;

    // A pooler tells its clients an id of its own.
    public override async Task<long> AskSessionIdAsync(
        DbConnection connection, LockOptions options, CancellationToken cancellationToken) => options.TrustPooler
        ? (int)(await AskAsync(connection, "select pg_catalog.pg_backend_pid()", cancellationToken).ConfigureAwait(false))!
        : SessionId(connection);

    // The session is dblock's own, and no timeout of the server is to end it while it idles, or to cut a statement that waits. Behind a
    // pooler it may be another client's, whose settings are left alone.
    public override async Task<bool> PrepareAsync(DbConnection connection, LockOptions options, CancellationToken cancellationToken)
    {
        var version = ((NpgsqlConnection)connection).PostgreSqlVersion.Major;
        var own = string.Create(CultureInfo.InvariantCulture, $"where pg_catalog.pg_backend_pid() = {SessionId(connection)}");
        var sql = $"""
            select
              pg_catalog.set_config('statement_timeout', '0', false),
              pg_catalog.set_config('idle_in_transaction_session_timeout', '0', false)
              {(version >= 14 ? ", pg_catalog.set_config('idle_session_timeout', '0', false)" : "")}
              {(version >= 17 ? ", pg_catalog.set_config('transaction_timeout', '0', false)" : "")}
              {(options.TrustPooler ? "" : own)}
            """;
        await AskAsync(connection, sql, cancellationToken).ConfigureAwait(false);
        return true;
    }

    protected override async Task<string> ReasonAsync(Exception failure, CancellationToken cancellationToken)
    {
        var other = await OtherServer.NameAsync(failure, _address.Host!, _address.Port, cancellationToken).ConfigureAwait(false);
        return other is null ? await base.ReasonAsync(failure, cancellationToken).ConfigureAwait(false)
            : OtherEngines.SchemeOf(other) is { } scheme
                ? $"{other} answers there: write {scheme}//… for it, or put {scheme} before the connection string"
                : $"{other} answers there, and dblock was told of PostgreSQL: give the host and port of a database server";
    }
}
