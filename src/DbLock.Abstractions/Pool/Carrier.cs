using System.Data.Common;
using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>The connection on which a pool's locks are held. One caller at a time; whoever discards it may come at any time.</summary>
internal sealed class Carrier
{
    private const int Idle = 0;
    private const int Asked = 1;
    private const int Discarded = 2;

    // How long a session that holds nothing may owe an answer before another takes its place.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    private readonly bool _isDirect;
    private readonly bool _fencing;
    private SessionSettings? _settings;
    private int _state;
    private TrustWindow _trust;
    private long _lastAnswer;
    private long _lastCount;

    private Carrier(DbConnection connection, ILockDriver driver, LockDialect dialect, LockCarrier says, bool isDirect, bool fencing)
    {
        (Connection, Driver, Dialect, Says, _isDirect, _fencing) = (connection, driver, dialect, says, isDirect, fencing);
        _lastAnswer = _lastCount = Stopwatch.GetTimestamp();
        _trust.Ask(_lastAnswer);
        _trust.Confirm();
    }

    public DbConnection Connection { get; }

    public ILockDriver Driver { get; }

    public LockDialect Dialect { get; }

    public LockCarrier Says { get; }

    /// <summary>Gets how long ago the server last answered, in ticks.</summary>
    public long SinceAnswer => Stopwatch.GetElapsedTime(_lastAnswer).Ticks;

    /// <summary>Gets how long ago the server last said how many locks are held, in ticks.</summary>
    public long SinceCount => Stopwatch.GetElapsedTime(_lastCount).Ticks;

    /// <summary>Makes a carrier of an open connection, unless its server's locks cannot be trusted.</summary>
    public static async ValueTask<(Carrier Carrier, long Room)> Open(
        DbConnection connection, LockInterface? lockInterface, LockOptions options)
    {
        lockInterface ??= LockInterface.For(connection);
        var dialect = options.Dialect ?? Session.Of(connection).Dialect(connection, lockInterface, null);
        var says = dialect.Carrier ?? throw new NotSupportedException(
            $"{dialect.Name} cannot carry many locks on one connection here: "
            + "use dataSource.AcquireLock, which takes a connection for each lock.");
        var sessionId = options.TrustPooler ? null : lockInterface.Driver.SessionId(connection);
        var carrier = new Carrier(connection, lockInterface.Driver, dialect, says, sessionId is not null, options.Fencing);
        var room = says.ReadRoom(await carrier.Execute(says.Look(sessionId)).ConfigureAwait(false));
        carrier._settings = await SessionSettings.Set(
            connection, lockInterface.Driver, dialect, options, CancellationToken.None).ConfigureAwait(false);
        return (carrier, room);
    }

    /// <summary>Asks for how many more locks the server has room.</summary>
    public async ValueTask<long> Look() => Says.ReadRoom(await Execute(Says.Look(null)).ConfigureAwait(false));

    /// <summary>Gets whether the driver has been seen to answer later, so that no thread is blocked by a call.</summary>
    public bool IsAsynchronous { get; private set; }

    /// <summary>Gets whether the server's last answer, counted from the question, is old enough to look closer.</summary>
    public bool MayBeSilent => _trust.Age(Stopwatch.GetTimestamp()) > Patience;

    /// <summary>
    /// Says whether the server's last answer, counted from the question, is too old to believe in what is held; or, where nothing is held,
    /// whether an answer that it owes is overdue.
    /// </summary>
    public bool IsSilent(bool holds) => holds
        ? _trust.HasRunOut(Stopwatch.GetTimestamp())
        : Volatile.Read(ref _state) == Asked && _trust.Owed(Stopwatch.GetTimestamp()) > Patience;

    /// <summary>Lets go of locks, rings, and takes others.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<CarrierAnswer> Carry(PoolRound round)
    {
        var (releases, acquires) = round.ToCarry();
        var answer = LockCarrier.Read(
            await Execute(Says.Carry(releases, acquires, round.Bell, _fencing, round.Beats)).ConfigureAwait(false));
        _lastCount = round.Beats ? _lastAnswer : _lastCount;
        var isWhole = answer.Released.Length == releases.Count && answer.Acquired.Length == acquires.Count;
        return isWhole ? answer : throw LockCarrier.NotAnswered();
    }

    /// <summary>Asks which of a round's locks are held, first those that were to be let go.</summary>
    public ValueTask<string> AreHeld(PoolRound round)
    {
        var (releases, acquires) = round.ToCarry();
        return AreHeld([.. releases, .. acquires]);
    }

    /// <summary>Asks which of some locks are held: a digit for each.</summary>
    public async ValueTask<string> AreHeld(IReadOnlyList<CarriedLock> locks) =>
        locks.Count == 0 ? ""
        : await Execute(Says.AreHeld(locks)).ConfigureAwait(false) is string held && held.Length == locks.Count ? held
        : throw LockCarrier.NotAnswered();

    /// <summary>Says whether an error means that somebody or a limit cancelled the statement, which may be said again.</summary>
    public bool IsCancel(Exception error) => Dialect.Read(Driver.Read(error)) is LockOutcome.Cancelled;

    /// <summary>Says whether the server would say the same again.</summary>
    public bool IsFinal(Exception error) =>
        Dialect.Read(Driver.Read(error)) is not (LockOutcome.Cancelled or LockOutcome.Unknown or LockOutcome.ConnectionLost);

    /// <summary>Says whether an error means that the server's lock table is full.</summary>
    public bool IsFull(Exception error) => Says.IsFull(Driver.Read(error));

    /// <summary>Ends the session; while it owes an answer, when that has come or is waited for no more.</summary>
    public void Discard()
    {
        if (Interlocked.Exchange(ref _state, Discarded) == Idle)
        {
            Close();
        }
    }

    /// <summary>Returns the error of who waited for its answer.</summary>
    public static TimeoutException Silence() => new(
        "The server has not answered on the connection of a LockPool for too long. Its locks count as lost, "
        + "and another connection takes its place.");

    private void Close()
    {
        try
        {
            Driver.Discard(Connection);
        }
        catch (Exception)
        {
            // A connection that cannot even be closed is of no more use to anybody.
        }
    }

    /// <summary>Leaves nothing of the pool in the session, and gives it back, or ends it.</summary>
    /// <returns>Whether all that was held was let go by us.</returns>
    public async ValueTask<bool> End()
    {
        var isClean = false;
        try
        {
            // A pooled session keeps its locks until somebody uses it again.
            await Execute(Says.ReleaseAll).ConfigureAwait(false);
            isClean = true;
            if (_settings is not null)
            {
                await Execute(_settings.Undo).ConfigureAwait(false);
            }

            await Connection.DisposeAsync().ConfigureAwait(false);
        }
        catch (Exception)
        {
            Discard();
        }

        return isClean;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<object?> Execute(LockStatement statement)
    {
        _trust.Ask(Stopwatch.GetTimestamp());
        if (Interlocked.CompareExchange(ref _state, Asked, Idle) != Idle)
        {
            throw Silence();
        }

        try
        {
            statement = statement with { MayPrepare = _isDirect, Limit = TrustWindow.Length };
            var execution = Driver.Execute(Connection, null, statement, async: true, CancellationToken.None);
            IsAsynchronous |= !execution.IsCompleted;
            var answer = await execution.ConfigureAwait(false);
            _trust.Confirm();
            _lastAnswer = Stopwatch.GetTimestamp();
            if (_trust.HasRunOut(_lastAnswer))
            {
                // What it says was so, once.
                Discard();
                throw Silence();
            }

            return answer;
        }
        finally
        {
            if (Interlocked.CompareExchange(ref _state, Idle, Asked) != Asked)
            {
                Close();
            }
        }
    }
}
