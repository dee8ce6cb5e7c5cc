using System.Globalization;

namespace DbLock.Torture;

/// <summary>The oracles: what the workers say, compared with each other, with the resources behind the keys and with the server. They know nothing of the library.</summary>
/// <remarks>
/// Times are milliseconds of one monotonic clock, which all processes of the machine share. <b>Threads.</b> Not for several at once.
/// </remarks>
internal sealed class Ledger(Action<string> note, Rules rules)
{
    private const long Remembered = 120_000;

    // A disturbance so shortly before may still be under way.
    private const long Shadow = 2_000;

    private readonly Dictionary<string, Hold> _holds = [];
    private readonly Dictionary<Target, Resource> _resources = Target.All.ToDictionary(target => target, _ => new Resource());
    private readonly List<Disturbance> _disturbances = [];
    private readonly Dictionary<(ServerSession, long, bool, bool), (long Since, long For)> _strays = [];
    private readonly HashSet<ServerSession> _doomed = [];
    private long _allDoomedAt = long.MinValue;
    private long _calmSince = long.MaxValue;
    private long _lastSweep;

    /// <summary>Gets the violations, each a sentence.</summary>
    public List<(string Text, Hold? Hold)> Violations { get; } = [];

    public int Acquisitions { get; private set; }

    public int Losses { get; private set; }

    public int StaleRefused { get; private set; }

    /// <summary>Gets how many losses were told of locks that the server still held, and were looked at for what explains them.</summary>
    public int LossesCompared { get; private set; }

    /// <summary>Gets how many ends of holds and attempts were compared with what the server held then.</summary>
    public int EndsCompared { get; private set; }

    /// <summary>Gets the longest that a loss was not told, where the session had ended and nothing disturbed the worker.</summary>
    public long LongestUntold { get; private set; }

    /// <summary>Gets the outcomes of attempts, and how often each was reported.</summary>
    public SortedDictionary<string, int> Outcomes { get; } = [];

    public IEnumerable<Hold> Holds => _holds.Values;

    /// <summary>Begins a disturbance of a worker: of its network, or a pause.</summary>
    public Disturbance Disturb(string worker, long now, bool isPause = false)
    {
        _disturbances.RemoveAll(one => one.To < now - Remembered);
        var disturbance = new Disturbance(worker, now, isPause);
        _disturbances.Add(disturbance);
        return disturbance;
    }

    /// <summary>Says that a session is about to be ended; null for all of them.</summary>
    public void Doom(ServerSession? session, long now)
    {
        if (session is { } one)
        {
            _doomed.Add(one);
        }
        else
        {
            _allDoomedAt = now;
        }
    }

    /// <summary>Says since when nothing disturbs anybody: what fails then, fails without a cause.</summary>
    public void Calm(long? since) => _calmSince = since ?? long.MaxValue;

    public void Try(Hold hold)
    {
        _holds[hold.Id] = hold;
        hold.TokenBefore = hold.Targets.Max(target => _resources[target].LargestToken);
    }

    public void Enter(string id, long token, ServerView? view, long now)
    {
        if (Find(id, Hold.StateOf.Trying) is not { } hold)
        {
            return;
        }

        Acquisitions++;
        (hold.State, hold.EnteredAt, hold.Token) = (Hold.StateOf.Entered, now, token);
        foreach (var other in _holds.Values.Where(other => other != hold && other.State == Hold.StateOf.Entered && !other.IsTold && other.Targets.Intersect(hold.Targets).Any()))
        {
            if (!(other.Shared && hold.Shared))
            {
                hold.Overlaps.Add(other);
                other.Overlaps.Add(hold);
                note($"overlap: {hold} with {other}");
            }
        }

        if (hold.Fenced)
        {
            Token(hold);
        }

        See(hold, view, now, isAskedForIt: true);
    }

    /// <summary>Reads a resource.</summary>
    /// <returns>Null when the resource refuses it as stale.</returns>
    public long? Read(string id)
    {
        if (Find(id, Hold.StateOf.Entered) is not { } hold)
        {
            return null;
        }

        var resource = _resources[hold.Targets[0]];
        if (hold.Fenced && !resource.Accepts(hold.Token))
        {
            StaleRefused++;
            return null;
        }

        return hold.Read = resource.Value;
    }

    /// <summary>Writes to a resource what was read, and one.</summary>
    /// <param name="id">The hold.</param>
    /// <param name="checkedAt">When its worker last looked whether the lock was lost.</param>
    /// <returns>Whether the resource took it.</returns>
    public bool Write(string id, long checkedAt)
    {
        if (Find(id, Hold.StateOf.Entered) is not { } hold)
        {
            return false;
        }

        foreach (var pause in _disturbances.Where(one => one.IsPause && one.Worker == hold.Worker && one.From > hold.EnteredAt && one.To < checkedAt && one.To - one.From > rules.PausedIsTold))
        {
            if (hold.IsOwn)
            {
                Violate($"A paused process went on: {hold} was paused for {pause.To - pause.From} ms, looked {checkedAt - pause.To} ms after that, and was not told", hold);
            }
        }

        var resource = _resources[hold.Targets[0]];
        if (hold.Fenced && !resource.Accepts(hold.Token))
        {
            StaleRefused++;
            return false;
        }

        if (resource.Value != hold.Read)
        {
            var text = string.Create(CultureInfo.InvariantCulture, $"A lost update: {hold} read {hold.Read} and finds {resource.Value}, written by {resource.Writer}");
            if (hold.Fenced)
            {
                Violate(text + ", though its token was accepted", hold);
            }
            else
            {
                MustBeTold(hold, resource.Writer, text);
            }
        }

        (resource.Value, resource.Writer) = (hold.Read + 1, hold);
        return true;
    }

    /// <summary>A worker was told of a loss.</summary>
    public void Lost(string id, ServerView? view, long now)
    {
        if (!_holds.TryGetValue(id, out var hold) || hold.IsTold || hold.State is Hold.StateOf.Trying or Hold.StateOf.Ended)
        {
            return;
        }

        Losses++;
        if (hold.MustBeToldSince != 0 && hold.IsOwn && !IsDisturbed(hold.Worker, hold.MustBeToldSince - Shadow, now))
        {
            LongestUntold = Math.Max(LongestUntold, now - hold.MustBeToldSince);
        }

        hold.IsTold = true;
        if (view is not null && hold.Session is { } session && view.Locks.Any(one => one.Session == session && hold.Has(one))
            && !_doomed.Contains(session) && _allDoomedAt < now - rules.SessionEnds)
        {
            LossesCompared++;
            if (IsExplained(hold, now))
            {
                return;
            }

            Violate($"A loss was told that was none: {hold} is held by the server", hold);
        }
    }

    public void Leaving(string id)
    {
        if (Find(id, Hold.StateOf.Entered) is { } hold)
        {
            hold.State = Hold.StateOf.Leaving;
        }
    }

    /// <summary>A hold has ended.</summary>
    /// <param name="id">The hold.</param>
    /// <param name="outcome">released, or ended with its transaction; anything else: its worker knows that all was not well.</param>
    /// <param name="isOpen">Whether the session is still its worker's, who can tell its locks apart from those of others.</param>
    /// <param name="view">What the server says after that.</param>
    /// <param name="now">The time.</param>
    public void Left(string id, string outcome, bool isOpen, ServerView? view, long now)
    {
        if (!_holds.TryGetValue(id, out var hold) || hold.State == Hold.StateOf.Ended)
        {
            return;
        }

        var isWell = outcome is "released" or "ended";
        if (isWell && hold.IsTold)
        {
            Violate($"Told of a loss and then that all was well: {hold} was {outcome}", hold);
        }

        if (isWell && hold.MustBeToldSince != 0)
        {
            Violate($"Not told of a loss: {hold} was {outcome}, although {now - hold.MustBeToldSince} ms before: {hold.MustBeToldOf}", hold);
        }

        hold.IsTold |= !isWell;
        End(hold, outcome, now);
        NotHeld(hold, outcome, isOpen, view, now);
    }

    /// <summary>An attempt has ended without a lock.</summary>
    /// <remarks>That one was "late" is no error: the machine may do much else.</remarks>
    public void Failed(string id, string outcome, bool isOpen, ServerView? view, long now)
    {
        if (Find(id, Hold.StateOf.Trying) is not { } hold)
        {
            return;
        }

        if (outcome.StartsWith("error", StringComparison.Ordinal) && hold.TriedAt > _calmSince)
        {
            Violate($"An error without a cause: {hold} failed with {outcome}, and nothing had been disturbed for {hold.TriedAt - _calmSince} ms", hold);
        }

        End(hold, outcome.Split(' ')[0], now);
        NotHeld(hold, outcome, isOpen, view, now);
    }

    /// <summary>A worker was killed: its holds are nobody's.</summary>
    public void Died(string worker, long now)
    {
        foreach (var hold in _holds.Values.Where(hold => hold.Worker == worker).ToList())
        {
            hold.IsTold = true;
            End(hold, "killed", now);
        }

        Disturb(worker, now).End(now, tears: true);
    }

    /// <summary>Something that no oracle of the ledger's own found.</summary>
    public void Violate(string text, Hold? hold = null) => Violations.Add((text, hold));

    /// <summary>Compares all that is believed with what the server says.</summary>
    public void Sweep(ServerView? view, long now)
    {
        foreach (var hold in _holds.Values.ToList())
        {
            if (view is not null)
            {
                See(hold, view, now, isAskedForIt: false);
            }

            if (hold.State == Hold.StateOf.Entered && !hold.IsTold && hold.MustBeToldSince != 0 && now > Deadline(hold))
            {
                Violate($"Not told in time: {hold}, {now - hold.MustBeToldSince} ms ago: {hold.MustBeToldOf}", hold);
                hold.IsTold = true;
            }
        }

        if (view is null)
        {
            return;
        }

        foreach (var one in view.Locks)
        {
            // Who ended it after the server was asked, had it still.
            var key = (one.Session, one.Number, one.IsPair, one.Shared);
            if (_holds.Values.Any(hold => hold.Has(one) && (hold.State != Hold.StateOf.Ended || hold.EndedAt >= view.AskedAt)))
            {
                continue;
            }

            // The time in which nobody justifies it, as far as it was looked at.
            var (since, time) = _strays.GetValueOrDefault(key, (now, 0));
            time += Math.Min(now - Math.Max(since, _lastSweep), 1000);
            var worker = WorkerOf(one.App);
            if (time > rules.SessionEnds && !IsDisturbed(worker, now - rules.SessionEnds, now))
            {
                Violate($"A lock is left behind: {(one.IsPair ? "pair " : "")}{one.Number} in session {one.Session.Pid} of {one.App}, which nobody has had for {time} ms");
                time = 0;
            }

            _strays[key] = (since, time);
        }

        foreach (var key in _strays.Keys.Where(key => !view.Locks.Any(one => (one.Session, one.Number, one.IsPair, one.Shared) == key)).ToList())
        {
            _strays.Remove(key);
        }

        _lastSweep = now;
    }

    /// <summary>Forgets what is over.</summary>
    public void Forget()
    {
        foreach (var id in _holds.Where(one => one.Value.State == Hold.StateOf.Ended).Select(one => one.Key).ToList())
        {
            _holds.Remove(id);
        }
    }

    public bool IsDisturbed(string worker, long from, long to) => _disturbances.Any(one => one.Worker == worker && one.From <= to && one.To >= from);

    public static string WorkerOf(string app) => app[Campaign.App.Length..].Split('.')[0];

    // A torn connection costs no lease, but one short silence after another does.
    private bool IsExplained(Hold hold, long now)
    {
        var disturbed = _disturbances.Where(one => one.Worker == hold.Worker && one.To >= hold.EnteredAt).ToList();
        return rules.IsLease
            ? disturbed.Sum(one => Math.Max(0, Math.Min(one.To, now) - Math.Max(one.From, now - Rules.Lease))) >= rules.SilenceLoses
            : disturbed.Exists(one => one.Tears || Math.Min(one.To, now) - one.From >= rules.SilenceLoses);
    }

    private Hold? Find(string id, Hold.StateOf state)
    {
        if (_holds.TryGetValue(id, out var hold) && hold.State == state)
        {
            return hold;
        }

        // A worker that was killed may have said it before.
        if (hold is null or { State: not Hold.StateOf.Ended })
        {
            Violate($"The campaign itself is wrong: {id} is {hold?.State.ToString() ?? "unknown"}, not {state}");
        }

        return null;
    }

    private void Token(Hold hold)
    {
        var resource = _resources[hold.Targets[0]];
        if (hold.Token <= hold.TokenBefore)
        {
            Violate($"A token that is not larger: {hold} has {hold.Token}, and {hold.TokenBefore} had been given before it was asked for", hold);
        }

        if (!resource.Tokens.Add(hold.Token))
        {
            Violate($"A token twice: {hold} has {hold.Token}", hold);
        }

        if (hold.Token < resource.LargestToken)
        {
            // Granted before the last one, and told later: then it was lost before that was granted.
            Must(hold, "a later one has been granted", hold.EnteredAt);
        }

        resource.LargestToken = Math.Max(resource.LargestToken, hold.Token);
    }

    // What the server says of one hold. A sweep's question may be older than a hold that was entered in the very millisecond of the sweep.
    private static void See(Hold hold, ServerView? view, long now, bool isAskedForIt)
    {
        // Entered before the server was asked, else it may have been granted after that.
        if (view is null || hold.State != Hold.StateOf.Entered || hold.IsTold)
        {
            return;
        }

        var sessions = hold.Targets.Select(target => view.Locks.Where(one => one.App == hold.App && one.Is(target) && (hold.Session is null || one.Session == hold.Session)
            && one.Shared == hold.Shared).Select(one => (ServerSession?)one.Session).FirstOrDefault()).Distinct().ToList();
        if (sessions is [{ } session])
        {
            hold.Session = session;
        }
        else if (isAskedForIt || hold.EnteredAt < view.AskedAt)
        {
            Must(hold, "the server does not hold it", now);
        }
    }

    private static void Must(Hold hold, string why, long now)
    {
        if (hold.MustBeToldSince == 0)
        {
            (hold.MustBeToldSince, hold.MustBeToldOf) = (now, why);
        }
    }

    private void MustBeTold(Hold hold, Hold? other, string why)
    {
        if (other is null || other == hold)
        {
            Violate(why, hold);
        }
        else if (!hold.Overlaps.Contains(other))
        {
            hold.Overlaps.Add(other);
            other.Overlaps.Add(hold);
        }
    }

    private void End(Hold hold, string outcome, long now)
    {
        if (hold.State == Hold.StateOf.Ended)
        {
            return;
        }

        (hold.State, hold.EndedAt) = (Hold.StateOf.Ended, now);
        Outcomes[outcome] = Outcomes.GetValueOrDefault(outcome) + 1;
        foreach (var other in hold.Overlaps.Where(other => other.State == Hold.StateOf.Ended && !other.IsTold && !hold.IsTold))
        {
            Violate($"Two at a time: {hold} and {other} overlapped, and neither was told of a loss", hold);
        }
    }

    private void NotHeld(Hold hold, string outcome, bool isOpen, ServerView? view, long now)
    {
        // A lease whose release the server did not hear is let go of a little later. While nothing is disturbed it is heard.
        if (rules.IsLease && (outcome != "released" || hold.TriedAt < _calmSince))
        {
            return;
        }

        // Another session with the same name may be one that was given up, and that the server could not be told of.
        var isLate = hold.IsOwn && IsDisturbed(hold.Worker, now - rules.SilentIsTold, now);
        if (view is null || !isOpen || (isLate && hold.Session is null)
            || _holds.Values.Any(other => other != hold && other.Worker == hold.Worker && (other.State != Hold.StateOf.Ended || other.EndedAt >= view.AskedAt)
                && other.Targets.Intersect(hold.Targets).Any()))
        {
            // Its worker's other task, with the same pool or, behind a pooler, by now with the same session: the server tells sessions' names and locks one after the other.
            return;
        }

        EndsCompared++;
        foreach (var one in view.Locks.Where(one => hold.Has(one) && (!isLate || one.Session == hold.Session)))
        {
            Violate($"Not what the server says: {hold} was reported as '{outcome}', and session {one.Session.Pid} holds {one.Number}", hold);
        }
    }

    private long Deadline(Hold hold)
    {
        var from = hold.MustBeToldSince;
        var isQuick = hold.IsOwn && hold.Overlaps.Count == 0 && !IsDisturbed(hold.Worker, from - Shadow, long.MaxValue - 1);
        foreach (var pause in _disturbances.Where(one => one.IsPause && one.Worker == hold.Worker && one.To >= from))
        {
            from = pause.To == long.MaxValue ? long.MaxValue - rules.SilentIsTold : Math.Max(from, pause.To);
        }

        return from + (isQuick ? rules.KilledIsTold : rules.SilentIsTold);
    }

    private sealed class Resource
    {
        private long _seen;

        public long Value { get; set; }

        public Hold? Writer { get; set; }

        /// <summary>Gets or sets the largest token of those who entered.</summary>
        public long LargestToken { get; set; }

        public HashSet<long> Tokens { get; } = [];

        /// <summary>What a resource does with a fencing token: it refuses those who are older than the newest it has seen.</summary>
        public bool Accepts(long token)
        {
            if (token < _seen)
            {
                return false;
            }

            _seen = token;
            return true;
        }
    }
}
