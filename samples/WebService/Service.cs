using System.Data.Common;
using DbLock;
using Npgsql;

namespace WebService;

/// <summary>The service, made anew for each instance.</summary>
public static class Service
{
    public static async Task<WebApplication> CreateAsync(string[] args)
    {
        var builder = WebApplication.CreateBuilder(args);
        var connectionString = builder.Configuration.GetConnectionString("Default") ?? throw new InvalidOperationException("Set ConnectionStrings:Default.");
        builder.Services.AddSingleton<DbDataSource>(_ => NpgsqlDataSource.Create(connectionString));

        // Section "DbLock" of appsettings.json: { "TelemetryKey": true }.
        builder.Services.AddDbLock(builder.Configuration.GetSection("DbLock"));
        builder.Services.AddHostedService<NightlyReport>();

        var app = builder.Build();
        await MigrateAsync(app.Services.GetRequiredService<DbDataSource>());
        app.MapPost("/customers/{customer:int}/import", ImportAsync);
        return app;
    }

    // Instances that start together take turns: one lock, on a connection of its own.
    private static async Task MigrateAsync(DbDataSource database)
    {
        await using var held = await database.AcquireLockAsync("web-service:migration", TimeSpan.FromMinutes(1));
        await using var migrate = database.CreateCommand(
            "create table if not exists runs (id bigint generated always as identity, job text not null, began timestamptz not null default clock_timestamp(), ended timestamptz)");
        await migrate.ExecuteNonQueryAsync();
        await LeaseTable.Default.CreateAsync(database);
    }

    // Thousands of customers, and no connection for any of their locks.
    private static async Task<IResult> ImportAsync(int customer, LockPool locks, DbDataSource database, CancellationToken cancellationToken)
    {
        await using var held = await locks.TryAcquireLockAsync($"web-service:import:{customer}", TimeSpan.FromMilliseconds(100), cancellationToken: cancellationToken);
        if (held is null)
        {
            return Results.Conflict($"An import for customer {customer} is under way: try again when it is done.");
        }

        await Work.DoAsync(database, $"import:{customer}", held.Lost);
        return Results.Ok();
    }
}
