using System.Data.Common;

namespace System.Data.Odbc;

public sealed class OdbcFactory : DbProviderFactory
{
    public static readonly OdbcFactory Instance = new();

    private OdbcFactory()
    {
    }

    public override DbCommand CreateCommand() => new OdbcCommand();

    public override DbConnection CreateConnection() => new OdbcConnection();

    public override DbConnectionStringBuilder CreateConnectionStringBuilder() => new OdbcConnectionStringBuilder();

    public override DbParameter CreateParameter() => new OdbcParameter();
}
