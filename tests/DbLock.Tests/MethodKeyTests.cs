namespace DbLock.Tests;

/// <summary>The key of a method that is run under a lock.</summary>
public sealed class MethodKeyTests
{
    [Fact]
    public void A_lambda_or_a_local_function_has_no_stable_name()
    {
        using var connection = new UnknownConnection();
        foreach (var call in new Action[]
        {
            () => connection.RunLocked(() => { }),
            () => connection.RunLocked(() => 7),
            () => connection.RunLocked(Local),
            () => connection.TryRunLocked(Local),
        })
        {
            Assert.Contains("no stable name", Assert.Throws<ArgumentException>(call).Message, StringComparison.Ordinal);
        }

        static void Local()
        {
        }
    }

    [Fact]
    public async Task An_asynchronous_lambda_has_none_either()
    {
        using var connection = new UnknownConnection();
        await Assert.ThrowsAsync<ArgumentException>(() => connection.RunLockedAsync(_ => Task.CompletedTask));
        await Assert.ThrowsAsync<ArgumentException>(() => connection.RunLockedAsync(_ => Task.FromResult(7)));
        await Assert.ThrowsAsync<ArgumentException>(() => connection.TryRunLockedAsync(_ => Task.CompletedTask));
        Assert.Throws<ArgumentNullException>(() => connection.RunLocked((Action)null!));
    }
}
