using System.Globalization;
using DbLock.Drivers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>What a lease costs PostgreSQL.</summary>
public sealed class LeaseCostTests
{
    private static readonly LockOptions Options = new() { Scope = LockScope.Lease };

    private LockKey Key { get; } = "lease cost:" + Guid.NewGuid();

    /// <summary>A prepared statement is a third of the time; behind a pooler the next one may go to a session that does not know it.</summary>
    [Theory]
    [InlineData("Npgsql", true), InlineData("AdoNet on PostgreSQL", true), InlineData("PgBouncer, transaction", false), InlineData("PgBouncer, statement", false)]
    public async Task It_is_prepared_where_one_session_answers(string way, bool isPrepared)
    {
        // One session at a time is asked, the same one again.
        await using var source = await LeaseServers.NewSourceAsync(way);
        var table = new LeaseTable("cost_" + Guid.NewGuid().ToString("N"));
        await table.CreateAsync(source, LeaseServers.Interface(way));
        var options = Options with { LeaseTable = table };
        for (var n = 0; n < 4; n++)
        {
            // The name of each is another one, and the comment with it.
            await using var held = await source.AcquireLockAsync($"{Key}:{n}", null, LeaseServers.Interface(way), options);
        }

        await using (var all = await source.AcquireLockAsync(LockKey.All(Key, Key + ":second"), null, LeaseServers.Interface(way), options))
        {
            Assert.True(all.IsHeld);
        }

        var prepared = await LeaseServers.AskAsync(source, $"select count(*) from pg_prepared_statements where statement like '%{table.Name}%'");
        Assert.Equal(isPrepared ? 2 : 0, Convert.ToInt32(prepared, CultureInfo.InvariantCulture));
        await LeaseServers.AskAsync(source, $"drop table {table.Name}");
    }

    /// <summary>A plan that was made while the table was small is kept, and would read the whole table later.</summary>
    [Fact]
    public async Task It_is_looked_up_by_its_key_though_the_table_has_grown()
    {
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync();
        var (leases, table) = (LockDialect.PostgreSql.Leases!, new LeaseTable("cost_" + Guid.NewGuid().ToString("N")));
        await table.CreateAsync(connection);
        await connection.ExecuteAsync($"alter table {table.Name} set (autovacuum_enabled = off)");
        LeaseRow[] rows = [new(leases.Name(Key), "owner") { Lease = TimeSpan.FromMinutes(1) }];
        LockStatement[] statements =
        [
            leases.Acquire(table, rows, allOrNone: false), leases.Acquire(table, rows, allOrNone: true), leases.Renew(table, rows), leases.Release(table, rows),
        ];
        await connection.ExecuteAsync("set plan_cache_mode = force_generic_plan");
        for (var n = 0; n < statements.Length; n++)
        {
            await connection.ExecuteAsync($"prepare cost{n} as {statements[n].Commands[0].Sql.Numbered}");
            await ExplainAsync(n);
        }

        await connection.ExecuteAsync($"insert into {table.Name} select 'other' || n, 0, '', 0, now(), now(), '', '' from generate_series(1, 5000) as n");
        for (var n = 0; n < statements.Length; n++)
        {
            Assert.DoesNotContain($"Seq Scan on {table.Name}", await ExplainAsync(n), StringComparison.Ordinal);
        }

        await connection.ExecuteAsync($"drop table {table.Name}");

        async Task<string> ExplainAsync(int n)
        {
            await using var command = new NpgsqlCommand($"explain (format text) execute cost{n}('{LeaseRow.ToJson(rows)}')", connection);
            await using var reader = await command.ExecuteReaderAsync();
            var lines = new List<string>();
            while (await reader.ReadAsync())
            {
                lines.Add(reader.GetString(0));
            }

            return string.Join('\n', lines);
        }
    }
}
