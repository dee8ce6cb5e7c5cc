using System.Net;
using System.Net.Sockets;

namespace DbLock.ServerTests;

/// <summary>A network before a server that can fall silent: what is sent is taken and goes no further, and connections stay open.</summary>
internal sealed class SilentRelay : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _end = new();
    private readonly (string Host, int Port) _server;
    private volatile TaskCompletionSource _open = new();
    private int _connections;

    public SilentRelay(string host, int port)
    {
        _server = (host, port);
        _open.SetResult();
        _listener.Start();
        _ = AcceptAsync();
    }

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    /// <summary>Gets how many connections were made to it.</summary>
    public int Connections => Volatile.Read(ref _connections);

    public void FallSilent() => _open = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

    public void GoOn() => _open.SetResult();

    public async ValueTask DisposeAsync()
    {
        await _end.CancelAsync();
        _listener.Dispose();
    }

    private async Task AcceptAsync()
    {
        while (true)
        {
            var client = await _listener.AcceptTcpClientAsync(_end.Token);
            Interlocked.Increment(ref _connections);
            _ = ServeAsync(client);
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        using (client)
        using (var server = new TcpClient())
        {
            await _open.Task.WaitAsync(_end.Token);
            await server.ConnectAsync(_server.Host, _server.Port, _end.Token);
            await Task.WhenAny(PumpAsync(client, server), PumpAsync(server, client));
        }
    }

    private async Task PumpAsync(TcpClient from, TcpClient to)
    {
        var buffer = new byte[16384];
        int read;
        do
        {
            read = await from.GetStream().ReadAsync(buffer, _end.Token);
            await _open.Task.WaitAsync(_end.Token);
            await to.GetStream().WriteAsync(buffer.AsMemory(0, read), _end.Token);
        }
        while (read > 0);
    }
}
