using System.Data.Common;
using System.Globalization;

namespace DbLock.Cli;

/// <summary>The session of the server in which <c>dblock run</c> holds its lock. It does nothing else.</summary>
internal sealed class RunSession
{
    private readonly RunJob _job;

    private RunSession(RunJob job, Database database, DbConnection connection) =>
        (_job, Database, Connection) = (job, database, connection);

    public DbConnection Connection { get; }

    public Database Database { get; }

    /// <summary>Gets the lock of a session that is ready.</summary>
    public Lock Lock { get; private set; } = null!;

    /// <summary>Connects within the limit.</summary>
    /// <exception cref="UnavailableException">There is no way to the database.</exception>
    public static async Task<RunSession> OpenAsync(RunJob job, RunLimit limit, CancellationToken signal)
    {
        var database = job.Database.ForLock();
        return new RunSession(job, database, await ConnectAsync(database, limit, signal).ConfigureAwait(false));
    }

    /// <summary>Opens a connection within the limit.</summary>
    /// <exception cref="UnavailableException">There is no way to the database.</exception>
    public static async Task<DbConnection> ConnectAsync(Database database, RunLimit limit, CancellationToken signal)
    {
        var longest = limit.Connecting(database);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(signal);
        end.CancelAfter(longest);
        try
        {
            return await database.OpenAsync(end.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!signal.IsCancellationRequested)
        {
            throw new UnavailableException(string.Create(
                CultureInfo.InvariantCulture,
                $"no connection to {database.Place}: the server has not answered within {longest.TotalSeconds:0.###} s"));
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

        var what = $"a session of the server: the pooler at {Database.Place} has none free, or does not answer";
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

    /// <summary>Asks for the number of the server's session, which holds the lock.</summary>
    public Task<long> SessionIdAsync(CancellationToken signal) => ServerAnswer.WithinAsync(
        Database.AskSessionIdAsync(Connection, _job.Options, CancellationToken.None), TrustWindow.Length, signal);

    private async Task<bool> PrepareAsync(CancellationToken cancellationToken)
    {
        var hasTokens = await Database.PrepareAsync(Connection, _job.Options, cancellationToken).ConfigureAwait(false);
        Lock = new Lock(Connection, _job.Key, Database.Interface, _job.Options with { Fencing = hasTokens }) { Holder = _job.Holder };
        await Keeping.KeepOrThrow(Lock.Holding.Conversation, async: true, cancellationToken).ConfigureAwait(false);
        return true;
    }
}
