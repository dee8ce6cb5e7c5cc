using System.Collections.Concurrent;
using System.Data.Common;
using System.Reflection;
using DbLock;
using Quartz;

namespace Jobs;

/// <summary>Quartz: a job with <see cref="OnceAttribute"/> is vetoed where another instance runs it, or has run it in this interval.</summary>
internal sealed class OnceListener(DbDataSource database) : ITriggerListener
{
    private readonly ConcurrentDictionary<string, IHeldLock> _turns = new();

    public string Name => nameof(OnceListener);

    public async ValueTask<bool> VetoJobExecution(ITrigger trigger, IJobExecutionContext context, CancellationToken cancellationToken = default)
    {
        var job = context.JobInstance.GetType();
        if (job.GetCustomAttribute<OnceAttribute>() is not { } once)
        {
            return false;
        }

        var options = new LockOptions { Scope = LockScope.Lease, AtLeast = once.AtLeast };
        var turn = await database.TryAcquireLockAsync($"quartz:{job.FullName}", options: options, cancellationToken: cancellationToken);
        if (turn is null)
        {
            return true;
        }

        // A lease that is lost ends the job: its token fires.
        turn.Lost.Register(() => _ = context.Scheduler.InterruptFireInstance(context.FireInstanceId, CancellationToken.None).AsTask());
        _turns[context.FireInstanceId] = turn;
        return false;
    }

    public async ValueTask TriggerComplete(
        ITrigger trigger, IJobExecutionContext context, SchedulerInstruction triggerInstructionCode, CancellationToken cancellationToken = default)
    {
        if (_turns.TryRemove(context.FireInstanceId, out var turn))
        {
            await turn.DisposeAsync();
        }
    }

    public ValueTask TriggerFired(ITrigger trigger, IJobExecutionContext context, CancellationToken cancellationToken = default) => default;

    public ValueTask TriggerMisfired(ITrigger trigger, IScheduler scheduler, CancellationToken cancellationToken = default) => default;
}
