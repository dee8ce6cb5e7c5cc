namespace DbLock;

/// <summary>SQLite, which has no locks but those of the whole file: it has leases alone.</summary>
internal sealed class SqliteDialect : LockDialect
{
    public override string Name => "SQLite";

    public override string SystemName => "sqlite";

    public override TimeSpan MaxTimeout => TimeSpan.FromMilliseconds(int.MaxValue);

    public override bool HasSeveral => true;

    public override LeaseDialect? Leases { get; } = new SqliteLeases();

    public override bool Speaks(string product) => product.Contains("Sqlite", StringComparison.OrdinalIgnoreCase);

    public override string Identify(LockKey key) => key.Name;

    public override LockStatement Acquire(in LockRequest request) => throw LeasesAlone();

    public override LockStatement Undo(in LockRequest request, LockOutcome outcome) => throw LeasesAlone();

    public override LockStatement IsHeld(in LockRequest request) => throw LeasesAlone();

    public override LockStatement Release(in LockRequest request) => throw LeasesAlone();

    public override LockReply Read(in LockRequest request, object? answer) => throw LeasesAlone();

    public override LockOutcome Read(DbError codes) => codes.Number == 0 ? LockOutcome.Unknown : LockOutcome.Refused;

    private static NotSupportedException LeasesAlone() => new(
        "SQLite has no locks that belong to a session or a transaction: use LockOptions.Scope = LockScope.Lease, which keeps the lock as a "
        + "row of the file.");
}
