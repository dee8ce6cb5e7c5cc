using System.Diagnostics;
using DbLock.Tests.Acquiring;

namespace DbLock.Tests.Sessions;

/// <summary>What the questions after a grant mean for the trust in it.</summary>
public sealed class LockWatchTests
{
    private static readonly object Yes = 1;

    [Fact]
    public async Task Trust_counts_from_the_question_that_granted_the_lock()
    {
        var afterTry = 0L;
        var driver = new HeldDriver(name =>
        {
            afterTry = name == "wait" ? Stopwatch.GetTimestamp() : afterTry;
            return new(name == "try" ? 0 : Yes);
        });
        var @lock = driver.NewLock();
        Assert.True(await @lock.AcquireAsync(TimeSpan.FromHours(1), TestContext.Current.CancellationToken));
        Assert.Equal(["try", "settings", "wait"], driver.Told);

        // The wait was asked before its answer came, and after the try was answered.
        var asked = @lock.Holding.Trust.Age(afterTry);
        Assert.True(asked >= TimeSpan.Zero && asked < TrustWindow.Beat);
    }

    [Fact]
    public async Task A_grant_is_asked_for_once_more_only_when_its_question_is_older_than_a_moment()
    {
        var driver = new HeldDriver(static _ => new(Yes));
        var @lock = driver.NewLock();
        Assert.True(await @lock.AcquireAsync(block: false, TestContext.Current.CancellationToken));
        Grow(TimeSpan.FromMilliseconds(10));
        Assert.True(await LockWatch.ConfirmGrant(@lock, async: true));
        Assert.Equal(["try"], driver.Told);
        Grow(TimeSpan.FromMilliseconds(250));
        Assert.True(await LockWatch.ConfirmGrant(@lock, async: true));
        Assert.Equal(["try", "settings", "alive"], driver.Told);

        void Grow(TimeSpan age)
        {
            @lock.Holding.Trust.Ask(Stopwatch.GetTimestamp() - (long)(age.TotalSeconds * Stopwatch.Frequency));
            @lock.Holding.Trust.Confirm();
        }
    }

    [Fact]
    public async Task A_process_that_stood_still_for_longer_than_the_trust_lasts_is_told_before_anything_is_asked()
    {
        var driver = new HeldDriver(static _ => new(Yes));
        var @lock = driver.NewLock();
        Assert.True(await @lock.AcquireAsync(block: false, TestContext.Current.CancellationToken));
        using var watch = new LockWatch(@lock);
        @lock.Holding.Trust.Ask(Stopwatch.GetTimestamp() - (16 * Stopwatch.Frequency));
        @lock.Holding.Trust.Confirm();
        using var end = new CancellationTokenSource();
        var beats = 0;
        await watch.Run(TimeSpan.Zero, TimeSpan.Zero, Pause, end.Token);
        Assert.DoesNotContain("alive", driver.Told);
        Assert.True(@lock.Holding.IsLost);

        Task Pause(TimeSpan beat, CancellationToken stop) => ++beats > 1 ? end.CancelAsync() : Task.CompletedTask;
    }

    [Theory]
    [InlineData("42501", true)]
    [InlineData("53200", true)]
    [InlineData("57014", true)]
    [InlineData("57P01", false)]
    [InlineData(null, false)]
    public async Task A_server_that_answers_that_it_cannot_say_lives_and_renews_the_trust(string? sqlState, bool lives)
    {
        var error = new ScriptedException("no answer to that", new DbError(sqlState));
        var driver = new HeldDriver(name => name == "alive" ? throw error : new(Yes));
        var @lock = driver.NewLock();
        Assert.True(await @lock.AcquireAsync(block: false, TestContext.Current.CancellationToken));
        var granted = Stopwatch.GetTimestamp();
        Assert.Equal(lives, await @lock.Holding.Confirm(async: true));
        Assert.Equal(lives, @lock.IsHeld);
        Assert.Equal(lives, @lock.Holding.Trust.Age(granted) <= TimeSpan.Zero);
    }

    [Fact]
    public async Task A_driver_that_throws_at_once_has_answered_and_its_connection_is_not_given_up_later()
    {
        var error = new ScriptedException("refused", new DbError("42501"));
        var driver = new HeldDriver(name => name == "alive" ? throw error : new(Yes));
        var @lock = driver.NewLock();
        Assert.True(await @lock.AcquireAsync(block: false, TestContext.Current.CancellationToken));
        Assert.True(await @lock.Holding.Confirm(async: true));

        // It ends the question that is under way; none is.
        @lock.Holding.Distrust();
        Assert.False(@lock.Holding.Conversation.IsAbandoned);
        Assert.DoesNotContain("abort", driver.Told);
    }

    [Fact]
    public async Task A_question_that_is_under_way_is_given_up_with_its_connection_and_the_loss_is_told_once()
    {
        var answer = new TaskCompletionSource<object?>();
        var driver = new HeldDriver(name => name == "alive" ? new(answer.Task) : new(Yes));
        var @lock = driver.NewLock();
        Assert.True(await @lock.AcquireAsync(block: false, TestContext.Current.CancellationToken));
        var asking = @lock.Holding.Confirm(async: true);
        @lock.Holding.Distrust();
        Assert.False(await asking);
        Assert.True(@lock.Holding.Conversation.IsAbandoned);
        Assert.True(@lock.Lost.IsCancellationRequested);
        answer.SetResult(Yes);
        Assert.Equal(["try", "settings", "alive", "abort", "discard"], driver.Told);
    }

    [Fact]
    public async Task The_settings_of_a_session_hold_a_call_up_no_longer_than_its_limit()
    {
        var silence = new TaskCompletionSource<object?>();
        var driver = new HeldDriver(name => name == "settings" ? new(silence.Task) : new((object?)0));
        var @lock = driver.NewLock();
        var acquiring = @lock.AcquireAsync(TimeSpan.FromMilliseconds(1), TestContext.Current.CancellationToken).AsTask();
        await Assert.ThrowsAsync<LockException>(() => acquiring.WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken));
        Assert.True(@lock.Holding.Conversation.IsAbandoned);
    }
}
