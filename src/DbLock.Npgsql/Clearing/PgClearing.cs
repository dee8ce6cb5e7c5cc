using System.Diagnostics;
using System.Globalization;
using Npgsql;
using NpgsqlTypes;

namespace DbLock;

/// <summary>Signals the sessions that have certain locks, and finds out what became of them.</summary>
/// <param name="connection">The connection to signal over.</param>
/// <param name="options">Whom to spare, and so on.</param>
/// <param name="waits">The waits for which the way is cleared: nobody is signalled once they are over. Null for none.</param>
/// <param name="async">Whether to run asynchronously.</param>
/// <param name="stop">Ends the grace early and keeps what follows from beginning; what was done is told.</param>
/// <param name="cancellationToken">Ends everything.</param>
internal sealed class PgClearing(
    NpgsqlConnection connection, PgClearOptions options, IReadOnlyCollection<PgLock>? waits, bool async, CancellationToken stop,
    CancellationToken cancellationToken)
{
    private const short Look = 0;
    private const short Cancel = 1;
    private const short Terminate = 2;

    // A session is known by its process id and its start together, because a process id is used again. It may have gone on to other work,
    // so it is signalled only while it still has one of the locks for which it was picked, held or waited for as before. Who may signal
    // whom is asked first, as pg_signal_backend checks it (src/backend/storage/ipc/signalfuncs.c), because its refusal is an error, which
    // would leave the others unsignalled and cost the caller's transaction. A statement_timeout during the pause would cost that, too, so
    // the pause is no longer than a quarter of it.
    private const string Sql = $"""
        select q.*
        from (
          select
            case when pg_catalog.pg_sleep(case when t.seconds = 0 then $7 else least($7, t.seconds / 4) end) is null then true
              else pg_catalog.pg_stat_clear_snapshot() is null end as failed
          from (
            select s.setting::double precision / 1000 as seconds
            from pg_catalog.pg_settings as s
            where s.name = 'statement_timeout') as t
          offset 0) as c
        cross join lateral (
          with locks as materialized (
            select l.pid, l.mode, l.granted, {PgLock.TargetSql} as target
            from pg_catalog.pg_locks as l
            where not c.failed),
          wanted as (
            select *
            from rows from (
              pg_catalog.unnest($1::pg_catalog.text::int[]),
              pg_catalog.unnest($2::pg_catalog.text::int[]),
              pg_catalog.unnest($3::pg_catalog.text::timestamp with time zone[]),
              pg_catalog.unnest($4::pg_catalog.text::pg_catalog.text[]),
              pg_catalog.unnest($5::pg_catalog.text::pg_catalog.text[]),
              pg_catalog.unnest($6::pg_catalog.text::boolean[])) as w (number, pid, start, target, mode, granted)),
          sessions as materialized (
            select
              t.number,
              t.pid,
              a.pid is not null as present,
              exists (
                select 1
                from locks as l
                join wanted as w on w.pid = l.pid and w.target = l.target and w.mode = l.mode and w.granted = l.granted
                where w.number = t.number) as holding,
              me.rolsuper
                or (r.oid is not null
                  and not r.rolsuper
                  and (pg_catalog.pg_has_role(r.oid, 'usage') or pg_catalog.pg_has_role('pg_signal_backend', 'usage')))
                or (a.backend_type = 'autovacuum worker'
                  and exists (
                    select 1
                    from pg_catalog.pg_roles as s
                    where s.rolname = 'pg_signal_autovacuum_worker' and pg_catalog.pg_has_role(s.oid, 'usage'))) as may,
              current_user::pg_catalog.text as role,
              t.pid = pg_catalog.pg_backend_pid() as own,
              $9 is null or exists (
                select 1
                from rows from (
                  pg_catalog.unnest($9::pg_catalog.text::int[]),
                  pg_catalog.unnest($10::pg_catalog.text::timestamp with time zone[]),
                  pg_catalog.unnest($11::pg_catalog.text::pg_catalog.text[])) as n (pid, start, target)
                join pg_catalog.pg_stat_activity as b on b.pid = n.pid and b.backend_start = n.start
                join locks as l on l.pid = n.pid and l.target = n.target and not l.granted) as needed
            from (select distinct w.number, w.pid, w.start from wanted as w) as t
            left join pg_catalog.pg_stat_activity as a on a.pid = t.pid and a.backend_start = t.start
            left join pg_catalog.pg_roles as r on r.oid = a.usesysid
            cross join (select rolsuper from pg_catalog.pg_roles where rolname = current_user) as me
            where not c.failed)
          select
            s.number, s.present, s.holding, s.may, s.role, s.own, s.needed,
            case when s.present and s.holding and s.may and s.needed and not s.own then
              case $8 when 1 then pg_catalog.pg_cancel_backend(s.pid) when 2 then pg_catalog.pg_terminate_backend(s.pid) end
            end as sent
          from sessions as s
          offset 0) as q
        """;

    private const string Own = "it is the session that asks";

    private static readonly TimeSpan ShortestPause = TimeSpan.FromMilliseconds(5);
    private static readonly TimeSpan LongestPause = TimeSpan.FromMilliseconds(250);

    public async ValueTask<PgClearResult> Clear(IReadOnlyCollection<PgLock> locks, PgSignal signal)
    {
        var cases = locks.GroupBy(@lock => (@lock.Pid, @lock.Session?.Since, @lock.PreparedTransaction))
            .Select(group => new Case([.. group]))
            .ToList();
        foreach (var @case in cases)
        {
            (@case.Outcome, @case.Reason) = Examine(@case.Locks[0]);
        }

        var open = cases.Where(@case => @case.Outcome is null).ToList();
        if (options.MaxSessions < open.Count)
        {
            throw new LockException(
                $"{open.Count.ToString(CultureInfo.InvariantCulture)} sessions would be signalled and PgClearOptions.MaxSessions allows "
                + $"{options.MaxSessions?.ToString(CultureInfo.InvariantCulture)}, so none was: narrow the filter, or allow more.");
        }

        if (options.DryRun)
        {
            await Send(open, Look).ConfigureAwait(false);
            foreach (var @case in open.Where(@case => @case.Outcome is null))
            {
                @case.Outcome = PgClearOutcome.Planned;
            }
        }
        else
        {
            if (signal is PgSignal.Cancel or PgSignal.CancelThenTerminate)
            {
                await SendAndWait(open, Cancel).ConfigureAwait(false);
            }

            if (signal is PgSignal.Terminate or PgSignal.CancelThenTerminate && !stop.IsCancellationRequested)
            {
                await SendAndWait(open, Terminate).ConfigureAwait(false);
            }
        }

        return new PgClearResult([.. cases.Select(@case => @case.Result())]);
    }

    private static bool IsReplication(string type) =>
        type is "walsender" or "walreceiver" or "slotsync worker" || type.StartsWith("logical replication", StringComparison.Ordinal);

    private static bool IsAutovacuum(string type) => type.StartsWith("autovacuum", StringComparison.Ordinal);

    // Returns what becomes of a session that is not signalled, and why; nulls for one that is to be signalled.
    private (PgClearOutcome? Outcome, string? Reason) Examine(PgLock @lock) => @lock switch
    {
        { PreparedTransaction: { } name } => (
            PgClearOutcome.Refused,
            "a prepared transaction has no session to signal: end it with ROLLBACK PREPARED "
            + $"'{name.Replace("'", "''", StringComparison.Ordinal)}'"),
        { Session: null } => (PgClearOutcome.AlreadyGone, null),
        { Session: { IsOwn: true } } => (PgClearOutcome.Spared, Own),
        { Session: { IsPartial: true } } => (
            PgClearOutcome.Refused,
            "this role may not see when it began, and so cannot be sure that it is still the same session: grant pg_read_all_stats"),
        { Session: var session } when session.User is { } user && options.ExceptUsers.Contains(user) =>
            (PgClearOutcome.Spared, "its user is among PgClearOptions.ExceptUsers"),
        { Session: var session } when session.IsOf(options.ExceptApplications) =>
            (PgClearOutcome.Spared, "its application is among PgClearOptions.ExceptApplications"),
        { Session.BackendType: { } type } when IsReplication(type) && !options.IncludeReplication =>
            (PgClearOutcome.Spared, "it is replication, and PgClearOptions.IncludeReplication is not set"),
        { Session.BackendType: { } type } when IsAutovacuum(type) && !options.IncludeAutovacuum =>
            (PgClearOutcome.Spared, "it is autovacuum, and PgClearOptions.IncludeAutovacuum is not set"),
        { Session.BackendType: { } type } when type is not ("client backend" or "parallel worker") && !IsReplication(type)
            && !IsAutovacuum(type) =>
            (PgClearOutcome.Spared, "it is a process of the server's own"),
        { Session.IsSuperuser: true } when !options.IncludeSuperusers =>
            (PgClearOutcome.Spared, "it is a superuser's, and PgClearOptions.IncludeSuperusers is not set"),
        _ => (null, null),
    };

    private async ValueTask SendAndWait(List<Case> cases, short signal)
    {
        var open = cases.Where(@case => @case.Outcome is null or PgClearOutcome.Remains).ToList();
        await Send(open, signal).ConfigureAwait(false);
        open.RemoveAll(@case => @case.Outcome is not null and not PgClearOutcome.Remains);
        var start = Stopwatch.GetTimestamp();
        for (var pause = ShortestPause; open.Count > 0; pause = 2 * pause < LongestPause ? 2 * pause : LongestPause)
        {
            var left = options.Grace - Stopwatch.GetElapsedTime(start);
            await Send(open, Look, left > pause ? pause : left > TimeSpan.Zero ? left : TimeSpan.Zero).ConfigureAwait(false);
            open.RemoveAll(@case => @case.Outcome is not null and not PgClearOutcome.Remains);
            // Who was terminated and has let go is on the way out, and the end is told.
            if (left <= TimeSpan.Zero || (stop.IsCancellationRequested && !open.Exists(@case => @case.HasLetGo)))
            {
                break;
            }
        }

        foreach (var @case in open)
        {
            @case.Outcome = @case.HasLetGo ? PgClearOutcome.LetGo : PgClearOutcome.Remains;
            @case.Reason = @case.HasLetGo ? null : @case.Signal == PgSignal.Terminate
                ? $"it has not noticed within {options.Grace.InWords()}: it may be rolling back, or stuck in the operating system"
                : "a cancel ends a running statement, not a transaction or a session that is idle: terminate it";
        }
    }

    // The server waits for the pause, so that it costs neither a thread nor a timer here.
    private async ValueTask Send(List<Case> cases, short signal, TimeSpan pause = default)
    {
        if (cases.Count == 0)
        {
            return;
        }

        using var command = new NpgsqlCommand(Sql, connection);
        var wanted = cases.SelectMany((@case, number) => @case.Locks.Select(@lock => (Number: number, Lock: @lock))).ToList();
        AddArray(wanted.Select(one => one.Number));
        AddArray(wanted.Select(one => one.Lock.Pid!.Value));
        AddArray(wanted.Select(one => Start(one.Lock)));
        AddArray(wanted.Select(one => one.Lock.Target));
        AddArray(wanted.Select(one => one.Lock.Mode.InPgLocks()));
        AddArray(wanted.Select(one => one.Lock.Granted));
        Add(NpgsqlDbType.Double, pause.TotalSeconds);
        Add(NpgsqlDbType.Smallint, signal);
        AddArray(waits?.Select(wait => wait.Pid!.Value));
        AddArray(waits?.Select(Start));
        AddArray(waits?.Select(wait => wait.Target));
        var answers = await command.ReadRows(
            reader => (
                Number: reader.GetInt32(0),
                Present: reader.GetBoolean(1),
                Holding: reader.GetBoolean(2),
                May: reader.GetBoolean(3),
                Role: reader.GetString(4),
                Own: reader.GetBoolean(5),
                Needed: reader.GetBoolean(6),
                Sent: !reader.IsDBNull(7) && reader.GetBoolean(7)),
            async,
            cancellationToken).ConfigureAwait(false);
        foreach (var (number, present, holding, may, role, own, needed, sent) in answers)
        {
            Note(cases[number], signal, present, holding, may, role, own, needed, sent);
        }

        void AddArray<T>(IEnumerable<T>? values) => Add(NpgsqlDbType.Text, values is null ? null : PgArray.Text(values));

        static DateTimeOffset Start(PgLock @lock) => @lock.Session!.Since!.Value.ToUniversalTime();

        void Add(NpgsqlDbType type, object? value) =>
            command.Parameters.Add(new NpgsqlParameter { NpgsqlDbType = type, Value = value ?? DBNull.Value });
    }

    private void Note(Case @case, short signal, bool present, bool holding, bool may, string role, bool own, bool needed, bool sent)
    {
        if (sent)
        {
            @case.Signal = signal == Cancel ? PgSignal.Cancel : PgSignal.Terminate;
            Log.Signalled(QuietLogger.Of(options.Logger), @case.Locks[0].ToString(), @case.Signal.Value);
        }
        else if (present && !holding && @case.Signal == PgSignal.Terminate)
        {
            // The session is ending: it lets go of its locks before it is gone.
            @case.HasLetGo = true;
        }
        else if (!present || !holding)
        {
            @case.Reason = null;
            @case.Outcome = @case.Signal is null ? PgClearOutcome.AlreadyGone : present ? PgClearOutcome.LetGo : PgClearOutcome.Ended;
        }
        else if (own)
        {
            (@case.Outcome, @case.Reason) = (PgClearOutcome.Spared, Own);
        }
        else if (!needed && @case.Signal != PgSignal.Terminate)
        {
            @case.Reason = null;
            @case.Outcome = PgClearOutcome.NotNeeded;
        }
        else if (!may && @case.Signal is null)
        {
            var session = @case.Locks[0].Session!;
            @case.Outcome = PgClearOutcome.Refused;
            @case.Reason = session.IsSuperuser
                ? $"role '{role}' is no superuser, and only a superuser may signal a superuser's session"
                : session.User is { } user
                ? $"role '{role}' may not signal sessions of role '{user}': grant it that role, or pg_signal_backend"
                : $"role '{role}' may not signal it: that takes a superuser or, for autovacuum from PostgreSQL 18 on, "
                    + "pg_signal_autovacuum_worker";
        }
    }

    /// <summary>A session, and what is known of its fate.</summary>
    private sealed class Case(IReadOnlyList<PgLock> locks)
    {
        public IReadOnlyList<PgLock> Locks { get; } = locks;

        public PgClearOutcome? Outcome { get; set; }

        public PgSignal? Signal { get; set; }

        public bool HasLetGo { get; set; }

        public string? Reason { get; set; }

        public PgClearedSession Result() => new(Locks, Outcome ?? PgClearOutcome.Remains, Signal, Reason);
    }
}
