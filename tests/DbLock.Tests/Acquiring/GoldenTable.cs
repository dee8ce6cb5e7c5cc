using System.Data;
using Microsoft.Extensions.Logging;

namespace DbLock.Tests.Acquiring;

/// <summary>
/// A table whose rows are made by running the code: what was replied, then what was sent, logged and answered, and what stands afterwards.
/// It is compared with a file beside the tests.
/// </summary>
internal sealed class GoldenTable
{
    private const int LongestResult = 90;

    private readonly List<string> _lines = [];
    private readonly List<string[]> _section = [];
    private int _count;

    public static bool[] Both { get; } = [false, true];

    /// <summary>Begins a section.</summary>
    public void Section(string title, params string[] columns)
    {
        EndSection();
        _lines.AddRange(["", "# " + title]);
        _section.Add([.. columns, "sent", "logged", "held", "connection", "result"]);
    }

    /// <summary>Runs a row and adds it: asynchronously, and synchronously where nobody cancels, which must come to the same.</summary>
    /// <param name="cells">What stands in the columns of the section.</param>
    /// <param name="place">Where the lock is acquired.</param>
    /// <param name="script">What comes back.</param>
    /// <param name="call">What the caller does.</param>
    /// <param name="options">How the lock is held, but for its scope; null is as it comes.</param>
    /// <param name="canCancel">Whether the driver can cancel.</param>
    /// <param name="key">The key; null is one that does not matter.</param>
    public async Task Row(
        string[] cells, Place place, Script script, LockCall call, LockOptions? options = null, bool canCancel = true, LockKey? key = null)
    {
        var (seen, isCancelled) = await Play(async: true);
        if (!isCancelled && canCancel)
        {
            var (synchronously, _) = await Play(async: false);
            string[] tokens = [.. seen.Select(cell => cell.Replace("*", "", StringComparison.Ordinal))];
            Assert.Equal([.. cells, .. tokens], [.. cells, .. synchronously]);
        }

        _section.Add([.. cells, .. seen]);
        _count++;

        async Task<(string[] Seen, bool IsCancelled)> Play(bool async)
        {
            await using var connection = new ScriptedConnection(script);
            var logger = new EventLogger();
            var driver = new LockInterface("Scripted", new ScriptedDriver(canCancel));
            var how = (options ?? new LockOptions()) with { Scope = place.Scope, Logger = logger };
            var @lock = new Lock(connection, key ?? "k", driver, how with { Dialect = how.Dialect ?? LockDialect.PostgreSql });

            // It may still be held at the end, which the finalizer would tell.
            GC.SuppressFinalize(@lock);
            if (place.IsInTransaction)
            {
                @lock.Transaction = await connection.BeginTransactionAsync();
            }

            string result;
            try
            {
                result = (await call(@lock, async, async ? connection.Caller.Token : CancellationToken.None)).ToString()!;
            }
            catch (Exception e)
            {
                result = $"{e.GetType().Name}: {e.Message}";
            }

            result = result.Length <= LongestResult ? result : result[..LongestResult] + "...";
            var state = connection.State == ConnectionState.Open ? "open" : "closed";
            string[] seen = [Joined(connection.Told), Joined(logger.Events), @lock.IsHeld ? "held" : "-", state, result];
            return (seen, connection.Caller.IsCancellationRequested);
        }
    }

    /// <summary>Compares the table with its file.</summary>
    public async Task Compare(string file)
    {
        EndSection();
        string[] made =
        [
            FormattableString.Invariant($"# {_count} rows, made by running the code (GoldenTable.cs)."),
            "# *: sent with the caller's token. sp(): inside the lock's own savepoint. (closed), (tx ended): sent over what has ended.",
            .. _lines,
        ];
        var path = Path.Combine(Compiler.Repository, "tests/DbLock.Tests/Acquiring", file);
        if (Environment.GetEnvironmentVariable("DBLOCK_TEST_ACCEPT") == "1")
        {
            await File.WriteAllLinesAsync(path, made);
        }

        // A longer cell moves the columns of a whole section, which is no difference.
        string[] accepted = File.Exists(path) ? await File.ReadAllLinesAsync(path) : [];
        accepted = Array.ConvertAll(accepted, WithoutColumns);
        made = Array.ConvertAll(made, WithoutColumns);
        var differences = accepted.Except(made).Select(line => "- " + line).Concat(made.Except(accepted).Select(line => "+ " + line));
        Assert.True(
            made.SequenceEqual(accepted),
            $"{path} has other rows (-) than the code makes (+). Where the change is meant, run with DBLOCK_TEST_ACCEPT=1, which writes "
            + "the file anew, and say why in the commit.\n"
            + string.Join('\n', differences.OrderBy(line => line[2..], StringComparer.Ordinal)));
    }

    private static string WithoutColumns(string line) => string.Join(" | ", line.Split('|', StringSplitOptions.TrimEntries));

    private void EndSection()
    {
        var columns = Enumerable.Range(0, _section.FirstOrDefault([]).Length);
        int[] widths = [.. columns.Select(column => _section.Max(row => row[column].Length))];
        _lines.AddRange(_section.Select(row => string.Join(" | ", row.Select((cell, column) => cell.PadRight(widths[column]))).TrimEnd()));
        _section.Clear();
    }

    // What was done several times in a row is told once.
    private static string Joined(List<string> told)
    {
        List<string> joined = [];
        for (int first = 0, next; first < told.Count; first = next)
        {
            for (next = first + 1; next < told.Count && told[next] == told[first]; next++)
            {
            }

            joined.Add(next - first == 1 ? told[first] : FormattableString.Invariant($"{told[first]} x{next - first}"));
        }

        return string.Join(", ", joined);
    }

    /// <summary>Keeps the names of the warnings and errors.</summary>
    private sealed class EventLogger : ILogger
    {
        public List<string> Events { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Warning;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Events.Add(eventId.Name!);
    }
}
