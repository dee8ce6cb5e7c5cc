using System.Diagnostics;
using Npgsql;

namespace DbLock.ServerTests;

/// <summary>Three processes, of which one leads, are stopped, killed, paused and cut off.</summary>
public sealed class LeaderProcessTests
{
    // For how long the last answer of the server is believed over a session's lock.
    private static readonly TimeSpan Window = TimeSpan.FromSeconds(15);

    [Theory, InlineData("Session"), InlineData("Lease")]
    public async Task Never_do_two_believe_that_they_lead_past_the_window(string scope)
    {
        await using var database = await PostgreSqlTestServer.CreateDatabaseAsync();
        var connectionString = new NpgsqlConnectionStringBuilder((await PostgreSqlTestServer.ServerAsync).ConnectionString) { Database = database.Name }.ConnectionString;
        await using var administrator = new NpgsqlConnection(connectionString + ";Pooling=false");
        await administrator.OpenAsync();
        await LeaseTable.Default.CreateAsync(administrator);
        List<LeaderProcess> processes = [];
        try
        {
            for (var count = 0; count < 3; count++)
            {
                Add();
            }

            var leader = await ElectedAsync(null);

            // The clean end.
            await leader.SignalAsync("TERM");
            await leader.ExitAsync();
            Assert.Equal("Resigned", leader.Last);
            Add();
            leader = await ElectedAsync(leader, "resigned", leader.Lines[^1].At);

            var at = Stopwatch.GetTimestamp();
            await leader.SignalAsync("KILL");
            await leader.ExitAsync();
            Add();
            leader = await ElectedAsync(leader, "killed", at);

            await leader.PauseAsync();
            await EndSessionsAsync(leader);
            var paused = leader;
            leader = await ElectedAsync(paused, "paused", paused.DisturbedAt!.Value);
            await paused.SignalAsync("CONT");
            await TestServer.UntilAsync(() => Task.FromResult(paused.Last == "Lost"), "the paused process knows");

            leader.CutOff();
            await EndSessionsAsync(leader);
            var cutOff = leader;
            await ElectedAsync(cutOff, "cut off", cutOff.DisturbedAt!.Value);
            await TestServer.UntilAsync(() => Task.FromResult(cutOff.Last == "Lost"), "the process that is cut off knows");
            Check(processes, scope == "Session");
        }
        finally
        {
            await Task.WhenAll(processes.Select(async process => await process.DisposeAsync()));
        }

        void Add() => processes.Add(LeaderProcess.Start(connectionString, $"leader of {database.Name}", scope));

        async Task<LeaderProcess> ElectedAsync(LeaderProcess? before, string what = "", long since = 0)
        {
            var token = before?.Lines[^1].Token ?? 0;
            await TestServer.UntilAsync(() => Task.FromResult(processes.Any(process => process.Leads && process.Lines[^1].Token > token)), "there is a leader");
            var elected = processes.Single(process => process.Leads && process.Lines[^1].Token > token);
            Assert.NotSame(before, elected);
            var took = Stopwatch.GetElapsedTime(since, elected.Lines.Last(line => line.What == "Elected").At);
            TestContext.Current.TestOutputHelper!.WriteLine($"{scope}: {what}, and {took.TotalMilliseconds:0} ms later there was another leader.");
            return elected;
        }

        // As the server does when it has not heard of a client for long; a lease needs nothing.
        async Task EndSessionsAsync(LeaderProcess process)
        {
            if (scope == "Session")
            {
                await administrator.ExecuteAsync($"select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like '{process.Name}%'");
            }
        }
    }

    /// <summary>Terms follow each other, and nobody believes in his own past the beginning of the next, but over a session's lock within the window.</summary>
    private static void Check(List<LeaderProcess> processes, bool hasWindow)
    {
        var terms = (from process in processes
                     from line in process.Lines
                     where line.Token != 0
                     group line by (process, line.Token) into term
                     orderby term.Key.Token
                     select (Process: term.Key.process, Began: term.Single(line => line.What == "Elected").At, Last: term.Where(line => line.What == "Leads").Select(line => line.At).LastOrDefault()))
            .ToList();
        Assert.True(terms.Count >= 5, $"{terms.Count} terms.");
        foreach (var (term, next) in terms.Zip(terms.Skip(1)))
        {
            Assert.True(term.Began < next.Began, "The terms follow each other as their tokens do.");
            var until = hasWindow && term.Process.DisturbedAt is { } disturbed ? Math.Max(next.Began, disturbed + (long)(Window.TotalSeconds * Stopwatch.Frequency)) : next.Began;
            Assert.True(term.Last <= until, $"{term.Process.Name} believed {Stopwatch.GetElapsedTime(until, term.Last)} too long that it leads.");
        }
    }
}
