namespace DbLock.ServerTests.MariaDb;

/// <summary>A user of one test who may connect and no more; the password is the name.</summary>
internal sealed record MariaDbUser(string Name) : IAsyncDisposable
{
    public static async Task<MariaDbUser> CreateAsync(string rights = "")
    {
        var user = new MariaDbUser("u" + Guid.NewGuid().ToString("N")[..16]);
        await ExecuteAsync($"create user {user.Name} identified by '{user.Name}'");
        await ExecuteAsync($"grant select on dblock.* to {user.Name}");
        if (rights.Length > 0)
        {
            await ExecuteAsync($"grant {rights} to {user.Name}");
        }

        return user;
    }

    public async ValueTask DisposeAsync() => await ExecuteAsync($"drop user {Name}");

    private static async Task ExecuteAsync(string sql)
    {
        await using var connection = await MariaDbDrivers.OpenAsync("MySqlConnector");
        await using var command = connection.CreateCommand();
        command.CommandText = sql;
        await command.ExecuteNonQueryAsync();
    }
}
