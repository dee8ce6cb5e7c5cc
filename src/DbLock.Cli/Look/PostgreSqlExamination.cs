using System.Data.Common;
using System.Globalization;
using Npgsql;
using static DbLock.Cli.Finding;

namespace DbLock.Cli;

/// <summary>Examines a connection to PostgreSQL.</summary>
internal static class PostgreSqlExamination
{
    // All that one row can tell is asked at once. pg_settings shows what the role may see.
    private const string Questions = """
        select
          pg_catalog.version(),
          pg_catalog.pg_backend_pid(),
          pg_catalog.pg_is_in_recovery(),
          current_user::text,
          pg_catalog.current_setting('server_version_num')::int,
          pg_catalog.has_function_privilege('pg_catalog.pg_try_advisory_lock(bigint)', 'execute'),
          pg_catalog.pg_has_role('pg_signal_backend', 'usage')
            or (select r.rolsuper from pg_catalog.pg_roles as r where r.rolname = current_user),
          pg_catalog.pg_has_role('pg_read_all_stats', 'usage'),
          (select pg_catalog.count(*) from pg_catalog.pg_locks as l where not l.fastpath),
          (select pg_catalog.sum(s.setting::bigint) from pg_catalog.pg_settings as s
            where s.name in ('max_connections', 'max_prepared_transactions'))
            * pg_catalog.current_setting('max_locks_per_transaction')::bigint
        """;

    // The settings that can end a session that holds a lock, or cut a wait, in milliseconds.
    private const string Timeouts = """
        select s.name, s.setting::bigint
        from pg_catalog.pg_settings as s
        where s.name in ('idle_session_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout', 'statement_timeout')
          and s.setting::bigint > 0
        order by s.name
        """;

    public static async Task<IEnumerable<Finding>> RunAsync(
        NpgsqlConnection connection, bool trustPooler, CancellationToken cancellationToken)
    {
        var findings = await Examination.AskAsync(
            connection, Questions, reader => Read(reader, connection.ProcessID, trustPooler), cancellationToken).ConfigureAwait(false);
        var timeouts = await Examination.AskAsync(
            connection, Timeouts, reader => [ReadTimeout(reader)], cancellationToken).ConfigureAwait(false);
        return
        [
            .. findings,
            .. timeouts.DefaultIfEmpty(new Finding("timeouts", Good, "no timeout ends an idle session or cuts a wait", null)),
        ];
    }

    private static IEnumerable<Finding> Read(DbDataReader reader, int processId, bool trustPooler)
    {
        var (version, product, role) = (reader.GetString(0), reader.GetString(0).Split(" on ")[0], reader.GetString(3));
        var isPostgreSql = version.StartsWith("PostgreSQL ", StringComparison.Ordinal)
            && !version.Contains("-YB-", StringComparison.Ordinal)
            && !version.Contains("CockroachDB", StringComparison.Ordinal);
        yield return !isPostgreSql
            ? new("engine", Error, product,
                "this is not PostgreSQL, and its advisory locks may answer true and lock nothing: lock on a PostgreSQL server")
            : reader.GetInt32(4) >= 130000
                ? new("engine", Good, product, null)
                : new("engine", Warning, product, "locks work; who holds them can be asked from PostgreSQL 13 on: upgrade the server");
        yield return reader.GetInt32(1) == processId
            ? new("pooler", Good, "the connection goes straight to the server", null)
            : trustPooler
                ? new("pooler", Warning, "a connection pooler is in between, and trusted",
                    "make sure that it is in session mode: in transaction mode two clients get the same lock")
                : new("pooler", Error, "a connection pooler is in between",
                    "in transaction mode two clients get the same lock: connect to the server directly, or say --trust-pooler if it is in "
                    + "session mode");
        yield return reader.GetBoolean(2)
            ? new("standby", Error, "this is a hot standby, whose locks are its own",
                "connect to the primary: target_session_attrs=primary with all hosts")
            : new("standby", Good, "this is the primary", null);
        yield return reader.GetBoolean(5)
            ? new("right to lock", Good, $"role {role} may take advisory locks", null)
            : new("right to lock", Error, $"role {role} may not take advisory locks",
                "grant execute on function pg_try_advisory_lock(bigint) and its like to it");
        yield return reader.GetBoolean(6)
            ? new("right to signal", Good, "it may cancel and terminate other roles' sessions", null)
            : new("right to signal", Warning, "it may cancel and terminate sessions of its own roles only",
                "grant pg_signal_backend to it, if dblock cancel and terminate are to reach others");
        yield return reader.GetBoolean(7)
            ? new("right to see", Good, "it sees what other roles' sessions do", null)
            : new("right to see", Warning, "other roles' sessions are hidden from it",
                "grant pg_read_all_stats to it, so that holders can be named in full");
        var (used, capacity) = (reader.GetInt64(8), reader.GetInt64(9));
        var room = string.Create(CultureInfo.InvariantCulture, $"{used} of about {capacity} locks are in use");
        yield return used < capacity / 2
            ? new("capacity", Good, room, null)
            : new("capacity", used < capacity * 9 / 10 ? Warning : Error, room,
                "when the table is full, new sessions and statements fail: raise max_locks_per_transaction, or hold fewer locks");
    }

    private static Finding ReadTimeout(DbDataReader reader)
    {
        var (name, milliseconds) = (reader.GetString(0), reader.GetInt64(1));
        var remedy = name == "statement_timeout"
            ? "a wait for a lock is cut after that: set it to 0 for the sessions that wait"
            : "a session that holds a lock and idles is ended after that, and the lock is lost: set it to 0 for the sessions that hold "
                + "locks";
        return new("timeouts", Warning, string.Create(CultureInfo.InvariantCulture, $"{name} is {milliseconds} ms"), remedy);
    }
}
