using System.Diagnostics.CodeAnalysis;

namespace DbLock;

/// <summary>
/// Threads for what must go on while all threads of the pool of .NET are blocked: the opening of connections for calls that block, and the
/// renewing of leases. One that has nothing to do waits for a while for the next job.
/// </summary>
/// <remarks>
/// To start a thread takes longer than to take a connection out of a provider's pool.
/// </remarks>
/// <param name="linger">How long a thread waits for its next job.</param>
internal sealed class OwnThreads(TimeSpan linger)
{
    private readonly TimeSpan _linger = linger;
    private readonly List<Worker> _idle = [];

    /// <summary>Gets those of the process.</summary>
    public static OwnThreads Shared { get; } = new(TimeSpan.FromSeconds(10));

    /// <summary>Runs a job, which must not throw.</summary>
    public void Run(Action job)
    {
        // What the caller has in AsyncLocal, as a trace, is its connection's as well, and not that of the next one on the thread.
        var context = ExecutionContext.Capture();
        Action run = context is null ? job : () => ExecutionContext.Run(context, static job => ((Action)job!)(), job);
        lock (_idle)
        {
            if (_idle.Count > 0)
            {
                var worker = _idle[^1];
                _idle.RemoveAt(_idle.Count - 1);
                worker.Give(run);
                return;
            }
        }

        new Thread(new Worker(this, run).Work) { IsBackground = true, Name = "DbLock" }.UnsafeStart();
    }

    [SuppressMessage("Reliability", "CA1001", Justification = "A semaphore whose handle nobody asks for holds nothing.")]
    private sealed class Worker(OwnThreads all, Action job)
    {
        private readonly SemaphoreSlim _given = new(0);
        private Action? _job = job;

        public void Give(Action job)
        {
            _job = job;
            _given.Release();
        }

        public void Work()
        {
            do
            {
                _job!();
                _job = null;
                lock (all._idle)
                {
                    all._idle.Add(this);
                }
            }
            while (_given.Wait(all._linger) || HasJob());
        }

        // Who was taken off the list while its wait ended has been given a job.
        private bool HasJob()
        {
            lock (all._idle)
            {
                if (all._idle.Remove(this))
                {
                    return false;
                }
            }

            _given.Wait();
            return true;
        }
    }
}
