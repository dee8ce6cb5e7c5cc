namespace DbLock;

/// <summary>
/// Hands a cancel on to a provider that may throw out of it. Npgsql 10.0 does when its connection breaks at that moment: in a timer of the caller's that would end the process.
/// </summary>
internal sealed class QuietCancellation : IDisposable
{
    private readonly CancellationTokenSource _source = new();
    private readonly CancellationTokenRegistration _registration;

    public QuietCancellation(CancellationToken cancellationToken) => _registration = cancellationToken.UnsafeRegister(static one => ((QuietCancellation)one!).Cancel(), this);

    public CancellationToken Token => _source.Token;

    public void Dispose()
    {
        // Waits for a cancel that is under way.
        _registration.Dispose();
        _source.Dispose();
    }

    private void Cancel()
    {
        try
        {
            _source.Cancel();
        }
        catch (Exception)
        {
            // The command ends by itself, with its connection.
        }
    }
}
