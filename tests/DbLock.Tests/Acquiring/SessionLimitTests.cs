namespace DbLock.Tests.Acquiring;

/// <summary>What is told of a session that the server has ended while a lock was asked for.</summary>
public sealed class SessionLimitTests
{
    [Theory]
    [InlineData("25P03")]
    [InlineData("25P04")]
    [InlineData("57P05")]
    public async Task A_limit_that_has_ended_the_session_is_told_by_name(string sqlState)
    {
        foreach (var place in Place.All)
        {
            var error = await Acquire(place, Reply.Code(sqlState, sqlState) with { Closes = true });
            Assert.Contains("transaction_timeout", Assert.IsType<LockNotAcquiredException>(error).Message, StringComparison.Ordinal);
            Assert.IsType<ScriptedException>(error.InnerException);
        }
    }

    [Fact]
    public async Task What_an_administrator_has_ended_is_told_as_no_limit() =>
        Assert.IsType<ScriptedException>(await Acquire(Place.Session, Reply.Ended with { Closes = true }));

    private static async Task<Exception?> Acquire(Place place, Reply reply)
    {
        var connection = new ScriptedConnection((kind, _) => kind == "wait" ? reply : null);
        var options = new LockOptions { Scope = place.Scope, Dialect = LockDialect.PostgreSql };
        var driver = new LockInterface("Scripted", new ScriptedDriver(canCancel: true), LockDialect.PostgreSql);
        var transaction = place.IsInTransaction ? await connection.BeginTransactionAsync() : null;
        var @lock = new Lock(connection, "limit", driver, options) { Transaction = transaction };
        return await Record.ExceptionAsync(() => @lock.AcquireAsync(TimeSpan.FromHours(1), CancellationToken.None).AsTask());
    }
}
