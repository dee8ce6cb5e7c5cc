using System.Data;
using System.Data.Common;
using System.Runtime.CompilerServices;

namespace DbLock.Drivers;

/// <summary>A parameter of a command, with the type that the server is told.</summary>
/// <param name="Type">The type: Int32, Int64, Double or String.</param>
/// <param name="Value">The value; never null.</param>
public readonly record struct LockParameter(DbType Type, object Value);

/// <summary>One SQL command with its parameters.</summary>
/// <param name="Sql">The text.</param>
/// <param name="Parameters">The values of its markers, in the order of their numbers.</param>
public sealed record LockCommand(LockSql Sql, params LockParameter[] Parameters);

/// <summary>
/// An ordered list of commands that a driver sends in one round trip where it can. The answer is the first value of the first row that
/// comes back.
/// </summary>
/// <param name="Commands">The commands. When one fails, those after it do not run.</param>
public sealed record LockStatement(params LockCommand[] Commands)
{
    private const long None = long.MinValue;

    // Each is half as large as a nullable one, and a pool makes two statements for each lock.
    private readonly long _wait = None;
    private readonly long _limit = None;

    // How much longer than the server's wait the client's command timeout is. DbLock itself gives up after one second, where it can.
    private const int GraceSeconds = 2;

    /// <summary>
    /// Gets how long the server may wait before it answers: null when it never waits, <see cref="Timeout.InfiniteTimeSpan"/> for ever.
    /// </summary>
    public TimeSpan? Wait
    {
        get => _wait == None ? null : new(_wait);
        init => _wait = value?.Ticks ?? None;
    }

    /// <summary>
    /// Gets how long the client waits for the answer of a statement that does not wait on the server; null leaves that to the provider.
    /// </summary>
    public TimeSpan? Limit
    {
        get => _limit == None ? null : new(_limit);
        init => _limit = value?.Ticks ?? None;
    }

    /// <summary>
    /// Gets whether a driver may prepare the commands. It may where the client speaks to one server session: a pooler between them would
    /// send a prepared command to a session that does not know it.
    /// </summary>
    public bool MayPrepare { get; init; }

    /// <summary>
    /// Gets a comment that shows the lock's name to those who look at the server, with a space after it; null for none. It stands before
    /// the first command that has parameters.
    /// </summary>
    public string? Comment { get; init; }

    /// <summary>Gets the statement without its comment. A driver keeps this one to send it again, whatever the lock's name.</summary>
    public LockStatement WithoutComment => Comment is null ? this : _withoutComment ??= this with { Comment = null };

    private LockStatement? _withoutComment;

    /// <summary>
    /// Gets the timeout that a driver sets on the command, in seconds: null leaves the provider's default, 0 is no limit.
    /// </summary>
    public int? CommandTimeout => Wait switch
    {
        null => (int?)Limit?.TotalSeconds,
        { } wait when wait < TimeSpan.Zero || wait > TimeSpan.FromDays(1) => 0,
        { } wait => (int)Math.Ceiling(wait.TotalSeconds) + GraceSeconds,
    };

    /// <summary>Returns the comment if it stands before a command; null otherwise.</summary>
    /// <param name="index">The place of the command, counted from 0.</param>
    public string? CommentBefore(int index) =>
        Comment is not null && index == Array.FindIndex(Commands, static command => command.Parameters.Length > 0) ? Comment : null;

    /// <summary>
    /// Reads the answer, which is the first value of the first row, or null. It reads on to the end and disposes the reader.
    /// </summary>
    /// <param name="reader">The reader of all the commands.</param>
    /// <param name="async">False: return a completed task.</param>
    /// <param name="cancellationToken">Cancels the reading.</param>
    /// <remarks>
    /// <c>ExecuteScalar</c> is not used: Npgsql's swallows a cancel that comes after the first value (measured), although the commands
    /// after it have not run.
    /// </remarks>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public static async ValueTask<object?> ReadAnswer(DbDataReader reader, bool async, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(reader);
        try
        {
            var hasAnswer = reader.FieldCount > 0
                && (async ? await reader.ReadAsync(cancellationToken).ConfigureAwait(false) : reader.Read());
            var answer = hasAnswer ? reader.GetValue(0) : null;
            while (async ? await reader.NextResultAsync(cancellationToken).ConfigureAwait(false) : reader.NextResult())
            {
            }

            return answer;
        }
        catch (InvalidOperationException e) when (e is not ObjectDisposedException)
        {
            // An InvalidOperationException would mean that nothing was sent, but the command was sent. Over ODBC a cancel may remove the
            // row between its arrival and its reading.
            throw new DataException("The answer could not be read to its end: " + e.Message, e);
        }
        catch (OperationCanceledException e) when (e.InnerException is null)
        {
            throw new OperationCanceledException(e.Message, e, e.CancellationToken);
        }
        finally
        {
            await reader.Dispose(async).ConfigureAwait(false);
        }
    }
}
