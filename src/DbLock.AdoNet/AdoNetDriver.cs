using System.Data.Common;
using System.Globalization;
using System.Reflection;
using Dapper;

namespace DbLock;

/// <summary>Sends statements over any ADO.NET connection through Dapper: named parameters, all commands of a statement in one text.</summary>
internal sealed class AdoNetDriver : ILockDriver
{
    // ODBC knows no names for parameters.
    public bool Supports(DbConnection connection) => !OdbcDriver.IsOdbc(connection);

    public async ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        var command = ToDapper(statement, transaction, cancellationToken);
        var reader = async ? await connection.ExecuteReaderAsync(command).ConfigureAwait(false) : (DbDataReader)connection.ExecuteReader(command);
        return await LockStatement.ReadAnswer(reader, async, cancellationToken).ConfigureAwait(false);
    }

    public DbError Read(Exception exception) => DbErrorReader.Read(exception);

    // Npgsql's. With its Multiplexing each command or transaction may go to another session. None has the number -1.
    public int? SessionId(DbConnection connection) =>
        connection.ConnectionString.Contains("multiplexing", StringComparison.OrdinalIgnoreCase)
        && new DbConnectionStringBuilder { ConnectionString = connection.ConnectionString }.TryGetValue("Multiplexing", out var on)
        && string.Equals(on as string, "true", StringComparison.OrdinalIgnoreCase)
            ? -1
            : DbErrorReader.Property(connection, "ProcessID") as int?;

    public void Discard(DbConnection connection) => ClearPoolAndClose(connection);

    internal static void ClearPoolAndClose(DbConnection connection)
    {
        // static void ClearPool(TConnection): Npgsql, SqlClient, MySqlConnector, MySql.Data, Oracle. static void ReleaseObjectPool(): ODBC.
        var type = connection.GetType();
        var clear = type.GetMethod("ClearPool", BindingFlags.Public | BindingFlags.Static, [type]);
        if (clear is not null)
        {
            clear.Invoke(null, [connection]);

            // Npgsql's ClearPool does nothing for the connection of a data source, which it shows to nobody.
            var source = type.GetProperty("NpgsqlDataSource", BindingFlags.NonPublic | BindingFlags.Instance)?.GetValue(connection);
            source?.GetType().GetMethod("Clear", [])?.Invoke(source, null);
        }
        else
        {
            type.GetMethod("ReleaseObjectPool", BindingFlags.Public | BindingFlags.Static, [])?.Invoke(null, null);
        }

        connection.Close();
    }

    private static CommandDefinition ToDapper(LockStatement statement, DbTransaction? transaction, CancellationToken cancellationToken)
    {
        var parameters = new DynamicParameters();
        var texts = new string[statement.Commands.Length];
        for (var i = 0; i < texts.Length; i++)
        {
            var command = statement.Commands[i];

            // One text has one space of names: only the first command with parameters can have them as they are.
            var prefix = parameters.ParameterNames.Any() ? string.Create(CultureInfo.InvariantCulture, $"c{i}p") : "p";
            texts[i] = prefix == "p" ? command.Sql.Named : command.Sql.Format(n => string.Create(CultureInfo.InvariantCulture, $"@{prefix}{n}"));
            for (var n = 0; n < command.Parameters.Length; n++)
            {
                parameters.Add(string.Create(CultureInfo.InvariantCulture, $"{prefix}{n}"), command.Parameters[n].Value, command.Parameters[n].Type);
            }
        }

        return new CommandDefinition(
            string.Join("; ", texts), parameters, transaction, statement.CommandTimeout, cancellationToken: cancellationToken);
    }
}
