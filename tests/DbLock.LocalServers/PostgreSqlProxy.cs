using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace DbLock.LocalServers;

/// <summary>A proxy before a PostgreSQL server that writes down what goes over the wire.</summary>
public sealed class PostgreSqlProxy : IAsyncDisposable
{
    private readonly TcpListener _listener;
    private readonly CancellationTokenSource _end = new();
    private readonly List<string> _sent = [];
    private readonly EndPoint _server;
    private readonly Task _accepting;
    private bool _answered = true;

    /// <summary>Begins to listen.</summary>
    /// <param name="host">The server's host.</param>
    /// <param name="port">The server's port.</param>
    /// <param name="own">The port to listen on; 0 for any that is free.</param>
    public PostgreSqlProxy(string host, int port, int own = 0)
    {
        _listener = new TcpListener(IPAddress.Loopback, own);
        _server = IPAddress.TryParse(host, out var address) ? new IPEndPoint(address, port) : new DnsEndPoint(host, port);
        _listener.Start();
        _accepting = AcceptAsync();
    }

    /// <summary>Gets the port to connect to, on 127.0.0.1.</summary>
    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    /// <summary>Gets how long each message is under way, in each direction.</summary>
    public TimeSpan Delay { get; init; }

    /// <summary>Gets how often the client has sent something and waited for the answer.</summary>
    public int RoundTrips { get; private set; }

    /// <summary>Takes what the clients have sent since the last time: the letters of the protocol's messages, a space between round trips.</summary>
    /// <remarks>Q query, P parse, B bind, D describe, E execute, C close, H flush, S sync (https://www.postgresql.org/docs/current/protocol-message-formats.html).</remarks>
    public string Take()
    {
        lock (_sent)
        {
            var taken = string.Concat(_sent).Trim();
            _sent.Clear();
            RoundTrips = 0;
            return taken;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _end.CancelAsync();
        _listener.Dispose();
        await _accepting.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _end.Dispose();
    }

    private async Task AcceptAsync()
    {
        while (true)
        {
            var client = await _listener.AcceptTcpClientAsync(_end.Token);
            _ = ServeAsync(client);
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        using (client)
        using (var server = new TcpClient { NoDelay = true })
        {
            client.NoDelay = true;
            await (_server is IPEndPoint endPoint ? server.ConnectAsync(endPoint, _end.Token) : server.ConnectAsync(((DnsEndPoint)_server).Host, ((DnsEndPoint)_server).Port, _end.Token));
            var (toServer, toClient) = (PumpAsync(client, server, new Messages()), PumpAsync(server, client, null));
            await Task.WhenAny(toServer, toClient);
        }
    }

    private async Task PumpAsync(TcpClient from, TcpClient to, Messages? messages)
    {
        var buffer = new byte[16384];
        int read;
        while ((read = await from.GetStream().ReadAsync(buffer, _end.Token)) > 0)
        {
            // Counted before it goes on, so that what a client has an answer to has been counted.
            lock (_sent)
            {
                if (messages is null)
                {
                    _answered = true;
                }
                else
                {
                    if (_answered)
                    {
                        RoundTrips++;
                        _sent.Add(" ");
                        _answered = false;
                    }

                    messages.Read(buffer.AsSpan(0, read), _sent);
                }
            }

            if (Delay > TimeSpan.Zero)
            {
                await Task.Delay(Delay, _end.Token);
            }

            await to.GetStream().WriteAsync(buffer.AsMemory(0, read), _end.Token);
        }
    }

    /// <summary>Finds the messages in what a client sends. The first has no letter.</summary>
    private sealed class Messages
    {
        private readonly List<byte> _head = [];
        private bool _begun;
        private int _skip;

        public void Read(ReadOnlySpan<byte> bytes, List<string> into)
        {
            foreach (var b in bytes)
            {
                if (_skip > 0)
                {
                    _skip--;
                    continue;
                }

                _head.Add(b);
                if (_head.Count == (_begun ? 5 : 4))
                {
                    _skip = BinaryPrimitives.ReadInt32BigEndian(_head.ToArray().AsSpan(_begun ? 1 : 0)) - 4;
                    into.Add(_begun ? Encoding.ASCII.GetString([_head[0]]) : "");

                    // A request for encryption (8 bytes in all) is followed by another first message.
                    _begun |= _skip != 4;
                    _head.Clear();
                }
            }
        }
    }
}
