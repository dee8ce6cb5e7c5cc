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
    public void Several_keys_are_sorted_each_once()
    {
        var all = LockKey.All(7, (1, 2), "b", "a", 7, LockKey.All("a", -3));
        Assert.True(all.IsSeveral);
        Assert.Equal(5, all.Keys.Count);
        Assert.Equal(all.Keys.Where(key => !key.IsPair).OrderBy(key => key.Number).Append((1, 2)), all.Keys);
        Assert.Equal(all, LockKey.All(all.Keys.Reverse()));
        Assert.Equal(all.GetHashCode(), LockKey.All(all.Keys.Reverse()).GetHashCode());
        Assert.NotEqual(all, LockKey.All(all.Keys.Skip(1)));
        Assert.NotEqual(all, all.Keys[0]);

        // Those of which one is the name of two others.
        Assert.NotEqual(LockKey.All("a", "b, c"), LockKey.All("a, b", "c"));
        Assert.Equal(3, all.ToString().Split(',').Length);
        Assert.EndsWith(" and 2 more", LockKey.All(1, 2, 3, 4, 5).Name, StringComparison.Ordinal);
        Assert.Equal("1, 2, 3 and 2 more", LockKey.All(5, 4, 3, 2, 1).Name);
        Assert.Equal("1, 2", LockKey.All(2, 1).Name);
    }

    [Fact]
    public void One_key_of_several_is_that_key_and_none_is_refused()
    {
        LockKey key = "a";
        Assert.Same(key, LockKey.All(key));
        Assert.Same(key, Assert.Single(key.Keys));
        Assert.False(key.IsSeveral);
        Assert.Contains("no keys", Assert.Throws<ArgumentException>(() => LockKey.All()).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentNullException>(() => LockKey.All("a", null!));
        Assert.Throws<ArgumentNullException>(() => LockKey.All(null!));
    }

    [Fact]
    public void Several_keys_have_no_number_of_their_own()
    {
        var all = LockKey.All("a", "b");
        Assert.Contains("LockKey.Keys", Assert.Throws<InvalidOperationException>(() => all.Number).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => all.IsPair);
        Assert.Throws<InvalidOperationException>(() => all.Pair);
        Assert.Throws<InvalidOperationException>(() => all.ToPgLocks());
        Assert.Equal(LockKey.All("x:a", "x:b"), all.WithPrefix("x:"));
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
