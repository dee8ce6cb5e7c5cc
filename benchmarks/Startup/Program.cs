using System.Diagnostics;
using System.Globalization;
using DbLock.LocalServers;
using Npgsql;

// From start to exit, each in turn so that what else the machine does hits all alike.
const int Rounds = 60;
await using var server = await PostgreSqlServer.StartAsync();
var address = new NpgsqlConnectionStringBuilder(server.ConnectionString);
string[] run = ["run", "-n", "KEY", "--", "true"];
(string Name, string[] Line)[] programs =
[
    ("psql -c 'select pg_try_advisory_lock(42)'", [Psql(server), "-Xqc", "select pg_try_advisory_lock(42)"]),
    ("dblock run -n KEY -- true, NativeAOT", [Path.Combine(args[0], "aot", "dblock"), .. run]),
    ("a bare Npgsql program, NativeAOT", [Path.Combine(args[0], "bare-aot", "bare")]),
    ("dblock run -n KEY -- true, ReadyToRun", [Path.Combine(args[0], "r2r", "dblock"), .. run]),
    ("a bare Npgsql program, ReadyToRun", [Path.Combine(args[0], "bare-r2r", "bare")]),
];
(int Program, int Floor, double Most)[] budgets = [(1, 0, 4), (1, 2, 1.3)];
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

Console.WriteLine("| from start to exit | median | quartiles | of psql |");
Console.WriteLine("|---|---:|---:|---:|");
foreach (var (name, _) in programs)
{
    var sorted = times[name].Order().ToList();
    Console.WriteLine(string.Create(
        CultureInfo.InvariantCulture,
        $"| `{name}` | {Median(sorted):0.0} ms | {sorted[sorted.Count / 4]:0.0} to {sorted[sorted.Count * 3 / 4]:0.0} ms | {Median(sorted) / Median(times[programs[0].Name]):0.00} |"));
}

var missed = 0;
foreach (var (program, floor, most) in budgets)
{
    var ratio = Median(times[programs[program].Name]) / Median(times[programs[floor].Name]);
    missed += ratio > most ? 1 : 0;
    Console.WriteLine(string.Create(
        CultureInfo.InvariantCulture, $"{(ratio <= most ? "held" : "missed")}: {programs[program].Name}: {ratio:0.00} × {programs[floor].Name}, at most {most:0.0}"));
}

Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{budgets.Length - missed} budgets held, {missed} missed"));
return missed == 0 ? 0 : 1;

// The program itself, which lies beside the server's: Debian's psql in PATH is a script in Perl that takes four times as long.
static string Psql(PostgreSqlServer server)
{
    var postgres = new FileInfo(Path.Combine(server.BinDirectory ?? "/usr/bin", "postgres"));
    var psql = Path.Combine((postgres.ResolveLinkTarget(returnFinalTarget: true) ?? postgres).FullName, "../psql");
    return File.Exists(Path.GetFullPath(psql))
        ? Path.GetFullPath(psql)
        : throw new InvalidOperationException($"There is no psql beside {postgres.FullName}: apt-get install postgresql-client, and unset DBLOCK_TEST_POSTGRES.");
}

static double Median(IEnumerable<double> values)
{
    var sorted = values.Order().ToList();
    return (sorted[(sorted.Count - 1) / 2] + sorted[sorted.Count / 2]) / 2;
}
