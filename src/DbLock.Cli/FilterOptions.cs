using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;

namespace DbLock.Cli;

/// <summary>The options that say which locks are meant.</summary>
internal sealed class FilterOptions
{
    private readonly Option<int[]> _pids = new("--pid") { Description = "Of the server process with this id", HelpName = "pid" };
    private readonly Option<string[]> _databases = new("--database", "-d") { Description = "In this database", HelpName = "name" };
    private readonly Option<string[]> _relations = new("--relation", "-r") { Description = "On this table or index, name or schema.name, exactly as it was created", HelpName = "name" };
    private readonly Option<string[]> _keys = new("--key", "-k") { Description = "On the advisory lock with this key", HelpName = "key" };
    private readonly Option<string[]> _names = new("--name") { Description = "A key whose locks are shown by its name; it filters nothing", HelpName = "key" };
    private readonly Option<string> _scheme = KeyOption.Create();
    private readonly Option<string[]> _types = new("--type") { Description = "Of this type, as pg_locks has it: relation, advisory, transactionid, tuple …", HelpName = "type" };
    private readonly Option<PgLockMode[]> _modes = new("--mode") { Description = "In this mode: AccessShare, Exclusive …", HelpName = "mode" };
    private readonly Option<bool> _granted = new("--granted") { Description = "Only locks that are held" };
    private readonly Option<bool> _waiting = new("--waiting") { Description = "Only locks that are waited for" };
    private readonly Option<bool> _blocking = new("--blocking") { Description = "Only locks that are held and in somebody's way" };
    private readonly Option<string[]> _applications = new("--application", "-a") { Description = "Of sessions with this application_name", HelpName = "name" };
    private readonly Option<string[]> _users = new("--user", "-u") { Description = "Of this role's sessions", HelpName = "role" };
    private readonly Option<string[]> _states = new("--state") { Description = "Of sessions in this state: active, idle, \"idle in transaction\" …", HelpName = "state" };
    private readonly Option<TimeSpan?> _transactionAge = Age("--min-transaction-age", "Of sessions whose transaction is at least so old");
    private readonly Option<TimeSpan?> _stateAge = Age("--min-state-age", "Of sessions that have been in their state at least so long");
    private readonly Option<TimeSpan?> _wait = Age("--min-wait", "Waited for at least so long (PostgreSQL 14 and later)");

    private readonly Option<string?> _filter = new("--filter", "-f")
    {
        Description = "The options saved under this name in dblock.json; those given here come before them",
        HelpName = "name",
    };

    private FilterOptions() => _modes.AcceptOnlyFromAmong(Enum.GetNames<PgLockMode>());

    /// <summary>Returns the spellings of an option that filters; null when it is none.</summary>
    public static IReadOnlyCollection<string>? AliasesOf(string name) =>
        new FilterOptions().All().FirstOrDefault(option => option.Name == name) is { } option ? [option.Name, .. option.Aliases] : null;

    public static FilterOptions AddTo(Command command)
    {
        var options = new FilterOptions();
        foreach (var option in options.All())
        {
            command.Add(option);
        }

        // Expanded before the parser sees it.
        command.Add(options._filter);
        return options;
    }

    /// <summary>Returns the filter; <paramref name="pids"/> are those that were given as arguments.</summary>
    public PgLockFilter Filter(ParseResult parsed, int[]? pids = null)
    {
        if (parsed.GetValue(_filter) is not null)
        {
            throw new UsageException("--filter was not understood: write --filter NAME");
        }

        if (parsed.GetValue(_granted) && parsed.GetValue(_waiting))
        {
            throw new UsageException("--granted and --waiting exclude each other: leave both out for all locks");
        }

        return new PgLockFilter
        {
            Pids = Given<int>([.. pids ?? [], .. parsed.GetValue(_pids) ?? []]),
            Databases = Given(parsed.GetValue(_databases)),
            Relations = Given(parsed.GetValue(_relations))?.Select(Table).ToArray(),
            Keys = Given(parsed.GetValue(_keys))?.Select(key => KeyOption.Parse(key, parsed.GetValue(_scheme)!)).ToArray(),
            LockTypes = Given(parsed.GetValue(_types)),
            Modes = Given(parsed.GetValue(_modes)),
            Granted = parsed.GetValue(_granted) ? true : parsed.GetValue(_waiting) ? false : null,
            BlockingOnly = parsed.GetValue(_blocking),
            Applications = Given(parsed.GetValue(_applications)),
            Users = Given(parsed.GetValue(_users)),
            States = Given(parsed.GetValue(_states)),
            MinTransactionAge = parsed.GetValue(_transactionAge),
            MinStateAge = parsed.GetValue(_stateAge),
            MinWait = parsed.GetValue(_wait),
        };
    }

    /// <summary>Returns the keys whose names are known.</summary>
    public LockKey[] Names(ParseResult parsed) => [.. (parsed.GetValue(_names) ?? []).Select(name => KeyOption.Parse(name, parsed.GetValue(_scheme)!))];

    private static TableName Table(string text)
    {
        try
        {
            return TableName.Parse(text);
        }
        catch (ArgumentException e)
        {
            throw new UsageException($"--relation: {e.Message}");
        }
    }

    private static T[]? Given<T>(T[]? values) => values is { Length: > 0 } ? values : null;

    private static Option<TimeSpan?> Age(string name, string description) => new(name) { Description = description, HelpName = "duration", CustomParser = Duration.Parse };

    private IEnumerable<Option> All() =>
        [_pids, _databases, _relations, _keys, _scheme, _names, _types, _modes, _granted, _waiting, _blocking, _applications, _users, _states, _transactionAge, _stateAge, _wait];
}
