using System.Globalization;

namespace DbLock;

/// <summary>Writes times for messages.</summary>
internal static class TimeSpanExtensions
{
    /// <summary>Returns a duration in words of one unit: <c>12.4 s</c>, <c>95 min</c>, <c>7 h</c>, <c>3 days</c>.</summary>
    public static string InWords(this TimeSpan duration) => duration switch
    {
        { TotalSeconds: < 120 } => string.Create(CultureInfo.InvariantCulture, $"{Math.Max(0, duration.TotalSeconds):0.#} s"),
        { TotalMinutes: < 120 } => string.Create(CultureInfo.InvariantCulture, $"{(int)duration.TotalMinutes} min"),
        { TotalHours: < 48 } => string.Create(CultureInfo.InvariantCulture, $"{(int)duration.TotalHours} h"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{(int)duration.TotalDays} days"),
    };
}
