using System.Diagnostics;
using System.Globalization;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Engines;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Loggers;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.NoEmit;
using DbLock.Benchmarks;
using DbLock.LocalServers;
using Npgsql;

if (args is [Handoff.Waiter, var toServer, var toServerOverOdbc])
{
    return await Handoff.WaitAsync(toServer, toServerOverOdbc);
}

if (args is [Crowd.Contender, var contended, var milliseconds, var keys])
{
    return await Crowd.ContendAsync(contended, milliseconds, keys);
}

var isShort = args.Contains("--short");
var folder = args.FirstOrDefault(arg => !arg.StartsWith('-')) ?? "docs";
var only = args.FirstOrDefault(arg => arg.StartsWith("--only=", StringComparison.Ordinal))?[7..] ?? "";
var (warmups, laps, iterations, handoffs) = isShort ? (1, 3, 20, 100) : (2, 12, 40, 400);

await using var server = await PostgreSqlServer.StartAsync();
await using var mariaDb = await MariaDbServer.StartAsync();

// Both ends of a handoff are clients, each with a core if it can.
var handoff = await Handoff.MeasureAsync(server.ConnectionString, server.OdbcConnectionString, handoffs);
var span = TimeSpan.FromMilliseconds(isShort ? 300 : 500);
var crowds = new Crowd(server.ConnectionString, mariaDb.ConnectionString, span, isShort ? 3 : 9);
var crowd = only.Length == 0 ? await crowds.MeasureAsync() : "MariaDB".Contains(only, StringComparison.Ordinal) ? await crowds.OnMariaDbAsync() : [];
var scale = new Scale(server.ConnectionString, span, isShort ? 1 : 5);
var figures = only.Length > 0 ? [] : await scale.MeasureAsync();
var leases = new Leases(server.ConnectionString, mariaDb.ConnectionString, span, isShort ? 3 : 9);
var leased = only.Length == 0 || only == "lease" ? await leases.MeasureAsync() : [];
await PinAsync(server);
IReadOnlyList<Peers.Comparison> comparisons;
await using (var peers = new Peers(server.ConnectionString, isShort ? 30 : 200))
{
    comparisons = await peers.MeasureAsync();
}

var rows = new Catalog(server, mariaDb, leases).All().Where(row => row.ToString().Contains(only, StringComparison.Ordinal)).ToList();
Benchmarks.Rows = rows;

// All are run in turn, several times over, so that what else the machine does hits all alike.
var job = Job.Default.WithToolchain(InProcessNoEmitToolchain.Instance).WithStrategy(RunStrategy.Throughput)
    .WithInvocationCount(1).WithUnrollFactor(1).WithWarmupCount(1).WithIterationCount(iterations).WithEvaluateOverhead(false).WithGcForce(false);
var config = ManualConfig.CreateEmpty().AddJob(job).AddLogger(NullLogger.Instance).AddColumnProvider(DefaultColumnProviders.Instance)
    .WithArtifactsPath(Path.Combine(Path.GetTempPath(), "dblock-bench")).WithOptions(ConfigOptions.DisableOptimizationsValidator | ConfigOptions.KeepBenchmarkFiles);
var results = new Results();
for (var lap = -warmups; lap < laps; lap++)
{
    // What is run often is compiled again by what it does, as in any program. The first laps are for that, and count for nothing.
    if (lap == 0)
    {
        Benchmarks.Pairs.Clear();
        Benchmarks.Bytes.Clear();
        results = new();
    }

    Console.Error.WriteLine(lap < 0 ? "warming up" : $"lap {lap + 1} of {laps}");
    var summary = BenchmarkRunner.Run<Benchmarks>(config);
    foreach (var report in summary.Reports)
    {
        var row = rows[(int)report.BenchmarkCase.Parameters[nameof(Benchmarks.Number)]];
        var async = report.BenchmarkCase.Descriptor.WorkloadMethod.Name == nameof(Benchmarks.Async);
        if (!report.Success)
        {
            Console.Error.WriteLine($"{row} failed.");
            return 1;
        }

        results.Add(
            row, async,
            report.AllMeasurements.Where(measurement => measurement.IterationMode == IterationMode.Workload && measurement.IterationStage == IterationStage.Result)
                .Select(measurement => measurement.Nanoseconds / measurement.Operations / 1000));
    }
}

var page = new Report(rows, results, handoff, [.. crowd, .. figures, .. leased], comparisons, scale.Curves, server.Version, isShort, only.Length > 0);
if (only.Length == 0 && !isShort)
{
    page.Write(folder);
}
else
{
    Console.WriteLine(page.Tables());
}

foreach (var missed in page.Missed)
{
    Console.WriteLine($"missed: {missed}");
}

Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{page.Held} budgets held, {page.Missed.Count} missed"));
return page.Missed.Count == 0 ? 0 : 1;

// The client on one core and the server on the others: else the scheduler puts them on one core or on two as it likes, and every figure has two values.
static async Task PinAsync(PostgreSqlServer server)
{
    if (Environment.ProcessorCount < 2)
    {
        return;
    }

    await using var connection = new NpgsqlConnection(server.ConnectionString + ";Pooling=false");
    await connection.OpenAsync();
    var stat = await File.ReadAllTextAsync(string.Create(CultureInfo.InvariantCulture, $"/proc/{connection.ProcessID}/stat"));
    var postmaster = stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[1];
    foreach (var (cores, pid) in new[] { ("0", Environment.ProcessId.ToString(CultureInfo.InvariantCulture)), ($"1-{Environment.ProcessorCount - 1}", postmaster) })
    {
        using var taskset = Process.Start(new ProcessStartInfo("taskset", ["-a", "-c", "-p", cores, pid]) { RedirectStandardOutput = true })!;
        await taskset.WaitForExitAsync();
    }
}
