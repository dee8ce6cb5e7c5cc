using System.Data.Common;
using System.Diagnostics;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>What strangers met with leases: keys that a server refuses, odd names and settings, rows that another keeps.</summary>
public sealed class LeaseStrangerTests
{
    private static readonly LockOptions Options = new() { Scope = LockScope.Lease, Lease = TimeSpan.FromSeconds(12) };

    private static readonly TimeSpan Long = TimeSpan.FromMinutes(1);

    private string Key { get; } = "stranger:" + Guid.NewGuid();

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_key_that_the_server_refuses_fails_alone(bool ofPool)
    {
        var name = "latin_" + Guid.NewGuid().ToString("N");
        await using var administrator = await PostgreSqlTestServer.OpenNpgsqlAsync();
        await administrator.ExecuteAsync($"create database {name} encoding 'LATIN1' template template0 lc_collate 'C' lc_ctype 'C'");
        try
        {
            await using var source = NpgsqlDataSource.Create($"{(await PostgreSqlTestServer.ServerAsync).ConnectionString};Database={name}");
            await LeaseTable.Default.CreateAsync(source);
            await using var pool = new LockPool(source, options: new LockPoolOptions { Scope = LockScope.Lease, Lease = Options.Lease });
            await Task.WhenAll(Enumerable.Range(0, 300).Select(async n =>
            {
                var isBad = n % 10 == 3;
                LockKey key = isBad ? $"日本 {n}" : $"plain {n}";
                var acquire = ofPool ? Held(pool.AcquireLockAsync(key, Long)) : Held(source.AcquireLockAsync(key, Long, options: Options));
                if (isBad)
                {
                    Assert.Contains($"'日本 {n}'", (await Assert.ThrowsAsync<LockException>(() => acquire)).Message, StringComparison.Ordinal);
                }
                else
                {
                    await (await acquire).DisposeAsync();
                }
            }));
        }
        finally
        {
            await administrator.ExecuteAsync($"drop database {name} with (force)");
        }

        static async Task<IHeldLock> Held<T>(ValueTask<T> acquire)
            where T : IHeldLock => await acquire;
    }

    [Fact]
    public async Task What_a_pool_was_given_too_late_does_not_keep_the_least_time()
    {
        await LeaseServers.SourceAsync("Npgsql");
        await using var source = await LeaseServers.NewSourceAsync("Npgsql");
        var table = new LeaseTable("late_" + Guid.NewGuid().ToString("N"));
        await table.CreateAsync(source);
        await using var pool = new LockPool(source, options: new LockPoolOptions { Scope = LockScope.Lease, AtLeast = TimeSpan.FromHours(22), LeaseTable = table });
        await using (var stalling = await PostgreSqlTestServer.OpenNpgsqlAsync())
        {
            await using var stall = await stalling.BeginTransactionAsync();
            await stalling.ExecuteAsync($"lock table {table.Name} in access exclusive mode");
            using var cancel = new CancellationTokenSource();
            var cancelled = pool.AcquireLockAsync(Key, cancellationToken: cancel.Token).AsTask();
            await TestServer.UntilAsync(
                async () => (long)(await LeaseServers.AskAsync(source, $"select count(*) from pg_locks where relation = '{table.Name}'::regclass and not granted"))! > 0,
                "the lease is asked for");
            await cancel.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled);
            await stall.RollbackAsync();
        }

        await using var held = await pool.AcquireLockAsync(Key, Long);
        Assert.True(held.IsHeld);
    }

    [Theory, InlineData("VALID_UNTIL"), InlineData("Ops UNTIL '\"")]
    public async Task Any_name_of_a_table_is_a_name(string name)
    {
        await LeaseServers.SourceAsync("Npgsql");
        await using var source = await LeaseServers.NewSourceAsync("Npgsql");
        var table = new LeaseTable(name + Guid.NewGuid().ToString("N"));
        await table.CreateAsync(source);
        await using (var connection = await source.OpenConnectionAsync())
        await using (var @lock = connection.CreateLock(Key, null, Options with { LeaseTable = table }))
        {
            Assert.True(await @lock.AcquireAsync(block: false));
            Assert.True(await @lock.RenewAsync());
            Assert.True(await @lock.ReleaseAsync());
        }

        await LeaseServers.AskAsync(source, $"drop table \"{table.Name.Replace("\"", "\"\"", StringComparison.Ordinal)}\"");
    }

    [Theory, InlineData("sql_mode = ''"), InlineData("sql_mode = 'TRADITIONAL'"), InlineData("sql_safe_updates = 1")]
    public async Task Neither_a_short_limit_of_MariaDbs_for_what_it_puts_together_nor_a_strict_mode_changes_an_answer(string setting)
    {
        await LeaseServers.SourceAsync("MySqlConnector");
        var address = $"{(await MariaDbTestServer.ServerAsync).ConnectionString};Maximum Pool Size=1;Connection Reset=false";
        await using var source = new MySqlConnector.MySqlDataSource(address);
        await LeaseServers.AskAsync(source, $"set session group_concat_max_len = 1024, session {setting}");
        Assert.Equal(1024, Convert.ToInt32(await LeaseServers.AskAsync(source, "select @@group_concat_max_len"), System.Globalization.CultureInfo.InvariantCulture));
        await using var pool = new LockPool(source, options: new LockPoolOptions { Scope = LockScope.Lease, Lease = Options.Lease });
        var held = await Task.WhenAll(Enumerable.Range(0, 100).Select(n => pool.AcquireLockAsync($"{Key}:{n}", Long).AsTask()));
        var leases = await LeaseTable.Default.GetLeasesAsync(source, held.Select(one => one.Key));
        Assert.Equal(
            held.Select(one => one.FencingToken!.Value).Order(), leases.Select(lease => lease.Token).Order());
        var ends = leases.Min(lease => lease.Until);
        await TestServer.UntilAsync(
            async () => (await LeaseTable.Default.GetLeasesAsync(source, held.Select(one => one.Key))).Min(lease => lease.Until) > ends, "all were renewed");
        Assert.All(held, one => Assert.True(one.IsHeld));
        await Task.WhenAll(held.Select(async one => Assert.True(await one.ReleaseAsync())));
        Assert.Empty(await LeaseTable.Default.GetLeasesAsync(source, held.Select(one => one.Key)));
        await using var connection = await source.OpenConnectionAsync();
        var @lock = new Lock(connection, Key);
        Assert.True(await @lock.AcquireAsync(block: false));
        Assert.Single(await @lock.GetHoldersAsync());
        Assert.True(await @lock.ReleaseAsync());
    }

    /// <summary>As by somebody who corrects a row by hand, and forgets the commit.</summary>
    [Theory]
    [InlineData("Npgsql", false, 12), InlineData("Npgsql", true, 12), InlineData("MySqlConnector", false, 24)]
    public async Task A_row_that_another_keeps_locked_costs_the_other_leases_nothing(string way, bool ofPool, int seconds)
    {
        var options = Options with { Lease = TimeSpan.FromSeconds(seconds) };
        await LeaseServers.SourceAsync(way);
        await using var source = await LeaseServers.NewSourceAsync(way);
        await using var pool = new LockPool(source, options: new LockPoolOptions { Scope = LockScope.Lease, Lease = options.Lease });
        var held = await Task.WhenAll(Enumerable.Range(0, 12).Select(async n =>
            ofPool ? (IHeldLock)await pool.AcquireLockAsync($"{Key}:{n}", Long) : await source.AcquireLockAsync($"{Key}:{n}", Long, options: options)));
        var others = held.Where((_, n) => n != 7).ToList();
        await using (var keeping = await source.OpenConnectionAsync())
        {
            await AskAsync(keeping, "begin");
            await AskAsync(keeping, $"update dblock_leases set note = 'mine' where {(way == "Npgsql" ? "key" : "`key`")} = '{held[7].Key}'");
            await TestServer.UntilAsync(() => Task.FromResult(held[7].Lost.IsCancellationRequested), "the lease that cannot be renewed is lost");
            Assert.All(others, one => Assert.True(one.IsHeld));
            await AskAsync(keeping, "rollback");
        }

        await Task.WhenAll(others.Select(async one => Assert.True(await one.ReleaseAsync())));
        await Assert.ThrowsAsync<LockLostException>(() => held[7].ReleaseAsync().AsTask());
    }

    /// <summary>What deletes old rows may have to wait for one of them. On MariaDB and MySQL it kept all rows before it locked meanwhile.</summary>
    [Fact]
    public async Task Clearing_that_waits_keeps_nobody_from_his_lease()
    {
        var options = Options with { LeaseTable = new LeaseTable("clear_" + Guid.NewGuid().ToString("N")) };
        await LeaseServers.SourceAsync("MySqlConnector");
        await using var source = await LeaseServers.NewSourceAsync("MySqlConnector");
        await options.LeaseTable.CreateAsync(source);
        foreach (var name in (string[])["old 1", "old 9"])
        {
            await (await source.AcquireLockAsync(name, Long, options: options)).DisposeAsync();
        }

        await LeaseServers.AskAsync(source, $"update {options.LeaseTable} set expires = expires - interval 2 day");
        await using var held = await source.AcquireLockAsync("old 2", Long, options: options);
        await using (var keeping = await source.OpenConnectionAsync())
        {
            await AskAsync(keeping, "begin");
            await AskAsync(keeping, $"update {options.LeaseTable} set note = 'mine' where `key` = 'old 9' and slot = 0");
            var clearing = options.LeaseTable.ClearAsync(source);
            await TestServer.UntilAsync(
                async () => Convert.ToInt32(
                    await LeaseServers.AskAsync(source, $"select count(*) from information_schema.innodb_trx where trx_state = 'LOCK WAIT' and trx_query like '%{options.LeaseTable}%'"),
                    System.Globalization.CultureInfo.InvariantCulture) == 1,
                "clearing waits");
            await using var next = await source.TryAcquireLockAsync("old 5", default, null, options);
            Assert.NotNull(next);
            Assert.True(await held.ReleaseAsync());
            Assert.False(clearing.IsCompleted);
            await AskAsync(keeping, "rollback");
            Assert.Equal(2, await clearing);
        }

        await LeaseServers.AskAsync(source, $"drop table {options.LeaseTable}");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_limit_is_a_limit_though_another_writes_to_the_file(bool async)
    {
        var folder = Directory.CreateTempSubdirectory("dblock-busy-");
        await using var source = Microsoft.Data.Sqlite.SqliteFactory.Instance.CreateDataSource($"Data Source={folder.FullName}/locks.db;Pooling=false");
        await LeaseTable.Default.CreateAsync(source);
        await using (var writing = await source.OpenConnectionAsync())
        {
            await AskAsync(writing, "begin immediate");
            await using var connection = await source.OpenConnectionAsync();
            var @lock = connection.CreateLock(Key, null, Options);
            var start = Stopwatch.GetTimestamp();
            Assert.False(async ? await @lock.AcquireAsync(TimeSpan.FromSeconds(1)) : @lock.Acquire(TimeSpan.FromSeconds(1)));
            if (!async)
            {
                Assert.Null(source.TryAcquireLock(Key, TimeSpan.FromSeconds(1), options: Options));
            }

            // It was two and a half minutes for each.
            Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(30));
            await AskAsync(writing, "rollback");
        }

        folder.Delete(recursive: true);
    }

    [Theory, InlineData("a{0}b"), InlineData("x}"), InlineData("")]
    public void A_name_that_cannot_stand_in_a_statement_is_refused(string name) => Assert.Throws<ArgumentException>(() => new LeaseTable(name));

    [Fact]
    public async Task A_note_that_is_null_is_no_note()
    {
        var source = await LeaseServers.SourceAsync("Npgsql");
        await using var held = await source.AcquireLockAsync(Key, options: Options with { Note = null! });
        Assert.Equal("", Assert.Single(await LeaseTable.Default.GetLeasesAsync(source, [Key])).Note);
    }

    private static async Task AskAsync(DbConnection connection, string sql)
    {
        await using var command = connection.CreateCommand();
        command.CommandText = sql;
        await command.ExecuteNonQueryAsync();
    }
}
