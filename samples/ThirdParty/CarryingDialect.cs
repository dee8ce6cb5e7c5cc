using DbLock;
using DbLock.Drivers;

namespace ThirdParty;

/// <summary>PostgreSQL's advisory locks as DbLock has them, carried for a pool by <see cref="PlainCarrier"/>.</summary>
public sealed class CarryingDialect : LockDialect
{
    private static LockDialect Locks => LockDialect.PostgreSql;

    public override string Name => "PostgreSQL (carried by a third party)";

    public override TimeSpan MaxTimeout => Locks.MaxTimeout;

    public override bool HasSeveral => true;

    public override LockStatement? EndSession => Locks.EndSession;

    public override LockCarrier Carrier { get; } = new PlainCarrier();

    public override bool Speaks(string product) => Locks.Speaks(product);

    public override string Identify(LockKey key) => Locks.Identify(key);

    public override LockStatement Acquire(in LockRequest request) => Locks.Acquire(request);

    public override LockStatement Undo(in LockRequest request, LockOutcome outcome) => Locks.Undo(request, outcome);

    public override LockStatement IsHeld(in LockRequest request) => Locks.IsHeld(request);

    public override LockStatement Release(in LockRequest request) => Locks.Release(request);

    public override LockReply Read(in LockRequest request, object? answer) => Locks.Read(request, answer);

    public override LockOutcome Read(DbError codes) => Locks.Read(codes);
}
