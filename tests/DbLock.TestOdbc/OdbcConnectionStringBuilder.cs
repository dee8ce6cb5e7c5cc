using System.Data.Common;
using System.Diagnostics.CodeAnalysis;

namespace System.Data.Odbc;

public sealed class OdbcConnectionStringBuilder : DbConnectionStringBuilder
{
    public OdbcConnectionStringBuilder()
        : this(null)
    {
    }

    public OdbcConnectionStringBuilder(string? connectionString)
        : base(useOdbcRules: true) =>
        ConnectionString = connectionString;

    [AllowNull]
    public string Driver
    {
        get => Get(nameof(Driver));
        set => this[nameof(Driver)] = value;
    }

    [AllowNull]
    public string Dsn
    {
        get => Get(nameof(Dsn));
        set => this[nameof(Dsn)] = value;
    }

    private string Get(string keyword) => TryGetValue(keyword, out var value) ? (string)value : "";
}
