using System.Data.Common;

namespace DbLock.Specification;

/// <summary>
/// What a pool promises over every driver that can carry locks: a topic for each file. A pool stands for a process: two pools know nothing
/// of each other but what the server tells.
/// </summary>
/// <param name="server">The server, as an observer sees it.</param>
/// <param name="lockInterface">The driver.</param>
public abstract partial class PoolSpecification(TestServer server, LockInterface lockInterface) : IAsyncDisposable
{
    private readonly List<IAsyncDisposable> _opened = [];

    protected string Name { get; } = "pool:" + Guid.NewGuid();

    protected LockKey Key => Name;

    public async ValueTask DisposeAsync()
    {
        foreach (var opened in Enumerable.Reverse(_opened))
        {
            await opened.DisposeAsync();
        }
    }

    /// <summary>Makes a data source of its own.</summary>
    protected abstract Task<DbDataSource> CreateSourceAsync();

    /// <summary>Ends the session that holds a lock.</summary>
    protected abstract Task KillHolderAsync(LockKey key);

    /// <summary>Gets how the locks of the pools are held.</summary>
    protected virtual LockPoolOptions Options => new();

    /// <summary>Tries to acquire a lock as another program does, without a pool.</summary>
    /// <returns>What lets go of it; null when it is held elsewhere.</returns>
    protected virtual async Task<IAsyncDisposable?> TryWithoutPoolAsync(LockKey key, bool isShared = false)
    {
        var @lock = new Lock(await ConnectAsync(), key, lockInterface, new LockOptions { Shared = isShared });
        return await @lock.AcquireAsync(block: false) ? @lock : null;
    }

    /// <summary>Asserts that no pool doubts what it holds, where that can be seen.</summary>
    protected virtual Task BelievesAsync() => Task.CompletedTask;

    /// <summary>Gets whether a lock is shared or alone, where the server has both.</summary>
    protected bool[] Kinds => server.HasShared ? [false, true] : [false];

    /// <summary>Has something disposed when the test has ended.</summary>
    protected T Opened<T>(T opened)
        where T : IAsyncDisposable
    {
        _opened.Add(opened);
        return opened;
    }

    protected async Task<LockPool> PoolAsync(LockPoolOptions? options = null) =>
        Opened(new LockPool(Opened(await CreateSourceAsync()), lockInterface, options ?? Options));

    protected async Task<DbConnection> ConnectAsync() => Opened(await Opened(await CreateSourceAsync()).OpenConnectionAsync());
}
