using System.Data;
using System.Globalization;
using System.Numerics;

namespace DbLock;

/// <summary>A session of MySQL or MariaDB that carries the locks of a pool: several GET_LOCK without a wait in one statement.</summary>
/// <param name="engine">The engine's name.</param>
/// <param name="nameOf">The name that the server knows a key by.</param>
/// <param name="isMariaDb">Whether it is MariaDB, which has a sequence for fencing tokens.</param>
/// <remarks>
/// The session of a pool loses its locks with its end and in no other way, so that they are not counted. The engine has no bell, and sets
/// no limit on how many locks there are.
/// </remarks>
internal sealed class MySqlCarrier(string engine, Func<LockKey, string> nameOf, bool isMariaDb) : LockCarrier
{
    private static readonly LockSql Nothing = new("select '||||'");
    private static readonly LockSql LookSql = new("select 1");
    private static readonly LockSql EndSql = new("select release_all_locks()");

    private static readonly TextsByCount<(bool IsHex, int Releases, bool InGroups, string? Token), LockSql> Texts = new(
        static (kind, count) => Carrying(kind.IsHex, kind.Releases, count, kind.InGroups, kind.Token));

    private static readonly TextsByCount<bool, LockSql> Questions = new(static (isHex, count) => new LockSql(
        $"select concat('', {string.Join(", ", Enumerable.Range(0, count).Select(n => IsHeld(MySqlTexts.Name(n, isHex))))})"));

    public override bool LocksNames => true;

    public override bool HasShared => false;

    public override bool MayPrepare => false;

    public override int MostPerStatement => 256;

    public override LockStatement ReleaseAll { get; } = new(new LockCommand(EndSql));

    public override LockStatement Look(int? sessionId) => new(new LockCommand(LookSql));

    public override long ReadRoom(object? answer) => answer is null or DBNull ? throw NotAnswered() : long.MaxValue;

    public override LockStatement Carry(
        IReadOnlyList<CarriedLock> releases, IReadOnlyList<CarriedLock> acquires, string bell, bool fencing, bool counts)
    {
        if (acquires.Any(static one => one.Shared))
        {
            throw new NotSupportedException($"{engine} has no shared locks.");
        }

        if (releases.Count + acquires.Count == 0)
        {
            return new(new LockCommand(Nothing));
        }

        string[] released = Padded(releases), acquired = Padded(acquires);
        var isHex = !Array.TrueForAll(released, static name => MySqlTexts.IsPlain(name))
            || !Array.TrueForAll(acquired, static name => MySqlTexts.IsPlain(name));
        var inGroups = acquires.DistinctBy(static one => one.Group).Count() < acquires.Count;
        var sql = Texts.For((isHex, released.Length, inGroups, fencing && isMariaDb ? MySqlTexts.Token : null), acquired.Length);
        List<LockParameter> parameters =
        [
            .. released.Concat(acquired).Select(name => MySqlTexts.Parameter(name, isHex)),
            new(DbType.Int32, releases.Count), new(DbType.Int32, acquires.Count),
        ];
        if (inGroups)
        {
            parameters.AddRange(Places(acquires, acquired.Length));
        }

        return new(new LockCommand(sql, [.. parameters]));
    }

    public override LockStatement AreHeld(IReadOnlyList<CarriedLock> locks)
    {
        string[] names = [.. locks.Select(one => nameOf(one.Key!))];
        var isHex = !Array.TrueForAll(names, static name => MySqlTexts.IsPlain(name));
        return new(new LockCommand(
            Questions.For(isHex, names.Length), Array.ConvertAll(names, name => MySqlTexts.Parameter(name, isHex))));
    }

    public override LockStatement Holders(IReadOnlyCollection<LockKey> keys) => MySqlHolders.Question([.. keys.Select(nameOf)], isMariaDb);

    public override IReadOnlyDictionary<LockKey, LockHolders> ReadHolders(IReadOnlyCollection<LockKey> keys, object? answer) =>
        keys.Zip(MySqlHolders.Read([.. keys], answer)).ToDictionary(static one => one.First, static one => one.Second);

    // Where the group of each lock begins, counted from 1 within the acquires, and how many locks it has.
    private static IEnumerable<LockParameter> Places(IReadOnlyList<CarriedLock> acquires, int count)
    {
        for (int n = 0, first = 0; n < count; n++)
        {
            if (n < acquires.Count && acquires[n].Group != acquires[first].Group)
            {
                first = n;
            }

            var length = n < acquires.Count ? acquires.Count(one => one.Group == acquires[first].Group) : 0;
            yield return new(DbType.Int32, first + 1);
            yield return new(DbType.Int32, length);
        }
    }

    // A text for each number of locks would be too many: they are rounded up to a power of two, with empty names that do nothing.
    private string[] Padded(IReadOnlyList<CarriedLock> locks)
    {
        var names = new string[locks.Count == 0 ? 0 : (int)BitOperations.RoundUpToPowerOf2((uint)locks.Count)];
        for (var n = 0; n < names.Length; n++)
        {
            names[n] = n < locks.Count ? nameOf(locks[n].Key!) : "";
        }

        return names;
    }

    private static string IsHeld(string name) => $"case when is_used_lock({name}) = connection_id() then '1' else '0' end";

    // The arguments of concat() are evaluated from left to right, and a derived table with a LIMIT once, before what is selected from it:
    // so this lets go first, then takes, and gives back at last what was taken of a group that is not whole. A lock that the session holds
    // already would be granted once more, so it is asked for first.
    private static LockSql Carrying(bool isHex, int releases, int acquires, bool inGroups, string? token)
    {
        var (countReleased, countAcquired) = (Number(releases + acquires), Number(releases + acquires + 1));
        var done = string.Join(",\n    ", Enumerable.Range(0, releases).Select(n => If(n, $"coalesce(release_lock({Name(n)}), 0)")).Concat(
            Enumerable.Range(releases, acquires).Select(n => If(
                n, $"case when is_used_lock({Name(n)}) = connection_id() then 0 else get_lock({Name(n)}, 0) end"))));
        var taken = $"substr(d.done, {countReleased} + 1, {countAcquired})";
        var acquired = !inGroups ? taken : $"concat({string.Join(",\n  ", Enumerable.Range(0, acquires).Select(OfGroup))})";
        var grant = token is null ? "''" : $"case when locate('1', e.acquired) > 0 then {token} else '' end";
        return new LockSql($"""
            select concat(e.released, '||', e.acquired, '|', {grant}, '|')
            from (
              select left(d.done, {countReleased}) as released, {acquired} as acquired
              from (
                select concat(
                {done}) as done limit 1) as d
              limit 1) as e
            """);

        string Name(int n) => MySqlTexts.Name(n, isHex);

        string If(int n, string digit) => $"case when length({Number(n)}) = 0 then '' else {digit} end";

        string OfGroup(int n)
        {
            var (mine, first) = (Number(releases + n), releases + acquires + 2 + (2 * n));
            return $"case when length({mine}) = 0 then '' "
                + $"when locate('0', d.done, {countReleased} + {Number(first)}) between 1 "
                + $"and {countReleased} + {Number(first)} + {Number(first + 1)} - 1 "
                + $"then case substr(d.done, {countReleased} + {(n + 1).ToString(CultureInfo.InvariantCulture)}, 1) when '0' then '0' "
                + $"else case when release_lock({Name(releases + n)}) is null then '2' else '2' end end else '1' end";
        }
    }

    private static string Number(int n) => string.Create(CultureInfo.InvariantCulture, $"{{{n}}}");
}
