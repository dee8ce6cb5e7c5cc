namespace DbLock;

/// <summary>Unwraps the task of a call that was made with <c>async: false</c>, and so has completed.</summary>
internal static class Synchronously
{
    public static T Completed<T>(ValueTask<T> call) =>
        call.IsCompleted ? call.Result : throw new NotSupportedException(
            "The driver went on asynchronously when it was asked not to: mend the driver.");

    public static void Completed(ValueTask call) => Completed(Answered(call));

    private static async ValueTask<bool> Answered(ValueTask call)
    {
        await call.ConfigureAwait(false);
        return true;
    }
}
