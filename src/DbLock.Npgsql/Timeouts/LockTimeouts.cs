using System.Data;
using System.Globalization;
using System.Runtime.CompilerServices;
using Npgsql;
using static DbLock.RoundTrip;

namespace DbLock;

/// <summary>The lock_timeout scopes of a connection while it is open, and what they still owe it.</summary>
internal sealed class LockTimeouts
{
    // The start of the transaction, which two statements share if, and only if, they are in one transaction block. It is in microseconds,
    // because its text would change with TimeZone and DateStyle.
    private const string Now = "(extract(epoch from pg_catalog.now()) * 1000000)::bigint";
    private const string Ask = $"select {Now}::pg_catalog.text, pg_catalog.current_setting('lock_timeout'), "
        + "pg_catalog.pg_backend_pid()::pg_catalog.text";

    // Outside a transaction block this sets nothing: a local setting ends with its own statement there, without a warning.
    private const string SetLocal = $"select {Now}::pg_catalog.text, pg_catalog.set_config('lock_timeout', $1, true)";
    private const string SetSession = "select pg_catalog.set_config('lock_timeout', $1, false)";
    private const string GiveBack = $"""
        select {Now}::pg_catalog.text, case
          when $3 in (0, {Now}) and $4 <> {Now} and $5 in ('', pg_catalog.current_setting('lock_timeout'))
          then pg_catalog.set_config('lock_timeout', $1, $2) end
        """;

    private static readonly ConditionalWeakTable<NpgsqlConnection, LockTimeouts> OfConnections = [];
    private static ILockDriver Driver => NpgsqlLockInterface.Instance.Driver;

    // How many scopes are owed over all connections. While it is 0, as nearly always, a call of Pay costs no more than reading this.
    private static int _allOwed;

    private readonly NpgsqlConnection _connection;
    private readonly List<LockTimeoutScope> _open = [];
    private readonly List<LockTimeoutScope> _owed = [];

    private LockTimeouts(NpgsqlConnection connection)
    {
        _connection = connection;
        connection.StateChange += OnStateChange;
    }

    /// <summary>
    /// Returns a timeout in the milliseconds that lock_timeout counts, rounded up so that a short wait is never none; 0 is for ever, to the
    /// server too.
    /// </summary>
    public static string Milliseconds(TimeSpan timeout)
    {
        var longest = LockDialect.PostgreSql.MaxTimeout;
        if (timeout == Timeout.InfiniteTimeSpan)
        {
            return "0";
        }

        return timeout >= TimeSpan.Zero && timeout <= longest
            ? ((timeout.Ticks + TimeSpan.TicksPerMillisecond - 1) / TimeSpan.TicksPerMillisecond).ToString(CultureInfo.InvariantCulture)
            : throw new ArgumentOutOfRangeException(
                nameof(timeout),
                timeout,
                $"A timeout must lie between zero and {longest}, the longest that PostgreSQL can count, or be Timeout.InfiniteTimeSpan.");
    }

    public static async ValueTask<LockTimeoutScope> Open(NpgsqlConnection connection, TimeSpan timeout, bool trustPooler, bool async)
    {
        if (timeout == TimeSpan.Zero)
        {
            throw new ArgumentOutOfRangeException(
                nameof(timeout),
                timeout,
                "A lock_timeout of zero means for ever to the server: say Timeout.InfiniteTimeSpan if that is meant, or the shortest "
                + "wait (TimeSpan.FromMilliseconds(1)) if none is.");
        }

        var milliseconds = Milliseconds(timeout);
        if (connection.State != ConnectionState.Open)
        {
            throw new InvalidOperationException($"The connection is {connection.State}, not open: open it before its lock_timeout is set.");
        }

        var timeouts = OfConnections.GetValue(connection, static connection => new LockTimeouts(connection));
        await timeouts.Pay(async).ConfigureAwait(false);
        var answers = await Send(
            connection, [new(Ask), new(SetLocal) { Parameters = { Text(milliseconds) } }], async, apart: true).ConfigureAwait(false);
        var (start, before, session) = (answers[0][0]!, answers[0][1]!, answers[0][2]!);
        var (value, transaction) = (answers[1][1]!, long.Parse(start, CultureInfo.InvariantCulture));
        if (answers[1][0] != start)
        {
            if (!trustPooler && Driver.SessionId(connection)?.ToString(CultureInfo.InvariantCulture) != session)
            {
                throw new LockException(
                    "A connection pooler (or Npgsql's Multiplexing) stands between this program and PostgreSQL, and a lock_timeout that "
                    + "is set outside a transaction could come to other clients, as it does in transaction mode. Nothing was set: open "
                    + "the scope inside a transaction, or connect directly, or say trustPooler: true if the pooler is in session mode.");
            }

            value = (await Send(connection, [new(SetSession) { Parameters = { Text(milliseconds) } }], async).ConfigureAwait(false))[0][0]!;
            transaction = 0;
        }

        var scope = new LockTimeoutScope(timeouts, before, value, transaction);
        lock (timeouts._open)
        {
            // The scopes of transactions that are over have nothing to give back.
            timeouts._open.RemoveAll(other => other.Transaction != 0 && other.Transaction != transaction);
            timeouts._open.Add(scope);
        }

        return scope;
    }

    /// <summary>Gives back on a connection what is owed and can be given back now. It does not throw.</summary>
    public static ValueTask<bool> Pay(NpgsqlConnection connection, bool async) =>
        Volatile.Read(ref _allOwed) > 0 && OfConnections.TryGetValue(connection, out var timeouts) ? timeouts.Pay(async) : new(true);

    /// <summary>Ends a scope. It does not throw.</summary>
    /// <returns>True when nothing of it is owed.</returns>
    public async ValueTask<bool> Close(LockTimeoutScope scope, bool async)
    {
        bool isOpen;
        lock (_open)
        {
            var index = _open.IndexOf(scope);
            isOpen = index >= 0;
            if (isOpen)
            {
                var above = _open[(index + 1)..];
                _open.RemoveAt(index);

                // The scopes are disposed out of order: the setting of a scope above is in force, and that scope now gives back what this
                // one would have.
                if (above.Find(other => other.Transaction == scope.Transaction) is { } heir)
                {
                    heir.Before = scope.Before;
                    return true;
                }

                // This is a session's scope below those of a transaction. Should the transaction still go on, its lowest scope gives back
                // in it what this one would have.
                if (scope.Transaction == 0 && above.Count > 0)
                {
                    above.Find(other => other.Transaction == above[^1].Transaction)!.Before = scope.Before;
                }
            }
        }

        return isOpen ? await GiveBackOrOwe(scope, async).ConfigureAwait(false) : await Pay(async).ConfigureAwait(false);
    }

    private async ValueTask<bool> Pay(bool async)
    {
        LockTimeoutScope[] owed;
        lock (_open)
        {
            owed = [.. _owed];
        }

        var paid = true;
        foreach (var scope in owed)
        {
            paid &= await GiveBackOrOwe(scope, async).ConfigureAwait(false);
        }

        return paid;
    }

    private async ValueTask<bool> GiveBackOrOwe(LockTimeoutScope scope, bool async)
    {
        bool isOwed;
        long notIn;
        lock (_open)
        {
            isOwed = _owed.Contains(scope);

            // While a transaction goes on that has a scope of its own, that scope is in force, and nothing is given back to the session.
            notIn = scope.Transaction == 0 && _open.Count > 0 ? _open[^1].Transaction : 0;
        }

        var done = false;
        try
        {
            var giveBack = new NpgsqlBatchCommand(GiveBack)
            {
                Parameters =
                {
                    Text(scope.Before),
                    new NpgsqlParameter<bool> { TypedValue = scope.Transaction != 0 },
                    new NpgsqlParameter<long> { TypedValue = scope.Transaction },
                    new NpgsqlParameter<long> { TypedValue = notIn },

                    // What is owed is given back only if nobody has set anything else meanwhile.
                    Text(isOwed ? scope.Value : ""),
                },
            };
            var answers = await Send(_connection, [new(Ask), giveBack], async, apart: true).ConfigureAwait(false);

            // A rollback would undo what is given back to the session inside a transaction, and a rollback is not seen here: it stays owed.
            done = scope.Transaction != 0 || answers[0][0] != answers[1][0];
        }
        catch (Exception)
        {
            // The transaction has failed, a reader is open, or the session is gone. The caller learns that from its own next command.
        }

        lock (_open)
        {
            done |= _connection.State != ConnectionState.Open;
            if (done && _owed.Remove(scope))
            {
                Interlocked.Decrement(ref _allOwed);
            }
            else if (!done && !_owed.Contains(scope))
            {
                _owed.Add(scope);
                Interlocked.Increment(ref _allOwed);
            }
        }

        return done;
    }

    private static NpgsqlParameter<string> Text(string value) => new() { TypedValue = value };

    // A connection that is closed owes nothing: settings end with their session, and a pooled session is reset for its next user.
    private void OnStateChange(object sender, StateChangeEventArgs change)
    {
        if (change.CurrentState is ConnectionState.Closed or ConnectionState.Broken)
        {
            lock (_open)
            {
                _open.Clear();
                Interlocked.Add(ref _allOwed, -_owed.Count);
                _owed.Clear();
            }
        }
    }
}
