using System.Diagnostics;
using System.Globalization;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.Torture;

/// <content>The faults. Each draws from a chance of its own, so that how long one takes does not change the next.</content>
internal sealed partial class Campaign
{
    private readonly SemaphoreSlim _serverTurn = new(1);
    private readonly SemaphoreSlim _poolerTurn = new(1);

    private async Task StormAsync(long end)
    {
        var faults = new (int Weight, Func<Random, Task> Inject)[]
        {
            (6, KillWorkerAsync),
            (8, random => PauseAsync(random, random.Next(50, 1500))),
            (1, random => PauseAsync(random, random.Next((int)Ledger.PausedIsTold + 500, (int)Ledger.PausedIsTold + 2500))),
            (14, random => SignalSessionAsync(random, "pg_terminate_backend")),
            (14, random => SignalSessionAsync(random, "pg_cancel_backend")),
            (2, KillBackendAsync),
            (2, _ => RestartAsync(immediate: true)),
            (2, _ => RestartAsync(immediate: false)),
            (10, random => BlackholeAsync(random, random.Next(100, 2500))),
            (1, random => BlackholeAsync(random, random.Next(16_000, 19_000))),
            (8, random => OnNetworkAsync(random, "connections torn by a reset", 0, _ => { }, tears: true)),
            (6, random => OnNetworkAsync(random, "network slow", random.Next(500, 2000), gateway => Slow(gateway, random.Next(5, 80)))),
            (10, SwallowAsync),
            (2, random => OnPoolerAsync(random, "PgBouncer killed and started", pooler => pooler.RestartAsync())),
            (3, random => OnPoolerAsync(random, "PgBouncer told to RECONNECT", ReconnectAsync)),
            (3, ExhaustConnectionsAsync),
            (3, ExhaustLocksAsync),
        };

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
        catch (Exception e) when (e is NpgsqlException or TimeoutException)
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

    private void Fault(string kind, string what)
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

            disturbance.End(Observer.Now, tears: true);
        }

        Start(worker);
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

    private async Task SignalSessionAsync(Random random, string function)
    {
        if (await _observer.LookAsync() is not { Sessions.Count: > 0 } view)
        {
            return;
        }

        // Mostly one that holds a lock.
        var session = view.Locks.Count > 0 && random.Next(4) != 0 ? view.Locks[random.Next(view.Locks.Count)].Session : view.Sessions.Keys.ElementAt(random.Next(view.Sessions.Count));
        lock (_gate)
        {
            Note(string.Create(CultureInfo.InvariantCulture, $"FAULT {function}: {session.Pid} of {view.Sessions[session].App}"));
            if (function == "pg_terminate_backend")
            {
                _ledger.Doom(session, Observer.Now);
            }
        }

        // It may have ended by itself, and another have its number.
        var signalled = await AskAsync(string.Create(
            CultureInfo.InvariantCulture,
            $"select pg_catalog.{function}(pid) from pg_catalog.pg_stat_activity where pid = {session.Pid} and (extract(epoch from backend_start) * 1000000)::bigint = {session.Start}"));
        lock (_gate)
        {
            if (signalled is true)
            {
                Count(function);
            }
        }
    }

    private async Task KillBackendAsync(Random random)
    {
        await _serverTurn.WaitAsync();
        try
        {
            if (await _observer.LookAsync() is not { Sessions.Count: > 0 } view || _observer.ProcessId is not { } ours)
            {
                return;
            }

            // Only what is the server's own child, and no stranger who has its number by now.
            var pid = view.Sessions.Keys.ElementAt(random.Next(view.Sessions.Count)).Pid;
            if (Parent(pid) is not { } parent || parent != Parent(ours))
            {
                return;
            }

            lock (_gate)
            {
                Fault("backend killed (kill -9): the server recovers", pid.ToString(CultureInfo.InvariantCulture));
                _ledger.Doom(null, Observer.Now);
            }

            using var kill = Process.Start("kill", ["-KILL", pid.ToString(CultureInfo.InvariantCulture)]);
            await kill.WaitForExitAsync();
            await Task.Delay(300);
            for (var start = Observer.Now; await _observer.LookAsync() is null;)
            {
                if (Observer.Now - start > Stuck)
                {
                    throw new InvalidOperationException("the server does not recover from the end of a backend");
                }

                await Task.Delay(50);
            }
        }
        finally
        {
            _serverTurn.Release();
        }
    }

    private static string? Parent(int pid)
    {
        try
        {
            return File.ReadLines($"/proc/{pid}/status").FirstOrDefault(line => line.StartsWith("PPid:", StringComparison.Ordinal));
        }
        catch (IOException)
        {
            return null;
        }
    }

    private async Task RestartAsync(bool immediate)
    {
        await _serverTurn.WaitAsync();
        try
        {
            lock (_gate)
            {
                Fault(immediate ? "server restarted (immediate)" : "server restarted (fast)", "");
                _ledger.Doom(null, Observer.Now);
            }

            await _server.RestartAsync(immediate);
            lock (_gate)
            {
                _ledger.Doom(null, Observer.Now);
            }
        }
        finally
        {
            _serverTurn.Release();
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

        var name = victim.Value.Worker.Name;
        var swallowed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        victim.Value.Worker.Gateway.SwallowWhen(async () =>
        {
            var view = await _observer.LookAsync();
            lock (_gate)
            {
                var isGranted = !swallowed.Task.IsCompleted && view is not null && view.Locks.Any(one => Ledger.WorkerOf(one.App) == name
                    && _ledger.Holds.Any(hold => hold.State == Hold.StateOf.Trying && hold.Has(one))
                    && !_ledger.Holds.Any(hold => hold.State is Hold.StateOf.Entered or Hold.StateOf.Leaving && hold.Has(one)));
                if (isGranted)
                {
                    Fault("answer swallowed after the grant", name);
                    swallowed.SetResult();
                }

                return isGranted;
            }
        });
        await Task.WhenAny(swallowed.Task, Task.Delay(2000));
        if (swallowed.Task.IsCompleted)
        {
            await Task.Delay(random.Next(10, 2000));
        }

        Mend(victim.Value, tears: swallowed.Task.IsCompleted);
    }

    // A pooler that is not there has ended by itself, which is one more fault: it is started again, and its last words are told.
    private async Task ReconnectAsync(PgBouncer pooler)
    {
        try
        {
            await pooler.AdministerAsync("reconnect");
        }
        catch (InvalidOperationException e)
        {
            lock (_gate)
            {
                Note($"FAULT PgBouncer had ended by itself: {e.Message.Trim()} {string.Join(" / ", pooler.ReadLog().Split('\n').TakeLast(5))}");
            }

            await pooler.RestartAsync();
        }
    }

    private async Task OnPoolerAsync(Random random, string kind, Func<PgBouncer, Task> disturb)
    {
        var pooler = _poolers[random.Next(_poolers.Length)];
        await _poolerTurn.WaitAsync();
        Disturbance[] disturbances;
        lock (_gate)
        {
            Note($"FAULT {kind}: {pooler.Mode}");
            disturbances = [.. _workers.Where(worker => worker.Via == pooler.Mode).Select(worker => _ledger.Disturb(worker.Name, Observer.Now))];
        }

        try
        {
            await disturb(pooler);
            lock (_gate)
            {
                Count(kind);
            }
        }
        finally
        {
            lock (_gate)
            {
                Array.ForEach(disturbances, one => one.End(Observer.Now, tears: true));
            }

            _poolerTurn.Release();
        }
    }

    private async Task ExhaustConnectionsAsync(Random random)
    {
        var taken = new List<NpgsqlConnection>();
        try
        {
            // As the workers' role, which has no place reserved.
            var other = new NpgsqlConnectionStringBuilder(_server.ConnectionString) { Username = Role, Pooling = false, Timeout = 5 };
            while (true)
            {
                var connection = new NpgsqlConnection(other.ConnectionString);
                taken.Add(connection);
                await connection.OpenAsync();
            }
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.TooManyConnections)
        {
            await BeFullAsync(random, "no connection left on the server");
        }
        finally
        {
            foreach (var connection in taken)
            {
                await connection.DisposeAsync();
            }
        }
    }

    private async Task ExhaustLocksAsync(Random random)
    {
        await using var connection = new NpgsqlConnection(_server.ConnectionString + ";Pooling=false;Timeout=5");
        await connection.OpenAsync();
        await using var command = new NpgsqlCommand("select count(pg_catalog.pg_advisory_lock(-1, n)) from pg_catalog.generate_series(1, 1000000) as n", connection);
        try
        {
            await command.ExecuteScalarAsync();
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.OutOfMemory)
        {
            // What it has got stays until the connection closes.
            await BeFullAsync(random, "no room left in the server's lock table");
        }
    }

    private Task BeFullAsync(Random random, string kind)
    {
        lock (_gate)
        {
            Fault(kind, "");
        }

        return Task.Delay(random.Next(200, 1000));
    }
}
