using System.Data.Common;
using System.Globalization;
using System.Net.Sockets;
using Npgsql;

namespace DbLock.Torture;

/// <summary>What a worker process was told at its start.</summary>
internal sealed record Sight(string Worker, int Generation, string Driver, string Kind, string Via, int Seed, string Sabotage, Conductor Conductor)
{
    private readonly string _npgsql = Environment.GetEnvironmentVariable("TORTURE_NPGSQL")!;
    private readonly string _odbc = Environment.GetEnvironmentVariable("TORTURE_ODBC")!;

    public bool TrustsPooler => Via == "session";

    public bool IsLease => Kind.StartsWith("lease", StringComparison.Ordinal);

    public bool IsMariaDb => Driver == "MySqlConnector";

    // Whatever stands for the connection's name is the user's there.
    public string MySql(string app) => $"{_npgsql};User ID={app}";

    public string Npgsql(string app) => $"{_npgsql};Application Name={app}";

    public string Odbc(string app) => $"{_odbc};pqopt={{application_name={app}}}";
}

/// <summary>A process that holds locks, and tells the conductor each step before and after it.</summary>
internal static class Worker
{
    private const int Tasks = 2;

    public static async Task<int> RunAsync(string[] args)
    {
        ThreadPool.SetMinThreads(16, 16);
        using var conductor = new Conductor();
        var sight = new Sight(args[0], int.Parse(args[1], CultureInfo.InvariantCulture), args[2], args[3], args[4], int.Parse(args[5], CultureInfo.InvariantCulture), args[6], conductor);
        await await Task.WhenAny([conductor.EndedAsync(), .. Enumerable.Range(0, Tasks).Select(task => Task.Run(() => WorkAsync(sight, task)))]);
        return 0;
    }

    /// <summary>Says whether an exception is one that a user of the library must expect when a server or a network fails.</summary>
    public static bool IsExpected(Exception error) => error is DbException or LockException or TimeoutException or IOException or SocketException
        || (error is InvalidOperationException && error.InnerException is DbException)

        // So MySqlConnector says after some ends that its session is gone.
        || (error is NullReferenceException && error.StackTrace?.Contains("at MySqlConnector.", StringComparison.Ordinal) == true);

    public static async Task<string> ReleaseAsync(Func<Task<bool>> release)
    {
        try
        {
            return await release() ? "released" : "lost";
        }
        catch (LockLostException)
        {
            return "lost";
        }
        catch (Exception e) when (IsExpected(e))
        {
            return "unknown";
        }
    }

    private static async Task WorkAsync(Sight sight, int task)
    {
        var random = new Random(HashCode.Combine(sight.Seed, sight.Generation, task) ^ sight.Worker.Sum(letter => letter));
        await using var subject = Subject.Make(sight, task);
        for (var n = 0; ; n++)
        {
            try
            {
                await sight.Conductor.AskAsync("may");
                if (await subject.ReadyAsync(looks: random.Next(8) == 0) is { } residue)
                {
                    await sight.Conductor.AskAsync("violation", $"A session is not as it was: {subject.App} has {residue}");
                }

                await AttemptAsync(sight, subject, $"{sight.Worker}.{sight.Generation}.{task}.{n}", random);
            }
            catch (Exception e) when (IsExpected(e))
            {
                // No session is to be had.
                await Task.Delay(50);
            }
            catch (Exception e)
            {
                await sight.Conductor.AskAsync("violation", $"An exception that nobody expects, in {subject.App}: {e}".ReplaceLineEndings(" "));
                await Task.Delay(1000);
            }
        }
    }

    private static async Task AttemptAsync(Sight sight, Subject subject, string id, Random random)
    {
        var conductor = sight.Conductor;
        var attempt = Attempt.Draw(random, hasConnection: sight.Kind == "connection", Scope(sight), sight.IsMariaDb && !sight.IsLease);
        await conductor.AskAsync("try", id, subject.App, string.Join(',', attempt.Targets.Select(target => Array.IndexOf(Target.All, target))), attempt.Shared, subject.IsOwn, attempt.Fails, attempt);
        Subject.Held? held = null;
        string outcome;
        var isGivenUp = false;
        var isError = false;
        try
        {
            using var cancel = attempt.CancelAfter is { } after ? new CancellationTokenSource(after) : new CancellationTokenSource();
            held = sight.Sabotage == "unlocked" && random.Next(5) == 0 ? new Unlocked() : await subject.AcquireAsync(attempt, cancel.Token);
            outcome = attempt.Timeout == TimeSpan.Zero ? "elsewhere" : "timeout";
        }
        catch (OperationCanceledException e) when (attempt.CancelAfter is not null)
        {
            outcome = "cancelled";
            isGivenUp = IsGivenUp(e);
        }
        catch (LockDeadlockException)
        {
            outcome = "deadlock";
        }
        catch (Exception e) when (IsExpected(e) || (e is InvalidOperationException && subject.IsBroken))
        {
            outcome = $"{(IsLate(attempt, e) ? "late" : "error")} {e.GetType().Name}: {e.Message}".ReplaceLineEndings(" ");
            isError = true;
            isGivenUp = IsGivenUp(e);
        }

        if (isGivenUp)
        {
            // The server may hear later that the connection is given up.
            subject.GiveUp();
            await conductor.AskAsync("failed", id, outcome, false);
            return;
        }

        if (held is null)
        {
            await conductor.AskAsync("failed", id, outcome, subject.IsOpenAfter(isError));
            return;
        }

        await conductor.AskAsync("enter", id, held.Token ?? 0);
        Exception? error = null;
        await using (held.Lost.Register(() => _ = sight.Sabotage == "deaf" ? null : conductor.AskAsync("lost", id)))
        {
            try
            {
                await BodyAsync(conductor, id, held, attempt, sight.Sabotage == "deaf");
            }
            catch (LockLostException e)
            {
                error = e;
            }
            catch (Exception e) when (IsExpected(e) || (e is InvalidOperationException && !held.IsOpen))
            {
                error = e;
            }

            await conductor.AskAsync("leaving", id);
            if (sight.Sabotage == "leak" && random.Next(5) == 0)
            {
                await conductor.AskAsync("left", id, "released", true);
                return;
            }

            // A session of the lock's own is given up with a loss, and the server may hear of it a little later.
            outcome = await held.EndAsync(error);
            await conductor.AskAsync("left", id, sight.Sabotage == "deaf" && outcome == "lost" ? "released" : outcome, held.IsOpen && !(outcome == "lost" && subject.IsOwn));
        }
    }

    private static LockScope? Scope(Sight sight) =>
        sight.IsLease ? LockScope.Lease : sight.Via == "transaction" ? LockScope.Transaction : sight.IsMariaDb ? LockScope.Session : null;

    // Who waits for milliseconds, on a machine that does much else, may hear that there was no answer, or no connection, by then. Who waits for seconds may not.
    private static bool IsLate(Attempt attempt, Exception error) =>
        (attempt.CancelAfter is not null || attempt.Timeout < TimeSpan.FromSeconds(1))
        && error is LockException
        && (error.Message.Contains("in time", StringComparison.Ordinal) || error.Message.StartsWith("No connection", StringComparison.Ordinal));

    private static bool IsGivenUp(Exception error) =>
        error.Message.Contains("session was ended", StringComparison.Ordinal) || error.Message.Contains("has not answered", StringComparison.Ordinal);

    // Reads what is behind the lock, works, and writes what it read and one: what is lost between shows in the sum.
    private static async Task BodyAsync(Conductor conductor, string id, Subject.Held held, Attempt attempt, bool isDeaf)
    {
        if (!attempt.Shared && await conductor.AskAsync("read", id) == "stale")
        {
            return;
        }

        await conductor.AskAsync("work", id, attempt.Work.TotalMilliseconds);
        await held.UseAsync(attempt.Fails);
        await conductor.AskAsync("work", id, attempt.Work.TotalMilliseconds);
        if (!isDeaf)
        {
            held.ThrowIfLost();
        }

        if (!attempt.Shared)
        {
            await conductor.AskAsync("write", id, Observer.Now);
        }
    }

    /// <summary>No lock at all, which the oracles must find out.</summary>
    private sealed class Unlocked : Subject.Held
    {
        public override CancellationToken Lost => CancellationToken.None;

        public override long? Token => null;

        public override void ThrowIfLost()
        {
        }

        public override Task<string> EndAsync(Exception? error) => Task.FromResult("released");
    }
}
