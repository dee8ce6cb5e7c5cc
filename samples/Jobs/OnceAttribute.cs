namespace Jobs;

/// <summary>Says of a job that it runs once in each interval, on whichever instance is first, however many are due to run it.</summary>
/// <param name="seconds">The interval, in seconds.</param>
[AttributeUsage(AttributeTargets.Class | AttributeTargets.Method)]
internal sealed class OnceAttribute(int seconds) : Attribute
{
    /// <summary>Gets for how long nobody else gets the job's lock: less than the interval, so that the next run is due in time.</summary>
    public TimeSpan AtLeast => TimeSpan.FromSeconds(0.9 * seconds);
}
