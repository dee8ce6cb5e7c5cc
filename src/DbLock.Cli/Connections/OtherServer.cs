using System.Net.Sockets;
using System.Text;
using Npgsql;

namespace DbLock.Cli;

/// <summary>Finds out which server listens at an address where PostgreSQL was expected.</summary>
internal static class OtherServer
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    // The first packet of SQL Server's protocol, which asks for nothing but the version:
    // https://learn.microsoft.com/openspecs/windows_protocols/ms-tds
    private static readonly byte[] PreLogin =
        [0x12, 0x01, 0, 20, 0, 0, 0, 0, /* version at 6, 6 bytes */ 0, 0, 6, 0, 6, 0xff, 0, 0, 0, 0, 0, 0];

    /// <summary>Names the server when a connection failed because it is another engine's; null when it may be PostgreSQL.</summary>
    public static async Task<string?> NameAsync(Exception failure, string host, int port, CancellationToken cancellationToken)
    {
        // A PostgreSQL server says itself what is wrong, and a server that cannot be reached, or says nothing, cannot be asked.
        if (failure is PostgresException or SocketException or TimeoutException
            || failure.InnerException is SocketException or TimeoutException
            || host.StartsWith('/')
            || host.Contains(',', StringComparison.Ordinal))
        {
            return null;
        }

        try
        {
            // MySQL, MariaDB and SSH servers speak first; SQL Server answers a packet of its own protocol.
            if (Greeting(await AnswerAsync(host, port, [], cancellationToken).ConfigureAwait(false)) is { } speaker)
            {
                return speaker;
            }

            if (await AnswerAsync(host, port, PreLogin, cancellationToken).ConfigureAwait(false) is [0x04, 0x01, ..])
            {
                return "SQL Server";
            }

            var isStrange = failure is InvalidOperationException || failure.Message.Contains("SSLRequest", StringComparison.Ordinal);
            return isStrange ? "something that is not PostgreSQL" : null;
        }
        catch (Exception e) when (e is SocketException or IOException)
        {
            return null;
        }
    }

    private static string? Greeting(byte[] answer) => answer switch
    {
        // A packet begins with its length and the number 0. A greeting goes on with the protocol's version, 10, and the server's. A host
        // that may not connect gets an error packet instead.
        [_, _, 0, 0, 10, .. var rest] =>
            Encoding.ASCII.GetString(rest).Contains("MariaDB", StringComparison.OrdinalIgnoreCase) ? "MariaDB" : "MySQL",
        [_, _, 0, 0, 0xff, .. var rest] =>
            Encoding.ASCII.GetString(rest).Contains("MariaDB", StringComparison.OrdinalIgnoreCase) ? "MariaDB" : "MySQL or MariaDB",
        [(byte)'S', (byte)'S', (byte)'H', (byte)'-', ..] => "an SSH server",
        _ => null,
    };

    private static async Task<byte[]> AnswerAsync(string host, int port, byte[] question, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(Patience);
        using var client = new TcpClient();
        var buffer = new byte[512];
        try
        {
            await client.ConnectAsync(host, port, limit.Token).ConfigureAwait(false);
            await client.GetStream().WriteAsync(question, limit.Token).ConfigureAwait(false);
            return buffer[..await client.GetStream().ReadAsync(buffer, limit.Token).ConfigureAwait(false)];
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return [];
        }
    }
}
