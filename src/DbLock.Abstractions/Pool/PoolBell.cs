using System.Data;
using System.Data.Common;
using System.Globalization;
using System.Text;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>
/// What pools tell each other: that a lock was let go. A pool listens, on a connection of its own, while its tasks wait for other
/// processes.
/// </summary>
/// <param name="dataSource">Where the connection comes from.</param>
/// <param name="options">The pool's options.</param>
/// <param name="queue">Who waits.</param>
/// <param name="changed">Is called when it begins to listen, and when it has ended.</param>
internal sealed class PoolBell(DbDataSource dataSource, LockOptions options, PoolQueue queue, Action changed)
{
    // PostgreSQL takes less than 8,000 bytes in a notification: https://www.postgresql.org/docs/current/sql-notify.html
    private const int MostToTell = 7000;
    private const string Anything = "*";

    private static readonly long TryAgain = TimeSpan.FromSeconds(10).Ticks;

    private readonly string _name = Guid.NewGuid().ToString("N")[..12];
    private readonly ILogger _logger = QuietLogger.Of(options.Logger);
    private Action? _stop;
    private bool _isClosed;
    private long _notBefore;
    private long _muteUntil;

    /// <summary>Gets whether the server tells it of releases now.</summary>
    public bool IsListening { get; private set; }

    /// <summary>Gets whether it listens, or begins to or ends.</summary>
    public bool IsActive => _stop is not null;

    /// <summary>Gets what ends when its connection has gone back.</summary>
    public Task Ended { get; private set; } = Task.CompletedTask;

    /// <summary>Returns what is told of releases.</summary>
    public string TextOf(List<CarriedLock> releases)
    {
        if (releases.Count == 0 || queue.Now < _muteUntil)
        {
            return "";
        }

        if (releases is [var single])
        {
            return string.Create(CultureInfo.InvariantCulture, $"{_name} {(single.IsPair ? "p" : "")}{single.Number}");
        }

        var text = new StringBuilder(_name);
        foreach (var one in releases)
        {
            if (text.Length > MostToTell)
            {
                return $"{_name} {Anything}";
            }

            text.Append(CultureInfo.InvariantCulture, $" {(one.IsPair ? "p" : "")}{one.Number}");
        }

        return text.ToString();
    }

    /// <summary>
    /// Tells nobody of releases for a while: the server may have no room for notifications, and fails the statement with which they are
    /// sent.
    /// </summary>
    public void Mute() => _muteUntil = queue.Now + TryAgain;

    /// <summary>Begins to listen, if it does not. Called under the queue's lock.</summary>
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

    /// <summary>Ends the listening. Called under the queue's lock.</summary>
    /// <param name="forGood">Whether it never begins again.</param>
    public void Stop(bool forGood = false)
    {
        _isClosed |= forGood;
        _stop?.Invoke();
    }

    private void OnNotification(string message)
    {
        var keys = message.Split(' ');
        if (keys[0] == _name)
        {
            return;
        }

        queue.Hear(keys is [_, Anything] ? null : [.. keys.Skip(1).Select(Parse).OfType<(long, bool)>()]);
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

        // Not under the queue's lock, from here on.
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
                if (connection.State == ConnectionState.Open)
                {
                    var end = carrier.Says.ReleaseAll with { Limit = TrustWindow.Length };
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
            // Who waits is tried again at intervals all the same.
            Log.CannotListen(_logger, e);
        }
        catch (Exception)
        {
            // Nobody waits any more.
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
