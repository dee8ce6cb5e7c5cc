using System.Data.Common;
using System.Reflection;
using DbLock;
using Hangfire.Server;

namespace Jobs;

/// <summary>Hangfire: a job with <see cref="OnceAttribute"/> is skipped where another instance runs it, or has run it in this interval.</summary>
internal sealed class OnceFilter(DbDataSource database) : IServerFilter
{
    public void OnPerforming(PerformingContext context)
    {
        var job = context.BackgroundJob.Job;
        var turn = default(HeldLock);
        if (job.Method.GetCustomAttribute<OnceAttribute>() is { } once)
        {
            var options = new LockOptions { Scope = LockScope.Lease, AtLeast = once.AtLeast };
            turn = database.TryAcquireLock($"hangfire:{job.Type.Name}.{job.Method.Name}", options: options);
            context.Canceled = turn is null;
        }

        context.Items[nameof(OnceFilter)] = turn;
    }

    public void OnPerformed(PerformedContext context) => (context.Items[nameof(OnceFilter)] as HeldLock)?.Dispose();
}
