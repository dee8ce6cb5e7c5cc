using System.Runtime.InteropServices;

namespace DbLock.Cli;

/// <summary>The signals that dblock gets: they end its wait, or go on to its command.</summary>
internal sealed class Signals : IDisposable
{
    private static readonly (PosixSignal Signal, int Number)[] Known =
    [
        (PosixSignal.SIGHUP, Unix.Sighup),
        (PosixSignal.SIGINT, Unix.Sigint),
        (PosixSignal.SIGQUIT, Unix.Sigquit),
        (PosixSignal.SIGTERM, Unix.Sigterm),

        // Linux's own numbers (https://man7.org/linux/man-pages/man7/signal.7.html): SIGUSR1 and SIGUSR2, and those that would end dblock
        // and leave its command: SIGALRM, SIGSTKFLT, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, and those of real time, of which
        // the C library has the first two and .NET the third.
        .. new[] { 10, 12, 14, 16, 24, 25, 26, 27, 29, 30 }.Concat(Enumerable.Range(35, 30))
            .Select(static number => ((PosixSignal)number, number)),
    ];

    private readonly List<PosixSignalRegistration> _registrations = [];
    private readonly List<int> _pending = [];
    private readonly CancellationTokenSource _first = new();
    private Action<int>? _handler;

    public Signals()
    {
        foreach (var (signal, number) in OperatingSystem.IsLinux() ? Known : Known[..4])
        {
            _registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                Receive(number);
            }));
        }
    }

    /// <summary>Gets a token that fires with the first signal.</summary>
    public CancellationToken First => _first.Token;

    /// <summary>Gets the first signal; 0 when there was none.</summary>
    public int FirstNumber { get; private set; }

    /// <summary>Gives every signal to a handler, those too that came before.</summary>
    public void ForwardTo(Action<int> handler)
    {
        lock (_pending)
        {
            _handler = handler;
            foreach (var number in _pending)
            {
                handler(number);
            }
        }
    }

    public void Dispose()
    {
        foreach (var registration in _registrations)
        {
            registration.Dispose();
        }

        // The token's source is not disposed: a signal that is on its way would meet it, and its exception would end the process.
    }

    private void Receive(int number)
    {
        lock (_pending)
        {
            if (FirstNumber == 0)
            {
                FirstNumber = number;
            }

            if (_handler is null)
            {
                _pending.Add(number);
            }
            else
            {
                _handler(number);
            }
        }

        // The token's callbacks run outside of the lock, and not on the runtime's signal thread.
        _ = _first.CancelAsync();
    }
}
