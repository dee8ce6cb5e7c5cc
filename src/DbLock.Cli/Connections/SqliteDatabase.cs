using System.Data.Common;
using System.Runtime.InteropServices;
using Microsoft.Data.Sqlite;

namespace DbLock.Cli;

/// <summary>A file of SQLite's.</summary>
internal sealed class SqliteDatabase : Database
{
    private readonly SqliteConnectionStringBuilder _address;

    // The .NET tool brings the library; one file has that of the system.
    private static readonly nint Library =
        NativeLibrary.TryLoad("e_sqlite3", typeof(SQLitePCL.SQLite3Provider_e_sqlite3).Assembly, null, out var brought) ? brought
            : NativeLibrary.TryLoad("libsqlite3.so.0", out var ofLinux) ? ofLinux
            : NativeLibrary.TryLoad("libsqlite3.dylib", out var ofMacOS) ? ofMacOS : 0;

    static SqliteDatabase() =>
        NativeLibrary.SetDllImportResolver(typeof(SQLitePCL.SQLite3Provider_e_sqlite3).Assembly, static (_, _, _) => Library);

    /// <summary>Initializes a new instance.</summary>
    /// <param name="given">What was given.</param>
    /// <param name="isFile">Whether that may be the name of a file, rather than a connection string.</param>
    public SqliteDatabase(string given, bool isFile)
        : this(Checked(given, isFile), SqliteOpenMode.ReadWrite)
    {
    }

    private SqliteDatabase(SqliteConnectionStringBuilder given, SqliteOpenMode mode)
        : base(Connecting(given, mode)) => _address = given;

    public override string Engine => "SQLite";

    public override LockInterface Interface => LockInterface.AdoNet;

    public override string Place => $"the file {_address.DataSource}";

    protected override long ConnectSeconds => 0;

    protected override DbProviderFactory Factory => Library != 0 ? SqliteFactory.Instance : throw new UnavailableException(
        "SQLite's library is not on this machine: install it (Debian's libsqlite3-0), or take the .NET tool, which brings it (dotnet tool "
        + "install --global DbLock.Cli --prerelease)");

    public override string? Lack(RunJob job) => job.Options.Scope == LockScope.Lease
        ? null
        : "SQLite has no locks that belong to a session: hold a lease, as in dblock run --lease 30s KEY -- COMMAND";

    public override Database ForLock() => this;

    public override Database ThatMayBeMade() => new SqliteDatabase(_address, SqliteOpenMode.ReadWriteCreate);

    public override Database WithoutTimeout() => this;

    public override long SessionId(DbConnection connection) => throw new NotSupportedException("SQLite has no sessions.");

    public override Task<bool> PrepareAsync(DbConnection connection, LockOptions options, CancellationToken cancellationToken) =>
        throw new NotSupportedException("SQLite has no sessions.");

    protected override Task<string> ReasonAsync(Exception failure, CancellationToken cancellationToken) =>
        File.Exists(_address.DataSource) ? base.ReasonAsync(failure, cancellationToken)
        : !Directory.Exists(Path.GetDirectoryName(Path.GetFullPath(_address.DataSource))) ? Task.FromResult("there is no such folder")
        : new SqliteConnectionStringBuilder(ConnectionString).Mode == SqliteOpenMode.ReadWriteCreate
            ? base.ReasonAsync(failure, cancellationToken)
        : Task.FromResult("there is no such file (dblock run --lease makes it, and dblock lease-table)");

    // What the user says of the mode stands.
    private static string Connecting(SqliteConnectionStringBuilder given, SqliteOpenMode mode) => given.ShouldSerialize(nameof(given.Mode))
        ? given.ConnectionString : new SqliteConnectionStringBuilder(given.ConnectionString) { Mode = mode }.ConnectionString;

    private static SqliteConnectionStringBuilder Checked(string given, bool isFile)
    {
        try
        {
            var address = isFile && (!given.Contains('=', StringComparison.Ordinal) || File.Exists(given))
                ? new SqliteConnectionStringBuilder { DataSource = given } : new SqliteConnectionStringBuilder(given);
            address.Pooling = false;
            UsageException.ThrowIf(
                address.DataSource.Length == 0 || address.Mode == SqliteOpenMode.Memory
                    || address.DataSource.Contains(":memory:", StringComparison.OrdinalIgnoreCase)
                    || address.DataSource.Contains("mode=memory", StringComparison.OrdinalIgnoreCase),
                "a database in memory is one process's alone, and locks nobody out: give SQLite a file");
            return address;
        }
        catch (Exception e) when (e is ArgumentException or FormatException or InvalidOperationException)
        {
            throw OtherEngines.Malformed("Microsoft.Data.Sqlite");
        }
    }
}
