using System.Collections;
using System.Globalization;

namespace DbLock;

/// <summary>Who holds a lock, and how many wait for it, at the moment when the server was asked.</summary>
public sealed class LockHolders : IReadOnlyList<LockHolder>
{
    // How many holders a message names.
    private const int Named = 3;

    private readonly LockKey _key;
    private readonly IReadOnlyList<LockHolder> _holders;

    /// <summary>Initializes a new instance.</summary>
    /// <param name="key">The lock's key.</param>
    /// <param name="holders">The holders.</param>
    /// <param name="waiting">How many other sessions wait for the lock.</param>
    public LockHolders(LockKey key, IReadOnlyList<LockHolder> holders, int waiting)
    {
        ArgumentNullException.ThrowIfNull(key);
        ArgumentNullException.ThrowIfNull(holders);
        (_key, _holders, Waiting) = (key, holders, waiting);
    }

    /// <summary>Gets how many sessions other than the one that asked wait for the lock.</summary>
    public int Waiting { get; }

    /// <summary>
    /// Gets the words which say that the server hides from this user who holds the lock, and which right would show it; null where it does
    /// not hide that. There are no holders then, whoever holds the lock.
    /// </summary>
    public string? Hidden { get; init; }

    /// <inheritdoc />
    public int Count => _holders.Count;

    /// <inheritdoc />
    public LockHolder this[int index] => _holders[index];

    /// <inheritdoc />
    public IEnumerator<LockHolder> GetEnumerator() => _holders.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    /// <summary>Returns it in words: who, since when at least, doing what, and how many others wait; or that it is hidden.</summary>
    public override string ToString()
    {
        if (Hidden is not null)
        {
            return $"who holds '{_key}' is {Hidden}";
        }

        var names = _holders.Take(Named).Select(holder => holder.ToString());
        var by = _holders.Count == 0 ? "nobody at this moment" : string.Join(" and by ", names);
        var more = _holders.Count > Named ? string.Create(CultureInfo.InvariantCulture, $" and by {_holders.Count - Named} more") : "";
        var waiting = Waiting switch
        {
            0 => "",
            1 => "; 1 other waits",
            _ => string.Create(CultureInfo.InvariantCulture, $"; {Waiting} others wait"),
        };
        return $"'{_key}' is held by {by}{more}{waiting}";
    }
}
