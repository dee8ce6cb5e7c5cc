using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Text.RegularExpressions;

namespace DbLock.Cli;

/// <summary>Durations as people write them: 30s, 1.5m, .5s, 500ms, 2h30m; a bare number is seconds.</summary>
internal static partial class Duration
{
    /// <summary>Returns an option that takes a duration; without it, the value is null.</summary>
    public static Option<TimeSpan?> Option(string description, string name, params string[] aliases) =>
        new(name, aliases) { Description = description, HelpName = "duration", CustomParser = Parse };

    private static TimeSpan? Parse(ArgumentResult result)
    {
        var text = result.Tokens[^1].Value;
        if (TryParse(text, out var duration))
        {
            return duration;
        }

        result.AddError($"{(result.Parent as OptionResult)?.Option.Name}: '{text}' is no duration: write 30s, 500ms, 1.5m, 2h or 1d");
        return null;
    }

    public static bool TryParse(string text, out TimeSpan duration)
    {
        duration = TimeSpan.Zero;
        var bare = decimal.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out _) ? text + "s" : text;
        if (bare.Length == 0 || !Whole().IsMatch(bare))
        {
            return false;
        }

        var seconds = 0m;
        try
        {
            foreach (Match part in Part().Matches(bare))
            {
                var number = decimal.Parse(part.Groups[1].ValueSpan, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture);
                seconds += number * part.Groups[2].Value switch
                {
                    "ms" => 0.001m,
                    "s" => 1m,
                    "m" => 60m,
                    "h" => 3_600m,
                    _ => 86_400m,
                };
            }

            duration = TimeSpan.FromTicks((long)(seconds * TimeSpan.TicksPerSecond));
            return true;
        }
        catch (OverflowException)
        {
            return false;
        }
    }

    [GeneratedRegex(@"^(([0-9]+(\.[0-9]+)?|\.[0-9]+)(ms|s|m|h|d))+$")]
    private static partial Regex Whole();

    [GeneratedRegex(@"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(ms|s|m|h|d)")]
    private static partial Regex Part();
}
