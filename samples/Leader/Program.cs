// Any number of instances of this program, of which one leads, and another when that one ends:
//   ConnectionStrings__Default='Host=…' dotnet run --project samples/Leader
// Over leases instead of a session's locks: -- --DbLock:Scope Lease
using System.Data.Common;
using Leader;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Npgsql;

var builder = Host.CreateApplicationBuilder(args);
builder.Services.AddSingleton<DbDataSource>(_ => NpgsqlDataSource.Create(
    builder.Configuration.GetConnectionString("Default") ?? throw new InvalidOperationException("Set ConnectionStrings:Default.")));
builder.Services.AddDbLock(builder.Configuration.GetSection("DbLock"));
builder.Services.AddHostedService<Teller>(); // before the election, of which it hears from the beginning then
builder.Services.AddLeader<Heartbeat>(builder.Configuration["Leader:Key"] ?? "samples:leader");
await builder.Build().RunAsync();
