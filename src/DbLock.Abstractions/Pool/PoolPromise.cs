using System.Threading.Tasks.Sources;

namespace DbLock;

/// <summary>What one caller of a pool awaits, once.</summary>
internal abstract class PoolPromise
{
    /// <summary>
    /// Gets or sets whether the end that is told now is kept for <see cref="Deliver"/>: a caller whose own thread spoke to the server goes
    /// on there, but not under the lock of the queue.
    /// </summary>
    public bool IsKept { get; set; }

    /// <summary>Lets the caller go on, on this thread, if the end was kept.</summary>
    public abstract void Deliver();
}

/// <summary>What one caller of a pool awaits, once.</summary>
/// <typeparam name="T">What it gets.</typeparam>
internal class PoolPromise<T> : PoolPromise, IValueTaskSource<T>
{
    private ManualResetValueTaskSourceCore<T> _core = new() { RunContinuationsAsynchronously = true };

    // A result or an error.
    private object? _kept;
    private bool _hasKept;

    /// <summary>Gets what the caller awaits.</summary>
    public ValueTask<T> Answer => new(this, _core.Version);

    /// <summary>Gets whether the caller has its answer. It has one only.</summary>
    public bool IsEnded { get; private set; }

    public void End(T result) => End(result, null);

    public void Fail(Exception error) => End(default!, error);

    public override void Deliver()
    {
        if (_hasKept)
        {
            _hasKept = false;
            _core.RunContinuationsAsynchronously = false;
            Set(_kept is Exception ? default! : (T)_kept!, _kept as Exception);
        }
    }

    public T GetResult(short token) => _core.GetResult(token);

    public ValueTaskSourceStatus GetStatus(short token) => _core.GetStatus(token);

    public void OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);

    private void End(T result, Exception? error)
    {
        if (IsEnded)
        {
            return;
        }

        IsEnded = true;
        if (IsKept)
        {
            (_kept, _hasKept) = (error ?? (object?)result, true);
        }
        else
        {
            Set(result, error);
        }
    }

    private void Set(T result, Exception? error)
    {
        if (error is null)
        {
            _core.SetResult(result);
        }
        else
        {
            _core.SetException(error);
        }
    }
}
