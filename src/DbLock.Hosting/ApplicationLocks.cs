using System.Data.Common;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>
/// The locks of one database: leases where they are asked for; else of a pool where the engine can carry many locks on one connection; else
/// leases, or where the engine has none a connection for each lock. The engine is asked once which it is.
/// </summary>
/// <remarks>These are no async methods, so that the pool sees what is acquired around a wait.</remarks>
internal sealed class ApplicationLocks : ILockSource
{
    private readonly DbDataSource _dataSource;
    private readonly LockPool? _pool;
    private readonly DbLockOptions _options;
    private readonly LockOptions _lockOptions;
    private readonly System.Threading.Lock _gate = new();
    private volatile ILockSource? _chosen;
    private Task<ILockSource>? _choosing;

    /// <summary>Initializes a new instance.</summary>
    /// <param name="dataSource">Where the connections come from.</param>
    /// <param name="pool">The pool, where the engine can carry one; null where leases are asked for.</param>
    /// <param name="options">What is asked for.</param>
    /// <param name="logger">Where to log; null for nowhere.</param>
    public ApplicationLocks(DbDataSource dataSource, LockPool? pool, DbLockOptions options, ILogger? logger)
    {
        (_dataSource, _pool, _options, _lockOptions) = (dataSource, pool, options, options.ToLockOptions(logger));
        HeldLock.CheckScope(_lockOptions);
        _chosen = options.Scope == LockScope.Lease ? Locks(_lockOptions) : null;
    }

    /// <summary>Gets what is known of its locks without asking the server, for people.</summary>
    public LocksState State
    {
        get
        {
            if (_pool?.State is (var held, { } answered))
            {
                return new(held, answered, Late: 0);
            }

            var (leases, late) = LeaseSource.Of(_dataSource, _options.Interface, _lockOptions).State;
            return new(leases, Answered: null, late);
        }
    }

    public ValueTask<IHeldLock> AcquireLockAsync(
        LockKey key, TimeSpan? timeout = null, bool shared = false, CancellationToken cancellationToken = default) =>
        _chosen is { } chosen
            ? chosen.AcquireLockAsync(key, timeout, shared, cancellationToken)
            : AcquireFirst(key, timeout ?? Timeout.InfiniteTimeSpan, shared, cancellationToken);

    public ValueTask<IHeldLock?> TryAcquireLockAsync(
        LockKey key, TimeSpan timeout = default, bool shared = false, CancellationToken cancellationToken = default) =>
        _chosen is { } chosen
            ? chosen.TryAcquireLockAsync(key, timeout, shared, cancellationToken)
            : TryFirst(key, timeout, shared, cancellationToken);

    private async ValueTask<IHeldLock> AcquireFirst(LockKey key, TimeSpan timeout, bool shared, CancellationToken cancellationToken)
    {
        var (chosen, left) = await Choose(key, timeout, cancellationToken).ConfigureAwait(false);
        return await chosen.AcquireLockAsync(key, left, shared, cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask<IHeldLock?> TryFirst(LockKey key, TimeSpan timeout, bool shared, CancellationToken cancellationToken)
    {
        var (chosen, left) = await Choose(key, timeout, cancellationToken).ConfigureAwait(false);
        return await chosen.TryAcquireLockAsync(key, left, shared, cancellationToken).ConfigureAwait(false);
    }

    // All who ask before it is known wait for one connection.
    private async ValueTask<(ILockSource Chosen, TimeSpan Left)> Choose(LockKey key, TimeSpan timeout, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(key);
        Admission.CheckTimeout(timeout, key, TimeSpan.MaxValue, dialect: null);
        cancellationToken.ThrowIfCancellationRequested();
        var limit = Limit.Of(timeout, cancellationToken);
        Task<ILockSource> choosing;
        lock (_gate)
        {
            choosing = _choosing is null or { IsCompleted: true, IsCompletedSuccessfully: false } ? _choosing = Ask(key) : _choosing;
        }

        try
        {
            var chosen = await choosing.WaitAsync(limit.LeftToAnswer, cancellationToken).ConfigureAwait(false);
            return (chosen, timeout > TimeSpan.Zero ? limit.LeftToWait : timeout);
        }
        catch (TimeoutException e)
        {
            throw Refusals.NoConnection(key, timeout, e);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            // The opening was cancelled by itself, as by what fetches a password.
            throw LeaseRefusals.NotConnected(key, e);
        }
        catch (OperationCanceledException e) when (cancellationToken.IsCancellationRequested)
        {
            throw Refusals.Cancelled(key, e, cancellationToken);
        }
    }

    private async Task<ILockSource> Ask(LockKey key)
    {
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        var limit = Limit.Of(TrustWindow.Length, CancellationToken.None);
        var connection = await OwnConnection.Open(_dataSource, key, limit, async: true).ConfigureAwait(false);
        await using (connection.ConfigureAwait(false))
        {
            var lockInterface = _options.Interface ?? LockInterface.For(connection);
            var dialect = _options.Dialect ?? Session.Of(connection).Dialect(connection, lockInterface, transaction: null);
            return _chosen = Choose(dialect);
        }
    }

    private ILockSource Choose(LockDialect dialect)
    {
        if (dialect is { Carrier: null, Leases: not null })
        {
            return Locks(_lockOptions with { Scope = LockScope.Lease });
        }

        if (_options.SaysLeases)
        {
            throw new InvalidOperationException(
                "DbLockOptions.Lease, ClockMargin and LeaseTable are for leases, and AddDbLock was not told to take leases: set Scope to "
                + "Lease, or leave them out.");
        }

        return dialect.Carrier is null ? Locks(_lockOptions) : _pool!;
    }

    private ILockSource Locks(LockOptions options) => _dataSource.CreateLockSource(_options.Interface, options);
}
