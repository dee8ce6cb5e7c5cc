using System.Data.Common;
using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace DbLock;

/// <summary>
/// The connection on which a pool's locks are held. It serves one caller at a time, but may be discarded from another thread at any time.
/// </summary>
internal sealed class Carrier
{
    private const int Idle = 0;
    private const int Asked = 1;
    private const int Discarded = 2;

    // How long the server may owe an answer while nothing is held, before another connection takes this one's place.
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
        Where = (connection.Database, dialect);
        _lastAnswer = _lastCount = Stopwatch.GetTimestamp();
        _trust.Ask(_lastAnswer);
        _trust.Confirm();
    }

    public DbConnection Connection { get; }

    public ILockDriver Driver { get; }

    public LockDialect Dialect { get; }

    public LockCarrier Says { get; }

    /// <summary>
    /// Gets the database and the dialect, for telemetry. The database is read when nothing is asked: an ODBC connection tells it only after
    /// the answer that it waits for.
    /// </summary>
    public (string? Database, LockDialect? Dialect) Where { get; }

    /// <summary>Gets how long ago the server last answered, in ticks.</summary>
    public long SinceAnswer => Stopwatch.GetElapsedTime(_lastAnswer).Ticks;

    /// <summary>Gets how long ago the server last said how many locks are held, in ticks.</summary>
    public long SinceCount => Stopwatch.GetElapsedTime(_lastCount).Ticks;

    /// <summary>Makes a carrier of an open connection. It throws if the server's locks cannot be trusted.</summary>
    public static async ValueTask<(Carrier Carrier, long Room)> Open(
        DbConnection connection, LockInterface? lockInterface, LockOptions options)
    {
        lockInterface ??= LockInterface.For(connection);
        var dialect = options.Dialect ?? Session.Of(connection).Dialect(connection, lockInterface, null);
        var says = dialect.Carrier ?? throw new NotSupportedException(
            $"{dialect.Name} cannot carry many locks on one connection here: "
            + "use dataSource.AcquireLock, which takes a connection for each lock.");
        if (options.Fencing && !dialect.HasFencing)
        {
            throw Refusals.NoFencing(dialect);
        }

        var sessionId = options.TrustPooler ? null : lockInterface.Driver.SessionId(connection);
        var carrier = new Carrier(connection, lockInterface.Driver, dialect, says, sessionId is not null, options.Fencing);
        var room = says.ReadRoom(await carrier.Execute(says.Look(sessionId)).ConfigureAwait(false));
        carrier._settings = await SessionSettings.Set(
            connection, lockInterface.Driver, dialect, options, CancellationToken.None).ConfigureAwait(false);
        return (carrier, room);
    }

    /// <summary>Asks for how many more locks the server has room.</summary>
    public async ValueTask<long> Look() => Says.ReadRoom(await Execute(Says.Look(null)).ConfigureAwait(false));

    /// <summary>Gets whether the driver has been seen to answer asynchronously, so that a call does not block the thread.</summary>
    public bool IsAsynchronous { get; private set; }

    /// <summary>Gets how long ago the question was sent that the server has last answered.</summary>
    public TimeSpan Age => _trust.Age(Stopwatch.GetTimestamp());

    /// <summary>
    /// Gets whether the last answer is old enough that <see cref="IsSilent"/> must be looked at. It is counted from when the question was
    /// sent.
    /// </summary>
    public bool MayBeSilent => _trust.Age(Stopwatch.GetTimestamp()) > Patience;

    /// <summary>
    /// Says whether the connection is to be given up. While something is held, that is when the last answer is too old to be trusted; while
    /// nothing is held, when an answer is overdue.
    /// </summary>
    public bool IsSilent(bool holds) => holds
        ? _trust.HasRunOut(Stopwatch.GetTimestamp())
        : Volatile.Read(ref _state) == Asked && _trust.Owed(Stopwatch.GetTimestamp()) > Patience;

    /// <summary>Sends a round: it lets go of locks, tells the listeners, and tries to acquire others.</summary>
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

    /// <summary>Asks which locks of a round are held. The locks that were to be let go come first.</summary>
    public ValueTask<string> AreHeld(PoolRound round)
    {
        var (releases, acquires) = round.ToCarry();
        return AreHeld([.. releases, .. acquires]);
    }

    /// <summary>Asks which of some locks are held. The answer has a digit for each.</summary>
    public async ValueTask<string> AreHeld(IReadOnlyList<CarriedLock> locks) =>
        locks.Count == 0 ? ""
        : await Execute(Says.AreHeld(locks)).ConfigureAwait(false) is string held && held.Length == locks.Count ? held
        : throw LockCarrier.NotAnswered();

    /// <summary>Says whether an error means that the statement was cancelled, by somebody or by a limit. It may be sent again.</summary>
    public bool IsCancel(Exception error) => Dialect.Read(Driver.Read(error)) is LockOutcome.Cancelled;

    /// <summary>Says whether the server would answer with the same error again.</summary>
    public bool IsFinal(Exception error) =>
        Dialect.Read(Driver.Read(error)) is not (LockOutcome.Cancelled or LockOutcome.Unknown or LockOutcome.ConnectionLost);

    /// <summary>Says whether an error means that the server's lock table is full.</summary>
    public bool IsFull(Exception error) => Says.IsFull(Driver.Read(error));

    /// <summary>
    /// Ends the session. If the server owes an answer, the connection is closed when the answer comes, or when nobody waits for it any
    /// more.
    /// </summary>
    public void Discard()
    {
        if (Interlocked.Exchange(ref _state, Discarded) == Idle)
        {
            Close();
        }
    }

    /// <summary>Returns the error of a caller who waited for an answer of a silent server.</summary>
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
            // A connection that cannot even be closed is left to the garbage collector.
        }
    }

    /// <summary>
    /// Lets go of everything in the session and gives the connection back to its data source, or ends the session if that fails.
    /// </summary>
    /// <returns>Whether everything that was held was let go of here, so that nothing was lost before.</returns>
    public async ValueTask<bool> End()
    {
        var isClean = false;
        try
        {
            // This is done before the close: a provider's pool keeps the session with its locks until somebody uses it again.
            if (Says.ReleaseAll is not { } releaseAll)
            {
                Discard();
                return true;
            }

            await Execute(releaseAll).ConfigureAwait(false);
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
            var mayPrepare = _isDirect && Says.MayPrepare;
            if ((statement.MayPrepare, statement.Limit) != (mayPrepare, TrustWindow.Length))
            {
                statement = statement with { MayPrepare = mayPrepare, Limit = TrustWindow.Length };
            }

            var execution = Driver.Execute(Connection, null, statement, async: true, CancellationToken.None);
            IsAsynchronous |= !execution.IsCompleted;
            var answer = await execution.ConfigureAwait(false);
            _trust.Confirm();
            _lastAnswer = Stopwatch.GetTimestamp();
            if (_trust.HasRunOut(_lastAnswer))
            {
                // The answer comes too late to be trusted: it says what was held when the question was sent.
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
