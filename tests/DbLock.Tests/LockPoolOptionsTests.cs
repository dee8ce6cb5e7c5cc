using Microsoft.Extensions.Logging.Abstractions;

namespace DbLock.Tests;

public sealed class LockPoolOptionsTests
{
    /// <summary>What a pool is told is told to its locks, one option after the other.</summary>
    [Fact]
    public void No_option_is_ignored()
    {
        foreach (var option in typeof(LockPoolOptions).GetProperties())
        {
            var options = new LockPoolOptions { Scope = LockScope.Lease };
            object value = option.GetValue(options) switch
            {
                bool flag => !flag,
                LockScope => LockScope.Session,
                TimeSpan time => time + TimeSpan.FromSeconds(5),
                LeaseTable => new LeaseTable("leases"),
                string => "note",
                _ when option.Name == nameof(LockPoolOptions.ClockMargin) => TimeSpan.FromSeconds(5),
                _ => option.Name == nameof(LockPoolOptions.Dialect) ? LockDialect.PostgreSql : NullLogger.Instance,
            };
            option.SetValue(options, value);
            Assert.Equal(value, typeof(LockOptions).GetProperty(option.Name)!.GetValue(options.ToLockOptions("options")));
        }

        Assert.Equal(new LockOptions(), new LockPoolOptions().ToLockOptions("options"));
    }
}
