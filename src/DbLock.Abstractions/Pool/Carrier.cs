using System.Data.Common;

namespace DbLock;

/// <summary>The connection on which a pool's locks are held. One caller at a time.</summary>
internal sealed class Carrier
{
    private readonly bool _isDirect;
    private readonly bool _fencing;
    private SessionSettings? _settings;

    private Carrier(DbConnection connection, ILockDriver driver, LockDialect dialect, LockCarrier says, bool isDirect, bool fencing)
    {
        (Connection, Driver, Dialect, Says, _isDirect, _fencing) = (connection, driver, dialect, says, isDirect, fencing);
        LastAnswer = Environment.TickCount64;
    }

    public DbConnection Connection { get; }

    public ILockDriver Driver { get; }

    public LockDialect Dialect { get; }

    public LockCarrier Says { get; }

    /// <summary>Gets when the server last answered, in milliseconds of <see cref="Environment.TickCount64"/>.</summary>
    public long LastAnswer { get; private set; }

    /// <summary>Makes a carrier of an open connection, unless its server's locks cannot be trusted.</summary>
    public static async ValueTask<(Carrier Carrier, long Room)> Open(DbConnection connection, LockInterface? lockInterface, LockOptions options)
    {
        lockInterface ??= LockInterface.For(connection);
        var dialect = options.Dialect ?? Session.Of(connection).Dialect(connection, lockInterface);
        var says = dialect.Carrier ?? throw new NotSupportedException(
            $"{dialect.Name} cannot carry many locks on one connection here: use dataSource.AcquireLock, which takes a connection for each lock.");
        var sessionId = options.TrustPooler ? null : lockInterface.Driver.SessionId(connection);
        var carrier = new Carrier(connection, lockInterface.Driver, dialect, says, sessionId is not null, options.Fencing);
        var room = says.ReadRoom(await carrier.Execute(says.Look(sessionId)).ConfigureAwait(false));
        carrier._settings = await SessionSettings.Set(connection, lockInterface.Driver, dialect, options, async: true).ConfigureAwait(false);
        return (carrier, room);
    }

    /// <summary>Asks for how many more locks the server has room.</summary>
    public async ValueTask<long> Look() => Says.ReadRoom(await Execute(Says.Look(null)).ConfigureAwait(false));

    public async ValueTask<(string Released, bool Rang, string Acquired, long Token)> Carry(PoolRound round, string bell)
    {
        var (releases, acquires) = WithMark(round);
        var answer = LockCarrier.Read(await Execute(Says.Carry(releases, acquires, bell, _fencing)).ConfigureAwait(false));
        return answer.Released.Length == releases.Count && answer.Acquired.Length == acquires.Count ? answer : throw LockCarrier.NotAnswered();
    }

    /// <summary>Asks which of a round's locks are held, first those that were to be let go.</summary>
    public async ValueTask<string> AreHeld(PoolRound round)
    {
        var (releases, acquires) = WithMark(round);
        List<CarriedLock> all = [.. round.Releases, .. round.Acquires];
        if (all.Count < releases.Count + acquires.Count)
        {
            all.Add(LockCarrier.Listening);
        }

        return all.Count == 0 ? "" : await Execute(Says.AreHeld(all)).ConfigureAwait(false) is string held && held.Length == all.Count ? held : throw LockCarrier.NotAnswered();
    }

    public async ValueTask<LockHolders?> Holders(LockKey key) =>
        Dialect.Holders(new LockRequest(key)) is { } question ? Dialect.ReadHolders(key, await Execute(question).ConfigureAwait(false)) : null;

    /// <summary>Says whether an error means that somebody or a limit cancelled the statement, which may be said again.</summary>
    public bool IsCancel(Exception error) => Dialect.Read(Driver.Read(error)) is LockOutcome.Cancelled;

    /// <summary>Says whether the server would say the same again.</summary>
    public bool IsFinal(Exception error) => Dialect.Read(Driver.Read(error)) is not (LockOutcome.Cancelled or LockOutcome.Unknown or LockOutcome.ConnectionLost);

    /// <summary>Says whether an error means that the server's lock table is full.</summary>
    public bool IsFull(Exception error) => Says.IsFull(Driver.Read(error));

    public void Discard()
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
        try
        {
            // A pooled session keeps its locks until somebody uses it again.
            await Execute(Says.End).ConfigureAwait(false);
            await SessionSettings.PutBack(_settings, async: true).ConfigureAwait(false);
            await Connection.DisposeAsync().ConfigureAwait(false);
            return true;
        }
        catch (Exception)
        {
            Discard();
            return false;
        }
    }

    private static (List<CarriedLock> Releases, List<CarriedLock> Acquires) WithMark(PoolRound round) => (
        round.Unmarks ? [.. round.Releases, LockCarrier.Listening] : round.Releases,
        round.Marks ? [.. round.Acquires, LockCarrier.Listening with { Group = -1 }] : round.Acquires);

    private async ValueTask<object?> Execute(LockStatement statement)
    {
        var answer = await Driver.Execute(Connection, null, statement with { MayPrepare = _isDirect }, async: true, CancellationToken.None).ConfigureAwait(false);
        LastAnswer = Environment.TickCount64;
        return answer;
    }
}
