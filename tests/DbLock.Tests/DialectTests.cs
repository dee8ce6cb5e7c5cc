using System.Text;

namespace DbLock.Tests;

public sealed class DialectTests
{
    [Fact]
    public void A_text_and_the_number_it_hashes_to_are_one_identity_on_PostgreSQL()
    {
        var dialect = LockDialect.PostgreSql;
        Assert.Equal(dialect.Identify(LockKey.From(LockKey.From("a").Number)), dialect.Identify("a"));
        Assert.NotEqual(dialect.Identify((0, 5)), dialect.Identify(5));
    }

    [Fact]
    public void MySQL_folds_names_and_MariaDB_does_not()
    {
        Assert.Equal(LockDialect.MySql.Identify("foo"), LockDialect.MySql.Identify("FOO"));
        Assert.NotEqual(LockDialect.MariaDb.Identify("foo"), LockDialect.MariaDb.Identify("FOO"));
        var (lower, upper) = (new string('a', 65), new string('A', 65));
        Assert.Equal(LockDialect.MySql.Identify(lower), LockDialect.MySql.Identify(upper));
    }

    public static TheoryData<string, int> Limits => new() { { "MySql", 64 }, { "MariaDb", 192 }, { "SqlServer", 255 } };

    [Theory, MemberData(nameof(Limits))]
    public void A_name_beyond_the_limit_is_hashed_and_never_cut(string dialectName, int limit)
    {
        var dialect = dialectName switch
        {
            "MySql" => LockDialect.MySql,
            "MariaDb" => LockDialect.MariaDb,
            _ => LockDialect.SqlServer,
        };
        var name = new string('n', limit);
        Assert.Equal(name, dialect.Identify(name));
        var (first, second) = (dialect.Identify(name + "1"), dialect.Identify(name + "2"));
        Assert.NotEqual(first, second);
        Assert.Equal(limit, first.Length);
        Assert.StartsWith("nnnnn", first, StringComparison.Ordinal);

        // The cut falls between characters, whatever they take.
        var wide = dialect.Identify(string.Concat(Enumerable.Repeat("🔒", 200)));
        Assert.False(wide.Contains('\uFFFD', StringComparison.Ordinal));
        Assert.Equal(wide, Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(wide)));
        Assert.True((dialectName == "MariaDb" ? Encoding.UTF8.GetByteCount(wide) : dialectName == "MySql" ? wide.EnumerateRunes().Count() : wide.Length) <= limit);
    }

    // docs/keys.md: as much of the beginning as fits, a colon, and 40 hexadecimal digits of the SHA-256.
    [Fact]
    public void A_long_name_is_hashed_as_the_documents_say() =>
        Assert.Equal(new string('x', 23) + ":09ecb6ebc8bcefc733f6f2ec44f791abeed6a99e", LockDialect.MySql.Identify(new string('x', 100)));

    [Theory]
    [InlineData("Npgsql.NpgsqlConnection 15.18", "PostgreSQL")]
    [InlineData("Devart.Data.PostgreSql.PgSqlConnection 16.0", "PostgreSQL")]
    [InlineData("System.Data.Odbc.OdbcConnection 15.0.18 PostgreSQL", "PostgreSQL")]
    [InlineData("Microsoft.Data.SqlClient.SqlConnection 16.00.1000", "SQL Server")]
    [InlineData("System.Data.SqlClient.SqlConnection 15.00.2000", "SQL Server")]
    [InlineData("System.Data.Odbc.OdbcConnection 16.00.1000 Microsoft SQL Server", "SQL Server")]
    [InlineData("MySqlConnector.MySqlConnection 8.4.2", "MySQL")]
    [InlineData("MySqlConnector.MySqlConnection 5.5.5-10.11.19-MariaDB", "MariaDB")]
    [InlineData("MySql.Data.MySqlClient.MySqlConnection 8.0.36", "MySQL")]
    [InlineData("System.Data.Odbc.OdbcConnection 10.11.000019 MariaDB", "MariaDB")]
    [InlineData("System.Data.Odbc.OdbcConnection 08.00.0036 MySQL", "MySQL")]
    [InlineData("Oracle.ManagedDataAccess.Client.OracleConnection 23.0", null)]
    public void A_server_is_known_by_what_its_connection_tells(string product, string? name) =>
        Assert.Equal(name, LockInterface.AdoNet.Dialects.FirstOrDefault(dialect => dialect.Speaks(product))?.Name);

    [Fact]
    public void Every_code_of_sp_getapplock_is_read_as_a_code()
    {
        var dialect = LockDialect.SqlServer;
        Assert.Equal(LockOutcome.Acquired, dialect.Read(new("x"), 0).Outcome);
        Assert.Equal(LockOutcome.Acquired, dialect.Read(new("x"), 1).Outcome);
        Assert.Equal(LockOutcome.NotAcquired, dialect.Read(new("x"), -1).Outcome);
        Assert.Equal(LockOutcome.Cancelled, dialect.Read(new("x"), -2).Outcome);
        Assert.Equal(LockOutcome.Deadlock, dialect.Read(new("x"), -3).Outcome);
        Assert.Contains("-999", Assert.Throws<LockException>(() => dialect.Read(new("x"), -999)).Message, StringComparison.Ordinal);
        Assert.Equal(LockOutcome.Unknown, dialect.Read(new("x"), DBNull.Value).Outcome);
        Assert.Equal(LockOutcome.Unknown, dialect.Read(new("x"), null).Outcome);
    }

    [Fact]
    public void Every_answer_of_GET_LOCK_is_read()
    {
        Assert.Equal(LockOutcome.Acquired, LockDialect.MySql.Read(new("x"), 1L).Outcome);
        Assert.Equal(LockOutcome.NotAcquired, LockDialect.MySql.Read(new("x"), 0).Outcome);
        Assert.Equal(LockOutcome.Cancelled, LockDialect.MySql.Read(new("x"), DBNull.Value).Outcome);
        Assert.Equal(LockOutcome.Cancelled, LockDialect.MySql.Read(new("x"), null).Outcome);
    }

    [Theory]
    [InlineData("55P03", LockOutcome.NotAcquired)]
    [InlineData("40P01", LockOutcome.Deadlock)]
    [InlineData("57014", LockOutcome.Cancelled)]
    [InlineData("25P02", LockOutcome.TransactionAborted)]
    [InlineData("57P01", LockOutcome.ConnectionLost)]
    [InlineData("08006", LockOutcome.ConnectionLost)]
    [InlineData("42501", LockOutcome.Refused)]
    [InlineData("53200", LockOutcome.Refused)]
    [InlineData(null, LockOutcome.Unknown)]
    public void PostgreSQLs_errors_are_told_apart_by_their_codes(string? sqlState, LockOutcome outcome) =>
        Assert.Equal(outcome, LockDialect.PostgreSql.Read(new DbError(sqlState)));

    /// <summary>MySqlConnector's -1 and SqlClient's -2 say that a command's time was over, whatever the server did.</summary>
    [Theory, InlineData(0), InlineData(-1), InlineData(-2)]
    public void Numbers_that_no_server_gives_leave_it_unknown_what_the_server_did(int number)
    {
        foreach (var dialect in new[] { LockDialect.MySql, LockDialect.MariaDb, LockDialect.SqlServer })
        {
            Assert.Equal(LockOutcome.Unknown, dialect.Read(new DbError(null, number)));
            Assert.Equal(LeaseTrouble.Unknown, dialect.Leases!.Read(new DbError(null, number)));
        }
    }

    [Theory, InlineData(1), InlineData(400), InlineData(1000), InlineData(1001)]
    public void MySQL_waits_whole_seconds_and_never_none(int milliseconds)
    {
        var request = new LockRequest("x") { Timeout = TimeSpan.FromMilliseconds(milliseconds) };
        Assert.Equal(Math.Ceiling(milliseconds / 1000.0), LockDialect.MySql.Acquire(request).Commands[0].Parameters[1].Value);
        Assert.Equal(milliseconds / 1000.0, LockDialect.MariaDb.Acquire(request).Commands[0].Parameters[1].Value);
        Assert.Equal(4294967295.0, Convert.ToDouble(
            LockDialect.MariaDb.Acquire(request with { Timeout = Timeout.InfiniteTimeSpan }).Commands[0].Parameters[1].Value, null));
    }

    [Fact]
    public void A_wait_below_a_millisecond_is_not_none()
    {
        Assert.Equal(1, new LockRequest("x") { Timeout = TimeSpan.FromTicks(1) }.Milliseconds);
        Assert.Equal(2, new LockRequest("x") { Timeout = TimeSpan.FromTicks(10_001) }.Milliseconds);
        Assert.Equal(-1, new LockRequest("x") { Timeout = Timeout.InfiniteTimeSpan }.Milliseconds);
        Assert.True(new LockRequest("x").Try);
    }
}
