using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace DbLock.Cli;

/// <summary>The help of the library, and what a newcomer needs beyond the options.</summary>
internal sealed class DetailedHelp(HelpAction help) : SynchronousCommandLineAction
{
    private const string ClearExamples = """
        Examples:
          dblock {0} 4711
          dblock {0} --key nightly-report --granted --dry-run
          dblock {0} --blocking --state "idle in transaction" --min-state-age 5m --yes
        """;

    public override int Invoke(ParseResult parseResult)
    {
        var (output, text) = (parseResult.InvocationConfiguration.Output, new StringWriter());
        parseResult.InvocationConfiguration.Output = text;
        var code = help.Invoke(parseResult);
        parseResult.InvocationConfiguration.Output = output;
        output.Write(
            text.ToString().Replace(
                "dblock run <KEY> <COMMAND>... [options]", "dblock run [options] <KEY> -- <COMMAND>...", StringComparison.Ordinal));
        var details = parseResult.CommandResult.Command.Name switch
        {
            "run" => RunCommand.Details,
            "cancel" or "terminate" => ClearExamples.Replace("{0}", parseResult.CommandResult.Command.Name, StringComparison.Ordinal),
            _ => null,
        };
        if (details is not null)
        {
            foreach (var line in details.Split('\n'))
            {
                foreach (var part in Output.Wrap(line, Dblock.HelpWidth, indent: line.StartsWith(' ') ? 4 : 0))
                {
                    parseResult.InvocationConfiguration.Output.WriteLine(part);
                }
            }
        }

        return code;
    }
}
