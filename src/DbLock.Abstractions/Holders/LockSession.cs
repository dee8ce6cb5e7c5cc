using System.Globalization;

namespace DbLock;

/// <summary>A session of a database server, as the server shows it to the user that asks.</summary>
/// <remarks>
/// A dialect fills what its server tells (<see cref="LockDialect.ReadHolders"/>); what it does not tell is null. A server that tells more
/// has a type of its own, which derives from this: on PostgreSQL every session is a <see cref="PgSession"/>. Ages are by the server's
/// clock.
/// </remarks>
public record LockSession
{
    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);

    /// <summary>
    /// Gets the number by which the server knows the session. The server gives it to another session later: only with <see cref="Since"/>
    /// it names one session.
    /// </summary>
    public required long Id { get; init; }

    /// <summary>Gets the user that logged in; null when hidden, and for a session that has none.</summary>
    public string? User { get; init; }

    /// <summary>
    /// Gets the name that the application gave itself, without the lock that DbLock tells there (<see cref="LockName"/>); null when none
    /// was given.
    /// </summary>
    public string? Application { get; init; }

    /// <summary>Gets the client's address; null when hidden, and for a session without a client.</summary>
    public string? Client { get; init; }

    /// <summary>Gets the database; null for a session that has none.</summary>
    public string? Database { get; init; }

    /// <summary>Gets what it does, in the server's words; null when hidden.</summary>
    public string? State { get; init; }

    /// <summary>Gets whether it does nothing at the moment (<see cref="State"/>): what it holds it acquired before that.</summary>
    public bool IsIdle { get; init; }

    /// <summary>Gets the text of the running statement, or of the last one, as far as the server keeps it; null when hidden.</summary>
    public string? Query { get; init; }

    /// <summary>Gets when the session began; null when hidden.</summary>
    public DateTimeOffset? Since { get; init; }

    /// <summary>Gets how long ago the session began; null when hidden.</summary>
    public TimeSpan? SessionAge { get; init; }

    /// <summary>Gets how long it has been in its <see cref="State"/>; null when hidden.</summary>
    public TimeSpan? StateAge { get; init; }

    /// <summary>Gets whether this is the session that asked.</summary>
    public bool IsOwn { get; init; }

    /// <summary>Gets whether the server hides what this session does from the user that asked.</summary>
    public bool IsPartial { get; init; }

    /// <summary>
    /// Gets the name of the lock that the session says it holds or waits for (<see cref="LockOptions.ShowName"/>): in the name of its
    /// application, or in a comment before its statement. One that ends with two dots was cut; several have commas between them. Null when
    /// it says none. It is the session's word, which nobody has examined.
    /// </summary>
    public string? LockName => (ToldWritten ?? CommentWritten) is { } written ? ToldName.InWords(written) : null;

    /// <summary>
    /// Gets since when the session says it holds <see cref="LockName"/>, by the server's clock, to the second and never too early; null
    /// when it does not say, and when that cannot be.
    /// </summary>
    public DateTimeOffset? LockSince =>
        ToldName.Read(Told).Since is { } since && since >= Since.GetValueOrDefault() && since <= Clock + Second ? since : null;

    /// <summary>Gets what DbLock has added to the name of the application; null for nothing.</summary>
    internal string? Told { get; init; }

    /// <summary>Gets the server's clock when it was asked.</summary>
    internal DateTimeOffset Clock { get; init; }

    /// <summary>
    /// Gets the name of the lock that is told in the name of its application, as it is written there: such a session does nothing else
    /// than hold that lock or wait for it.
    /// </summary>
    internal string? ToldWritten => ToldName.Read(Told).Written;

    /// <summary>Gets the name of the lock in the comment before its statement, as it is written there.</summary>
    internal string? CommentWritten => ToldName.ReadComment(Query);

    /// <summary>
    /// Gets whether the session asks again and again whether it holds its locks. The age of its state then says nothing of how long it has
    /// held them.
    /// </summary>
    internal virtual bool IsWatched => ToldName.IsOfPool(Told);

    /// <summary>Gets the words which say that the session's activity is hidden (<see cref="IsPartial"/>).</summary>
    internal virtual string Hidden => "whose activity is hidden from this user";

    /// <summary>Returns how long the session says it has held a lock; null when it says nothing of that lock.</summary>
    internal TimeSpan? HeldFor(LockKey key) =>
        LockSince is { } since && ToldName.Fits(ToldWritten!, key)
            ? TimeSpan.FromSeconds(Math.Max(0, Math.Floor((Clock - since).TotalSeconds)))
            : null;

    /// <summary>Returns what the session does, and for how long, as the end of a sentence.</summary>
    internal string Doing() => this switch
    {
        { IsWatched: true, SessionAge: { } age } => $", whose session began {age.InWords()} ago",
        { State: { } state, StateAge: { } age } => $", {state} for {age.InWords()}",
        _ => "",
    };

    /// <summary>Returns it in words: <c>session 4711 (application 'worker-3', user 'app', 10.0.0.7)</c>.</summary>
    public override string ToString() => InWords("session", "");

    /// <summary>Returns it in words.</summary>
    /// <param name="id">What the server calls its <see cref="Id"/>.</param>
    /// <param name="kind">What is said of it when it has no user; empty for nothing.</param>
    private protected string InWords(string id, string kind)
    {
        string[] known =
        [
            Application is null ? "" : $"application '{Application}'",
            User is null ? kind : $"user '{User}'",
            Client ?? "",
        ];
        var shown = string.Join(", ", known.Where(part => part.Length > 0));
        return string.Create(CultureInfo.InvariantCulture, $"{id} {Id}") + (shown.Length == 0 ? "" : $" ({shown})");
    }
}
