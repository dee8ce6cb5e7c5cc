using System.Data.Common;
using DbLock;
using Microsoft.EntityFrameworkCore;
using Npgsql;
using OpenTelemetry.Metrics;
using OpenTelemetry.Trace;

namespace WebService;

/// <summary>The service, made anew for each instance.</summary>
public static class Service
{
    public static async Task<WebApplication> CreateAsync(string[] args)
    {
        var builder = WebApplication.CreateBuilder(args);
        var connectionString = builder.Configuration.GetConnectionString("Default") ?? throw new InvalidOperationException("Set ConnectionStrings:Default.");
        builder.Services.AddSingleton<DbDataSource>(_ => NpgsqlDataSource.Create(connectionString));
        builder.Services.AddDbContext<Shop>((services, context) => context.UseNpgsql((NpgsqlDataSource)services.GetRequiredService<DbDataSource>()));

        // Section "DbLock" of appsettings.json: { "TelemetryKey": true }.
        builder.Services.AddDbLock(builder.Configuration.GetSection("DbLock"));
        builder.Services.AddDbLock(options => options.Fencing = true);
        builder.Services.AddLeader<Courier>("web-service:courier");
        builder.Services.AddHostedService<NightlyReport>();
        builder.Services.AddHealthChecks().AddDbLock();
        builder.Services.AddOpenTelemetry()
            .WithMetrics(metrics => metrics.AddMeter(DbLock.Lock.TelemetryName).AddPrometheusExporter())
            .WithTracing(tracing => tracing.AddSource(DbLock.Lock.TelemetryName));

        var app = builder.Build();
        await MigrateAsync(app.Services);
        app.MapPost("/customers/{customer:int}/import", ImportAsync);
        app.MapPost("/customers/{customer:int}/orders", OrderAsync);
        app.MapGet("/leader", async (ILeader leader) => leader.IsLeader ? "This instance leads." : $"{await leader.GetHoldersAsync()}");
        app.MapHealthChecks("/health");
        app.MapPrometheusScrapingEndpoint();
        return app;
    }

    // Instances that start together take turns, and find nothing to do after the first.
    private static async Task MigrateAsync(IServiceProvider services)
    {
        await using var scope = services.CreateAsyncScope();
        await scope.ServiceProvider.GetRequiredService<Shop>().Database.MigrateUnderLockAsync();
        await LeaseTable.Default.CreateAsync(services.GetRequiredService<DbDataSource>());
    }

    // Thousands of customers, and no connection for any of their locks.
    private static async Task<IResult> ImportAsync(int customer, ILockSource locks, DbDataSource database, CancellationToken cancellationToken)
    {
        await using var held = await locks.TryAcquireLockAsync($"web-service:import:{customer}", cancellationToken: cancellationToken);
        if (held is null)
        {
            return Results.Conflict($"An import for customer {customer} is under way: try again when it is done.");
        }

        await Work.DoAsync(database, $"import:{customer}", held.Lost);
        return Results.Ok();
    }

    // The numbers of a customer's orders have no gaps: the lock is held to the end of the transaction, on the connection that the context has.
    private static async Task<int> OrderAsync(int customer, Shop shop, CancellationToken cancellationToken)
    {
        await using var transaction = await shop.Database.BeginTransactionAsync(cancellationToken);
        await using var turn = shop.Database.CreateLock($"web-service:orders:{customer}", options: new LockOptions { Scope = LockScope.Transaction });
        await turn.AcquireAsync(cancellationToken);
        var last = await shop.Orders.Where(order => order.Customer == customer).MaxAsync(order => (int?)order.Number, cancellationToken) ?? 0;
        shop.Orders.Add(new Order { Customer = customer, Number = last + 1 });
        await shop.SaveChangesAsync(cancellationToken);
        await transaction.CommitAsync(cancellationToken);
        return last + 1;
    }
}
