using System.Data;

namespace DbLock;

/// <summary>The settings of a PostgreSQL session that only locks use. Any role may set them.</summary>
/// <remarks>
/// <para>
/// The server ends the session of a silent client after 20 seconds. <see cref="TrustWindow.Length"/> is shorter, so that the holder knows
/// of its loss before another can have the lock. A client that is gone leaves the server's queue within a second. No timeout ends a session
/// that idles because its lock is held, or because it waits: a wait is a transaction of its own.
/// </para>
/// <para>
/// https://www.postgresql.org/docs/current/runtime-config-connection.html#RUNTIME-CONFIG-TCP-SETTINGS,
/// https://www.postgresql.org/docs/current/runtime-config-client.html. PostgreSQL 13 has neither idle_session_timeout nor
/// client_connection_check_interval, and transaction_timeout came with PostgreSQL 17.
/// </para>
/// </remarks>
internal static class PostgreSqlSettings
{
    // The values are written as current_setting writes them. A setting that this version does not have is null. A CASE evaluates its parts
    // in order, and OFFSET 0 keeps the subquery apart. No setting has a line break in it: of an application_name the server keeps printable
    // ASCII.
    private static readonly LockSql KeepSql = new("""
        select pg_catalog.string_agg(b.name || '=' || b.value, E'\n')
        from (
          select s.name, s.kept, pg_catalog.current_setting(s.name, true) as value
          from (values ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '2'),
              ('tcp_user_timeout', '20000'),
            ('client_connection_check_interval', '1s'), ('idle_session_timeout', '0'), ('idle_in_transaction_session_timeout', '0'),
            ('transaction_timeout', '0'), ('application_name', (
              select case when cast({1} as pg_catalog.text) = '' then null when pg_catalog.length(a.given) <= cast({2} as int) then a.given
                else pg_catalog.left(a.given, cast({2} as int) - 2) || '..' end || cast({1} as pg_catalog.text)
              from (
                select coalesce(nullif(pg_catalog.current_setting('application_name'), ''), cast({3} as pg_catalog.text)) as given) as a))
            ) as s (name, kept)
          where cast({0} as int) = pg_catalog.pg_backend_pid()
          offset 0) as b
        where case when b.value <> b.kept then pg_catalog.set_config(b.name, b.kept, false) is not null end
        """);

    private static readonly LockSql PutBackSql = new("""
        select pg_catalog.count(pg_catalog.set_config(
          pg_catalog.split_part(b.setting, '=', 1), pg_catalog.substr(b.setting, pg_catalog.strpos(b.setting, '=') + 1), false))
        from pg_catalog.unnest(pg_catalog.string_to_array(cast({0} as pg_catalog.text), E'\n')) as b (setting)
        """);

    // The time is that of the server's clock, rounded up to the next second, so that a lock is never said to be held for longer than it is.
    // If the name does not end as expected, the time was told before.
    private static readonly LockSql TellSinceSql = new($$"""
        select pg_catalog.set_config('application_name', pg_catalog.left(a.name, -{{ToldName.AskedFor.Length}}) || ' '
          || pg_catalog.to_char(
            pg_catalog.timezone(
              'UTC', pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => cast({2} as double precision) - 0.999999)),
            'YYYY-MM-DD"T"HH24:MI:SS"Z"')
          || ']', false)
        from (select pg_catalog.current_setting('application_name') as name offset 0) as a
        where cast({0} as int) = pg_catalog.pg_backend_pid()
          and pg_catalog.right(a.name, pg_catalog.length(cast({1} as pg_catalog.text))) = cast({1} as pg_catalog.text)
        """);

    /// <summary>
    /// Returns the statement that makes the settings, if the client speaks to that session. Its answer has the settings that differed, as
    /// they were before; null when none did.
    /// </summary>
    /// <param name="sessionId">The session.</param>
    /// <param name="told">
    /// What the session's application_name is to end with, and how many bytes are left for what stands before that. A null end leaves the
    /// name as it is.
    /// </param>
    public static LockStatement Keep(int sessionId, (string? End, int Room) told) => new(new LockCommand(
        KeepSql, new(DbType.Int32, sessionId), new(DbType.String, told.End ?? ""), new(DbType.Int32, told.Room),
        new(DbType.String, told.End is null ? "" : ToldName.Process())));

    /// <summary>Returns the statement that writes since when the lock is held, in place of <see cref="ToldName.AskedFor"/>.</summary>
    /// <param name="sessionId">The session.</param>
    /// <param name="end">What the session's application_name ends with.</param>
    /// <param name="held">How long the lock has been held.</param>
    public static LockStatement TellSince(int sessionId, string end, TimeSpan held) => new(new LockCommand(
        TellSinceSql, new(DbType.Int32, sessionId), new(DbType.String, end), new(DbType.Double, held.TotalSeconds)));

    /// <summary>Returns the statement that undoes <see cref="Keep"/>.</summary>
    /// <param name="before">The answer to that.</param>
    public static LockStatement PutBack(string before) => new(new LockCommand(PutBackSql, new LockParameter(DbType.String, before)));
}
