using System.Data;
using System.Data.Common;
using System.Diagnostics.CodeAnalysis;

namespace DbLock.Tests.SqlServer;

/// <summary>A hold knows the database in which it was taken, where locks belong to that.</summary>
public sealed class OtherDatabaseTests
{
    [Theory, InlineData(false), InlineData(true)]
    public async Task A_lock_is_let_go_in_its_own_database_and_the_connection_comes_back(bool async)
    {
        var connection = new PlaceConnection();
        var driver = new LockInterface("Places", new PlaceDriver(), LockDialect.SqlServer);
        var options = new LockOptions { Dialect = LockDialect.SqlServer };
        var first = new Lock(connection, "k", driver, options);
        Assert.True(await Try(first, async));
        connection.ChangeDatabase("other");

        // An equal name there is another lock.
        var second = new Lock(connection, "k", driver, options);
        Assert.True(await Try(second, async));
        var error = await Assert.ThrowsAsync<InvalidOperationException>(async () => await Try(first, async));
        Assert.Contains("in database 'one'", error.Message, StringComparison.Ordinal);
        connection.Told.Clear();
        Assert.True(async ? await first.ReleaseAsync() : first.Release());
        Assert.Equal(["use one", "release in one", "use other"], connection.Told);
        Assert.True(second.IsHeld);
        connection.Told.Clear();
        Assert.True(async ? await second.ReleaseAsync() : second.Release());
        Assert.Equal(["release in other"], connection.Told);
    }

    private static async Task<bool> Try(Lock @lock, bool async) =>
        async ? await @lock.AcquireAsync(block: false) : @lock.Acquire(block: false);

    private sealed class PlaceDriver : ILockDriver
    {
        public bool Supports(DbConnection connection) => true;

        public ValueTask<object?> Execute(
            DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
        {
            var isAcquire = statement.Commands[0].Sql.Named.Contains("sp_getapplock", StringComparison.Ordinal);
            ((PlaceConnection)connection).Told.Add($"{(isAcquire ? "acquire" : "release")} in {connection.Database}");
            return new(isAcquire ? 0 : 1);
        }

        public DbError Read(Exception exception) => default;
    }

    private sealed class PlaceConnection : DbConnection
    {
        private string _database = "one";

        public List<string> Told { get; } = [];

        [AllowNull]
        public override string ConnectionString { get; set; } = "";

        public override string Database => _database;

        public override string DataSource => "";

        public override string ServerVersion => "16.0";

        public override ConnectionState State => ConnectionState.Open;

        public override void ChangeDatabase(string databaseName)
        {
            _database = databaseName;
            Told.Add($"use {databaseName}");
        }

        public override void Close()
        {
        }

        public override void Open()
        {
        }

        protected override DbTransaction BeginDbTransaction(IsolationLevel isolationLevel) => throw new NotSupportedException();

        protected override DbCommand CreateDbCommand() => throw new NotSupportedException();
    }
}
