using System.Data.Common;
using System.Diagnostics;

namespace DbLock.Torture;

/// <summary>Asks the server itself what is held, past the library and past every fault of the network.</summary>
internal abstract class Observer : IAsyncDisposable
{
    private readonly System.Threading.Lock _gate = new();
    private List<TaskCompletionSource<ServerView?>> _asked = [];
    private bool _isAsking;

    public static long Now => Stopwatch.GetTimestamp() / (Stopwatch.Frequency / 1000);

    /// <summary>Asks; those who ask at the same time share a question that began after they asked. Null while the server does not answer.</summary>
    public Task<ServerView?> LookAsync()
    {
        var answer = new TaskCompletionSource<ServerView?>(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_gate)
        {
            _asked.Add(answer);
            if (!_isAsking)
            {
                _isAsking = true;
                _ = Task.Run(AskAsync);
            }
        }

        return answer.Task;
    }

    /// <summary>Closes its connection; the next question opens another.</summary>
    public abstract ValueTask DisposeAsync();

    /// <summary>Asks once.</summary>
    protected abstract Task<ServerView> AskOnceAsync();

    /// <summary>Opens a connection, and leaves none behind that does not open.</summary>
    protected static async Task<TConnection> OpenAsync<TConnection>(TConnection connection)
        where TConnection : DbConnection
    {
        var isOpen = false;
        try
        {
            await connection.OpenAsync();
            isOpen = true;
            return connection;
        }
        finally
        {
            if (!isOpen)
            {
                await connection.DisposeAsync();
            }
        }
    }

    /// <summary>Reads leases: token, note and name. A grant is told from the next one by its token, and its note says whose it is.</summary>
    protected static async Task<List<ServerLock>> ReadLeasesAsync(DbDataReader reader)
    {
        var locks = new List<ServerLock>();
        while (await reader.ReadAsync())
        {
            var target = Array.Find(Target.All, target => target.Key.Name == reader.GetString(2));
            locks.Add(new ServerLock(new ServerSession(0, reader.GetInt64(0)), reader.GetString(1), target?.Number ?? 0, target?.IsPair == true, Shared: false));
        }

        return locks;
    }

    private async Task AskAsync()
    {
        while (true)
        {
            List<TaskCompletionSource<ServerView?>> asked;
            lock (_gate)
            {
                if (_asked.Count == 0)
                {
                    _isAsking = false;
                    return;
                }

                (asked, _asked) = (_asked, []);
            }

            ServerView? view = null;
            try
            {
                view = await AskOnceAsync();
            }
            catch (Exception e) when (e is DbException or TimeoutException or InvalidOperationException or IOException)
            {
                await DisposeAsync();
            }

            asked.ForEach(answer => answer.SetResult(view));
        }
    }
}
