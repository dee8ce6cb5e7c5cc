using System.CommandLine;

namespace DbLock.Cli;

/// <summary><c>dblock cancel</c> and <c>dblock terminate</c>: clear the way.</summary>
internal static class ClearCommand
{
    private static readonly string[] Columns = ["pid", "user", "application", "object", "outcome", "signal", "reason"];

    public static Command Create(string name, PgSignal signal)
    {
        var connection = ConnectionOption.Create();
        var pids = new Argument<int[]>("PID") { Description = "The server processes; options narrow them further", Arity = ArgumentArity.ZeroOrMore };
        var yes = new Option<bool>("--yes", "-y") { Description = "Do not ask" };
        var dry = new Option<bool>("--dry-run") { Description = "Only say what would be done" };
        var grace = new Option<TimeSpan?>("--grace") { Description = "How long a session has to end or let go, before it is reported as left. Default: 5s", HelpName = "duration", CustomParser = Duration.Parse };
        var max = new Option<int?>("--max") { Description = "Do nothing when more sessions than this would be hit", HelpName = "n" };
        var escalate = new Option<bool>("--then-terminate") { Description = "Terminate what is left after the grace" };
        var superusers = new Option<bool>("--include-superusers") { Description = "Superusers' sessions too" };
        var replication = new Option<bool>("--include-replication") { Description = "Replication too" };
        var autovacuum = new Option<bool>("--include-autovacuum") { Description = "Autovacuum too" };
        var exceptUsers = new Option<string[]>("--except-user") { Description = "Never this role's sessions", HelpName = "role" };
        var exceptApplications = new Option<string[]>("--except-application") { Description = "Never sessions with this application_name", HelpName = "name" };
        var output = Output.Option();
        var command = new Command(name, (signal == PgSignal.Cancel
                ? "Cancels the running statement of the sessions that have locks which match. A session that is idle does not notice: dblock terminate ends it."
                : "Ends the sessions that have locks which match, with their transactions.")
            + " Shows them and asks first. Exit code 0: nothing is left in the way; 1: something is, or the answer was no.")
        { pids, connection, yes, dry, grace, max, superusers, replication, autovacuum, exceptUsers, exceptApplications, output };
        if (signal == PgSignal.Cancel)
        {
            command.Add(escalate);
        }

        var filter = FilterOptions.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var which = filter.Filter(parsed, parsed.GetValue(pids));
            if (which == new PgLockFilter())
            {
                throw new UsageException($"say whose locks are meant: dblock {name} PID, or an option such as --key or --blocking; without one every session would be hit");
            }

            var format = parsed.GetValue(output)!;
            var options = new PgClearOptions
            {
                DryRun = true,
                Grace = parsed.GetValue(grace) ?? new PgClearOptions().Grace,
                MaxSessions = parsed.GetValue(max),
                IncludeSuperusers = parsed.GetValue(superusers),
                IncludeReplication = parsed.GetValue(replication),
                IncludeAutovacuum = parsed.GetValue(autovacuum),
                ExceptUsers = parsed.GetValue(exceptUsers) ?? [],
                ExceptApplications = parsed.GetValue(exceptApplications) ?? [],
            };
            if (options.Grace > TimeSpan.FromDays(1))
            {
                throw new UsageException("--grace takes no more than 1d");
            }

            if (options.MaxSessions < 0)
            {
                throw new UsageException("--max takes 0 or more");
            }

            var asks = !parsed.GetValue(yes) && !parsed.GetValue(dry);
            if (asks && (Console.IsInputRedirected || !Output.IsTable(format)))
            {
                throw new UsageException("there is nobody to ask: say --yes, or --dry-run to see what would be done");
            }

            var opened = await ConnectionOption.OpenAsync(ConnectionOption.Resolve(parsed.GetValue(connection)), cancellationToken).ConfigureAwait(false);
            await using (opened.ConfigureAwait(false))
            {
                var locks = await opened.GetLocksAsync(which, filter.Names(parsed), cancellationToken).ConfigureAwait(false);
                var sent = parsed.GetValue(escalate) ? PgSignal.CancelThenTerminate : signal;
                PgClearResult result;
                try
                {
                    result = await opened.ClearLocksAsync(locks, sent, options, cancellationToken).ConfigureAwait(false);
                }
                catch (LockException) when (options.MaxSessions is not null)
                {
                    Dblock.Say($"more sessions than --max {options.MaxSessions} would be hit, so none was: narrow the filter, or allow more");
                    return ExitCode.NotDone;
                }

                var planned = result.Count(session => session.Outcome == PgClearOutcome.Planned);
                if (asks)
                {
                    Write(format, result);
                    if (planned > 0 && !Ask($"{(sent == PgSignal.Cancel ? "Cancel" : "Terminate")} {planned} session{(planned == 1 ? "" : "s")}? (y/N) "))
                    {
                        Dblock.Say("nothing was done");
                        return ExitCode.NotDone;
                    }
                }

                if (planned > 0 && !parsed.GetValue(dry))
                {
                    result = await opened.ClearLocksAsync(locks, sent, options with { DryRun = false }, cancellationToken).ConfigureAwait(false);
                }

                if (!asks || planned > 0)
                {
                    Write(format, result);
                }

                return result.IsClear ? ExitCode.Ok : ExitCode.NotDone;
            }
        });
        return command;
    }

    private static bool Ask(string question)
    {
        Console.Error.Write(question);
        return Console.In.ReadLine()?.Trim().ToUpperInvariant() is "Y" or "YES";
    }

    private static void Write(string format, PgClearResult result)
    {
        if (Output.IsTable(format) && result.Count == 0)
        {
            Console.Out.WriteLine("Nothing matches.");
            return;
        }

        string[] lockColumns = ["pid", "user", "application", "object"];
        Output.Write(format, Columns, [.. result.Select(session =>
            (object?[])[.. LockRows.Row(session.Locks[0], lockColumns), session.Outcome.ToString(), session.Signal?.ToString(), AsOption(session.Reason)])]);
    }

    // What the library calls an option of its own is one of the command line here.
    private static string? AsOption(string? reason) => reason?
        .Replace("PgClearOptions.IncludeSuperusers is not set", "--include-superusers was not given", StringComparison.Ordinal)
        .Replace("PgClearOptions.IncludeReplication is not set", "--include-replication was not given", StringComparison.Ordinal)
        .Replace("PgClearOptions.IncludeAutovacuum is not set", "--include-autovacuum was not given", StringComparison.Ordinal)
        .Replace("PgClearOptions.ExceptUsers", "--except-user", StringComparison.Ordinal)
        .Replace("PgClearOptions.ExceptApplications", "--except-application", StringComparison.Ordinal);
}
