namespace Demo;

/// <summary>
/// A worker process. The parent's orders are lines of its input: "connect", "unlocked", "locked", "alone", each with a number of
/// seconds. Its output answers "done ACQUIRE RELEASE" (an increment, with its times in microseconds), "given-up", "failed REASON",
/// and "end" when an order is carried out.
/// </summary>
internal sealed class Worker(string driver)
{
    public const int Tasks = 3;

    private Contender[] _contenders = [];

    /// <summary>Obeys until the input ends: the parent is done with us, or dead.</summary>
    /// <returns>The exit code.</returns>
    public static int Run(string driver)
    {
        // A Ctrl-C at the terminal reaches all our processes; the parent answers it.
        Console.CancelKeyPress += (_, pressed) => pressed.Cancel = true;

        var worker = new Worker(driver);
        while (Console.ReadLine() is { } order)
        {
            _ = Task.Run(() => worker.ObeyAsync(order)); // on other threads: this one sees the input end at any moment
        }

        return 0;
    }

    private async Task ObeyAsync(string order)
    {
        try
        {
            var words = order.Split(' ');
            var time = TimeSpan.FromSeconds(double.Parse(words[1]));
            await (words[0] switch
            {
                "connect" => ConnectAsync(),
                "unlocked" => Everyone.DoneAsync(_contenders.Select(contender => contender.IncrementUnlockedAsync(time))),
                "locked" => Everyone.DoneAsync(_contenders.Select(contender => contender.IncrementLockedAsync(time))),
                "alone" => _contenders[0].LockAloneAsync(time),
                _ => throw new ArgumentException($"There is no order '{order}'."),
            });
            Console.WriteLine("end");
        }
        catch (Exception error)
        {
            Console.WriteLine($"failed {error.Message.ReplaceLineEndings(" ")}");
        }
    }

    private async Task ConnectAsync() =>
        _contenders = await Task.WhenAll(Enumerable.Range(0, Tasks).Select(number => Contender.ConnectAsync(driver, number)));
}
