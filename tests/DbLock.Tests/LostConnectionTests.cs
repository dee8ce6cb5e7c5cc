using System.Data;
using System.Data.Common;
using System.Diagnostics.CodeAnalysis;

namespace DbLock.Tests;

/// <summary>How each provider says that a connection was lost (docs/drivers.md), and that a driver's failing cancel ends nothing.</summary>
public sealed class LostConnectionTests
{
    // SqlClient: a session that was killed, or a transport that failed, has the number 0 or the system's own, and a severity of 20 or more.
    [Theory]
    [InlineData(0, 20, LockOutcome.ConnectionLost)]
    [InlineData(0, 11, LockOutcome.Unknown)]
    [InlineData(4014, 20, LockOutcome.ConnectionLost)]
    [InlineData(596, 21, LockOutcome.ConnectionLost)]
    [InlineData(-2, 11, LockOutcome.Unknown)]
    [InlineData(229, 14, LockOutcome.Refused)]
    [InlineData(1205, 13, LockOutcome.Deadlock)]
    public void SqlClients_class_tells_a_lost_connection(int number, byte severity, LockOutcome outcome)
    {
        var codes = LockInterface.AdoNet.Driver.Read(new SeverityException(number, severity));
        Assert.Equal(outcome, LockDialect.SqlServer.Read(codes));
    }

    [Theory]
    [InlineData("01000", 20003), InlineData("01000", 20004), InlineData("01000", 20017), InlineData("01000", 20006), InlineData("01000", 20047)]
    [InlineData("08S01", 0), InlineData("08S01", 10054), InlineData("08001", 10060)]
    public void FreeTDS_and_msodbcsql_tell_a_lost_connection(string sqlState, int number) =>
        Assert.Equal(LockOutcome.ConnectionLost, LockDialect.SqlServer.Read(new DbError(sqlState, number)));

    [Theory]
    [InlineData(1053), InlineData(1927), InlineData(2006), InlineData(2013), InlineData(2055), InlineData(4031)]
    [InlineData(5013), InlineData(5014)]
    public void MySQLs_and_MariaDBs_numbers_tell_a_lost_connection(int number)
    {
        Assert.Equal(LockOutcome.ConnectionLost, LockDialect.MariaDb.Read(new DbError("HY000", number)));
        Assert.Equal(LockOutcome.ConnectionLost, LockDialect.MySql.Read(new DbError(null, number)));
        Assert.Equal(LeaseTrouble.Unknown, LockDialect.MariaDb.Leases!.Read(new DbError("HY000", number)));
    }

    // FreeTDS's SQLCancel may answer HY000. On the timer's thread that would end the process.
    [Fact]
    public async Task A_cancel_that_fails_ends_neither_the_process_nor_the_wait()
    {
        using var connection = new StubbornConnection();
        using var caller = new CancellationTokenSource();
        var statement = new LockStatement(new LockCommand(new LockSql("select 1"))) { Wait = TimeSpan.FromMinutes(1) };
        var waiting = LockInterface.Odbc.Driver.Execute(connection, null, statement, async: true, caller.Token).AsTask();
        connection.IsRunning.Wait(TestContext.Current.CancellationToken);
        await caller.CancelAsync();

        // It is cancelled again and again, until the command has ended.
        connection.IsCancelledTwice.Wait(TestContext.Current.CancellationToken);
        connection.Ends.Set();
        await Assert.ThrowsAsync<TimeoutException>(() => waiting);
    }

    private sealed class SeverityException(int number, byte severity) : DbException("severe")
    {
        public int Number => number;

        public byte Class => severity;
    }

    private sealed class StubbornConnection : DbConnection
    {
        public ManualResetEventSlim IsRunning { get; } = new();

        public CountdownEvent IsCancelledTwice { get; } = new(2);

        public ManualResetEventSlim Ends { get; } = new();

        [AllowNull]
        public override string ConnectionString { get; set; } = "";

        public override string Database => "";

        public override string DataSource => "";

        public override string ServerVersion => "1.0";

        public override ConnectionState State => ConnectionState.Open;

        public override void ChangeDatabase(string databaseName)
        {
        }

        public override void Close()
        {
        }

        public override void Open()
        {
        }

        protected override DbTransaction BeginDbTransaction(IsolationLevel isolationLevel) => throw new NotSupportedException();

        protected override DbCommand CreateDbCommand() => new StubbornCommand(this);
    }

    private sealed class StubbornCommand(StubbornConnection connection) : DbCommand
    {
        [AllowNull]
        public override string CommandText { get; set; } = "";

        public override int CommandTimeout { get; set; }

        public override CommandType CommandType { get; set; }

        public override bool DesignTimeVisible { get; set; }

        public override UpdateRowSource UpdatedRowSource { get; set; }

        protected override DbConnection? DbConnection { get; set; } = connection;

        protected override DbParameterCollection DbParameterCollection => throw new NotSupportedException();

        protected override DbTransaction? DbTransaction { get; set; }

        public override void Cancel()
        {
            if (!connection.IsCancelledTwice.IsSet)
            {
                connection.IsCancelledTwice.Signal();
            }

            throw new InvalidOperationException("SQLCancel has failed.");
        }

        public override int ExecuteNonQuery() => throw new NotSupportedException();

        public override object? ExecuteScalar() => throw new NotSupportedException();

        public override void Prepare()
        {
        }

        protected override DbParameter CreateDbParameter() => throw new NotSupportedException();

        protected override DbDataReader ExecuteDbDataReader(CommandBehavior behavior)
        {
            connection.IsRunning.Set();
            connection.Ends.Wait();
            throw new TimeoutException("The command has ended.");
        }
    }
}
