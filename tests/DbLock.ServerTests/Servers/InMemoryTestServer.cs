using System.Data.Common;

namespace DbLock.ServerTests;

public sealed class InMemoryTestServer : TestServer
{
    public static InMemoryTestServer Instance { get; } = new();

    public static InMemoryLockServer Server { get; } = new();

    public override bool HasSql => false;

    public override LockDialect Dialect => LockInterface.InMemory.Dialects[0];

    public override string SessionIdSql => throw new NotSupportedException();

    public override Task<long> SessionIdAsync(DbConnection connection) => Task.FromResult<long>(((InMemoryConnection)connection).SessionId);

    public override Task<DbConnection> OpenObserverAsync() => throw new NotSupportedException();

    public override Task<bool> IsHeldAsync(LockKey key) => Task.FromResult(Server.IsHeld(key));

    public override Task<bool> IsHeldByAsync(long sessionId, LockKey key) => Task.FromResult(Server.IsHeldBy((int)sessionId, key));

    public override Task<bool> IsWaitingAsync(long sessionId) => Task.FromResult(Server.IsWaiting((int)sessionId));

    public override Task KillAsync(long sessionId) => Task.FromResult(Server.EndSession((int)sessionId));
}
