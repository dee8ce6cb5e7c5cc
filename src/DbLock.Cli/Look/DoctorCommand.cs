using System.CommandLine;

namespace DbLock.Cli;

/// <summary><c>dblock doctor</c>: what breaks locks on a connection.</summary>
internal static class DoctorCommand
{
    private static readonly string[] Columns = ["check", "result", "finding", "remedy"];

    public static Command Create()
    {
        var connection = ConnectionOption.Create();
        var trust = PoolerOption.Create();
        var output = Output.Option();
        var command = new Command(
            "doctor",
            "Checks a connection for what breaks locks, and says what helps. Exit code 0: no error was found; 1: one was.")
        { connection, trust, output };
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var database = ConnectionOption.Database(parsed.GetValue(connection));
            database.RefuseOptionsOfPostgreSql(parsed, trust);
            var opened = await database.OpenAsync(cancellationToken).ConfigureAwait(false);
            await using (opened.ConfigureAwait(false))
            {
                var findings = await Examination
                    .RunAsync(database, opened, parsed.GetValue(trust), cancellationToken).ConfigureAwait(false);
                if (Output.IsTable(parsed.GetValue(output)!) && Output.IsTerminal)
                {
                    Output.WriteLines(findings.SelectMany(InLines));
                }
                else
                {
                    var rows = findings.Select(finding => (object?[])[finding.Check, finding.Result, finding.Text, finding.Remedy]);
                    Output.Write(parsed.GetValue(output)!, Columns, [.. rows]);
                }

                return findings.Any(finding => finding.Result == Finding.Error) ? ExitCode.NotDone : ExitCode.Ok;
            }
        });
        return command;
    }

    // A remedy is read whole, so that its lines are broken rather than cut.
    private static IEnumerable<string> InLines(Finding finding)
    {
        const int Indent = 9;
        var lines = Output.Wrap(Output.OneLine($"{finding.Check}: {finding.Text}"), Output.Width - Indent, indent: 0)
            .Concat(finding.Remedy is null ? [] : Output.Wrap(Output.OneLine($"→ {finding.Remedy}"), Output.Width - Indent, indent: 2));
        var result = finding.Result == Finding.Good ? finding.Result : Output.Styled(Output.Red, finding.Result);
        return lines.Select((line, i) => i > 0
            ? new string(' ', Indent) + line
            : result + new string(' ', Indent - finding.Result.Length) + line);
    }
}
