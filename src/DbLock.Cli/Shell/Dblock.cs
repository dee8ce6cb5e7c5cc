using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.Data.Common;

namespace DbLock.Cli;

/// <summary>The command line: what there is, and how every failure ends.</summary>
internal static class Dblock
{
    private const int MaxHelpWidth = 110;

    private static readonly (string Name, Func<Command> Create)[] Commands =
    [
        ("run", RunCommand.Create),
        ("list", LookCommand.List),
        ("blocked", LookCommand.Blocked),
        ("watch", WatchCommand.Create),
        ("cancel", () => ClearCommand.Create("cancel", PgSignal.Cancel)),
        ("terminate", () => ClearCommand.Create("terminate", PgSignal.Terminate)),
        ("key", KeyCommand.Create),
        ("doctor", DoctorCommand.Create),
        ("lease-table", LeaseTableCommand.Create),
        ("completion", CompletionCommand.Create),
    ];

    /// <summary>Gets how wide the help is.</summary>
    public static int HelpWidth => Output.IsTerminal ? Math.Clamp(Output.Width, 40, MaxHelpWidth) : MaxHelpWidth;

    public static async Task<int> RunAsync(string[] args)
    {
        try
        {
            if (args.Length == 0)
            {
                await Root().Parse("--help").InvokeAsync().ConfigureAwait(false);
                return ExitCode.Usage;
            }

            var parsed = Root(args[0]).Parse(SavedOptions.Expand(args), new ParserConfiguration { ResponseFileTokenReplacer = null });
            var mayBeWrong = parsed.Action is ParseErrorAction || parsed.CommandResult.Command.Action == parsed.Action;
            var wrong = mayBeWrong ? UsageErrors.Of(parsed) : [];
            if (wrong.Count > 0)
            {
                foreach (var message in wrong)
                {
                    Say(message);
                }

                Say($"see dblock {string.Join(' ', Names(parsed.CommandResult))}--help");
                return ExitCode.Usage;
            }

            // The commands handle signals themselves: the library's own handling would end dblock before its command.
            var plain = new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null };
            return await parsed.InvokeAsync(plain).ConfigureAwait(false);
        }
        catch (UsageException e)
        {
            Say(e.Message);
            return ExitCode.Usage;
        }
        catch (Exception e) when (e is UnavailableException or DbException or LockException)
        {
            Say(e.Message);
            return ExitCode.Unavailable;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Say($"the output cannot be written: {e.Message}");
            return ExitCode.Internal;
        }
        catch (Exception e)
        {
            Say($"{e.GetType().Name}: {e.Message}");
            return ExitCode.Internal;
        }
    }

    /// <summary>Tells the user something beside the output.</summary>
    /// <remarks>It does not throw: a terminal that is gone must not keep a command from being stopped.</remarks>
    public static void Say(string message)
    {
        try
        {
            Console.Error.WriteLine($"dblock: {Output.Clean(message)}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // There is nobody to tell.
        }
    }

    // Only the command that is asked for is made. The others, and the library's root command, whose texts are looked up in resources, would
    // make each start slower.
    private static Command Root(string? name = null)
    {
        var help = new Option<bool>("--help", "-h", "-?") { Description = "Show help and usage information", Recursive = true };
        help.Action = new DetailedHelp(new HelpAction { MaxWidth = HelpWidth });
        if (Array.Find(Commands, command => command.Name == name) is { Create: { } create })
        {
            return new Command("dblock") { help, create() };
        }

        var root = new RootCommand(
            "Locks of your database: run a command under one, see who holds and who waits, clear the way.");
        root.Options.Remove(root.Options.OfType<HelpOption>().Single());
        root.Options.Insert(0, help);
        foreach (var command in Commands)
        {
            root.Add(command.Create());
        }

        return root;
    }

    private static IEnumerable<string> Names(System.CommandLine.Parsing.CommandResult command) =>
        command.Parent is System.CommandLine.Parsing.CommandResult parent ? [.. Names(parent), command.Command.Name, ""] : [];
}
