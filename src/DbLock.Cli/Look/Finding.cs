namespace DbLock.Cli;

/// <summary>What <c>dblock doctor</c> has found out about one thing.</summary>
/// <param name="Check">What was looked at.</param>
/// <param name="Result"><see cref="Good"/>, <see cref="Warning"/> or <see cref="Error"/>.</param>
/// <param name="Text">What was found.</param>
/// <param name="Remedy">What helps; null when all is well.</param>
internal sealed record Finding(string Check, string Result, string Text, string? Remedy)
{
    public const string Good = "ok";
    public const string Warning = "warning";
    public const string Error = "error";
}
