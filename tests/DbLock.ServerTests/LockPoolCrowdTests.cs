using System.Collections.Concurrent;
using System.Data.Common;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>A pool that many want something of, some from far away.</summary>
public sealed class LockPoolCrowdTests
{
    private string Name { get; } = "pool crowd:" + Guid.NewGuid();

    [Fact]
    public async Task Tasks_that_time_out_together_ask_who_holds_what_in_one_question_beside_the_pools_work()
    {
        const int Count = 500;
        await using var source = await SourceAsync();
        await using var holders = new LockPool(source);
        var held = await Task.WhenAll(Enumerable.Range(0, Count).Select(n => holders.AcquireLockAsync($"{Name}{n}").AsTask()));

        // Who holds it is told within a second or not at all, and a machine may be too busy for that, but not each time.
        for (var attempt = 1; ; attempt++)
        {
            var watched = new WatchedDriver(LockInterface.Npgsql.Driver);
            await using var pool = new LockPool(source, watched.Interface);
            var waits = Enumerable.Range(0, Count)
                .Select(n => pool.AcquireLockAsync($"{Name}{n}", TimeSpan.FromMilliseconds(500)).AsTask()).ToList();
            await (await pool.AcquireLockAsync(Name + "beside")).DisposeAsync();
            var carrier = watched.Statements.Where(one => one.Sql.Contains("pg_try_advisory_lock", StringComparison.Ordinal))
                .Select(one => one.Connection).Distinct().Single();
            List<LockNotAcquiredException> errors = [];
            foreach (var wait in waits)
            {
                errors.Add(await Assert.ThrowsAsync<LockNotAcquiredException>(() => wait));
            }

            if (attempt < 3 && errors.Exists(error => error.Holders is null))
            {
                continue;
            }

            Assert.All(errors, (error, n) =>
            {
                Assert.Contains($"'{Name}{n}' is held by pid", error.Message, StringComparison.Ordinal);
                Assert.Single(error.Holders!);
            });

            // They began one after the other, so that their times may be over in several moments.
            var questions = watched.Statements.Where(one => one.Sql.Contains("pg_stat_activity", StringComparison.Ordinal)).ToList();
            Assert.InRange(questions.Count, 1, 10);
            Assert.All(questions, question => Assert.NotSame(carrier, question.Connection));
            break;
        }

        await Task.WhenAll(held.Select(one => one.DisposeAsync().AsTask()));
    }

    [Fact]
    public async Task Turns_are_fair_however_far_a_process_is_from_the_server()
    {
        // Bells of other tests are not heard in a database of its own.
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        var server = (await PostgreSqlTestServer.ServerAsync).ConnectionString;
        var builder = new NpgsqlConnectionStringBuilder(server) { Database = database.Name, Pooling = false };
        await using var far = new PostgreSqlProxy(builder.Host!, builder.Port) { Delay = TimeSpan.FromMilliseconds(15) };
        await using var nearSource = NpgsqlDataSource.Create(builder.ConnectionString);
        (builder.Host, builder.Port, builder.SslMode) = ("127.0.0.1", far.Port, SslMode.Disable);
        await using var farSource = NpgsqlDataSource.Create(builder.ConnectionString);
        await using LockPool nearPool = new(nearSource), farPool = new(farSource);
        var (counts, stop) = (new ConcurrentDictionary<LockPool, int>(), false);
        var tasks = Enumerable.Range(0, 40).Select(n => Task.Run(async () =>
        {
            var mine = n % 2 == 0 ? nearPool : farPool;
            while (!Volatile.Read(ref stop))
            {
                await using var held = await mine.AcquireLockAsync(Name);
                counts.AddOrUpdate(mine, 1, (_, count) => count + 1);
                await Task.Yield();
            }
        })).ToList();
        // It takes the far one a while to have its connections.
        await TestServer.UntilAsync(() => Task.FromResult(counts.GetValueOrDefault(farPool) > 2000), "the far one has had its turn");
        var (near, distant) = (counts[nearPool], counts[farPool]);

        // A turn has some 4,000 grants, and who is first after one is a race: of few turns the shares would tell nothing.
        await TestServer.UntilAsync(
            () => Task.FromResult(counts[nearPool] + counts[farPool] - near - distant > 160_000), "they had it often enough");
        Volatile.Write(ref stop, true);
        await Task.WhenAll(tasks);
        (near, distant) = (counts[nearPool] - near, counts[farPool] - distant);
        Assert.True(8 * distant > near + distant, $"{near} near, {distant} far");
    }

    [Fact]
    public async Task A_server_that_takes_no_notifications_costs_nobody_a_lock_nor_an_answer()
    {
        await using var source = await SourceAsync();

        // Whom a pool rings for: it holds the sign that somebody listens.
        await using var listener = await source.OpenConnectionAsync();
        await listener.ExecuteAsync("select pg_advisory_lock_shared(" + LockKey.From("DbLock.LockPool listens").Number + ")");
        foreach (var fencing in new[] { false, true })
        {
            var full = new WatchedDriver(LockInterface.Npgsql.Driver) { IsFull = true };
            await using var pool = new LockPool(source, full.Interface, new LockPoolOptions { Fencing = fencing });
            await using var other = new LockPool(source);
            await using var elsewhere = await other.AcquireLockAsync($"{Name}elsewhere");
            await (await pool.AcquireLockAsync($"{Name}first")).DisposeAsync();
            for (var round = 0; round < 5; round++)
            {
                full.IsFull = true;
                PooledLock[] held = [await pool.AcquireLockAsync($"{Name}a"), await pool.AcquireLockAsync($"{Name}b")];
                var releases = held.Select(one => one.ReleaseAsync().AsTask()).ToList();
                var (acquire, tried) = (pool.AcquireLockAsync($"{Name}c").AsTask(), pool.TryAcquireLockAsync($"{Name}elsewhere").AsTask());
                Assert.All(await Task.WhenAll(releases), Assert.True);
                Assert.Null(await tried);
                Assert.True(await (await acquire).ReleaseAsync());
            }

            Assert.True(full.Refused > 0);
        }
    }

    [Fact]
    public async Task A_statement_that_was_done_and_then_cancelled_leaves_no_lock()
    {
        await using var source = await SourceAsync();
        await using var listener = await source.OpenConnectionAsync();
        await listener.ExecuteAsync("select pg_advisory_lock_shared(" + LockKey.From("DbLock.LockPool listens").Number + ")");
        var driver = new WatchedDriver(LockInterface.Npgsql.Driver) { CancelsEachThird = true };
        await using var pool = new LockPool(source, driver.Interface);
        for (var round = 0; round < 24; round++)
        {
            // Who asks for a key that is new to it while others listen heeds their claims.
            LockKey number = $"{Name}{round}", pair = LockKey.From(number.Number.GetHashCode(), round);
            var key = (round % 3) switch { 0 => number, 1 => pair, _ => LockKey.All(number, pair) };
            Assert.True(await (await pool.AcquireLockAsync(key, shared: round % 2 == 0)).ReleaseAsync());
        }

        Assert.True(driver.Refused > 0);
        var held = await listener.ExecuteAsync(
            "select count(*) from pg_locks l join pg_stat_activity a using (pid) where l.locktype = 'advisory' "
            + $"and pid <> pg_backend_pid() and application_name like '{Name}%'");
        Assert.Equal(0L, held);
    }

    private async Task<NpgsqlDataSource> SourceAsync() =>
        NpgsqlDataSource.Create($"{(await PostgreSqlTestServer.ServerAsync).ConnectionString};Application Name={Name}");

    /// <summary>
    /// A driver that writes down what is sent, and can fail each statement that rings, at its end, as a server does whose queue of
    /// notifications is full, or each third that takes or lets go, as one does that somebody cancels.
    /// </summary>
    private sealed class WatchedDriver : ILockDriver
    {
        private readonly ILockDriver _driver;

        public WatchedDriver(ILockDriver driver) =>
            (_driver, Interface) = (driver, new LockInterface("Watched", this, LockDialect.PostgreSql));

        public LockInterface Interface { get; }

        public ConcurrentQueue<(string Sql, DbConnection Connection)> Statements { get; } = new();

        public bool IsFull { get; set; }

        public bool CancelsEachThird { get; init; }

        private int Taken { get; set; }

        public int Refused { get; private set; }

        public bool Supports(DbConnection connection) => _driver.Supports(connection);

        public async ValueTask<object?> Execute(
            DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
        {
            var command = statement.Commands[0];
            Statements.Enqueue((command.Sql.Numbered, connection));
            var answer = await _driver.Execute(connection, transaction, statement, async, cancellationToken);
            if (IsFull && command.Sql.Numbered.Contains("pg_notify", StringComparison.Ordinal)
                && command.Parameters.Any(parameter => parameter.Value is string { Length: >= 12 } text && text[0] != '{' && (text.Length == 12 || text[12] == ' ')))
            {
                Refused++;
                var error = new LockSql("do $$ begin raise 'too many notifications' using errcode = '54000'; end $$");
                await _driver.Execute(connection, transaction, new LockStatement(new LockCommand(error)), async, CancellationToken.None);
            }

            if (CancelsEachThird && command.Sql.Numbered.Contains("advisory_", StringComparison.Ordinal) && Taken++ % 3 == 2)
            {
                Refused++;
                var error = new LockSql("do $$ begin raise 'canceled' using errcode = '57014'; end $$");
                await _driver.Execute(connection, transaction, new LockStatement(new LockCommand(error)), async, CancellationToken.None);
            }

            return answer;
        }

        public DbError Read(Exception exception) => _driver.Read(exception);

        public int? SessionId(DbConnection connection) => _driver.SessionId(connection);

        public void Discard(DbConnection connection) => _driver.Discard(connection);
    }
}
