using System.Data.Common;

namespace DbLock.Benchmarks;

/// <summary>What is measured: one acquire and one release, in both modes, on connections of its own.</summary>
/// <param name="Sync">The synchronous form; null when there is none of its own.</param>
/// <param name="Async">The asynchronous form.</param>
/// <param name="Connections">What is closed at the end.</param>
public sealed record Work(Action? Sync, Func<Task> Async, params DbConnection[] Connections);

/// <summary>One row of a table.</summary>
/// <param name="Group">The table.</param>
/// <param name="Name">The row.</param>
/// <param name="Floor">The row that it is compared with; null for a floor.</param>
/// <param name="Budget">The most that the ratio to the floor may be; null when nothing is promised.</param>
/// <param name="Open">Opens the connections.</param>
/// <param name="MoreBytes">The most that it may allocate beyond the floor; null when nothing is promised.</param>
public sealed record Row(string Group, string Name, string? Floor, double? Budget, Func<Task<Work>> Open, int? MoreBytes = null)
{
    public override string ToString() => $"{Group}: {Name}";
}
