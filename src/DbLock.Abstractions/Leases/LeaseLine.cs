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
        var place = new Place([.. key.Keys.Select(one => one.Name).Distinct()]);
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

    private bool IsFirst(Place place) => Array.TrueForAll(place.Names, name => _lines[name].First!.Value == place);

    /// <summary>The place of one acquire, from its beginning to the end of its hold.</summary>
    public sealed class Place(string[] names)
    {
        public string[] Names => names;

        /// <summary>Gets or sets whether it is the first in all its lines.</summary>
        public bool IsFirst { get; set; }

        public bool HasLeft { get; set; }

        /// <summary>Gets or sets whether it must wait for a moment, so that other processes can ask.</summary>
        public bool Pauses { get; set; }

        /// <summary>Gets or sets since when tasks of this process have handed it to each other; 0 before the grant.</summary>
        public long TurnBegan { get; set; }

        /// <summary>Gets what is released when it becomes the first. It is not used by one that was first from the beginning.</summary>
        public SemaphoreSlim First { get; } = new(0);
    }
}
