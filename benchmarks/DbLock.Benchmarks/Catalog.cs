using System.Data.Common;
using System.Data.Odbc;
using System.Globalization;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.Benchmarks;

/// <summary>All that is measured.</summary>
internal sealed class Catalog(PostgreSqlServer server, MariaDbServer mariaDb, Leases leases)
{
    private static readonly TimeSpan TenSeconds = TimeSpan.FromSeconds(10);
    private static readonly (string Name, TimeSpan Timeout, LockScope Scope, bool InTransaction, bool Shared, bool HeldElsewhere)[] Modes =
    [
        ("try", TimeSpan.Zero, LockScope.Session, false, false, false),
        ("try, held elsewhere", TimeSpan.Zero, LockScope.Session, false, false, true),
        ("try, shared", TimeSpan.Zero, LockScope.Session, false, true, false),
        ("timeout", TenSeconds, LockScope.Session, false, false, false),
        ("wait for ever", Timeout.InfiniteTimeSpan, LockScope.Session, false, false, false),
        ("try, inside a transaction", TimeSpan.Zero, LockScope.Session, true, false, false),
        ("timeout, inside a transaction", TenSeconds, LockScope.Session, true, false, false),
        ("begin, try in transaction scope, commit", TimeSpan.Zero, LockScope.Transaction, true, false, false),
        ("begin, timeout in transaction scope, commit", TenSeconds, LockScope.Transaction, true, false, false),
    ];

    private (string Group, DbConnection Connection, DbTransaction? Transaction)? _shared;
    private long _key = 1_000_000;

    /// <summary>Lists the rows in the order in which they are run: each beside its floor.</summary>
    public IEnumerable<Row> All()
    {
        // In a transaction neither prepares: what somebody has deallocated would cost the transaction.
        foreach (var (driver, budget, prepared, notPrepared) in new[]
        {
            ("Npgsql", 1.10, "by hand, prepared", "by hand"),
            ("AdoNet", 1.30, "by hand, a prepared DbCommand", "by hand, a DbCommand"),
            ("Odbc", 1.20, "by hand, an OdbcCommand", "by hand, an OdbcCommand"),
        })
        {
            foreach (var mode in Modes)
            {
                var group = $"{driver}: {mode.Name}";
                var floor = mode.InTransaction ? notPrepared : prepared;
                yield return new(group, floor, null, null, () => ByHandAsync(group, driver, mode.Timeout, mode.Scope, mode.InTransaction, mode.Shared, mode.HeldElsewhere));
                yield return new(
                    group, "DbLock", floor, budget, () => LockAsync(group, driver, mode.Timeout, mode.Scope, mode.InTransaction, mode.Shared, mode.HeldElsewhere),
                    driver == "Npgsql" && mode is { InTransaction: false } ? 128 : null);
            }
        }

        foreach (var row in FromSource().Concat(OfPool()).Concat(Many()).Concat(Crowded()).Concat(Cold()).Concat(Others()).Concat(leases.Rows()))
        {
            yield return row;
        }
    }

    // What most people call. The floor does by hand what a lock needs: a pooled connection, a try and an unlock that the session has prepared.
    private IEnumerable<Row> FromSource()
    {
        foreach (var driver in new[] { "Npgsql", "AdoNet" })
        {
            const string Floor = "by hand, prepared, a pooled connection";
            var group = $"{driver}: a lock from a data source";
            yield return new(group, Floor, null, null, () =>
            {
                var (source, key) = (NpgsqlDataSource.Create(server.ConnectionString), _key++);
                return Task.FromResult(new Work(
                    () =>
                    {
                        using var connection = source.OpenConnection();
                        foreach (var text in new[] { Floors.Try, Floors.Unlock })
                        {
                            using var command = OneKey(connection, text, key);
                            command.Prepare();
                            command.ExecuteScalar();
                        }
                    },
                    async () =>
                    {
                        await using var connection = await source.OpenConnectionAsync();
                        foreach (var text in new[] { Floors.Try, Floors.Unlock })
                        {
                            await using var command = OneKey(connection, text, key);
                            await command.PrepareAsync();
                            await command.ExecuteScalarAsync();
                        }
                    },
                    source));
            });
            yield return new(group, "DbLock", Floor, 1.15, () =>
            {
                var (source, key, name) = (NpgsqlDataSource.Create(server.ConnectionString), _key++, driver == "Npgsql" ? null : Interface(driver));
                return Task.FromResult(new Work(
                    () =>
                    {
                        using var held = source.TryAcquireLock(key, lockInterface: name);
                        Check(held is not null, expected: true);
                    },
                    async () =>
                    {
                        await using var held = await source.TryAcquireLockAsync(key, lockInterface: name);
                        Check(held is not null, expected: true);
                    },
                    source));
            });
        }
    }

    private IEnumerable<Row> OfPool()
    {
        const string Group = "A lock of a pool, one task";
        const string Floor = "by hand, prepared, an open connection";
        yield return new(Group, Floor, null, null, async () =>
        {
            var connection = await NpgsqlAsync();
            var key = _key++;
            var (take, give) = (OneKey(connection, Floors.Try, key), OneKey(connection, Floors.Unlock, key));
            await take.PrepareAsync();
            await give.PrepareAsync();
            return new Work(
                null,
                async () =>
                {
                    await take.ExecuteScalarAsync();
                    await give.ExecuteScalarAsync();
                },
                connection);
        });
        yield return new(
            Group, "DbLock", Floor, 1.30, () =>
            {
                var source = NpgsqlDataSource.Create(server.ConnectionString);
                var (pool, key) = (new LockPool(source), LockKey.From(_key++));
                return Task.FromResult(new Work(
                    null,
                    async () =>
                    {
                        await using var held = await pool.AcquireLockAsync(key);
                    },
                    new Pools(pool, source)));
            },
            MoreBytes: 1024);
    }

    private static NpgsqlCommand OneKey(NpgsqlConnection connection, string text, long key) =>
        new(text.Replace("{0}", "$1", StringComparison.Ordinal), connection) { Parameters = { new NpgsqlParameter<long> { TypedValue = key } } };

    private IEnumerable<Row> Many()
    {
        const string Group = "Several keys in one call, Npgsql";
        foreach (var (count, budget) in new (int, double?)[] { (1, null), (10, null), (50, 4), (1000, null) })
        {
            yield return new(Group, Keys(count), count == 1 ? null : Keys(1), budget, async () =>
            {
                var connection = await NpgsqlAsync();
                return Loop(new Lock(connection, LockKey.All(Enumerable.Range(0, count).Select(_ => LockKey.From(_key++))), LockInterface.Npgsql), connection);
            });
        }

        static string Keys(int count) => count == 1 ? "1 key" : string.Create(CultureInfo.InvariantCulture, $"{count} keys");
    }

    private IEnumerable<Row> Crowded()
    {
        const string Group = "Other locks on the server, Npgsql";
        const string None = "no other locks";
        foreach (var (count, budget) in new (int, double?)[] { (0, null), (1000, 1.10), (10000, 1.10) })
        {
            yield return new(Group, count == 0 ? None : string.Create(CultureInfo.InvariantCulture, $"{count} other locks"), count == 0 ? null : None, budget, async () =>
            {
                var (connection, crowd) = (await NpgsqlAsync(), await NpgsqlAsync());
                await using var take = new NpgsqlCommand($"select count(pg_advisory_lock_shared(10, n)) from generate_series(1, {count}) as n", crowd);
                await take.ExecuteScalarAsync();
                return Loop(new Lock(connection, _key++, LockInterface.Npgsql), connection, crowd);
            }, IsApart: true);
        }
    }

    // A new session each time: nothing is prepared, and the catalog caches of the server are cold.
    private IEnumerable<Row> Cold()
    {
        const string Group = "Cold: open, acquire, release, close";
        foreach (var (driver, budget) in new (string, double?)[] { ("Npgsql", null), ("AdoNet", null) })
        {
            if (driver == "Npgsql")
            {
                yield return new(Group, "by hand", null, null, () =>
                {
                    var key = _key++;
                    return Task.FromResult(new Work(null, async () =>
                    {
                        await using var connection = await NpgsqlAsync();
                        foreach (var text in new[] { Floors.Try, Floors.Unlock })
                        {
                            await using var command = OneKey(connection, text, key);
                            await command.ExecuteScalarAsync();
                        }
                    }));
                });
            }

            yield return new(Group, driver, "by hand", budget, () =>
            {
                var key = _key++;
                return Task.FromResult(new Work(null, async () =>
                {
                    await using var connection = await NpgsqlAsync();
                    await using var @lock = new Lock(connection, key, Interface(driver));
                    Check(await @lock.AcquireAsync(block: false), expected: true);
                    await @lock.ReleaseAsync();
                }));
            });
        }
    }

    private IEnumerable<Row> Others()
    {
        foreach (var (provider, name, budget, connectionString, acquire, release) in new (string, string, double?, string?, string, string)[]
        {
            ("MySqlConnector", "MariaDB", 1.20, mariaDb.ConnectionString, "select get_lock(@k, 0)", "select release_lock(@k)"),
            ("Odbc", "MariaDB", null, mariaDb.OdbcConnectionString, "select get_lock(?, 0)", "select release_lock(?)"),
            ("Odbc", "SQL Server", null, SqlServer.ConnectionString is null ? null : SqlServer.OdbcConnectionString,
                "declare @a int; exec @a = sp_getapplock @Resource = ?, @LockMode = 'Exclusive', @LockOwner = 'Session', @LockTimeout = 0; select @a",
                "declare @a int; exec @a = sp_releaseapplock @Resource = ?, @LockOwner = 'Session'; select @a"),
        })
        {
            if (connectionString is null)
            {
                continue;
            }

            var group = $"{provider} on {name}: try";
            var floor = provider == "Odbc" ? "by hand, an OdbcCommand" : "by hand, a MySqlCommand";
            yield return new(group, floor, null, null, () =>
            {
                var (connection, key) = (Other(provider, connectionString), string.Create(CultureInfo.InvariantCulture, $"bench {_key++}"));
                var (take, give) = (Command(connection, acquire, key), Command(connection, release, key));
                return Task.FromResult(new Work(
                    () =>
                    {
                        take.ExecuteScalar();
                        give.ExecuteScalar();
                    },
                    async () =>
                    {
                        await take.ExecuteScalarAsync();
                        await give.ExecuteScalarAsync();
                    },
                    connection));
            });
            yield return new(group, "DbLock", floor, budget, () =>
            {
                var connection = Other(provider, connectionString);
                return Task.FromResult(Loop(
                    new Lock(connection, string.Create(CultureInfo.InvariantCulture, $"bench {_key++}"), provider == "Odbc" ? LockInterface.Odbc : LockInterface.AdoNet), connection));
            });
        }

        static DbCommand Command(DbConnection connection, string text, string key)
        {
            var command = connection.CreateCommand();
            command.CommandText = text;
            var parameter = command.CreateParameter();
            (parameter.ParameterName, parameter.Value) = ("k", key);
            command.Parameters.Add(parameter);
            return command;
        }

        static DbConnection Other(string provider, string connectionString)
        {
            if (provider == "Odbc")
            {
                return Odbc(connectionString);
            }

            var connection = new MySqlConnector.MySqlConnection(connectionString + ";Pooling=false");
            connection.Open();
            return connection;
        }
    }

    private async Task<Work> ByHandAsync(string group, string driver, TimeSpan timeout, LockScope scope, bool inTransaction, bool shared, bool heldElsewhere)
    {
        var (connection, transaction) = await OpenAsync(group, driver, inTransaction && scope == LockScope.Session);
        var key = _key++;
        var suffix = shared ? "_shared" : "";
        var milliseconds = timeout == TimeSpan.Zero ? null : timeout < TimeSpan.Zero ? "0" : "10000";
        string[] texts = (scope, milliseconds) switch
        {
            (LockScope.Session, null) => [$"select pg_try_advisory_lock{suffix}({{0}})"],
            (LockScope.Transaction, null) => ["select pg_try_advisory_xact_lock({0})"],
            (LockScope.Session, _) when inTransaction => ["savepoint s", Floors.Wait, "rollback to savepoint s", "release savepoint s"],
            (LockScope.Session, _) => [Floors.Wait],
            _ => ["savepoint s", Floors.WaitInScope, "release savepoint s"],
        };
        var acquire = Floors.Command(connection, driver, key, milliseconds, !inTransaction, texts);
        var release = Floors.Command(connection, driver, key, null, !inTransaction, $"select pg_advisory_unlock{suffix}({{0}})");
        if (scope == LockScope.Transaction)
        {
            return new(
                () =>
                {
                    using var begun = connection.BeginTransaction();
                    acquire.Enlist(begun);
                    acquire.Run();
                    begun.Commit();
                },
                async () =>
                {
                    await using var begun = await connection.BeginTransactionAsync();
                    acquire.Enlist(begun);
                    await acquire.RunAsync();
                    await begun.CommitAsync();
                });
        }

        if (heldElsewhere)
        {
            var holder = await HoldAsync(key);
            return new(acquire.Run, acquire.RunAsync, holder);
        }

        acquire.Enlist(transaction);
        release.Enlist(transaction);
        return new(
            () =>
            {
                acquire.Run();
                release.Run();
            },
            async () =>
            {
                await acquire.RunAsync();
                await release.RunAsync();
            });
    }

    private async Task<Work> LockAsync(string group, string driver, TimeSpan timeout, LockScope scope, bool inTransaction, bool shared, bool heldElsewhere)
    {
        var (connection, transaction) = await OpenAsync(group, driver, inTransaction && scope == LockScope.Session);
        var key = _key++;
        var @lock = new Lock(connection, key, Interface(driver), new LockOptions { Shared = shared, Scope = scope });
        if (scope == LockScope.Transaction)
        {
            return new(
                () =>
                {
                    using var begun = connection.BeginTransaction();
                    @lock.Transaction = begun;
                    Check(@lock.Acquire(timeout), expected: true);
                    begun.Commit();
                },
                async () =>
                {
                    await using var begun = await connection.BeginTransactionAsync();
                    @lock.Transaction = begun;
                    Check(await @lock.AcquireAsync(timeout), expected: true);
                    await begun.CommitAsync();
                });
        }

        if (heldElsewhere)
        {
            var holder = await HoldAsync(key);
            return new(() => Check(@lock.Acquire(timeout), expected: false), async () => Check(await @lock.AcquireAsync(timeout), expected: false), holder);
        }

        @lock.Transaction = transaction;
        return new(
            () =>
            {
                Check(@lock.Acquire(timeout), expected: true);
                Check(@lock.Release(), expected: true);
            },
            async () =>
            {
                Check(await @lock.AcquireAsync(timeout), expected: true);
                Check(await @lock.ReleaseAsync(), expected: true);
            });
    }

    private static Work Loop(Lock @lock, params IDisposable[] owned) => new(
        () =>
        {
            Check(@lock.Acquire(block: false), expected: true);
            @lock.Release();
        },
        async () =>
        {
            Check(await @lock.AcquireAsync(block: false), expected: true);
            await @lock.ReleaseAsync();
        },
        owned);

    private static void Check(bool answer, bool expected)
    {
        if (answer != expected)
        {
            throw new InvalidOperationException($"The lock answered {answer}, and what was measured is not what was meant.");
        }
    }

    private static LockInterface Interface(string driver) => driver switch
    {
        "Npgsql" => LockInterface.Npgsql,
        "AdoNet" => LockInterface.AdoNet,
        _ => LockInterface.Odbc,
    };

    // DbLock and its floor share a connection: two sessions differ by more than the two.
    private async Task<(DbConnection Connection, DbTransaction? Transaction)> OpenAsync(string group, string driver, bool inTransaction)
    {
        if (_shared is not { } shared || shared.Group != group)
        {
            _shared?.Connection.Dispose();
            var connection = driver == "Odbc" ? Odbc(server.OdbcConnectionString) : await NpgsqlAsync() as DbConnection;
            _shared = shared = (group, connection, inTransaction ? await connection.BeginTransactionAsync() : null);
        }

        return (shared.Connection, shared.Transaction);
    }

    private async Task<NpgsqlConnection> NpgsqlAsync()
    {
        var connection = new NpgsqlConnection(server.ConnectionString + ";Pooling=false");
        await connection.OpenAsync();
        return connection;
    }

    private static OdbcConnection Odbc(string connectionString)
    {
        var connection = new OdbcConnection(connectionString);
        connection.Open();
        return connection;
    }

    private async Task<DbConnection> HoldAsync(long key)
    {
        var connection = await NpgsqlAsync();
        await using var take = new NpgsqlCommand($"select pg_advisory_lock({key})", connection);
        await take.ExecuteNonQueryAsync();
        return connection;
    }

    private sealed class Pools(LockPool pool, NpgsqlDataSource source) : IDisposable
    {
        public void Dispose()
        {
            pool.DisposeAsync().AsTask().GetAwaiter().GetResult();
            source.Dispose();
        }
    }
}
