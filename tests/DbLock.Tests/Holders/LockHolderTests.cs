namespace DbLock.Tests;

/// <summary>What is said of a session that a dialect from outside has filled.</summary>
public sealed class LockHolderTests
{
    private static readonly LockSession Session = new()
    {
        Id = 1_234_567_890_123,
        User = "app",
        Client = "10.0.0.7",
        State = "Sleep",
        StateAge = TimeSpan.FromSeconds(12.4),
    };

    [Fact]
    public void A_session_of_which_little_is_known_is_told_by_its_number() =>
        Assert.Equal("session 7", Words(new LockSession { Id = 7 }));

    [Fact]
    public void A_session_is_told_with_user_client_and_what_it_does() =>
        Assert.Equal("session 1234567890123 (user 'app', 10.0.0.7), Sleep for 12.4 s", Words(Session));

    [Fact]
    public void Who_idles_has_held_its_locks_for_at_least_so_long() => Assert.Equal(
        "session 1234567890123 (application 'worker-3', user 'app', 10.0.0.7) for at least 12.4 s, Sleep",
        Words(Session with { IsIdle = true, Application = "worker-3" }));

    [Fact]
    public void What_is_hidden_is_told_to_be_hidden_without_the_remedy_of_another_engine() => Assert.Equal(
        "session 7, whose activity is hidden from this user", Words(new LockSession { Id = 7, IsPartial = true }));

    [Fact]
    public void The_name_in_the_comment_before_a_statement_is_read_whatever_the_engine() =>
        Assert.Equal("nightly-report", (Session with { Query = "/* dblock nightly-report */ select 1" }).LockName);

    [Fact]
    public void Facts_of_one_engine_stay_when_a_session_is_copied_as_any_session()
    {
        LockSession session = new PgSession { Id = 4711, BackendType = "walsender" };
        var copy = Assert.IsType<PgSession>(session with { Client = "[local]" });
        Assert.Equal((4711, "pid 4711 (walsender, [local])"), (copy.Pid, copy.ToString()));
        Assert.NotEqual(session, new LockSession { Id = 4711 });
    }

    private static string Words(LockSession session) => new LockHolder(session, Shared: false, PreparedTransaction: null).ToString();
}
