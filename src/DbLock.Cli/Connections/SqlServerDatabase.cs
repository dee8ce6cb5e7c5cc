using System.Data.Common;
using Microsoft.Data.SqlClient;

namespace DbLock.Cli;

/// <summary>A database of SQL Server's.</summary>
internal sealed class SqlServerDatabase(string connectionString) : Database(connectionString)
{
    private readonly SqlConnectionStringBuilder _address = new(connectionString);

    public override string Engine => "SQL Server";

    public override LockInterface Interface => LockInterface.AdoNet;

    public override string Place => _address.DataSource;

    protected override long ConnectSeconds => _address.ConnectTimeout;

    protected override DbProviderFactory Factory => SqlClientFactory.Instance;

    /// <summary>Returns the connection string as dblock uses it: a session that has ended is not silently replaced by another.</summary>
    /// <exception cref="UsageException">The provider does not understand it.</exception>
    public static string Checked(string given)
    {
        try
        {
            var address = new SqlConnectionStringBuilder(given) { Pooling = false, ConnectRetryCount = 0 };
            address.ApplicationName = address.ShouldSerialize("Application Name") ? address.ApplicationName : "dblock";
            return address.DataSource.Length > 0 ? address.ConnectionString : throw OtherEngines.Malformed("SqlClient");
        }
        catch (Exception e) when (e is ArgumentException or FormatException or InvalidOperationException)
        {
            // The exception's message may quote what was given, a password included, and so it is not shown.
            throw OtherEngines.Malformed("SqlClient");
        }
    }

    public override string? Lack(RunJob job) => null;

    public override Database ForLock() =>
        new SqlServerDatabase(new SqlConnectionStringBuilder(ConnectionString) { CommandTimeout = 0 }.ConnectionString);

    public override Database WithoutTimeout() =>
        new SqlServerDatabase(new SqlConnectionStringBuilder(ConnectionString) { ConnectTimeout = 0 }.ConnectionString);

    public override long SessionId(DbConnection connection) => ((SqlConnection)connection).ServerProcessId;

    // docs/fencing.md says how the sequence is made. The settings of a session cut no wait of sp_getapplock.
    public override async Task<bool> PrepareAsync(DbConnection connection, LockOptions options, CancellationToken cancellationToken) =>
        await AskAsync(connection, "select object_id(N'dblock_fencing', N'SO')", cancellationToken).ConfigureAwait(false) is int;
}
