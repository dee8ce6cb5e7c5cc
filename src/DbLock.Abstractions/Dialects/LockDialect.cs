namespace DbLock.Drivers;

/// <summary>
/// What is said to a server to lock: a dialect writes the statements and reads the answers of one engine, and never sees a connection.
/// </summary>
/// <remarks>
/// Statements other than <see cref="Acquire"/> answer 1 (or true) for yes and 0 (or false) for no, whatever the engine's own codes are.
/// <b>Threads.</b> A dialect has no state and is shared by every lock.
/// </remarks>
public abstract class LockDialect
{
    /// <summary>The answer to <see cref="Release"/> where a transaction that the lock does not know keeps the lock until it ends.</summary>
    public const int KeptByTransaction = 2;

    /// <summary>Gets the name of the engine, for messages.</summary>
    public abstract string Name { get; }

    /// <summary>Gets the engine's name in telemetry: OpenTelemetry's <c>db.system.name</c>.</summary>
    public virtual string SystemName => Name;

    /// <summary>Gets the longest finite timeout that the engine can count.</summary>
    public abstract TimeSpan MaxTimeout { get; }

    /// <summary>
    /// Gets whether <see cref="Acquire"/> fixes the snapshot of a REPEATABLE READ or SERIALIZABLE transaction before it waits, so that the
    /// last holder's work stays unseen.
    /// </summary>
    public virtual bool TakesSnapshot => false;

    /// <summary>
    /// Gets whether the statements can lock several keys at once (<see cref="LockKey.Keys"/>), all or none; false (default) refuses such
    /// keys.
    /// </summary>
    public virtual bool HasSeveral => false;

    /// <summary>
    /// Gets whether one statement can try several keys until one is free (<see cref="LockRequest.Any"/>). With false (default) the slots of
    /// a key are tried with a statement for each.
    /// </summary>
    public virtual bool HasAny => false;

    /// <summary>
    /// Gets what a grant's code is multiplied by where one of several keys is enough; which one is added, counted from 1.
    /// </summary>
    protected const int AnyFactor = 1024;

    /// <summary>
    /// Gets whether a lock belongs to the database in which it was taken, so that an equal name in another database is another lock, and
    /// whether a connection can change its database; false by default.
    /// </summary>
    public virtual bool IsPerDatabase => false;

    /// <summary>Says whether a server speaks this dialect.</summary>
    /// <param name="product">
    /// What the connection tells: its type's full name, the server's version and, where those are not enough, the product's name.
    /// </param>
    public abstract bool Speaks(string product);

    /// <summary>Returns the text by which the server tells one lock from another: two keys with the same identity are one lock.</summary>
    /// <param name="key">The key; a single one.</param>
    /// <exception cref="ArgumentException">The engine cannot lock this key.</exception>
    public abstract string Identify(LockKey key);

    /// <summary>Returns the statement that acquires, or tries to.</summary>
    /// <param name="request">What is asked.</param>
    /// <exception cref="NotSupportedException">The engine has no such lock.</exception>
    public abstract LockStatement Acquire(in LockRequest request);

    /// <summary>
    /// Returns the statement that puts the session back after a failed acquire: it lets go of a lock that was granted all the same. It has
    /// no command where there is nothing to put back.
    /// </summary>
    /// <param name="request">What was asked.</param>
    /// <param name="outcome">How the acquire ended, as far as is known. After some outcomes nothing can have been taken.</param>
    public abstract LockStatement Undo(in LockRequest request, LockOutcome outcome);

    /// <summary>Returns the statement that asks whether this session holds the lock.</summary>
    /// <param name="request">What was asked.</param>
    public abstract LockStatement IsHeld(in LockRequest request);

    /// <summary>
    /// Returns the statement that lets go of a lock of session scope. Its answer is 1 when the lock was held, 0 when it was not, and
    /// <see cref="KeptByTransaction"/> when it was and a transaction that the lock does not know keeps it until it ends.
    /// </summary>
    /// <param name="request">What was asked.</param>
    public abstract LockStatement Release(in LockRequest request);

    /// <summary>Gets the statement with which a session ends itself; null when the engine has none.</summary>
    public virtual LockStatement? EndSession => null;

    /// <summary>Returns the statement that asks who holds the lock; null (default) when the engine does not tell.</summary>
    /// <param name="request">What was asked.</param>
    public virtual LockStatement? Holders(in LockRequest request) => null;

    /// <summary>Says what the answer to <see cref="Holders"/> means.</summary>
    /// <param name="key">The key.</param>
    /// <param name="answer">The value that came back; null when none did.</param>
    public virtual LockHolders ReadHolders(LockKey key, object? answer) =>
        throw new NotSupportedException($"{Name} does not tell who holds a lock.");

    /// <summary>Reads everything that the answer to <see cref="Acquire"/> tells.</summary>
    /// <param name="request">What was asked.</param>
    /// <param name="answer">The value that came back; null when none did.</param>
    /// <exception cref="LockException">The server's locks cannot be trusted here; the message says why and what to do.</exception>
    public abstract LockReply Read(in LockRequest request, object? answer);

    /// <summary>
    /// Gets whether a grant can answer with a fencing token (<see cref="LockReply.FencingToken"/>). With false (default) locks with tokens
    /// are refused.
    /// </summary>
    public virtual bool HasFencing => false;

    /// <summary>
    /// Gets the statements of a session that carries the locks of a <see cref="LockPool"/>; null (default) when the engine cannot carry
    /// them.
    /// </summary>
    public virtual LockCarrier? Carrier => null;

    /// <summary>Gets the statements of leases (<see cref="LockScope.Lease"/>); null (default) where there are none.</summary>
    public virtual LeaseDialect? Leases => null;

    /// <summary>Gets whether there is anything to <see cref="Keep"/>; false by default.</summary>
    public virtual bool KeepsSessions => false;

    /// <summary>
    /// Returns a cheap statement that shows that the session lives. It is sent on a connection that only one lock uses, because such a lock
    /// ends with its session and with nothing else. Null (default) where <see cref="IsHeld"/> is as cheap.
    /// </summary>
    /// <param name="sessionId">The session that the client believes it speaks to.</param>
    public virtual LockStatement? IsAlive(int sessionId) => null;

    /// <summary>
    /// Returns the statement that gives a session, which only locks use, the settings with which it lasts. It sets them only if the session
    /// is the one that the client believes to speak to. Its answer is a text of what was before, or null when there is nothing to put back.
    /// Null (default) when the engine has no such settings.
    /// </summary>
    /// <param name="sessionId">The session.</param>
    /// <param name="told">
    /// What the session's application_name is to end with, and how many bytes are left for what stands before that. A null end leaves the
    /// name as it is.
    /// </param>
    public virtual LockStatement? Keep(int sessionId, (string? End, int Room) told) => null;

    /// <summary>
    /// Returns the statement that shows since when the lock is held whose name <see cref="Keep"/> has shown. It may be sent more than once.
    /// Null (default) when the engine has no place for it.
    /// </summary>
    /// <param name="sessionId">The session.</param>
    /// <param name="told">What the session's application_name ends with.</param>
    /// <param name="held">How long the lock has been held.</param>
    public virtual LockStatement? TellSince(int sessionId, string told, TimeSpan held) => null;

    /// <summary>Returns the statement that undoes <see cref="Keep"/>.</summary>
    /// <param name="before">The answer to <see cref="Keep"/>.</param>
    public virtual LockStatement PutBack(string before) => throw new NotSupportedException($"{Name} has nothing to put back.");

    /// <summary>Says what an error means for an acquire.</summary>
    /// <param name="codes">The error's codes.</param>
    public abstract LockOutcome Read(DbError codes);

    /// <summary>
    /// Returns what a refusal of an acquire means and what to do, in a sentence, where the server's own words do not say it; null by
    /// default.
    /// </summary>
    /// <param name="request">What was asked.</param>
    /// <param name="codes">The error's codes.</param>
    public virtual string? Explain(in LockRequest request, DbError codes) => null;

    /// <summary>
    /// Says whether an error means that the server has ended the session because of a limit: on how long a transaction may take, or on how
    /// long a session may be idle.
    /// </summary>
    public virtual bool IsSessionLimit(DbError codes) => false;

    /// <summary>Takes a code apart that tells which of several keys is held.</summary>
    /// <param name="request">What was asked.</param>
    /// <param name="code">The answer.</param>
    /// <returns>The code without that, and which key it is; 0 for none.</returns>
    protected static (long Code, int Taken) ReadAny(in LockRequest request, long code) =>
        request.Any is null || Math.Abs(code) < AnyFactor ? (code, 0) : (code >> 10, (int)(code & (AnyFactor - 1)));
}
