using System.CommandLine;
using System.Globalization;

namespace DbLock.Cli;

/// <summary><c>dblock cancel</c> and <c>dblock terminate</c>: clear the way.</summary>
internal static class ClearCommand
{
    private const int MostShown = 5;

    private static readonly string[] Columns =
        ["pid", "user", "application", "object", "outcome", "signal", "reason", "state", "state_s", "waiters", "query"];
    private static readonly string[] Important =
        ["pid", "outcome", "reason", "object", "state", "waiters", "query", "user", "application", "signal", "state_s"];
    private static readonly string[] LockColumns = ["pid", "user", "application", "object"];

    public static Command Create(string name, PgSignal signal)
    {
        var connection = ConnectionOption.Create();
        var pids = new Argument<int[]>("PID")
        {
            Description = "The server processes; options narrow them further",
            Arity = ArgumentArity.ZeroOrMore,
        };
        var yes = new Option<bool>("--yes", "-y") { Description = "Do not ask" };
        var dry = new Option<bool>("--dry-run") { Description = "Only say what would be done" };
        var grace = Duration.Option("How long a session has to end or let go, before it is reported as left. Default: 5s", "--grace");
        var max = new Option<int?>("--max") { Description = "Do nothing when more sessions than this would be hit", HelpName = "n" };
        var escalate = new Option<bool>("--then-terminate") { Description = "Terminate what is left after the grace" };
        var superusers = new Option<bool>("--include-superusers") { Description = "Superusers' sessions too" };
        var replication = new Option<bool>("--include-replication") { Description = "Replication too" };
        var autovacuum = new Option<bool>("--include-autovacuum") { Description = "Autovacuum too" };
        var exceptUsers = new Option<string[]>("--except-user") { Description = "Never this role's sessions", HelpName = "role" };
        var exceptApplications = new Option<string[]>("--except-application")
        {
            Description = "Never sessions with this application_name",
            HelpName = "name",
        };
        var output = Output.Option();
        var wide = Output.WideOption();
        var what = signal == PgSignal.Cancel
            ? "Cancels the running statement of the sessions that have locks which match. A session that is idle does not notice: dblock "
                + "terminate ends it."
            : "Ends the sessions that have locks which match, with their transactions.";
        var command = new Command(
            name,
            $"{what} Shows them and asks first. Exit code 0: nothing is left in the way; 1: something is, or the answer was no. With "
            + "--dry-run 0: nothing would be spared; 1: something would be. On MariaDB, MySQL and SQL Server: the sessions that hold the "
            + "locks of --key.")
        { pids, connection, yes, dry, grace, max, superusers, replication, autovacuum, exceptUsers, exceptApplications, output, wide };
        if (signal == PgSignal.Cancel)
        {
            command.Add(escalate);
        }

        var filter = FilterOptions.AddTo(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            if (ConnectionOption.Database(parsed.GetValue(connection)) is var other and not PostgreSqlDatabase)
            {
                var keys = filter.KeysAlone(parsed, other);
                other.RefuseOptionsOfPostgreSql(
                    parsed, max, escalate, superusers, replication, autovacuum, exceptUsers, exceptApplications);
                return await new KeyClear(other, signal).RunAsync(
                    keys, parsed.GetValue(pids) ?? [], parsed.GetValue(grace) ?? new PgClearOptions().Grace,
                    parsed.GetValue(yes), parsed.GetValue(dry), parsed.GetValue(output)!, cancellationToken).ConfigureAwait(false);
            }

            var which = filter.Filter(parsed, parsed.GetValue(pids));
            if (which == new PgLockFilter())
            {
                throw new UsageException(
                    $"say whose locks are meant: dblock {name} PID, or an option such as --key or --blocking; without one every session "
                    + "would be hit");
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

            var asks = Asks(parsed.GetValue(yes), parsed.GetValue(dry), format);

            var database = (PostgreSqlDatabase)ConnectionOption.Database(parsed.GetValue(connection));
            var opened = await database.OpenNpgsqlAsync(cancellationToken).ConfigureAwait(false);
            await using (opened.ConfigureAwait(false))
            {
                FilterOptions.RefuseOtherDatabases(which, opened.Database);
                var locks = await opened.GetLocksAsync(which, filter.Names(parsed), cancellationToken).ConfigureAwait(false);
                var waiters = Waiters(await opened.GetWaitGraphAsync(null, filter.Names(parsed), cancellationToken).ConfigureAwait(false));
                var sent = parsed.GetValue(escalate) ? PgSignal.CancelThenTerminate : signal;
                PgClearResult result;
                try
                {
                    result = await opened.ClearLocksAsync(locks, sent, options, cancellationToken).ConfigureAwait(false);
                }
                catch (LockException) when (options.MaxSessions is not null)
                {
                    Dblock.Say(string.Create(
                        CultureInfo.InvariantCulture,
                        $"more sessions than --max {options.MaxSessions} would be hit, so none was: narrow the filter, or allow more"));
                    return ExitCode.NotDone;
                }

                var planned = result.Count(session => session.Outcome == PgClearOutcome.Planned);
                if (asks)
                {
                    Show(result, waiters);
                    var verb = sent == PgSignal.Cancel ? "Cancel" : "Terminate";
                    if (planned > 0 && !AskToDo(verb, planned))
                    {
                        Dblock.Say("nothing was done");
                        return ExitCode.NotDone;
                    }
                }

                if (planned > 0 && !parsed.GetValue(dry))
                {
                    result = await opened
                        .ClearLocksAsync(locks, sent, options with { DryRun = false }, cancellationToken).ConfigureAwait(false);
                }

                if (parsed.GetValue(dry) && Output.IsTerminal && Output.IsTable(format) && !parsed.GetValue(wide))
                {
                    Show(result, waiters);
                }
                else if (!asks || planned > 0)
                {
                    Write(format, result, waiters, parsed.GetValue(wide));
                }

                // A dry run leaves the sessions that it would signal, and that is no failure.
                return result.All(session => !session.IsLeft || session.Outcome == PgClearOutcome.Planned) ? ExitCode.Ok : ExitCode.NotDone;
            }
        });
        return command;
    }

    /// <summary>Says whether a person is to be asked before anything is done.</summary>
    /// <exception cref="UsageException">There is nobody to ask.</exception>
    public static bool Asks(bool yes, bool dry, string format)
    {
        UsageException.ThrowIf(
            !yes && !dry && (Console.IsInputRedirected || !Output.IsTable(format)),
            "there is nobody to ask: say --yes, or --dry-run to see what would be done");
        return !yes && !dry;
    }

    /// <summary>Asks a person.</summary>
    /// <returns>Whether the answer is yes.</returns>
    public static bool AskToDo(string verb, int count)
    {
        Console.Error.Write(string.Create(
            CultureInfo.InvariantCulture, $"{verb} {count} session{(count == 1 ? "" : "s")}? (y/N) "));
        return Console.In.ReadLine()?.Trim().ToUpperInvariant() is "Y" or "YES";
    }

    // The processes that wait for each process, directly or through others.
    private static Dictionary<int, List<int>> Waiters(PgWaitGraph graph) => graph.Roots
        .SelectMany(root => root.SelfAndAllWaiters())
        .Distinct()
        .Where(node => node.Pid is not null && node.Waiters.Count > 0)
        .ToDictionary(
            node => node.Pid!.Value,
            node => node.SelfAndAllWaiters().Where(waiter => waiter != node).Select(waiter => waiter.Pid).OfType<int>().ToList());

    private static string InWords(List<int> pids) => FirstOf(pids, pid => pid.ToString(CultureInfo.InvariantCulture));

    private static string FirstOf<T>(IReadOnlyCollection<T> all, Func<T, string> inWords) =>
        string.Join(", ", all.Take(MostShown).Select(inWords))
        + (all.Count > MostShown ? string.Create(CultureInfo.InvariantCulture, $" and {all.Count - MostShown} more") : "");

    private static List<int> Of(Dictionary<int, List<int>> waiters, PgClearedSession session) =>
        (session.Session?.LeaderPid ?? session.Locks[0].Pid) is { } pid && waiters.TryGetValue(pid, out var pids) ? pids : [];

    // Shows what a person must know to say yes: the session, what it does and since when, its locks, and who waits for it.
    private static void Show(PgClearResult result, Dictionary<int, List<int>> waiters)
    {
        List<string> lines = result.Count == 0 ? ["Nothing matches."] : [];
        foreach (var session in result)
        {
            var who = session.Session?.ToString() ?? session.Locks[0].ToString();
            Add(Output.Bold, session.Session is { IsWatched: false, State: { } state, StateAge: { } age }
                ? string.Create(CultureInfo.InvariantCulture, $"{who}: {state} for {age.TotalSeconds:0} s")
                : who + session.Session?.Doing());
            var locks = session.Locks.OrderBy(@lock => @lock is { Relation: null, Key: null }).ToList();
            Add(null, $"  locks: {FirstOf(locks, Lock)}");
            var pids = Of(waiters, session);
            var processes = pids.Count == 1 ? "process" : "processes";
            Add(null, pids.Count == 0 ? "  nobody waits for it" : $"  waiting for it: {processes} {InWords(pids)}");
            if (session.Session?.Query is { Length: > 0 } query)
            {
                Add(null, $"  {(session.Session.State == "active" ? "its" : "its last")} statement: {query}");
            }

            if (session.Outcome != PgClearOutcome.Planned)
            {
                Add(Output.Red, $"  {session.Outcome}: {AsOption(session.Reason)}");
            }
        }

        Output.WriteLines(lines);

        void Add(string? style, string text)
        {
            var indent = text.Length - text.TrimStart().Length;
            var line = Output.Cut(new string(' ', indent) + Output.OneLine(text), Output.IsTerminal ? Output.Width : int.MaxValue);
            lines.Add(style is null ? line : Output.Styled(style, line));
        }
    }

    private static string Lock(PgLock @lock) =>
        $"{(@lock.Granted ? "" : "waits for ")}{@lock.Mode} on "
        + (LockRows.Row(@lock, ["object"])[0] is string { Length: > 0 } what ? what : @lock.LockType)
        + (@lock.HeldFor is { } time ? $" for {time.InWords()}" : "");

    private static void Write(string format, PgClearResult result, Dictionary<int, List<int>> waiters, bool wide)
    {
        if (Output.IsTable(format) && result.Count == 0)
        {
            Console.Out.WriteLine("Nothing matches.");
            return;
        }

        var rows = result.Select(session => (object?[])
        [
            .. LockRows.Row(session.Locks[0], LockColumns),
            session.Outcome.ToString(),
            session.Signal?.ToString(),
            AsOption(session.Reason),
            session.Session?.State,
            LockRows.Seconds(session.Session?.StateAge),
            InWords(Of(waiters, session)),
            session.Session?.Query,
        ]);
        Output.Write(format, Columns, [.. rows], wide ? null : Important);
    }

    // Replaces the library's names of options with those of the command line.
    private static string? AsOption(string? reason) => reason?
        .Replace("PgClearOptions.IncludeSuperusers is not set", "--include-superusers was not given", StringComparison.Ordinal)
        .Replace("PgClearOptions.IncludeReplication is not set", "--include-replication was not given", StringComparison.Ordinal)
        .Replace("PgClearOptions.IncludeAutovacuum is not set", "--include-autovacuum was not given", StringComparison.Ordinal)
        .Replace("PgClearOptions.ExceptUsers", "--except-user", StringComparison.Ordinal)
        .Replace("PgClearOptions.ExceptApplications", "--except-application", StringComparison.Ordinal);
}
