using DbLock;
using DbLock.LocalServers;
using Npgsql;
using ThirdParty;
using Lock = DbLock.Lock;

await using var server = await PostgreSqlServer.StartAsync();
await using var first = new NpgsqlConnection(server.ConnectionString);
await using var second = new NpgsqlConnection(server.ConnectionString);
await first.OpenAsync();
await second.OpenAsync();

await using var mine = new Lock(first, "nightly-report", LockInterface.Plain);
await using var theirs = new Lock(second, "nightly-report", LockInterface.Plain);
Console.WriteLine($"First:  {await mine.AcquireAsync(block: false)}");
Console.WriteLine($"Second: {await theirs.AcquireAsync(block: false)}");
Console.WriteLine($"First lets go: {await mine.ReleaseAsync()}");
Console.WriteLine($"Second: {await theirs.AcquireAsync(block: false)}");
