using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Text;

namespace DbLock.Cli;

/// <summary>The options that say which locks are meant.</summary>
internal sealed class FilterOptions
{
    private const string Advisory = "advisory";

    // https://www.postgresql.org/docs/current/monitoring-stats.html#WAIT-EVENT-LOCK-TABLE
    private static readonly string[] Types =
    [
        Advisory, "applytransaction", "extend", "frozenid", "object", "page", "relation", "spectoken", "transactionid", "tuple", "userlock",
        "virtualxid",
    ];

    // https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
    private static readonly string[] States =
        ["active", "idle", "idle in transaction", "idle in transaction (aborted)", "fastpath function call", "starting", "disabled"];

    private readonly Option<int[]> _pids = new("--pid") { Description = "Of the server process with this id", HelpName = "pid" };
    private readonly Option<string[]> _databases = new("--database", "-d") { Description = "In this database", HelpName = "name" };
    private readonly Option<string[]> _relations = new("--relation", "-r")
    {
        Description = "On this table or index, name or schema.name, exactly as it was created",
        HelpName = "name",
    };
    private readonly Option<string[]> _keys = new("--key", "-k") { Description = "On the advisory lock with this key", HelpName = "key" };
    private readonly Option<string[]> _names = new("--name")
    {
        Description = "A key whose locks are shown by its name; it filters nothing",
        HelpName = "key"
    };
    private readonly Option<string> _scheme = KeyOption.Create();
    private readonly Option<string[]> _types = new("--type")
    {
        Description = "Of this type, as pg_locks has it: relation, advisory, transactionid, tuple …",
        HelpName = "type",
    };
    private readonly Option<PgLockMode[]> _modes = new("--mode")
    {
        Description = "In this mode: AccessShare, Exclusive …",
        HelpName = "mode",
    };
    private readonly Option<bool> _granted = new("--granted") { Description = "Only locks that are held" };
    private readonly Option<bool> _waiting = new("--waiting") { Description = "Only locks that are waited for" };
    private readonly Option<bool> _blocking = new("--blocking") { Description = "Only locks that are held and in somebody's way" };
    private readonly Option<string[]> _applications = new("--application", "-a")
    {
        Description = "Of sessions with this application_name",
        HelpName = "name",
    };
    private readonly Option<string[]> _users = new("--user", "-u") { Description = "Of this role's sessions", HelpName = "role" };
    private readonly Option<string[]> _states = new("--state")
    {
        Description = "Of sessions in this state: active, idle, \"idle in transaction\" …",
        HelpName = "state",
    };
    private readonly Option<TimeSpan?> _transactionAge = Duration.Option(
        "Of sessions whose transaction is at least so old", "--min-transaction-age");
    private readonly Option<TimeSpan?> _stateAge = Duration.Option(
        "Of sessions that have been in their state at least so long", "--min-state-age");
    private readonly Option<TimeSpan?> _wait = Duration.Option(
        "Waited for at least so long (PostgreSQL 14 and later)", "--min-wait");

    private readonly Option<string?> _filter = new("--filter", "-f")
    {
        Description = "The options saved under this name in dblock.json; those given here come before them",
        HelpName = "name",
    };

    private readonly string[] _knownTypes = Types;

    private FilterOptions(bool withLeases = false)
    {
        _modes.AcceptOnlyFromAmong(Enum.GetNames<PgLockMode>());
        if (withLeases)
        {
            _knownTypes = [.. Types, LeaseRows.Type];
            _keys.Description = "On the advisory lock, or the lease, with this key";
            _types.Description += "; or lease";
        }
    }

    /// <summary>Returns the spellings of an option that filters; null when it is none.</summary>
    public static IReadOnlyCollection<string>? AliasesOf(string name) =>
        new FilterOptions().All().FirstOrDefault(option => option.Name == name) is { } option ? [option.Name, .. option.Aliases] : null;

    /// <param name="command">The command that gets the options.</param>
    /// <param name="withLeases">Whether it shows leases, too.</param>
    public static FilterOptions AddTo(Command command, bool withLeases = false)
    {
        var options = new FilterOptions(withLeases);
        foreach (var option in options.All())
        {
            command.Add(option);
        }

        // SavedOptions puts the saved options in its place before the parser sees it; here it is for the help.
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

        UsageException.ThrowIf(
            parsed.GetValue(_granted) && parsed.GetValue(_waiting),
            "--granted and --waiting match nothing together: leave both out for all locks");
        var filter = new PgLockFilter
        {
            Pids = Given<int>([.. pids ?? [], .. parsed.GetValue(_pids) ?? []]),
            Databases = Names("--database", parsed.GetValue(_databases)),
            Relations = Given(parsed.GetValue(_relations))?.Select(Table).ToArray(),
            Keys = Given(parsed.GetValue(_keys))?.Select(key => KeyOption.Parse(key, parsed.GetValue(_scheme)!)).ToArray(),
            LockTypes = Among("--type", parsed.GetValue(_types), _knownTypes),
            Modes = Given(parsed.GetValue(_modes)),
            Granted = parsed.GetValue(_granted) ? true : parsed.GetValue(_waiting) ? false : null,
            BlockingOnly = parsed.GetValue(_blocking),
            Applications = Names("--application", parsed.GetValue(_applications)),
            Users = Names("--user", parsed.GetValue(_users)),
            States = Among("--state", parsed.GetValue(_states), States),
            MinTransactionAge = parsed.GetValue(_transactionAge),
            MinStateAge = parsed.GetValue(_stateAge),
            MinWait = parsed.GetValue(_wait),
        };
        RefuseWhatCannotMatch(filter);
        return filter;
    }

    /// <summary>Returns the keys whose holders another engine than PostgreSQL is asked for.</summary>
    /// <exception cref="UsageException">No key is given, or an option that such an engine knows nothing of.</exception>
    public IReadOnlyList<LockKey> KeysAlone(ParseResult parsed, Database database)
    {
        database.RefuseOptionsOfPostgreSql(parsed, All().Where(option => option != _keys));
        var keys = parsed.GetValue(_keys) ?? [];
        UsageException.ThrowIf(
            keys.Length == 0 && database is not SqliteDatabase,
            $"{database.Engine} does not tell of all locks: say which are meant, with --key KEY");
        return [.. keys.Select(key => KeyOption.Parse(key, parsed.GetValue(_scheme)!))];
    }

    /// <summary>Refuses names of tables together with other databases, whose tables cannot be seen from the connection's own.</summary>
    public static void RefuseOtherDatabases(PgLockFilter filter, string database)
    {
        if (filter is { Relations: not null, Databases: { } databases } && !databases.Contains(database))
        {
            throw new UsageException(
                $"--relation and --database {databases[0]} match nothing together: names of tables are known in the connection's own "
                + $"database alone, which is {database}; connect to the other one");
        }
    }

    // Options that match nothing together are refused, so that an empty answer means that there are no such locks.
    private static void RefuseWhatCannotMatch(PgLockFilter filter)
    {
        var waits = filter.MinWait is not null ? "--min-wait" : filter.Granted == false ? "--waiting" : null;
        var granted = filter.BlockingOnly ? "--blocking" : filter.Granted == true ? "--granted" : null;
        UsageException.ThrowIf(
            granted is not null && waits is not null,
            $"{granted} and {waits} match nothing together: {granted} means locks that are held, {waits} locks that are waited for");
        UsageException.ThrowIf(
            filter is { Keys: not null, Relations: not null },
            "--key and --relation match nothing together: a lock is on a key or on a table");
        var kind = filter.Keys is not null ? "--key" : filter.Relations is not null ? "--relation" : null;
        var thing = filter.Keys is not null ? "key" : "table";
        string[] possible = filter.Keys is not null ? [Advisory, LeaseRows.Type] : ["relation", "extend", "page", "tuple"];
        UsageException.ThrowIf(
            kind is not null && filter.LockTypes is { } types && !types.Intersect(possible).Any(),
            $"{kind} and --type {filter.LockTypes?[0]} match nothing together: locks on a {thing} are of type "
            + $"{string.Join(", ", possible)}");
        var advisory = filter.Keys is not null ? "--key" : "--type advisory";
        var isAdvisory = filter.Keys is not null || filter.LockTypes is { } only && only.All(type => type == Advisory);
        UsageException.ThrowIf(
            isAdvisory && filter.Modes is { } modes && !modes.Any(mode => mode is PgLockMode.Exclusive or PgLockMode.Share),
            $"{advisory} and --mode {filter.Modes?[0]} match nothing together: advisory locks are Exclusive or Share");
        UsageException.ThrowIf(
            (waits is not null || filter.BlockingOnly) && filter.Modes is { } harmless && harmless.All(mode => mode == PgLockMode.SIRead),
            $"{waits ?? granted} and --mode SIRead match nothing together: nobody waits for such a lock");
        UsageException.ThrowIf(
            waits is not null && filter.States is { } idle && idle.All(state => state.StartsWith("idle", StringComparison.Ordinal)),
            $"{waits} and --state \"{filter.States?[0]}\" match nothing together: a session that waits for a lock is active");
        UsageException.ThrowIf(
            filter.MinTransactionAge is not null && filter.States is { } without && without.All(state => state == "idle"),
            "--min-transaction-age and --state idle match nothing together: a session that is idle has no transaction; \"idle in "
            + "transaction\" has one, and --min-state-age goes with both");
        UsageException.ThrowIf(
            filter.Pids is { } pids && pids.All(pid => pid < 1),
            $"{filter.Pids?[0].ToString(CultureInfo.InvariantCulture)} is no process id: they begin with 1");
    }

    // The server cuts a name at 63 bytes, and no session has an empty one.
    private static string[]? Names(string option, string[]? given)
    {
        UsageException.ThrowIf(
            given?.Any(name => name.Length == 0) == true,
            $"{option} matches nothing without a name: write one, or leave it out");
        UsageException.ThrowIf(
            given?.Any(name => Encoding.UTF8.GetByteCount(name) > 63) == true,
            $"{option} matches nothing with a name of over 63 bytes: PostgreSQL keeps no more of one");
        return Given(given);
    }

    private static string[]? Among(string name, string[]? given, string[] known) =>
        Given(given)
            ?.Select(value => known.Contains(value) ? value : throw new UsageException(UsageErrors.NoSuchChoice(name, value, known)))
            .ToArray();

    /// <summary>Returns the keys whose names are known.</summary>
    public LockKey[] Names(ParseResult parsed) =>
        [.. (parsed.GetValue(_names) ?? []).Select(name => KeyOption.Parse(name, parsed.GetValue(_scheme)!))];

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

    private IEnumerable<Option> All() =>
    [
        _pids, _databases, _relations, _keys, _scheme, _names, _types, _modes, _granted, _waiting, _blocking, _applications, _users,
        _states, _transactionAge, _stateAge, _wait,
    ];
}
