using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>
/// Asks for the leases of many tasks together: what is asked for while as many statements as may be are under way goes into the next one.
/// </summary>
internal sealed class LeaseRounds(LeaseServer server)
{
    private const int MostUnderWay = 8;
    private const int MostInOne = 500;

    private readonly System.Threading.Lock _gate = new();
    private readonly Queue<Asking> _asked = [];
    private int _underWay;

    /// <summary>Asks for a lease of one row. The answer has the rows of others in it, too.</summary>
    public Task<LeaseAnswer> Ask(LockKey key, LockOptions options, string owner)
    {
        var asking = new Asking(key, options, owner);
        lock (_gate)
        {
            _asked.Enqueue(asking);
            if (_underWay == MostUnderWay)
            {
                return asking.Answer.Task;
            }

            _underWay++;
        }

        using (ExecutionContext.SuppressFlow())
        {
            _ = Send();
        }

        return asking.Answer.Task;
    }

    private async Task Send()
    {
        while (Next() is { Count: > 0 } round)
        {
            await Send(round).ConfigureAwait(false);
        }
    }

    private async Task Send(List<Asking> round)
    {
        try
        {
            var (key, options, _) = round[0];
            var answer = await server.Ask(
                (leases, table) => leases.Acquire(table, Rows(leases, round), allOrNone: false), key, options,
                Limit.Of(TrustWindow.Length, CancellationToken.None), async: true).ConfigureAwait(false);
            if (answer.Trouble == LeaseTrouble.Refused && round.Count > 1)
            {
                // One of them may be what the server refuses, and nobody else waits for that.
                var half = round.Count / 2;
                await Send(round[..half]).ConfigureAwait(false);
                await Send(round[half..]).ConfigureAwait(false);
                return;
            }

            round.ForEach(asking => asking.Answer.SetResult(answer));
        }
        catch (Exception e)
        {
            round.ForEach(asking => asking.Answer.TrySetException(e));
        }
    }

    private static LeaseRow[] Rows(LeaseDialect leases, List<Asking> round) => round is [var one]
        ? Leasing.Rows(leases, one.Key, one.Options, one.Owner)
        :
        [
            .. round.SelectMany(asking => Leasing.Rows(leases, asking.Key, asking.Options, asking.Owner))
                .OrderBy(row => row.Name, StringComparer.Ordinal),
        ];

    private List<Asking> Next()
    {
        lock (_gate)
        {
            // One statement takes a row once. Who was cancelled after it asked is still here, beside the next one for the same key.
            var (round, names) = (new List<Asking>(), new HashSet<string>());
            for (var left = _asked.Count; left > 0 && round.Count < MostInOne; left--)
            {
                var asking = _asked.Dequeue();
                if (names.Add(asking.Key.Name))
                {
                    round.Add(asking);
                }
                else
                {
                    _asked.Enqueue(asking);
                }
            }

            _underWay -= round.Count == 0 ? 1 : 0;
            return round;
        }
    }

    private sealed record Asking(LockKey Key, LockOptions Options, string Owner)
    {
        public TaskCompletionSource<LeaseAnswer> Answer { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
