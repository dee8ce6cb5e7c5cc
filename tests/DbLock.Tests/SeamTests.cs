using System.Reflection;

namespace DbLock.Tests;

/// <summary>What authors of drivers and dialects outside have.</summary>
public sealed class SeamTests
{
    private const BindingFlags Members =
        BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    public static TheoryData<Type> Seams =>
        [.. typeof(LockDialect).Assembly.GetExportedTypes().Where(type => type.Namespace == "DbLock.Drivers" && type != typeof(Dialects))];

    /// <summary>DbLock's own drivers and dialects can do nothing that others cannot.</summary>
    [Theory, MemberData(nameof(Seams))]
    public void No_seam_has_internal_members(Type seam) => Assert.DoesNotContain(
        seam.GetMembers(Members),
        member => member is MethodBase { IsAssembly: true } or FieldInfo { IsAssembly: true } or MethodBase { IsFamilyOrAssembly: true });

    [Fact]
    public void A_reply_that_nobody_read_is_no_grant() => Assert.Equal(LockOutcome.Unknown, default(LockReply).Outcome);

    [Theory]
    [InlineData(1, LockOutcome.Acquired, true, false, 0)]
    [InlineData(2, LockOutcome.Acquired, true, true, 0)]
    [InlineData(0, LockOutcome.NotAcquired, true, false, 0)]
    [InlineData(null, LockOutcome.Unknown, false, false, 0)]
    public void All_that_an_answer_tells_is_read_at_once(int? answer, LockOutcome outcome, bool isDirect, bool hasWaited, long token) =>
        Assert.Equal(
            new LockReply(outcome) { IsDirect = isDirect, HasWaited = hasWaited, FencingToken = token },
            LockDialect.PostgreSql.Read(new("k") { SessionId = 42, Timeout = Timeout.InfiniteTimeSpan }, answer));

    [Fact]
    public void A_token_or_the_number_of_a_transaction_takes_the_place_of_the_code()
    {
        var fenced = new LockRequest("k") { SessionId = 42, Timeout = Timeout.InfiniteTimeSpan, Fencing = true };
        Assert.Equal(
            new LockReply(LockOutcome.Acquired) { IsDirect = true, HasWaited = true, FencingToken = 7_000_001 },
            LockDialect.PostgreSql.Read(fenced, 7_000_001L));
        Assert.Equal(new LockReply(LockOutcome.NotAcquired) { IsDirect = true }, LockDialect.PostgreSql.Read(fenced, 0L));

        // Negative in a session that is not the client's.
        var inTransaction = new LockRequest("k") { SessionId = 42, Scope = LockScope.Transaction, InTransaction = true };
        Assert.Equal(
            new LockReply(LockOutcome.Acquired) { IsDirect = true, Transaction = 7_000_001 },
            LockDialect.PostgreSql.Read(inTransaction, 7_000_001L));
        Assert.Equal(
            new LockReply(LockOutcome.Acquired) { Transaction = 7_000_001 }, LockDialect.PostgreSql.Read(inTransaction, -7_000_001L));
        Assert.Equal(new LockReply(LockOutcome.AlreadyHeld), LockDialect.PostgreSql.Read(inTransaction, 3L));
        Assert.Equal(new LockReply(LockOutcome.NotAcquired), LockDialect.PostgreSql.Read(inTransaction, 0L));
    }
}
