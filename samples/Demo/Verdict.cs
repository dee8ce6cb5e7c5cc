namespace Demo;

/// <summary>The end of the demo.</summary>
internal static class Verdict
{
    /// <summary>Prints it.</summary>
    /// <returns>Whether exclusion held in the last round.</returns>
    /// <exception cref="InvalidOperationException">A driver never had the lock, so that nothing was shown.</exception>
    public static bool Print(IReadOnlyList<Round> rounds, IReadOnlyList<WorkerProcess> workers)
    {
        Console.WriteLine("\n                    increments    counter       lost   most inside at once");
        foreach (var round in rounds)
        {
            Console.WriteLine($"  {round.Title,-17} {round.Increments,10:N0} {round.Counter,10:N0} {round.Lost,10:N0} {round.Most,21}");
        }

        if (rounds.Count > 1)
        {
            PrintTimes(workers);
        }

        if (rounds[0].Lost < 1)
        {
            Console.WriteLine("\nNo update was lost without the lock this time, so the comparison shows nothing: run it again.");
        }

        var last = rounds[^1];
        Console.WriteLine(last.IsExclusive
            ? $"\nExclusion held: {last.Increments:N0} increments under the lock, none lost, never two inside."
            : $"\nExclusion did not hold: {last.Lost:N0} of {last.Increments:N0} increments lost, up to {last.Most} inside at once.");
        return last.IsExclusive;
    }

    private static void PrintTimes(IReadOnlyList<WorkerProcess> workers)
    {
        Console.WriteLine("\n  milliseconds       acquire, contended       acquire, alone              release");
        Console.WriteLine("                       median      p95      median      p95      median      p95");
        foreach (var worker in workers)
        {
            var (locked, alone) = (worker.Tally("locked"), worker.Tally("alone"));
            if (locked.Increments == 0)
            {
                throw new InvalidOperationException($"the {worker.Driver} worker never got the lock, so that nothing was shown.");
            }

            Console.WriteLine($"  {worker.Driver,-17}  {locked.Acquire}    {alone.Acquire}    {locked.Release}");
        }
    }
}
