using System.Data.Common;
using System.Globalization;
using System.Transactions;

namespace DbLock;

/// <summary>Carries statements to a server in memory.</summary>
internal sealed class InMemoryDriver : IListeningDriver, IEnlistingDriver
{
    public bool Supports(DbConnection connection) => connection is InMemoryConnection;

    public bool TryFindEnlistment(DbConnection connection, out Transaction? transaction)
    {
        transaction = null;
        return true;
    }

    public async ValueTask<object?> Execute(
        DbConnection connection, DbTransaction? transaction, LockStatement statement, bool async, CancellationToken cancellationToken)
    {
        var (memory, command) = ((InMemoryConnection)connection, statement.Commands[0]);
        var parameters = command.Parameters;
        memory.CheckTransaction(transaction);
        try
        {
            if (command.Sql == InMemoryDialect.AcquireSql)
            {
                var (milliseconds, shared, inTransaction, fencing) = ((long)parameters[0].Value, Flag(1), Flag(2), Flag(3));
                var timeout = milliseconds < 0 ? Timeout.InfiniteTimeSpan : TimeSpan.FromMilliseconds(milliseconds);
                var acquired = await memory.Session.Acquire(
                    Names(4), shared, inTransaction ? transaction : null, timeout, async, cancellationToken).ConfigureAwait(false);
                return !acquired ? 0L : fencing ? memory.Session.NextToken() : 1L;
            }

            return command.Sql == InMemoryDialect.IsHeldSql ? (memory.Session.IsHeld(Names(1), Flag(0)) ? 1 : 0)
                : command.Sql == InMemoryDialect.ReleaseSql ? (memory.Session.Release(Names(1), Flag(0)) ? 1 : 0)
                : command.Sql == InMemoryDialect.UndoSql ? 0
                : command.Sql == InMemoryCarrier.LookSql ? 0
                : command.Sql == InMemoryCarrier.ListenSql ? 0
                : command.Sql == InMemoryCarrier.CarrySql ? await Carry(memory.Session, parameters).ConfigureAwait(false)
                : command.Sql == InMemoryCarrier.AreHeldSql
                    ? Digits(InMemoryCarrier.Parse(parameters[0].Value).Select(one => memory.Session.IsHeld([one.Name], one.Shared)))
                : command.Sql == InMemoryCarrier.EndSql ? memory.Session.ReleaseAll()
                : throw new NotSupportedException(
                    $"A connection in memory understands DbLock's own statements and no SQL, so not this one: {command.Sql}");
        }
        catch (InMemoryException e) when (e.SqlState == InMemoryException.SessionEnded)
        {
            memory.Break();
            throw;
        }

        bool Flag(int index) => (int)parameters[index].Value == 1;

        string[] Names(int first) => [.. parameters.Skip(first).Select(parameter => (string)parameter.Value)];
    }

    public Task Hear(DbConnection connection, Action<string> heard, CancellationToken cancellationToken) =>
        ((InMemoryConnection)connection).Session.Hear(heard, cancellationToken);

    public DbError Read(Exception exception) => exception switch
    {
        InMemoryException error => new DbError(error.SqlState),
        _ => new DbError(null, NotSent: exception is InvalidOperationException or NotSupportedException),
    };

    // Releases, rings if anybody listens, then takes what is free: PostgreSQL does this in one statement.
    private static async ValueTask<string> Carry(InMemorySession session, LockParameter[] parameters)
    {
        session.CheckAlive();
        var released = Digits([.. InMemoryCarrier.Parse(parameters[0].Value).Select(one => session.Release([one.Name], one.Shared))]);
        var bell = (string)parameters[1].Value;
        var listens = !await Try(InMemoryCarrier.ListeningName, shared: false).ConfigureAwait(false);
        if (!listens)
        {
            session.Release([InMemoryCarrier.ListeningName], shared: false);
        }
        else if (bell.Length > 0)
        {
            session.Ring(bell);
        }

        var acquired = "";
        foreach (var group in InMemoryCarrier.Parse(parameters[2].Value).GroupBy(one => one.Group))
        {
            List<bool> taken = [];
            foreach (var (name, shared, _, heeds) in group)
            {
                taken.Add(!Array.Exists(heeds, session.IsHeldByAnother) && await Try(name, shared).ConfigureAwait(false));
            }

            if (taken.Contains(false))
            {
                foreach (var ((name, shared, _, _), _) in group.Zip(taken).Where(one => one.Second))
                {
                    session.Release([name], shared);
                }
            }

            acquired += string.Concat(taken.Select(one => !one ? '0' : taken.Contains(false) ? '2' : '1'));
        }

        var token = parameters[3].Value is 1 ? session.NextToken() : 0;
        var count = parameters[4].Value is 1 ? session.Count() : default(int?);
        return string.Create(CultureInfo.InvariantCulture, $"{released}|{(listens ? "1" : "")}|{acquired}|{token}|{count}");

        ValueTask<bool> Try(string name, bool shared) =>
            session.Acquire([name], shared, null, TimeSpan.Zero, async: false, CancellationToken.None);
    }

    private static string Digits(IEnumerable<bool> answers) => string.Concat(answers.Select(answer => answer ? "1" : "0"));
}
