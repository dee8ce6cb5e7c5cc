namespace DbLock.Benchmarks;

/// <summary>What is measured: one acquire and one release, in both modes.</summary>
/// <param name="Sync">The synchronous form; null when there is none of its own.</param>
/// <param name="Async">The asynchronous form.</param>
/// <param name="Owned">What is disposed at the end, in this order.</param>
public sealed record Work(Action? Sync, Func<Task> Async, params IDisposable[] Owned);

/// <summary>One row of a table.</summary>
/// <param name="Group">The table.</param>
/// <param name="Name">The row.</param>
/// <param name="Floor">The row that it is compared with; null for a floor.</param>
/// <param name="Budget">The most that the ratio to the floor may be; null when nothing is promised.</param>
/// <param name="Open">Opens the connections.</param>
/// <param name="MoreBytes">The most that it may allocate beyond the floor; null when nothing is promised.</param>
/// <param name="IsApart">Whether the floor is not run beside it, because what the row needs would hit the floor too.</param>
public sealed record Row(string Group, string Name, string? Floor, double? Budget, Func<Task<Work>> Open, int? MoreBytes = null, bool IsApart = false)
{
    public override string ToString() => $"{Group}: {Name}";
}
