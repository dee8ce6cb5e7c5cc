using System.Data;
using System.Data.Common;
using System.Globalization;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>
/// Tells other pools that a lock was let go, and hears it from them. A pool listens, on a connection of its own, while its tasks wait for
/// other processes.
/// </summary>
/// <param name="dataSource">Where the connection comes from.</param>
/// <param name="options">The pool's options.</param>
/// <param name="queue">The queue of the pool.</param>
/// <param name="changed">It is called when listening has begun, and when it has ended.</param>
internal sealed class PoolBell(DbDataSource dataSource, LockOptions options, PoolQueue queue, Action changed)
{
    private static readonly long TryAgain = TimeSpan.FromSeconds(10).Ticks;

    private readonly string _name = Guid.NewGuid().ToString("N")[..12];
    private readonly ILogger _logger = QuietLogger.Of(options.Logger);
    private Action? _stop;
    private bool _isClosed;
    private long _notBefore;
    private long _muteUntil;

    /// <summary>Gets whether it is listening, so that releases are heard.</summary>
    public bool IsListening { get; private set; }

    /// <summary>Gets whether it is listening, is about to, or is about to end.</summary>
    public bool IsActive => _stop is not null;

    /// <summary>Gets the task that ends when the listening connection was given back.</summary>
    public Task Ended { get; private set; } = Task.CompletedTask;

    /// <summary>Returns the name with which other pools are told of releases; empty when they are not told.</summary>
    public string NameFor(List<CarriedLock> releases) => releases.Count == 0 || queue.Now < _muteUntil ? "" : _name;

    /// <summary>
    /// Sends no notifications for a while. When the server's queue for them is full, it fails the statement that sends one.
    /// </summary>
    public void Mute() => _muteUntil = queue.Now + TryAgain;

    /// <summary>Begins to listen, unless it does already. The caller holds the queue's lock.</summary>
    public void Listen(Carrier carrier)
    {
        if (_stop is null && !_isClosed && queue.Now >= _notBefore
            && carrier.Driver is IListeningDriver driver && carrier.Says.Listen is { } listen)
        {
            using (ExecutionContext.SuppressFlow())
            {
                Ended = Listen(carrier, driver, listen);
            }
        }
    }

    /// <summary>Ends the listening. The caller holds the queue's lock.</summary>
    /// <param name="forGood">Whether it never begins again.</param>
    public void Stop(bool forGood = false)
    {
        _isClosed |= forGood;
        _stop?.Invoke();
    }

    // The message is LockCarrier.BellText.
    private void OnNotification(string message)
    {
        var keys = message.Split(' ');
        if (keys[0] == _name)
        {
            return;
        }

        queue.Hear(keys is [_, "*"] ? null : [.. keys.Skip(1).Select(Parse).OfType<(long, bool)>()]);
        changed();

        static (long, bool)? Parse(string key)
        {
            var isPair = key.StartsWith('p');
            var digits = key.AsSpan(isPair ? 1 : 0);
            return long.TryParse(digits, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number)
                ? (number, isPair) : null;
        }
    }

    private async Task Listen(Carrier carrier, IListeningDriver driver, LockStatement listen)
    {
        using var listening = new CancellationTokenSource();
        var (isHeard, cancellationToken) = (false, listening.Token);
        _stop = () => _ = listening.CancelAsync();

        // From here on the queue's lock is not held.
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        try
        {
            var connection = await OwnConnection.Open(dataSource, async: true, cancellationToken).ConfigureAwait(false);
            await using var closing = connection.ConfigureAwait(false);
            var settings = await SessionSettings.Set(connection, carrier.Driver, carrier.Dialect, options, cancellationToken)
                .ConfigureAwait(false);
            try
            {
                listen = listen with { Limit = TrustWindow.Length };
                await carrier.Driver.Execute(connection, null, listen, async: true, CancellationToken.None).ConfigureAwait(false);
                var hearing = driver.Hear(connection, OnNotification, cancellationToken);
                lock (queue.Gate)
                {
                    IsListening = true;
                }

                changed();
                await hearing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                isHeard = true;
                if (connection.State == ConnectionState.Open && carrier.Says.ReleaseAll is { } releaseAll)
                {
                    var end = releaseAll with { Limit = TrustWindow.Length };
                    await carrier.Driver.Execute(connection, null, end, async: true, CancellationToken.None).ConfigureAwait(false);
                }
            }
            finally
            {
                await SessionSettings.PutBack(settings).ConfigureAwait(false);
            }
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            // Without listening, the waiting tasks are still polled for.
            Log.CannotListen(_logger, e);
        }
        catch (Exception)
        {
            // The listening was stopped, because nobody waits any more.
        }
        finally
        {
            lock (queue.Gate)
            {
                (_stop, IsListening, _notBefore) = (null, false, isHeard ? 0 : queue.Now + TryAgain);
            }

            changed();
        }
    }
}
