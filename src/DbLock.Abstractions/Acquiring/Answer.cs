namespace DbLock;

/// <summary>The result of a statement: a value, or an error and what the error means.</summary>
/// <param name="Value">The first value of the first row; null when none came back, or an error did.</param>
/// <param name="Error">The error; null when there was none.</param>
/// <param name="Codes">The codes of the error.</param>
/// <param name="Reply">What the error means, or what the value means for an acquire; nothing for the value of any other statement.</param>
internal readonly record struct Answer(object? Value, Exception? Error = null, DbError Codes = default, LockReply Reply = default)
{
    /// <summary>
    /// Gets what the error means, or what the value means for an acquire; <see cref="LockOutcome.Unknown"/> for the value of any other
    /// statement.
    /// </summary>
    public LockOutcome Outcome => Reply.Outcome;

    /// <summary>Gets the value as a number; 0 for an error, NULL and no row.</summary>
    public long Number => Value is null or DBNull ? 0 : Convert.ToInt64(Value, System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>Gets whether the answer is yes.</summary>
    public bool IsYes => Number == 1;

    /// <summary>Gets whether the provider has sent nothing.</summary>
    public bool IsNotSent => Codes.NotSent;
}
