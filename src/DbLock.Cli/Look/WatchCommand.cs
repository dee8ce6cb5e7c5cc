using System.CommandLine;
using System.Globalization;
using Microsoft.Win32.SafeHandles;

namespace DbLock.Cli;

/// <summary><c>dblock watch</c>: who waits for whom, live.</summary>
internal static class WatchCommand
{
    private const string Blocked = "blocked";
    private const string List = "list";

    public static Command Create()
    {
        var connection = ConnectionOption.Create();
        var what = new Argument<string>("WHAT")
        {
            Description = "blocked (who waits for whom) or list (the locks)",
            DefaultValueFactory = _ => Blocked,
        };
        what.AcceptOnlyFromAmong(Blocked, List);
        var interval = Duration.Option("From one look to the next. Default: 2s", "--interval", "-i");
        var count = new Option<int?>("--count") { Description = "How many looks. Default: until Ctrl-C", HelpName = "n" };
        var wide = Output.WideOption();
        var command = new Command(
            "watch",
            "Shows the same as dblock blocked, or list, again and again. On a terminal the picture is renewed in place, elsewhere one "
            + "follows the other.")
        { what, connection, interval, count, wide };
        var filter = FilterOptions.AddTo(command, withLeases: true);
        command.SetAction(async (parsed, _) =>
        {
            var (which, names) = (filter.Filter(parsed), filter.Names(parsed));
            var pause = parsed.GetValue(interval) ?? TimeSpan.FromSeconds(2);
            if (pause < TimeSpan.FromMilliseconds(100) || pause > TimeSpan.FromDays(1))
            {
                throw new UsageException("--interval takes from 100ms to 1d");
            }

            if (parsed.GetValue(count) < 1)
            {
                throw new UsageException("--count takes 1 or more");
            }

            // The console's own stream hides the error when nobody reads any more, by which the command would end.
            if (!Output.IsTerminal)
            {
                var standardOutput = new FileStream(new SafeFileHandle(1, ownsHandle: false), FileAccess.Write, bufferSize: 0);
                Console.SetOut(new StreamWriter(standardOutput) { AutoFlush = true });
            }

            using var signals = new Signals();
            try
            {
                var database = ConnectionOption.PostgreSql(
                    parsed.GetValue(connection), "dblock watch", "dblock list --key KEY says who holds a lock, and how many wait");
                var opened = await database.OpenNpgsqlAsync(signals.First).ConfigureAwait(false);
                await using (opened.ConfigureAwait(false))
                {
                    FilterOptions.RefuseOtherDatabases(which, opened.Database);
                    for (var look = 0; parsed.GetValue(count) is not { } looks || look < looks; look++)
                    {
                        if (look > 0)
                        {
                            await Task.Delay(pause, signals.First).ConfigureAwait(false);
                        }

                        var lines = await (parsed.GetValue(what) == List
                            ? LookCommand.LocksAsync(opened, which, names, parsed.GetValue(wide), signals.First)
                            : LookCommand.BlockedAsync(opened, which, names, parsed.GetValue(wide), signals.First)).ConfigureAwait(false);
                        Show([DateTimeOffset.Now.ToString("u", CultureInfo.InvariantCulture), .. lines]);
                    }
                }

                return ExitCode.Ok;
            }
            catch (IOException e) when (e.HResult == Unix.BrokenPipe)
            {
                // Whoever read it has seen enough.
                return ExitCode.Ok;
            }
            catch (OperationCanceledException) when (signals.First.IsCancellationRequested)
            {
                return ExitCode.Signal + signals.FirstNumber;
            }
        });
        return command;
    }

    // A picture longer than the screen would leave only its end to be seen.
    private static void Show(List<string> lines)
    {
        if (!Output.IsTerminal)
        {
            Output.WriteLines(lines);
            return;
        }

        var room = Math.Max(2, Output.Height - 1);
        if (lines.Count > room)
        {
            var more = Output.Styled(Output.Dim, string.Create(CultureInfo.InvariantCulture, $"… and {lines.Count - room + 1} more lines"));
            lines = [.. lines[..(room - 1)], more];
        }

        Console.Out.Write("\u001b[H\u001b[2J");
        Output.WriteLines(lines);
    }
}
