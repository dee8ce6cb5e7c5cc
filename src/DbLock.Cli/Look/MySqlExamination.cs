using System.Data.Common;
using System.Globalization;
using MySqlConnector;
using static DbLock.Cli.Finding;

namespace DbLock.Cli;

/// <summary>Examines a connection to MariaDB or MySQL.</summary>
internal static class MySqlExamination
{
    // A session that idles for less than this is not left alone for long enough.
    private const int ShortIdle = 3600;

    public static async Task<IEnumerable<Finding>> RunAsync(DbConnection connection, CancellationToken cancellationToken)
    {
        // MySQL knows neither the sequences nor the views in which MariaDB tells of a cluster.
        var isMariaDb = connection.ServerVersion.Contains("MariaDB", StringComparison.OrdinalIgnoreCase);
        var nodes = "select s.variable_value from information_schema.global_status as s where s.variable_name = 'wsrep_cluster_size'";
        var questions = $"""
            select version(), connection_id(), current_user(), @@global.read_only, @@session.wait_timeout,
              {(isMariaDb ? "@@session.max_statement_time * 1000" : "@@session.max_execution_time")},
              (select count(*) from information_schema.user_privileges as p
                where p.privilege_type = 'PROCESS' and p.grantee = concat('\'', replace(current_user(), '@', '\'@\''), '\'')),
              {(isMariaDb ? $"coalesce(({nodes}), 0)" : "0")}, @@global.innodb_flush_log_at_trx_commit
            """;
        var findings = await Examination.AskAsync(
            connection, questions, reader => Read(reader, isMariaDb, ((MySqlConnection)connection).ServerThread), cancellationToken)
            .ConfigureAwait(false);
        return isMariaDb ? [.. findings, await TakeTokenAsync(connection, cancellationToken).ConfigureAwait(false)] : findings;
    }

    // A token is taken, because the right to that is another than the right to see the sequence.
    private static async Task<Finding> TakeTokenAsync(DbConnection connection, CancellationToken cancellationToken)
    {
        const string Check = "fencing";
        if (!await MySqlDatabase.HasSequenceAsync(connection, cancellationToken).ConfigureAwait(false))
        {
            return new(Check, Warning, "there are no fencing tokens in this database",
                "create sequence dblock_fencing, if what is locked looks at tokens");
        }

        try
        {
            await Examination.AskAsync(connection, "select next value for dblock_fencing", static _ => [], cancellationToken)
                .ConfigureAwait(false);
            return new(Check, Good, "tokens come from the sequence dblock_fencing", null);
        }
        catch (MySqlException e)
        {
            return new(Check, Error, $"the sequence dblock_fencing gives no token: {e.Message}",
                "grant select, insert on dblock_fencing to the user, on a server that takes writes: else dblock run can have no lock here");
        }
    }

    private static IEnumerable<Finding> Read(DbDataReader reader, bool isMariaDb, long session)
    {
        var numbers = Enumerable.Range(0, reader.FieldCount)
            .Select(column => column is 0 or 2 || reader.IsDBNull(column)
                ? 0 : Convert.ToInt64(reader[column], CultureInfo.InvariantCulture))
            .ToList();
        yield return new("engine", Good, $"{(isMariaDb ? "MariaDB" : "MySQL")} {reader.GetString(0)}", null);
        yield return numbers[1] == session
            ? new("proxy", Good, "the connection goes straight to the server", null)
            : new("proxy", Error, "something in between gives the connection another session",
                "a lock may be taken in one session and asked for in another: connect to the server directly");
        yield return numbers[7] > 1
            ? new("cluster", Error,
                string.Create(CultureInfo.InvariantCulture, $"this is one of {numbers[7]} nodes, whose locks are its own"),
                "hold leases, which all nodes know (dblock run --lease), or have everybody connect to one node")
            : new("cluster", Good, "the server is no node of a Galera cluster with others", null);
        yield return numbers[3] != 0
            ? new("replica", Warning, "the server is read-only, as a replica is, whose locks are its own", "connect to the primary")
            : new("replica", Good, "the server takes writes", null);
        yield return numbers[6] > 0
            ? new("right to see", Good, $"user {reader.GetString(2)} sees what other users' sessions do", null)
            : new("right to see", Warning, $"other users' sessions are hidden from {reader.GetString(2)}",
                "grant PROCESS to it, so that holders can be named in full");
        yield return numbers[4] < ShortIdle
            ? new("timeouts", Warning, string.Create(CultureInfo.InvariantCulture, $"wait_timeout is {numbers[4]} s"),
                "a session that holds a lock and idles is ended after that, and the lock is lost: set it higher for the sessions that hold "
                + "locks, as dblock run does")
            : numbers[5] > 0
                ? new("timeouts", Warning, string.Create(CultureInfo.InvariantCulture, $"statements end after {numbers[5]} ms"),
                    "a wait for a lock is cut after that: set it to 0 for the sessions that wait, as dblock run does")
                : new("timeouts", Good, "no timeout ends a session that idles for an hour, or cuts a wait", null);
        yield return numbers[8] == 1
            ? new("durability", Good, "what is answered is on disk", null)
            : new("durability", Warning,
                string.Create(CultureInfo.InvariantCulture, $"innodb_flush_log_at_trx_commit is {numbers[8]}"),
                "a crash may forget a lease that was given, and give it to another: set it to 1 where there are leases");
    }
}
