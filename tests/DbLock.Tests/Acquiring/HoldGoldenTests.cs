using static DbLock.Tests.Acquiring.GoldenTable;
using static DbLock.Tests.Acquiring.LockCalls;
using static DbLock.Tests.Acquiring.Reply;

namespace DbLock.Tests.Acquiring;

/// <summary>What becomes of a hold when it is let go, asked for or acquired again, whatever the server and the provider do.</summary>
public sealed class HoldGoldenTests
{
    private static readonly Reply EndedAndClosed = Ended with { Closes = true };

    private readonly GoldenTable _table = new();

    [Fact]
    public async Task A_hold_ends_as_the_table_says()
    {
        await Release();
        await Confirm();
        await AcquireAnother();
        await AcquireInATransactionGivenAnew();
        await AcquireByAnotherLock();
        await LoseOneOfSeveral();
        await _table.Compare("hold.txt");
    }

    private async Task Release()
    {
        _table.Section("A RELEASE of a lock of session scope", "way", "in", "on error", "release", "rollback");
        (string Name, LockCall Call)[] ways =
        [
            ("release", Try.Then(LockCalls.Release)), ("after error", Try.Then(HandleError).Then(LockCalls.Release)),
            ("dispose", Try.Then(Dispose)), ("body fine", RunToTheEnd), ("body failed", RunIntoAnError),
        ];
        Reply[][] releasings =
        [
            [Held], [NotHeld], [Cancelled, NotHeld], [Cancelled], [Aborted, Held], [Aborted], [Refused], [Ended], [Broken], [NoCode],
            [NotSent],
        ];

        // Without a transaction there is nothing to roll back, and a body does what an error and a release do.
        var rows =
            from way in ways
            from place in Place.All[..2]
            from rollsBack in Both
            from releasing in releasings
            from rollback in new[] { NotHeld, NoCode }
            where rollsBack || (place.IsInTransaction && way.Name is not ("body fine" or "body failed"))
            where rollback == NotHeld || (place.IsInTransaction && rollsBack && releasing[0] == Aborted)
            where rollback == NotHeld || way.Name is "release" or "after error"
            select (way, place, rollsBack, releasing, rollback);
        foreach (var (way, place, rollsBack, releasing, rollback) in rows)
        {
            await _table.Row(
                [
                    way.Name, place.IsInTransaction ? "tx" : "", place.IsInTransaction && rollsBack ? "rolls back" : "", Names(releasing),
                    rollback == NotHeld ? "" : "fails",
                ],
                place,
                (kind, n) => kind switch { "release" => Of(releasing, n), "rollback" => rollback, _ => null },
                way.Call,
                new LockOptions { RollbackOnError = rollsBack });
        }
    }

    private async Task Confirm()
    {
        _table.Section("IS IT STILL HELD, as the watch of a lock of a data source asks", "reply", "then");
        var rows =
            from reply in new[] { Held, NotHeld, NoAnswer, Cancelled, Refused, Ended, NoCode, NotSent }
            from closes in Both
            where !closes || reply == Held || reply == Cancelled
            select (reply, closes);
        foreach (var (reply, closes) in rows)
        {
            await _table.Row(
                [reply.Name, closes ? "closed" : ""],
                Place.Session,
                (kind, _) => kind == "is held" ? reply with { Closes = closes } : null,
                Try.Then(LockCalls.Confirm));
        }
    }

    private async Task AcquireAnother()
    {
        _table.Section("ANOTHER ACQUIRE of a lock that the connection holds", "scope", "how", "options", "is held");

        // What is of the session and not reentrant is not asked for.
        var rows =
            from place in new[] { Place.Session, Place.Transaction }
            from wait in Both
            from reentrant in Both
            from isHeld in new[] { Held, NotHeld, NoAnswer, Cancelled, EndedAndClosed }
            where place == Place.Transaction || reentrant || isHeld == Held
            select (place, wait, reentrant, isHeld);
        foreach (var (place, wait, reentrant, isHeld) in rows)
        {
            var acquire = wait ? Wait : Try;
            await _table.Row(
                [place.Name, wait ? "wait" : "try", reentrant ? "reentrant" : "", Names(isHeld)],
                place,
                (kind, _) => kind switch { "try" or "wait" => place.Granted, "is held" => isHeld, _ => null },
                acquire.Then(acquire),
                new LockOptions { Reentrant = reentrant });
        }
    }

    // Npgsql uses its transaction object again, so that one that is given anew may be another transaction: the number in the answer tells.
    private async Task AcquireInATransactionGivenAnew()
    {
        _table.Section("ANOTHER ACQUIRE in a transaction that was given anew", "how", "reply", "is held");
        Reply other = new("granted in another", TransactionNumber + 1);
        Reply[] replies = [GrantedInTransaction, other, Elsewhere, TimedOut, Refused, Cancelled, NoCode, Aborted, Broken];
        var rows =
            from wait in Both
            from reply in replies
            from isHeld in new[] { Held, NotHeld, Cancelled, EndedAndClosed }
            where reply == GrantedInTransaction || reply == Cancelled || isHeld == NotHeld
            select (wait, reply, isHeld);
        foreach (var (wait, reply, isHeld) in rows)
        {
            var acquire = wait ? Wait : Try;
            await _table.Row(
                [wait ? "wait" : "try", reply.Name, Names(isHeld)],
                Place.Transaction,
                (kind, n) => kind switch { "try" or "wait" => n == 0 ? GrantedInTransaction : reply, "is held" => isHeld, _ => null },
                acquire.Then(GiveAnew).Then(acquire));
        }

        static ValueTask<object> GiveAnew(Lock @lock, bool async, CancellationToken cancellationToken)
        {
            @lock.Transaction = @lock.Transaction;
            return new("given");
        }
    }

    private async Task AcquireByAnotherLock()
    {
        _table.Section(
            "ANOTHER LOCK on the connection shares the key; both are reentrant, and are released at last, the other first",
            "scope", "other lock", "how", "reply", "is held");
        LockOptions plain = new() { Reentrant = true }, shared = plain with { Shared = true };
        var ofTransaction = plain with { Scope = LockScope.Transaction };
        (string Name, Place Place, LockOptions Options, LockOptions Others, LockKey OthersKey)[] cases =
        [
            ("the same", Place.Session, plain, plain, "k"),
            ("shared, then exclusive", Place.Session, shared, plain, "k"),
            ("exclusive, then shared", Place.Session, plain, shared, "k"),
            ("more keys", Place.Session, plain, plain, LockKey.All("k", "l")),
            ("of the transaction", Place.SessionInTransaction, plain, ofTransaction, "k"),
            ("of the session", Place.Transaction, plain, plain, "k"),
            ("shared, then exclusive", Place.Transaction, shared, ofTransaction, "k"),
        ];

        // The server looks whether it is the transaction that holds the lock already.
        Reply[] told = [new("already held", 3), new("granted in another", TransactionNumber + 1), Elsewhere, Refused, Cancelled];
        var rows =
            from one in cases
            from wait in Both
            let granted = one.Others.Scope == LockScope.Session ? Granted : GrantedInTransaction
            from reply in one.Place == Place.Transaction && one.Options.Shared ? told : [granted]
            from isHeld in new[] { Held, NotHeld }
            where wait || reply == granted
            select (one, wait, reply, isHeld);
        foreach (var (one, wait, reply, isHeld) in rows)
        {
            await _table.Row(
                [one.Place.Name, one.Name, wait ? "wait" : "try", reply.Name, isHeld.Name],
                one.Place,
                (kind, n) => kind switch
                {
                    "try" when n == 0 => one.Place.Granted,
                    "try" or "wait" => reply,
                    "is held" => isHeld,
                    _ => null,
                },
                Try.Then(async (@lock, async, token) =>
                {
                    var options = one.Others with { Dialect = LockDialect.PostgreSql };
                    var other = new Lock(@lock.Connection, one.OthersKey, @lock.Interface, options) { Transaction = @lock.Transaction };
                    var acquired = await (wait ? Wait : Try)(other, async, token);
                    var held = other.IsHeld ? "held" : "-";
                    object[] released = [await LockCalls.Release(other, async, token), await LockCalls.Release(@lock, async, token)];
                    return $"{acquired} {held}, {string.Join(", ", released)}";
                }),
                one.Options);
        }
    }

    private async Task LoseOneOfSeveral()
    {
        _table.Section("SEVERAL KEYS, of which one turns out to be lost", "found by", "undo");
        (string Name, LockCall Call)[] ways =
            [("acquire", Try.Then(Try)), ("watch", Try.Then(LockCalls.Confirm)), ("release", Try.Then(LockCalls.Release))];
        foreach (var (way, undo) in from way in ways from undo in new[] { NotHeld, Cancelled, EndedAndClosed } select (way, undo))
        {
            await _table.Row(
                [way.Name, Names(undo)],
                Place.Session,
                (kind, _) => kind switch { "is held" or "release" => NotHeld, "undo" => undo, _ => null },
                way.Call,
                new LockOptions { Reentrant = true },
                key: LockKey.All("a", "b"));
        }
    }
}
