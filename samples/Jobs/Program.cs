// A job that runs once in an interval, however many instances of this program are due to run it:
//   ConnectionStrings__Default='Host=…' dotnet run --project samples/Jobs -- --Scheduler Quartz
// or Hangfire, or BackgroundService.
using System.Data.Common;
using DbLock;
using Hangfire;
using Hangfire.Common;
using Hangfire.InMemory;
using Jobs;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Npgsql;
using Quartz;

var builder = Host.CreateApplicationBuilder(args);
await using var database = NpgsqlDataSource.Create(
    builder.Configuration.GetConnectionString("Default") ?? throw new InvalidOperationException("Set ConnectionStrings:Default."));
await LeaseTable.Default.CreateAsync(database);
builder.Services.AddSingleton<DbDataSource>(database).AddSingleton<Report>();
switch (builder.Configuration["Scheduler"])
{
    case "Quartz":
        builder.Services.AddQuartz(quartz => quartz
            .AddTriggerListener(new OnceListener(database))
            .ScheduleJob<Report>(trigger => trigger.WithSimpleSchedule(every => every.WithInterval(TimeSpan.FromSeconds(Report.Seconds)).RepeatForever())));
        builder.Services.AddQuartzHostedService();
        break;
    case "Hangfire":
        // In memory, so that each instance is due by itself.
        builder.Services.AddHangfire(hangfire => hangfire.UseInMemoryStorage());
        builder.Services.AddHangfireServer(options =>
        {
            options.SchedulePollingInterval = TimeSpan.FromSeconds(1);
            options.FilterProvider = new JobFilterProviderCollection(
                new JobFilterAttributeFilterProvider(), new JobFilterCollection { new OnceFilter(database) });
        });
        break;
    default:
        builder.Services.AddHostedService<EveryInterval>();
        break;
}

using var host = builder.Build();
host.Services.GetService<IRecurringJobManager>()?.AddOrUpdate<Report>(
    "report", report => report.MakeAsync(CancellationToken.None), $"*/{Report.Seconds} * * * * *");
await host.RunAsync();
