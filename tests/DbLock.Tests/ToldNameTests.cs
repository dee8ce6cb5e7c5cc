namespace DbLock.Tests;

/// <summary>How a lock's name is written where the server shows it, and read back.</summary>
public sealed class ToldNameTests
{
    [Theory]
    [InlineData("nightly-report", "/* dblock nightly-report */ ")]
    [InlineData("import/42 of_a.b", "/* dblock import/42 of_a.b */ ")]
    [InlineData("", "/* dblock  */ ")]
    [InlineData("x */ select 1 --", "/* dblock x %2A/ select 1 -- */ ")]
    [InlineData("@p0 :a ?{0}$1", "/* dblock %40p0 %3Aa %3F%7B0%7D%241 */ ")]
    [InlineData("a,b%", "/* dblock a%2Cb%25 */ ")]
    [InlineData("ä\n🔒", "/* dblock %C3%A4%0A%F0%9F%94%92 */ ")]
    public void A_comment_has_the_name_in_characters_that_mean_nothing_to_anybody(string name, string comment)
    {
        Assert.Equal(comment, ToldName.Comment((LockKey)name));
        Assert.Equal(name, ToldName.InWords(ToldName.ReadComment(comment + "select 1")!));
        Assert.True(ToldName.Fits(ToldName.ReadComment(comment)!, name));
    }

    [Fact]
    public void A_long_name_is_cut_between_characters_and_fits_its_key_alone()
    {
        var comment = ToldName.Comment((LockKey)new string('ä', 1_000_000));
        Assert.Equal("/* dblock " + string.Concat(Enumerable.Repeat("%C3%A4", 33)) + ".. */ ", comment);
        var written = ToldName.ReadComment(comment)!;
        Assert.True(ToldName.Fits(written, new string('ä', 500)));
        Assert.False(ToldName.Fits(written, new string('ä', 32) + "a" + new string('ä', 500)));
        Assert.Equal("/* dblock " + new string('a', 200) + " */ ", ToldName.Comment((LockKey)new string('a', 200)));
        Assert.Equal("/* dblock " + new string('a', 198) + ".. */ ", ToldName.Comment((LockKey)new string('a', 201)));
    }

    [Fact]
    public void Several_keys_stand_with_commas_and_are_each_found()
    {
        var keys = LockKey.All("a,b", "c", 42L);
        var written = ToldName.ReadComment(ToldName.Comment(keys))!;
        Assert.All(keys.Keys, key => Assert.True(ToldName.Fits(written, key)));
        Assert.False(ToldName.Fits(written, "b"));
        Assert.Contains((LockKey)"a,b", ToldName.KeysOf(written));
        Assert.DoesNotContain((LockKey)"b", ToldName.KeysOf(written));
    }

    [Theory]
    [InlineData("report", " [report asked for]")]
    [InlineData("a [b]:c", " [a %5Bb%5D:c asked for]")]
    [InlineData("a name of more than twenty-seven characters", " [a name of more than twent.. asked for]")]
    [InlineData("äöüäöü", " [%C3%A4%C3%B6%C3%BC%C3%A4.. asked for]")]
    public void An_application_name_ends_with_the_name_and_has_room_for_the_time(string name, string end)
    {
        var (written, room) = ToldName.InApplicationName(name);
        Assert.Equal(end, written);
        var told = new string('x', room) + written.Replace("asked for", "2026-11-26T18:03:22Z", StringComparison.Ordinal);
        Assert.Equal(63, told.Length);
        foreach (var whole in new[] { told, new string('x', room) + written })
        {
            var (application, added) = ToldName.Split(whole);
            Assert.Equal(new string('x', room), application);
            Assert.True(ToldName.Fits(ToldName.Read(added).Written!, name));
            Assert.Equal(whole == told ? new DateTimeOffset(2026, 11, 26, 18, 3, 22, TimeSpan.Zero) : null, ToldName.Read(added).Since);
        }
    }

    [Theory]
    [InlineData("worker [x]"), InlineData("worker [x 2026-11-26]"), InlineData("[x asked for]")]
    [InlineData("worker [x asked for] "), InlineData("worker[x asked for]")]
    [InlineData("worker [x [y] asked for]")]
    public void What_others_write_is_left_as_it_is(string application) => Assert.Equal((application, null), ToldName.Split(application));

    [Theory]
    [InlineData("select 1"), InlineData("select 1 /* dblock x */"), InlineData("/* dblock x * */")]
    [InlineData("/* dblock"), InlineData("/*dblock x */"), InlineData(null)]
    public void A_statement_without_our_comment_tells_nothing(string? query) => Assert.Null(ToldName.ReadComment(query));

    [Fact]
    public void A_comment_that_is_longer_than_ours_is_not_read() =>
        Assert.Null(ToldName.ReadComment($"/* dblock {string.Concat(Enumerable.Repeat("a,", 101))} */ select 1"));

    [Theory]
    [InlineData("BEGIN;/* dblock x */ select"), InlineData("savepoint dblock_acquire; /* dblock x */ select")]
    [InlineData("BEGIN;SAVEPOINT _EXEC_SVP_0x1;savepoint dblock_acquire; /* dblock x */ select")]
    public void What_psqlODBC_sends_before_it_is_passed_over(string query) => Assert.Equal("x", ToldName.ReadComment(query));
}
