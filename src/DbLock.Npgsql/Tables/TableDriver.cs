using System.Data;
using System.Data.Common;
using System.Globalization;
using Npgsql;

namespace DbLock;

/// <summary>
/// Sends what a <see cref="TableLock"/> says. Its texts are made for each call, so that none of them is kept or prepared; and the answer is
/// the first column of every row, a list of texts.
/// </summary>
internal sealed class TableDriver : ILockDriver
{
    /// <summary>The type of a parameter that is written into the text as it is: LOCK and SET take no parameters.</summary>
    public const DbType Verbatim = DbType.Object;

    private const string HasNotBegun = "DbLock.HasNotBegun";

    private static ILockDriver Driver => NpgsqlLockInterface.Instance.Driver;

    public bool Supports(DbConnection connection) => Driver.Supports(connection);

    public async ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        var npgsql = (NpgsqlConnection)connection;
        await LockTimeouts.Pay(npgsql, async).ConfigureAwait(false);
        var commands = Array.ConvertAll(statement.Commands, ToNpgsql);
        try
        {
            var rows = await RoundTrip.Send(npgsql, commands, async, statement.Wait, cancellationToken: cancellationToken)
                .ConfigureAwait(false);
            return rows.ConvertAll(row => row[0]!);
        }
        catch (Exception e) when (commands[0].StatementType == Npgsql.StatementType.Unknown)
        {
            e.Data[HasNotBegun] = true;
            throw;
        }
    }

    /// <summary>Says whether the first command of a statement had run, or may have, when another failed.</summary>
    public static bool HasBegun(Exception error) => !error.Data.Contains(HasNotBegun);

    public DbError Read(Exception exception) => Driver.Read(exception);

    public object? PhysicalConnection(DbConnection connection) => Driver.PhysicalConnection(connection);

    public bool CanAbort(DbConnection connection) => Driver.CanAbort(connection);

    public void Abort(DbConnection connection) => Driver.Abort(connection);

    public void Discard(DbConnection connection) => Driver.Discard(connection);

    private static NpgsqlBatchCommand ToNpgsql(LockCommand command)
    {
        var parameters = command.Parameters;
        var result = new NpgsqlBatchCommand(command.Sql.Format(
            n => parameters[n].Type == Verbatim ? (string)parameters[n].Value : string.Create(CultureInfo.InvariantCulture, $"${n + 1}")));
        foreach (var parameter in parameters.Where(parameter => parameter.Type != Verbatim))
        {
            result.Parameters.Add(new NpgsqlParameter<string> { TypedValue = (string)parameter.Value });
        }

        return result;
    }
}
