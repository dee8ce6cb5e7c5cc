using System.Globalization;
using System.Text.RegularExpressions;

namespace DbLock.Torture;

/// <summary>The campaign: workers that fight for a few locks, faults that hit them, and oracles that compare what they say with what the server says.</summary>
/// <remarks>Storms of faults alternate with calms, in which everything must come back to its baseline, and with fair weather, in which nothing may fail.</remarks>
internal abstract partial class Campaign(TimeSpan length, int seed, (string Name, string Until) sabotage, string prefix, Rules rules) : IAsyncDisposable
{
    public const string Role = "torture";

    /// <summary>How the names begin that sessions give the server: short, so that none is cut where a lock is told after it.</summary>
    public const string App = "t:";

    private const int Storm = 15_000;
    private const int FairWeather = 3_000;
    private const int Silent = 20_000;
    private const int Sweep = 250;

    // Longer than the longest fault and its aftermath.
    protected const int Stuck = 60_000;
    private const int MostShown = 5;

    // What is told of something that is stuck begins before it was.
    private const int Kept = Stuck + Storm + 30_000;

    private readonly System.Threading.Lock _gate = new();
    private readonly Random _random = new(seed);
    private readonly List<WorkerProcess> _workers = [];
    private readonly Dictionary<string, string> _apps = [];
    private readonly HashSet<string> _failing = [];
    private readonly Queue<(long At, string Text)> _history = new();
    private readonly SortedDictionary<string, int> _faults = [];
    private readonly CancellationTokenSource _end = new();
    private readonly long _start = Observer.Now;
    private Ledger _ledger = null!;
    private TaskCompletionSource _mayTry = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private TaskCompletionSource _mustEnd = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Observer? _observer;
    private int _shown;
    private bool _isBroken;

    /// <summary>Runs the campaign.</summary>
    /// <returns>The exit code: 1 when there was a violation.</returns>
    public async Task<int> RunAsync()
    {
        _ledger = new Ledger(Note, rules);
        await StartAsync();
        var sweeping = SweepAsync();
        var end = Observer.Now + (long)length.TotalMilliseconds;
        while (Observer.Now < end && !IsOver())
        {
            Begin();
            await StormAsync(Math.Min(end, Observer.Now + Storm));
            await CalmAsync();
            if (!IsOver())
            {
                await FairWeatherAsync();
            }
        }

        if (!IsOver())
        {
            await CalmAsync();
        }

        await _end.CancelAsync();
        await sweeping;

        // Workers still speak, and what they say is written down.
        lock (_gate)
        {
            return Report();
        }
    }

    public void KillWorkers() => _workers.ForEach(worker => worker.Dispose());

    /// <summary>Gets who asks the server.</summary>
    protected Observer Observer
    {
        get => _observer ?? throw new InvalidOperationException("The campaign has not started.");
        set => _observer = value;
    }

    /// <summary>Gets what is under one lock: the ledger, the history and what is counted.</summary>
    protected System.Threading.Lock Gate => _gate;

    protected Ledger Ledger => _ledger;

    /// <summary>Gets whether the locks are leases.</summary>
    protected bool IsOfLeases => rules.IsLease;

    protected IReadOnlyList<WorkerProcess> Workers => _workers;

    public virtual async ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        await _end.CancelAsync();
        KillWorkers();
        if (_observer is not null)
        {
            await _observer.DisposeAsync();
        }
    }

    /// <summary>Starts the server, the observer and the workers.</summary>
    protected abstract Task StartAsync();

    /// <summary>Starts a worker.</summary>
    protected abstract void Start(WorkerProcess worker);

    /// <summary>Starts all workers of the list.</summary>
    protected void StartWorkers(string server)
    {
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{server}, seed {seed}, {length.TotalMinutes:0.##} minutes, workers:"));
        foreach (var worker in _workers)
        {
            Console.WriteLine($"  {worker}");
            Start(worker);
        }
    }

    protected void Add(string driver, string kind, string via, int port) =>
        _workers.Add(new WorkerProcess(string.Create(CultureInfo.InvariantCulture, $"{prefix}{_workers.Count}"), driver, kind, via, new Gateway(port), HandleAsync));

    protected void Start(WorkerProcess worker, string connectionString, string odbc) => worker.Start(connectionString, odbc, seed, sabotage.Name, last =>
    {
        lock (_gate)
        {
            _ledger.Violate($"{worker} has ended by itself: {last}");
        }
    });

    // What is wrong on purpose need be found only once; and without a server there is nothing to find. On a machine that does much else
    // something else may be found first.
    private bool IsOver()
    {
        lock (_gate)
        {
            return _isBroken || (sabotage.Name.Length > 0
                && _ledger.Violations.Any(violation => Regex.IsMatch(violation.Text, sabotage.Until)));
        }
    }

    private void Begin()
    {
        lock (_gate)
        {
            _mustEnd = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _mayTry.TrySetResult();
        }
    }

    private async Task FairWeatherAsync()
    {
        var start = Observer.Now;
        lock (_gate)
        {
            _ledger.Calm(start);
        }

        Begin();
        await Task.Delay(FairWeather);

        // A worker that was started anew just now, or has no connection left, needs longer on a machine that is busy.
        while (_workers.Any(worker => worker.HeardAt < start) && Observer.Now < start + Silent)
        {
            await Task.Delay(50);
        }

        lock (_gate)
        {
            _ledger.Calm(null);
            foreach (var worker in _workers.Where(worker => worker.HeardAt < start))
            {
                _ledger.Violate($"{worker} has not said anything for {Observer.Now - worker.HeardAt} ms, though nothing disturbs it");
            }
        }
    }

    // What a worker says, and is answered.
    private async Task<string> HandleAsync(WorkerProcess worker, int generation, string[] words)
    {
        if (words[0] == "may")
        {
            while (_mayTry is { Task.IsCompleted: false } gate)
            {
                await gate.Task;
            }

            return "ok";
        }

        if (words is ["work", _, var milliseconds])
        {
            await Task.WhenAny(Task.Delay(TimeSpan.FromMilliseconds(double.Parse(milliseconds, CultureInfo.InvariantCulture))), _mustEnd.Task);
            return "ok";
        }

        // The server is asked after the worker said it, and while it waits for the answer.
        var view = words[0] is "enter" or "lost" or "left" or "failed" ? await Observer.LookAsync() : null;
        lock (_gate)
        {
            // Said before it was killed.
            if (worker.DeadGeneration >= generation)
            {
                return "";
            }

            var now = Observer.Now;
            Note($"{worker.Name} {string.Join(' ', words)}");
            switch (words)
            {
                case ["try", var id, var app, var targets, var shared, var own, var fails, _]:
                    _apps[id[..id.LastIndexOf('.')]] = app;
                    if (fails == "True")
                    {
                        _failing.Add(id);
                    }

                    _ledger.Try(new Hold(id, worker.Name, app, [.. targets.Split(',').Select(target => Target.All[int.Parse(target, CultureInfo.InvariantCulture)])], shared == "True", own == "True", now));
                    break;
                case ["enter", var id, var token]:
                    if (_failing.Remove(id))
                    {
                        Count("work that fails, and aborts its transaction");
                    }

                    _ledger.Enter(id, long.Parse(token, CultureInfo.InvariantCulture), view, now);
                    break;
                case ["read", var id]:
                    return _ledger.Read(id)?.ToString(CultureInfo.InvariantCulture) ?? "stale";
                case ["write", var id, var checkedAt]:
                    return _ledger.Write(id, long.Parse(checkedAt, CultureInfo.InvariantCulture)) ? "ok" : "stale";
                case ["lost", var id]:
                    _ledger.Lost(id, view, now);
                    break;
                case ["leaving", var id]:
                    _ledger.Leaving(id);
                    break;
                case ["left", var id, var outcome, var isOpen]:
                    _ledger.Left(id, outcome, isOpen == "True", view, now);
                    break;
                case ["failed", var id, var outcome, var isOpen]:
                    _ledger.Failed(id, outcome, isOpen == "True", view, now);
                    break;
                default:
                    _ledger.Violate(string.Join(' ', words));
                    break;
            }
        }

        return "ok";
    }

    private async Task SweepAsync()
    {
        while (!_end.IsCancellationRequested)
        {
            var view = await Observer.LookAsync();
            lock (_gate)
            {
                _ledger.Sweep(view, Observer.Now);
                Show();
            }

            await Task.Delay(Sweep, _end.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    // Nobody begins, everybody ends, and nothing may be left.
    private async Task CalmAsync()
    {
        lock (_gate)
        {
            if (_mayTry.Task.IsCompleted)
            {
                _mayTry = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            }

            _mustEnd.TrySetResult();
        }

        var start = Observer.Now;
        long? idleSince = null;
        while (true)
        {
            var view = await Observer.LookAsync();
            lock (_gate)
            {
                var now = Observer.Now;
                var under = _ledger.Holds.Where(hold => hold.State != Hold.StateOf.Ended).ToList();
                if (under.Count > 0 && now - start > Stuck)
                {
                    under.ForEach(hold => _ledger.Violate($"It does not end: {hold} is {hold.State} since {now - hold.TriedAt} ms, though nothing disturbs it", hold));
                    Show();
                    return;
                }

                if (view is null && now - start > Stuck)
                {
                    Broken("the server does not answer");
                    return;
                }

                idleSince = under.Count > 0 ? null : idleSince ?? now;
                if (idleSince is { } since && view is not null)
                {
                    var left = Residue(view);
                    if (left.Count == 0)
                    {
                        _ledger.Forget();
                        _failing.Clear();
                        return;
                    }

                    if (now - since > rules.SessionEnds)
                    {
                        left.ForEach(text => _ledger.Violate(text));
                        Show();
                        return;
                    }
                }
            }

            await Task.Delay(50);
        }
    }

    private List<string> Residue(ServerView view)
    {
        var current = _apps.Values.ToHashSet();
        List<string> left = [];
        left.AddRange(view.Locks.Select(one => $"At rest a lock is held: {one.Number} by session {one.Session.Pid} of {one.App}"));
        left.AddRange(view.Sessions.Where(one => one.Value.State.StartsWith("idle in transaction", StringComparison.Ordinal))
            .Select(one => $"At rest a session is idle in a transaction: {one.Key.Pid} of {one.Value.App}"));

        // Behind a pooler sessions outlive their clients; a name says whose they were last.
        left.AddRange(view.Sessions.Values.Where(one => _workers.Find(worker => worker.Name == Ledger.WorkerOf(one.App)) is { Via: "" }).GroupBy(one => one.App)
            .Where(group => group.Count() > (current.Contains(group.Key) ? MostSessions(group.Key) : 0))
            .Select(group => string.Create(
                CultureInfo.InvariantCulture,
                $"At rest there are {group.Count()} sessions of {group.Key}, which has {(current.Contains(group.Key) ? MostSessions(group.Key) : 0)} at most")));
        return left;
    }

    // Two pools in a process, with two connections each.
    private static int MostSessions(string app) => app.EndsWith(".pool", StringComparison.Ordinal) ? 4 : 2;

    // Under the gate.
    protected void Note(string text)
    {
        var now = Observer.Now;
        _history.Enqueue((now, text));
        while (_history.Peek().At < now - Kept)
        {
            _history.Dequeue();
        }
    }

    // Under the gate.
    protected void Count(string fault) => _faults[fault] = _faults.GetValueOrDefault(fault) + 1;

    // Under the gate.
    private void Broken(string text)
    {
        _isBroken = true;
        _ledger.Violate($"The campaign cannot go on: {text}");
        Show();
    }

    // Under the gate.
    private void Show()
    {
        for (; _shown < _ledger.Violations.Count; _shown++)
        {
            var (text, hold) = _ledger.Violations[_shown];
            Console.WriteLine($"\nVIOLATION (seed {seed}, after {Observer.Now - _start} ms): {text}");
            if (_shown >= MostShown)
            {
                continue;
            }

            Console.WriteLine("What came before, in milliseconds (faults, and what concerns this lock):");
            foreach (var (at, line) in _history.Where(entry => Concerns(entry.Text, hold)).TakeLast(80))
            {
                Console.WriteLine($"  {at - _start,8} {line}");
            }
        }
    }

    private bool Concerns(string line, Hold? hold) => line.StartsWith("FAULT", StringComparison.Ordinal)
        || (hold is not null && (line.StartsWith(hold.Worker + " ", StringComparison.Ordinal)
            || _ledger.Holds.Any(other => other.Targets.Intersect(hold.Targets).Any() && other.Worker != hold.Worker && (line + " ").Contains($" {other.Id} ", StringComparison.Ordinal))));

    // Under the gate.
    private int Report()
    {
        Show();
        Console.WriteLine("\nFaults:");
        foreach (var (fault, count) in _faults)
        {
            Console.WriteLine($"  {count,7} {fault}");
        }

        Console.WriteLine("How attempts and holds ended, as their workers were told:");
        foreach (var (outcome, count) in _ledger.Outcomes)
        {
            Console.WriteLine($"  {count,7} {outcome}");
        }

        Console.WriteLine($"{_ledger.Losses} losses were told while the lock was held, the latest {_ledger.LongestUntold} ms after the end of its session was seen (connections of the lock's own, network and process undisturbed); {_ledger.StaleRefused} stale readers and writers were refused by their token. {_ledger.EndsCompared} ends were compared with the server at that moment, {_ledger.LossesCompared} losses had to be explained.");
        Console.WriteLine($"{_ledger.Acquisitions} acquisitions, {_faults.Values.Sum()} faults, {_ledger.Violations.Count} violations");
        return _ledger.Violations.Count == 0 ? 0 : 1;
    }
}
