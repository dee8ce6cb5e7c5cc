using System.Data;
using System.Data.Common;

namespace DbLock;

/// <summary>Opens a pool's carriers.</summary>
internal sealed class PoolSource(DbDataSource dataSource, LockInterface? lockInterface, LockOptions options)
{
    // How many connections are tried: a data source may give out, one after another, sessions that have ended while nobody used them.
    private const int Attempts = 10;

    /// <summary>Gets whether each grant has a fencing token.</summary>
    public bool IsFenced => options.Fencing;

    /// <summary>
    /// Opens a connection and makes a carrier of it. If that takes too long it is left behind, and the connection is given back when it
    /// comes.
    /// </summary>
    /// <returns>The carrier, and how many locks the server has room for.</returns>
    /// <exception cref="LockException">There was none within the time for which an answer of a server is trusted.</exception>
    public async Task<(Carrier Carrier, long Room)> Open()
    {
        using var limit = new TimedCancel(TrustWindow.Length);
        var opening = Task.Run(() => Open(limit.Token), CancellationToken.None);
        try
        {
            return await opening.WaitAsync(limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException e) when (limit.Token.IsCancellationRequested)
        {
            _ = EndLate(opening);
            throw new LockException(
                "There was no connection for a LockPool within 15 s: the data source has none left to give, or the server does not answer. "
                + "Look at its size and at the network.",
                e);
        }
    }

    /// <summary>Asks, over a connection of its own, who holds some locks. The answer is empty where the server does not tell.</summary>
    public async Task<IReadOnlyDictionary<LockKey, LockHolders>> AskHolders(
        Carrier carrier, IReadOnlyCollection<LockKey> keys, CancellationToken cancellationToken)
    {
        if (carrier.Says.Holders(keys) is not { } question)
        {
            return new Dictionary<LockKey, LockHolders>();
        }

        var connection = await OwnConnection.Open(dataSource, async: true, cancellationToken).ConfigureAwait(false);
        await using var closing = connection.ConfigureAwait(false);
        question = question with { Limit = TrustWindow.Length };
        return carrier.Says.ReadHolders(
            keys, await carrier.Driver.Execute(connection, null, question, async: true, cancellationToken).ConfigureAwait(false));
    }

    private static async Task EndLate(Task<(Carrier Carrier, long Room)> opening)
    {
        await ((Task)opening).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (opening.IsCompletedSuccessfully)
        {
            await (await opening.ConfigureAwait(false)).Carrier.End().ConfigureAwait(false);
        }
    }

    private async Task<(Carrier Carrier, long Room)> Open(CancellationToken limit)
    {
        for (var attempt = 1; ; attempt++)
        {
            var connection = await OwnConnection.Open(dataSource, async: true, limit).ConfigureAwait(false);
            try
            {
                return await Carrier.Open(connection, lockInterface, options).ConfigureAwait(false);
            }
            catch (Exception)
            {
                var isGone = connection.State != ConnectionState.Open;
                await connection.DisposeAsync().ConfigureAwait(false);
                if (!isGone || attempt == Attempts || limit.IsCancellationRequested)
                {
                    throw;
                }
            }
        }
    }
}
