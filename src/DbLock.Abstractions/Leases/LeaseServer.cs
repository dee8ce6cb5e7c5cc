using System.Data.Common;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>Sends statements about leases, each over a connection that is borrowed from a data source for it alone.</summary>
internal sealed class LeaseServer(DbDataSource dataSource, LockInterface? lockInterface, LockDialect? dialect, LeaseTable table)
{
    // How often a statement is sent again at once that other transactions were in the way of.
    private const int Attempts = 10;

    private readonly LeaseClock _clock = new();
    private volatile LockDialect? _dialect = dialect;

    public LeaseTable Table => table;

    /// <summary>Gets the dialect; null before the first connection, unless it was named.</summary>
    public LockDialect? Dialect => _dialect;

    /// <summary>Gets the DDL of the table; empty before the first connection, and where there are no leases.</summary>
    public string Ddl => _dialect?.Leases is { } leases ? leases.Create(table) : "";

    /// <summary>Gets the name of the database; null before the first connection.</summary>
    public string? Database { get; private set; }

    /// <summary>Sends a statement, and sends it again while other transactions were in its way. Errors are a part of the answer.</summary>
    /// <param name="say">Writes the statement.</param>
    /// <param name="key">The key, for messages.</param>
    /// <param name="options">How it is held.</param>
    /// <param name="limit">When the call must end.</param>
    /// <param name="async">Whether it may go on asynchronously.</param>
    /// <param name="attempts">How often it is sent while other transactions are in its way.</param>
    /// <exception cref="OperationCanceledException">It was cancelled before it was sent.</exception>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<LeaseAnswer> Ask(
        Func<LeaseDialect, LeaseTable, LockStatement> say, LockKey key, LockOptions options, Limit limit, bool async,
        int attempts = Attempts)
    {
        DbConnection connection;
        try
        {
            connection = await OwnConnection.Open(dataSource, key, limit, async).ConfigureAwait(false);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            return new(null, Stopwatch.GetTimestamp(), e, LeaseTrouble.Unknown) { IsUnsent = true };
        }

        var conversation = default(Conversation);
        try
        {
            conversation = new Conversation(connection, lockInterface ?? LockInterface.For(connection), key, options with
            {
                Dialect = _dialect,
            })
            {
                Limit = limit,
            };
            _dialect = conversation.Dialect;
            Database = connection.Database;
            return await Ask(conversation, Leasing.Of(conversation.Dialect), table, say, _clock, async, attempts).ConfigureAwait(false);
        }
        finally
        {
            // If the connection owes an answer, it is closed when that has come.
            if (conversation is not { IsAbandoned: true })
            {
                await Close(connection, async).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Sends a statement on a connection, and sends it again while other transactions were in its way.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public static async ValueTask<LeaseAnswer> Ask(
        Conversation conversation, LeaseDialect leases, LeaseTable table, Func<LeaseDialect, LeaseTable, LockStatement> say,
        LeaseClock clock, bool async, int attempts = Attempts)
    {
        if (async && leases.IsBlocking)
        {
            // The provider would block the caller, who may have others to serve.
            await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        }

        var statement = say(leases, table);
        statement = statement with
        {
            Limit = leases.IsBlocking ? LongestBlock(conversation.Limit) : statement.Limit ?? TrustWindow.Length,
            MayPrepare = conversation.PhysicalSession.IsOne && IsOfOneRow(statement),
        };
        var trusted = leases.IsBlocking ? TrustWindow.Length : statement.Limit;
        var start = Stopwatch.GetTimestamp();
        for (var attempt = 1; ; attempt++)
        {
            var asked = Stopwatch.GetTimestamp();
            var answer = await conversation.Ask(statement, async).ConfigureAwait(false);
            if (answer.Error is null && Stopwatch.GetElapsedTime(asked) >= trusted)
            {
                // The provider may have cancelled the statement meanwhile. A server that waits for its standby then answers with success
                // what it has not secured.
                return new(null, asked, new TimeoutException("The answer came too late to be trusted."), LeaseTrouble.Unknown);
            }

            if (answer.Error is null)
            {
                return Read(conversation, clock, new(answer.Value, asked));
            }

            var trouble = answer.Outcome == LockOutcome.ConnectionLost ? LeaseTrouble.Unknown : leases.Read(answer.Codes);
            if (trouble != LeaseTrouble.Again || attempt == attempts || conversation.Limit.Token.IsCancellationRequested
                || conversation.Limit is { Timeout.Ticks: > 0, LeftToWait.Ticks: 0 }
                || Stopwatch.GetElapsedTime(start) >= TrustWindow.Length)
            {
                return new(null, asked, answer.Error, trouble) { IsNotSent = answer.IsNotSent };
            }

            statement = leases.IsBlocking ? statement with { Limit = LongestBlock(conversation.Limit) } : statement;
        }
    }

    // Nothing but its own time, in whole seconds, ends the call of a provider that blocks.
    public static TimeSpan LongestBlock(Limit limit)
    {
        var left = limit.LeftToAnswer;
        return left < TimeSpan.Zero || left > TrustWindow.Length
            ? TrustWindow.Length : TimeSpan.FromSeconds(Math.Max(1, Math.Floor(left.TotalSeconds)));
    }

    // What asks for many rows is planned anew each time, because the table may have grown: a plan that was made while it was small would
    // read all of it for each row. A name with these characters in it costs no more than a plan.
    private static bool IsOfOneRow(LockStatement statement) => Array.TrueForAll(
        statement.Commands,
        static command => Array.TrueForAll(
            command.Parameters, static rows => rows.Value is string json && !json.Contains("},{", StringComparison.Ordinal)));

    private static LeaseAnswer Read(Conversation conversation, LeaseClock clock, LeaseAnswer answer)
    {
        if (answer.Value is string text && text.StartsWith('[') && !text.StartsWith("[\"", StringComparison.Ordinal))
        {
            // This is the answer to a look.
            return answer;
        }

        var reply = LeaseReply.Read(answer.Value);
        var session = conversation.PhysicalSession;
        session.IsOne |= reply.Session != 0 && reply.Session == session.Id(conversation.Connection, conversation.Driver);
        var (options, server) = (conversation.Options, conversation.Connection.DataSource);
        var margin = options.ClockMargin ?? Leasing.Of(conversation.Dialect).ClockMargin;
        if (margin > TimeSpan.Zero
            && clock.Note(reply.Clock, answer.Asked, Stopwatch.GetTimestamp(), server, margin / 2) is { } jump)
        {
            Log.ClocksDiffer(conversation.Logger, server, jump.By.TotalSeconds, jump.Before, margin.TotalSeconds);
        }

        return answer with { Reply = reply };
    }

    private static async ValueTask Close(DbConnection connection, bool async)
    {
        try
        {
            await connection.Dispose(async).ConfigureAwait(false);
        }
        catch (Exception)
        {
            // The answer has come. What becomes of the connection is the data source's.
        }
    }
}
