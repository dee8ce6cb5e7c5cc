using DbLock.Cli;

namespace DbLock.Tests.Cli;

/// <summary>Which database an address leads to, and over which connection string.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class AddressTests
{
    [Theory]
    [InlineData("sqlserver://sa:p%40ss%3Bword@db.example:1444/shop?Encrypt=false&TrustServerCertificate=true", "db.example,1444",
        "Data Source=db.example,1444;Initial Catalog=shop;User ID=sa;Password=\"p@ss;word\";Pooling=False;Encrypt=False;Trust Server Certificate=True;Application Name=dblock;Connect Retry Count=0")]
    [InlineData("mssql://sa:x@db/shop", "db", "Data Source=db;Initial Catalog=shop;User ID=sa;Password=x;Pooling=False;Application Name=dblock;Connect Retry Count=0")]
    [InlineData("sqlserver:Server=db;Database=shop;UID=sa;PWD=x;Application Name=mine", "db", "Data Source=db;Initial Catalog=shop;User ID=sa;Password=x;Pooling=False;Application Name=mine;Connect Retry Count=0")]
    [InlineData("Data Source=tcp:db,1433;Initial Catalog=shop;Integrated Security=true", "tcp:db,1433", "Data Source=tcp:db,1433;Initial Catalog=shop;Integrated Security=True;Pooling=False;Application Name=dblock;Connect Retry Count=0")]
    [InlineData("Server=db;Database=shop;User ID=sa;Password=x;Encrypt=true", "db", "Data Source=db;Initial Catalog=shop;User ID=sa;Password=x;Pooling=False;Encrypt=True;Application Name=dblock;Connect Retry Count=0")]
    public void An_address_of_SQL_Server_is_read(string address, string place, string expected)
    {
        var database = ConnectionOption.Database(address, static _ => null);
        Assert.Equal(("SQL Server", place, expected), (database.Engine, database.Place, database.ConnectionString));
        Assert.EndsWith("Command Timeout=0", database.ForLock().ConnectionString, StringComparison.Ordinal);
        Assert.Equal(Timeout.InfiniteTimeSpan, database.WithoutTimeout().ConnectTimeout);
        Assert.Equal(TimeSpan.FromSeconds(16), database.ConnectTimeout);
    }

    [Theory]
    [InlineData("mysql://root:x@db/shop", "db, port 3306", "Server=db;User ID=root;Password=x;Database=shop;Pooling=False")]
    [InlineData("mariadb://root@[::1]:3307/shop?SslMode=None", "::1, port 3307", "Server=::1;Port=3307;User ID=root;Database=shop;SSL Mode=None;Pooling=False")]
    [InlineData("mysql:Host=db;Username=root", "db, port 3306", "Server=db;User ID=root;Pooling=False")]
    [InlineData("Server=db;User ID=root;AllowPublicKeyRetrieval=true", "db, port 3306", "Server=db;User ID=root;Allow Public Key Retrieval=True;Pooling=False")]
    public void An_address_of_MariaDB_or_MySQL_is_read(string address, string place, string expected)
    {
        var database = ConnectionOption.Database(address, static _ => null);
        Assert.Equal(("MariaDB or MySQL", place), (database.Engine, database.Place));
        Assert.Equal(new MySqlConnector.MySqlConnectionStringBuilder(expected).ConnectionString, database.ConnectionString);
    }

    [Theory]
    [InlineData("sqlite:locks.db", "locks.db"), InlineData("sqlite:///var/lib/locks.db", "/var/lib/locks.db"), InlineData("Data Source=locks.db", "locks.db"), InlineData("Filename=a b.db;Mode=ReadWrite", "a b.db")]
    public void A_file_of_SQLite_is_found(string address, string file)
    {
        var database = ConnectionOption.Database(address, static _ => null);
        Assert.Equal(("SQLite", $"the file {file}"), (database.Engine, database.Place));
    }

    [Theory]
    [InlineData("postgres://u@h/d"), InlineData("Host=h;Username=u"), InlineData("Server=h;User ID=u;Database=d"), InlineData("")]
    public void All_else_is_PostgreSQLs(string address) =>
        Assert.Equal("PostgreSQL", ConnectionOption.Database(address.Length == 0 ? null : address, static _ => null).Engine);

    [Theory]
    [InlineData("sqlserver://u:hush@h:99999/d"), InlineData("sqlserver:Server=h;Nonsense=hush"), InlineData("sqlserver:Password=hush"), InlineData("mysql:Password=hush"), InlineData("mysql://u:hush@h/d?Port=hush")]
    [InlineData("sqlite:"), InlineData("sqlite:Data Source=:memory:;Password=hush"), InlineData("Data Source=x;Mode=Memory;Cache=Shared"), InlineData("mongodb://u:hush@h/d"), InlineData("mysql+pymysql://u:hush@h/d")]
    public void What_is_not_understood_is_refused_and_not_quoted(string address)
    {
        var error = Assert.Throws<UsageException>(() => ConnectionOption.Database(address, static _ => null));
        Assert.DoesNotContain("hush", error.Message, StringComparison.Ordinal);
    }
}
