using System.Data;
using System.Data.Common;
using Npgsql;

namespace DbLock.Benchmarks;

/// <summary>What a careful programmer writes by hand: the fastest SQL that keeps the same promises, prepared and used again where a transaction does not depend on it.</summary>
internal static class Floors
{
    public const string Try = "select pg_try_advisory_lock({0})";
    public const string Unlock = "select pg_advisory_unlock({0})";

    // A wait must not leave the lock behind when it fails: the transaction-level lock first, then the session's.
    public const string Wait = """
        select case when pg_try_advisory_lock({0}) then 1
          when set_config('lock_timeout', {1}, true) is null then null
          when pg_advisory_xact_lock({0}) is null then null
          when pg_sleep(0) is null then null
          when pg_advisory_lock({0}) is null then null
          else 1 end
        """;

    public const string WaitInScope = """
        select case when set_config('lock_timeout', {1}, true) is null then null
          when pg_advisory_xact_lock({0}) is null then null
          when set_config('lock_timeout', before.lock_timeout, true) is null then null
          else 1 end
        from (select current_setting('lock_timeout') as lock_timeout offset 0) as before
        """;

    /// <summary>A command that is written by hand, in both modes.</summary>
    /// <param name="Enlist">Gives it the transaction.</param>
    /// <param name="Run">Runs it.</param>
    /// <param name="RunAsync">Runs it without blocking.</param>
    public sealed record ByHand(Action<DbTransaction?> Enlist, Action Run, Func<Task> RunAsync);

    /// <summary>Makes a command over the provider's own classes.</summary>
    public static ByHand Command(DbConnection connection, string driver, long key, string? milliseconds, bool isPrepared, params string[] texts) => driver switch
    {
        "Npgsql" => Batch((NpgsqlConnection)connection, key, milliseconds, isPrepared, texts),
        "AdoNet" => Text(connection, key, milliseconds, string.Join("; ", texts.Select(text => text.Replace("{0}", "@k", StringComparison.Ordinal).Replace("{1}", "@m", StringComparison.Ordinal))), named: true, isPrepared),
        _ => Text(connection, key, milliseconds, string.Join("; ", texts), named: false, isPrepared: false),
    };

    private static ByHand Batch(NpgsqlConnection connection, long key, string? milliseconds, bool isPrepared, string[] texts)
    {
        if (texts is [var only])
        {
            var command = new NpgsqlCommand(Numbered(only), connection);
            Fill(command.Parameters, only);
            if (isPrepared)
            {
                command.Prepare();
            }

            return new(transaction => command.Transaction = (NpgsqlTransaction?)transaction, () => command.ExecuteScalar(), () => command.ExecuteScalarAsync());
        }

        var batch = new NpgsqlBatch(connection);
        foreach (var text in texts)
        {
            var command = new NpgsqlBatchCommand(Numbered(text));
            Fill(command.Parameters, text);
            batch.BatchCommands.Add(command);
        }

        if (isPrepared)
        {
            batch.Prepare();
        }

        return new(transaction => batch.Transaction = (NpgsqlTransaction?)transaction, () => batch.ExecuteNonQuery(), () => batch.ExecuteNonQueryAsync());

        void Fill(NpgsqlParameterCollection parameters, string text)
        {
            if (text.Contains("{0}", StringComparison.Ordinal))
            {
                parameters.Add(new NpgsqlParameter<long> { TypedValue = key });
            }

            if (text.Contains("{1}", StringComparison.Ordinal))
            {
                parameters.Add(new NpgsqlParameter<string> { TypedValue = milliseconds! });
            }
        }

        static string Numbered(string text) => text.Replace("{0}", "$1", StringComparison.Ordinal).Replace("{1}", "$2", StringComparison.Ordinal);
    }

    // ODBC knows whether a pooler stands between as little as DbLock does over it, so it does not prepare either.
    private static ByHand Text(DbConnection connection, long key, string? milliseconds, string text, bool named, bool isPrepared)
    {
        var command = connection.CreateCommand();
        if (named)
        {
            Add("k", DbType.Int64, key);
            if (milliseconds is not null)
            {
                Add("m", DbType.String, milliseconds);
            }
        }
        else
        {
            while (text.IndexOf('{', StringComparison.Ordinal) is var at and >= 0)
            {
                Add("", text[at + 1] == '0' ? DbType.Int64 : DbType.String, text[at + 1] == '0' ? key : milliseconds!);
                text = $"{text[..at]}?{text[(at + 3)..]}";
            }
        }

        command.CommandText = text;

        // A wait for ever must not be cut by the provider's 30 seconds.
        command.CommandTimeout = milliseconds == "0" ? 0 : command.CommandTimeout;
        if (isPrepared)
        {
            command.Prepare();
        }

        // ODBC blocks, and a wait must not block a thread of the pool.
        return new(
            transaction => command.Transaction = transaction,
            () => command.ExecuteScalar(),
            !named && milliseconds is not null
                ? () => Task.Factory.StartNew(command.ExecuteScalar, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)
                : () => command.ExecuteScalarAsync());

        void Add(string name, DbType type, object value)
        {
            var parameter = command.CreateParameter();
            (parameter.ParameterName, parameter.DbType, parameter.Value) = (name, type, value);
            command.Parameters.Add(parameter);
        }
    }
}
