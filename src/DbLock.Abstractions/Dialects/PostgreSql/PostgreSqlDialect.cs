using System.Collections.Concurrent;
using System.Data;
using System.Globalization;

namespace DbLock;

/// <summary>PostgreSQL's advisory locks.</summary>
/// <remarks>
/// Functions: <see href="https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS"/>. All are strict, so the
/// casts below never see null. The parts of a CASE run in the order in which they are written, which PostgreSQL promises
/// (<see href="https://www.postgresql.org/docs/current/functions-conditional.html"/>); no other order of evaluation in a SELECT is.
/// </remarks>
internal sealed class PostgreSqlDialect : LockDialect
{
    private static readonly LockCommand Savepoint = new(new LockSql("savepoint dblock_acquire"));
    private static readonly LockCommand RollbackToSavepoint = new(new LockSql("rollback to savepoint dblock_acquire"));
    private static readonly LockSql Alive = new("select cast({0} as int)" + PostgreSqlSessions.OwnSession);
    private static readonly LockCommand Question = new(new LockSql("select 0"));
    private static readonly LockCommand ReleaseSavepoint = new(new LockSql("release savepoint dblock_acquire"));
    private static readonly LockStatement Terminate = new(
        new LockCommand(new LockSql("select pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())")));

    private static readonly PostgreSqlTexts Number = new(pair: false, shared: false);
    private static readonly PostgreSqlTexts NumberShared = new(pair: false, shared: true);
    private static readonly PostgreSqlTexts Pair = new(pair: true, shared: false);
    private static readonly PostgreSqlTexts PairShared = new(pair: true, shared: true);
    private static readonly PostgreSqlTexts Several = new(shared: false);
    private static readonly PostgreSqlTexts SeveralShared = new(shared: true);

    public override string Name => "PostgreSQL";

    public override string SystemName => "postgresql";

    // lock_timeout is a 32-bit count of milliseconds: https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT
    public override TimeSpan MaxTimeout => TimeSpan.FromMilliseconds(int.MaxValue);

    public override LockStatement? EndSession => Terminate;

    public override LockCarrier Carrier { get; } = new PostgreSqlCarrier();

    public override bool KeepsSessions => true;

    public override LockStatement IsAlive(int sessionId) => new(new LockCommand(Alive, new LockParameter(DbType.Int32, sessionId)));

    public override LockStatement Keep(int sessionId, (string? End, int Room) told) => PostgreSqlSettings.Keep(sessionId, told);

    public override LockStatement TellSince(int sessionId, string told, TimeSpan held) =>
        PostgreSqlSettings.TellSince(sessionId, told, held);

    public override LockStatement PutBack(string before) => PostgreSqlSettings.PutBack(before);

    public override bool TakesSnapshot => true;

    public override bool Speaks(string product) =>
        product.Contains("Npgsql", StringComparison.OrdinalIgnoreCase)
            || product.Contains("PostgreSql", StringComparison.OrdinalIgnoreCase);

    public override bool HasSeveral => true;

    public override bool HasAny => true;

    public override LeaseDialect? Leases { get; } = new PostgreSqlLeases();

    public override bool HasFencing => true;

    public override string Identify(LockKey key) =>
        key.IsPair
            ? string.Create(CultureInfo.InvariantCulture, $"({key.Pair.First},{key.Pair.Second})")
            : key.Number.ToString(CultureInfo.InvariantCulture);

    public override LockStatement Acquire(in LockRequest request)
    {
        if (request.Scope == LockScope.Session)
        {
            PostgreSqlTrust.CheckSession(request.SessionId);
        }

        var guard = new PostgreSqlGuard(request);
        var texts = For(request).Acquire(guard);
        var isSession = request.Scope == LockScope.Session;
        var parameters = new List<LockParameter>(3);
        if (guard.Session)
        {
            parameters.Add(new(DbType.Int32, request.SessionId!.Value));
        }

        if (guard.HeldIn)
        {
            parameters.Add(new(DbType.Int64, request.HeldIn));
        }

        if (request.Try)
        {
            var once = Command(
                request.Any is not null ? (isSession ? texts.TryAny : texts.TryAnyTransaction)!
                : isSession ? texts.Try : texts.TryTransaction,
                request, parameters);
            return HasSavepoint(request) ? new LockStatement(Savepoint, once, ReleaseSavepoint) : new LockStatement(once);
        }

        parameters.Add(new(DbType.Int32, (int)Math.Max(0, request.Milliseconds)));
        var wait = Command(isSession ? texts.Wait : texts.WaitTransaction, request, parameters);
        return (request.Scope, request.InTransaction) switch
        {
            // The savepoint is rolled back after a grant, too. A session lock survives that; the transaction-level lock of the wait and
            // lock_timeout do not. If it were kept, the transaction-level lock would hold the lock after its release until the commit.
            (LockScope.Session, true) =>
                new LockStatement(Savepoint, wait, RollbackToSavepoint, ReleaseSavepoint) { Wait = request.Timeout },

            // The release of a savepoint keeps the locks that were taken after it.
            (LockScope.Transaction, _) => new LockStatement(Savepoint, wait, ReleaseSavepoint) { Wait = request.Timeout },
            _ => new LockStatement(wait) { Wait = request.Timeout },
        };
    }

    public override LockStatement Undo(in LockRequest request, LockOutcome outcome)
    {
        // Only the wait for the transaction-level lock can end in a timeout or a deadlock, and the session lock is taken after that wait:
        // so nothing was taken then. Of several keys, session locks are taken after all waits, or by a try. Any other session lock on them
        // belongs to somebody else on this connection and must stay.
        var isTaken = outcome is not (LockOutcome.NotAcquired or LockOutcome.Deadlock)
            && (request.Scope == LockScope.Session || (request.Key.IsSeveral && request.Try));

        // If the connection is in a transaction that the lock does not know, that has failed with the wait, and only a question shows it.
        LockCommand[] undo = isTaken
            ? [Command(For(request).Undo, request)]
            : request.InTransaction || request.HasOwnConnection ? [] : [Question];

        // The savepoint is released last. A late cancel may hit any of these commands, and as long as the savepoint stands all of them can
        // be sent again.
        return new(HasSavepoint(request) ? [RollbackToSavepoint, .. undo, ReleaseSavepoint] : undo);
    }

    public override LockStatement IsHeld(in LockRequest request) => new(Command(For(request).IsHeld, request));

    public override LockStatement Release(in LockRequest request) =>
        new(Command(request.AfterWait ? For(request).ReleaseAfterWait : For(request).Release, request));

    // The question stands behind a savepoint, because an error in it would make the caller's transaction fail, in which a wait has just
    // ended.
    public override LockStatement? Holders(in LockRequest request)
    {
        var question = Command(For(request).Holders, request);
        return request.InTransaction ? new LockStatement(Savepoint, question, ReleaseSavepoint) : new LockStatement(question);
    }

    public override LockHolders ReadHolders(LockKey key, object? answer) => PostgreSqlHolders.Read(key, answer);

    public override LockReply Read(in LockRequest request, object? answer)
    {
        if (answer is null or DBNull)
        {
            return new(LockOutcome.Unknown);
        }

        var isSession = request.Scope == LockScope.Session;
        var (code, taken) = ReadAny(request, Convert.ToInt64(answer, CultureInfo.InvariantCulture));
        var outcome = code switch
        {
            1 or PostgreSqlAnswer.AfterWait => LockOutcome.Acquired,
            0 => LockOutcome.NotAcquired,
            PostgreSqlAnswer.AlreadyHeld => LockOutcome.AlreadyHeld,
            _ => PostgreSqlTrust.Refusal(code) is { } refusal ? throw refusal : LockOutcome.Acquired,
        };
        var isGranted = outcome == LockOutcome.Acquired;
        return new(outcome)
        {
            Taken = taken,

            // In session scope a session that is not the client's is refused. In transaction scope the transaction's number is negative in
            // such a session.
            IsDirect = request.SessionId is not null
                && (isSession ? code is >= 0 and not PostgreSqlAnswer.AlreadyHeld : code > PostgreSqlAnswer.AlreadyHeld),

            // With fencing, the token stands in the place of the code that would tell of a wait.
            HasWaited = isGranted && request is { Scope: LockScope.Session, Try: false, InTransaction: false }
                && (request.Fencing || code == PostgreSqlAnswer.AfterWait),
            FencingToken = isGranted && isSession && request.Fencing ? code : 0,
            Transaction = isGranted && !isSession && answer is long ? Math.Abs(code) : 0,
        };
    }

    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    public override LockOutcome Read(DbError codes) => codes.SqlState switch
    {
        "55P03" => LockOutcome.NotAcquired,

        // There is no such savepoint. Only Undo goes back to one, so the wait had not begun.
        "3B001" => LockOutcome.NotAcquired,
        "40P01" => LockOutcome.Deadlock,
        "57014" => LockOutcome.Cancelled,
        "25P02" => LockOutcome.TransactionAborted,
        "57P01" or "57P02" or "57P03" or "57P04" or "57P05" or "25P03" or "25P04" => LockOutcome.ConnectionLost,
        null or ['H', 'Y', ..] => LockOutcome.Unknown,
        ['0', '8', ..] => LockOutcome.ConnectionLost,
        _ => LockOutcome.Refused,
    };

    // idle_in_transaction_session_timeout, transaction_timeout (PostgreSQL 17), idle_session_timeout.
    public override bool IsSessionLimit(DbError codes) => codes.SqlState is "25P03" or "25P04" or "57P05";

    private static PostgreSqlTexts For(in LockRequest request) =>
        request.Key.IsSeveral || request.Any is not null ? (request.Shared ? SeveralShared : Several)
        : request.Key.IsPair ? (request.Shared ? PairShared : Pair)
        : request.Shared ? NumberShared
        : Number;

    // A try of several keys has a savepoint, too: if it fails with an error it may leave some locks, and the transaction must stay usable
    // to let go of them.
    private static bool HasSavepoint(in LockRequest request) =>
        request.InTransaction && (!request.Try || request.Key.IsSeveral || request.Any is not null);

    private static LockCommand Command(LockSql sql, in LockRequest request, params IReadOnlyCollection<LockParameter> more)
    {
        LockParameter[] parameters = request.Key.IsSeveral || request.Any is not null
            ? [.. Arrays(request.Any ?? request.Key.Keys), .. more]
            : request.Key.IsPair ? [new(DbType.Int32, request.Key.Pair.First), new(DbType.Int32, request.Key.Pair.Second), .. more]
            : [new(DbType.Int64, request.Key.Number), .. more];
        return new LockCommand(sql, parameters);
    }

    // The numbers of the keys, each once, and whether they are pairs, as texts of arrays, because every provider can send texts.
    private static LockParameter[] Arrays(IReadOnlyList<LockKey> keys)
    {
        var numbers = keys.Select(one => (one.Number, one.IsPair)).Distinct().ToList();
        return
        [
            new(DbType.String, $"{{{string.Join(",", numbers.Select(one => one.Number.ToString(CultureInfo.InvariantCulture)))}}}"),
            new(DbType.String, $"{{{string.Join(",", numbers.Select(one => one.IsPair ? "t" : "f"))}}}"),
        ];
    }
}
