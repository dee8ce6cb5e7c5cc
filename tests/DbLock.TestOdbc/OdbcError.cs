namespace System.Data.Odbc;

/// <summary>One diagnostics record.</summary>
public sealed class OdbcError
{
    internal OdbcError(string message, string sqlState, int nativeError) =>
        (Message, SQLState, NativeError) = (message, sqlState, nativeError);

    public string Message { get; }

    public string SQLState { get; }

    public int NativeError { get; }

    public string Source { get; internal set; } = "";

    public override string ToString() => Message;
}
