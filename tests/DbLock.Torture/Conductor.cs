using System.Collections.Concurrent;
using System.Globalization;

namespace DbLock.Torture;

/// <summary>A worker's way to the conductor: each thing that is said is answered.</summary>
internal sealed class Conductor : IDisposable
{
    private readonly ConcurrentDictionary<string, TaskCompletionSource<string>> _asked = new();
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly StreamWriter _out = new(Console.OpenStandardOutput()) { AutoFlush = true };
    private int _count;

    public Conductor() => new Thread(Read) { IsBackground = true, Name = "answers of the conductor" }.Start();

    /// <summary>Says something.</summary>
    /// <returns>The answer.</returns>
    public Task<string> AskAsync(string verb, params object[] words)
    {
        var number = Interlocked.Increment(ref _count).ToString(CultureInfo.InvariantCulture);
        var answer = _asked[number] = new TaskCompletionSource<string>(TaskCreationOptions.RunContinuationsAsynchronously);
        var line = string.Join('|', [number, verb, .. words.Select(word => Convert.ToString(word, CultureInfo.InvariantCulture)!.Replace('|', '/'))]);
        lock (_out)
        {
            _out.WriteLine(line);
        }

        return answer.Task;
    }

    /// <summary>Ends when the conductor has.</summary>
    public Task EndedAsync() => _ended.Task;

    public void Dispose() => _out.Dispose();

    private void Read()
    {
        while (Console.In.ReadLine() is { } line)
        {
            var words = line.Split('|', 2);
            if (_asked.TryRemove(words[0], out var answer))
            {
                answer.SetResult(words[1]);
            }
        }

        _ended.SetResult();
    }
}
