using System.Data;
using System.Data.Common;
using System.Globalization;

namespace DbLock;

/// <summary>All commands of a statement as one command of any provider.</summary>
internal static class OneText
{
    // The provider's default timeout is left alone when it is longer than the wait by so much.
    private const int MarginSeconds = 10;

    /// <summary>Returns the text with named markers, which one name stands for once only.</summary>
    public static string Named(LockStatement statement) =>
        string.Join("; ", statement.Commands.Select((command, i) => statement.CommentBefore(i)
            + (Prefix(statement, i) is var prefix && prefix == "p" ? command.Sql.Named : command.Sql.Format(n => $"@{Name(prefix, n)}"))));

    /// <summary>Returns the parameters of <see cref="Named"/>, in their order.</summary>
    public static IEnumerable<(string Name, LockParameter Parameter)> NamedParameters(LockStatement statement) =>
        statement.Commands.SelectMany(
            (command, i) => command.Parameters.Select((parameter, n) => (Name(Prefix(statement, i), n), parameter)));

    /// <summary>Makes a command with named parameters, without values.</summary>
    public static DbCommand ToCommand(DbConnection connection, LockStatement statement)
    {
        var command = connection.CreateCommand();
        command.CommandText = Named(statement);
        foreach (var (name, (type, _)) in NamedParameters(statement))
        {
            Add(command, name, type);
        }

        return command;
    }

    /// <summary>Writes what differs from one call to the next into a prepared command of Npgsql's with named parameters.</summary>
    public static void Fill(DbCommand command, DbTransaction? transaction, LockStatement statement)
    {
        command.Transaction = transaction;
        command.CommandTimeout = statement.LastTimeout() ?? command.CommandTimeout;
        var i = 0;
        foreach (var parameter in statement.Commands.SelectMany(part => part.Parameters))
        {
            command.Parameters[i++].Value = parameter.Value;
        }
    }

    /// <summary>Writes a statement into a command with positional markers.</summary>
    /// <returns>Whether the command is as before for another statement of these texts: its timeout is still the provider's own.</returns>
    /// <remarks>
    /// Whole numbers stand in the text: psqlODBC parses, binds and describes a text with parameters each time, which costs the server more
    /// than the lock (measured), and a text without any it sends as it is.
    /// </remarks>
    public static bool Write(DbCommand command, DbTransaction? transaction, LockStatement statement)
    {
        command.Transaction = transaction;
        var isAsBefore = !SetTimeout(command, statement);
        var (texts, used) = (new string[statement.Commands.Length], 0);
        for (var i = 0; i < texts.Length; i++)
        {
            var parameters = statement.Commands[i].Parameters;
            texts[i] = statement.CommentBefore(i) + statement.Commands[i].Sql.Format(n =>
            {
                if (parameters[n].Value is int or long)
                {
                    return Convert.ToString(parameters[n].Value, CultureInfo.InvariantCulture)!;
                }

                if (used == command.Parameters.Count)
                {
                    Add(command, "", parameters[n].Type);
                }

                command.Parameters[used++].Value = parameters[n].Value;
                return "?";
            });
        }

        var text = texts.Length == 1 ? texts[0] : string.Join("; ", texts);
        if (command.CommandText != text)
        {
            command.CommandText = text;
        }

        return isAsBefore;
    }

    // psqlODBC sets statement_timeout on the server, in a round trip of its own, whenever the timeout is another than before. So the
    // timeout is set only for a wait, and not as a limit for a server that has fallen silent, which statement_timeout could not end anyway.
    private static bool SetTimeout(DbCommand command, LockStatement statement)
    {
        if (statement.Wait is null
            || statement.CommandTimeout is not { } seconds
            || command.CommandTimeout == 0
            || (statement.Wait >= TimeSpan.Zero && statement.Wait.Value.TotalSeconds + MarginSeconds <= command.CommandTimeout))
        {
            return false;
        }

        command.CommandTimeout = seconds;
        return true;
    }

    private static void Add(DbCommand command, string name, DbType type)
    {
        var parameter = command.CreateParameter();
        parameter.ParameterName = name;
        parameter.DbType = type;
        command.Parameters.Add(parameter);
    }

    // All commands of one text share their parameters' names, so only the first command with parameters keeps its names as they are.
    private static string Prefix(LockStatement statement, int index) =>
        Array.FindIndex(statement.Commands, command => command.Parameters.Length > 0) is var first && index <= first
            ? "p"
            : string.Create(CultureInfo.InvariantCulture, $"c{index}p");

    private static string Name(string prefix, int n) => string.Create(CultureInfo.InvariantCulture, $"{prefix}{n}");
}
