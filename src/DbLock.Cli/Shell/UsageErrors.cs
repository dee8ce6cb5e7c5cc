using System.CommandLine;
using System.CommandLine.Completions;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Text.RegularExpressions;

namespace DbLock.Cli;

/// <summary>What is wrong with a command line, in words: the argument, what it takes, and what was probably meant.</summary>
internal static partial class UsageErrors
{
    /// <summary>Returns what is wrong; nothing when the parser can be believed.</summary>
    public static IReadOnlyList<string> Of(ParseResult parsed)
    {
        var command = parsed.CommandResult;
        if (Unknown(parsed) is { } unknown)
        {
            return [NoSuchOption(command.Command, unknown)];
        }

        // The parser makes several errors of one word that is too many.
        return parsed.Errors.Count > 0 && parsed.UnmatchedTokens is [var first, ..]
            ? [Unmatched(command.Command, first)]
            : [.. parsed.Errors.Select(error => InWords(command, error)).Distinct()];
    }

    /// <summary>Says that there is no such choice, which there are, and which was probably meant.</summary>
    public static string NoSuchChoice(string name, string given, IReadOnlyCollection<string> choices) =>
        $"{name} cannot be '{given}'{DidYouMean(given, choices)}: write {InWords(choices)}";

    private static string NoSuchOption(Command command, string given)
    {
        var inherited = command.Parents.OfType<Command>().SelectMany(parent => parent.Options.Where(option => option.Recursive));
        var names = command.Options.Concat(inherited)
            .SelectMany(option => option.Aliases.Prepend(option.Name))
            .Where(name => name.StartsWith("--", StringComparison.Ordinal))
            .ToList();

        // The value of an option is not shown, because it may have a password in it.
        var name = given.Split('=', ':')[0];
        return $"there is no option {name}{DidYouMean(name, names)}; what begins so and is no option goes after --";
    }

    private static string Unmatched(Command command, string given)
    {
        if (given.Length > 1 && given[0] == '-')
        {
            return NoSuchOption(command, given);
        }

        // An address is not shown, because it may have a password in it.
        var isUrl = given.Contains("://", StringComparison.Ordinal);
        var isConnectionString = given.Contains('=', StringComparison.Ordinal)
            && (given.Contains(';', StringComparison.Ordinal) || SaysPassword().IsMatch(given));
        if (isUrl || isConnectionString)
        {
            return $"dblock {command.Name} takes the address of the database after --connection";
        }

        if (command.Arguments.FirstOrDefault(argument => argument.ValueType == typeof(int[])) is { } numbers)
        {
            return $"{numbers.Name} takes whole numbers, and '{given}' is none";
        }

        List<string> commands = [.. command.Subcommands.Select(known => known.Name)];
        return commands.Count > 0
            ? $"there is no command {given}{DidYouMean(given, commands)}: write {InWords(commands)}"
            : command.Arguments.Count == 0
                ? $"dblock {command.Name} does not take '{given}': it takes options alone"
                : $"dblock {command.Name} does not take '{given}': write {Usage(command)}";
    }

    // Returns an option that the parser does not know, and takes for an argument where there is room for one. A negative number is one.
    private static string? Unknown(ParseResult parsed)
    {
        var isRun = parsed.CommandResult.Command.Name == "run";
        if (isRun && parsed.Tokens.All(token => token.Type != TokenType.DoubleDash))
        {
            return null;
        }

        var operands = parsed.CommandResult.Children.OfType<ArgumentResult>()
            .SelectMany(argument => argument.Tokens)
            .ToHashSet(ReferenceEqualityComparer.Instance);
        return parsed.Tokens.TakeWhile(token => token.Type != TokenType.DoubleDash)
            .FirstOrDefault(token => operands.Contains(token) && token.Value is ['-', not (>= '0' and <= '9'), ..])?.Value;
    }

    private static string InWords(CommandResult command, ParseError error)
    {
        if (error.SymbolResult is CommandResult)
        {
            List<string> commands = [.. command.Command.Subcommands.Select(known => known.Name)];
            return MissingInWords(command)
                ?? (commands.Count > 0 ? $"say what is to be done: dblock {InWords(commands)}" : error.Message);
        }

        // The parser may report the error of an option's value as one of the option's argument.
        var result = error.SymbolResult is ArgumentResult { Parent: OptionResult owner } ? owner : error.SymbolResult;
        Symbol? symbol = result is OptionResult { Option: var option } ? option : (result as ArgumentResult)?.Argument;
        if (result is null || symbol is null)
        {
            return error.Message;
        }

        var (name, arity, type) = symbol is Option known
            ? (known.Name, known.Arity, known.ValueType)
            : (symbol.Name, ((Argument)symbol).Arity, ((Argument)symbol).ValueType);
        var element = type.IsArray ? type.GetElementType()! : Nullable.GetUnderlyingType(type) ?? type;
        var choices = symbol.GetCompletions(CompletionContext.Empty).Select(choice => choice.Label).ToList();
        if (result.Tokens.Count == 0 && arity.MinimumNumberOfValues > 0)
        {
            if (symbol is not Option lacking)
            {
                return MissingInWords(command) ?? error.Message;
            }

            var values = choices.Count > 0 ? InWords(choices) : lacking.HelpName?.ToUpperInvariant() ?? "VALUE";
            return $"{name} lacks its value: write {name} {values}";
        }

        if (result.Tokens.Count > arity.MaximumNumberOfValues && !type.IsArray)
        {
            return $"{name} is given {result.Tokens.Count} times: give it once";
        }

        if (choices.Count > 0 && result.Tokens.FirstOrDefault(token => !choices.Contains(token.Value, StringComparer.Ordinal)) is { } wrong)
        {
            return element == typeof(bool) ? $"{name} takes no value: leave '{wrong.Value}' out" : NoSuchChoice(name, wrong.Value, choices);
        }

        var odd = result.Tokens.FirstOrDefault(token => !int.TryParse(token.Value, CultureInfo.InvariantCulture, out _));
        return element == typeof(int) && odd is not null
            ? $"{name} takes a whole number, and '{odd.Value}' is none"
            : error.Message;
    }

    private static string? MissingInWords(CommandResult command)
    {
        var missing = command.Command.Arguments
            .Where(argument => argument.Arity.MinimumNumberOfValues > 0 && command.GetResult(argument) is not { Tokens.Count: > 0 })
            .Select(argument => argument.Name)
            .ToList();
        var verb = missing.Count > 1 ? "are" : "is";
        return missing.Count == 0 ? null : $"{InWords(missing, "and")} {verb} missing: write {Usage(command.Command)}";
    }

    private static string Usage(Command command) => command.Name == "run"
        ? "dblock run [options] KEY -- COMMAND [ARGUMENT...]"
        : string.Join(' ', command.Arguments.Select(Usage).Prepend($"dblock {command.Name}"));

    private static string Usage(Argument argument)
    {
        var name = argument.Arity.MaximumNumberOfValues > 1 ? $"{argument.Name}..." : argument.Name;
        return argument.Arity.MinimumNumberOfValues > 0 ? name : $"[{name}]";
    }

    private static string InWords(IReadOnlyCollection<string> names, string word = "or") =>
        names.Count < 2 ? string.Concat(names) : $"{string.Join(", ", names.SkipLast(1))} {word} {names.Last()}";

    private static string DidYouMean(string given, IReadOnlyCollection<string> known)
    {
        var farthest = Math.Max(1, given.TrimStart('-').Length / 3);
        var near = known.Select(name => (Name: name, Distance: DistanceTo(name)))
            .Where(candidate => candidate.Distance <= farthest)
            .OrderBy(candidate => candidate.Distance)
            .ToList();
        return near.Count == 0 || given.Length == 0 ? "" : $" (did you mean {near[0].Name}?)";

        int DistanceTo(string name) => name.StartsWith(given, StringComparison.OrdinalIgnoreCase)
            ? 0
            : Distance(given.ToUpperInvariant(), name.ToUpperInvariant());
    }

    // Returns how many letters must be put in, left out, or exchanged for another letter or for their neighbour (the distance of Damerau
    // and Levenshtein).
    private static int Distance(string a, string b)
    {
        var table = new int[a.Length + 1, b.Length + 1];
        for (var i = 0; i <= a.Length; i++)
        {
            for (var j = 0; j <= b.Length; j++)
            {
                table[i, j] = i == 0 || j == 0 ? i + j
                    : Math.Min(Math.Min(table[i - 1, j], table[i, j - 1]) + 1, table[i - 1, j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1));
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                {
                    table[i, j] = Math.Min(table[i, j], table[i - 2, j - 2] + 1);
                }
            }
        }

        return table[a.Length, b.Length];
    }

    [GeneratedRegex(@"(password|pwd|psw)\s*=", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)]
    private static partial Regex SaysPassword();
}
