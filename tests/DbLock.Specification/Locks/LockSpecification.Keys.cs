namespace DbLock.Specification;

/// <content>Every key is the lock of its own.</content>
public abstract partial class LockSpecification
{
    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Every_kind_of_key_is_locked(bool async)
    {
        var unique = Guid.NewGuid();
        LockKey[] keys =
        [
            "x" + unique, $"it's \"quoted\"; -- {unique}", $"日本語 🔒 {unique}", new string('n', 300) + unique,
            BitConverter.ToInt64(unique.ToByteArray()), long.MinValue, -1L, 0L, (BitConverter.ToInt32(unique.ToByteArray()), -2),
            (int.MinValue, int.MaxValue), LockKey.From(unique), LockKey.From("a", KeyScheme.DistributedLock),
        ];
        var (first, second) = (await OpenAsync(), await OpenAsync());
        foreach (var key in keys)
        {
            // Number keys are the same for every driver that is tested at this time, so they are waited for.
            var (a, b) = (NewLock(first, key: key), NewLock(second, key: key));
            Assert.True(await a.Acquire(async, TimeSpan.FromMinutes(1)), $"{key}");
            Assert.True(await Server.IsHeldAsync(key), $"{key}");
            Assert.False(await b.Try(async), $"{key}");
            Assert.True(await a.Release(async), $"{key}");
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    [Trait("Part", "Quick")]
    public async Task Names_are_not_cut_folded_or_trimmed(bool async)
    {
        var connection = await OpenAsync();
        var name = new string('x', 400) + Guid.NewGuid();
        string[] foreign = ["é", "e\u0301", "δ", "д", "\U0001F512"];
        string[] names =
        [
            Key.Name, Key.Name.ToUpperInvariant(), Key.Name + " ", name + "1", name + "2", .. foreign.Select(end => Key.Name + end),
            .. Server.TakesNul ? new[] { Key.Name + "\0b", Key.Name + "\0c" } : [],
        ];
        Lock[] locks = [.. names.Select(text => NewLock(connection, key: text))];
        foreach (var each in locks)
        {
            Assert.True(await each.Try(async));
        }

        foreach (var each in locks)
        {
            Assert.True(await each.Release(async));
        }
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task An_empty_name_is_locked_or_refused(bool async)
    {
        var a = NewLock(await OpenAsync(), key: "");
        if (Server.HasEmptyNames)
        {
            Assert.True(await a.Acquire(async, TimeSpan.FromMinutes(1)));
            Assert.True(await a.Release(async));
        }
        else
        {
            Assert.Contains("empty", (await Assert.ThrowsAsync<ArgumentException>(() => a.Try(async))).Message, StringComparison.Ordinal);
        }
    }
}
