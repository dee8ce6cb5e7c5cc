using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Threading.Tasks.Sources;

namespace DbLock;

/// <summary>Waits for one answer after another, and for none of them longer than its limit.</summary>
/// <remarks>
/// Whoever comes first, the answer or the end of the patience, decides. After the end it is of no more use: the answer may still come, and
/// is not read. It allocates nothing for each answer.
/// </remarks>
[SuppressMessage("Reliability", "CA1001", Justification = "A clock that is not set holds nothing.")]
internal sealed class Patience : IValueTaskSource<object?>
{
    private const int Waiting = 1;
    private const int Over = 2;

    private static readonly TimeSpan LastLook = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan Late = TimeSpan.FromMilliseconds(100);

    private readonly Action _onAnswered;
    private readonly Func<Task> _onEnd;
    private readonly Action _onLate;
    private readonly System.Threading.Lock _gate = new();
    private ManualResetValueTaskSourceCore<object?> _first;
    private ConfiguredValueTaskAwaitable<object?>.ConfiguredValueTaskAwaiter _pending;

    // A Timer has a finalizer, and nobody disposes of what a lock needs that is only released: each would outlive a collection, with all
    // that it knows.
    private CancellationTokenSource? _clock;
    private int _state;
    private long _end;
    private int _looks;

    /// <summary>Initializes a new instance.</summary>
    /// <param name="onEnd">Is called when the patience has ended; who waits is told when it has ended, too, or some time later.</param>
    /// <param name="onLate">Is called when the answer, or an error, has come after that.</param>
    public Patience(Func<Task> onEnd, Action onLate) => (_onEnd, _onLate, _onAnswered) = (onEnd, onLate, OnAnswered);

    /// <summary>Gets whether it has ended: an answer is still owed.</summary>
    public bool HasEnded => Volatile.Read(ref _state) == Over;

    /// <summary>Begins; a call that blocks is then made, and ended from beside by what happens at the end.</summary>
    public void Begin(Limit limit)
    {
        lock (_gate)
        {
            _first.Reset();
            (_state, _looks) = (Waiting, 0);
            if (limit.LeftToAnswer is var left && left != Timeout.InfiniteTimeSpan)
            {
                EndAfter(left);
            }
        }
    }

    /// <summary>Ends the waiting after an answer.</summary>
    /// <returns>False when the patience had ended before.</returns>
    public bool TryFinish()
    {
        lock (_gate)
        {
            if (_state == Waiting)
            {
                _state = 0;
                StopClock();
                return true;
            }
        }

        _onLate();
        return false;
    }

    /// <summary>Shortens the patience to what is left after a cancel.</summary>
    public void Cancel()
    {
        lock (_gate)
        {
            if (_state == Waiting)
            {
                EndAfter(Limit.Way);
            }
        }
    }

    /// <summary>Ends it now.</summary>
    public void GiveUp()
    {
        lock (_gate)
        {
            if (_state != Waiting)
            {
                return;
            }

            _state = Over;
            StopClock();
        }

        _ = TellAfter(_onEnd());
    }

    /// <summary>Waits, after <see cref="Begin"/>, for an answer that is under way.</summary>
    /// <exception cref="SilenceException">It did not come in time.</exception>
    public ValueTask<object?> Await(ValueTask<object?> pending)
    {
        _pending = pending.ConfigureAwait(false).GetAwaiter();
        if (_pending.IsCompleted)
        {
            OnAnswered();
        }
        else
        {
            _pending.UnsafeOnCompleted(_onAnswered);
        }

        return new ValueTask<object?>(this, _first.Version);
    }

    object? IValueTaskSource<object?>.GetResult(short token) => _first.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<object?>.GetStatus(short token) => _first.GetStatus(token);

    void IValueTaskSource<object?>.OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) => _first.OnCompleted(continuation,
            state, token, flags);

    private void OnAnswered()
    {
        var isFirst = TryFinish();
        try
        {
            var answer = _pending.GetResult();
            if (isFirst)
            {
                _first.SetResult(answer);
            }
        }
        catch (Exception e)
        {
            if (isFirst)
            {
                _first.SetException(e);
            }
        }
    }

    private void EndAfter(TimeSpan left)
    {
        _end = Stopwatch.GetTimestamp() + (long)(left.TotalSeconds * Stopwatch.Frequency);
        if (_clock is not { IsCancellationRequested: false })
        {
            _clock = new();
            _clock.Token.UnsafeRegister(static patience => ((Patience)patience!).OnTime(), this);
        }

        _clock.CancelAfter(left);
    }

    // The runtime keeps a clock that is set until it rings, and with it all that this one knows.
    private void StopClock()
    {
        if (_end != 0)
        {
            _end = 0;
            _clock!.CancelAfter(Timeout.InfiniteTimeSpan);
        }
    }

    private void OnTime()
    {
        lock (_gate)
        {
            if (_state != Waiting || _end == 0)
            {
                // The answer came while the clock rang.
                return;
            }

            var left = Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), _end);
            if (left > TimeSpan.Zero)
            {
                EndAfter(left + TimeSpan.FromMilliseconds(1));
                return;
            }

            var isLate = left < -Late;
            if (_looks == 0 || (_looks == 1 && isLate))
            {
                // Where the machine had no time for the clock, it had none for the answer either, which may lie there unread.
                _looks++;
                EndAfter(isLate ? Limit.Way : LastLook);
                return;
            }

            _state = Over;
            StopClock();
        }

        _ = TellAfter(_onEnd());
    }

    private async Task TellAfter(Task ending)
    {
        await ending.WaitAsync(Limit.Way / 2).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _first.SetException(new SilenceException());
    }
}

/// <summary>An answer did not come in time.</summary>
internal sealed class SilenceException() : TimeoutException("The server has not answered in time.");
