namespace DbLock;

internal static class DisposableExtensions
{
    /// <summary>Disposes an object, synchronously or asynchronously.</summary>
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
