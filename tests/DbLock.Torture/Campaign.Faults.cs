using System.Data.Common;
using System.Globalization;

namespace DbLock.Torture;

/// <content>The faults. Each draws from a chance of its own, so that how long one takes does not change the next.</content>
internal abstract partial class Campaign
{
    /// <summary>Gets the turn of who does something to the server.</summary>
    protected SemaphoreSlim ServerTurn { get; } = new(1);

    /// <summary>Lists the faults, each with its weight.</summary>
    protected abstract (int Weight, Func<Random, Task> Inject)[] Faults();

    /// <summary>Ends a session, or cancels its statement.</summary>
    /// <returns>Whether there was such a session.</returns>
    protected abstract Task<bool> SignalAsync(ServerSession session, bool ends);

    /// <summary>Restarts the server.</summary>
    /// <param name="immediate">Whether it has no time to end in good order.</param>
    protected abstract Task RestartServerAsync(bool immediate);

    /// <summary>Lists the faults that hit a worker, its network or its session, whatever the server is.</summary>
    protected (int Weight, Func<Random, Task> Inject)[] CommonFaults() =>
    [
        (6, KillWorkerAsync),
        (8, random => PauseAsync(random, random.Next(50, 1500))),
        (1, random => PauseAsync(random, random.Next((int)rules.PausedIsTold + 500, (int)rules.PausedIsTold + 2500))),
        (14, random => SignalSessionAsync(random, ends: true)),
        (14, random => SignalSessionAsync(random, ends: false)),
        (2, _ => RestartAsync(immediate: true)),
        (2, _ => RestartAsync(immediate: false)),
        (10, random => BlackholeAsync(random, random.Next(100, 2500))),
        (1, random => BlackholeAsync(random, random.Next(16_000, 19_000))),
        (8, random => OnNetworkAsync(random, "connections torn by a reset", 0, _ => { }, tears: true)),
        (6, random => OnNetworkAsync(random, "network slow", random.Next(500, 2000), gateway => Slow(gateway, random.Next(5, 80)))),
        (10, SwallowAsync),
    ];

    private async Task StormAsync(long end)
    {
        var faults = Faults();
        var total = faults.Sum(fault => fault.Weight);
        List<Task> under = [];
        while (Observer.Now < end && !IsOver())
        {
            var draw = _random.Next(total);
            var (_, inject) = faults.First(fault => (draw -= fault.Weight) < 0);
            under.Add(InjectAsync(inject, new Random(_random.Next())));
            await Task.Delay(_random.Next(50, 600));
        }

        await Task.WhenAll(under);
    }

    private async Task InjectAsync(Func<Random, Task> inject, Random random)
    {
        try
        {
            await inject(random);
        }
        catch (Exception e) when (e is DbException or TimeoutException)
        {
            // Another fault prevents it: it does not count.
            lock (_gate)
            {
                Note($"a fault could not be injected: {e.Message}");
            }
        }
        catch (InvalidOperationException e)
        {
            // A server or a pooler that does not start again.
            lock (_gate)
            {
                Broken(e.Message);
            }
        }
    }

    protected void Fault(string kind, string what)
    {
        Count(kind);
        Note($"FAULT {kind}: {what}");
    }

    // Begins a disturbance of a worker that nothing else disturbs at this moment. Under the gate.
    private (WorkerProcess Worker, Disturbance Disturbance)? Disturb(Random random, bool isPause = false)
    {
        var now = Observer.Now;
        var free = _workers.Where(worker => !_ledger.IsDisturbed(worker.Name, now + 1, long.MaxValue)).ToList();
        if (free.Count == 0)
        {
            return null;
        }

        var worker = free[random.Next(free.Count)];
        return (worker, _ledger.Disturb(worker.Name, now, isPause));
    }

    private async Task KillWorkerAsync(Random random)
    {
        (WorkerProcess Worker, Disturbance Disturbance)? victim;
        lock (_gate)
        {
            if ((victim = Disturb(random)) is null)
            {
                return;
            }

            Fault("client killed (SIGKILL)", victim.Value.Worker.Name);
        }

        var (worker, disturbance) = victim.Value;
        await worker.KillAsync();
        lock (_gate)
        {
            worker.Bury();
            _ledger.Died(worker.Name, Observer.Now);
            foreach (var task in _apps.Keys.Where(task => task.StartsWith(worker.Name + ".", StringComparison.Ordinal)).ToList())
            {
                _apps.Remove(task);
            }
        }

        // Until there is another process, nothing else can be done to the worker.
        Start(worker);
        lock (_gate)
        {
            disturbance.End(Observer.Now, tears: true);
        }
    }

    private async Task PauseAsync(Random random, int milliseconds)
    {
        (WorkerProcess Worker, Disturbance Disturbance)? victim;
        lock (_gate)
        {
            if ((victim = Disturb(random, isPause: true)) is null)
            {
                return;
            }

            Fault(milliseconds > 5000 ? "client paused for longer than it is trusted (SIGSTOP, SIGCONT)" : "client paused (SIGSTOP, SIGCONT)", $"{victim.Value.Worker.Name} for {milliseconds} ms");
        }

        await victim.Value.Worker.PauseAsync(milliseconds);
        lock (_gate)
        {
            Note($"FAULT over: {victim.Value.Worker.Name} goes on");
            victim.Value.Disturbance.End(Observer.Now);
        }
    }

    private async Task SignalSessionAsync(Random random, bool ends)
    {
        if (await Observer.LookAsync() is not { Sessions.Count: > 0 } view)
        {
            return;
        }

        // Mostly one that holds a lock; a lease is in no session.
        var holding = view.Locks.Select(one => one.Session).Where(view.Sessions.ContainsKey).ToList();
        var session = holding.Count > 0 && random.Next(4) != 0 ? holding[random.Next(holding.Count)] : view.Sessions.Keys.ElementAt(random.Next(view.Sessions.Count));
        var what = ends ? "session ended" : "statement cancelled";
        lock (_gate)
        {
            Note(string.Create(CultureInfo.InvariantCulture, $"FAULT {what}: {session.Pid} of {view.Sessions[session].App}"));
            if (ends)
            {
                _ledger.Doom(session, Observer.Now);
            }
        }

        // It may have ended by itself.
        var isSignalled = await SignalAsync(session, ends);
        lock (_gate)
        {
            if (isSignalled)
            {
                Count(what);
            }
        }
    }

    private async Task RestartAsync(bool immediate)
    {
        await ServerTurn.WaitAsync();
        try
        {
            lock (_gate)
            {
                Fault(immediate ? "server restarted (immediate)" : "server restarted (fast)", "");
                _ledger.Doom(null, Observer.Now);
            }

            await RestartServerAsync(immediate);
            lock (_gate)
            {
                _ledger.Doom(null, Observer.Now);
            }
        }
        finally
        {
            ServerTurn.Release();
        }
    }

    private Task BlackholeAsync(Random random, int milliseconds)
    {
        var direction = random.Next(3);
        var tears = milliseconds > 5000 || random.Next(2) == 0;
        var kind = direction switch { 0 => "network silent to the server", 1 => "network silent to the client", _ => "network silent both ways" };
        return OnNetworkAsync(random, milliseconds > 5000 ? kind + " for longer than it is trusted" : kind, milliseconds, Cut, tears);

        void Cut(Gateway gateway)
        {
            if (direction != 1)
            {
                gateway.ToServer.Close();
            }

            if (direction != 0)
            {
                gateway.ToClient.Close();
            }
        }
    }

    private static void Slow(Gateway gateway, int milliseconds)
    {
        gateway.ToServer.Slow(milliseconds);
        gateway.ToClient.Slow(milliseconds);
    }

    private async Task OnNetworkAsync(Random random, string kind, int milliseconds, Action<Gateway> disturb, bool tears = false)
    {
        (WorkerProcess Worker, Disturbance Disturbance)? victim;
        lock (_gate)
        {
            if ((victim = Disturb(random)) is null)
            {
                return;
            }

            Fault(kind, string.Create(CultureInfo.InvariantCulture, $"{victim.Value.Worker.Name} for {milliseconds} ms{(tears ? ", then torn" : "")}"));
            disturb(victim.Value.Worker.Gateway);
        }

        await Task.Delay(milliseconds);
        Mend(victim.Value, tears);
    }

    private void Mend((WorkerProcess Worker, Disturbance Disturbance) victim, bool tears)
    {
        lock (_gate)
        {
            Note($"FAULT over: the network of {victim.Worker.Name} is whole again");
            if (tears)
            {
                victim.Worker.Gateway.Reset();
            }

            victim.Worker.Gateway.Heal();
            victim.Disturbance.End(Observer.Now, tears);
        }
    }

    // The answer that says that the lock is granted never comes.
    private async Task SwallowAsync(Random random)
    {
        (WorkerProcess Worker, Disturbance Disturbance)? victim;
        lock (_gate)
        {
            if ((victim = Disturb(random)) is null)
            {
                return;
            }
        }

        var (name, gateway, isOver) = (victim.Value.Worker.Name, victim.Value.Worker.Gateway, false);
        var swallowed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        gateway.SwallowWhen(async () =>
        {
            var view = await Observer.LookAsync();
            lock (_gate)
            {
                // While the server was asked, the time may have passed: then the network is whole again, and stays so.
                var isGranted = !isOver && !swallowed.Task.IsCompleted && view is not null && view.Locks.Any(one => Ledger.WorkerOf(one.App) == name
                    && _ledger.Holds.Any(hold => hold.State == Hold.StateOf.Trying && hold.Has(one))
                    && !_ledger.Holds.Any(hold => hold.State is Hold.StateOf.Entered or Hold.StateOf.Leaving && hold.Has(one)));
                if (isGranted)
                {
                    Fault("answer swallowed after the grant", name);
                    gateway.ToClient.Close();
                    swallowed.SetResult();
                }
            }
        });
        await Task.WhenAny(swallowed.Task, Task.Delay(2000));
        if (swallowed.Task.IsCompleted)
        {
            await Task.Delay(random.Next(10, 2000));
        }

        lock (_gate)
        {
            isOver = true;
            Mend(victim.Value, tears: swallowed.Task.IsCompleted);
        }
    }

}
