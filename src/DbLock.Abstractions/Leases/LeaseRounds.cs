using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>
/// Asks for the leases of many tasks together, or lets go of them: what is asked for while as many statements as may be are under way goes
/// into the next one.
/// </summary>
/// <param name="server">The server.</param>
/// <param name="say">Writes the statement for many rows.</param>
/// <param name="patience">How long the answer to a statement may take.</param>
internal sealed class LeaseRounds(
    LeaseServer server, Func<LeaseDialect, LeaseTable, LeaseRow[], LockStatement> say, TimeSpan patience)
{
    private const int MostUnderWay = 8;
    private const int MostInOne = 500;

    private readonly System.Threading.Lock _gate = new();
    private readonly Queue<Asking> _asked = [];
    private int _underWay;

    /// <summary>Asks for one row. The answer has the rows of others in it, too.</summary>
    public Task<LeaseAnswer> Ask(LockKey key, LockOptions options, string owner, int slot = 0)
    {
        var asking = new Asking(key, options, owner, slot);
        lock (_gate)
        {
            _asked.Enqueue(asking);
            // A provider that blocks keeps a thread of everybody's for each, and the one file has one writer at a time.
            if (_underWay >= (server.Dialect?.Leases is { IsBlocking: true } ? 1 : MostUnderWay))
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
        var round = Next();
        while (round.Count > 0)
        {
            await Send(round).ConfigureAwait(false);
            round = Next();
            if (round.Count > 0)
            {
                // Over a provider that blocks, this is still the thread of the one who asked first, who does not serve the others.
                await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
            }
        }
    }

    private async Task Send(List<Asking> round)
    {
        try
        {
            var (key, options, _, _) = round[0];
            var answer = await server.Ask(
                (leases, table) => say(leases, table, Rows(leases, round)), key, options,
                Limit.Of(patience, CancellationToken.None), async: true).ConfigureAwait(false);
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
        ? Leasing.Rows(leases, one.Key, one.Options, one.Owner, one.Slot)
        :
        [
            .. round.SelectMany(asking => Leasing.Rows(leases, asking.Key, asking.Options, asking.Owner, asking.Slot))
                .OrderBy(row => row.Name, StringComparer.Ordinal),
        ];

    private List<Asking> Next()
    {
        lock (_gate)
        {
            // One statement takes a row once. Who was cancelled after it asked is still here, beside the next one for the same key.
            var (round, names) = (new List<Asking>(), new HashSet<(string, int)>());
            for (var left = _asked.Count; left > 0 && round.Count < MostInOne; left--)
            {
                var asking = _asked.Dequeue();
                if (names.Add((asking.Key.Name, asking.Slot)))
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

    private sealed record Asking(LockKey Key, LockOptions Options, string Owner, int Slot)
    {
        public TaskCompletionSource<LeaseAnswer> Answer { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
