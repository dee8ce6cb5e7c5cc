using System.Data;
using Npgsql;

namespace DbLock.Tests;

public sealed class LockInterfaceTests
{
    [Fact]
    public void The_interface_is_found_from_the_connection()
    {
        using var npgsql = new NpgsqlConnection();
        using var unknown = new UnknownConnection();
        Assert.Same(LockInterface.Npgsql, LockInterface.For(npgsql));
        Assert.Same(LockInterface.AdoNet, LockInterface.For(unknown));
        Assert.Same(LockInterface.Npgsql, new Lock(npgsql, "key").Interface);
        Assert.Same(LockInterface.AdoNet, new Lock(npgsql, "key", LockInterface.AdoNet).Interface);
        Assert.Equal(["Npgsql", "AdoNet", "Odbc"], new[] { LockInterface.Npgsql, LockInterface.AdoNet, LockInterface.Odbc }.Select(each => each.ToString()));
    }

    [Fact]
    public void A_driver_refuses_a_connection_that_is_not_its_own()
    {
        using var unknown = new UnknownConnection();
        foreach (var each in new[] { LockInterface.Npgsql, LockInterface.Odbc })
        {
            Assert.Contains("leave the interface out", Assert.Throws<ArgumentException>(() => new Lock(unknown, "key", each)).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_server_that_nobody_knows_must_be_named()
    {
        using var unknown = new UnknownConnection();
        var @lock = new Lock(unknown, "key");
        Assert.Contains("LockOptions.Dialect", Assert.Throws<LockException>(() => @lock.Acquire(block: false)).Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<LockException>(() => @lock.AcquireAsync().AsTask());
        Assert.False(@lock.IsHeld);
        Assert.False(@lock.Release());
    }

    [Fact]
    public void Null_is_refused_before_anything_is_done()
    {
        using var npgsql = new NpgsqlConnection();
        Assert.Throws<ArgumentNullException>(() => new Lock(null!, "key"));
        Assert.Throws<ArgumentNullException>(() => new Lock(npgsql, null!));
        Assert.Throws<ArgumentNullException>(() => LockInterface.For(null!));
        var @lock = new Lock(npgsql, "key");
        Assert.Throws<ArgumentNullException>(() => @lock.HandleError(null!));
        Assert.Throws<ArgumentNullException>(() => @lock.Run((Action)null!));
        Assert.Equal(ConnectionState.Closed, npgsql.State);
        Assert.Throws<InvalidOperationException>(() => @lock.Acquire());
        @lock.Dispose();
        @lock.Dispose();
    }
}
