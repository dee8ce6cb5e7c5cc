using System.Data.Common;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Transactions;

namespace DbLock.Specification;

/// <summary>
/// A real server, and an observer's connection to it that asks what the locks under test really are. It knows no driver of DbLock's.
/// </summary>
[SuppressMessage("Design", "CA1001", Justification = "One for the whole run, which ends with it.")]
public abstract class TestServer
{
    private readonly SemaphoreSlim _turn = new(1);
    private DbConnection? _observer;

    /// <summary>Gets whether connections understand SQL.</summary>
    public virtual bool HasSql => true;

    /// <summary>Gets whether there are shared locks.</summary>
    public virtual bool HasShared => true;

    /// <summary>Gets whether a lock can end with a transaction.</summary>
    public virtual bool HasTransactionScope => true;

    /// <summary>Gets whether several keys can be one lock.</summary>
    public virtual bool HasSeveral => true;

    /// <summary>Gets whether a grant can have a fencing token, for which a server needs something that grows with each.</summary>
    public virtual bool HasFencing => true;

    /// <summary>Gets whether a name may be empty.</summary>
    public virtual bool HasEmptyNames => true;

    /// <summary>Gets whether a name may have a NUL in it.</summary>
    public virtual bool TakesNul => true;

    /// <summary>Gets a timeout that the server ends at about its time, for races with it.</summary>
    public virtual TimeSpan BriefWait => TimeSpan.FromMilliseconds(4);

    /// <summary>Gets SQL that fails on every server.</summary>
    public virtual string FailingSql => "select * from there_is_no_such_table";

    /// <summary>Gets the dialect that the server is spoken to in.</summary>
    public abstract LockDialect Dialect { get; }

    /// <summary>Gets SQL that returns the number of the session that runs it.</summary>
    public abstract string SessionIdSql { get; }

    /// <summary>Opens a connection that holds no lock, and over which the server is asked.</summary>
    public abstract Task<DbConnection> OpenObserverAsync();

    /// <summary>Says whether any session holds a lock.</summary>
    public abstract Task<bool> IsHeldAsync(LockKey key);

    /// <summary>Says whether a session holds a lock.</summary>
    public abstract Task<bool> IsHeldByAsync(long sessionId, LockKey key);

    /// <summary>Says whether a session waits for a lock.</summary>
    public abstract Task<bool> IsWaitingAsync(long sessionId);

    /// <summary>Ends a session, as an administrator does.</summary>
    public abstract Task KillAsync(long sessionId);

    /// <summary>Returns the number of a connection's session.</summary>
    public virtual async Task<long> SessionIdAsync(DbConnection connection)
    {
        await using var command = connection.CreateCommand();
        command.CommandText = SessionIdSql;
        return Convert.ToInt64(await command.ExecuteScalarAsync(), CultureInfo.InvariantCulture);
    }

    public Task UntilWaitingAsync(long sessionId) => UntilAsync(() => IsWaitingAsync(sessionId), $"session {sessionId} waits");

    public Task UntilFreeAsync(LockKey key) => UntilAsync(async () => !await IsHeldAsync(key), $"lock '{key}' is free");

    /// <summary>Asks again and again until it is so, with a breath between two questions, which leaves the processor to others.</summary>
    public static async Task UntilAsync(Func<Task<bool>> isSo, string what)
    {
        var clock = Stopwatch.StartNew();
        while (!await isSo())
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60), $"Waited in vain until {what}.");
            await Task.Delay(1);
        }
    }

    /// <summary>Runs SQL over the observer's connection, with parameters named p0, p1 and so on; returns its first value.</summary>
    protected async Task<object?> AskAsync(string sql, params object[] parameters)
    {
        await _turn.WaitAsync();
        try
        {
            if (_observer is null)
            {
                // Asked first within a test's transaction, it would else be part of it, and be rolled back while another test asks.
                using var suppress = new TransactionScope(TransactionScopeOption.Suppress, TransactionScopeAsyncFlowOption.Enabled);
                _observer = await OpenObserverAsync();
            }

            await using var command = _observer.CreateCommand();
            command.CommandText = sql;
            for (var i = 0; i < parameters.Length; i++)
            {
                var parameter = command.CreateParameter();
                parameter.ParameterName = string.Create(CultureInfo.InvariantCulture, $"p{i}");
                parameter.Value = parameters[i];
                command.Parameters.Add(parameter);
            }

            return await command.ExecuteScalarAsync();
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <summary>Says whether the first value is a number other than zero.</summary>
    protected async Task<bool> AskWhetherAsync(string sql, params object[] parameters) =>
        await AskAsync(sql, parameters) is { } answer and not DBNull && Convert.ToInt64(answer, CultureInfo.InvariantCulture) != 0;
}
