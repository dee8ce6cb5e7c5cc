using System.Data;
using System.Globalization;
using Npgsql;

namespace DbLock;

/// <summary>The priority of a session over those who hold what it waits for, until it is disposed.</summary>
/// <remarks>
/// <para>A second connection looks, at every interval, whether the session waits for a lock, and clears the holders that match. It acts
/// only while the session waits, for as many waits as there are.</para>
/// <para><b>Errors.</b> What goes wrong beside the body is in <see cref="Error"/> and in the log, and <see cref="StopAsync"/> throws it.
/// <see cref="DisposeAsync"/> does not: it would hide the body's own exception.</para>
/// </remarks>
public sealed class PgPriority : IAsyncDisposable
{
    private static readonly TimeSpan ShortestInterval = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan LongestInterval = TimeSpan.FromDays(1);

    private readonly CancellationTokenSource _stop = new();
    private readonly Dictionary<(int?, DateTimeOffset?, string?), PgClearedSession> _cleared = [];
    private readonly NpgsqlConnection _side;
    private readonly PgPriorityOptions _options;
    private readonly int _pid;
    private readonly DateTimeOffset _start;
    private readonly Task _looking;

    private PgPriority(NpgsqlConnection side, PgPriorityOptions options, int pid, DateTimeOffset start)
    {
        (_side, _options, _pid, _start) = (side, options, pid, start);
        _looking = LookAndClear();
    }

    /// <summary>Gets what was done so far: for each session that was found in the way, what became of it at last.</summary>
    public PgClearResult Cleared
    {
        get
        {
            lock (_cleared)
            {
                return new PgClearResult([.. _cleared.Values]);
            }
        }
    }

    /// <summary>Gets what went wrong beside the body, and ended the priority early; null when nothing did.</summary>
    public Exception? Error { get; private set; }

    /// <summary>Ends the priority: when this is done, nobody is signalled any more.</summary>
    /// <returns>What was done.</returns>
    /// <exception cref="LockException">The priority had ended early; the inner exception says why.</exception>
    public async Task<PgClearResult> StopAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _looking.ConfigureAwait(false);
        return Error is null
            ? Cleared
            : throw new LockException(
                $"Who blocks the session with pid {_pid.ToString(CultureInfo.InvariantCulture)} could not be looked for to the end: its "
                + $"waits took as long as they took. {Error.Message}",
                Error);
    }

    /// <summary>Ends the priority: when this is done, nobody is signalled any more. It does not throw.</summary>
    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _looking.ConfigureAwait(false);
    }

    internal static async ValueTask<PgPriority> Start(
        NpgsqlConnection connection, PgPriorityOptions? options, bool async, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(connection);
        options ??= PgPriorityOptions.Default;
        PgClearExtensions.Check(options.Signal, options.Clear);
        if (options.Interval < ShortestInterval || options.Interval > LongestInterval)
        {
            throw new ArgumentOutOfRangeException(
                nameof(options),
                options.Interval,
                "PgPriorityOptions.Interval must lie between ten milliseconds and a day.");
        }

        if (connection.State != ConnectionState.Open)
        {
            throw new InvalidOperationException(
                $"The connection is {connection.State}, not open: open it before its session is given priority.");
        }

        if (options.Filter is { Granted: false } or { MinWait: not null })
        {
            throw new ArgumentException(
                "PgPriorityOptions.Filter looks at locks that are held: Granted = false and MinWait match none of them. Leave them out.",
                nameof(options));
        }

        var pid = NpgsqlLockInterface.Instance.Driver.SessionId(connection);
        if (pid is null or -1)
        {
            throw new LockException(
                "With Npgsql's Multiplexing a connection has no session of its own that could be given priority: use a connection string "
                + "without it.");
        }

        // The second connection leads to the server of the first, though the connection string may name several, and comes from no pool,
        // which may be exhausted. Npgsql keeps what it needs for a connection string for ever, so this one must be the same each time.
        var address = new NpgsqlConnectionStringBuilder(connection.ConnectionString)
        {
            TargetSessionAttributes = null,
            LoadBalanceHosts = false,
            Host = connection.Host,
            Port = connection.Port,
            Database = connection.Database,
            Pooling = false,
            Multiplexing = false,
            Enlist = false,
            ApplicationName = "dblock-priority",
        }.ConnectionString;
        var side = async
            ? await connection.CloneWithAsync(address, cancellationToken).ConfigureAwait(false)
            : connection.CloneWith(address);
        try
        {
            if (async)
            {
                await side.OpenAsync(cancellationToken).ConfigureAwait(false);
            }
            else
            {
                side.Open();
            }

            return new PgPriority(side, options, pid.Value, await Find(side, pid.Value, async, cancellationToken).ConfigureAwait(false));
        }
        catch
        {
            // It is not pooled, so that disposing of it waits for nothing.
            side.Dispose();
            throw;
        }
    }

    private static async ValueTask<DateTimeOffset> Find(NpgsqlConnection side, int pid, bool async, CancellationToken cancellationToken)
    {
        // If a pooler is in the way of the first connection, it is in the way of the second, too, and neither's pid is the server's. The
        // role's timeouts must not end the second connection while it idles, nor cut the pause in which it waits.
        using var command = new NpgsqlCommand(
            """
            select
              a.backend_start,
              pg_catalog.set_config('application_name', 'dblock-priority ' || a.pid, false),
              (select pg_catalog.count(pg_catalog.set_config(s.name, '0', false))
                from pg_catalog.pg_settings as s
                where s.name in ('statement_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout'))
            from pg_catalog.pg_stat_activity as a
            where a.pid = $1 and a.usename = session_user and pg_catalog.pg_backend_pid() = $2
            """,
            side);
        command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = pid });
        command.Parameters.Add(new NpgsqlParameter<int> { TypedValue = side.ProcessID });
        var starts = await command.ReadRows(
            reader => reader.GetFieldValue<DateTimeOffset>(0), async, cancellationToken).ConfigureAwait(false);
        return starts is [var start]
            ? start
            : throw new LockException(
                $"The server has no session with pid {pid.ToString(CultureInfo.InvariantCulture)} that is this connection's: a "
                + "connection pooler stands between. Connect to the server directly to give a session priority.");
    }

    private async Task LookAndClear()
    {
        try
        {
            await using (_side.ConfigureAwait(false))
            {
                while (!_stop.IsCancellationRequested)
                {
                    var (blocking, waits) = await Blocking().ConfigureAwait(false);
                    if (blocking.Count > 0 && !_stop.IsCancellationRequested)
                    {
                        var clearing = new PgClearing(_side, _options.Clear, waits, async: true, _stop.Token, CancellationToken.None);
                        Keep(await clearing.Clear(blocking, _options.Signal).ConfigureAwait(false));
                    }

                    await Task.Delay(_options.Interval, _stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                }
            }
        }
        catch (OperationCanceledException) when (_stop.IsCancellationRequested)
        {
            // The priority was ended in the middle of a look.
        }
        catch (Exception e)
        {
            Error = e;
            Log.PriorityFailed(QuietLogger.Of(_options.Clear.Logger), _pid, e);
        }
    }

    // Returns the locks that are in the way of this session, and its waits.
    private async Task<(IReadOnlyCollection<PgLock> Blocking, IReadOnlyCollection<PgLock> Waits)> Blocking()
    {
        var query = new PgLockQuery(_options.Filter ?? PgLockFilter.All, [], Contended: true, Queue: _options.BlockersOfBlockers);
        var graph = new PgWaitGraph(await query.Run(_side, async: true, _stop.Token).ConfigureAwait(false));
        var edges = (_options.BlockersOfBlockers ? graph.Edges.Concat(graph.QueueEdges) : graph.Edges).ToLookup(edge => edge.Waiting.Owner);

        // A worker of a parallel query waits for its leader, which lives as long as it does.
        var own = edges[_pid]
            .Where(edge => edge.Waiting.Session is { } session && (session.LeaderPid is not null || session.Since == _start))
            .ToList();
        var found = new HashSet<PgLock>(ReferenceEqualityComparer.Instance);
        var seen = new HashSet<object> { _pid };
        var next = new Queue<PgWaitEdge>(own);
        while (next.TryDequeue(out var edge))
        {
            var blocker = edge.Blocking.Owner;
            if (blocker.Equals(_pid))
            {
                // This is a deadlock, which the server solves.
                continue;
            }

            if (edge.IsHard && edge.Blocking.Matches)
            {
                found.Add(edge.Blocking);
            }

            if (_options.BlockersOfBlockers && seen.Add(blocker))
            {
                foreach (var further in edges[blocker])
                {
                    next.Enqueue(further);
                }
            }
        }

        return (found, [.. own.Select(edge => edge.Waiting).Distinct(ReferenceEqualityComparer.Instance).Cast<PgLock>()]);
    }

    // Keeps what was done to a session, even if a later look finds nothing more to do to it.
    private void Keep(PgClearResult result)
    {
        lock (_cleared)
        {
            foreach (var session in result)
            {
                var @lock = session.Locks[0];
                var key = (@lock.Pid, @lock.Session?.Since, @lock.PreparedTransaction);
                var isNothing = session is { Signal: null, Outcome: PgClearOutcome.NotNeeded or PgClearOutcome.AlreadyGone };
                if (session.Signal is not null || (!isNothing && _cleared.GetValueOrDefault(key) is not { Signal: not null }))
                {
                    _cleared[key] = session;
                }
            }
        }
    }
}
