using System.Data;
using System.Globalization;
using System.Text;

namespace DbLock;

/// <content>What is heard from other processes, and what is done as time goes by.</content>
public sealed partial class LockPool
{
    private string Bell(PoolRound round)
    {
        if (round.Releases.Count == 0)
        {
            return "";
        }

        var text = new StringBuilder(_name);
        foreach (var one in round.Releases)
        {
            if (text.Length > MostToTell)
            {
                return $"{_name} {Anything}";
            }

            text.Append(CultureInfo.InvariantCulture, $" {(one.IsPair ? "p" : "")}{one.Number}");
        }

        return text.ToString();
    }

    private void OnBell(string message)
    {
        var keys = message.Split(' ');
        if (keys[0] == _name)
        {
            return;
        }

        lock (_gate)
        {
            if (keys is [_, Anything])
            {
                _round?.Asks.ForEach(request => request.IsRung = true);
                AskAgain(_elsewhere);
                return;
            }

            foreach (var key in keys.Skip(1))
            {
                var isPair = key.StartsWith('p');
                if (long.TryParse(key.AsSpan(isPair ? 1 : 0), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number)
                    && _entries.TryGetValue((number, isPair), out var entry) && entry.First?.Request is { } first)
                {
                    first.IsRung = first.State == PoolRequest.StateOf.Asked;
                    AskAgain([first]);
                }
            }
        }
    }

    private void Listen()
    {
        if (_bell is null && !_cannotListen && !_isDisposed && Environment.TickCount64 >= _listenAfter && _carrier is { } carrier && carrier.Says.Listen is { } listen)
        {
            _bell = new CancellationTokenSource();
            _bellTask = Listen(carrier, listen, _bell.Token);
        }
    }

    private async Task Listen(Carrier carrier, LockStatement listen, CancellationToken cancellationToken)
    {
        // Not under the gate, from here on.
        var isHeard = false;
        await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        try
        {
            var connection = await OwnConnection.Open(_dataSource, async: true, cancellationToken).ConfigureAwait(false);
            await using var closing = connection.ConfigureAwait(false);
            var settings = await SessionSettings.Set(connection, carrier.Driver, carrier.Dialect, _options, async: true, cancellationToken).ConfigureAwait(false);
            try
            {
                await carrier.Driver.Execute(connection, null, listen with { Limit = LockWatch.Trust }, async: true, CancellationToken.None).ConfigureAwait(false);
                if (carrier.Driver.Hear(connection, OnBell, cancellationToken) is not { } hearing)
                {
                    _cannotListen = true;
                    return;
                }

                lock (_gate)
                {
                    _isListening = true;
                    if (_isMarked)
                    {
                        AskAgain(_elsewhere);
                    }

                    WakePump();
                }

                await hearing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                isHeard = true;
                if (connection.State == ConnectionState.Open)
                {
                    await carrier.Driver.Execute(connection, null, carrier.Says.End with { Limit = LockWatch.Trust }, async: true, CancellationToken.None).ConfigureAwait(false);
                }
            }
            finally
            {
                await SessionSettings.PutBack(settings, async: true).ConfigureAwait(false);
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
            lock (_gate)
            {
                (_bell, _isListening, _listenAfter) = (null, false, isHeard ? 0 : Environment.TickCount64 + ListenAgainMilliseconds);
                WakePump();
            }
        }
    }

    private void TickAt(long at)
    {
        if (at < _tickAt && !_closed.Task.IsCompleted)
        {
            _tickAt = at;
            _timer.Change(Math.Max(0, at - Environment.TickCount64), Timeout.Infinite);
        }
    }

    private void Tick()
    {
        CheckTrust();
        lock (_gate)
        {
            var now = Environment.TickCount64;
            _tickAt = long.MaxValue;
            if (_isDisposed)
            {
                TickAt(now + TickMilliseconds);
                return;
            }

            if (_elsewhere.Count > 0)
            {
                AskAgain(_elsewhere.Where(request => request.Due <= now));
                if (_elsewhere.Any(request => request.WasElsewhere))
                {
                    Listen();
                }
            }
            else if (_isListening && now - _lastElsewhere >= ListenMilliseconds)
            {
                _ = _bell?.CancelAsync();
            }

            foreach (var entry in _entries.Values.Where(entry => entry is { First: null, Server: PoolEntry.OnServer.None }).ToList())
            {
                Forget(entry);
            }

            if (PoolDeadlock.Find(_held, _entries.Values, now - DeadlockMilliseconds) is { } victim)
            {
                Fail(victim, PoolDeadlock.Error(victim));
            }

            if (_carrier is not null)
            {
                WakePump();
            }

            if (_entries.Count > 0 || _carrier is not null || _bell is not null)
            {
                TickAt(_elsewhere.Select(request => request.Due).Append(now + TickMilliseconds).Min());
            }
        }
    }
}
