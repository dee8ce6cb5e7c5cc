using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using DbLock.LocalServers;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>A lock on a connection of its own: what becomes of it is noticed though nobody asks.</summary>
public sealed class LossTests
{
    private static PostgreSqlTestServer Server => PostgreSqlTestServer.Instance;

    private LockKey Key { get; } = "loss:" + Guid.NewGuid();

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_session_that_is_killed_is_noticed_though_nobody_uses_it(bool async)
    {
        await using var source = await SourceAsync();
        var held = async ? await source.AcquireLockAsync(Key) : source.AcquireLock(Key);
        held.ThrowIfLost();
        var lost = Task.Delay(Timeout.Infinite, held.Lost);
        await Server.KillHolderAsync(Key);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => lost.WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.False(held.IsHeld);
        Assert.Throws<LockLostException>(held.ThrowIfLost);
        await Assert.ThrowsAsync<LockLostException>(async () => _ = async ? await held.ReleaseAsync() : held.Release());
        await held.DisposeAsync();

        await using var next = await source.AcquireLockAsync(Key);
        Assert.True(next.IsHeld);
    }

    [Fact]
    public async Task A_server_that_answers_no_more_is_not_trusted_for_long()
    {
        await using var server = await PostgreSqlServer.StartPrivateAsync();
        await using var source = NpgsqlDataSource.Create(server.ConnectionString);
        await using var other = NpgsqlDataSource.Create(server.ConnectionString);
        await using var held = await source.AcquireLockAsync(Key);
        await using var connection = await other.OpenConnectionAsync();
        var pid = (int)(await connection.ExecuteAsync("select pid from pg_locks where locktype = 'advisory'"))!;
        await SignalAsync("STOP", pid);
        try
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Delay(Timeout.Infinite, held.Lost).WaitAsync(TimeSpan.FromSeconds(60)));
            Assert.Throws<LockLostException>(held.ThrowIfLost);
        }
        finally
        {
            await SignalAsync("CONT", pid);
        }

        // It was held on the server all the time, and does not go back into the pool.
        await held.DisposeAsync();
        await TestServer.UntilAsync(async () => (long)(await connection.ExecuteAsync("select count(*) from pg_locks where locktype = 'advisory'"))! == 0, "the session has ended");
    }

    [Fact]
    public async Task The_question_leaves_nothing_and_meets_no_release()
    {
        await using var source = await SourceAsync("Maximum Pool Size=60");
        await Task.WhenAll(Enumerable.Range(0, 50).Select(async n =>
        {
            var held = await source.AcquireLockAsync($"{Key.Name}{n}");
            await Task.Delay(400 + (15 * n));
            Assert.True(held.IsHeld);
            Assert.True(n % 2 == 0 ? await held.ReleaseAsync() : held.Release());
            Assert.False(held.Lost.IsCancellationRequested);
        }));
        await using var observer = await PostgreSqlTestServer.OpenNpgsqlAsync();
        Assert.Equal(0L, await observer.ExecuteAsync($"select count(*) from pg_stat_activity where application_name = '{Key.Name}' and (xact_start is not null or state <> 'idle')"));
    }

    [Fact]
    public async Task A_lock_that_nobody_has_any_more_is_let_go_and_that_is_logged()
    {
        await using var source = await SourceAsync();
        var logger = new RecordingLogger();
        await AbandonAsync(source, logger);
        Assert.True(await Server.IsHeldAsync(Key));
        await TestServer.UntilAsync(
            async () =>
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                return !await Server.IsHeldAsync(Key);
            },
            "the lock is free");
        Assert.Contains(logger.Warnings, line => line.Contains("never disposed", StringComparison.Ordinal));

        [MethodImpl(MethodImplOptions.NoInlining)]
        async Task AbandonAsync(NpgsqlDataSource source, RecordingLogger logger) => await source.AcquireLockAsync(Key, options: new LockOptions { Logger = logger });
    }

    [Fact]
    public async Task A_lock_says_what_was_noticed()
    {
        await using var connection = await PostgreSqlTestServer.OpenNpgsqlAsync("Pooling=false");
        var @lock = new Lock(connection, Key);
        @lock.ThrowIfLost();
        Assert.True(await @lock.AcquireAsync(block: false));
        @lock.ThrowIfLost();
        await connection.CloseAsync();
        Assert.Throws<LockLostException>(@lock.ThrowIfLost);

        await using var source = await SourceAsync();
        await using var pool = new LockPool(source);
        var held = await pool.AcquireLockAsync(Key);
        held.ThrowIfLost();
        await Server.KillHolderAsync(Key);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.Delay(Timeout.Infinite, held.Lost).WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.Throws<LockLostException>(held.ThrowIfLost);
    }

    private static async Task SignalAsync(string signal, int pid)
    {
        using var kill = Process.Start("kill", ["-" + signal, pid.ToString(CultureInfo.InvariantCulture)]);
        await kill.WaitForExitAsync();
    }

    private async Task<NpgsqlDataSource> SourceAsync(string more = "") =>
        NpgsqlDataSource.Create($"{(await PostgreSqlTestServer.ServerAsync).ConnectionString};Application Name={Key.Name};{more}");
}
