namespace Demo;

/// <summary>Waiting for several tasks.</summary>
internal static class Everyone
{
    /// <summary>Waits for all; when one has failed, not for the others, as Task.WhenAll would.</summary>
    public static async Task DoneAsync(IEnumerable<Task> tasks)
    {
        await foreach (var task in Task.WhenEach(tasks))
        {
            await task;
        }
    }
}
