using System.CommandLine;
using System.CommandLine.Parsing;
using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using Npgsql;

namespace DbLock.Cli;

/// <summary><c>dblock run</c>: holds a lock while a command runs.</summary>
internal static class RunCommand
{
    private const string Terminate = "terminate";
    private const string Kill = "kill";
    private const string Ignore = "ignore";

    private const string Queue = "queue";
    private const string Yield = "yield";

    private static readonly TimeSpan Unwatched = TimeSpan.FromMilliseconds(200);

    // A limit is a limit, and a second for the way there and back. What is in no hurry has three in all, so that a busy machine can
    // connect.
    private static readonly TimeSpan Way = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Least = TimeSpan.FromSeconds(3);

    private static readonly TimeSpan ReleaseLimit = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan LeftoversTold = TimeSpan.FromSeconds(2);

    /// <summary>What --help says beyond the options.</summary>
    public const string Details = """
        Exit codes:
          the command's own
          128+n  signal n ended the command, or the wait
          75     the lock was held elsewhere (--conflict-exit-code)
          74     the lock was lost while the command ran, or before it was started
          69     no connection, a server that does not answer, or locks that cannot be trusted
          64     wrong usage
          126    the command cannot be executed
          127    there is no such command

        The command sees:
          DBLOCK_KEY            the number that is locked, or the pair 1,2
          DBLOCK_NAME           KEY as it was given
          DBLOCK_PID            the server process that holds the lock
          DBLOCK_FENCING_TOKEN  a number larger than that of every holder before

        It does not see DBLOCK_CONNECTION (--pass-connection).

        SIGTERM, SIGHUP, SIGINT and SIGQUIT go on to the command and all that it has started, other signals to
        the command; while the lock is waited for, they end the wait. In a terminal, Ctrl-C comes to the command
        from the terminal itself. The lock is held until all that the command has started has ended, but for
        daemons (processes in a session of their own whose parent has ended); with --close, until the command
        has.

        Examples:
          dblock run nightly-report -- ./report --all
          dblock run --nonblock import:42 -- ./import 42 || echo "somebody else is at it"
          dblock run --nonblock --quiet --conflict-exit-code 0 cleanup -- ./cleanup      in a crontab
          dblock run --wait yield --timeout 10m migrations -- ./migrate
        """;

    public static Command Create()
    {
        var connection = ConnectionOption.Create();
        var scheme = KeyOption.Create();
        var nonblock = new Option<bool>("--nonblock", "-n")
        {
            Description = "Do not wait: end with the conflict exit code if the lock "
            + "is held elsewhere"
        };
        var timeout = new Option<TimeSpan?>("--timeout", "-t")
        {
            Description = "Wait no longer than this (30s, 500ms, 2h; a bare number "
            + "is seconds). Default: for ever",
            HelpName = "duration",
            CustomParser = Duration.Parse
        };
        var waitHow = new Option<string>("--wait")
        {
            Description = "How it waits: queue (first come first served) or yield (for migrations that create an index concurrently: "
                + "such a wait does not keep them from ending; who comes later may be first)",
            HelpName = "how",
            DefaultValueFactory = _ => Queue,
        };
        waitHow.AcceptOnlyFromAmong(Queue, Yield);
        var shared = new Option<bool>("--shared", "-s")
        {
            Description = "Others may hold the lock at the same time, if they too ask for "
            + "it shared"
        };
        var conflict = new Option<int>("--conflict-exit-code",
            "-E")
        {
            Description = "The exit code when the lock is not acquired, from 0 to 255",
            HelpName = "code",
            DefaultValueFactory = _ => ExitCode.Conflict,
            CustomParser = Code
        };
        var onLost = new Option<string>("--on-lost")
        {
            Description = "What is done to the command when the lock is lost while it runs: terminate (SIGTERM, and after --grace "
                + "SIGKILL), kill (SIGKILL at once), or ignore",
            HelpName = "what",
            DefaultValueFactory = _ => Terminate,
        };
        onLost.AcceptOnlyFromAmong(Terminate, Kill, Ignore);
        var grace = new Option<TimeSpan?>("--grace")
        {
            Description = "How long the command has to end after SIGTERM. Default: 10s",
            HelpName = "duration",
            CustomParser = Duration.Parse
        };
        var close = new Option<bool>("--close", "-o")
        {
            Description = "Let go of the lock when the command has ended, whatever it has "
            + "left running"
        };
        var pass = new Option<bool>("--pass-connection")
        {
            Description = "Leave DBLOCK_CONNECTION, and the password in it, in the "
            + "command's environment"
        };
        var noName = new Option<bool>("--no-name")
        {
            Description = "Do not show the lock's name, this host and the command to who looks at the server's sessions",
        };
        var trust = new Option<bool>("--trust-pooler")
        {
            Description = "The connection pooler in between keeps one server session for "
            + "each client (PgBouncer's session mode)"
        };
        var verbose = new Option<bool>("--verbose", "-v")
        {
            Description = "Say on stderr who holds the lock, how long it was waited "
            + "for, and how the command ended"
        };
        var quiet = new Option<bool>("--quiet", "-q")
        {
            Description = "Do not say on stderr that the lock is waited for, or that it was "
            + "not acquired; failures are said"
        };
        var key = new Argument<string>("KEY") { Description = "What is locked: a name, or a number or pair with --key-scheme" };
        var words = new Argument<string[]>("COMMAND")
        {
            Description = "The command and its arguments, after --. No shell is involved",
            Arity = ArgumentArity.OneOrMore
        };
        var command = new Command("run", "Runs a command while it holds a lock: dblock run nightly-report -- ./report --all")
        {
            key, words, connection, scheme, nonblock, timeout, waitHow, shared, conflict, onLost, grace, close, pass, noName, trust, quiet,
            verbose,
        };
        command.SetAction((parsed, _) =>
        {
            if (!parsed.Tokens.Any(token => token.Type == TokenType.DoubleDash))
            {
                throw new UsageException("write -- before the command, so that its options are its own: dblock run KEY -- COMMAND");
            }

            // To the parser, an option that it does not know is an argument.
            var operands = (parsed.GetResult(key)?.Tokens ?? []).Concat(
                parsed.GetResult(words)?.Tokens.Take(1) ?? []).ToHashSet(ReferenceEqualityComparer.Instance);
            if (parsed.Tokens.TakeWhile(token => token.Type != TokenType.DoubleDash).FirstOrDefault(token => operands.Contains(token) && token.Value.StartsWith('-')) is { } unknown)
            {
                throw new UsageException($"there is no option {unknown.Value.Split('=', ':')[0]}: see dblock run --help; a key or "
                    + "command that begins so goes after --");
            }

            if (parsed.GetValue(nonblock) && parsed.GetValue(timeout) is not null)
            {
                throw new UsageException("--nonblock and --timeout exclude each other: give one of them");
            }

            if (parsed.GetValue(quiet) && parsed.GetValue(verbose))
            {
                throw new UsageException("--quiet and --verbose exclude each other: give one of them");
            }

            if (parsed.GetValue(key)!.Length == 0)
            {
                throw new UsageException("the KEY is empty, as from a variable that is not set: name a key (in a shell, \"${JOB:?}\" "
                    + "refuses an empty JOB)");
            }

            // With the key after a first --, the second is no word of the command.
            var line = parsed.GetValue(words)! is ["--", .. var rest] && rest.Length > 0 ? rest : parsed.GetValue(words)!;
            if (!Given.IsUtf8(parsed.GetValue(key)!))
            {
                throw new UsageException("the KEY must be UTF-8: what is not would be another name");
            }

            if (parsed.GetValue(grace) > TimeSpan.FromDays(1))
            {
                throw new UsageException("--grace takes no more than 1d");
            }

            var lockKey = KeyOption.Parse(parsed.GetValue(key)!, parsed.GetValue(scheme)!);
            var wait = parsed.GetValue(nonblock) ? TimeSpan.Zero : parsed.GetValue(timeout) ?? Timeout.InfiniteTimeSpan;
            if (wait > LockDialect.PostgreSql.MaxTimeout)
            {
                throw new UsageException($"--timeout takes no more than {LockDialect.PostgreSql.MaxTimeout.Days} days, the longest that "
                    + "PostgreSQL can count; leave it out to wait for ever");
            }

            var options = new LockOptions
            {
                Shared = parsed.GetValue(shared),
                TrustPooler = parsed.GetValue(trust),
                Wait = parsed.GetValue(waitHow) == Yield ? LockWait.Yielding : LockWait.Queue,
                Fencing = true,
                ShowName = !parsed.GetValue(noName),
            };
            var job = new Job(
                ConnectionOption.Resolve(parsed.GetValue(connection)), parsed.GetValue(key)!, lockKey, Given.Words(line), wait, options,
                    parsed.GetValue(conflict))
            {
                OnLost = parsed.GetValue(onLost)!,
                Grace = parsed.GetValue(grace) ?? TimeSpan.FromSeconds(10),
                Close = parsed.GetValue(close),
                PassConnection = parsed.GetValue(pass),
                Quiet = parsed.GetValue(quiet),
                Verbose = parsed.GetValue(verbose),
            };
            return RunAsync(job);
        });
        return command;
    }

    private static int Code(ArgumentResult result)
    {
        if (int.TryParse(result.Tokens[^1].Value, NumberStyles.None, CultureInfo.InvariantCulture, out var code) && code <= 255)
        {
            return code;
        }

        result.AddError("--conflict-exit-code takes a number from 0 to 255");
        return 0;
    }

    private static async Task<int> RunAsync(Job job)
    {
        var (files, failure) = Child.Find(job.Words[0]);
        if (files.Count == 0)
        {
            Dblock.Say($"{Given.Text(job.Words[0])}: {(failure == ExitCode.NoSuchCommand ? "there is no such command" : "it cannot be executed")}");
            return failure;
        }

        using var signals = new Signals();
        var teller = new Teller();
        var connection = default(NpgsqlConnection);
        try
        {
            var start = Stopwatch.GetTimestamp();

            // Every limit is dblock's own, and what the provider would ask by itself it does not ask.
            var address = new NpgsqlConnectionStringBuilder(job.Connection) { TcpKeepAlive = true, CommandTimeout = 0, KeepAlive = 0 };

            // The server's own types are enough: a pooler lets in whom it has no session for yet, and a question would keep the opening
            // waiting.
            address["Server Compatibility Mode"] = "NoTypeLoading";
            connection = await OpenAsync(address, job.Timeout, signals.First).ConfigureAwait(false);
            var @lock = new Lock(connection, job.Key, LockInterface.Npgsql, job.Options) { Holder = job.Holder };
            await SessionAsync(job, address, connection, @lock, start, teller.Say, signals.First).ConfigureAwait(false);
            return await AcquireAsync(
                job, address.ConnectionString, connection, @lock, start, teller.Say, signals.First).ConfigureAwait(false) is { } watch
                ? await HoldAsync(job, files, connection, @lock, watch, signals, teller.Say).ConfigureAwait(false)
                : job.ConflictExitCode;
        }
        catch (LockNotAcquiredException e)
        {
            teller.Say(e.Message);
            return job.ConflictExitCode;
        }
        catch (OperationCanceledException) when (signals.First.IsCancellationRequested)
        {
            return ExitCode.Signal + signals.FirstNumber;
        }
        catch (Exception e) when (e is UnavailableException or NpgsqlException or LockException)
        {
            teller.Say(e.Message);
            return ExitCode.Unavailable;
        }
        finally
        {
            // Nothing is waited for long: with the process its connection ends, and with that its session.
            await Task.WhenAll(Closing.Begin(connection), teller.EndAsync()).ConfigureAwait(false);
        }
    }

    private static async Task<NpgsqlConnection> OpenAsync(NpgsqlConnectionStringBuilder address, TimeSpan timeout, CancellationToken signal)
    {
        // Npgsql's own timeout is for one host, and does not end the wait for a server that takes the connection and says nothing.
        var limit = address.Timeout == 0 ? Timeout.InfiniteTimeSpan : TimeSpan.FromSeconds(address.Timeout) * address.Host!.Split(',').Length + Way;
        if (timeout > TimeSpan.Zero && (limit == Timeout.InfiniteTimeSpan || Whole(timeout) < limit))
        {
            limit = Whole(timeout);
        }

        using var end = CancellationTokenSource.CreateLinkedTokenSource(signal);
        end.CancelAfter(limit);
        try
        {
            return await ConnectionOption.OpenAsync(address.ConnectionString, end.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!signal.IsCancellationRequested)
        {
            throw new UnavailableException(string.Create(
                CultureInfo.InvariantCulture, $"no connection to {address.Host}, port {address.Port}: the server has not answered "
                    + $"within {limit.TotalSeconds:0.###} s"));
        }
    }

    /// <summary>Makes the session ready. A pooler may have one to give only when another client has ended.</summary>
    private static async Task SessionAsync(
        Job job, NpgsqlConnectionStringBuilder address, NpgsqlConnection connection, Lock @lock, long start, Action<string> say,
        CancellationToken signal)
    {
        var preparing = PrepareAsync(connection, job.Options, @lock, signal);
        if (!job.Options.TrustPooler || job.Timeout == TimeSpan.Zero)
        {
            await AnswerAsync(preparing, LockWatch.Trust, signal).ConfigureAwait(false);
            return;
        }

        var what = string.Create(CultureInfo.InvariantCulture, $"a session of the server: the pooler at {address.Host}, port "
            + $"{address.Port} has none free, or does not answer");
        using var end = new CancellationTokenSource();
        _ = job.Quiet ? Task.CompletedTask : WaitWatch.TellAsync(what, say, end.Token);
        try
        {
            var limit = job.Timeout == Timeout.InfiniteTimeSpan ? job.Timeout : Left(job.Timeout, start);
            await AnswerAsync(preparing, limit, signal).ConfigureAwait(false);
        }
        catch (UnavailableException)
        {
            throw new UnavailableException(
                string.Create(CultureInfo.InvariantCulture, $"given up after {job.Timeout.TotalSeconds:0.###} s, waiting for {what}"));
        }
        finally
        {
            await end.CancelAsync().ConfigureAwait(false);
        }
    }

    // The session is dblock's own: what ends a session that idles, or a statement that waits, is not for it. Another client's session,
    // behind a pooler, is left alone.
    private static async Task<bool> PrepareAsync(
        NpgsqlConnection connection, LockOptions options, Lock @lock, CancellationToken cancellationToken)
    {
        var version = connection.PostgreSqlVersion.Major;
        var sql = $"""
            select pg_catalog.set_config('statement_timeout', '0', false), pg_catalog.set_config('idle_in_transaction_session_timeout', '0', false)
              {(version >= 14 ? ", pg_catalog.set_config('idle_session_timeout', '0', false)" : "")}
              {(version >= 17 ? ", pg_catalog.set_config('transaction_timeout', '0', false)" : "")}
              {(options.TrustPooler ? "" : string.Create(CultureInfo.InvariantCulture, $"where pg_catalog.pg_backend_pid() = {connection.ProcessID}"))}
            """;
        using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
        await @lock.Keep(async: true, cancellationToken).ConfigureAwait(false);
        return true;
    }

    /// <summary>
    /// Waits for an answer, no longer than a limit, and no longer than a second after a signal. What is not answered is left behind with
    /// the connection.
    /// </summary>
    private static async Task<T> AnswerAsync<T>(Task<T> asked, TimeSpan limit, CancellationToken signal)
    {
        using var end = new CancellationTokenSource(limit);
        using var hurry = signal.Register(() => end.CancelAfter(Way));
        try
        {
            return await asked.WaitAsync(end.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (end.IsCancellationRequested)
        {
            signal.ThrowIfCancellationRequested();
            throw new UnavailableException(string.Create(CultureInfo.InvariantCulture, $"the server has not answered within "
                + $"{limit.TotalSeconds:0.###} s"));
        }
    }

    private static TimeSpan Whole(TimeSpan timeout) => timeout + Way > Least ? timeout + Way : Least;

    /// <summary>Acquires the lock.</summary>
    /// <returns>The watch over it; null when it is held elsewhere.</returns>
    private static async Task<HoldWatch?> AcquireAsync(
        Job job, string address, NpgsqlConnection connection, Lock @lock, long start, Action<string> say, CancellationToken signal)
    {
        var isTry = job.Timeout == TimeSpan.Zero;
        var acquired = (isTry || job.Verbose)
            && await AnswerAsync(@lock.AcquireAsync(block: false, signal).AsTask(), AnswerLimit(), signal).ConfigureAwait(false);
        if (!acquired && !isTry)
        {
            if (job.Verbose)
            {
                say($"waiting: {await HoldersAsync(job, @lock, AnswerLimit(), signal).ConfigureAwait(false)}");
            }

            acquired = await WaitAsync(job, address, connection, @lock, start, say, signal).ConfigureAwait(false);
        }

        if (!acquired)
        {
            if (!job.Quiet)
            {
                say($"not acquired: {await HoldersAsync(job, @lock, AnswerLimit(), signal).ConfigureAwait(false)}");
            }

            return null;
        }

        if (job.Verbose)
        {
            say(string.Create(CultureInfo.InvariantCulture, $"acquired after {Stopwatch.GetElapsedTime(start).TotalSeconds:0.0##} s"));
        }

        return new HoldWatch(connection, @lock);

        TimeSpan AnswerLimit() => job.Timeout <= TimeSpan.Zero ? LockWatch.Trust : Min(LockWatch.Trust, Left(job.Timeout, start));
    }

    private static async Task<bool> WaitAsync(
        Job job, string address, NpgsqlConnection connection, Lock @lock, long start, Action<string> say, CancellationToken signal)
    {
        using var stop = new CancellationTokenSource();
        var (timeout, limit) = (job.Timeout, job.Timeout);
        if (timeout > TimeSpan.Zero)
        {
            var left = timeout - Stopwatch.GetElapsedTime(start);
            (timeout, limit) = (left > TimeSpan.Zero ? left : TimeSpan.Zero, Left(job.Timeout, start));
        }

        var silence = WaitWatch.SilenceAsync(address, connection.ProcessID, job.Key, job.Options, job.Quiet ? null : say, stop.Token);
        var acquiring = AnswerAsync(@lock.AcquireAsync(timeout, signal).AsTask(), limit, signal);
        if (await Task.WhenAny(acquiring, silence).ConfigureAwait(false) == silence)
        {
            throw new UnavailableException($"the server has fallen silent while lock '{job.Name}' was waited for: "
                + $"{await silence.ConfigureAwait(false)}. The wait is given up");
        }

        await stop.CancelAsync().ConfigureAwait(false);
        return await acquiring.ConfigureAwait(false);
    }

    // What is left of the whole limit, and a second at least.
    private static TimeSpan Left(TimeSpan timeout, long start)
    {
        var left = Whole(timeout) - Stopwatch.GetElapsedTime(start);
        return left > Way ? left : Way;
    }

    private static TimeSpan Min(TimeSpan one, TimeSpan other) => one < other ? one : other;

    // For a message, which need not be whole.
    private static async Task<string> HoldersAsync(Job job, Lock @lock, TimeSpan limit, CancellationToken signal)
    {
        try
        {
            return (await AnswerAsync(@lock.GetHoldersAsync(signal).AsTask(), limit, signal).ConfigureAwait(false)).ToString();
        }
        catch (Exception e) when (e is UnavailableException or NpgsqlException or LockException)
        {
            return $"'{job.Name}' is held elsewhere";
        }
    }

    private static async Task<int> HoldAsync(
        Job job, IReadOnlyList<string> files, NpgsqlConnection connection, Lock @lock, HoldWatch watch, Signals signals, Action<string> say)
    {
        var environment = await EnvironmentAsync(job, connection, @lock, signals.First).ConfigureAwait(false);

        // While the lock was waited for, or this process was stopped, much may have happened.
        if (await watch.ConfirmAsync().ConfigureAwait(false) is { } lost)
        {
            say($"lock '{job.Name}' was lost before the command was started, and it is not started: {lost}");
            return ExitCode.Lost;
        }

        signals.First.ThrowIfCancellationRequested();
        Child child;
        try
        {
            child = Child.Start(files, job.Words, environment);
        }
        catch (Win32Exception e)
        {
            say($"{Given.Text(job.Words[0])}: {Child.ReasonOf(e)}");
            return Child.ExitCodeOf(e);
        }

        var exit = job.Close ? child.ExitAsync() : child.EndAsync(daemons: false);
        signals.ForwardTo(child.Forward);
        _ = TellLeftoversAsync(job, child, exit, say);

        // A watch costs more than a short command; what is lost before it begins, the release tells.
        await Task.WhenAny(exit, Task.Delay(Unwatched)).ConfigureAwait(false);
        using var stop = new CancellationTokenSource();
        var loss = exit.IsCompleted ? Task.FromResult<string?>(null) : watch.LossAsync(stop.Token);
        if (await Task.WhenAny(exit, loss).ConfigureAwait(false) == loss && await loss.ConfigureAwait(false) is { } reason)
        {
            return await LostAsync(job, child, exit, reason, say).ConfigureAwait(false);
        }

        await stop.CancelAsync().ConfigureAwait(false);
        var code = await exit.ConfigureAwait(false);
        if (job.Verbose)
        {
            say(string.Create(CultureInfo.InvariantCulture, $"the command ended with {code}"));
        }

        return await ReleaseAsync(loss, @lock).ConfigureAwait(false) is not { } failure ? code : Failed(failure);

        int Failed((bool IsLost, string Reason) end)
        {
            say(end.Reason);
            return end.IsLost && job.OnLost != Ignore ? ExitCode.Lost : code;
        }
    }

    /// <summary>Lets go of the lock.</summary>
    /// <returns>Null when it is let go, else whether it was lost, and what is to be said.</returns>
    private static async Task<(bool IsLost, string Reason)?> ReleaseAsync(Task<string?> loss, Lock @lock)
    {
        try
        {
            if (await loss.WaitAsync(ReleaseLimit).ConfigureAwait(false) is { } reason)
            {
                return (true, $"lock '{@lock.Key}' was lost while the command ran, and others may have held it: {reason}");
            }

            await @lock.ReleaseAsync().AsTask().WaitAsync(ReleaseLimit).ConfigureAwait(false);
            return null;
        }
        catch (TimeoutException)
        {
            return (false, $"the server does not answer the release of lock '{@lock.Key}': its connection is closed, and the lock ends "
                + "when the server notices that");
        }
        catch (Exception e) when (e is LockException or NpgsqlException or IOException or InvalidOperationException)
        {
            return (true, e.Message);
        }
    }

    private static async Task<int> LostAsync(Job job, Child child, Task<int> exit, string reason, Action<string> say)
    {
        // First it is stopped, then told. What is stopped (SIGSTOP) must go on to hear it.
        if (job.OnLost == Terminate)
        {
            child.Send(Unix.Sigterm);
            child.Send(Unix.Sigcont);
        }

        say($"lock '{job.Name}' is lost while the command runs, and others may hold it: {reason}");
        if (job.OnLost == Ignore)
        {
            return await exit.ConfigureAwait(false);
        }

        var end = child.EndAsync(daemons: true);
        if (job.OnLost == Terminate && await Task.WhenAny(end, Task.Delay(job.Grace)).ConfigureAwait(false) != end)
        {
            say(string.Create(CultureInfo.InvariantCulture, $"the command, or what it has started, has not ended within "
                + $"{job.Grace.TotalSeconds:0.###} s, and is killed"));
        }

        if (await child.KillAsync().ConfigureAwait(false) is { } alive)
        {
            say($"what the command has started could not be killed, and runs on: {Names(alive)}");
        }

        return ExitCode.Lost;
    }

    private static async Task TellLeftoversAsync(Job job, Child child, Task<int> end, Action<string> say)
    {
        await child.ExitAsync().ConfigureAwait(false);
        if (!job.Quiet && !end.IsCompleted && await Task.WhenAny(end, Task.Delay(LeftoversTold)).ConfigureAwait(false) != end)
        {
            var left = Names([.. child.Tree().Where(process => !process.IsDaemon).Select(process => process.Pid)]);
            say($"the command has ended, and lock '{job.Name}' is held until what it has left running ends: {left} (see --close)");
        }
    }

    private static string Names(IReadOnlyCollection<int> pids) => pids.Count == 0
        ? "processes that /proc does not show to dblock"
        : string.Join(", ", pids.Take(3).Select(pid => string.Create(CultureInfo.InvariantCulture, $"{Child.NameOf(pid)} (pid {pid})")));

    private static async Task<(string, string?)[]> EnvironmentAsync(
        Job job, NpgsqlConnection connection, Lock @lock, CancellationToken signal) =>
    [
        ("DBLOCK_KEY",
            job.Key.IsPair ? string.Create(
                CultureInfo.InvariantCulture,
                    $"{job.Key.Pair.First},{job.Key.Pair.Second}") : job.Key.Number.ToString(CultureInfo.InvariantCulture)),
        ("DBLOCK_NAME", job.Name),
        ("DBLOCK_PID",
            (job.Options.TrustPooler ? await AnswerAsync(ServerPidAsync(connection), LockWatch.Trust, signal).ConfigureAwait(false) : connection.ProcessID).ToString(CultureInfo.InvariantCulture)),
        ("DBLOCK_FENCING_TOKEN", @lock.FencingToken!.Value.ToString(CultureInfo.InvariantCulture)),
        .. job.PassConnection ? [] : new (string, string?)[] { ("DBLOCK_CONNECTION", null) },
    ];

    // A pooler shows a number of its own.
    private static async Task<int> ServerPidAsync(NpgsqlConnection connection)
    {
        var command = new NpgsqlCommand("select pg_catalog.pg_backend_pid()", connection);
        await using (command.ConfigureAwait(false))
        {
            return (int)(await command.ExecuteScalarAsync().ConfigureAwait(false))!;
        }
    }

    private sealed record Job(
        string Connection, string Name, LockKey Key, string[] Words, TimeSpan Timeout, LockOptions Options, int ConflictExitCode)
    {
        /// <summary>Gets who holds, as the server shows it. The command's arguments may have secrets in them.</summary>
        public string Holder =>
            string.Create(CultureInfo.InvariantCulture, $"{Words[0]} on {Environment.MachineName} pid {Environment.ProcessId}");

        public required string OnLost { get; init; }

        public required TimeSpan Grace { get; init; }

        public required bool Close { get; init; }

        public required bool PassConnection { get; init; }

        public required bool Quiet { get; init; }

        public required bool Verbose { get; init; }
    }
}
