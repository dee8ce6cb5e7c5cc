namespace DbLock.Tests;

/// <summary>Keys with slots.</summary>
public sealed class SlotKeyTests
{
    /// <summary>
    /// A Python program makes the same number: <c>int.from_bytes(hashlib.sha1(b'import#3').digest()[:8], 'big', signed=True)</c>.
    /// </summary>
    [Fact]
    public void A_slot_is_a_text_that_other_programs_can_make()
    {
        var key = LockKey.Slots("import", 3);
        Assert.Equal(("import", 3, false), (key.Name, key.SlotCount, key.IsSeveral));
        Assert.Equal("import (any of 3 slots)", key.ToString());
        Assert.Equal("import#3", key.Slot(3).Name);
        Assert.Equal(-6308839687506041861, key.Slot(3).Number);
        Assert.Equal(LockKey.From("import#3"), key.Slot(3));
        Assert.Equal(-3877945517861561339, LockKey.Slots(42, 1).Slot(1).Number);
        Assert.Equal("1,2#1", LockKey.Slots((1, 2), 1).Slot(1).Name);
        Assert.Equal(LockKey.From("import#1", KeyScheme.DjangoPglock), LockKey.Slots(LockKey.From("import", KeyScheme.DjangoPglock), 2).Slot(1));
        Assert.Equal(LockKey.Slots("billing:import", 3), key.WithPrefix("billing:"));
        Assert.Throws<ArgumentOutOfRangeException>(() => key.Slot(0));
        Assert.Throws<ArgumentOutOfRangeException>(() => key.Slot(4));
    }

    [Fact]
    public void A_key_with_slots_is_another_key_than_without_and_has_no_number_of_its_own()
    {
        LockKey plain = "import";
        var key = LockKey.Slots(plain, 3);
        Assert.NotEqual(plain, key);
        Assert.NotEqual(key, LockKey.Slots(plain, 4));
        Assert.Equal(key, LockKey.Slots("import", 3));
        Assert.Equal(key.GetHashCode(), LockKey.Slots("import", 3).GetHashCode());
        Assert.Contains("LockKey.Slot", Assert.Throws<InvalidOperationException>(() => key.Number).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => key.IsPair);
        Assert.Throws<InvalidOperationException>(() => key.ToPgLocks());
        Assert.Equal(0, plain.SlotCount);
        Assert.Throws<ArgumentOutOfRangeException>(() => plain.Slot(1));
        Assert.Equal(key, LockKey.All(key));
    }

    [Theory, InlineData(0), InlineData(-1), InlineData(LockKey.MostSlots + 1), InlineData(int.MaxValue)]
    public void A_number_of_slots_that_makes_no_sense_is_refused(int count) =>
        Assert.Throws<ArgumentOutOfRangeException>(() => LockKey.Slots("import", count));

    [Fact]
    public async Task What_slots_do_not_have_is_refused_with_the_reason()
    {
        var key = LockKey.Slots("import", 2);
        Assert.Contains("one of several", Assert.Throws<ArgumentException>(() => LockKey.All(key, "other")).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => LockKey.Slots(key, 2));
        Assert.Throws<ArgumentException>(() => LockKey.Slots(LockKey.All("a", "b"), 2));
        Assert.Throws<ArgumentNullException>(() => LockKey.Slots(null!, 2));
        var server = new InMemoryLockServer();
        await using var connection = server.CreateConnection();
        await connection.OpenAsync();
        foreach (var options in new[] { new LockOptions { Shared = true }, new LockOptions { Reentrant = true } })
        {
            Assert.Contains("exclusive", Assert.Throws<ArgumentException>(() => connection.CreateLock(key, null, options)).Message, StringComparison.Ordinal);
        }

        await using var pool = new LockPool(server.CreateDataSource());
        await Assert.ThrowsAsync<ArgumentException>(() => pool.TryAcquireLockAsync(key, shared: true).AsTask());
    }

    [Fact]
    public async Task In_memory_too_so_many_hold_it_at_once()
    {
        var (server, key) = (new InMemoryLockServer(), LockKey.Slots("import", 2));
        await using var pool = new LockPool(server.CreateDataSource());
        await using var connection = server.CreateConnection();
        await connection.OpenAsync();
        using var first = connection.CreateLock(key);
        Assert.True(first.Acquire(block: false));
        Assert.False(first.Acquire(block: false));
        Assert.Throws<LockException>(() => first.Acquire());
        await using var second = await pool.AcquireLockAsync(key);
        Assert.Equal((1, 2), (first.Slot, second.Slot));
        Assert.Null(await pool.TryAcquireLockAsync(key));
        var waiting = pool.AcquireLockAsync(key).AsTask();
        Assert.False(waiting.IsCompleted);
        Assert.True(first.Release());
        await using var third = await waiting;
        Assert.Equal((1, key), (third.Slot, third.Key));
    }
}
