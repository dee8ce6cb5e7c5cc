using System.CommandLine;
using System.CommandLine.Parsing;
using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Npgsql;

namespace DbLock.Cli;

/// <summary><c>dblock run</c>: holds a lock while a command runs.</summary>
internal static class RunCommand
{
    private const string Terminate = "terminate";
    private const string Kill = "kill";
    private const string Ignore = "ignore";

    private static readonly TimeSpan Unwatched = TimeSpan.FromMilliseconds(200);

    /// <summary>What --help says beyond the options.</summary>
    public const string Details = """
        Exit codes:
          the command's own
          128+n  signal n ended the command, or the wait
          75     the lock was held elsewhere (--conflict-exit-code)
          74     the lock was lost while the command ran
          69     no connection, or locks that cannot be trusted
          64     wrong usage
          126    the command cannot be executed
          127    there is no such command

        The command sees:
          DBLOCK_KEY            the number that is locked, or the pair 1,2
          DBLOCK_NAME           KEY as it was given
          DBLOCK_PID            the server process that holds the lock
          DBLOCK_FENCING_TOKEN  a number larger than that of every holder before

        Signals go on to the command; while the lock is waited for, they end the wait. In a terminal, Ctrl-C
        comes to the command from the terminal itself.

        Examples:
          dblock run nightly-report -- ./report --all
          dblock run --nonblock import:42 -- ./import 42 || echo "somebody else is at it"
          dblock run --timeout 30s --verbose migrations -- dotnet ef database update
        """;

    public static Command Create()
    {
        var connection = ConnectionOption.Create();
        var scheme = KeyOption.Create();
        var nonblock = new Option<bool>("--nonblock", "-n") { Description = "Do not wait: end with the conflict exit code if the lock is held elsewhere" };
        var timeout = new Option<TimeSpan?>("--timeout", "-t") { Description = "Wait no longer than this (30s, 500ms, 2h; a bare number is seconds). Default: for ever", HelpName = "duration", CustomParser = Duration.Parse };
        var shared = new Option<bool>("--shared", "-s") { Description = "Others may hold the lock at the same time, if they too ask for it shared" };
        var conflict = new Option<int>("--conflict-exit-code", "-E") { Description = "The exit code when the lock is not acquired, from 0 to 255", HelpName = "code", DefaultValueFactory = _ => ExitCode.Conflict };
        var onLost = new Option<string>("--on-lost")
        {
            Description = "What is done to the command when the lock is lost while it runs: terminate (SIGTERM, and after --grace SIGKILL), kill (SIGKILL at once), or ignore",
            HelpName = "what",
            DefaultValueFactory = _ => Terminate,
        };
        onLost.AcceptOnlyFromAmong(Terminate, Kill, Ignore);
        var grace = new Option<TimeSpan?>("--grace") { Description = "How long the command has to end after SIGTERM. Default: 10s", HelpName = "duration", CustomParser = Duration.Parse };
        var trust = new Option<bool>("--trust-pooler") { Description = "The connection pooler in between keeps one server session for each client (PgBouncer's session mode)" };
        var verbose = new Option<bool>("--verbose", "-v") { Description = "Say on stderr who holds the lock, how long it was waited for, and how the command ended" };
        var key = new Argument<string>("KEY") { Description = "What is locked: a name, or a number or pair with --key-scheme" };
        var words = new Argument<string[]>("COMMAND") { Description = "The command and its arguments, after --. No shell is involved", Arity = ArgumentArity.OneOrMore };
        var command = new Command("run", "Runs a command while it holds a lock: dblock run nightly-report -- ./report --all")
        { key, words, connection, scheme, nonblock, timeout, shared, conflict, onLost, grace, trust, verbose };
        command.SetAction((parsed, _) =>
        {
            if (!parsed.Tokens.Any(token => token.Type == TokenType.DoubleDash))
            {
                throw new UsageException("write -- before the command, so that its options are its own: dblock run KEY -- COMMAND");
            }

            // To the parser, an option that it does not know is an argument.
            var operands = (parsed.GetResult(key)?.Tokens ?? []).Concat(parsed.GetResult(words)?.Tokens.Take(1) ?? []).ToHashSet(ReferenceEqualityComparer.Instance);
            if (parsed.Tokens.TakeWhile(token => token.Type != TokenType.DoubleDash).FirstOrDefault(token => operands.Contains(token) && token.Value.StartsWith('-')) is { } unknown)
            {
                throw new UsageException($"there is no option {unknown.Value}: see dblock run --help; a key or command that begins so goes after --");
            }

            if (parsed.GetValue(nonblock) && parsed.GetValue(timeout) is not null)
            {
                throw new UsageException("--nonblock and --timeout exclude each other: give one of them");
            }

            if (parsed.GetValue(conflict) is < 0 or > 255)
            {
                throw new UsageException("--conflict-exit-code takes a number from 0 to 255");
            }

            // With the key after a first --, the second is no word of the command.
            var line = parsed.GetValue(words)! is ["--", .. var rest] && rest.Length > 0 ? rest : parsed.GetValue(words)!;
            if (line.Append(parsed.GetValue(key)!).Any(word => word.Contains('\uFFFD', StringComparison.Ordinal)))
            {
                throw new UsageException("the key and the command must be UTF-8: what is not would come to the command as something else");
            }

            if (parsed.GetValue(grace) > TimeSpan.FromDays(1))
            {
                throw new UsageException("--grace takes no more than 1d");
            }

            var lockKey = KeyOption.Parse(parsed.GetValue(key)!, parsed.GetValue(scheme)!);
            var wait = parsed.GetValue(nonblock) ? TimeSpan.Zero : parsed.GetValue(timeout) ?? Timeout.InfiniteTimeSpan;
            if (wait > LockDialect.PostgreSql.MaxTimeout)
            {
                throw new UsageException($"--timeout takes no more than {LockDialect.PostgreSql.MaxTimeout.Days} days, the longest that PostgreSQL can count; leave it out to wait for ever");
            }

            var job = new Job(
                ConnectionOption.Resolve(parsed.GetValue(connection)), parsed.GetValue(key)!, lockKey, line, wait, parsed.GetValue(shared), parsed.GetValue(conflict),
                parsed.GetValue(onLost)!, parsed.GetValue(grace) ?? TimeSpan.FromSeconds(10), parsed.GetValue(trust), parsed.GetValue(verbose));
            return RunAsync(job);
        });
        return command;
    }

    private static async Task<int> RunAsync(Job job)
    {
        var (file, failure) = Child.Find(job.Words[0]);
        if (file is null)
        {
            Dblock.Say(failure == ExitCode.NoSuchCommand ? $"{job.Words[0]}: there is no such command" : $"{job.Words[0]}: it cannot be executed");
            return failure;
        }

        using var signals = new Signals();
        var address = new NpgsqlConnectionStringBuilder(job.Connection) { TcpKeepAlive = true }.ConnectionString;
        try
        {
            var connection = await ConnectionOption.OpenAsync(address, signals.First).ConfigureAwait(false);
            await using (connection.ConfigureAwait(false))
            {
                var options = new LockOptions { Shared = job.Shared, TrustPooler = job.TrustPooler, Fencing = true };
                await PrepareAsync(connection, job.TrustPooler, signals.First).ConfigureAwait(false);
                await SessionSettings.Set(connection, LockInterface.Npgsql.Driver, LockDialect.PostgreSql, options, async: true, signals.First).ConfigureAwait(false);
                var @lock = new Lock(connection, job.Key, LockInterface.Npgsql, options);
                await using (@lock.ConfigureAwait(false))
                {
                    return await AcquireAsync(job, @lock, signals.First).ConfigureAwait(false)
                        ? await HoldAsync(job, file, connection, @lock, signals).ConfigureAwait(false)
                        : job.ConflictExitCode;
                }
            }
        }
        catch (LockNotAcquiredException e)
        {
            Dblock.Say(e.Message);
            return job.ConflictExitCode;
        }
        catch (OperationCanceledException) when (signals.First.IsCancellationRequested)
        {
            return ExitCode.Signal + signals.FirstNumber;
        }
    }

    // The session is dblock's own: what ends a session that idles, or a statement that waits, is not for it. Another client's session, behind a pooler, is left alone.
    private static async Task PrepareAsync(NpgsqlConnection connection, bool trustPooler, CancellationToken cancellationToken)
    {
        var version = connection.PostgreSqlVersion.Major;
        var sql = $"""
            select pg_catalog.set_config('statement_timeout', '0', false), pg_catalog.set_config('idle_in_transaction_session_timeout', '0', false)
              {(version >= 14 ? ", pg_catalog.set_config('idle_session_timeout', '0', false)" : "")}
              {(version >= 17 ? ", pg_catalog.set_config('transaction_timeout', '0', false)" : "")}
              {(trustPooler ? "" : string.Create(CultureInfo.InvariantCulture, $"where pg_catalog.pg_backend_pid() = {connection.ProcessID}"))}
            """;
        using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
    }

    private static async Task<bool> AcquireAsync(Job job, Lock @lock, CancellationToken cancellationToken)
    {
        var start = Stopwatch.GetTimestamp();
        var acquired = job.Verbose
            ? await @lock.AcquireAsync(block: false, cancellationToken).ConfigureAwait(false)
            : await @lock.AcquireAsync(job.Timeout, cancellationToken).ConfigureAwait(false);
        if (!acquired && job.Verbose && job.Timeout != TimeSpan.Zero)
        {
            Dblock.Say($"waiting: {await @lock.GetHoldersAsync(cancellationToken).ConfigureAwait(false)}");
            acquired = await @lock.AcquireAsync(job.Timeout, cancellationToken).ConfigureAwait(false);
        }

        if (!acquired)
        {
            Dblock.Say($"not acquired: {await @lock.GetHoldersAsync(cancellationToken).ConfigureAwait(false)}");
        }
        else if (job.Verbose)
        {
            Dblock.Say(string.Create(CultureInfo.InvariantCulture, $"acquired after {Stopwatch.GetElapsedTime(start).TotalSeconds:0.0##} s"));
        }

        return acquired;
    }

    private static async Task<int> HoldAsync(Job job, string file, NpgsqlConnection connection, Lock @lock, Signals signals)
    {
        signals.First.ThrowIfCancellationRequested();
        var environment = await EnvironmentAsync(job, connection, @lock).ConfigureAwait(false);
        Child child;
        try
        {
            child = Child.Start(file, job.Words[1..], environment);
        }
        catch (Win32Exception e)
        {
            Dblock.Say($"{job.Words[0]}: {Marshal.GetPInvokeErrorMessage(e.NativeErrorCode)}");
            return Child.ExitCodeOf(e);
        }

        using (child)
        {
            var exit = child.ExitAsync();
            signals.ForwardTo(child.Forward);
            // A watch costs more than a short command; what is lost before it begins, the release tells.
            await Task.WhenAny(exit, Task.Delay(Unwatched)).ConfigureAwait(false);
            using var stop = new CancellationTokenSource();
            var loss = exit.IsCompleted ? Task.FromResult<string?>(null) : HoldWatch.LossAsync(connection, @lock, stop.Token);
            if (await Task.WhenAny(exit, loss).ConfigureAwait(false) == loss && await loss.ConfigureAwait(false) is { } reason)
            {
                return await LostAsync(job, child, exit, reason).ConfigureAwait(false);
            }

            await stop.CancelAsync().ConfigureAwait(false);
            await loss.ConfigureAwait(false);
            var code = await exit.ConfigureAwait(false);
            if (job.Verbose)
            {
                Dblock.Say(string.Create(CultureInfo.InvariantCulture, $"the command ended with {code}"));
            }

            try
            {
                await @lock.ReleaseAsync().ConfigureAwait(false);
                return code;
            }
            catch (LockLostException e)
            {
                Dblock.Say(e.Message);
                return job.OnLost == Ignore ? code : ExitCode.Lost;
            }
        }
    }

    private static async Task<int> LostAsync(Job job, Child child, Task<int> exit, string reason)
    {
        // First it is stopped, then told.
        var family = job.OnLost == Ignore ? [] : child.Family();
        Child.Send(family, job.OnLost == Kill ? Unix.Sigkill : Unix.Sigterm);
        Dblock.Say($"lock '{job.Name}' is lost while the command runs, and others may hold it: {reason}");
        if (job.OnLost == Ignore)
        {
            return await exit.ConfigureAwait(false);
        }

        if (await Task.WhenAny(exit, Task.Delay(job.Grace)).ConfigureAwait(false) != exit)
        {
            Dblock.Say(string.Create(CultureInfo.InvariantCulture, $"the command has not ended within {job.Grace.TotalSeconds:0.###} s, and is killed"));
            Child.Send(child.Family(), Unix.Sigkill);
        }

        await exit.ConfigureAwait(false);

        // What it started and did not wait for.
        Child.Send(family.Skip(1), Unix.Sigkill);
        return ExitCode.Lost;
    }

    private static async Task<(string, string)[]> EnvironmentAsync(Job job, NpgsqlConnection connection, Lock @lock) =>
    [
        ("DBLOCK_KEY", job.Key.IsPair ? $"{job.Key.Pair.First},{job.Key.Pair.Second}" : job.Key.Number.ToString(CultureInfo.InvariantCulture)),
        ("DBLOCK_NAME", job.Name),
        ("DBLOCK_PID", (job.TrustPooler ? await ServerPidAsync(connection).ConfigureAwait(false) : connection.ProcessID).ToString(CultureInfo.InvariantCulture)),
        ("DBLOCK_FENCING_TOKEN", @lock.FencingToken!.Value.ToString(CultureInfo.InvariantCulture)),
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
        string Connection, string Name, LockKey Key, string[] Words, TimeSpan Timeout, bool Shared, int ConflictExitCode, string OnLost, TimeSpan Grace, bool TrustPooler, bool Verbose);
}
