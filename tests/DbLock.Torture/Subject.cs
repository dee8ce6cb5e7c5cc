using System.Data;
using System.Data.Common;
using System.Data.Odbc;
using System.Globalization;
using MySqlConnector;
using Npgsql;

namespace DbLock.Torture;

/// <summary>A way to hold locks with the library: on a connection of one's own, from a data source, from a pool.</summary>
internal abstract class Subject(Sight sight, int task) : IAsyncDisposable
{
    // The session's own settings, as far as they are not what it began with. psqlODBC sets statement_timeout for its own timeout of a command, and forgets it with a transaction.
    private const string SettingsSql = """
        select coalesce(string_agg(name || '=' || setting, ' ' order by name), '') from pg_settings
        where setting is distinct from reset_val and context in ('user', 'superuser')
          and name not in ('application_name', 'transaction_isolation', 'transaction_read_only', 'transaction_deferrable'{0})
        """;

    private const string SettingsOfMariaDbSql =
        "select concat_ws(' ', @@max_statement_time, @@lock_wait_timeout, @@wait_timeout, @@autocommit, @@sql_mode, @@character_set_connection)";

    private static readonly TimeSpan Lease = TimeSpan.FromMilliseconds(Rules.Lease);

    protected Sight Sight { get; } = sight;

    protected LockInterface Interface { get; } = sight.Driver switch
    {
        "Npgsql" => LockInterface.Npgsql,
        "AdoNet" or "MySqlConnector" => LockInterface.AdoNet,
        _ => LockInterface.Odbc,
    };

    /// <summary>Gets the name that its sessions give the server.</summary>
    public virtual string App => $"{Campaign.App}{Sight.Worker}.{Sight.Generation}.{Task}";

    /// <summary>Gets whether the connection is the lock's alone.</summary>
    public virtual bool IsOwn => true;

    protected int Task { get; } = task;

    public static Subject Make(Sight sight, int task) => sight.Kind switch
    {
        "connection" => new OnConnection(sight, task),
        "source" or "lease source" => new FromSource(sight, task),
        _ => new FromPool(sight, task),
    };

    /// <summary>Gets ready: a session that answers.</summary>
    /// <param name="looks">Whether to look, too, if the session is as it was at its beginning.</param>
    /// <returns>What is not as it was; null when all is well.</returns>
    public abstract Task<string?> ReadyAsync(bool looks);

    /// <summary>Acquires a lock.</summary>
    /// <returns>Null when it is held elsewhere.</returns>
    public abstract Task<Held?> AcquireAsync(Attempt attempt, CancellationToken cancellationToken);

    /// <summary>Gets whether the session that a failed attempt used is still ours, and ours alone.</summary>
    public virtual bool IsOpenAfter(bool error) => !error;

    /// <summary>Gets whether there is a connection, and it is not open any more.</summary>
    public virtual bool IsBroken => false;

    /// <summary>Takes note that the library has given the connection up, which it closes when the answer has come that it owes.</summary>
    public virtual void GiveUp()
    {
    }

    public abstract ValueTask DisposeAsync();

    protected DbConnection Connect(string app) => Sight.Driver switch
    {
        "Odbc" => new OdbcConnection(Sight.Odbc(app)),
        "MySqlConnector" => new MySqlConnection(Sight.MySql(app) + ";Pooling=false"),
        _ => new NpgsqlConnection(Sight.Npgsql(app) + ";Pooling=false"),
    };

    protected DbDataSource Source() => Sight.Driver switch
    {
        "Odbc" => OdbcFactory.Instance.CreateDataSource(Sight.Odbc(App)),
        "MySqlConnector" => new MySqlDataSource(Sight.MySql(App) + ";Maximum Pool Size=2"),
        _ => NpgsqlDataSource.Create(Sight.Npgsql(App) + ";Maximum Pool Size=2"),
    };

    // A provider that reads an answer which ends in the last words of a server or a pooler may fail with anything: Npgsql with a
    // FormatException, while it loads the types. There is no session, as after every other failure.
    protected static async Task OpenAsync(DbConnection connection)
    {
        try
        {
            await connection.OpenAsync();
        }
        catch (Exception e) when (!Worker.IsExpected(e))
        {
            throw new IOException($"No session is to be had: {e.Message}", e);
        }
    }

    protected static async Task<string> AskAsync(DbConnection connection, DbTransaction? transaction, string sql)
    {
        await using var command = connection.CreateCommand();
        command.CommandText = sql;
        command.Transaction = transaction;
        return Convert.ToString(await command.ExecuteScalarAsync(), CultureInfo.InvariantCulture) ?? "";
    }

    protected Task<string> SettingsAsync(DbConnection connection) => AskAsync(
        connection, null, Sight.IsMariaDb ? SettingsOfMariaDbSql : SettingsSql.Replace("{0}", Interface == LockInterface.Odbc ? ", 'statement_timeout'" : "", StringComparison.Ordinal));

    /// <summary>A lock that is held.</summary>
    internal abstract class Held
    {
        public abstract CancellationToken Lost { get; }

        public abstract long? Token { get; }

        /// <summary>Gets whether the session is still ours, and ours alone, after the end.</summary>
        public virtual bool IsOpen => true;

        public abstract void ThrowIfLost();

        /// <summary>Does something on the connection, where there is one.</summary>
        /// <param name="fails">Whether it shall fail.</param>
        public virtual Task UseAsync(bool fails) => System.Threading.Tasks.Task.CompletedTask;

        /// <summary>Ends it, as its user would.</summary>
        /// <param name="error">The error that ended its work; null for none.</param>
        /// <returns><c>released</c>, <c>ended</c> with its transaction, or what else its user is told.</returns>
        public abstract Task<string> EndAsync(Exception? error);
    }

    private sealed class OnConnection(Sight sight, int task) : Subject(sight, task)
    {
        private DbConnection? _connection;
        private string _settings = "";
        private int _count;

        public override bool IsOwn => false;

        // Another name for each connection: whose session it is that the server still has is never in doubt.
        public override string App => $"{base.App}.{_count}";

        public override async Task<string?> ReadyAsync(bool looks)
        {
            if (_connection?.State == ConnectionState.Open)
            {
                try
                {
                    await AskAsync(_connection, null, "select 1");
                    return looks && await SettingsAsync(_connection) is var settings && settings != _settings ? $"'{settings}', not '{_settings}'" : null;
                }
                catch (Exception e) when (Worker.IsExpected(e))
                {
                    // Another one, then.
                }
            }

            await DisposeAsync();
            _count++;
            _connection = Connect(App);
            try
            {
                await OpenAsync(_connection);
                _settings = await SettingsAsync(_connection);
                return null;
            }
            catch (Exception)
            {
                await DisposeAsync();
                throw;
            }
        }

        public override async Task<Held?> AcquireAsync(Attempt attempt, CancellationToken cancellationToken)
        {
            var connection = _connection!;
            var transaction = attempt.InTransaction ? await connection.BeginTransactionAsync(CancellationToken.None) : null;
            Lock? @lock = null;
            var isHeld = false;
            try
            {
                @lock = new Lock(connection, attempt.Key, Interface, new LockOptions
                {
                    Shared = attempt.Shared,
                    Scope = attempt.Scope,
                    Fencing = attempt.Fenced,
                    Wait = attempt.Wait,
                    TrustPooler = Sight.TrustsPooler,
                })
                {
                    Transaction = transaction,
                };
                isHeld = attempt.Async ? await @lock.AcquireAsync(attempt.Timeout, cancellationToken) : @lock.Acquire(attempt.Timeout);
                return isHeld ? new HeldOn(this, attempt, connection, transaction, @lock) : null;
            }
            finally
            {
                if (!isHeld && transaction is not null)
                {
                    await RollbackAsync(transaction);
                }
            }
        }

        public override bool IsOpenAfter(bool error) => !IsBroken;

        public override bool IsBroken => _connection!.State != ConnectionState.Open;

        public override void GiveUp() => _connection = null;

        public override async ValueTask DisposeAsync()
        {
            if (_connection is not null)
            {
                await _connection.DisposeAsync();
                _connection = null;
            }
        }

        private async Task RollbackAsync(DbTransaction transaction)
        {
            try
            {
                await transaction.RollbackAsync();
            }
            catch (Exception e) when (Worker.IsExpected(e) || e is InvalidOperationException)
            {
                await _connection!.CloseAsync();
            }
        }

        private sealed class HeldOn(OnConnection subject, Attempt attempt, DbConnection connection, DbTransaction? transaction, Lock @lock) : Held
        {
            public override CancellationToken Lost => @lock.Lost;

            public override long? Token => @lock.FencingToken;

            public override bool IsOpen => connection.State == ConnectionState.Open;

            public override void ThrowIfLost() => @lock.ThrowIfLost();

            public override async Task UseAsync(bool fails)
            {
                try
                {
                    await AskAsync(connection, transaction, fails ? "select * from there_is_no_such_table" : "select 1");
                }
                catch (Exception) when (connection.State != ConnectionState.Open)
                {
                    // A hold of transaction scope ends with its transaction, which tells by its own end.
                    if (attempt.Scope == LockScope.Session && !@lock.Lost.IsCancellationRequested)
                    {
                        await subject.Sight.Conductor.AskAsync("violation", $"The connection of {attempt.Key} is {connection.State}, and its lock does not know that it is lost");
                    }

                    throw;
                }
            }

            public override async Task<string> EndAsync(Exception? error)
            {
                try
                {
                    if (error is not null)
                    {
                        if (attempt.Async)
                        {
                            await @lock.HandleErrorAsync(error);
                        }
                        else
                        {
                            @lock.HandleError(error);
                        }
                    }

                    if (attempt.Scope == LockScope.Transaction || (attempt.CommitsFirst && transaction is not null))
                    {
                        if (error is null)
                        {
                            await transaction!.CommitAsync();
                        }

                        if (attempt.Scope == LockScope.Transaction)
                        {
                            return error is null ? "ended" : "aborted";
                        }
                    }

                    var released = attempt.Async ? await @lock.ReleaseAsync() : @lock.Release();
                    if (error is null && transaction is not null && !attempt.CommitsFirst)
                    {
                        await transaction.CommitAsync();
                    }

                    return released ? "released" : "lost";
                }
                catch (LockLostException)
                {
                    return "lost";
                }
                catch (Exception e) when (Worker.IsExpected(e) || (e is InvalidOperationException && connection.State != ConnectionState.Open))
                {
                    // Nobody knows: the session is not used any more.
                    await connection.CloseAsync();
                    return "unknown";
                }
                finally
                {
                    await @lock.DisposeAsync();
                    if (transaction is not null)
                    {
                        await transaction.DisposeAsync();
                    }
                }
            }
        }
    }

    private sealed class FromSource : Subject
    {
        private readonly DbDataSource _source;
        private string? _settings;

        public FromSource(Sight sight, int task)
            : base(sight, task) => _source = Source();

        public override async Task<string?> ReadyAsync(bool looks)
        {
            await using var connection = _source.CreateConnection();
            await OpenAsync(connection);
            await AskAsync(connection, null, "select 1");
            if (!looks && _settings is not null)
            {
                return null;
            }

            var settings = await SettingsAsync(connection);
            _settings ??= settings;
            return settings != _settings ? $"'{settings}', not '{_settings}'" : null;
        }

        public override async Task<Held?> AcquireAsync(Attempt attempt, CancellationToken cancellationToken)
        {
            var options = new LockOptions { Shared = attempt.Shared, Fencing = attempt.Fenced, Wait = attempt.Wait, Scope = attempt.Scope, Lease = Lease, Note = Sight.IsLease ? App : "" };
            var held = attempt.Async
                ? await _source.TryAcquireLockAsync(attempt.Key, attempt.Timeout, Interface, options, cancellationToken)
                : _source.TryAcquireLock(attempt.Key, attempt.Timeout, Interface, options);
            return held is null ? null : new HeldFrom(attempt, held);
        }

        public override ValueTask DisposeAsync() => _source.DisposeAsync();

        private sealed class HeldFrom(Attempt attempt, HeldLock held) : Held
        {
            public override CancellationToken Lost => held.Lost;

            public override long? Token => held.FencingToken;

            public override void ThrowIfLost() => held.ThrowIfLost();

            public override Task<string> EndAsync(Exception? error) => Worker.ReleaseAsync(async () => attempt.Async ? await held.ReleaseAsync() : held.Release());
        }
    }

    private sealed class FromPool(Sight sight, int task) : Subject(sight, task)
    {
        private static readonly System.Threading.Lock Gate = new();
        private static LockPool? s_pool;
        private static LockPool? s_fenced;

        // One for the tasks of the process, and one for the locks with tokens, of which none is shared.
        public override string App => $"{Campaign.App}{Sight.Worker}.{Sight.Generation}.pool";

        public override Task<string?> ReadyAsync(bool looks)
        {
            lock (Gate)
            {
                s_pool ??= new LockPool(Source(), Interface, Sight.IsLease ? new LockPoolOptions { Scope = LockScope.Lease, Lease = Lease, Note = App } : null);
                s_fenced ??= new LockPool(Source(), Interface, new LockPoolOptions { Fencing = true });
            }

            return System.Threading.Tasks.Task.FromResult<string?>(null);
        }

        public override async Task<Held?> AcquireAsync(Attempt attempt, CancellationToken cancellationToken) =>
            await (attempt.Fenced && !Sight.IsLease ? s_fenced! : s_pool!).TryAcquireLockAsync(attempt.Key, attempt.Timeout, attempt.Shared, cancellationToken) is { } held
                ? new HeldFromPool(held)
                : null;

        public override ValueTask DisposeAsync() => ValueTask.CompletedTask;

        private sealed class HeldFromPool(PooledLock held) : Held
        {
            public override CancellationToken Lost => held.Lost;

            public override long? Token => held.FencingToken;

            public override void ThrowIfLost() => held.ThrowIfLost();

            public override Task<string> EndAsync(Exception? error) => Worker.ReleaseAsync(async () => await held.ReleaseAsync());
        }
    }
}
