using System.Net;
using System.Net.Sockets;

namespace DbLock.LocalServers;

/// <summary>A loopback port that nothing listens on at this moment.</summary>
internal static class FreePort
{
    /// <remarks>
    /// Below the range from which Linux gives local ports to outgoing connections (32768 up): with a port of that range any
    /// connection of a test could take it while the server restarts.
    /// </remarks>
    public static int Next()
    {
        while (true)
        {
            var port = Random.Shared.Next(10_000, 32_768);
            using var listener = new TcpListener(IPAddress.Loopback, port);
            try
            {
                listener.Start();
                return port;
            }
            catch (SocketException)
            {
                // Taken: another one.
            }
        }
    }
}
