using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace DbLock;

/// <summary>What is locked: a name for engines that lock names, and a 64-bit number or a pair of 32-bit numbers for PostgreSQL.</summary>
/// <remarks>
/// A text is hashed to the number by a <see cref="KeyScheme"/>; the default is the one of postgresql-lock (SHA-1, big-endian).
/// Two keys are equal when they are one lock to PostgreSQL and have one name.
/// </remarks>
public sealed class LockKey : IEquatable<LockKey>
{
    /// <summary>How many slots a key has at most.</summary>
    public const int MostSlots = 1000;

    // A name may be a megabyte long, which would be no help in a message.
    private const int MostToShow = 200;

    private static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly KeyScheme? _textScheme;
    private readonly long _number;
    private readonly bool _isPair;

    // Of a single key it is made when somebody asks for it.
    private IReadOnlyList<LockKey>? _keys;

    private LockKey(string name, long number, bool isPair, KeyScheme? textScheme = null)
    {
        Name = name;
        _number = number;
        _isPair = isPair;
        _textScheme = textScheme;
    }

    private LockKey(LockKey[] keys)
    {
        const int Named = 3;
        Name = string.Join(", ", keys.Take(Named).Select(key => key.Name))
            + (keys.Length > Named ? string.Create(CultureInfo.InvariantCulture, $" and {keys.Length - Named} more") : "");
        _keys = keys;
        IsSeveral = true;
        _number = keys[0]._number;
    }

    private LockKey(LockKey key, int count)
    {
        (Name, _number, _isPair, _textScheme) = (key.Name, key._number, key._isPair, key._textScheme);
        SlotCount = count;
    }

    /// <summary>
    /// Gets the name: the text as it was given, or the decimal text of a number ("42") or a pair ("1,2"). Of several keys: the names of the
    /// first three.
    /// </summary>
    public string Name { get; }

    /// <summary>
    /// Gets the keys of which this consists, in the order in which they are locked: one, itself, unless it comes from <see cref="All"/>.
    /// </summary>
    public IReadOnlyList<LockKey> Keys => _keys ??= [this];

    /// <summary>Gets whether this is several keys.</summary>
    public bool IsSeveral { get; }

    /// <summary>Gets how many slots it has, any one of which is acquired (<see cref="Slots"/>); 0 for a key without slots.</summary>
    public int SlotCount { get; }

    /// <summary>Gets what an engine's own locks know it by: of a key with slots, the keys of all slots.</summary>
    internal LockKey OnServer => SlotCount == 0 ? this : All(Enumerable.Range(1, SlotCount).Select(Slot));

    /// <summary>Gets the number that PostgreSQL locks. For a pair: the first in the high 32 bits, the second in the low 32 bits.</summary>
    /// <exception cref="InvalidOperationException">These are several keys, or the key has slots.</exception>
    public long Number => IsSeveral || SlotCount > 0 ? throw Several() : _number;

    /// <summary>Gets whether the key lives in PostgreSQL's space of pairs, which never meets the space of single numbers.</summary>
    /// <exception cref="InvalidOperationException">These are several keys, or the key has slots.</exception>
    public bool IsPair => IsSeveral || SlotCount > 0 ? throw Several() : _isPair;

    /// <summary>Gets the pair; (0, 0) has no meaning unless <see cref="IsPair"/>.</summary>
    public (int First, int Second) Pair => IsPair ? ((int)(Number >> 32), (int)Number) : default;

    /// <summary>Makes a key from a text, as <see cref="From(string, KeyScheme)"/> does with the default scheme.</summary>
    /// <param name="text">The text.</param>
    public static implicit operator LockKey(string text) => From(text);

    /// <summary>Makes a key from a number.</summary>
    /// <param name="number">The number.</param>
    public static implicit operator LockKey(long number) => From(number);

    /// <summary>Makes a key from a pair of numbers.</summary>
    /// <param name="pair">The pair.</param>
    public static implicit operator LockKey((int First, int Second) pair) => From(pair.First, pair.Second);

    /// <summary>Stops a character, which would silently become its number.</summary>
    /// <param name="character">The character.</param>
    [Obsolete("A char would become a number: write a string (\"a\") or a number ((long)'a').", error: true)]
    public static implicit operator LockKey(char character) =>
        throw new NotSupportedException($"A char ({character}) is no key: write a string or a number.");

    /// <summary>Makes a key from a text.</summary>
    /// <param name="text">The text; it may be empty where the engine allows it (PostgreSQL and SQL Server do).</param>
    /// <param name="scheme">How PostgreSQL's number is made from it.</param>
    /// <exception cref="ArgumentException">The text has half of a surrogate pair, which has no UTF-8 form.</exception>
    public static LockKey From(string text, KeyScheme scheme = KeyScheme.PostgresqlLock)
    {
        if (text is null)
        {
            throw new ArgumentNullException(nameof(text), "A lock needs a key: null would lock nothing.");
        }

        // The bytes of most texts, and their hash, need no memory of their own.
        Span<byte> room = stackalloc byte[256];
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        var utf8 = Utf8(text, room);
        return scheme switch
        {
            KeyScheme.PostgresqlLock => Single(BinaryPrimitives.ReadInt64BigEndian(Sha1(utf8, hash))),
            KeyScheme.DjangoPglock => Single(BinaryPrimitives.ReadInt64LittleEndian(Sha256(utf8, hash))),
            KeyScheme.DjangoPglocks1 => Single((int)Crc32(utf8)),
            KeyScheme.DjangoPglocks2 => Single(BinaryPrimitives.ReadInt64BigEndian(Sha256(utf8, hash))),
            KeyScheme.DistributedLock => FromDistributedLock(text, utf8, hash),
            KeyScheme.WithAdvisoryLock => new LockKey(text, Join((int)(Crc32(utf8) & int.MaxValue), 0), isPair: true, scheme),
            KeyScheme.Sqlx => Single(BinaryPrimitives.ReadInt64LittleEndian(Hkdf(utf8, hash[..sizeof(long)]))),
            KeyScheme.GoodJob => Single(BinaryPrimitives.ReadInt64BigEndian(Md5(utf8, hash))),
            KeyScheme.Pals => Single(BinaryPrimitives.ReadInt64LittleEndian(Sha1(utf8, hash))),
            _ => throw new ArgumentOutOfRangeException(nameof(scheme), scheme, "There is no such key scheme."),
        };

        LockKey Single(long number) => new(text, number, isPair: false, scheme);
    }

    /// <summary>Makes a key from a number, which PostgreSQL locks as it is.</summary>
    /// <param name="number">The number, from <see cref="long.MinValue"/> to <see cref="long.MaxValue"/>.</param>
    public static LockKey From(long number) => new(number.ToString(CultureInfo.InvariantCulture), number, isPair: false);

    /// <summary>Makes a key from a number in the way of another library.</summary>
    /// <param name="number">The number.</param>
    /// <param name="scheme">The library's scheme: <see cref="KeyScheme"/> says what each one does with a number.</param>
    /// <exception cref="NotSupportedException">That library has no numeric keys.</exception>
    public static LockKey From(long number, KeyScheme scheme) => scheme switch
    {
        KeyScheme.PostgresqlLock => From(number.ToString(CultureInfo.InvariantCulture), scheme),
        KeyScheme.DjangoPglock or KeyScheme.DjangoPglocks1 or KeyScheme.DjangoPglocks2 or KeyScheme.DistributedLock or KeyScheme.Sqlx =>
            From(number),
        KeyScheme.WithAdvisoryLock => From((int)(number & int.MaxValue), 0),
        KeyScheme.GoodJob => throw new NotSupportedException(
            $"{scheme} has no numeric keys: give it a text, such as \"{number.ToString(CultureInfo.InvariantCulture)}\"."),
        KeyScheme.Pals => throw new NotSupportedException(
            $"{scheme} has no numeric keys: it locks a number as a text behind the name of its application, so give it "
            + $"\"app.{number.ToString(CultureInfo.InvariantCulture)}\" for lock({number.ToString(CultureInfo.InvariantCulture)}) of an "
            + "application named app."),
        _ => throw new ArgumentOutOfRangeException(nameof(scheme), scheme, "There is no such key scheme."),
    };

    /// <summary>Stops a character, which would silently become its number.</summary>
    /// <param name="character">The character.</param>
    [Obsolete("A char would become a number: write a string (\"a\") or a number ((long)'a').", error: true)]
    public static LockKey From(char character) =>
        throw new NotSupportedException($"A char ({character}) is no key: write a string or a number.");

    /// <summary>Makes a key in PostgreSQL's space of pairs.</summary>
    /// <param name="first">The first number.</param>
    /// <param name="second">The second number.</param>
    public static LockKey From(int first, int second) =>
        new(string.Create(CultureInfo.InvariantCulture, $"{first},{second}"), Join(first, second), isPair: true);

    /// <summary>Makes one key out of several: its lock is held when each of them is, and they are acquired all or none.</summary>
    /// <param name="keys">
    /// The keys, in any order: they are locked in the order of their numbers, so that two programs that want the same ones do not wait for
    /// each other. One that is given twice is locked once. A single key is returned as it is.
    /// </param>
    /// <exception cref="ArgumentException">There is no key, or a key among several has slots.</exception>
    public static LockKey All(params IEnumerable<LockKey> keys)
    {
        ArgumentNullException.ThrowIfNull(keys);
        LockKey[] sorted =
        [
            .. keys.SelectMany(
                key => (key ?? throw new ArgumentNullException(nameof(keys), "A lock needs a key: null would lock nothing.")).Keys)
                .Distinct().OrderBy(key => key._isPair).ThenBy(key => key._number).ThenBy(key => key.Name, StringComparer.Ordinal),
        ];
        return sorted.Length switch
        {
            0 => throw new ArgumentException("A lock needs a key: no keys would lock nothing.", nameof(keys)),
            1 => sorted[0],
            _ when Array.Exists(sorted, static key => key.SlotCount > 0) => throw new ArgumentException(
                "A key with slots cannot be one of several, because which of its slots is free is known only when it is acquired: acquire "
                + "it by itself, and before or after the others in every program.",
                nameof(keys)),
            _ => new LockKey(sorted),
        };
    }

    /// <summary>
    /// Makes a key with slots: its lock can be held so many times at once, each time in another slot. Acquiring it takes any slot that is
    /// free.
    /// </summary>
    /// <param name="key">The key; a single one. Without slots it is another lock.</param>
    /// <param name="count">How many slots, from 1 to <see cref="MostSlots"/>. Every program should give the same number.</param>
    /// <exception cref="ArgumentException">These are several keys, or the key has slots already.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The number is less than 1 or more than <see cref="MostSlots"/>.</exception>
    public static LockKey Slots(LockKey key, int count)
    {
        ArgumentNullException.ThrowIfNull(key);
        if (key.IsSeveral || key.SlotCount > 0)
        {
            throw new ArgumentException($"'{key}' cannot have slots: only a single key without slots can.", nameof(key));
        }

        return count is >= 1 and <= MostSlots ? new LockKey(key, count) : throw new ArgumentOutOfRangeException(
            nameof(count), count, $"'{key}' can have from 1 to {MostSlots.ToString(CultureInfo.InvariantCulture)} slots.");
    }

    /// <summary>
    /// Returns the key that a slot is to an engine's own locks: the text <c>name#3</c>, under the key's own scheme, or under the default
    /// one when it is a number (<c>42#3</c>) or a pair (<c>1,2#3</c>).
    /// </summary>
    /// <param name="slot">The slot, from 1 to <see cref="SlotCount"/>.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such slot.</exception>
    public LockKey Slot(int slot) => slot >= 1 && slot <= SlotCount
        ? From(string.Create(CultureInfo.InvariantCulture, $"{Name}#{slot}"), _textScheme ?? KeyScheme.PostgresqlLock)
        : throw new ArgumentOutOfRangeException(nameof(slot), slot, $"'{this}' has no such slot.");

    /// <summary>Makes a key from a Guid: its text of 36 lower-case characters.</summary>
    /// <param name="value">The Guid.</param>
    public static LockKey From(Guid value) => From(value.ToString("D", CultureInfo.InvariantCulture));

    /// <summary>
    /// Makes a key from any value: a boxed integer is a number, two boxed 32-bit integers are a pair, anything else is its invariant text.
    /// </summary>
    /// <param name="value">The value.</param>
    /// <exception cref="ArgumentException">
    /// The value has no text of its own, only its type's name, which every value of the type would share.
    /// </exception>
    /// <exception cref="ArgumentOutOfRangeException">An unsigned number beyond 64 bits with a sign.</exception>
    public static LockKey From(object value) => value switch
    {
        null => throw new ArgumentNullException(nameof(value), "A lock needs a key: null would lock nothing."),
        LockKey key => key,
        string text => From(text),
        sbyte or byte or short or ushort or int or uint or long => From(Convert.ToInt64(value, CultureInfo.InvariantCulture)),
        ulong number => number <= long.MaxValue
            ? From((long)number)
            : throw new ArgumentOutOfRangeException(
                nameof(value),
                value,
                "A numeric key has 64 bits with a sign: give a smaller number, or a text."),
        ValueTuple<int, int> pair => From(pair.Item1, pair.Item2),
        Guid guid => From(guid),
        _ => From(Text(value)),
    };

    /// <summary>
    /// Returns a key whose text starts with an application's prefix, under the same scheme, so that two applications on one database never
    /// meet.
    /// </summary>
    /// <param name="prefix">The prefix, separator included: <c>"billing:"</c>.</param>
    /// <exception cref="InvalidOperationException">The key is a number or a pair, which has no text to put a prefix before.</exception>
    public LockKey WithPrefix(string prefix)
    {
        ArgumentNullException.ThrowIfNull(prefix);
        return IsSeveral ? All(Keys.Select(key => key.WithPrefix(prefix)))
            : SlotCount > 0 && _textScheme is { } own ? Slots(From(prefix + Name, own), SlotCount)
            : _textScheme is { } scheme ? From(prefix + Name, scheme)
            : throw new InvalidOperationException($"The key {Name} is a number and takes no prefix: make it a text first.");
    }

    /// <inheritdoc />
    public bool Equals(LockKey? other) =>
        ReferenceEquals(this, other)
        || (other is not null
            && _number == other._number
            && _isPair == other._isPair
            && Name == other.Name
            && (SlotCount, IsSeveral) == (other.SlotCount, other.IsSeveral)
            && (!IsSeveral || Keys.SequenceEqual(other.Keys)));

    /// <inheritdoc />
    public override bool Equals(object? obj) => Equals(obj as LockKey);

    /// <inheritdoc />
    public override int GetHashCode() => HashCode.Combine(_number, _isPair, IsSeveral ? Keys.Count : 1, SlotCount);

    /// <summary>
    /// Returns the name as messages show it. Of a name that is longer than 200 characters it has the beginning and the length; a key with
    /// slots tells how many it has.
    /// </summary>
    public override string ToString() =>
        (Name.Length <= MostToShow
            ? Name : string.Create(CultureInfo.InvariantCulture, $"{Name[..MostToShow]}… ({Name.Length} characters)"))
        + (SlotCount == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $" (any of {SlotCount} slots)"));

    private InvalidOperationException Several() => new(
        $"'{this}' stands for several keys, and each has a number of its own: take them from LockKey.{(IsSeveral ? "Keys" : "Slot")}.");

    private static ReadOnlySpan<byte> Utf8(string text, Span<byte> room)
    {
        try
        {
            return StrictUtf8.TryGetBytes(text, room, out var length) ? room[..length] : StrictUtf8.GetBytes(text);
        }
        catch (EncoderFallbackException e)
        {
            throw new ArgumentException(
                $"The key has half of a surrogate pair at position {e.Index.ToString(CultureInfo.InvariantCulture)}: it is no valid "
                + "text, and other programs would lock another name. Mend the text.",
                nameof(text),
                e);
        }
    }

    private static string Text(object value)
    {
        var text = value is IFormattable formattable ? formattable.ToString(null, CultureInfo.InvariantCulture) : value.ToString();
        return text is null || text == value.GetType().ToString()
            ? throw new ArgumentException(
                $"A {value.GetType()} has no text of its own: every one of them would be the same lock. Give a string or a number "
                + "instead.",
                nameof(value))
            : text;
    }

    private static long Join(int first, int second) => ((long)first << 32) | (uint)second;

    private static LockKey FromDistributedLock(string text, ReadOnlySpan<byte> utf8, Span<byte> hash)
    {
        const KeyScheme Scheme = KeyScheme.DistributedLock;
        if (text.Length <= 9 && Ascii.IsValid(text))
        {
            // The packing has 7 bits for each character, then a zero bit that ends the text, then ones.
            var bits = 0UL;
            foreach (var c in text)
            {
                bits = (bits << 7) | c;
            }

            bits <<= 1;
            for (var i = text.Length; i < 9; i++)
            {
                bits = (bits << 7) | 0x7F;
            }

            return new LockKey(text, (long)bits, isPair: true, Scheme);
        }

        if (text.Length == 16 && Hex(text, out var number))
        {
            return new LockKey(text, (long)number, isPair: false, Scheme);
        }

        if (text.Length == 17 && text[8] == ',' && Hex(text.AsSpan(0, 8), out var first) && Hex(text.AsSpan(9), out var second))
        {
            return new LockKey(text, (long)((first << 32) | second), isPair: true, Scheme);
        }

        return new LockKey(text, BinaryPrimitives.ReadInt64LittleEndian(Sha1(utf8, hash)), isPair: false, Scheme);

        static bool Hex(ReadOnlySpan<char> digits, out ulong value) =>
            ulong.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value);
    }

    // Each returns the hash, which stands at the beginning of the memory that it was given.
    [SuppressMessage("Security", "CA5350", Justification = "Not for security: the number must be the one that other libraries compute.")]
    private static ReadOnlySpan<byte> Sha1(ReadOnlySpan<byte> utf8, Span<byte> hash) => hash[..SHA1.HashData(utf8, hash)];

    [SuppressMessage("Security", "CA5351", Justification = "Not for security: the number must be the one that other libraries compute.")]
    private static ReadOnlySpan<byte> Md5(ReadOnlySpan<byte> utf8, Span<byte> hash) => hash[..MD5.HashData(utf8, hash)];

    private static ReadOnlySpan<byte> Sha256(ReadOnlySpan<byte> utf8, Span<byte> hash) => hash[..SHA256.HashData(utf8, hash)];

    private static ReadOnlySpan<byte> Hkdf(ReadOnlySpan<byte> utf8, Span<byte> hash)
    {
        HKDF.DeriveKey(HashAlgorithmName.SHA256, utf8, hash, salt: default, info: "SQLx (Rust) Postgres advisory lock"u8);
        return hash;
    }

    // CRC-32/ISO-HDLC. It is written here because the package System.IO.Hashing would be a dependency for ten lines.
    private static uint Crc32(ReadOnlySpan<byte> bytes)
    {
        var crc = uint.MaxValue;
        foreach (var b in bytes)
        {
            crc ^= b;
            for (var bit = 0; bit < 8; bit++)
            {
                crc = (crc & 1) == 0 ? crc >> 1 : (crc >> 1) ^ 0xEDB88320;
            }
        }

        return ~crc;
    }
}
