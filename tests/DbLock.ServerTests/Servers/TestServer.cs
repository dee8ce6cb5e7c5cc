using System.Data.Common;
using System.Diagnostics;
using System.Globalization;

namespace DbLock.ServerTests;

/// <summary>A real server, and an observer's connection to it that asks what the locks under test really are.</summary>
[System.Diagnostics.CodeAnalysis.SuppressMessage("Design", "CA1001", Justification = "One for the whole run, which ends with it.")]
public abstract class TestServer
{
    private readonly SemaphoreSlim _turn = new(1);
    private DbConnection? _observer;

    /// <summary>Gets whether connections understand SQL.</summary>
    public virtual bool HasSql => true;

    public virtual bool HasShared => true;

    public virtual bool HasTransactionScope => true;

    public virtual bool HasEmptyNames => true;

    /// <summary>Gets SQL that fails on every server.</summary>
    public virtual string FailingSql => "select * from there_is_no_such_table";

    public abstract string SessionIdSql { get; }

    public abstract Task<DbConnection> OpenObserverAsync();

    public abstract Task<bool> IsHeldAsync(LockKey key);

    public abstract Task<bool> IsHeldByAsync(long sessionId, LockKey key);

    public abstract Task<bool> IsWaitingAsync(long sessionId);

    public abstract Task KillAsync(long sessionId);

    public virtual async Task<long> SessionIdAsync(DbConnection connection)
    {
        await using var command = connection.CreateCommand();
        command.CommandText = SessionIdSql;
        return Convert.ToInt64(await command.ExecuteScalarAsync(), CultureInfo.InvariantCulture);
    }

    public Task UntilWaitingAsync(long sessionId) => UntilAsync(() => IsWaitingAsync(sessionId), $"session {sessionId} waits");

    public Task UntilFreeAsync(LockKey key) => UntilAsync(async () => !await IsHeldAsync(key), $"lock '{key}' is free");

    /// <summary>Asks again and again until it is so, with a breath between two questions that leaves the processor to what is waited for.</summary>
    public static async Task UntilAsync(Func<Task<bool>> isSo, string what)
    {
        var clock = Stopwatch.StartNew();
        while (!await isSo())
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60), $"Waited in vain until {what}.");
            await Task.Delay(1);
        }
    }

    protected async Task<object?> AskAsync(string sql, params object[] parameters)
    {
        await _turn.WaitAsync();
        try
        {
            _observer ??= await OpenObserverAsync();
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

    protected async Task<bool> AskWhetherAsync(string sql, params object[] parameters) =>
        await AskAsync(sql, parameters) is { } answer and not DBNull && Convert.ToInt64(answer, CultureInfo.InvariantCulture) != 0;
}
