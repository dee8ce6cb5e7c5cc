using System.Diagnostics;

namespace DbLock;

/// <summary>
/// Compares the clocks that the answers of servers carry with this process's own, which runs evenly: a jump is that of a server's clock, or
/// another server answers.
/// </summary>
internal sealed class LeaseClock
{
    private readonly System.Threading.Lock _gate = new();
    private (long Least, long Most, string Server)? _before;

    /// <summary>Notes an answer.</summary>
    /// <param name="clock">The server's clock, in microseconds.</param>
    /// <param name="asked">When the question was sent, on the clock of <see cref="Stopwatch"/>.</param>
    /// <param name="answered">When the answer came.</param>
    /// <param name="server">The server's name.</param>
    /// <param name="most">By how much it may differ from the answer before.</param>
    /// <returns>By how much it differs, and from which server; null when that is little.</returns>
    public (TimeSpan By, string Before)? Note(long clock, long asked, long answered, string server, TimeSpan most)
    {
        var (least, upTo) = (clock - Microseconds(answered), clock - Microseconds(asked));
        lock (_gate)
        {
            var before = _before;
            _before = (least, upTo, server);
            if (before is not { } last)
            {
                return null;
            }

            var by = least > last.Most ? least - last.Most : upTo < last.Least ? upTo - last.Least : 0;
            return TimeSpan.FromMicroseconds(Math.Abs(by)) > most ? (TimeSpan.FromMicroseconds(by), last.Server) : null;
        }
    }

    private static long Microseconds(long timestamp) => (long)(timestamp * (1_000_000.0 / Stopwatch.Frequency));
}
