using System.Data.Common;

namespace System.Data.Odbc;

/// <summary>What the driver or the driver manager reported.</summary>
public sealed class OdbcException : DbException
{
    internal OdbcException(OdbcErrorCollection errors)
        : base(string.Join(Environment.NewLine, errors.Cast<OdbcError>().Select(error => $"ERROR [{error.SQLState}] {error.Message}"))) =>
        Errors = errors;

    public OdbcErrorCollection Errors { get; }

    public override string Source => Errors.Count > 0 ? Errors[0].Source : "";
}
