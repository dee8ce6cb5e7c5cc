namespace DbLock.Tests;

public sealed class LockKeyTests
{
    [Fact]
    public void Texts_numbers_and_pairs_convert_by_themselves()
    {
        LockKey text = "my_lock_id", number = 42, big = long.MinValue, pair = (-1, int.MinValue);
        Assert.Equal(("my_lock_id", 6667811999011059282L, false), (text.Name, text.Number, text.IsPair));
        Assert.Equal(("42", 42L, false), (number.Name, number.Number, number.IsPair));
        Assert.Equal(long.MinValue, big.Number);
        Assert.Equal(("-1,-2147483648", (-1, int.MinValue), true), (pair.Name, pair.Pair, pair.IsPair));
    }

    public static TheoryData<object, string> Numbers => new()
    {
        { (sbyte)-5, "-5" }, { (byte)5, "5" }, { (short)-5, "-5" }, { (ushort)5, "5" }, { 5, "5" }, { 5u, "5" }, { 5L, "5" }, { 5ul, "5" },
    };

    [Theory, MemberData(nameof(Numbers))]
    public void A_boxed_integer_is_a_number(object value, string name)
    {
        var key = LockKey.From(value);
        Assert.Equal((name, long.Parse(name, System.Globalization.CultureInfo.InvariantCulture), false), (key.Name, key.Number, key.IsPair));
    }

    [Fact]
    public void Other_values_are_their_invariant_text()
    {
        var before = Thread.CurrentThread.CurrentCulture;
        try
        {
            Thread.CurrentThread.CurrentCulture = System.Globalization.CultureInfo.GetCultureInfo("de-DE");
            Assert.Equal(LockKey.From("1.5"), LockKey.From(1.5));
            Assert.Equal(LockKey.From("True"), LockKey.From(true));
            Assert.Equal(LockKey.From("a"), LockKey.From((object)'a'));
            Assert.Equal(LockKey.From("Friday"), LockKey.From(DayOfWeek.Friday));
        }
        finally
        {
            Thread.CurrentThread.CurrentCulture = before;
        }

        Assert.Equal(LockKey.From(7, 8), LockKey.From((object)(7, 8)));
        Assert.Equal(LockKey.From("text"), LockKey.From((object)"text"));
        var guid = Guid.Parse("12345678-1234-5678-1234-567812345678");
        Assert.Equal(-2834389024081927818, LockKey.From(guid).Number);
        Assert.Equal(LockKey.From(guid), LockKey.From((object)guid));
        LockKey key = "same";
        Assert.Same(key, LockKey.From((object)key));
    }

    [Fact]
    public void A_value_without_a_text_of_its_own_is_refused()
    {
        foreach (var value in new[] { new object(), new List<int>(), new int[1], new LockKeyTests() })
        {
            Assert.Contains("no text of its own", Assert.Throws<ArgumentException>(() => LockKey.From(value)).Message, StringComparison.Ordinal);
        }

        Assert.Throws<ArgumentOutOfRangeException>(() => LockKey.From((object)ulong.MaxValue));
    }

    [Fact]
    public void Null_is_refused()
    {
        Assert.Contains("null would lock nothing", Assert.Throws<ArgumentNullException>(() => LockKey.From((string)null!)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentNullException>(() => LockKey.From((object)null!));
        Assert.Throws<ArgumentNullException>(() => (LockKey)(string)null!);
    }

    [Fact]
    public void Half_of_a_surrogate_pair_is_refused()
    {
        foreach (var text in new[] { "\uD800", "a\uDC00b", "\uDC00\uD800" })
        {
            foreach (var scheme in Enum.GetValues<KeyScheme>())
            {
                Assert.Contains("surrogate", Assert.Throws<ArgumentException>(() => LockKey.From(text, scheme)).Message, StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    public void A_prefix_is_hashed_with_the_text_under_the_same_scheme()
    {
        Assert.Equal(LockKey.From("billing:nightly", KeyScheme.DjangoPglock), LockKey.From("nightly", KeyScheme.DjangoPglock).WithPrefix("billing:"));
        Assert.Contains("number", Assert.Throws<InvalidOperationException>(() => LockKey.From(1).WithPrefix("billing:")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Libraries_without_numbers_are_not_given_one()
    {
        Assert.Throws<NotSupportedException>(() => LockKey.From(1, KeyScheme.GoodJob));
        Assert.Throws<NotSupportedException>(() => LockKey.From(1, KeyScheme.Pals));
        Assert.Equal((1, 0), LockKey.From(1, KeyScheme.WithAdvisoryLock).Pair);
        Assert.Throws<ArgumentOutOfRangeException>(() => LockKey.From("x", (KeyScheme)99));
        Assert.Throws<ArgumentOutOfRangeException>(() => LockKey.From(1, (KeyScheme)99));
    }

    [Fact]
    public void Equal_keys_are_one_lock()
    {
        Assert.Equal(LockKey.From("a"), (LockKey)"a");
        Assert.Equal(LockKey.From("a").GetHashCode(), LockKey.From("a").GetHashCode());
        Assert.NotEqual(LockKey.From("a"), LockKey.From("A"));
        Assert.NotEqual(LockKey.From(4294967298), LockKey.From(1, 2));
        Assert.NotEqual(LockKey.From("a"), LockKey.From("a", KeyScheme.Sqlx));
        Assert.False(LockKey.From("a").Equals(null));
        Assert.Equal("a", LockKey.From("a").ToString());
    }
}
