using System.Threading.Tasks.Sources;

namespace DbLock;

/// <summary>What one caller of a pool awaits. It is awaited once.</summary>
internal abstract class PoolPromise
{
    /// <summary>
    /// Gets or sets whether a result that is set now waits for <see cref="Deliver"/>. It is set for a caller whose own thread speaks to the
    /// server: the caller continues on that thread, but must not do so under the queue's lock.
    /// </summary>
    public bool IsHeldBack { get; set; }

    /// <summary>Lets the caller continue, on this thread, if its result was kept back.</summary>
    public abstract void Deliver();
}

/// <summary>What one caller of a pool awaits, with a result.</summary>
/// <typeparam name="T">The type of the result.</typeparam>
internal class PoolPromise<T> : PoolPromise, IValueTaskSource<T>
{
    private ManualResetValueTaskSourceCore<T> _core = new() { RunContinuationsAsynchronously = true };

    private T? _kept;
    private Exception? _keptError;
    private bool _hasKept;

    /// <summary>Gets the task of the caller.</summary>
    public ValueTask<T> Answer => new(this, _core.Version);

    /// <summary>Gets whether the result was set. It is set once.</summary>
    public bool IsEnded { get; private set; }

    public void End(T result) => End(result, null);

    public void Fail(Exception error) => End(default!, error);

    public override void Deliver()
    {
        if (_hasKept)
        {
            _hasKept = false;
            _core.RunContinuationsAsynchronously = false;
            Set(_kept!, _keptError);
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
        if (IsHeldBack)
        {
            (_kept, _keptError, _hasKept) = (result, error, true);
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
