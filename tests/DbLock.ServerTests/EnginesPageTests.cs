using System.Data.Common;
using System.Globalization;
using System.Reflection;
using System.Text;
using DbLock.ServerTests.Cli;

namespace DbLock.ServerTests;

/// <summary>docs/engines.md and the table of the README, made of what each engine does here when it is asked for each feature.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class EnginesPageTests : IDisposable
{
    private const string Run = "run";
    private const string Written = "written";
    private const string No = "no";

    private static readonly Feature[] Features =
    [
        new("a lock of a session", SessionAsync, dialect => dialect.Acquire(Request())),
        new("a lock of a transaction", TransactionAsync, dialect => dialect.Acquire(Request() with { Scope = LockScope.Transaction, InTransaction = true })),
        new("shared", SharedAsync, dialect => dialect.Acquire(Request() with { Shared = true })),
        new("several keys, all or none", SeveralAsync, dialect => dialect.HasSeveral ? true : throw new NotSupportedException()),
        new("on a connection of its own, watched", OwnAsync, dialect => dialect.Acquire(Request())),
        new("a pool", PoolAsync, dialect => dialect.Carrier ?? throw new NotSupportedException()),
        new("who holds it", HoldersAsync, dialect => dialect.Holders(Request()) ?? throw new NotSupportedException()),
        new("fencing tokens", FencingAsync, dialect => dialect.HasFencing ? true : throw new NotSupportedException()),
        new("leases, with tokens", LeaseAsync, dialect => dialect.Leases ?? throw new NotSupportedException()),
        new("a pool of leases", LeasePoolAsync, dialect => dialect.Leases ?? throw new NotSupportedException()),
    ];

    private static readonly string[] Short = ["a lock of a session", "a lock of a transaction", "shared", "a pool", "who holds it", "fencing tokens", "leases, with tokens"];

    private string Folder { get; } = Directory.CreateTempSubdirectory("dblock-table-").FullName;

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    [Fact]
    public async Task The_page_and_the_README_say_what_each_engine_did()
    {
        var (rows, refusals) = await ProbeAsync();
        string[] engines = ["PostgreSQL", "MariaDB", "MySQL", "SQL Server", "SQLite", "in memory"];
        var features = Table(["", .. engines], rows.Select(row => (string[])[row.Key, .. row.Value]));
        var said = Table(["", "what is said"], refusals.Distinct().Select(refusal => (string[])[refusal.Engine, refusal.Message]));
        AssertHas("docs/engines.md", features);
        AssertHas("docs/engines.md", said);
        AssertHas("docs/engines.md", Table(["specification", "on", "rules"], Specifications()));
        AssertHas("docs/engines.md", $"Leases are run over {string.Join("; ", LeaseServers.All.Select(row => row.Data))}.");
        AssertHas("README.md", Table(["", .. engines[..^1]], Short.Select(name => (string[])[name, .. rows[name][..^1]])));
    }

    private static LockRequest Request() => new("engines") { Timeout = TimeSpan.FromSeconds(1), Scope = LockScope.Session };

    private async Task<(Dictionary<string, string[]> Rows, List<(string Engine, string Message)> Refusals)> ProbeAsync()
    {
        await using var postgreSql = await LeaseServers.NewSourceAsync("Npgsql");
        await using var mariaDb = await LeaseServers.NewSourceAsync("MySqlConnector");
        await using var sqlite = Microsoft.Data.Sqlite.SqliteFactory.Instance.CreateDataSource($"Data Source={Folder}/locks.db;Pooling=false");
        await using var inMemory = InMemoryTestServer.Server.CreateDataSource();
        foreach (var source in new[] { postgreSql, mariaDb, sqlite })
        {
            await LeaseTable.Default.CreateAsync(source);
        }

        var (rows, refusals) = (new Dictionary<string, string[]>(), new List<(string, string)>());
        foreach (var feature in Features)
        {
            rows[feature.Name] =
            [
                await OnServerAsync("PostgreSQL", postgreSql), await OnServerAsync("MariaDB", mariaDb),
                ByText(LockDialect.MySql), ByText(LockDialect.SqlServer),
                await OnServerAsync("SQLite", sqlite), await OnServerAsync("in memory", inMemory),
            ];

            string ByText(LockDialect dialect)
            {
                try
                {
                    feature.Write(dialect);
                    return Written;
                }
                catch (NotSupportedException)
                {
                    return No;
                }
            }

            async Task<string> OnServerAsync(string engine, DbDataSource source)
            {
                try
                {
                    await feature.RunAsync(source);
                    return Run;
                }
                catch (NotSupportedException e)
                {
                    refusals.Add((engine, e.Message));
                    return No;
                }
            }
        }

        rows["`dblock run`"] = [await DblockAsync("PostgreSQL"), await DblockAsync("MariaDB"), Written, Written, await DblockAsync("SQLite"), No];
        rows["`dblock run --lease`"] = [await DblockAsync("PostgreSQL", "--lease", "10s"), await DblockAsync("MariaDB", "--lease", "10s"), Written, Written, await DblockAsync("SQLite", "--lease", "10s"), No];
        return (rows, refusals);
    }

    private async Task<string> DblockAsync(string engine, params string[] options)
    {
        (string, string?)[] environment = engine switch
        {
            "PostgreSQL" => await CliServer.PostgreSql.EnvironmentAsync(),
            "MariaDB" => await CliServer.MariaDb.EnvironmentAsync(),
            _ => [("DBLOCK_CONNECTION", $"sqlite:{Folder}/locks.db")],
        };
        var (code, _, error) = await DblockProcess.RunAsync(environment, ["run", .. options, Key().Name, "--", "true"]);
        Assert.True(code is 0 or 64, error);
        return code == 0 ? Run : No;
    }

    private static LockKey Key() => "engines:" + Guid.NewGuid();

    private static async Task SessionAsync(DbDataSource source) => await HoldAsync(source, Key(), new LockOptions());

    private static async Task SharedAsync(DbDataSource source) => await HoldAsync(source, Key(), new LockOptions { Shared = true });

    private static async Task SeveralAsync(DbDataSource source) => await HoldAsync(source, LockKey.All(Key(), Key()), new LockOptions());

    private static async Task FencingAsync(DbDataSource source)
    {
        await using var connection = await source.OpenConnectionAsync();
        await using var held = new Lock(connection, Key(), options: new LockOptions { Fencing = true });
        Assert.True(await held.AcquireAsync(block: false));
        Assert.True(held.FencingToken > 0);
    }

    private static async Task TransactionAsync(DbDataSource source)
    {
        await using var connection = await source.OpenConnectionAsync();
        await using var transaction = await connection.BeginTransactionAsync();
        await using var held = new Lock(connection, Key(), options: new LockOptions { Scope = LockScope.Transaction }) { Transaction = transaction };
        Assert.True(await held.AcquireAsync(block: false));
    }

    private static async Task OwnAsync(DbDataSource source)
    {
        await using var held = await source.AcquireLockAsync(Key());
        Assert.True(held.IsHeld);
    }

    private static async Task PoolAsync(DbDataSource source)
    {
        await using var pool = new LockPool(source);
        await using var held = await pool.AcquireLockAsync(Key());
        Assert.True(held.IsHeld);
    }

    private static async Task HoldersAsync(DbDataSource source)
    {
        var key = Key();
        await using var connection = await source.OpenConnectionAsync();
        await using var held = new Lock(connection, key);
        Assert.True(await held.AcquireAsync(block: false));
        Assert.Single(await held.GetHoldersAsync());
    }

    private static async Task LeaseAsync(DbDataSource source)
    {
        await using var held = await source.AcquireLockAsync(Key(), options: new LockOptions { Scope = LockScope.Lease });
        Assert.True(held.FencingToken > 0);
    }

    private static async Task LeasePoolAsync(DbDataSource source)
    {
        await using var pool = new LockPool(source, options: new LockPoolOptions { Scope = LockScope.Lease });
        await using var held = await pool.AcquireLockAsync(Key());
        Assert.True(held.FencingToken > 0);
    }

    private static async Task HoldAsync(DbDataSource source, LockKey key, LockOptions options)
    {
        await using var connection = await source.OpenConnectionAsync();
        await using var held = new Lock(connection, key, options: options);
        Assert.True(await held.AcquireAsync(TimeSpan.FromSeconds(30)));
        Assert.True(await held.ReleaseAsync());
    }

    // Each class of the specification that runs here, with the number of its rules. SQL Server's are skipped where there is none.
    private static IEnumerable<string[]> Specifications() =>
        from type in typeof(EnginesPageTests).Assembly.GetTypes()
        where !type.IsAbstract && (typeof(LockSpecification).IsAssignableFrom(type) || typeof(PoolSpecification).IsAssignableFrom(type)
            || typeof(LeaseSpecification).IsAssignableFrom(type))
        orderby Engine(type.Name), type.Name
        select new[]
        {
            $"`{type.Name}`", Engine(type.Name),
            type.GetMethods().Count(method => method.GetCustomAttributes().Any(attribute => attribute is FactAttribute)).ToString(CultureInfo.InvariantCulture)
                + (type.Name.EndsWith("SqlServer", StringComparison.Ordinal) ? " (skipped without a server)" : ""),
        };

    private static string Engine(string type) =>
        type.Contains("MariaDb", StringComparison.Ordinal) ? "MariaDB"
            : type.Contains("SqlServer", StringComparison.Ordinal) ? "SQL Server"
            : type.Contains("Sqlite", StringComparison.Ordinal) ? "SQLite"
            : type.Contains("InMemory", StringComparison.Ordinal) ? "in memory" : "PostgreSQL";

    private static string Table(string[] header, IEnumerable<string[]> rows)
    {
        var text = new StringBuilder();
        foreach (var row in rows.Prepend([.. header.Select(static _ => "---")]).Prepend(header))
        {
            var line = string.Join(" | ", row);
            text.Append(row.All(static cell => cell == "---") ? $"|{line.Replace(" ", "", StringComparison.Ordinal)}|\n" : $"| {line} |\n".Replace("|  |", "| |", StringComparison.Ordinal));
        }

        return text.ToString();
    }

    private static void AssertHas(string page, string expected)
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder.FullName, "DbLock.sln")))
        {
            folder = folder.Parent!;
        }

        var text = File.ReadAllText(Path.Combine(folder.FullName, page));
        Assert.True(text.Contains(expected, StringComparison.Ordinal), $"{page} must have:\n{expected}");
    }

    private sealed record Feature(string Name, Func<DbDataSource, Task> RunAsync, Func<LockDialect, object> Write);
}
