using System.Data.Common;
using System.Diagnostics;
using System.Globalization;
using DbLock.Drivers;
using Microsoft.Data.Sqlite;
using MySqlConnector;
using Npgsql;

namespace DbLock.Benchmarks;

/// <summary>What leases cost: one, beside the same statements by hand and beside a session's lock; ten thousand that are held; a hundred tasks on each engine.</summary>
internal sealed class Leases(string connectionString, string mariaDb, TimeSpan span, int rounds)
{
    private const int Many = 10_000;
    private const string Holding = "lease: holding";

    private static readonly LockOptions Options = new() { Scope = LockScope.Lease };

    private readonly List<Crowd.Figure> _figures = [];

    /// <summary>Lists the rows. The floor sends the very statements, prepared, over a pooled connection each.</summary>
    public IEnumerable<Row> Rows()
    {
        const string Group = "Npgsql: a lease from a data source";
        const string Floor = "by hand, prepared, a pooled connection";
        yield return new(Group, Floor, null, null, async () =>
        {
            var source = NpgsqlDataSource.Create(connectionString);
            await LeaseTable.Default.CreateAsync(source);
            var leases = LockDialect.PostgreSql.Leases!;
            LeaseRow[] rows = [new(leases.Name("lease: by hand"), "hand") { Lease = Options.Lease, Holder = "by hand" }];
            LockStatement[] statements = [leases.Acquire(LeaseTable.Default, rows, allOrNone: false), leases.Release(LeaseTable.Default, rows)];
            return new Work(
                () =>
                {
                    foreach (var statement in statements)
                    {
                        using var connection = source.OpenConnection();
                        using var command = Command(connection, statement);
                        command.Prepare();
                        command.ExecuteScalar();
                    }
                },
                async () =>
                {
                    foreach (var statement in statements)
                    {
                        await using var connection = await source.OpenConnectionAsync();
                        await using var command = Command(connection, statement);
                        await command.PrepareAsync();
                        await command.ExecuteScalarAsync();
                    }
                },
                source);
        });
        foreach (var (name, budget, options) in new (string, double?, LockOptions)[] { ("DbLock", 1.15, Options), ("DbLock, a session's lock", null, new LockOptions()) })
        {
            yield return new(Group, name, Floor, budget, async () =>
            {
                var source = NpgsqlDataSource.Create(connectionString);
                await LeaseTable.Default.CreateAsync(source);
                return new Work(
                    () =>
                    {
                        using var held = source.AcquireLock("lease: one", options: options);
                    },
                    async () =>
                    {
                        await using var held = await source.AcquireLockAsync("lease: one", options: options);
                    },
                    source);
            });
        }

        static NpgsqlCommand Command(NpgsqlConnection connection, LockStatement statement) => new(statement.Commands[0].Sql.Numbered, connection)
        {
            Parameters = { new NpgsqlParameter<string> { TypedValue = (string)statement.Commands[0].Parameters[0].Value } },
        };
    }

    public async Task<IReadOnlyList<Crowd.Figure>> MeasureAsync()
    {
        Console.Error.WriteLine("leases");
        await HoldingAsync();
        var folder = Directory.CreateTempSubdirectory("dblock-bench-leases-");
        try
        {
            await TasksAsync("PostgreSQL", NpgsqlDataSource.Create(connectionString));
            await TasksAsync("MariaDB", new MySqlDataSource(mariaDb));
            await TasksAsync("SQLite", SqliteFactory.Instance.CreateDataSource($"Data Source={Path.Combine(folder.FullName, "locks.db")}"));
        }
        finally
        {
            SqliteConnection.ClearAllPools();
            folder.Delete(recursive: true);
        }

        return _figures;
    }

    // Each lease is renewed once in a third of its length, so that a third shows all.
    private async Task HoldingAsync()
    {
        await using var source = NpgsqlDataSource.Create($"{connectionString};Application Name={Holding}");
        await LeaseTable.Default.CreateAsync(source);
        var start = Stopwatch.GetTimestamp();
        var held = await Task.WhenAll(Enumerable.Range(0, Many).Select(n => source.AcquireLockAsync($"lease: held {n}", options: Options).AsTask()));
        var took = Stopwatch.GetElapsedTime(start);
        var (before, since) = (await Scale.CpuAsync(connectionString, Holding), Stopwatch.GetTimestamp());
        await Task.Delay((Options.Lease / 3) + TimeSpan.FromSeconds(2));
        var used = 100 * (await Scale.CpuAsync(connectionString, Holding) - before) / Stopwatch.GetElapsedTime(since).TotalSeconds;
        var lost = held.Count(one => !one.IsHeld);
        Add("10,000 leases of one process held: % of a core of the server", used, 5, isLeast: false, $"leases of {Options.Lease.TotalSeconds:0} s, acquired in {took.TotalMilliseconds:0} ms; {lost} lost");
        await Task.WhenAll(held.Select(one => one.DisposeAsync().AsTask()));
    }

    private async Task TasksAsync(string engine, DbDataSource source)
    {
        await using var closing = source;
        await LeaseTable.Default.CreateAsync(source);
        List<double> one = [], own = [], shared = [];
        for (var round = -1; round < Math.Max(3, rounds / 3); round++)
        {
            var (alone, each, all) = (await CountAsync(source, 1, _ => "lease: alone"), await CountAsync(source, 100, task => $"lease: task {task}"), await CountAsync(source, 100, _ => "lease: all"));
            if (round >= 0)
            {
                one.Add(alone);
                own.Add(each);
                shared.Add(all);
            }
        }

        Add($"{engine}, leases, 100 tasks on a key each: × one task", Results.Median(own.Zip(one, (many, single) => many / single)), 1, isLeast: true,
            $"{Results.Median(own) / span.TotalSeconds:0} against {Results.Median(one) / span.TotalSeconds:0} in a second");
        Add($"{engine}, leases, 100 tasks on one key: × one task", Results.Median(shared.Zip(one, (many, single) => many / single)), 0.5, isLeast: true,
            $"{Results.Median(shared) / span.TotalSeconds:0} in a second");
    }

    private async Task<double> CountAsync(DbDataSource source, int tasks, Func<int, LockKey> key) =>
        await Crowd.CountAsync(key => source.AcquireLockAsync(key, options: Options), tasks, key, span);

    private void Add(string what, double value, double budget, bool isLeast, FormattableString remark) =>
        _figures.Add(new(what, value, budget, isLeast, remark.ToString(CultureInfo.InvariantCulture)));
}
