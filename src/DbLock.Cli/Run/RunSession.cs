using System.Globalization;
using Npgsql;

namespace DbLock.Cli;

/// <summary>The session of the server in which <c>dblock run</c> holds its lock. It does nothing else.</summary>
internal sealed class RunSession
{
    private readonly RunJob _job;
    private readonly NpgsqlConnectionStringBuilder _address;

    private RunSession(RunJob job, NpgsqlConnectionStringBuilder address, NpgsqlConnection connection)
    {
        (_job, _address, Connection) = (job, address, connection);
        Lock = new Lock(connection, job.Key, LockInterface.Npgsql, job.Options) { Holder = job.Holder };
    }

    public NpgsqlConnection Connection { get; }

    public Lock Lock { get; }

    /// <summary>Gets the connection string.</summary>
    public string Address => _address.ConnectionString;

    /// <summary>Connects within the limit.</summary>
    /// <exception cref="UnavailableException">There is no way to the database.</exception>
    public static async Task<RunSession> OpenAsync(RunJob job, RunLimit limit, CancellationToken signal)
    {
        // dblock has a limit of its own for every question, and asks by itself whether the connection lives: Npgsql is to do neither.
        var address = new NpgsqlConnectionStringBuilder(job.Connection) { TcpKeepAlive = true, CommandTimeout = 0, KeepAlive = 0 };

        // The server's own types are enough here. Npgsql would ask for the others while it opens the connection, and a pooler that has no
        // session to give yet would keep that question, and so the opening, waiting.
        address["Server Compatibility Mode"] = "NoTypeLoading";
        var longest = limit.Connecting(address);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(signal);
        end.CancelAfter(longest);
        try
        {
            var connection = await ConnectionOption.OpenAsync(address.ConnectionString, end.Token).ConfigureAwait(false);
            return new RunSession(job, address, connection);
        }
        catch (OperationCanceledException) when (!signal.IsCancellationRequested)
        {
            throw new UnavailableException(string.Create(
                CultureInfo.InvariantCulture,
                $"no connection to {address.Host}, port {address.Port}: the server has not answered within "
                + $"{longest.TotalSeconds:0.###} s"));
        }
    }

    /// <summary>Makes the session ready. A pooler may have one to give only when another client has ended.</summary>
    /// <exception cref="UnavailableException">The server, or the pooler, does not answer within the limit.</exception>
    public async Task PrepareAsync(RunLimit limit, Action<string> say, CancellationToken signal)
    {
        var preparing = PrepareAsync(signal);
        if (!_job.Options.TrustPooler || _job.Timeout == TimeSpan.Zero)
        {
            await ServerAnswer.WithinAsync(preparing, TrustWindow.Length, signal).ConfigureAwait(false);
            return;
        }

        var what = string.Create(
            CultureInfo.InvariantCulture,
            $"a session of the server: the pooler at {_address.Host}, port {_address.Port} has none free, or does not answer");
        using var end = new CancellationTokenSource();
        _ = _job.Quiet ? Task.CompletedTask : WaitWatch.TellAsync(what, say, end.Token);
        try
        {
            await ServerAnswer.WithinAsync(preparing, limit.WaitWithAnswer, signal).ConfigureAwait(false);
        }
        catch (UnavailableException)
        {
            throw new UnavailableException(
                string.Create(CultureInfo.InvariantCulture, $"given up after {_job.Timeout.TotalSeconds:0.###} s, waiting for {what}"));
        }
        finally
        {
            await end.CancelAsync().ConfigureAwait(false);
        }
    }

    /// <summary>Asks for the id of the server process that holds the lock.</summary>
    public async Task<int> ServerPidAsync(CancellationToken signal)
    {
        if (!_job.Options.TrustPooler)
        {
            return Connection.ProcessID;
        }

        // A pooler tells its clients an id of its own.
        using var command = new NpgsqlCommand("select pg_catalog.pg_backend_pid()", Connection);
        var asked = command.ExecuteScalarAsync(CancellationToken.None);
        return (int)(await ServerAnswer.WithinAsync(asked, TrustWindow.Length, signal).ConfigureAwait(false))!;
    }

    // The session is dblock's own, and no timeout of the server is to end it while it idles, or to cut a statement that waits. Behind a
    // pooler it may be another client's, whose settings are left alone.
    private async Task<bool> PrepareAsync(CancellationToken cancellationToken)
    {
        var version = Connection.PostgreSqlVersion.Major;
        var own = string.Create(CultureInfo.InvariantCulture, $"where pg_catalog.pg_backend_pid() = {Connection.ProcessID}");
        var sql = $"""
            select
              pg_catalog.set_config('statement_timeout', '0', false),
              pg_catalog.set_config('idle_in_transaction_session_timeout', '0', false)
              {(version >= 14 ? ", pg_catalog.set_config('idle_session_timeout', '0', false)" : "")}
              {(version >= 17 ? ", pg_catalog.set_config('transaction_timeout', '0', false)" : "")}
              {(_job.Options.TrustPooler ? "" : own)}
            """;
        using var command = new NpgsqlCommand(sql, Connection);
        await command.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
        await Keeping.KeepOrThrow(Lock.Holding.Conversation, async: true, cancellationToken).ConfigureAwait(false);
        return true;
    }
}
