using System.Globalization;

namespace DbLock;

/// <summary>The SQL texts of a guard. Its parameters come after those of the key.</summary>
/// <param name="next">The number of the first parameter after those of the key.</param>
/// <param name="guard">The guard.</param>
/// <remarks>
/// In transaction scope the answer is the start of the transaction in microseconds, which serves as its number. It is negative in a session
/// that is not the client's. Without it nobody could tell where one transaction of a connection ends and the next begins.
/// </remarks>
internal sealed class PostgreSqlGuardTexts(int next, PostgreSqlGuard guard)
{
    private const string ThisTransaction = "(pg_catalog.date_part('epoch', pg_catalog.now()) * 1000000)::bigint";

    /// <summary>
    /// Gets whether a try checks nothing before it locks and answers only yes or no. Its text is the shortest, and the fastest to parse.
    /// </summary>
    public bool HasNothing => guard == default;

    public string InSession => Case
        + (guard.Session ? When(IsElsewhere, PostgreSqlAnswer.Pooler) : "")
        + (guard.Fencing ? When("pg_catalog.pg_current_xact_id_if_assigned() is not null", PostgreSqlAnswer.Numbered) : "");

    public string Granted => guard.Fencing ? PostgreSqlTrust.Token : "1";

    public string GrantedAfterWait => guard.Fencing
        ? PostgreSqlTrust.Token
        : PostgreSqlAnswer.AfterWait.ToString(CultureInfo.InvariantCulture);

    public string InTransaction => guard.HeldIn
        ? Case + When($"{Parameter(guard.Session ? 1 : 0, "bigint")} = {ThisTransaction}", PostgreSqlAnswer.AlreadyHeld)
        : Case;

    public string Acquired => guard.Session
        ? $"case when {IsElsewhere} then -{ThisTransaction} else {ThisTransaction} end"
        : ThisTransaction;

    public string Milliseconds => Parameter((guard.Session ? 1 : 0) + (guard.HeldIn ? 1 : 0), "int");

    private string Case => guard.Server ? $"select case\n{PostgreSqlTrust.Untrusted}" : "select case\n";

    private string IsElsewhere => $"{Parameter(0, "int")} <> pg_catalog.pg_backend_pid()";

    private static string When(string condition, long answer) =>
        string.Create(CultureInfo.InvariantCulture, $"  when {condition} then {answer}\n");

    private string Parameter(int index, string type) =>
        string.Create(CultureInfo.InvariantCulture, $"cast({{{next + index}}} as {type})");
}
