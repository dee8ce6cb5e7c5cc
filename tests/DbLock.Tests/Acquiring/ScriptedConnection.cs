using System.Data;
using System.Data.Common;
using System.Diagnostics.CodeAnalysis;

namespace DbLock.Tests.Acquiring;

/// <summary>A connection whose server and provider do what a script says.</summary>
/// <param name="script">What comes back.</param>
internal sealed class ScriptedConnection(Script script) : DbConnection
{
    private readonly Dictionary<string, int> _counts = [];
    private ConnectionState _state = ConnectionState.Open;

    /// <summary>Gets what the lock sent and did, in order.</summary>
    public List<string> Told { get; } = [];

    /// <summary>Gets what the caller of the lock cancels with.</summary>
    public CancellationTokenSource Caller { get; } = new();

    [AllowNull]
    public override string ConnectionString { get; set; } = "";

    public override string Database => "";

    public override string DataSource => "";

    public override string ServerVersion => "1.0";

    public override ConnectionState State => _state;

    /// <summary>Hears a statement, and returns the answer to it or throws.</summary>
    public object? Hear(string name, DbTransaction? transaction)
    {
        var kind = name.TrimEnd('*').Replace("sp(", "", StringComparison.Ordinal).TrimEnd(')');
        var isOver = _state != ConnectionState.Open ? " (closed)" : transaction is { Connection: null } ? " (tx ended)" : "";
        Told.Add(name + isOver);
        var reply = script(kind, _counts.GetValueOrDefault(kind)) ?? Mostly(kind);
        _counts[kind] = _counts.GetValueOrDefault(kind) + 1;
        if (reply.Cancels)
        {
            Caller.Cancel();
        }

        if (reply.Closes)
        {
            Close();
        }

        return reply.Error is { } error ? throw error() : reply.Answer;
    }

    public override void Close()
    {
        if (_state != ConnectionState.Closed)
        {
            _state = ConnectionState.Closed;
            OnStateChange(new StateChangeEventArgs(ConnectionState.Open, ConnectionState.Closed));
        }
    }

    public override void Open() => throw new NotSupportedException();

    public override void ChangeDatabase(string databaseName) => throw new NotSupportedException();

    protected override DbTransaction BeginDbTransaction(IsolationLevel isolationLevel) => new ScriptedTransaction(this);

    protected override DbCommand CreateDbCommand() => throw new NotSupportedException("A driver sends.");

    private static Reply Mostly(string kind) => kind switch
    {
        "end session" => Reply.Code("57P01", "57P01") with { Closes = true },
        "holders" => new("nobody", """{"standby":false,"number":null,"pair":null,"waiting":0,"holders":[]}"""),
        "undo" or "nothing" => new("0", 0),
        _ => new("1", 1),
    };

    private sealed class ScriptedTransaction(ScriptedConnection connection) : DbTransaction
    {
        private bool _isOpen = true;

        public override IsolationLevel IsolationLevel => IsolationLevel.ReadCommitted;

        protected override DbConnection? DbConnection => _isOpen && connection.State == ConnectionState.Open ? connection : null;

        public override void Commit() => throw new NotSupportedException();

        public override void Rollback()
        {
            connection.Hear("rollback", this);
            _isOpen = false;
        }
    }
}
