using static DbLock.Tests.Acquiring.GoldenTable;
using static DbLock.Tests.Acquiring.LockCalls;
using static DbLock.Tests.Acquiring.Reply;

namespace DbLock.Tests.Acquiring;

/// <summary>What an acquire sends and answers, whatever the server and the provider do.</summary>
public sealed class AcquireGoldenTests
{
    // How an undo may end that does not just succeed.
    private static readonly Reply[][] Undoings =
    [
        [Cancelled, Cancelled, NotHeld], [Cancelled], [NoSavepoint], [Aborted], [Aborted, NotHeld], [Aborted, NoSavepoint], [Refused],
        [Ended with { Closes = true }], [NotSent],
    ];

    private readonly GoldenTable _table = new();

    [Fact]
    public async Task An_acquire_does_what_the_table_says()
    {
        await Once();
        await Undo();
        await EndSession();
        await Fencing();
        await Yielding();
        await WithoutCancel();
        await _table.Compare("acquire.txt");
    }

    private async Task Once()
    {
        _table.Section("AN ACQUIRE, and an undo that succeeds", "scope", "how", "reply", "then", "caller");
        foreach (var place in Place.All)
        {
            Reply[] replies =
            [
                place.Granted, Elsewhere, NoAnswer, Standby, TimedOut, Deadlock, Refused, Aborted, Cancelled, Ended, Broken, NoCode,
                Disposed, NotSent,
            ];
            var rows =
                from wait in Both
                from reply in replies
                from closes in Both
                from cancels in Both
                where wait || MayBeOfTry(reply)
                where closes ? MayClose(reply) : reply != Broken
                where !cancels || IsReadByCancel(reply) || (wait && !closes && reply != Standby)
                select (wait, reply, closes, cancels);
            foreach (var (wait, reply, closes, cancels) in rows)
            {
                await _table.Row(
                    [place.Name, wait ? "wait" : "try", reply.Name, closes ? "closed" : "", cancels ? "cancels" : ""],
                    place,
                    (kind, n) => kind == (wait ? "wait" : "try") && n == 0
                        ? reply with { Closes = closes, Cancels = cancels }
                        : kind == "try" ? place.Granted : null,
                    wait ? Wait : Try);
            }
        }

        // A definite "no" of the server leaves the connection open.
        static bool MayClose(Reply reply) =>
            reply != Standby && reply != TimedOut && reply != Deadlock && reply != Refused && reply != Aborted;

        // These mean another thing when the caller has cancelled.
        static bool IsReadByCancel(Reply reply) =>
            reply == NoAnswer || reply == Refused || reply == Cancelled || reply == NoCode || reply == NotSent;

        // A try does not wait.
        static bool MayBeOfTry(Reply reply) => reply != TimedOut && reply != Deadlock && reply != Disposed;
    }

    private async Task Undo()
    {
        _table.Section("THE UNDO of a wait that failed, on an open connection", "scope", "reply", "caller", "asked again", "undo");
        (Reply Reply, bool Cancels)[] failures =
            [(TimedOut, false), (Cancelled, false), (NoCode, false), (NoCode, true), (NotSent, true)];
        foreach (var (place, (reply, cancels)) in from place in Place.All from failure in failures select (place, failure))
        {
            // What is in doubt is asked for again in a transaction that ends the hold; else the undo is in doubt of its savepoint.
            var isInDoubt = place.IsInTransaction && reply == NoCode && cancels;
            Reply?[] agains =
                isInDoubt && place == Place.Transaction ? [place.Granted, Elsewhere, NoAnswer, Aborted, Cancelled, Broken] : [null];
            var rows =
                from again in agains
                from undoing in again is null || again == Aborted ? Undoings : [[NotHeld]]
                where (place.IsInTransaction || !undoing.Contains(NoSavepoint))
                    && (isInDoubt || undoing[0] != Aborted || undoing.Length == 1)
                select (again, undoing);
            foreach (var (again, undoing) in rows)
            {
                await _table.Row(
                    [place.Name, reply.Name, cancels ? "cancels" : "", again?.Name ?? "", Names(undoing)],
                    place,
                    (kind, n) => kind switch
                    {
                        "wait" => reply with { Cancels = cancels },
                        "try" => again,
                        "undo" or "nothing" => Of(undoing, n),
                        _ => null,
                    },
                    Wait);
            }
        }
    }

    private async Task EndSession()
    {
        _table.Section("THE END OF A SESSION after a cancelled wait whose undo is refused", "scope", "end session");
        Reply[] ends = [Ended with { Closes = true }, new("answered", 1), Refused, Aborted];
        foreach (var (place, end) in from place in Place.All from end in ends select (place, end))
        {
            await _table.Row(
                [place.Name, Names(end)],
                place,
                (kind, _) => kind switch { "wait" => Cancelled, "undo" or "nothing" => Refused, "end session" => end, _ => null },
                Wait);
        }
    }

    private async Task Fencing()
    {
        _table.Section("FENCING", "scope", "how", "reply");
        Reply token = new("token", 123_456L), numbered = new("numbered", -4);
        var rows =
            from place in Place.All
            from wait in Both
            from reply in new[] { token, Elsewhere, numbered, NoAnswer, Cancelled }
            where place == Place.Session || (place == Place.SessionInTransaction && reply == token)
            select (place, wait, reply);
        foreach (var (place, wait, reply) in rows)
        {
            await _table.Row(
                [place.Name, wait ? "wait" : "try", reply.Name],
                place,
                (kind, _) => kind is "try" or "wait" ? reply : null,
                async (@lock, async, token) => $"{await (wait ? Wait : Try)(@lock, async, token)}, token {@lock.FencingToken}",
                new LockOptions { Fencing = true });
        }
    }

    private async Task Yielding()
    {
        _table.Section("YIELDING: slices, each of which can be cancelled", "scope", "slices", "caller");
        var rows =
            from place in Place.All
            from last in new[] { place.Granted, TimedOut, Cancelled, NoCode }
            from cancels in Both
            where last != TimedOut || cancels
            select (place, last, cancels);
        foreach (var (place, last, cancels) in rows)
        {
            await _table.Row(
                [place.Name, Names(TimedOut, last), cancels ? "cancels" : ""],
                place,
                (kind, n) => kind switch
                {
                    "slice" => n == 0 ? TimedOut : last with { Cancels = cancels },
                    "try" => place.Granted,
                    _ => null,
                },
                Wait,
                new LockOptions { Wait = LockWait.Yielding });
        }
    }

    private async Task WithoutCancel()
    {
        _table.Section(
            "MARIADB over a driver that cannot cancel: a wait that may be cancelled is cut into slices",
            "scope", "timeout", "slices", "caller", "undo");
        Reply interrupted = Code("1317 interrupted", "70100", 1317);
        Reply[] lasts =
        [
            Granted, Elsewhere with { Closes = true }, NoAnswer, interrupted, Code("1213 deadlock", "40001", 1213),
            Code("1045 refused", "28000", 1045), NoCode, NotSent, Code("2013 lost", "HY000", 2013) with { Closes = true },
        ];

        // A timeout of 200 ms is one slice.
        var rows =
            from place in Place.All[..2]
            from isShort in Both
            from last in lasts
            from cancels in Both
            from undo in new[] { NotHeld, interrupted, NoCode }
            where last == interrupted || (place == Place.Session && undo == NotHeld)
            where !isShort || (!cancels && undo == NotHeld)
            select (place, isShort, last, cancels, undo);
        foreach (var (place, isShort, last, cancels, undo) in rows)
        {
            Reply[] slices = isShort ? [last] : [Elsewhere, last];
            await _table.Row(
                [place.Name, isShort ? "200 ms" : "1 h", Names(slices), cancels ? "cancels" : "", undo.Name],
                place,
                (kind, n) => kind switch
                {
                    "slice" => slices[n] with { Cancels = cancels && n == slices.Length - 1 },
                    "undo" => undo,
                    _ => null,
                },
                isShort ? Acquire(TimeSpan.FromMilliseconds(200)) : Wait,
                new LockOptions { Dialect = LockDialect.MariaDb },
                canCancel: false);
        }
    }
}
