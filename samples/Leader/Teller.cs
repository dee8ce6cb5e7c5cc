using System.Diagnostics;
using DbLock;
using Microsoft.Extensions.Hosting;

namespace Leader;

/// <summary>Says what changes in the election, on every instance.</summary>
internal sealed class Teller(ILeader leader) : IHostedService
{
    public Task StartAsync(CancellationToken cancellationToken)
    {
        leader.Changed += Tell;
        Console.WriteLine($"{Stopwatch.GetTimestamp()} Stands");
        return Task.CompletedTask;
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    private static void Tell(object? sender, LeaderEventArgs e) => Console.WriteLine($"{Stopwatch.GetTimestamp()} {e.Change} {e.FencingToken}");
}
