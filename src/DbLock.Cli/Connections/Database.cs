using System.CommandLine;
using System.Data.Common;
using System.Net.Sockets;

namespace DbLock.Cli;

/// <summary>
/// A database that dblock was told of: which engine's it is, and how a connection to it is opened. Its connection string is never shown,
/// because it may have a password in it.
/// </summary>
internal abstract class Database(string connectionString)
{
    /// <summary>Gets the connection string, in which pooling is off.</summary>
    public string ConnectionString => connectionString;

    /// <summary>Gets the engine's name, for messages.</summary>
    public abstract string Engine { get; }

    public abstract LockInterface Interface { get; }

    /// <summary>Gets where it is, for messages.</summary>
    public abstract string Place { get; }

    /// <summary>Gets how long the provider's opening takes at the longest; infinite for no limit.</summary>
    public TimeSpan ConnectTimeout => ConnectSeconds == 0
        ? Timeout.InfiniteTimeSpan : TimeSpan.FromSeconds(ConnectSeconds) + RunLimit.OnTheWay;

    /// <summary>Gets what the database is not asked for, as its engine has no such lock; null when it has.</summary>
    public abstract string? Lack(RunJob job);

    /// <summary>
    /// Returns the same database for a session that only a lock uses: the provider cuts no command, and asks nothing by itself.
    /// </summary>
    public abstract Database ForLock();

    /// <summary>Returns the same database for a command that makes it where there is none: a file of SQLite's.</summary>
    public virtual Database ThatMayBeMade() => this;

    /// <summary>Returns the same database with no timeout of the provider's for connecting.</summary>
    public abstract Database WithoutTimeout();

    /// <summary>Makes the source of connections in which leases are renewed.</summary>
    public virtual DbDataSource CreateSource() => Factory.CreateDataSource(connectionString);

    /// <summary>Refuses options that are for PostgreSQL, where it is another engine's database.</summary>
    /// <exception cref="UsageException">One of them was given.</exception>
    public void RefuseOptionsOfPostgreSql(ParseResult parsed, params IEnumerable<Option> options)
    {
        var given = this is PostgreSqlDatabase ? null : options.FirstOrDefault(option => parsed.GetResult(option) is { Implicit: false });
        UsageException.ThrowIf(
            given is not null, $"{given?.Name} is for PostgreSQL, and this database is one of {Engine}: leave {given?.Name} out");
    }

    /// <summary>Opens a connection.</summary>
    /// <exception cref="UnavailableException">There is no way to the database.</exception>
    public async Task<DbConnection> OpenAsync(CancellationToken cancellationToken)
    {
        var connection = Factory.CreateConnection()!;
        try
        {
            // Providers do not look at the token while a server that has taken the connection says nothing.
            connection.ConnectionString = connectionString;
            await connection.OpenAsync(cancellationToken).WaitAsync(cancellationToken).ConfigureAwait(false);
            return connection;
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            await connection.DisposeAsync().ConfigureAwait(false);

            // Npgsql fails in many ways at the answer of another engine, as if the fault were its own.
            if (e is not (DbException or SocketException or TimeoutException or ArgumentException or NotSupportedException
                or InvalidOperationException or IOException))
            {
                throw;
            }

            var reason = await ReasonAsync(e, cancellationToken).ConfigureAwait(false);
            throw new UnavailableException($"no connection to {Place}: {Output.OneLine(reason)}");
        }
    }

    /// <summary>Returns the number of the server's session behind a connection, as the client knows it.</summary>
    public abstract long SessionId(DbConnection connection);

    /// <summary>Asks for the number of the server's session, where the client may not know it.</summary>
    public virtual Task<long> AskSessionIdAsync(DbConnection connection, LockOptions options, CancellationToken cancellationToken) =>
        Task.FromResult(SessionId(connection));

    /// <summary>Makes a session ready that only a lock uses.</summary>
    /// <returns>Whether a grant can have a fencing token.</returns>
    public abstract Task<bool> PrepareAsync(DbConnection connection, LockOptions options, CancellationToken cancellationToken);

    protected abstract DbProviderFactory Factory { get; }

    /// <summary>Gets the provider's own timeout for connecting, in seconds; 0 for none.</summary>
    protected abstract long ConnectSeconds { get; }

    /// <summary>Returns why a connection failed.</summary>
    protected virtual Task<string> ReasonAsync(Exception failure, CancellationToken cancellationToken) =>
        Task.FromResult((failure.InnerException is SocketException inner ? inner : failure).Message);

    /// <summary>Asks for one value.</summary>
    public static async Task<object?> AskAsync(DbConnection connection, string sql, CancellationToken cancellationToken)
    {
        var command = connection.CreateCommand();
        await using (command.ConfigureAwait(false))
        {
            command.CommandText = sql;
            return await command.ExecuteScalarAsync(cancellationToken).ConfigureAwait(false);
        }
    }
}
