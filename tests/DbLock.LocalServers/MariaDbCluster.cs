using System.Globalization;

namespace DbLock.LocalServers;

/// <summary>A Galera cluster of private MariaDB servers on the loopback address: each takes writes, and has those of all the others.</summary>
public sealed class MariaDbCluster : IAsyncDisposable
{
    private const string Provider = "/usr/lib/galera/libgalera_smm.so";
    private const string Synced = "Synced";

    private readonly List<Node> _nodes = [];
    private readonly string _password = PrivateServer.NewPassword();

    private MariaDbCluster()
    {
    }

    /// <summary>The nodes.</summary>
    public IReadOnlyList<MariaDbServer> Nodes { get; private set; } = [];

    /// <summary>Starts a cluster.</summary>
    /// <param name="nodes">How many nodes it has.</param>
    /// <exception cref="InvalidOperationException">It cannot be started; the message says what to install.</exception>
    public static async Task<MariaDbCluster> StartAsync(int nodes = 3)
    {
        if (!File.Exists(Provider))
        {
            throw new InvalidOperationException($"{Provider} was not found: apt-get install galera-4");
        }

        var cluster = new MariaDbCluster();
        try
        {
            // The data are made once, by a server that stands alone, and copied: so no node has to send all of them to another.
            var first = await MariaDbServer.CreateAsync(server => MariaDbServer.InstallAsync(server, cluster._password));
            cluster._nodes.Add(new(first));
            await first.StartAsync(
                () => first.Write("my.cnf", MariaDbServer.Configuration(first)), () => MariaDbServer.AnswersAsync(first));
            await first.StopAsync("TERM");
            first.Write("init.sql", "");

            // Begun once, it has written down where in which history its data are: with their copy, the others know it, too.
            await cluster.StartAgainAsync(cluster._nodes[0]);
            await first.StopAsync("TERM");
            for (var n = 1; n < nodes; n++)
            {
                var next = await MariaDbServer.CreateAsync(server =>
                {
                    server.Write("init.sql", "");
                    return server.RunAsync("cp", "-a", $"{first.Folder}/data", "data");
                });
                cluster._nodes.Add(new(next));
            }

            await cluster.StartAgainAsync(cluster._nodes[0]);
            foreach (var node in cluster._nodes.Skip(1))
            {
                await node.Server.StartAsync(() => cluster.Configure(node), () => cluster.IsSyncedAsync(node));
            }

            cluster.Nodes = [.. cluster._nodes.Select(node => MariaDbServer.Of(node.Server, cluster._password))];
            return cluster;
        }
        catch
        {
            await cluster.DisposeAsync();
            throw;
        }
    }

    /// <summary>Ends a node as a crash does.</summary>
    public Task KillAsync(int index) => _nodes[index].Server.StopAsync("KILL");

    /// <summary>Starts a node that was killed. It gets what it has missed, and is back when this returns.</summary>
    public Task ReturnAsync(int index) => StartAgainAsync(_nodes[index]);

    /// <summary>Stops the nodes and deletes their folders.</summary>
    public async ValueTask DisposeAsync()
    {
        foreach (var node in _nodes)
        {
            await node.Server.DisposeAsync();
        }
    }

    private Task StartAgainAsync(Node node)
    {
        Configure(node);
        return node.Server.StartAgainAsync(() => IsSyncedAsync(node));
    }

    // A node without any other begins the cluster.
    private void Configure(Node node)
    {
        var others = _nodes.Where(other => other != node && other.IsInCluster).Select(other => $"127.0.0.1:{other.ClusterPort}");
        node.Server.Write("my.cnf", MariaDbServer.Configuration(node.Server) + string.Create(CultureInfo.InvariantCulture, $"""
            binlog_format = ROW
            innodb_autoinc_lock_mode = 2
            wsrep_on = ON
            wsrep_provider = {Provider}
            wsrep_cluster_name = {Path.GetFileName(_nodes[0].Server.Folder)}
            wsrep_cluster_address = gcomm://{string.Join(',', others)}
            wsrep_node_address = 127.0.0.1
            wsrep_sst_method = rsync
            wsrep_sst_receive_address = 127.0.0.1:{node.DataPort}
            wsrep_provider_options = "gmcast.listen_addr=tcp://127.0.0.1:{node.ClusterPort};ist.recv_addr=127.0.0.1:{node.MissedPort};gcache.size=32M"

            """));
    }

    private async Task<bool> IsSyncedAsync(Node node)
    {
        try
        {
            var state = await Programs.RunAsync(
                [MariaDbServer.Find("mariadb"), "--no-defaults", "--protocol=tcp", "--host=127.0.0.1",
                    string.Create(CultureInfo.InvariantCulture, $"--port={node.Server.Port}"), "--user=root", $"--password={_password}",
                    "--skip-column-names", "--execute=show status like 'wsrep_local_state_comment'"],
                "/");
            return node.IsInCluster |= state.Contains(Synced, StringComparison.Ordinal);
        }
        catch (InvalidOperationException)
        {
            return false;
        }
    }

    private sealed class Node(PrivateServer server)
    {
        public PrivateServer Server => server;

        public int ClusterPort { get; } = FreePort.Next();

        public int MissedPort { get; } = FreePort.Next();

        public int DataPort { get; } = FreePort.Next();

        public bool IsInCluster { get; set; }
    }
}
