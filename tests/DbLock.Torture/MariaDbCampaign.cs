using System.Data.Common;
using System.Globalization;
using DbLock.Drivers;
using DbLock.LocalServers;
using MySqlConnector;

namespace DbLock.Torture;

/// <summary>The campaign on MariaDB over MySqlConnector: plain locks of sessions, which have no tokens that outlive a crash; or leases, which have.</summary>
internal sealed class MariaDbCampaign(TimeSpan length, int seed, (string Name, string Until) sabotage, Rules rules) : Campaign(length, seed, sabotage, rules.IsLease ? "n" : "m", rules)
{
    private readonly string _password = Guid.NewGuid().ToString("N");
    private MariaDbServer? _server;

    public override async ValueTask DisposeAsync()
    {
        await base.DisposeAsync();
        if (_server is not null)
        {
            await _server.DisposeAsync();
        }
    }

    protected override async Task StartAsync()
    {
        // What is answered of a lease must be on disk.
        _server = await MariaDbServer.StartPrivateAsync(IsOfLeases ? ["innodb_flush_log_at_trx_commit = 1"] : []);
        Observer = new MariaDbObserver(_server.ConnectionString, IsOfLeases);

        // Whatever name a session gives itself, it is let in as nobody: the server shows the name.
        await AskAsync($"create or replace user ''@'127.0.0.1' identified by '{_password}'");
        await AskAsync("grant select, insert, update on dblock.* to ''@'127.0.0.1'");
        if (IsOfLeases)
        {
            await AskAsync(LeaseTable.Default.Ddl(LockDialect.MariaDb));
        }

        foreach (var kind in IsOfLeases ? ["lease source", "lease pool"] : new[] { "connection", "source", "pool" })
        {
            Add("MySqlConnector", kind, "", _server.Port);
        }

        StartWorkers(IsOfLeases ? "Leases on MariaDB" : "MariaDB");
    }

    protected override void Start(WorkerProcess worker) => Start(
        worker,
        new MySqlConnectionStringBuilder
        {
            Server = "127.0.0.1",
            Port = (uint)worker.Gateway.Port,
            Database = "dblock",
            Password = _password,
            ConnectionTimeout = 3,

            // The provider's timer may end the process (docs/drivers.md): what the worker itself sends would have one, its commits too.
            DefaultCommandTimeout = 0,
            ConnectionReset = false,
            SslMode = MySqlSslMode.Disabled,
        }.ConnectionString,
        "");

    protected override (int Weight, Func<Random, Task> Inject)[] Faults() => CommonFaults();

    protected override async Task<bool> SignalAsync(ServerSession session, bool ends)
    {
        try
        {
            await AskAsync(string.Create(CultureInfo.InvariantCulture, $"kill {(ends ? "" : "query ")}{session.Pid}"));
            return true;
        }
        catch (MySqlException e) when (e.ErrorCode == MySqlErrorCode.NoSuchThread)
        {
            return false;
        }
    }

    protected override Task RestartServerAsync(bool immediate) => _server!.RestartAsync(immediate);

    private async Task AskAsync(string sql)
    {
        await using var connection = new MySqlConnection(_server!.ConnectionString + ";Pooling=false;Connection Timeout=5;Default Command Timeout=5");
        await connection.OpenAsync();
        await using var command = new MySqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync();
    }
}
