using System.Data.Common;
using System.Globalization;

namespace DbLock.Cli;

/// <summary>Acquires the lock of <c>dblock run</c> within its limit, and tells the user whom it waits for.</summary>
internal sealed class LockAcquisition(RunJob job, RunSession session, RunLimit limit, Action<string> say, CancellationToken signal)
{
    /// <summary>Acquires the lock.</summary>
    /// <returns>The watch over it; null when it is held elsewhere.</returns>
    /// <exception cref="UnavailableException">The server has fallen silent.</exception>
    public async Task<HoldWatch?> AcquireAsync()
    {
        var isTry = job.Timeout == TimeSpan.Zero;
        var acquired = (isTry || job.Verbose) && await TryAsync().ConfigureAwait(false);
        if (!acquired && !isTry)
        {
            if (job.Verbose)
            {
                say($"waiting: {await HoldersAsync().ConfigureAwait(false)}");
            }

            acquired = await WaitAsync().ConfigureAwait(false);
        }

        if (!acquired)
        {
            if (!job.Quiet)
            {
                say($"not acquired: {await HoldersAsync().ConfigureAwait(false)}");
            }

            return null;
        }

        if (job.Verbose)
        {
            say(string.Create(CultureInfo.InvariantCulture, $"acquired after {limit.Elapsed.TotalSeconds:0.0##} s"));
        }

        return new HoldWatch(session.Connection, session.Lock, await session.SessionIdAsync(signal).ConfigureAwait(false));
    }

    private Task<bool> TryAsync() =>
        ServerAnswer.WithinAsync(session.Lock.AcquireAsync(block: false, signal).AsTask(), limit.Answer, signal);

    private async Task<bool> WaitAsync()
    {
        using var stop = new CancellationTokenSource();
        var silence = WaitWatch.SilenceAsync(
            session.Database, session.Database.SessionId(session.Connection), job.Key, job.Options, job.Quiet ? null : say, stop.Token);
        var acquiring = ServerAnswer.WithinAsync(
            session.Lock.AcquireAsync(limit.Wait, signal).AsTask(), limit.WaitWithAnswer, signal);
        if (await Task.WhenAny(acquiring, silence).ConfigureAwait(false) == silence)
        {
            var reason = await silence.ConfigureAwait(false);
            throw new UnavailableException(
                $"the server has fallen silent while lock '{job.Name}' was waited for: {reason}. The wait is given up");
        }

        await stop.CancelAsync().ConfigureAwait(false);
        return await acquiring.ConfigureAwait(false);
    }

    // This is for a message, which may do without the holders.
    private async Task<string> HoldersAsync()
    {
        try
        {
            var asked = session.Lock.GetHoldersAsync(signal).AsTask();
            return (await ServerAnswer.WithinAsync(asked, limit.Answer, signal).ConfigureAwait(false)).ToString();
        }
        catch (Exception e) when (e is UnavailableException or DbException or LockException)
        {
            return $"'{job.Name}' is held elsewhere";
        }
    }
}
