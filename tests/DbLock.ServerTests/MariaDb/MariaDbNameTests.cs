using System.Data.Common;

namespace DbLock.ServerTests.MariaDb;

/// <summary>Two different names are two locks, and one name is one, whatever the character set of a connection.</summary>
public sealed class MariaDbNameTests
{
    private static readonly string[] Odd =
    [
        "plain", "a[b", "a\\b", "a{b", "a~b", "a@b", "a'b", "a\"b", "a`b", "é", "Ä", "δ", "д", "ä¤", "日本語", "🔒", "tab\t", "a\0b", "a\0c",
    ];

    public static TheoryData<string, string> Settings
    {
        get
        {
            var all = new TheoryData<string, string>();
            string[] settings =
            [
                "set character_set_connection = ucs2", "set character_set_connection = utf16", "set character_set_connection = latin1",
                "set character_set_connection = swe7", "set collation_connection = 'sjis_japanese_ci'", "set sql_mode = 'NO_BACKSLASH_ESCAPES'",
                "set names latin1", "set names gbk", "set names swe7",
            ];
            foreach (var setting in settings)
            {
                all.Add("MySqlConnector", setting);
                all.Add("MySql.Data", setting);
                if (!setting.StartsWith("set names", StringComparison.Ordinal))
                {
                    // The ODBC driver refuses that statement.
                    all.Add("Odbc", setting);
                }
            }

            return all;
        }
    }

    [Theory, MemberData(nameof(Settings))]
    public async Task A_name_is_one_lock_in_every_character_set(string driver, string setting)
    {
        var unique = Guid.NewGuid().ToString("N");
        await using var plain = await MariaDbTestServer.OpenAsync<MySqlConnector.MySqlConnection>(pooled: false);
        await using var odd = await OpenAsync(driver);
        await ExecuteAsync(odd, setting);
        foreach (var name in Odd)
        {
            var here = new Lock(plain, name + unique);
            var there = new Lock(odd, name + unique);
            Assert.True(await here.AcquireAsync(block: false), name);
            Assert.False(await there.AcquireAsync(block: false), $"{name} is another lock there");
            Assert.True(await here.ReleaseAsync(), name);
            Assert.True(await there.AcquireAsync(block: false), $"{name} is the lock of another name there");
            Assert.True(await MariaDbTestServer.Instance.IsHeldAsync(name + unique), name);
        }

        // All of them are held at once by the other connection, and each is one of its own.
        Assert.All(Odd, name => Assert.False(new Lock(plain, name + unique).Acquire(block: false)));
    }

    private static async Task<DbConnection> OpenAsync(string driver) => driver switch
    {
        "MySqlConnector" => await MariaDbTestServer.OpenAsync<MySqlConnector.MySqlConnection>(pooled: false),
        "MySql.Data" => await MariaDbTestServer.OpenAsync<MySql.Data.MySqlClient.MySqlConnection>(pooled: false),
        _ => await MariaDbTestServer.OpenAsync(),
    };

    private static async Task ExecuteAsync(DbConnection connection, string sql)
    {
        await using var command = connection.CreateCommand();
        command.CommandText = sql;
        await command.ExecuteNonQueryAsync();
    }

    [Fact]
    public async Task A_name_of_spaces_is_a_name_for_a_pool_as_for_a_lock()
    {
        await using var source = await MariaDbDrivers.CreateSourceAsync("MySqlConnector");
        await using var pool = new LockPool(source);
        foreach (var key in new LockKey[] { " ", "  ", LockKey.All(Guid.NewGuid().ToString(), "   ") })
        {
            await using var held = await pool.AcquireLockAsync(key);
            Assert.True(held.IsHeld);
        }
    }
}
