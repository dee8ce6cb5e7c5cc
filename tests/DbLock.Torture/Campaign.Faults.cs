using System.Globalization;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.Torture;

/// <content>The faults.</content>
internal sealed partial class Campaign
{
    private readonly SemaphoreSlim _serverTurn = new(1);

    private async Task StormAsync(long end)
    {
        var faults = new (int Weight, Func<Task> Inject)[]
        {
            (6, KillWorkerAsync),
            (8, () => PauseAsync(_random.Next(50, 1500))),
            (1, () => PauseAsync(_random.Next((int)Ledger.PausedIsTold + 500, (int)Ledger.PausedIsTold + 2500))),
            (14, () => EndSessionAsync("pg_terminate_backend")),
            (14, () => EndSessionAsync("pg_cancel_backend")),
            (2, KillBackendAsync),
            (2, () => RestartAsync(immediate: true)),
            (2, () => RestartAsync(immediate: false)),
            (10, () => BlackholeAsync(_random.Next(100, 2500))),
            (1, () => BlackholeAsync(_random.Next(16_000, 19_000))),
            (8, () => OnNetworkAsync("connections torn by a reset", 0, gateway => gateway.Reset())),
            (6, () => OnNetworkAsync("network slow", _random.Next(500, 2000), gateway => Slow(gateway, _random.Next(5, 80)))),
            (10, SwallowAsync),
            (2, () => RestartPoolerAsync(_random.Next(_poolers.Length))),
            (3, () => ReconnectPoolerAsync(_random.Next(_poolers.Length))),
            (3, ExhaustConnectionsAsync),
            (3, ExhaustLocksAsync),
        };

        var total = faults.Sum(fault => fault.Weight);
        List<Task> under = [];
        while (Observer.Now < end && !IsFoundOut())
        {
            var draw = _random.Next(total);
            var (_, inject) = faults.First(fault => (draw -= fault.Weight) < 0);
            under.Add(InjectAsync(inject));
            await Task.Delay(_random.Next(50, 600));
        }

        await Task.WhenAll(under);
    }

    private async Task InjectAsync(Func<Task> inject)
    {
        try
        {
            await inject();
        }
        catch (Exception e) when (e is NpgsqlException or TimeoutException or InvalidOperationException)
        {
            // Another fault prevents it: it does not count.
            lock (_gate)
            {
                Note($"a fault could not be injected: {e.Message}");
            }
        }
    }

    private void Fault(string kind, string what)
    {
        Count(kind);
        Note($"FAULT {kind}: {what}");
    }

    // One that nothing else disturbs at this moment.
    private WorkerProcess? Undisturbed(Func<WorkerProcess, bool>? may = null)
    {
        var free = _workers.Where(worker => may?.Invoke(worker) != false && !_ledger.IsDisturbed(worker.Name, Observer.Now + 1, long.MaxValue)).ToList();
        return free.Count == 0 ? null : free[_random.Next(free.Count)];
    }

    private async Task KillWorkerAsync()
    {
        WorkerProcess? worker;
        lock (_gate)
        {
            if ((worker = Undisturbed()) is null)
            {
                return;
            }

            Fault("client killed (SIGKILL)", worker.Name);
            _ledger.Disturb(worker.Name, Observer.Now);
        }

        await worker.KillAsync();
        lock (_gate)
        {
            _ledger.Died(worker.Name, Observer.Now);
            foreach (var task in _apps.Keys.Where(task => task.StartsWith(worker.Name + ".", StringComparison.Ordinal)).ToList())
            {
                _apps.Remove(task);
            }
        }

        Start(worker);
    }

    private async Task PauseAsync(int milliseconds)
    {
        WorkerProcess? worker;
        lock (_gate)
        {
            if ((worker = Undisturbed()) is null)
            {
                return;
            }

            Fault(milliseconds > 5000 ? "client paused for longer than it is trusted (SIGSTOP, SIGCONT)" : "client paused (SIGSTOP, SIGCONT)", $"{worker.Name} for {milliseconds} ms");
            _ledger.Disturb(worker.Name, Observer.Now, isPause: true);
            worker.Pause();
        }

        await Task.Delay(milliseconds);
        lock (_gate)
        {
            Note($"FAULT over: {worker.Name} goes on");
            worker.GoOn();
            _ledger.Undisturb(worker.Name, Observer.Now);
        }
    }

    private async Task EndSessionAsync(string function)
    {
        if (await _observer.LookAsync() is not { Sessions.Count: > 0 } view)
        {
            return;
        }

        // Mostly one that holds a lock.
        ServerSession session;
        lock (_gate)
        {
            session = view.Locks.Count > 0 && _random.Next(4) != 0 ? view.Locks[_random.Next(view.Locks.Count)].Session : view.Sessions.Keys.ElementAt(_random.Next(view.Sessions.Count));
            Fault(function, string.Create(CultureInfo.InvariantCulture, $"{session.Pid} of {view.Sessions[session].App}"));
            if (function == "pg_terminate_backend")
            {
                _ledger.Doom(session, Observer.Now);
            }
        }

        await ExecuteAsync(string.Create(CultureInfo.InvariantCulture, $"select pg_catalog.{function}({session.Pid})"));
    }

    private async Task KillBackendAsync()
    {
        if (await _observer.LookAsync() is not { Sessions.Count: > 0 } view)
        {
            return;
        }

        await _serverTurn.WaitAsync();
        try
        {
            var pid = view.Sessions.Keys.ElementAt(_random.Next(view.Sessions.Count)).Pid;
            lock (_gate)
            {
                Fault("backend killed (kill -9): the server recovers", pid.ToString(CultureInfo.InvariantCulture));
                _ledger.Doom(null, Observer.Now);
            }

            if (WorkerProcess.Kill(pid, 9) != 0)
            {
                return;
            }

            await Task.Delay(300);
            while (await _observer.LookAsync() is null)
            {
                await Task.Delay(50);
            }
        }
        finally
        {
            _serverTurn.Release();
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

    private Task BlackholeAsync(int milliseconds)
    {
        var direction = _random.Next(3);
        var tears = milliseconds > 5000 || _random.Next(2) == 0;
        var kind = direction switch { 0 => "network silent to the server", 1 => "network silent to the client", _ => "network silent both ways" };
        return OnNetworkAsync(milliseconds > 5000 ? kind + " for longer than it is trusted" : kind, milliseconds, Cut, tears);

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

    private async Task OnNetworkAsync(string kind, int milliseconds, Action<Gateway> disturb, bool tears = false)
    {
        WorkerProcess? worker;
        lock (_gate)
        {
            if ((worker = Undisturbed()) is null)
            {
                return;
            }

            Fault(kind, string.Create(CultureInfo.InvariantCulture, $"{worker.Name} for {milliseconds} ms{(tears ? ", then torn" : "")}"));
            _ledger.Disturb(worker.Name, Observer.Now);
            disturb(worker.Gateway);
        }

        await Task.Delay(milliseconds);
        Mend(worker, tears);
    }

    private void Mend(WorkerProcess worker, bool tears)
    {
        lock (_gate)
        {
            Note($"FAULT over: the network of {worker.Name} is whole again");
            if (tears)
            {
                worker.Gateway.Reset();
            }

            worker.Gateway.Heal();
            _ledger.Undisturb(worker.Name, Observer.Now);
        }
    }

    // The answer that says that the lock is granted never comes.
    private async Task SwallowAsync()
    {
        WorkerProcess? worker;
        lock (_gate)
        {
            if ((worker = Undisturbed()) is null)
            {
                return;
            }

            _ledger.Disturb(worker.Name, Observer.Now);
        }

        var swallowed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        worker.Gateway.SwallowWhen(async () =>
        {
            var view = await _observer.LookAsync();
            lock (_gate)
            {
                var isGranted = !swallowed.Task.IsCompleted && view is not null && view.Locks.Any(one => Ledger.WorkerOf(one.App) == worker.Name
                    && _ledger.Holds.Any(hold => hold.State == Hold.StateOf.Trying && hold.Has(one))
                    && !_ledger.Holds.Any(hold => hold.State is Hold.StateOf.Entered or Hold.StateOf.Leaving && hold.Has(one)));
                if (isGranted)
                {
                    Fault("answer swallowed after the grant", worker.Name);
                    swallowed.SetResult();
                }

                return isGranted;
            }
        });
        await Task.WhenAny(swallowed.Task, Task.Delay(2000));
        if (swallowed.Task.IsCompleted)
        {
            await Task.Delay(_random.Next(10, 2000));
        }

        Mend(worker, tears: swallowed.Task.IsCompleted);
    }

    private async Task RestartPoolerAsync(int number)
    {
        var workers = Behind(number);
        lock (_gate)
        {
            Fault("PgBouncer killed and started", _poolers[number].Mode);
            workers.ForEach(worker => _ledger.Disturb(worker.Name, Observer.Now));
        }

        await _poolers[number].RestartAsync();
        lock (_gate)
        {
            workers.ForEach(worker => _ledger.Undisturb(worker.Name, Observer.Now));
        }
    }

    private async Task ReconnectPoolerAsync(int number)
    {
        var workers = Behind(number);
        lock (_gate)
        {
            Fault("PgBouncer told to RECONNECT", _poolers[number].Mode);
            workers.ForEach(worker => _ledger.Disturb(worker.Name, Observer.Now));
        }

        await _poolers[number].AdministerAsync("reconnect");
        lock (_gate)
        {
            workers.ForEach(worker => _ledger.Undisturb(worker.Name, Observer.Now));
        }
    }

    private List<WorkerProcess> Behind(int number) => _workers.FindAll(worker => worker.Via == _poolers[number].Mode);

    private async Task ExhaustConnectionsAsync()
    {
        lock (_gate)
        {
            Fault("no connection left on the server", "");
        }

        var taken = new List<NpgsqlConnection>();
        try
        {
            // As the workers' role, which has no place reserved.
            var other = new NpgsqlConnectionStringBuilder(_server.ConnectionString) { Username = Role, Pooling = false, Timeout = 5 };
            while (taken.Count < 100)
            {
                var connection = new NpgsqlConnection(other.ConnectionString);
                taken.Add(connection);
                await connection.OpenAsync();
            }
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.TooManyConnections)
        {
            await Task.Delay(_random.Next(200, 1000));
        }
        finally
        {
            foreach (var connection in taken)
            {
                await connection.DisposeAsync();
            }
        }
    }

    private async Task ExhaustLocksAsync()
    {
        lock (_gate)
        {
            Fault("no room left in the server's lock table", "");
        }

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
            await Task.Delay(_random.Next(200, 1000));
        }
    }
}
