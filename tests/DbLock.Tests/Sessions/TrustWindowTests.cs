using System.Diagnostics;

namespace DbLock.Tests.Sessions;

/// <summary>How long an answer can be believed.</summary>
public sealed class TrustWindowTests
{
    private TrustWindow _trust;

    [Fact]
    public void It_counts_from_the_question_and_not_from_the_answer()
    {
        Confirm(asked: 10);
        Assert.Equal(TimeSpan.FromSeconds(4), _trust.Age(At(14)));
        Assert.Equal(TimeSpan.FromSeconds(11), _trust.Left(At(14)));
        Assert.False(_trust.HasRunOut(At(25)));
        Assert.True(_trust.HasRunOut(At(26)));
        Assert.Equal(TimeSpan.Zero, _trust.Left(At(26)));
    }

    [Fact]
    public void A_question_that_is_not_answered_renews_nothing()
    {
        Confirm(asked: 10);
        _trust.Ask(At(20));
        Assert.Equal(TimeSpan.FromSeconds(3), _trust.Owed(At(23)));
        Assert.Equal(TimeSpan.FromSeconds(2), _trust.Left(At(23)));
        _trust.Fail();
        Assert.Equal(TimeSpan.Zero, _trust.Owed(At(23)));
        Assert.Equal(TimeSpan.FromSeconds(2), _trust.Left(At(23)));
    }

    [Fact]
    public void An_answer_that_comes_too_late_is_too_old_at_once()
    {
        Confirm(asked: 10);
        _trust.Ask(At(20));
        _trust.Confirm();
        Assert.True(_trust.HasRunOut(At(36)));
    }

    [Fact]
    public void With_a_grace_each_question_has_its_time_however_long_the_process_was_stopped()
    {
        var grace = TimeSpan.FromSeconds(2);
        Confirm(asked: 10);
        Assert.Equal(TimeSpan.FromSeconds(13), _trust.Left(At(12), grace));
        Assert.Equal(grace, _trust.Left(At(1000), grace));
        _trust.Ask(At(1000));
        Assert.Equal(TimeSpan.FromSeconds(1), _trust.Left(At(1001), grace));
        Assert.Equal(TimeSpan.Zero, _trust.Left(At(1002), grace));
    }

    private static long At(int seconds) => seconds * Stopwatch.Frequency;

    private void Confirm(int asked)
    {
        _trust.Ask(At(asked));
        _trust.Confirm();
    }
}
