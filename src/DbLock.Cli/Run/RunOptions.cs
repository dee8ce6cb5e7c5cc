using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;

namespace DbLock.Cli;

/// <summary>The options and arguments of <c>dblock run</c>, and the job that they describe.</summary>
internal sealed class RunOptions
{
    private const string Terminate = "terminate";
    private const string Kill = "kill";
    private const string Ignore = "ignore";

    private const string Queue = "queue";
    private const string Yield = "yield";

    private readonly Argument<string> _key = new("KEY") { Description = "What is locked: a name, or a number or pair with --key-scheme" };
    private readonly Argument<string[]> _words = new("COMMAND")
    {
        Description = "The command and its arguments, after --. No shell is involved",
        Arity = ArgumentArity.OneOrMore,
    };
    private readonly Option<string?> _connection = ConnectionOption.Create();
    private readonly Option<string> _scheme = KeyOption.Create();
    private readonly Option<bool> _nonblock = new("--nonblock", "-n")
    {
        Description = "Do not wait: end with the conflict exit code if the lock is held elsewhere",
    };
    private readonly Option<TimeSpan?> _timeout = Duration.Option(
        "Wait no longer than this (30s, 500ms, 2h; a bare number is seconds). Default: for ever", "--timeout", "-t");
    private readonly Option<string> _wait = new("--wait")
    {
        Description = "How it waits: queue (first come first served) or yield (for migrations that create an index concurrently: such a "
            + "wait does not keep them from ending; who comes later may be first)",
        HelpName = "how",
        DefaultValueFactory = _ => Queue,
    };
    private readonly Option<bool> _shared = new("--shared", "-s")
    {
        Description = "Others may hold the lock at the same time, if they too ask for it shared",
    };
    private readonly Option<int?> _slots = new("--slots")
    {
        Description = "So many may hold the lock at once, each in a slot of its own (DBLOCK_SLOT). Every program should give the same "
            + "number",
        HelpName = "count",
        CustomParser = ParseSlots,
    };
    private readonly Option<TimeSpan?> _lease = Duration.Option(
        "Hold a lease instead of a session's lock: a row of a table (dblock lease-table), renewed while the command runs, that ends this "
        + "long after the last renewal (30s). It passes every pooler, and outlives a restart or a failover of the server",
        "--lease");
    private readonly Option<TimeSpan?> _atLeast = Duration.Option(
        "With --lease: the lease is not given again before so long after its grant, even if the command ends sooner", "--at-least");
    private readonly Option<int> _conflict = new("--conflict-exit-code", "-E")
    {
        Description = "The exit code when the lock is not acquired, from 0 to 255",
        HelpName = "code",
        DefaultValueFactory = _ => ExitCode.Conflict,
        CustomParser = ParseExitCode,
    };
    private readonly Option<string> _onLost = new("--on-lost")
    {
        Description = "What is done to the command when the lock is lost while it runs: terminate (SIGTERM, and after --grace SIGKILL), "
            + "kill (SIGKILL at once), or ignore",
        HelpName = "what",
        DefaultValueFactory = _ => Terminate,
    };
    private readonly Option<TimeSpan?> _grace = Duration.Option(
        "How long the command has to end after SIGTERM. Default: 10s", "--grace");
    private readonly Option<bool> _close = new("--close", "-o")
    {
        Description = "Let go of the lock when the command has ended, whatever it has left running",
    };
    private readonly Option<bool> _pass = new("--pass-connection")
    {
        Description = "Leave DBLOCK_CONNECTION, and the password in it, in the command's environment",
    };
    private readonly Option<bool> _noName = new("--no-name")
    {
        Description = "Do not show the lock's name, this host and the command to who looks at the server's sessions",
    };
    private readonly Option<bool> _trust = PoolerOption.Create();
    private readonly Option<bool> _quiet = new("--quiet", "-q")
    {
        Description = "Do not say on stderr that the lock is waited for, or that it was not acquired; failures are said",
    };
    private readonly Option<bool> _verbose = new("--verbose", "-v")
    {
        Description = "Say on stderr who holds the lock, how long it was waited for, and how the command ended",
    };

    private RunOptions()
    {
        _wait.AcceptOnlyFromAmong(Queue, Yield);
        _onLost.AcceptOnlyFromAmong(Terminate, Kill, Ignore);
    }

    public static RunOptions AddTo(Command command)
    {
        var options = new RunOptions();
        command.Add(options._key);
        command.Add(options._words);
        foreach (var option in options.All())
        {
            command.Add(option);
        }

        return options;
    }

    /// <summary>Returns what the command line asks for.</summary>
    /// <exception cref="UsageException">It makes no sense.</exception>
    public RunJob Read(ParseResult parsed)
    {
        RefuseMisplacedOptions(parsed);
        UsageException.ThrowIf(
            parsed.GetValue(_nonblock) && parsed.GetValue(_timeout) is not null,
            "--nonblock and --timeout exclude each other: give one of them");
        UsageException.ThrowIf(
            parsed.GetValue(_quiet) && parsed.GetValue(_verbose),
            "--quiet and --verbose exclude each other: give one of them");
        var name = parsed.GetValue(_key)!;
        var key = KeyOption.Parse(name, parsed.GetValue(_scheme)!);
        UsageException.ThrowIf(
            parsed.GetValue(_lease) is null && parsed.GetValue(_atLeast) is not null, "--at-least is for leases: give --lease, too");
        UsageException.ThrowIf(
            parsed.GetValue(_lease) is not null && (parsed.GetValue(_shared) || parsed.GetValue(_wait) == Yield),
            "a lease is exclusive and nothing waits for it in the server: leave --shared and --wait out");
        UsageException.ThrowIf(
            parsed.GetValue(_lease) is { } lease && (lease < LeaseTimes.Shortest || lease > LeaseTimes.Longest),
            "--lease takes from 2s to 10d");
        UsageException.ThrowIf(
            parsed.GetValue(_slots) is not null && parsed.GetValue(_shared), "a slot is exclusive: give --slots or --shared, not both");
        UsageException.ThrowIf(parsed.GetValue(_atLeast) > LeaseTimes.LongestLeast, "--at-least takes no more than 365d");
        UsageException.ThrowIf(parsed.GetValue(_grace) > TimeSpan.FromDays(1), "--grace takes no more than 1d");
        var timeout = parsed.GetValue(_nonblock) ? TimeSpan.Zero : parsed.GetValue(_timeout) ?? Timeout.InfiniteTimeSpan;
        var longest = LockDialect.PostgreSql.MaxTimeout;
        UsageException.ThrowIf(
            timeout > longest,
            string.Create(
                CultureInfo.InvariantCulture,
                $"--timeout takes no more than {longest.Days} days, the longest that is counted; leave it out to wait for ever"));

        // When a first -- stands before the key, the one after the key is the first of the words, and no part of the command.
        var words = parsed.GetValue(_words)! is ["--", .. { Length: > 0 } command] ? command : parsed.GetValue(_words)!;
        var job = new RunJob
        {
            Database = ConnectionOption.Database(parsed.GetValue(_connection)).ThatMayBeMade(),
            Name = name,
            Key = parsed.GetValue(_slots) is { } slots ? LockKey.Slots(key, slots) : key,
            Options = new LockOptions
            {
                Shared = parsed.GetValue(_shared),
                TrustPooler = parsed.GetValue(_trust),
                Wait = parsed.GetValue(_wait) == Yield ? LockWait.Yielding : LockWait.Queue,
                Fencing = true,
                Scope = parsed.GetValue(_lease) is null ? LockScope.Session : LockScope.Lease,
                Lease = parsed.GetValue(_lease) ?? LockOptions.Default.Lease,
                AtLeast = parsed.GetValue(_atLeast) ?? TimeSpan.Zero,
                ShowName = !parsed.GetValue(_noName),
            },
            Words = Given.Words(words),
            Timeout = timeout,
            ConflictExitCode = parsed.GetValue(_conflict),
            WhenLost = parsed.GetValue(_onLost) switch
            {
                Kill => WhenLost.Kill,
                Ignore => WhenLost.Ignore,
                _ => WhenLost.Terminate,
            },
            Grace = parsed.GetValue(_grace) ?? TimeSpan.FromSeconds(10),
            Close = parsed.GetValue(_close),
            PassConnection = parsed.GetValue(_pass),
            Quiet = parsed.GetValue(_quiet),
            Verbose = parsed.GetValue(_verbose),
        };
        job.Database.RefuseOptionsOfPostgreSql(parsed, _scheme, _wait, _trust);
        return job.Database.Lack(job) is { } lack ? throw new UsageException(lack) : job;
    }

    // The parser takes an option that it does not know for an argument: for the key, or for the command.
    private void RefuseMisplacedOptions(ParseResult parsed)
    {
        UsageException.ThrowIf(
            parsed.Tokens.All(token => token.Type != TokenType.DoubleDash),
            "write -- before the command, so that its options are its own: dblock run KEY -- COMMAND");
        var operands = (parsed.GetResult(_key)?.Tokens ?? []).Concat(parsed.GetResult(_words)?.Tokens.Take(1) ?? [])
            .ToHashSet(ReferenceEqualityComparer.Instance);
        var unknown = parsed.Tokens.TakeWhile(token => token.Type != TokenType.DoubleDash)
            .FirstOrDefault(token => operands.Contains(token) && token.Value.StartsWith('-'));
        UsageException.ThrowIf(
            unknown is not null,
            $"there is no option {unknown?.Value.Split('=', ':')[0]}: see dblock run --help; a key or command that begins so goes after "
            + "--");
    }

    private static int ParseExitCode(ArgumentResult result)
    {
        if (int.TryParse(result.Tokens[^1].Value, NumberStyles.None, CultureInfo.InvariantCulture, out var code) && code <= 255)
        {
            return code;
        }

        result.AddError("--conflict-exit-code takes a number from 0 to 255");
        return 0;
    }

    private static int? ParseSlots(ArgumentResult result)
    {
        if (int.TryParse(result.Tokens[^1].Value, NumberStyles.None, CultureInfo.InvariantCulture, out var slots)
            && slots is >= 1 and <= LockKey.MostSlots)
        {
            return slots;
        }

        result.AddError(string.Create(CultureInfo.InvariantCulture, $"--slots takes a number from 1 to {LockKey.MostSlots}"));
        return null;
    }

    private IEnumerable<Option> All() =>
    [
        _connection, _scheme, _nonblock, _timeout, _wait, _shared, _slots, _lease, _atLeast, _conflict, _onLost, _grace,
        _close, _pass, _noName, _trust,
        _quiet, _verbose,
    ];
}
