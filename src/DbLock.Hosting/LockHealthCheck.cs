using System.Globalization;
using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace DbLock;

/// <summary>Takes a lock and lets go of it, and says how the locks are that are held.</summary>
internal sealed class LockHealthCheck(ILockSource source) : IHealthCheck
{
    private static readonly TimeSpan Slow = TimeSpan.FromSeconds(1);

    public async Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        try
        {
            var took = await Probe.Try(source, cancellationToken).ConfigureAwait(false);
            var text = string.Create(
                CultureInfo.InvariantCulture, $"A lock was taken and let go of in {took.TotalMilliseconds:0.0} ms.");
            var (state, data) = State();
            data["seconds"] = took.TotalSeconds;
            return state.Late > 0
                ? HealthCheckResult.Degraded(
                    string.Create(
                        CultureInfo.InvariantCulture, $"{text} {state.Late} of {state.Held} leases were not renewed in time so far."),
                    data: data)
                : took > Slow ? HealthCheckResult.Degraded(text, data: data) : HealthCheckResult.Healthy(text, data);
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            var (_, data) = State();
            return new HealthCheckResult(context.Registration.FailureStatus, $"No lock could be taken: {e.Message}", e, data);
        }
    }

    private (LocksState State, Dictionary<string, object> Data) State()
    {
        var state = source is ApplicationLocks locks ? locks.State : default;
        Dictionary<string, object> data = new() { ["held"] = state.Held, ["late"] = state.Late };
        if (state.Answered is { } answered)
        {
            data["answered"] = answered.TotalSeconds;
        }

        return (state, data);
    }
}
