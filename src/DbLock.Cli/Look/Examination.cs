using System.Data.Common;
using Npgsql;
using static DbLock.Cli.Finding;

namespace DbLock.Cli;

/// <summary>Examines a connection for what breaks locks.</summary>
internal static class Examination
{
    public static async Task<List<Finding>> RunAsync(
        Database database, DbConnection connection, bool trustPooler, CancellationToken cancellationToken)
    {
        var findings = await (database switch
        {
            PostgreSqlDatabase => PostgreSqlExamination.RunAsync((NpgsqlConnection)connection, trustPooler, cancellationToken),
            MySqlDatabase => MySqlExamination.RunAsync(connection, cancellationToken),
            SqliteDatabase => SqliteExamination.RunAsync(connection, cancellationToken),
#if !ONE_FILE
            SqlServerDatabase => SqlServerExamination.RunAsync(connection, cancellationToken),
#endif
            _ => throw new ArgumentOutOfRangeException(nameof(database), database.Engine, "There is no such engine."),
        }).ConfigureAwait(false);
        return database is SqliteDatabase
            ? [.. findings] : [.. findings, await TryAsync(database, connection, cancellationToken).ConfigureAwait(false)];
    }

    /// <summary>Asks a question, and reads what each row of the answer tells.</summary>
    public static async Task<List<Finding>> AskAsync(
        DbConnection connection, string sql, Func<DbDataReader, IEnumerable<Finding>> read, CancellationToken cancellationToken)
    {
        var findings = new List<Finding>();
        var command = connection.CreateCommand();
        await using (command.ConfigureAwait(false))
        {
            command.CommandText = sql;
            var reader = await command.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
            await using (reader.ConfigureAwait(false))
            {
                while (await reader.ReadAsync(cancellationToken).ConfigureAwait(false))
                {
                    findings.AddRange(read(reader));
                }
            }
        }

        return findings;
    }

    // Two sessions try the same lock, because a server may say that it has locks and have none.
    private static async Task<Finding> TryAsync(Database database, DbConnection connection, CancellationToken cancellationToken)
    {
        const string Check = "exclusion";
        try
        {
            var other = await database.OpenAsync(cancellationToken).ConfigureAwait(false);
            await using (other.ConfigureAwait(false))
            {
                LockKey key = $"dblock doctor {Guid.NewGuid()}";
                var options = new LockOptions { TrustPooler = true };
                var first = new Lock(connection, key, database.Interface, options);
                var second = new Lock(other, key, database.Interface, options);
                await using (first.ConfigureAwait(false))
                await using (second.ConfigureAwait(false))
                {
                    return !await first.AcquireAsync(block: false, cancellationToken).ConfigureAwait(false)
                        ? new(Check, Error, "a lock that nobody else can know was refused",
                            "something between answers in the server's place: connect to the server directly")
                        : await second.AcquireAsync(block: false, cancellationToken).ConfigureAwait(false)
                            ? new(Check, Error, "two sessions got the same lock at the same time",
                                "locks are worth nothing on this connection: connect to the server directly")
                            : new(Check, Good, "a lock that one session holds is refused to another", null);
                }
            }
        }
        catch (UnavailableException e)
        {
            return new(Check, Warning, $"it could not be tried: {e.Message}", "allow the user a second connection");
        }
        catch (Exception e) when (e is LockException or DbException)
        {
            return new(Check, Error, e.Message, "see the other checks");
        }
    }
}
