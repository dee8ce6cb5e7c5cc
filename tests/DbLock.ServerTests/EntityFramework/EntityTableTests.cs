using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Tables by entity, lock_timeout and priority of a context. Each test has a database.</summary>
public sealed class EntityTableTests : IAsyncLifetime
{
    private PostgreSqlTestServer.TestDatabase _database = null!;
    private NpgsqlConnection _observer = null!;

    public static TheoryData<Type, string> Entities => new()
    {
        { typeof(Order), "Orders, order.lines" },
        { typeof(Payment), "Payment" },
        { typeof(Cheque), "Payment" },
        { typeof(Person), "employees, people" },
        { typeof(Employee), "employees, people" },
        { typeof(Vehicle), "cars, vans" },
        { typeof(Van), "vans" },
        { typeof(Article), "article_texts, articles" },
        { typeof(Line), "order.lines" },
    };

    public async ValueTask InitializeAsync()
    {
        _database = await PostgreSqlTestServer.CreateDatabaseAsync();
        _observer = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database={_database.Name}");
    }

    public async ValueTask DisposeAsync()
    {
        await _observer.DisposeAsync();
        await _database.DisposeAsync();
    }

    [Theory, MemberData(nameof(Entities))]
    public async Task An_entitys_tables_are_locked_as_the_model_has_them(Type entity, string tables)
    {
        await using var shop = await Shop.CreateAsync(_database);
        foreach (var async in new[] { false, true })
        {
            await using var transaction = await shop.Database.BeginTransactionAsync();
            Assert.True(async
                ? await shop.LockTablesAsync(PgLockMode.ShareRowExclusive, [entity], TimeSpan.FromSeconds(30))
                : shop.LockTables(PgLockMode.ShareRowExclusive, [entity], TimeSpan.Zero));
            Assert.Equal(tables, await LockedAsync());
            await transaction.RollbackAsync();
            Assert.Equal("", await LockedAsync());
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_timeout_leaves_the_transaction_and_its_work(bool async)
    {
        await using var shop = await Shop.CreateAsync(_database);
        await using var holding = await _observer.BeginTransactionAsync();
        await _observer.ExecuteAsync("lock table sales.\"order.lines\" in access share mode");
        await using (var transaction = await shop.Database.BeginTransactionAsync())
        {
            shop.Orders.Add(new Order());
            await shop.SaveChangesAsync();
            foreach (var timeout in new[] { TimeSpan.Zero, TimeSpan.FromMilliseconds(20) })
            {
                Assert.False(async
                    ? await shop.LockTableAsync<Order>(PgLockMode.AccessExclusive, timeout)
                    : shop.LockTable<Order>(PgLockMode.AccessExclusive, timeout));
            }

            Assert.True(async ? await shop.LockTableAsync<Order>(PgLockMode.RowShare) : shop.LockTable<Order>(PgLockMode.RowShare));
            shop.Orders.Add(new Order());
            await shop.SaveChangesAsync();
            await transaction.CommitAsync();
        }

        Assert.Equal(2, await shop.Orders.CountAsync());
    }

    [Fact]
    public async Task Several_entities_are_locked_together_or_not_at_all()
    {
        await using var shop = await Shop.CreateAsync(_database);
        await using var holding = await _observer.BeginTransactionAsync();
        await _observer.ExecuteAsync("lock table fleet.vans in access exclusive mode");
        await using var transaction = await shop.Database.BeginTransactionAsync();
        Assert.False(await shop.LockTablesAsync(PgLockMode.Share, [typeof(Payment), typeof(Vehicle)], TimeSpan.Zero));
        Assert.Equal("", await LockedAsync());
        Assert.True(await shop.LockTablesAsync(PgLockMode.Share, [typeof(Payment), typeof(Car)], TimeSpan.Zero));
        Assert.Equal("Payment, cars", await LockedAsync());
    }

    [Fact]
    public async Task What_has_no_table_is_refused_and_so_is_a_lock_outside_a_transaction()
    {
        await using var shop = await Shop.CreateAsync(_database);
        Assert.Contains("String is no entity of Shop", Assert.Throws<ArgumentException>(() => shop.LockTable<string>(PgLockMode.Share)).Message, StringComparison.Ordinal);
        Assert.Contains("Total is mapped to no table", Assert.Throws<ArgumentException>(() => shop.LockTable<Total>(PgLockMode.Share)).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => shop.LockTable<Order>(PgLockMode.Share));
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_lock_timeout_is_the_contexts_until_it_is_disposed(bool async)
    {
        await using var shop = await Shop.CreateAsync(_database);
        var timeout = async ? await shop.LockTimeoutAsync(TimeSpan.FromMilliseconds(20)) : shop.LockTimeout(TimeSpan.FromMilliseconds(20));
        Assert.Equal("20ms", await TimeoutAsync());
        await using (var holding = await _observer.BeginTransactionAsync())
        {
            await _observer.ExecuteAsync("lock table \"Payment\" in access exclusive mode");
            var error = await Assert.ThrowsAsync<InvalidOperationException>(() => shop.Set<Payment>().CountAsync());
            Assert.Equal("55P03", Assert.IsType<PostgresException>(error.InnerException).SqlState);
            await holding.RollbackAsync();
        }

        await using (await shop.Database.BeginTransactionAsync())
        {
            await using (await shop.LockTimeoutAsync(TimeSpan.FromSeconds(7)))
            {
                Assert.Equal("7s", await TimeoutAsync());
            }

            Assert.Equal("20ms", await TimeoutAsync());
        }

        Assert.Equal(System.Data.ConnectionState.Open, shop.Database.GetDbConnection().State);
        await shop.Database.OpenConnectionAsync();
        if (async)
        {
            await timeout.DisposeAsync();
        }
        else
        {
            timeout.Dispose();
        }

        Assert.Equal("0", await TimeoutAsync());
        await shop.Database.CloseConnectionAsync();
        Assert.Equal(System.Data.ConnectionState.Closed, shop.Database.GetDbConnection().State);

        async Task<string> TimeoutAsync() => await shop.Database.SqlQueryRaw<string>("select current_setting('lock_timeout') as \"Value\"").SingleAsync();
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Who_holds_what_the_context_waits_for_is_terminated(bool async)
    {
        await using var shop = await Shop.CreateAsync(_database);
        await using var holder = await PostgreSqlTestServer.OpenNpgsqlAsync($"Pooling=false;Database={_database.Name};Username={await RoleAsync()};Password=app");
        await using var holding = await holder.BeginTransactionAsync();
        await holder.ExecuteAsync("select count(*) from people");
        var options = new PgPriorityOptions { Interval = TimeSpan.FromMilliseconds(20) };
        await using (var priority = async ? await shop.PrioritizeAsync(options) : shop.Prioritize(options))
        {
            await shop.Database.ExecuteSqlRawAsync("alter table people add more int");
            var cleared = Assert.Single(await priority.StopAsync());
            Assert.Equal((PgClearOutcome.Ended, holder.ProcessID), (cleared.Outcome, cleared.Session!.Pid));
        }

        Assert.Equal(System.Data.ConnectionState.Closed, shop.Database.GetDbConnection().State);
    }

    // Superusers' sessions are spared.
    private async Task<string> RoleAsync()
    {
        var role = $"r{_database.Name}";
        await _observer.ExecuteAsync($"create role {role} login password 'app'; grant select on all tables in schema public to {role}");
        return role;
    }

    private async Task<string> LockedAsync() => (string)(await _observer.ExecuteAsync($"""
        select coalesce(string_agg(relname, ', ' order by relname collate "C"), '') from pg_locks as l join pg_class as c on c.oid = l.relation
        where l.granted and c.relkind = 'r' and c.relnamespace <> 'pg_catalog'::regnamespace and l.mode in ('ShareRowExclusiveLock', 'ShareLock')
          and l.database = (select oid from pg_database where datname = current_database())
        """))!;
}
