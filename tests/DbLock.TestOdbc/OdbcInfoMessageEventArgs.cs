namespace System.Data.Odbc;

public delegate void OdbcInfoMessageEventHandler(object sender, OdbcInfoMessageEventArgs e);

/// <summary>What the driver noted of a call that succeeded.</summary>
public sealed class OdbcInfoMessageEventArgs : EventArgs
{
    internal OdbcInfoMessageEventArgs(OdbcErrorCollection errors) => Errors = errors;

    public OdbcErrorCollection Errors { get; }

    public string Message => string.Join(Environment.NewLine, Errors.Cast<OdbcError>().Select(error => error.Message));

    public override string ToString() => Message;
}
