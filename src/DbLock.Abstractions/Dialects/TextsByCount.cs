using System.Collections.Concurrent;

namespace DbLock;

/// <summary>The texts of a dialect that differ with the number of keys.</summary>
/// <param name="make">Makes the texts of a kind of lock for so many keys.</param>
/// <remarks>
/// The texts for few keys are kept. Those for more keys are made anew each time, because there would be too many to keep.
/// </remarks>
internal sealed class TextsByCount<TKind, TTexts>(Func<TKind, int, TTexts> make)
    where TKind : notnull
{
    private const int MostKept = 16;

    private readonly ConcurrentDictionary<(TKind Kind, int Count), TTexts> _kept = [];

    public TTexts For(TKind kind, int count) =>
        count > MostKept ? make(kind, count) : _kept.GetOrAdd((kind, count), static (key, make) => make(key.Kind, key.Count), make);
}
