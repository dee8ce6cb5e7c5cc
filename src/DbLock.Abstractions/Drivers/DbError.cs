namespace DbLock.Drivers;

/// <summary>What a driver reads from its provider's exception: codes, never the message.</summary>
/// <param name="SqlState">The five-character SQLSTATE; null where the provider gives none.</param>
/// <param name="Number">The engine's own error number (SQL Server, MySQL, an ODBC driver's native error); 0 where there is none.</param>
/// <param name="NotSent">Whether the provider refused the command before it reached the server, as with an open reader.</param>
public readonly record struct DbError(string? SqlState, int Number = 0, bool NotSent = false);
