namespace DbLock.ServerTests;

/// <summary>PostgreSQL, where the names are hashed by the server, as the sample's dialect has it.</summary>
public sealed class HashTextTestServer : PostgreSqlTestServer
{
    public static new HashTextTestServer Instance { get; } = new();

    protected override async Task<object[]> ColumnsAsync(LockKey key)
    {
        var number = (long)(await AskAsync("select hashtextextended(@p0 collate \"C\", 0)", key.Name))!;
        return await base.ColumnsAsync(number);
    }
}
