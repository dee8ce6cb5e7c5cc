using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;

namespace DbLock.Torture;

/// <summary>The network between one worker and its server, which can be cut in each direction, slowed down and torn.</summary>
internal sealed class Gateway : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly ConcurrentDictionary<Link, bool> _links = new();
    private readonly int _target;
    private Func<Task>? _tap;

    public Gateway(int target)
    {
        _target = target;
        _listener.Start();
        _ = AcceptAsync();
    }

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    public Valve ToServer { get; } = new();

    public Valve ToClient { get; } = new();

    /// <summary>Asks before each answer of the server's goes on to the client: it goes no further when the way there was closed meanwhile.</summary>
    public void SwallowWhen(Func<Task>? tap) => Volatile.Write(ref _tap, tap);

    /// <summary>Tears every connection, as a firewall that forgets them: both sides get a reset.</summary>
    public void Reset()
    {
        foreach (var link in _links.Keys)
        {
            link.Tear();
        }
    }

    /// <summary>Mends the network; what was held back goes on.</summary>
    public void Heal()
    {
        SwallowWhen(null);
        ToServer.Open();
        ToClient.Open();
    }

    public void Dispose()
    {
        _listener.Dispose();
        Heal();
        Reset();
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                _ = ServeAsync(await _listener.AcceptSocketAsync());
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The end.
        }
    }

    private async Task ServeAsync(Socket client)
    {
        var link = new Link(client, new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true });
        client.NoDelay = true;
        _links[link] = true;
        try
        {
            await link.Server.ConnectAsync(IPAddress.Loopback, _target);
            await Task.WhenAny(PumpAsync(link.Client, link.Server, ToServer, tapped: false), PumpAsync(link.Server, link.Client, ToClient, tapped: true));
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The server does not run, or we were torn.
        }

        // The end of one side reaches the other only over a network that is whole.
        await ToServer.PassAsync();
        await ToClient.PassAsync();
        _links.TryRemove(link, out _);
        link.Close();
    }

    private async Task PumpAsync(Socket from, Socket to, Valve valve, bool tapped)
    {
        var buffer = new byte[16384];
        try
        {
            int read;
            while ((read = await from.ReceiveAsync(buffer)) > 0)
            {
                if (tapped && Volatile.Read(ref _tap) is { } tap)
                {
                    await tap();
                }

                await valve.PassAsync();
                for (var sent = 0; sent < read;)
                {
                    sent += await to.SendAsync(buffer.AsMemory(sent, read - sent));
                }
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // One side is gone.
        }
    }

    /// <summary>One direction.</summary>
    internal sealed class Valve
    {
        private volatile TaskCompletionSource? _closed;
        private volatile int _delay;

        public void Close() => _closed ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

        /// <summary>Holds each message back for some milliseconds.</summary>
        public void Slow(int delay) => _delay = delay;

        public void Open()
        {
            _delay = 0;
            _closed?.TrySetResult();
            _closed = null;
        }

        public async ValueTask PassAsync()
        {
            if (_delay > 0)
            {
                await Task.Delay(_delay);
            }

            while (_closed is { } closed)
            {
                await closed.Task;
            }
        }
    }

    private sealed record Link(Socket Client, Socket Server)
    {
        public void Tear()
        {
            foreach (var socket in new[] { Client, Server })
            {
                try
                {
                    socket.LingerState = new LingerOption(true, 0);
                    socket.Close();
                }
                catch (Exception e) when (e is SocketException or ObjectDisposedException)
                {
                    // Gone already.
                }
            }
        }

        public void Close()
        {
            Client.Close();
            Server.Close();
        }
    }
}
