// A writer that has lost its lock and does not know, and what it writes to refuses it: dotnet run --project samples/Fencing
using DbLock.LocalServers;
using Fencing;

await using var server = await PostgreSqlServer.StartAsync();
return await StaleWriter.RunAsync(server.ConnectionString, Console.Out) ? 0 : 1;
