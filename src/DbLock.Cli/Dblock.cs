using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using Npgsql;

namespace DbLock.Cli;

/// <summary>The command line: what there is, and how every failure ends.</summary>
internal static class Dblock
{
    public static async Task<int> RunAsync(string[] args)
    {
        try
        {
            if (args.Length == 0)
            {
                await Root().Parse("--help").InvokeAsync().ConfigureAwait(false);
                return ExitCode.Usage;
            }

            var parsed = Root().Parse(SavedOptions.Expand(args), new ParserConfiguration { ResponseFileTokenReplacer = null });
            if (parsed.Action is ParseErrorAction)
            {
                foreach (var message in parsed.Errors.Select(error => error.Message).Distinct())
                {
                    Say(message);
                }

                Say($"see dblock {string.Join(' ', Names(parsed.CommandResult))}--help");
                return ExitCode.Usage;
            }

            // Signals are handled by the commands themselves: the library's own handling would end dblock before its command.
            return await parsed.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null }).ConfigureAwait(false);
        }
        catch (UsageException e)
        {
            Say(e.Message);
            return ExitCode.Usage;
        }
        catch (Exception e) when (e is UnavailableException or NpgsqlException or LockException)
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
            // Nobody to tell.
        }
    }

    private static RootCommand Root()
    {
        var root = new RootCommand("Locks of your PostgreSQL database: run a command under one, see who holds and who waits, clear the way.")
        {
            RunCommand.Create(),
            LookCommand.List(),
            LookCommand.Blocked(),
            WatchCommand.Create(),
            ClearCommand.Create("cancel", PgSignal.Cancel),
            ClearCommand.Create("terminate", PgSignal.Terminate),
            KeyCommand.Create(),
            DoctorCommand.Create(),
            CompletionCommand.Create(),
        };
        var help = root.Options.OfType<HelpOption>().Single();
        help.Action = new DetailedHelp(new HelpAction { MaxWidth = 110 });
        return root;
    }

    private static IEnumerable<string> Names(System.CommandLine.Parsing.CommandResult command) =>
        command.Parent is System.CommandLine.Parsing.CommandResult parent ? [.. Names(parent), command.Command.Name, ""] : [];
}
