using Demo;

const string Usage = """
    demo              let three drivers contend for one lock; exit code 0: exclusion held, 1: it did not, 2: it could not run
    demo --unlocked   only the first round, in which nobody takes the lock; exit code 1
    """;

switch (args)
{
    case ["--worker", var driver]:
        return Worker.Run(driver);
    case [] or ["--unlocked"]:
        break;
    case ["--help" or "-h"]:
        Console.WriteLine(Usage);
        return 0;
    default:
        await Console.Error.WriteLineAsync(Usage);
        return 2;
}

using var stop = new CancellationTokenSource();
Console.CancelKeyPress += (_, pressed) =>
{
    pressed.Cancel = true; // we end by ourselves, after the workers and the server
    stop.Cancel();
};

try
{
    return await Contest.RunAsync(withLock: args is [], stop.Token) ? 0 : 1;
}
catch (Exception) when (stop.IsCancellationRequested)
{
    await Console.Error.WriteLineAsync("Stopped.");
    return 130; // what shells expect after Ctrl-C
}
catch (Exception error)
{
    await Console.Error.WriteLineAsync($"The demo could not run to its end: {error.Message}");
    return 2;
}
