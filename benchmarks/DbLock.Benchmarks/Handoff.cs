using System.Data.Common;
using System.Data.Odbc;
using System.Diagnostics;
using System.Globalization;
using Npgsql;

namespace DbLock.Benchmarks;

/// <summary>How long it takes from the release in one process to the grant in another that waits.</summary>
internal static class Handoff
{
    public const string Waiter = "--waiter";
    private const string Raw = "pg_advisory_lock by hand, Npgsql";
    private const string RawOdbc = "pg_advisory_lock by hand, ODBC";
    private const string Yielding = "Npgsql, LockWait.Yielding";
    private const long Key = 777;

    /// <summary>Gets what is compared with what: who waits and who lets go do it in the same way.</summary>
    public static IReadOnlyList<(string Way, string? Floor)> Ways { get; } = [(Raw, null), ("Npgsql", Raw), (Yielding, Raw), ("AdoNet", Raw), (RawOdbc, null), ("Odbc", RawOdbc)];

    /// <summary>Measures some rounds of each way, in turn.</summary>
    /// <returns>Microseconds.</returns>
    public static async Task<Dictionary<string, List<double>>> MeasureAsync(string connectionString, string odbcConnectionString, int rounds)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath!, [Waiter, connectionString, odbcConnectionString]) { RedirectStandardInput = true, RedirectStandardOutput = true };
        using var waiter = Process.Start(start)!;
        await using var observer = new NpgsqlConnection(connectionString + ";Pooling=false");
        await observer.OpenAsync();
        await using var waits = new NpgsqlCommand($"select count(*) from pg_locks where locktype = 'advisory' and objid = {Key} and not granted", observer);
        var times = Ways.ToDictionary(way => way.Way, _ => new List<double>());
        await using var side = await Side.OpenAsync(connectionString, odbcConnectionString);
        for (var round = -50; round < rounds; round++)
        {
            foreach (var (way, _) in Ways)
            {
                side.Acquire(way);
                await waiter.StandardInput.WriteLineAsync(way);
                while (!waiter.HasExited && await waits.ExecuteScalarAsync() is not 1L)
                {
                }

                var released = Stopwatch.GetTimestamp();
                side.Release(way);
                var granted = long.Parse((await waiter.StandardOutput.ReadLineAsync())!, CultureInfo.InvariantCulture);
                if (round >= 0)
                {
                    times[way].Add(Stopwatch.GetElapsedTime(released, granted).TotalMicroseconds);
                }
            }
        }

        waiter.StandardInput.Close();
        await waiter.WaitForExitAsync();
        return times;
    }

    /// <summary>The process that waits.</summary>
    public static async Task<int> WaitAsync(string connectionString, string odbcConnectionString)
    {
        await using var side = await Side.OpenAsync(connectionString, odbcConnectionString);
        while (await Console.In.ReadLineAsync() is { } way)
        {
            side.Acquire(way);
            var granted = Stopwatch.GetTimestamp();
            side.Release(way);
            Console.WriteLine(granted.ToString(CultureInfo.InvariantCulture));
        }

        return 0;
    }

    private sealed class Side(NpgsqlConnection npgsql, OdbcConnection odbc) : IAsyncDisposable
    {
        private readonly Dictionary<string, (DbCommand Acquire, DbCommand Release)> _byHand = new()
        {
            [Raw] = (Command(npgsql, "pg_advisory_lock"), Command(npgsql, "pg_advisory_unlock")),
            [RawOdbc] = (Command(odbc, "pg_advisory_lock"), Command(odbc, "pg_advisory_unlock")),
        };
        private readonly Dictionary<string, Lock> _locks = new()
        {
            ["Npgsql"] = new Lock(npgsql, Key, LockInterface.Npgsql),
            [Yielding] = new Lock(npgsql, Key, LockInterface.Npgsql, new LockOptions { Wait = LockWait.Yielding }),
            ["AdoNet"] = new Lock(npgsql, Key, LockInterface.AdoNet),
            ["Odbc"] = new Lock(odbc, Key, LockInterface.Odbc),
        };

        public static async Task<Side> OpenAsync(string connectionString, string odbcConnectionString)
        {
            var npgsql = new NpgsqlConnection(connectionString + ";Pooling=false");
            await npgsql.OpenAsync();
            var odbc = new OdbcConnection(odbcConnectionString);
            odbc.Open();
            return new Side(npgsql, odbc);
        }

        public void Acquire(string way)
        {
            if (_byHand.TryGetValue(way, out var byHand))
            {
                byHand.Acquire.ExecuteNonQuery();
            }
            else
            {
                _locks[way].Acquire();
            }
        }

        public void Release(string way)
        {
            if (_byHand.TryGetValue(way, out var byHand))
            {
                byHand.Release.ExecuteNonQuery();
            }
            else
            {
                _locks[way].Release();
            }
        }

        public async ValueTask DisposeAsync()
        {
            await npgsql.DisposeAsync();
            await odbc.DisposeAsync();
        }

        private static DbCommand Command(DbConnection connection, string function)
        {
            var command = connection.CreateCommand();
            command.CommandText = $"select {function}({Key})";
            command.CommandTimeout = function == "pg_advisory_lock" ? 0 : command.CommandTimeout;
            if (connection is NpgsqlConnection)
            {
                command.Prepare();
            }

            return command;
        }
    }
}
