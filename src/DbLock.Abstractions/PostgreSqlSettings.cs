using System.Data;

namespace DbLock;

/// <summary>The settings of a PostgreSQL session that only locks use. Any role may set them.</summary>
/// <remarks>
/// <para>
/// The server lets go of a client that has fallen silent after 20 seconds, and not before <see cref="LockWatch.Trust"/> has run out, so that who held has been told by then. A client
/// that is gone leaves the server's queue within a second. No timeout ends a session that idles because its lock is held.
/// </para>
/// <para>
/// https://www.postgresql.org/docs/current/runtime-config-connection.html#RUNTIME-CONFIG-TCP-SETTINGS,
/// https://www.postgresql.org/docs/current/runtime-config-client.html. PostgreSQL 13 has neither idle_session_timeout nor client_connection_check_interval.
/// </para>
/// </remarks>
internal static class PostgreSqlSettings
{
    // Values as current_setting writes them. What a version has not is null. The parts of a CASE run in their order, behind a subquery that OFFSET 0 fences.
    private static readonly LockSql KeepSql = new("""
        select pg_catalog.string_agg(b.name || '=' || b.value, ' ')
        from (
          select s.name, s.kept, pg_catalog.current_setting(s.name, true) as value
          from (values ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '2'), ('tcp_user_timeout', '20000'),
            ('client_connection_check_interval', '1s'), ('idle_session_timeout', '0'), ('idle_in_transaction_session_timeout', '0')) as s (name, kept)
          where cast({0} as int) = pg_catalog.pg_backend_pid()
          offset 0) as b
        where case when b.value <> b.kept then pg_catalog.set_config(b.name, b.kept, false) is not null end
        """);

    private static readonly LockSql PutBackSql = new("""
        select pg_catalog.count(pg_catalog.set_config(pg_catalog.split_part(b.setting, '=', 1), pg_catalog.split_part(b.setting, '=', 2), false))
        from pg_catalog.unnest(pg_catalog.string_to_array(cast({0} as pg_catalog.text), ' ')) as b (setting)
        """);

    /// <summary>Returns the statement that sets them on a session, if the client speaks to that one, and answers with what was before of those that differed; null when none did.</summary>
    /// <param name="sessionId">The session.</param>
    public static LockStatement Keep(int sessionId) => new(new LockCommand(KeepSql, new LockParameter(DbType.Int32, sessionId)));

    /// <summary>Returns the statement that undoes <see cref="Keep"/>.</summary>
    /// <param name="before">What that answered.</param>
    public static LockStatement PutBack(string before) => new(new LockCommand(PutBackSql, new LockParameter(DbType.String, before)));
}
