using System.Diagnostics;
using System.Globalization;
using DbLock.LocalServers;
using Npgsql;

// From start to exit, each in turn so that what else the machine does hits all alike.
const int Rounds = 60;
const double Budget = 1.3;
await using var server = await PostgreSqlServer.StartAsync();
var address = new NpgsqlConnectionStringBuilder(server.ConnectionString);
(string Name, string[] Line)[] programs =
[
    ("a bare Npgsql program", [args[1]]),
    ("dblock run -n KEY -- true", [args[0], "run", "-n", "KEY", "--", "true"]),
    ("psql -c 'select pg_try_advisory_lock(42)'", ["psql", "-Xqc", "select pg_try_advisory_lock(42)"]),
];
var times = programs.ToDictionary(program => program.Name, _ => new List<double>());
for (var round = -5; round < Rounds; round++)
{
    foreach (var (name, line) in programs)
    {
        var start = new ProcessStartInfo(line[0], line[1..]) { RedirectStandardOutput = true };
        start.Environment["DBLOCK_CONNECTION"] = server.ConnectionString;
        start.Environment["PGHOST"] = address.Host;
        start.Environment["PGPORT"] = address.Port.ToString(CultureInfo.InvariantCulture);
        start.Environment["PGUSER"] = address.Username;
        start.Environment["PGPASSWORD"] = address.Password;
        start.Environment["PGDATABASE"] = address.Database;
        var clock = Stopwatch.StartNew();
        using var process = Process.Start(start)!;
        await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"{name} ended with {process.ExitCode}.");
        }

        // The first few have the files read from the disk.
        if (round >= 0)
        {
            times[name].Add(clock.Elapsed.TotalMilliseconds);
        }
    }
}

var floor = Median(times[programs[0].Name]);
Console.WriteLine("| from start to exit | median | quartiles | of the bare program |");
Console.WriteLine("|---|---|---|---|");
foreach (var (name, _) in programs)
{
    var sorted = times[name].Order().ToList();
    Console.WriteLine(string.Create(
        CultureInfo.InvariantCulture,
        $"| `{name}` | {Median(sorted):0.0} ms | {sorted[sorted.Count / 4]:0.0} to {sorted[sorted.Count * 3 / 4]:0.0} ms | {Median(sorted) / floor:0.00} |"));
}

var ratio = Median(times[programs[1].Name]) / floor;
Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{(ratio <= Budget ? "1 budget held, 0 missed" : "0 budgets held, 1 missed")}: {ratio:0.00} of at most {Budget:0.0}"));
return ratio <= Budget ? 0 : 1;

static double Median(IEnumerable<double> values)
{
    var sorted = values.Order().ToList();
    return (sorted[(sorted.Count - 1) / 2] + sorted[sorted.Count / 2]) / 2;
}
