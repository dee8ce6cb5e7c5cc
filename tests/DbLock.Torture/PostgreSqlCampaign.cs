using System.Data.Common;
using System.Diagnostics;
using System.Globalization;
using DbLock.Drivers;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.Torture;

/// <summary>The campaign on PostgreSQL, with poolers, and with what only its server can suffer.</summary>
internal sealed class PostgreSqlCampaign(TimeSpan length, int seed, (string Name, string Until) sabotage, Rules rules) : Campaign(length, seed, sabotage, rules.IsLease ? "l" : "w", rules)
{
    private readonly SemaphoreSlim _poolerTurn = new(1);
    private PostgreSqlServer? _server;
    private PostgreSqlObserver? _observer;
    private PgBouncer[] _poolers = [];

    public override async ValueTask DisposeAsync()
    {
        await base.DisposeAsync();
        foreach (var pooler in _poolers)
        {
            await pooler.DisposeAsync();
        }

        if (_server is not null)
        {
            await _server.DisposeAsync();
        }
    }

    protected override async Task StartAsync()
    {
        _server = await PostgreSqlServer.StartPrivateAsync(["max_connections = 80", "max_locks_per_transaction = 20", "max_prepared_transactions = 0"]);
        Observer = _observer = new PostgreSqlObserver(_server!.ConnectionString, IsOfLeases);
        var password = new NpgsqlConnectionStringBuilder(_server!.ConnectionString).Password;
        await AskAsync($"create role {Role} login password '{password}'");
        _poolers = [await PgBouncer.StartAsync(_server, "session", 8, Role), await PgBouncer.StartAsync(_server, "transaction", 4, Role)];
        var behindPooler = new NpgsqlConnectionStringBuilder(_poolers[1].ConnectionString).Port;
        if (IsOfLeases)
        {
            await AskAsync(LeaseTable.Default.Ddl(LockDialect.PostgreSql));
            await AskAsync($"grant select, insert, update on {LeaseTable.DefaultName} to {Role}");
            Add("Npgsql", "lease source", "", _server!.Port);
            Add("Odbc", "lease source", "", _server.Port);
            Add("AdoNet", "lease source", "transaction", behindPooler);
            Add("Npgsql", "lease pool", "", _server.Port);
            StartWorkers($"Leases on PostgreSQL {_server.Version}");
            return;
        }

        foreach (var kind in new[] { "connection", "source", "pool" })
        {
            foreach (var driver in new[] { "Npgsql", "AdoNet", "Odbc" })
            {
                Add(driver, kind, "", _server!.Port);
            }
        }

        Add("Npgsql", "connection", "session", new NpgsqlConnectionStringBuilder(_poolers[0].ConnectionString).Port);
        Add("AdoNet", "connection", "transaction", behindPooler);
        StartWorkers($"PostgreSQL {_server.Version}");
    }

    protected override void Start(WorkerProcess worker)
    {
        var password = new NpgsqlConnectionStringBuilder(_server!.ConnectionString).Password;

        // What is left in a session shall show: nothing cleans it up on its way through a pool.
        var npgsql = new NpgsqlConnectionStringBuilder
        {
            Host = "127.0.0.1",
            Port = worker.Gateway.Port,
            Database = "postgres",
            Username = Role,
            Password = password,
            Timeout = 3,
            CommandTimeout = 10,
            NoResetOnClose = true,

            // Where Npgsql 10.0 falls back to a connection without it, after a reset, that is broken inside: whatever it had prepared for its cancels is disposed of.
            SslMode = SslMode.Disable,
            GssEncryptionMode = GssEncryptionMode.Disable,
        };
        var odbc = new DbConnectionStringBuilder(useOdbcRules: true) { ConnectionString = _server!.OdbcConnectionString, ["Port"] = worker.Gateway.Port, ["UID"] = Role };
        Start(worker, npgsql.ConnectionString, odbc.ConnectionString);
    }

    protected override (int Weight, Func<Random, Task> Inject)[] Faults() =>
    [
        .. CommonFaults(),
        (2, KillBackendAsync),
        (2, random => OnPoolerAsync(random, "PgBouncer killed and started", pooler => pooler.RestartAsync())),
        (3, random => OnPoolerAsync(random, "PgBouncer told to RECONNECT", ReconnectAsync)),
        (3, ExhaustConnectionsAsync),
        (3, ExhaustLocksAsync),
    ];

    // Another may have its number by now.
    protected override async Task<bool> SignalAsync(ServerSession session, bool ends) => await AskAsync(string.Create(
        CultureInfo.InvariantCulture,
        $"select pg_catalog.{(ends ? "pg_terminate_backend" : "pg_cancel_backend")}(pid) from pg_catalog.pg_stat_activity where pid = {session.Pid} and (extract(epoch from backend_start) * 1000000)::bigint = {session.Start}")) is true;

    protected override Task RestartServerAsync(bool immediate) => _server!.RestartAsync(immediate);

    private async Task KillBackendAsync(Random random)
    {
        await ServerTurn.WaitAsync();
        try
        {
            if (await Observer.LookAsync() is not { Sessions.Count: > 0 } view || _observer!.ProcessId is not { } ours)
            {
                return;
            }

            // Only what is the server's own child, and no stranger who has its number by now.
            var pid = view.Sessions.Keys.ElementAt(random.Next(view.Sessions.Count)).Pid;
            if (Parent(pid) is not { } parent || parent != Parent(ours))
            {
                return;
            }

            lock (Gate)
            {
                Fault("backend killed (kill -9): the server recovers", pid.ToString(CultureInfo.InvariantCulture));
                Ledger.Doom(null, Observer.Now);
            }

            using var kill = Process.Start("kill", ["-KILL", pid.ToString(CultureInfo.InvariantCulture)]);
            await kill.WaitForExitAsync();
            await Task.Delay(300);
            for (var start = Observer.Now; await Observer.LookAsync() is null;)
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
            ServerTurn.Release();
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

    // A pooler that is not there has ended by itself, which is one more fault: it is started again, and its last words are told.
    private async Task ReconnectAsync(PgBouncer pooler)
    {
        try
        {
            await pooler.AdministerAsync("reconnect");
        }
        catch (InvalidOperationException e)
        {
            lock (Gate)
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
        lock (Gate)
        {
            Note($"FAULT {kind}: {pooler.Mode}");
            disturbances = [.. Workers.Where(worker => worker.Via == pooler.Mode).Select(worker => Ledger.Disturb(worker.Name, Observer.Now))];
        }

        try
        {
            await disturb(pooler);
            lock (Gate)
            {
                Count(kind);
            }
        }
        finally
        {
            lock (Gate)
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
            var other = new NpgsqlConnectionStringBuilder(_server!.ConnectionString) { Username = Role, Pooling = false, Timeout = 5 };
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
        await using var connection = new NpgsqlConnection(_server!.ConnectionString + ";Pooling=false;Timeout=5");
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
        lock (Gate)
        {
            Fault(kind, "");
        }

        return Task.Delay(random.Next(200, 1000));
    }

    private async Task<object?> AskAsync(string sql)
    {
        await using var connection = new NpgsqlConnection(_server!.ConnectionString + ";Pooling=false;Timeout=5;Command Timeout=5");
        await connection.OpenAsync();
        await using var command = new NpgsqlCommand(sql, connection);
        return await command.ExecuteScalarAsync();
    }
}
