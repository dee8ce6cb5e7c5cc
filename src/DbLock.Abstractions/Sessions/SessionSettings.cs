using System.Data;
using System.Data.Common;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>
/// The settings under which a session lasts that only locks use (<see cref="LockDialect.Keep"/>), from when they are set until what was
/// before is put back.
/// </summary>
internal sealed class SessionSettings
{
    private readonly DbConnection _connection;
    private readonly ILockDriver _driver;
    private readonly LockDialect _dialect;
    private readonly string _before;
    private readonly string? _told;

    private SessionSettings(DbConnection connection, ILockDriver driver, LockDialect dialect, string before, string? told) =>
        (_connection, _driver, _dialect, _before, _told) = (connection, driver, dialect, before, told);

    /// <summary>Gets the statement that puts back what was before.</summary>
    public LockStatement Undo => _dialect.PutBack(_before) with { Limit = TrustWindow.Length };

    /// <summary>Sets them, unless the session may be another client's; a server that refuses them is left as it is.</summary>
    /// <param name="connection">The connection.</param>
    /// <param name="driver">Its driver.</param>
    /// <param name="dialect">The server's dialect.</param>
    /// <param name="options">How locks are held on it.</param>
    /// <param name="async">Whether it may go on asynchronously.</param>
    /// <param name="cancellationToken">Cancels it.</param>
    /// <param name="key">The lock that the session is for; null for those of a pool.</param>
    /// <returns>Null when there is nothing to put back.</returns>
    /// <exception cref="OperationCanceledException">
    /// It was cancelled. If they may be set, the connection is closed, and its session ended.
    /// </exception>
    public static ValueTask<SessionSettings?> Set(
        DbConnection connection, ILockDriver driver, LockDialect dialect, LockOptions options, bool async,
        CancellationToken cancellationToken, LockKey? key = null)
    {
        if (options.TrustPooler || driver.SessionId(connection) is not { } sessionId)
        {
            return new(default(SessionSettings));
        }

        var told = !options.ShowName ? default : key is null ? ToldName.InApplicationNameOfPool() : ToldName.InApplicationName(key);
        if (dialect.Keep(sessionId, told) is not { } statement)
        {
            return new(default(SessionSettings));
        }

        statement = statement with { Limit = TrustWindow.Length };
        return Set(
            connection, driver, dialect, statement, key is null ? null : told.End, QuietLogger.Of(options.Logger), async,
            cancellationToken);
    }

    /// <summary>
    /// Returns the commands that tell since when the lock is held, to be sent with a question; none where nothing is told.
    /// </summary>
    /// <param name="held">How long the lock has been held.</param>
    public IEnumerable<LockCommand> TellSince(TimeSpan held) =>
        _told is not null && _driver.SessionId(_connection) is { } sessionId && _dialect.TellSince(sessionId, _told, held) is { } statement
            ? statement.Commands
            : [];

    private static async ValueTask<SessionSettings?> Set(
        DbConnection connection, ILockDriver driver, LockDialect dialect, LockStatement statement, string? told, ILogger logger, bool async,
        CancellationToken cancellationToken)
    {
        try
        {
            return await driver.Execute(connection, null, statement, async, cancellationToken).ConfigureAwait(false) is string before
                ? new SessionSettings(connection, driver, dialect, before, told)
                : null;
        }
        catch (Exception e)
        {
            // What the server refuses has set nothing. What else went wrong may have.
            var isRefused = dialect.Read(driver.Read(e)) is LockOutcome.Refused or LockOutcome.Cancelled;
            if (!isRefused)
            {
                driver.Discard(connection);
            }

            if (cancellationToken.IsCancellationRequested)
            {
                throw new OperationCanceledException(e.Message, e, cancellationToken);
            }

            if (!isRefused)
            {
                throw;
            }

            Log.CannotSet(logger, e);
            return null;
        }
    }

    /// <summary>Puts back what was before; a connection on which that fails is closed, and its session ended.</summary>
    /// <param name="settings">The settings; null when there is nothing to put back.</param>
    /// <param name="async">Whether it may go on asynchronously.</param>
    public static async ValueTask PutBack(SessionSettings? settings, bool async)
    {
        if (settings is not { _connection: { State: ConnectionState.Open } connection })
        {
            return;
        }

        try
        {
            await settings._driver.Execute(connection, null, settings.Undo, async, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception)
        {
            settings._driver.Discard(connection);
        }
    }
}
