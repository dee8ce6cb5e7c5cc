using System.Data.Common;

namespace DbLock.ServerTests;

/// <summary>Leases keep what every lease promises.</summary>
public abstract class Leases(string way) : LeaseSpecification(LeaseTestServer.Of(way), LeaseServers.Interface(way))
{
    protected override async Task<DbDataSource> CreateSourceAsync()
    {
        await LeaseServers.SourceAsync(way);
        return await LeaseServers.NewSourceAsync(way);
    }

    protected override Task TakeAwayAsync(LockKey key) => LeaseTestServer.Of(way).StealAsync(key.Name);
}

public sealed class LeasesOverNpgsql() : Leases("Npgsql");

public sealed class LeasesOverAdoNet() : Leases("AdoNet on PostgreSQL");

public sealed class LeasesOverOdbc() : Leases("Odbc on PostgreSQL");

public sealed class LeasesThroughPgBouncerInTransactionMode() : Leases("PgBouncer, transaction");

public sealed class LeasesThroughPgBouncerInStatementMode() : Leases("PgBouncer, statement");

public sealed class LeasesOverMySqlConnectorOnMariaDb() : Leases("MySqlConnector");

public sealed class LeasesOverMySqlDataOnMariaDb() : Leases("MySql.Data");

public sealed class LeasesOverOdbcOnMariaDb() : Leases("Odbc on MariaDB");

public sealed class LeasesOnSqlite() : Leases("Sqlite");

/// <summary>A pool whose locks are leases keeps what every pool promises.</summary>
public abstract class LeasePool(string way, LockInterface lockInterface) : PoolSpecification(LeaseTestServer.Of(way), lockInterface)
{
    protected override LockPoolOptions Options => new() { Scope = LockScope.Lease, Lease = TimeSpan.FromSeconds(9) };

    protected override async Task<DbDataSource> CreateSourceAsync()
    {
        await LeaseServers.SourceAsync(way);
        return await LeaseServers.NewSourceAsync(way);
    }

    protected override async Task<IAsyncDisposable?> TryWithoutPoolAsync(LockKey key, bool isShared = false) =>
        await Opened(await CreateSourceAsync()).TryAcquireLockAsync(key, default, LeaseServers.Interface(way), new LockOptions { Scope = LockScope.Lease });

    // What ends a session ends all of its locks: all leases of the test are taken away.
    protected override Task KillHolderAsync(LockKey key) => LeaseTestServer.Of(way).StealAsync(Name);
}

public sealed class LeasePoolOverNpgsql() : LeasePool("Npgsql", LockInterface.Npgsql);

public sealed class LeasePoolOverAdoNet() : LeasePool("AdoNet on PostgreSQL", LockInterface.AdoNet);

public sealed class LeasePoolThroughPgBouncer() : LeasePool("PgBouncer, statement", LockInterface.Npgsql);

public sealed class LeasePoolOnMariaDb() : LeasePool("MySqlConnector", LockInterface.AdoNet);

public sealed class LeasePoolOnSqlite() : LeasePool("Sqlite", LockInterface.AdoNet);
