using System.CommandLine;
using System.Globalization;

namespace DbLock.Cli;

/// <summary><c>dblock lease-table</c>: makes the table in which leases are kept, or prints its DDL.</summary>
internal static class LeaseTableCommand
{
    private static readonly (string Name, LockDialect Dialect)[] Engines =
    [
        ("postgresql", LockDialect.PostgreSql), ("mariadb", LockDialect.MariaDb), ("mysql", LockDialect.MySql),
        ("sqlite", LockDialect.Sqlite), ("sqlserver", LockDialect.SqlServer),
    ];

    public static Command Create()
    {
        var connection = ConnectionOption.Create();
        var print = new Option<bool>("--print") { Description = "Print the DDL and do nothing. It needs no database" };
        var engine = new Option<string>("--engine")
        {
            Description = "For --print: postgresql, mariadb, mysql, sqlite or sqlserver",
            HelpName = "engine",
            DefaultValueFactory = _ => Engines[0].Name,
        };
        engine.AcceptOnlyFromAmong([.. Engines.Select(one => one.Name)]);
        var name = new Option<string>("--name")
        {
            Description = "The table's name",
            HelpName = "name",
            DefaultValueFactory = _ => LeaseTable.DefaultName,
        };
        var schema = new Option<string?>("--schema") { Description = "The table's schema. Default: the connection's", HelpName = "name" };
        var clear = new Option<bool>("--clear")
        {
            Description = "Delete what ended a day ago or earlier, where tokens go on growing without it, and say how many rows. It needs "
                + "the right to delete",
        };
        var command = new Command(
            "lease-table",
            "Creates the table in which leases are kept, if there is none. Programs that lock need select, insert and update on it.")
        { connection, print, engine, name, schema, clear };
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var table = Table(parsed.GetValue(name)!, parsed.GetValue(schema));
            if (parsed.GetValue(print))
            {
                Output.WriteLines([$"{table.Ddl(Array.Find(Engines, one => one.Name == parsed.GetValue(engine)).Dialect)};"]);
                return ExitCode.Ok;
            }

            var database = ConnectionOption.Database(parsed.GetValue(connection));
            database = parsed.GetValue(clear) ? database : database.ThatMayBeMade();
            var opened = await database.OpenAsync(cancellationToken).ConfigureAwait(false);
            await using (opened.ConfigureAwait(false))
            {
                if (parsed.GetValue(clear))
                {
                    var cleared = await table.ClearAsync(opened, database.Interface, cancellationToken).ConfigureAwait(false);
                    Output.WriteLines([string.Create(CultureInfo.InvariantCulture, $"{cleared}")]);
                    return ExitCode.Ok;
                }

                await table.CreateAsync(opened, database.Interface, cancellationToken).ConfigureAwait(false);
                return ExitCode.Ok;
            }
        });
        return command;
    }

    private static LeaseTable Table(string name, string? schema)
    {
        try
        {
            return new LeaseTable(name, schema);
        }
        catch (ArgumentException)
        {
            throw new UsageException("--name and --schema take from 1 to 63 characters, and no brace");
        }
    }
}
