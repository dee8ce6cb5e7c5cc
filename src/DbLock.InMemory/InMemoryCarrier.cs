using System.Data;
using System.Globalization;

namespace DbLock;

/// <summary>
/// The statements for a session of a server in memory that carries the locks of many. Each parameter that lists locks is one text, which
/// the driver takes apart again.
/// </summary>
internal sealed class InMemoryCarrier : LockCarrier
{
    public static readonly LockSql LookSql = new("look");
    public static readonly LockSql CarrySql = new("release {0}; ring {1}; acquire {2}; fencing {3}; count {4}");
    public static readonly LockSql AreHeldSql = new("are held; {0}");
    public static readonly LockSql ListenSql = new("listen");
    public static readonly LockSql EndSql = new("end");

    public override LockStatement Listen { get; } = new(new LockCommand(ListenSql));

    public override LockStatement ReleaseAll { get; } = new(new LockCommand(EndSql));

    /// <summary>Gets the name of <see cref="LockCarrier.Listening"/>.</summary>
    public static string ListeningName { get; } = Name(Listening);

    public override LockStatement Look(int? sessionId) => new(new LockCommand(LookSql));

    public override long ReadRoom(object? answer) => long.MaxValue;

    public override LockStatement Carry(
        IReadOnlyList<CarriedLock> releases, IReadOnlyList<CarriedLock> acquires, string bell, bool fencing, bool counts) =>
        new(new LockCommand(
            CarrySql,
            Text(releases),
            new(DbType.String, BellText(bell, releases)),
            Text(acquires),
            new(DbType.Int32, fencing ? 1 : 0),
            new(DbType.Int32, counts ? 1 : 0)));

    public override LockStatement AreHeld(IReadOnlyList<CarriedLock> locks) => new(new LockCommand(AreHeldSql, Text(locks)));

    /// <summary>Takes apart what <see cref="Carry"/> and <see cref="AreHeld"/> say.</summary>
    public static (string Name, bool Shared, string Group, string[] Heeds)[] Parse(object text) =>
    [
        .. ((string)text).Split(';', StringSplitOptions.RemoveEmptyEntries)
            .Select(one => one.Split(':'))
            .Select(parts => (parts[0], parts[1] == "s", parts[2], parts[3].Split('+', StringSplitOptions.RemoveEmptyEntries))),
    ];

    private static LockParameter Text(IReadOnlyList<CarriedLock> locks) => new(DbType.String, string.Join(";", locks.Select(Text)));

    private static string Text(CarriedLock one) => string.Create(
        CultureInfo.InvariantCulture, $"{Name(one)}:{(one.Shared ? "s" : "x")}:{one.Group}:{string.Join('+', Heeded(one).Select(Name))}");

    // Returns the claims that keep the lock from being taken while others hold them.
    private static IEnumerable<CarriedLock> Heeded(CarriedLock one) =>
        one.Heeds == 0 ? [] : Enumerable.Range(one.Heeds, CarriedLock.HighestClaim - one.Heeds + 1).Select(level => one.Claim(level));

    private static string Name(CarriedLock one) =>
        LockDialect.PostgreSql.Identify(one.IsPair ? LockKey.From((int)(one.Number >> 32), (int)one.Number) : LockKey.From(one.Number));
}
