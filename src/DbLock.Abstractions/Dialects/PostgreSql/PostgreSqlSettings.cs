using System.Data;

namespace DbLock;

/// <summary>The settings of a PostgreSQL session that only locks use. Any role may set them.</summary>
/// <remarks>
/// <para>
/// The server lets go of a client that has fallen silent after 20 seconds, and not before <see cref="TrustWindow.Length"/> has run out, so
/// that who held has been told by then. A client that is gone leaves the server's queue within a second. No timeout ends a session that
/// idles because its lock is held, or because it waits: a wait is a transaction of its own.
/// </para>
/// <para>
/// https://www.postgresql.org/docs/current/runtime-config-connection.html#RUNTIME-CONFIG-TCP-SETTINGS,
/// https://www.postgresql.org/docs/current/runtime-config-client.html. PostgreSQL 13 has neither idle_session_timeout nor
/// client_connection_check_interval, and transaction_timeout came with 17.
/// </para>
/// </remarks>
internal static class PostgreSqlSettings
{
    // Values as current_setting writes them. What a version has not is null. The parts of a CASE run in their order, behind a subquery that
    // OFFSET 0 fences. No setting has a line
    // break in it: of an application_name the server keeps ASCII that can be printed.
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

    // By the server's clock, and the next full second, so that nobody is said to have held longer than he has. Where the end is another, it
    // has been told.
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
    /// Returns the statement that sets them on a session, if the client speaks to that one, and answers with what was before of those that
    /// differed; null when none did.
    /// </summary>
    /// <param name="sessionId">The session.</param>
    /// <param name="told">How its application_name is to end, and how many bytes are left for what stands before that; no end leaves it as
    /// it is.</param>
    public static LockStatement Keep(int sessionId, (string? End, int Room) told) => new(new LockCommand(
        KeepSql, new(DbType.Int32, sessionId), new(DbType.String, told.End ?? ""), new(DbType.Int32, told.Room),
        new(DbType.String, told.End is null ? "" : ToldName.Process())));

    /// <summary>Returns the statement that puts since when the lock is held in place of <see cref="ToldName.AskedFor"/>.</summary>
    /// <param name="sessionId">The session.</param>
    /// <param name="end">How its application_name ends.</param>
    /// <param name="held">How long the lock has been held.</param>
    public static LockStatement TellSince(int sessionId, string end, TimeSpan held) => new(new LockCommand(
        TellSinceSql, new(DbType.Int32, sessionId), new(DbType.String, end), new(DbType.Double, held.TotalSeconds)));

    /// <summary>Returns the statement that undoes <see cref="Keep"/>.</summary>
    /// <param name="before">What that answered.</param>
    public static LockStatement PutBack(string before) => new(new LockCommand(PutBackSql, new LockParameter(DbType.String, before)));
}
