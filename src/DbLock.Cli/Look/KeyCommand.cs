using System.CommandLine;
using System.Globalization;
using System.Text;

namespace DbLock.Cli;

/// <summary><c>dblock key</c>: what a name is under each scheme.</summary>
internal static class KeyCommand
{
    private static readonly string[] Columns = ["scheme", "key", "classid", "objid", "objsubid", "sql"];

    public static Command Create()
    {
        var name = new Argument<string>("NAME") { Description = "The name" };
        var output = Output.Option();
        var wide = Output.WideOption();
        var command = new Command(
            "key",
            "Prints the number or pair that a name is under each of PostgreSQL's schemes, how it looks in pg_locks, the name that the "
            + "other engines lock, and the SQL that takes the lock by hand. It needs no database.")
        { name, output, wide };
        command.SetAction(parsed =>
        {
            var text = parsed.GetValue(name)!;
            KeyOption.Check(text);
            object?[][] rows = [.. Keys(text).Select(Row), .. Names(text)];
            Output.Write(parsed.GetValue(output)!, Columns, rows, parsed.GetValue(wide) ? null : Columns);
            return ExitCode.Ok;
        });
        return command;
    }

    private static IEnumerable<(string Scheme, LockKey Key)> Keys(string text)
    {
        foreach (var (scheme, value) in KeyOption.Schemes)
        {
            yield return (scheme, LockKey.From(text, value));
        }

        if (long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number))
        {
            yield return ("number", number);
        }
        else if (text.Split(',') is [var first, var second]
            && int.TryParse(first, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var a)
            && int.TryParse(second, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var b))
        {
            yield return ("pair", (a, b));
        }
    }

    // On these engines the name itself is locked, or what a long one is shortened to.
    private static IEnumerable<object?[]> Names(string text)
    {
        foreach (var (engine, dialect) in new[] { ("mariadb", LockDialect.MariaDb), ("mysql", LockDialect.MySql) })
        {
            var name = dialect.Identify(text);
            yield return [engine, name, null, null, null, $"select get_lock({Literal(name)}, 4294967295)"];
        }

        var resource = LockDialect.SqlServer.Identify(text);
        yield return ["sqlserver", resource, null, null, null, OfSqlServer(resource)];
    }

    // In hexadecimal, a name is the same whatever the connection's character set, and has nothing to be escaped.
    private static string Literal(string name) => MySqlTexts.IsPlain(name) && !name.Contains('\'', StringComparison.Ordinal)
        ? $"'{name}'"
        : $"convert(unhex('{Convert.ToHexString(Encoding.UTF8.GetBytes(name))}') using utf8mb4)";

    // A line break in it would not be one in a table of rows.
    private static string OfSqlServer(string name) => name.Any(char.IsControl)
        ? $"declare @name nvarchar(255) = convert(nvarchar(255), 0x{Convert.ToHexString(Encoding.Unicode.GetBytes(name))}); "
            + "exec sp_getapplock @name, 'Exclusive', 'Session'"
        : $"exec sp_getapplock N'{name.Replace("'", "''", StringComparison.Ordinal)}', 'Exclusive', 'Session'";

    private static object?[] Row((string Scheme, LockKey Key) item)
    {
        var shown = item.Key.ToPgLocks();
        var key = item.Key.IsPair
            ? string.Create(CultureInfo.InvariantCulture, $"{item.Key.Pair.First},{item.Key.Pair.Second}")
            : item.Key.Number.ToString(CultureInfo.InvariantCulture);
        return [item.Scheme, key, shown.ClassId, shown.ObjId, shown.ObjSubId, $"select pg_advisory_lock({key})"];
    }
}
