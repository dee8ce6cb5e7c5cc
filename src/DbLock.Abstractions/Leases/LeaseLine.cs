using System.Diagnostics;

namespace DbLock;

/// <summary>
/// Who wants and who has which leases in this process: for each name a line, first come first served, whose first has it or asks for it. It
/// asks nobody.
/// </summary>
/// <remarks>
/// While tasks hand a lease to each other, other processes would have no chance to ask between. So after a while the next one waits for a
/// moment (<see cref="Place.Pauses"/>).
/// </remarks>
internal sealed class LeaseLine
{
    private static readonly TimeSpan Turn = TimeSpan.FromMilliseconds(50);

    private readonly System.Threading.Lock _gate = new();
    private readonly Dictionary<string, LinkedList<Place>> _lines = [];

    /// <summary>Joins the lines of all names at once.</summary>
    public Place Enter(LockKey key)
    {
        var place = new Place([.. key.Keys.Select(NameOf).Distinct()]);
        lock (_gate)
        {
            foreach (var name in place.Names)
            {
                (_lines.TryGetValue(name, out var line) ? line : _lines[name] = []).AddLast(place);
            }

            place.IsFirst = IsFirst(place);
            return place;
        }
    }

    /// <summary>Says whether somebody waits for a key whose last answer was that nothing of it is free.</summary>
    public bool IsWaitedFor(LockKey key)
    {
        lock (_gate)
        {
            return _lines.TryGetValue(NameOf(key), out var line) && line.First!.Value.HasMissed;
        }
    }

    /// <summary>Wakes who is the first to wait for a key with slots, one of which has come free.</summary>
    public void Wake(LockKey key)
    {
        lock (_gate)
        {
            if (_lines.TryGetValue(NameOf(key), out var line))
            {
                line.First!.Value.First.Release();
            }
        }
    }

    /// <summary>Leaves the lines, and lets those go on who are first now.</summary>
    public void Leave(Place place)
    {
        lock (_gate)
        {
            if (place.HasLeft)
            {
                return;
            }

            place.HasLeft = true;
            foreach (var name in place.Names)
            {
                var line = _lines[name];
                line.Remove(place);
                if (line.Count == 0)
                {
                    _lines.Remove(name);
                }
                else if (line.First!.Value is { IsFirst: false } next && IsFirst(next))
                {
                    next.Pauses = place.TurnBegan != 0 && Stopwatch.GetElapsedTime(place.TurnBegan) > Turn;
                    next.TurnBegan = next.Pauses ? 0 : place.TurnBegan;
                    next.IsFirst = true;
                    next.First.Release();
                }
            }
        }
    }

    // A key with slots is another lock than the one without.
    private static string NameOf(LockKey key) => key.SlotCount == 0 ? key.Name : key.Name + "\0slots";

    private bool IsFirst(Place place) => Array.TrueForAll(place.Names, name => _lines[name].First!.Value == place);

    /// <summary>The place of one acquire, from its beginning to the end of its hold.</summary>
    public sealed class Place(string[] names)
    {
        public string[] Names => names;

        /// <summary>Gets or sets whether it is the first in all its lines.</summary>
        public bool IsFirst { get; set; }

        public bool HasLeft { get; set; }

        /// <summary>Gets or sets whether it has asked, and nothing was free.</summary>
        public bool HasMissed { get; set; }

        /// <summary>Gets or sets whether it must wait for a moment, so that other processes can ask.</summary>
        public bool Pauses { get; set; }

        /// <summary>Gets or sets since when tasks of this process have handed it to each other; 0 before the grant.</summary>
        public long TurnBegan { get; set; }

        /// <summary>Waits until it is the first in all its lines.</summary>
        /// <returns>False when the limit came first.</returns>
        public async ValueTask<bool> WaitUntilFirst(Limit limit, bool async)
        {
            var left = limit.Timeout > TimeSpan.Zero ? limit.LeftToWait : Timeout.InfiniteTimeSpan;
            return async ? await First.WaitAsync(left, limit.Token).ConfigureAwait(false) : First.Wait(left, CancellationToken.None);
        }

        /// <summary>Gets what is released when it becomes the first, and when a slot has come free.</summary>
        public SemaphoreSlim First { get; } = new(0);
    }
}
