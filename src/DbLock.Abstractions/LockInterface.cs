using System.Data.Common;
using System.Diagnostics.CodeAnalysis;

namespace DbLock;

/// <summary>
/// The name of a driver. Each driver's package adds its own: <c>LockInterface.Npgsql</c>, <c>LockInterface.AdoNet</c>,
/// <c>LockInterface.Odbc</c>.
/// </summary>
public sealed class LockInterface
{
    /// <summary>Initializes a new instance. A driver's package does so once.</summary>
    /// <param name="name">The name, as in <c>LockInterface.Name</c>.</param>
    /// <param name="driver">The driver.</param>
    /// <param name="dialects">The dialects of the servers that the driver may meet, the most particular first.</param>
    public LockInterface(string name, ILockDriver driver, params IReadOnlyList<LockDialect> dialects)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(driver);
        ArgumentNullException.ThrowIfNull(dialects);
        Name = name;
        Driver = driver;
        Dialects = dialects;
    }

    /// <summary>Gets the name.</summary>
    public string Name { get; }

    /// <summary>Gets the driver.</summary>
    public ILockDriver Driver { get; }

    /// <summary>Gets the dialects of the servers that the driver may meet, the most particular first.</summary>
    public IReadOnlyList<LockDialect> Dialects { get; }

    /// <summary>
    /// Finds the interface for a connection among the packages of DbLock that the program has: Npgsql, then ODBC, then any ADO.NET
    /// provider. A wrapped connection belongs to ODBC, or to ADO.NET, by what it wraps.
    /// </summary>
    /// <param name="connection">The connection, open or not.</param>
    /// <exception cref="LockException">
    /// No package that the program has can use the connection; the message names the one to add.
    /// </exception>
    public static LockInterface For(DbConnection connection)
    {
        ArgumentNullException.ThrowIfNull(connection);

        return Array.Find(Packages.Found, found => found.Driver.Supports(connection))
            ?? throw new LockException(
                $"No DbLock driver was found for a {connection.GetType().FullName}: add the package "
                + (connection.GetType().FullName == "Npgsql.NpgsqlConnection" ? "DbLock.Npgsql" : "DbLock.AdoNet")
                + ", or name the driver as the lock's interface.");
    }

    /// <summary>Returns the name.</summary>
    public override string ToString() => Name;

    // What the program has does not change, and to look for it costs more than a round trip to the server.
    private static class Packages
    {
        // Literal names only: the trimmer then keeps the types
        // (https://learn.microsoft.com/dotnet/core/deploying/trimming/fixing-warnings).
        public static readonly LockInterface[] Found =
        [
            .. Of(Type.GetType("DbLock.NpgsqlLockInterface, DbLock.Npgsql")),
            .. Of(Type.GetType("DbLock.OdbcLockInterface, DbLock.AdoNet")),
            .. Of(Type.GetType("DbLock.InMemoryLockInterface, DbLock.InMemory")),
            .. Of(Type.GetType("DbLock.AdoNetLockInterface, DbLock.AdoNet")),
        ];

        private static LockInterface[] Of(
            [DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicProperties)] Type? package) =>
            package?.GetProperty("Instance")?.GetValue(null) is LockInterface found ? [found] : [];
    }
}
