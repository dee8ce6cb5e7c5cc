using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net.WebSockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace DbLock.PublishTests;

/// <summary>
/// Chromium without a window, with one page, commanded over its DevTools protocol: https://chromedevtools.github.io/devtools-protocol/.
/// </summary>
internal sealed class Browser : IAsyncDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);
    private static readonly string[] Programs = ["chromium", "chromium-browser", "google-chrome"];

    private readonly DirectoryInfo _profile;
    private readonly Process _process;
    private readonly ClientWebSocket _socket = new();
    private readonly ConcurrentDictionary<int, TaskCompletionSource<JsonNode>> _calls = new();
    private string? _session;
    private int _lastCall;

    private Browser(string program)
    {
        _profile = Directory.CreateTempSubdirectory("dblock-browser-");
        string[] arguments =
        [
            // Root has no sandbox; the pages are our own. /dev/shm is small in containers.
            "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
            "--remote-debugging-port=0", $"--user-data-dir={_profile.FullName}", "about:blank",
        ];
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardError = true, RedirectStandardOutput = true };
        start.Environment["TMPDIR"] = start.Environment["XDG_CONFIG_HOME"] = start.Environment["XDG_CACHE_HOME"] = _profile.FullName;
        _process = Process.Start(start)!;
    }

    public static async Task<Browser> StartAsync()
    {
        var program = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':')
            .SelectMany(folder => Programs.Select(name => Path.Combine(folder, name))).FirstOrDefault(File.Exists)
            ?? throw new InvalidOperationException("No Chromium was found: install the package chromium.");
        var browser = new Browser(program);
        try
        {
            await browser.ConnectAsync();
            return browser;
        }
        catch
        {
            await browser.DisposeAsync();
            throw;
        }
    }

    /// <summary>Opens an address in a window of this width, and returns when it has been loaded.</summary>
    public async Task OpenAsync(string address, int width)
    {
        await CallAsync("Emulation.setDeviceMetricsOverride", new() { ["width"] = width, ["height"] = 900, ["deviceScaleFactor"] = 1, ["mobile"] = width < 600 });
        await CallAsync("Page.navigate", new() { ["url"] = address });
        await UntilAsync($"location.href.startsWith({JsonSerializer.Serialize(address)}) && document.readyState == 'complete'");
    }

    /// <summary>Waits until an expression of JavaScript is true.</summary>
    /// <exception cref="TimeoutException">It has not become true in time.</exception>
    public async Task UntilAsync(string expression)
    {
        for (var since = Stopwatch.StartNew(); since.Elapsed < Limit; await Task.Delay(50))
        {
            if (await EvaluateAsync($"!!({expression})") is JsonValue value && value.TryGetValue<bool>(out var isTrue) && isTrue)
            {
                return;
            }
        }

        throw new TimeoutException($"Not so after {Limit.TotalSeconds} s: {expression}. The page says: {await EvaluateAsync("document.body.innerText")}");
    }

    /// <summary>Returns what an expression of JavaScript is; null where it throws, as on a page that is being left.</summary>
    public async Task<JsonNode?> EvaluateAsync(string expression) =>
        (await CallAsync("Runtime.evaluate", new() { ["expression"] = expression, ["returnByValue"] = true }))["result"]?["value"];

    /// <summary>Types a text into what has the focus.</summary>
    public Task TypeAsync(string text) => CallAsync("Input.insertText", new() { ["text"] = text });

    /// <summary>Writes what is seen to a file, when DBLOCK_TEST_PICTURES names a folder for it.</summary>
    public async Task TakePictureAsync(string name)
    {
        if (Environment.GetEnvironmentVariable("DBLOCK_TEST_PICTURES") is { Length: > 0 } folder)
        {
            var picture = await CallAsync("Page.captureScreenshot", []);
            await File.WriteAllBytesAsync(Path.Combine(folder, name + ".png"), Convert.FromBase64String((string)picture["data"]!));
        }
    }

    public async ValueTask DisposeAsync()
    {
        _process.Kill(entireProcessTree: true);
        await _process.WaitForExitAsync();
        _process.Dispose();
        _socket.Dispose();
        _profile.Delete(recursive: true);
    }

    private async Task ConnectAsync()
    {
        const string Listening = "DevTools listening on ";
        using var limit = new CancellationTokenSource(Limit);
        string? line;
        do
        {
            line = await _process.StandardError.ReadLineAsync(limit.Token);
        }
        while (line?.StartsWith(Listening, StringComparison.Ordinal) == false);

        _process.ErrorDataReceived += (_, _) => { };
        _process.OutputDataReceived += (_, _) => { };
        _process.BeginOutputReadLine();
        await _socket.ConnectAsync(new Uri((line ?? throw new InvalidOperationException("Chromium ended at once."))[Listening.Length..]), limit.Token);
        _ = Task.Run(ReadAsync);
        var target = await CallAsync("Target.createTarget", new() { ["url"] = "about:blank" });
        _session = (string)(await CallAsync("Target.attachToTarget", new() { ["targetId"] = (string)target["targetId"]!, ["flatten"] = true }))["sessionId"]!;
    }

    private async Task<JsonNode> CallAsync(string method, JsonObject parameters)
    {
        var number = Interlocked.Increment(ref _lastCall);
        var call = _calls[number] = new(TaskCreationOptions.RunContinuationsAsynchronously);
        var text = new JsonObject { ["id"] = number, ["method"] = method, ["params"] = parameters };
        if (_session is not null)
        {
            text["sessionId"] = _session;
        }

        await _socket.SendAsync(Encoding.UTF8.GetBytes(text.ToJsonString()), WebSocketMessageType.Text, endOfMessage: true, CancellationToken.None);
        var answer = await call.Task.WaitAsync(Limit);
        return answer["result"] ?? throw new InvalidOperationException($"{method}: {answer["error"]}");
    }

    private async Task ReadAsync()
    {
        var buffer = new byte[1 << 16];
        using var message = new MemoryStream();
        try
        {
            while (await _socket.ReceiveAsync(buffer, CancellationToken.None) is { MessageType: WebSocketMessageType.Text } part)
            {
                message.Write(buffer, 0, part.Count);
                if (part.EndOfMessage)
                {
                    var answer = JsonNode.Parse(message.ToArray())!;
                    message.SetLength(0);
                    if (answer["id"] is { } id && _calls.TryRemove((int)id, out var call))
                    {
                        call.SetResult(answer);
                    }
                }
            }
        }
        catch (Exception e) when (e is WebSocketException or ObjectDisposedException)
        {
            // The browser has ended, and each call has a limit of its own.
        }
    }
}
