using DbLock.Torture;

namespace DbLock.Tests;

/// <summary>The oracles of the torture campaign: each finds what it is for, and nothing else.</summary>
public sealed class LedgerTests
{
    private static readonly Target Plain = Target.All.First(target => !target.IsFenced);
    private static readonly Target Fenced = Target.All.First(target => target.IsFenced);

    private static readonly Target[] Both = [Plain, Fenced];
    private static readonly bool[] Modes = [false, true];

    private Ledger _ledger = new(_ => { }, Rules.OfSessions);
    private long _now = 1_000_000;

    private IEnumerable<string> Violations => _ledger.Violations.Select(violation => violation.Text);

    [Fact]
    public void Holds_one_after_the_other_are_well()
    {
        Enter("a", Fenced, token: 5);
        Assert.Equal(0, _ledger.Read("a"));
        Assert.True(_ledger.Write("a", _now));
        Leave("a");
        Enter("b", Fenced, token: 6);
        Assert.Equal(1, _ledger.Read("b"));
        Assert.True(_ledger.Write("b", _now));
        _ledger.Sweep(View("b"), _now);
        Leave("b");
        Assert.Equal(2, _ledger.Acquisitions);
        Assert.Empty(Violations);
    }

    [Theory, InlineData(false, false, true), InlineData(true, false, true), InlineData(true, true, false)]
    public void Two_at_a_time_is_found_unless_they_share(bool firstShares, bool secondShares, bool isFound)
    {
        Enter("a", Plain, shared: firstShares);
        Enter("b", Plain, shared: secondShares);
        Leave("a");
        Assert.Empty(Violations);
        Leave("b");
        Assert.Equal(isFound, Violations.Any(text => text.StartsWith("Two at a time", StringComparison.Ordinal)));
    }

    [Fact]
    public void Two_at_a_time_is_well_when_one_is_told_of_its_loss()
    {
        Enter("a", Plain);
        Enter("b", Plain);
        _ledger.Lost("a", View("b"), _now);
        Leave("b");
        Leave("a", "lost");
        Assert.Empty(Violations);
        Assert.Equal(1, _ledger.Losses);
    }

    [Fact]
    public void A_lost_update_is_found()
    {
        Enter("a", Plain);
        Enter("b", Plain);
        _ledger.Read("a");
        _ledger.Read("b");
        _ledger.Write("a", _now);
        _ledger.Write("b", _now);
        Leave("a");
        Leave("b");
        Assert.Contains(Violations, text => text.StartsWith("Two at a time", StringComparison.Ordinal));
    }

    [Fact]
    public void A_stale_token_is_refused_and_must_be_told()
    {
        Enter("a", Fenced, token: 5);
        Enter("b", Fenced, token: 6, view: View("b"));
        Assert.NotNull(_ledger.Read("b"));
        Assert.Null(_ledger.Read("a"));
        Assert.False(_ledger.Write("a", _now));
        Assert.True(_ledger.Write("b", _now));
        Assert.Equal(2, _ledger.StaleRefused);
        Leave("b");
        Leave("a");
        Assert.Contains(Violations, text => text.StartsWith("Two at a time", StringComparison.Ordinal));
    }

    [Theory, InlineData(5, "A token that is not larger"), InlineData(4, "A token that is not larger"), InlineData(6, null)]
    public void Tokens_must_grow_in_the_order_of_grants(long token, string? found)
    {
        Enter("a", Fenced, token: 5);
        Leave("a");
        Enter("b", Fenced, token);
        Assert.Equal(found is not null, Violations.Any(text => text.StartsWith(found ?? "A token", StringComparison.Ordinal)));
    }

    [Fact]
    public void A_token_that_was_given_twice_is_found()
    {
        Try("a", Fenced);
        Try("b", Fenced);
        _ledger.Enter("a", 5, View("a"), _now);
        Leave("a");
        _ledger.Enter("b", 5, View("b"), _now);
        Assert.Contains(Violations, text => text.StartsWith("A token twice", StringComparison.Ordinal));
    }

    [Fact]
    public void A_loss_that_is_none_is_found()
    {
        Enter("a", Plain);
        _now += 1000;
        _ledger.Lost("a", View("a"), _now);
        Assert.Contains(Violations, text => text.StartsWith("A loss was told that was none", StringComparison.Ordinal));
    }

    [Theory, InlineData(-1, true), InlineData(0, false)]
    public void A_short_silence_explains_no_loss(long more, bool isFound)
    {
        Enter("a", Plain);
        var disturbance = _ledger.Disturb("a", _now);
        _now += Rules.OfSessions.SilenceLoses + more;
        disturbance.End(_now);
        _ledger.Lost("a", View("a"), _now);
        Assert.Equal(isFound, Violations.Any(text => text.StartsWith("A loss was told that was none", StringComparison.Ordinal)));
    }

    [Theory, InlineData("network", 0, true), InlineData("silence", 1, true), InlineData("silence", 2, false)]
    public void A_lease_is_lost_by_short_silences_together_and_not_by_a_torn_connection(string cause, int times, bool isFound)
    {
        _ledger = new(_ => { }, Rules.OfLeases);
        Enter("a", Plain);
        if (cause == "network")
        {
            _ledger.Disturb("a", _now).End(_now, tears: true);
        }

        for (var n = 0; n < times; n++)
        {
            var silence = _ledger.Disturb("a", _now);
            _now += Rules.OfLeases.SilenceLoses / 2;
            silence.End(_now);
        }

        _ledger.Lost("a", View("a"), _now);
        Assert.Equal(isFound, Violations.Any(text => text.StartsWith("A loss was told that was none", StringComparison.Ordinal)));
    }

    [Theory, InlineData("session"), InlineData("server"), InlineData("network")]
    public void A_loss_with_a_cause_is_well(string cause)
    {
        Enter("a", Plain);
        switch (cause)
        {
            case "session":
                _ledger.Doom(Session("a"), _now);
                break;
            case "server":
                _ledger.Doom(null, _now);
                break;
            default:
                _ledger.Disturb("a", _now).End(_now, tears: true);
                break;
        }

        _now += 1000;
        _ledger.Lost("a", View("a"), _now);
        Assert.Empty(Violations);
    }

    [Theory, InlineData(true, false), InlineData(true, true), InlineData(false, false)]
    public void A_loss_must_be_told_in_time(bool isOwn, bool isSilent)
    {
        var limit = isOwn && !isSilent ? Rules.OfSessions.KilledIsTold : Rules.OfSessions.SilentIsTold;
        Enter("a", Plain, isOwn: isOwn);
        if (isSilent)
        {
            _ledger.Disturb("a", _now);
        }

        _now += 100;
        _ledger.Sweep(View(), _now);
        _now += limit;
        _ledger.Sweep(null, _now);
        Assert.Empty(Violations);
        _now += 1;
        _ledger.Sweep(null, _now);
        Assert.Contains(Violations, text => text.StartsWith("Not told in time", StringComparison.Ordinal));
    }

    [Fact]
    public void A_release_that_is_well_must_be_so_on_the_server()
    {
        Enter("a", Plain);
        _now += 100;
        _ledger.Sweep(View(), _now);
        Leave("a");
        Assert.Contains(Violations, text => text.StartsWith("Not told of a loss", StringComparison.Ordinal));
    }

    [Fact]
    public void What_is_reported_is_compared_with_the_server()
    {
        Try("a", Plain);
        _ledger.Failed("a", "cancelled", isOpen: true, View("a"), _now);
        Assert.Contains(Violations, text => text.StartsWith("Not what the server says", StringComparison.Ordinal));

        _ledger.Violations.Clear();
        Enter("b", Plain);
        _ledger.Leaving("b");
        _ledger.Left("b", "released", isOpen: true, View("b"), _now);
        Assert.Contains(Violations, text => text.StartsWith("Not what the server says", StringComparison.Ordinal));
    }

    [Fact]
    public void A_lock_that_is_left_behind_is_found()
    {
        Enter("a", Plain);
        Leave("a");
        for (var seconds = 0; seconds <= Rules.OfSessions.SessionEnds / 1000; seconds++)
        {
            Assert.Empty(Violations);
            _ledger.Sweep(View("a"), _now);
            _now += 1000;
        }

        _ledger.Sweep(View("a"), _now);
        Assert.Contains(Violations, text => text.StartsWith("A lock is left behind", StringComparison.Ordinal));
    }

    [Theory, InlineData(1, true), InlineData(-1, false)]
    public void A_process_that_was_paused_may_not_go_on(long more, bool isFound)
    {
        Enter("a", Plain);
        _ledger.Read("a");
        _now += 1;
        var disturbance = _ledger.Disturb("a", _now, isPause: true);
        _now += Rules.OfSessions.PausedIsTold + more;
        disturbance.End(_now);
        _now += 1;
        _ledger.Write("a", checkedAt: _now);
        Assert.Equal(isFound, Violations.Any(text => text.StartsWith("A paused process went on", StringComparison.Ordinal)));
    }

    [Fact]
    public void An_error_in_fair_weather_has_no_cause()
    {
        Try("a", Plain);
        _ledger.Failed("a", "error NpgsqlException: broken", isOpen: false, View(), _now);
        Assert.Empty(Violations);
        _ledger.Calm(_now);
        _now += 10;
        Try("b", Plain);
        _ledger.Failed("b", "error NpgsqlException: broken", isOpen: false, View(), _now);
        Assert.Contains(Violations, text => text.StartsWith("An error without a cause", StringComparison.Ordinal));
    }

    [Fact]
    public void Who_was_killed_owes_nothing()
    {
        Enter("a", Plain);
        _ledger.Died("a", _now);
        Enter("b", Plain);
        _now += 100;
        _ledger.Sweep(View("b"), _now);
        Leave("b");
        Assert.Empty(Violations);
    }

    private static string App(string id) => $"{Campaign.App}{id}.1.0";

    private static ServerSession Session(string id) => new(id[0], 1);

    // Who has the session of each of these, holds the plain and the fenced lock, both ways.
    private ServerView View(params string[] holders) => new(
        _now,
        holders.ToDictionary(Session, id => (App(id), "idle")),
        [.. from id in holders from target in Both from shared in Modes select new ServerLock(Session(id), App(id), target.Number, target.IsPair, shared)]);

    private void Try(string id, Target target, bool shared = false, bool isOwn = true) => _ledger.Try(new DbLock.Torture.Hold(id, id, App(id), [target], shared, isOwn, _now));

    private void Enter(string id, Target target, long token = 0, bool shared = false, bool isOwn = true, ServerView? view = null)
    {
        Try(id, target, shared, isOwn);
        _ledger.Enter(id, token, view ?? View(id), _now);
    }

    private void Leave(string id, string outcome = "released")
    {
        _ledger.Leaving(id);
        _ledger.Left(id, outcome, isOpen: true, View(), _now);
    }
}
