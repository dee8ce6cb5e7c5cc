namespace DbLock.Tests;

public sealed class LockSqlTests
{
    [Fact]
    public void Markers_are_written_in_every_form()
    {
        var sql = new LockSql("select f({0}, {1}, {0}) -- {x}");
        Assert.Equal("select f($1, $2, $1) -- {x}", sql.Numbered);
        Assert.Equal("select f(@p0, @p1, @p0) -- {x}", sql.Named);
        Assert.Equal("select f(?, ?, ?) -- {x}", sql.Positional);
        Assert.Equal([0, 1, 0], sql.Order);
        Assert.Equal("select f(:a0, :a1, :a0) -- {x}", sql.Format(n => $":a{n}"));
    }

    [Theory, InlineData(null, null), InlineData(-1.0, 0), InlineData(0.4, 3), InlineData(2.0, 4), InlineData(86401.0, 0)]
    public void A_command_outlasts_its_wait(double? seconds, int? expected)
    {
        TimeSpan? wait = seconds switch
        {
            null => null,
            < 0 => Timeout.InfiniteTimeSpan,
            { } s => TimeSpan.FromSeconds(s),
        };
        Assert.Equal(expected, new LockStatement { Wait = wait }.CommandTimeout);
    }
}
