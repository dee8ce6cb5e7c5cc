namespace DbLock;

internal static class DisposableExtensions
{
    /// <summary>Disposes what can be disposed in both modes.</summary>
    public static async ValueTask Dispose<T>(this T disposable, bool async)
        where T : IDisposable, IAsyncDisposable
    {
        if (async)
        {
            await disposable.DisposeAsync().ConfigureAwait(false);
        }
        else
        {
            disposable.Dispose();
        }
    }
}
