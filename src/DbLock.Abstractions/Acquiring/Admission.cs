using System.Data;

namespace DbLock;

/// <summary>Checks an acquire before anything is sent, and refuses what cannot work.</summary>
internal static class Admission
{
    /// <summary>Throws when a timeout is negative or longer than can be waited for.</summary>
    /// <param name="timeout">The timeout.</param>
    /// <param name="key">The key.</param>
    /// <param name="longest">The longest finite one.</param>
    /// <param name="dialect">Whose longest it is; null for the pool's own.</param>
    public static void CheckTimeout(TimeSpan timeout, LockKey key, TimeSpan longest, LockDialect? dialect)
    {
        if (timeout != Timeout.InfiniteTimeSpan && (timeout < TimeSpan.Zero || timeout > longest))
        {
            throw Refusals.WrongTimeout(timeout, key, longest, dialect);
        }
    }

    /// <summary>Throws when a key with slots is asked for in a way that slots do not have.</summary>
    public static void CheckSlots(LockKey key, bool isMore, string parameter)
    {
        if (key.SlotCount > 0 && isMore)
        {
            throw Refusals.ExclusiveSlots(key, parameter);
        }
    }

    public static void CheckOpen(Conversation conversation)
    {
        if (!conversation.IsOpen)
        {
            throw Refusals.NotOpen(conversation.Key, conversation.Connection);
        }
    }

    /// <summary>Throws when the lock is held in another database than the connection's, where its name is another lock.</summary>
    /// <param name="conversation">The conversation.</param>
    /// <param name="held">The database in which it is held; null where it is not held, or belongs to no database.</param>
    public static void CheckDatabase(Conversation conversation, string? held)
    {
        if (held is not null && held != conversation.Identity.Database)
        {
            throw Refusals.HeldInDatabase(conversation.Key, held);
        }
    }

    /// <summary>Checks that the lock can be acquired at all, and returns the request for the dialect.</summary>
    public static LockRequest Admit(Conversation conversation, TimeSpan timeout)
    {
        var (key, options) = (conversation.Key, conversation.Options);
        CheckOpen(conversation);
        conversation.Enlisted = FindEnlistment(conversation);
        conversation.LookAtSession();
        var dialect = conversation.Dialect;
        CheckTimeout(timeout, key, dialect.MaxTimeout, dialect);
        if (key.IsSeveral && !dialect.HasSeveral)
        {
            throw Refusals.NoSeveral(dialect);
        }

        if (options.Scope == LockScope.Transaction && !conversation.IsInTransaction)
        {
            throw Refusals.MissingTransaction(key);
        }

        if (options.Fencing && !dialect.HasFencing)
        {
            throw Refusals.NoFencing(dialect);
        }

        if (options.Fencing && conversation.Transaction is not null)
        {
            throw Refusals.FencedTransaction(key);
        }

        if (dialect.TakesSnapshot && timeout != TimeSpan.Zero
            && IsolationLevelOf(conversation) is (
                IsolationLevel.RepeatableRead or IsolationLevel.Serializable or IsolationLevel.Snapshot) and var level)
        {
            conversation.WarnOfSnapshot(level);
        }

        var session = conversation.PhysicalSession;
        return new LockRequest(key)
        {
            Shared = options.Shared,
            Scope = options.Scope,
            Timeout = timeout,
            InTransaction = conversation.IsInTransaction,
            SessionId = options.TrustPooler ? null : session.Id(conversation.Connection, conversation.Driver),
            IsDirect = !options.TrustPooler && session.IsDirect,
            Fencing = options.Fencing,
            HasOwnConnection = conversation.HasOwnConnection,
        };
    }

    /// <summary>Checks that a lease can be acquired at all.</summary>
    public static void AdmitLease(Conversation conversation, TimeSpan timeout)
    {
        CheckOpen(conversation);
        conversation.Enlisted = FindEnlistment(conversation);
        conversation.LookAtSession();
        CheckTimeout(timeout, conversation.Key, TimeSpan.MaxValue, dialect: null);
        if (conversation.IsInTransaction)
        {
            throw LeaseRefusals.InTransaction(conversation.Key, "acquired");
        }
    }

    // Returns the System.Transactions transaction in which the connection is enlisted. A lock of session scope is refused on such a
    // connection, because the transaction keeps the session until it ends.
    private static System.Transactions.Transaction? FindEnlistment(Conversation conversation)
    {
        var ambient = System.Transactions.Transaction.Current;
        var isSession = conversation.Options.Scope != LockScope.Transaction;
        if (conversation.HasOwnConnection || (ambient is null && (isSession || conversation.Transaction is not null)))
        {
            return null;
        }

        System.Transactions.Transaction? enlisted = null;
        var isTold = conversation.Driver is IEnlistingDriver driver && driver.TryFindEnlistment(conversation.Connection, out enlisted);
        if (!isTold && ambient is not null)
        {
            throw Refusals.HiddenEnlistment(conversation.Key, conversation.Connection);
        }

        // A TransactionScope inside another enlists the connection under a copy of the transaction, which is disposed before the
        // transaction ends.
        var transaction = enlisted is null || enlisted.IsOpen() ? enlisted : enlisted == ambient ? ambient : null;
        if (transaction is not null && isSession)
        {
            throw conversation.Options.Scope == LockScope.Lease
                ? LeaseRefusals.InTransaction(conversation.Key, "acquired") : Refusals.EnlistedSession(conversation.Key);
        }

        return transaction?.Clone();
    }

    private static IsolationLevel IsolationLevelOf(Conversation conversation) =>
        conversation.Transaction?.IsolationLevel
        ?? conversation.Enlisted?.IsolationLevel switch
        {
            System.Transactions.IsolationLevel.RepeatableRead => IsolationLevel.RepeatableRead,
            System.Transactions.IsolationLevel.Serializable => IsolationLevel.Serializable,
            System.Transactions.IsolationLevel.Snapshot => IsolationLevel.Snapshot,
            _ => IsolationLevel.Unspecified,
        };
}
