namespace DbLock;

/// <summary>A token for a provider, which is cancelled after a time or together with another token.</summary>
/// <remarks>
/// What a provider does when it is cancelled may throw. After <see cref="CancellationTokenSource.CancelAfter(TimeSpan)"/> it would throw on
/// the timer's thread, where nobody catches it, and the process would end. Here it throws in a task that nobody looks at.
/// </remarks>
internal sealed class TimedCancel : IDisposable
{
    private readonly CancellationTokenSource _source = new();
    private readonly Timer _timer;
    private readonly CancellationTokenRegistration _registration;

    /// <summary>Initializes a new instance.</summary>
    /// <param name="after">The time; infinite for none.</param>
    /// <param name="with">The other token.</param>
    public TimedCancel(TimeSpan after, CancellationToken with = default)
    {
        using (ExecutionContext.SuppressFlow())
        {
            _timer = new Timer(static cancel => ((TimedCancel)cancel!).Cancel(), this, after, Timeout.InfiniteTimeSpan);
        }

        _registration = with.UnsafeRegister(static cancel => ((TimedCancel)cancel!).Cancel(), this);
    }

    /// <summary>Gets the token.</summary>
    public CancellationToken Token => _source.Token;

    /// <inheritdoc />
    public void Dispose()
    {
        _registration.Dispose();
        _timer.Dispose();
        lock (_timer)
        {
            _source.Dispose();
        }
    }

    private void Cancel()
    {
        lock (_timer)
        {
            try
            {
                _ = _source.CancelAsync();
            }
            catch (ObjectDisposedException)
            {
                // It has ended while the timer fired.
            }
        }
    }
}
