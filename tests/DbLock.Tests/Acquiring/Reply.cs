namespace DbLock.Tests.Acquiring;

/// <summary>Says what comes back for a statement.</summary>
/// <param name="kind">What it is: "try", "wait", "undo" and so on (<see cref="ScriptedDriver"/>).</param>
/// <param name="n">How many of its kind were sent before.</param>
/// <returns>Null for what mostly comes.</returns>
internal delegate Reply? Script(string kind, int n);

/// <summary>What comes back for one statement.</summary>
/// <param name="Name">Its name in the golden table.</param>
/// <param name="Answer">The answer of the server.</param>
/// <param name="Error">The error instead of an answer.</param>
/// <param name="Closes">Whether the connection is closed by then.</param>
/// <param name="Cancels">Whether the caller has cancelled by then.</param>
internal sealed record Reply(string Name, object? Answer = null, Func<Exception>? Error = null, bool Closes = false, bool Cancels = false)
{
    /// <summary>The number of the transaction in which <see cref="GrantedInTransaction"/> is answered.</summary>
    public const long TransactionNumber = 7_000_001;

    public static Reply Granted { get; } = new("granted", 1);

    public static Reply GrantedInTransaction { get; } = new("granted", TransactionNumber);

    public static Reply Elsewhere { get; } = new("held elsewhere", 0);

    public static Reply NoAnswer { get; } = new("no answer");

    public static Reply Standby { get; } = new("standby", -1);

    public static Reply TimedOut { get; } = Code("55P03 timeout", "55P03");

    public static Reply Deadlock { get; } = Code("40P01 deadlock", "40P01");

    public static Reply Refused { get; } = Code("42501 refused", "42501");

    public static Reply Aborted { get; } = Code("25P02 aborted", "25P02");

    public static Reply Cancelled { get; } = Code("57014 cancelled", "57014");

    public static Reply NoSavepoint { get; } = Code("3B001 none", "3B001");

    public static Reply Ended { get; } = Code("57P01 ended", "57P01");

    public static Reply Broken { get; } = Code("08006 broken", "08006") with { Closes = true };

    public static Reply Held { get; } = new("held", 1);

    public static Reply NotHeld { get; } = new("not held", 0);

    /// <summary>Gets the provider's refusal to send.</summary>
    public static Reply NotSent { get; } =
        new("not sent", Error: static () => new ScriptedException("not sent", new DbError(null, NotSent: true)));

    /// <summary>Gets a provider's failure that says nothing of the server.</summary>
    public static Reply NoCode { get; } = Code("no code", null);

    /// <summary>Gets the failure of a provider that lost its connection while a command ran.</summary>
    public static Reply Disposed { get; } = new("disposed", Error: static () => new ObjectDisposedException("connector"));

    /// <summary>Returns an error of the server.</summary>
    public static Reply Code(string name, string? sqlState, int number = 0) =>
        new(name, Error: () => new ScriptedException(name, new DbError(sqlState, number)));

    /// <summary>Returns one reply after the other, the last for ever.</summary>
    public static Reply Of(Reply[] replies, int n) => replies[Math.Min(n, replies.Length - 1)];

    /// <summary>Returns what several replies are called in the golden table.</summary>
    public static string Names(params IEnumerable<Reply> replies) =>
        string.Join(", ", replies.Select(reply => reply.Name + (reply.Closes && reply != Broken ? " closed" : "")));
}
