using System.Data;
using System.Data.Common;
using Microsoft.Extensions.Logging;

namespace DbLock;

/// <summary>
/// The settings of a session that only locks use (<see cref="LockDialect.Keep"/>), from when they are made until what was before is put
/// back.
/// </summary>
internal sealed class SessionSettings
{
    private readonly DbConnection _connection;
    private readonly ILockDriver _driver;
    private readonly LockDialect _dialect;
    private readonly ILogger _logger;
    private readonly string? _told;
    private string _before = "";

    private SessionSettings(
        DbConnection connection, ILockDriver driver, LockDialect dialect, ILogger logger, LockStatement statement, string? told)
    {
        (_connection, _driver, _dialect, _logger, _told) = (connection, driver, dialect, logger, told);
        Statement = statement with { Limit = TrustWindow.Length };
    }

    /// <summary>Gets the statement that makes the settings, if the client speaks to the session it believes to speak to.</summary>
    public LockStatement Statement { get; }

    /// <summary>Gets the statement that puts back what was before.</summary>
    public LockStatement Undo => _dialect.PutBack(_before) with { Limit = TrustWindow.Length };

    /// <summary>
    /// Returns the settings to make; null where the session may be shared with other clients, and where the dialect has none.
    /// </summary>
    /// <param name="connection">The connection.</param>
    /// <param name="driver">Its driver.</param>
    /// <param name="dialect">The server's dialect.</param>
    /// <param name="options">How locks are held on it.</param>
    /// <param name="key">The lock for which the session is; null for the session of a pool.</param>
    public static SessionSettings? For(
        DbConnection connection, ILockDriver driver, LockDialect dialect, LockOptions options, LockKey? key = null)
    {
        if (options.TrustPooler || driver.SessionId(connection) is not { } sessionId)
        {
            return null;
        }

        var told = !options.ShowName ? default : key is null ? ToldName.InApplicationNameOfPool() : ToldName.InApplicationName(key);
        return dialect.Keep(sessionId, told) is { } statement
            ? new(connection, driver, dialect, QuietLogger.Of(options.Logger), statement, key is null ? null : told.End) : null;
    }

    /// <summary>Takes over the answer to <see cref="Statement"/>, which says what was before.</summary>
    /// <returns>Null when there is nothing to put back.</returns>
    public SessionSettings? AfterAnswer(object? answer)
    {
        _before = answer as string ?? "";
        return answer is string ? this : null;
    }

    /// <summary>
    /// Says whether an error means that certainly no setting was made, which is logged: the server refuses them, and the lock goes on
    /// without. After any other error some may have been made.
    /// </summary>
    public bool IsRefused(Exception error, LockOutcome outcome)
    {
        var isRefused = outcome is LockOutcome.Refused or LockOutcome.Cancelled;
        if (isRefused)
        {
            Log.CannotSet(_logger, error);
        }

        return isRefused;
    }

    /// <summary>Makes the settings for a pool.</summary>
    /// <inheritdoc cref="For" path="/param"/>
    /// <returns>Null when there is nothing to put back.</returns>
    /// <exception cref="Exception">If they may be set, the connection is closed, and its session ended.</exception>
    public static async ValueTask<SessionSettings?> Set(
        DbConnection connection, ILockDriver driver, LockDialect dialect, LockOptions options, CancellationToken cancellationToken)
    {
        if (For(connection, driver, dialect, options) is not { } settings)
        {
            return null;
        }

        try
        {
            return settings.AfterAnswer(
                await driver.Execute(connection, null, settings.Statement, async: true, cancellationToken).ConfigureAwait(false));
        }
        catch (Exception e)
        {
            var isRefused = settings.IsRefused(e, dialect.Read(driver.Read(e)));
            if (!isRefused)
            {
                driver.Discard(connection);
            }

            cancellationToken.ThrowIfCancellationRequested();
            if (!isRefused)
            {
                throw;
            }

            return null;
        }
    }

    /// <summary>
    /// Returns the commands that tell the server since when the lock is held, to be sent together with a question. There are none where
    /// nothing is told.
    /// </summary>
    /// <param name="held">How long the lock has been held.</param>
    public IEnumerable<LockCommand> TellSince(TimeSpan held) =>
        _told is not null && _driver.SessionId(_connection) is { } sessionId && _dialect.TellSince(sessionId, _told, held) is { } statement
            ? statement.Commands
            : [];

    /// <summary>Puts back what was before, for a pool. If that fails, the connection is closed and its session ended.</summary>
    /// <param name="settings">The settings; null when there is nothing to put back.</param>
    public static async ValueTask PutBack(SessionSettings? settings)
    {
        if (settings is not { _connection: { State: ConnectionState.Open } connection })
        {
            return;
        }

        try
        {
            await settings._driver.Execute(connection, null, settings.Undo, async: true, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception)
        {
            settings._driver.Discard(connection);
        }
    }
}
