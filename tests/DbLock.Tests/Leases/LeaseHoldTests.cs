using System.Diagnostics;
using System.Text.Json;
using DbLock.Drivers;

namespace DbLock.Tests;

/// <summary>For how long a lease is trusted, what two clocks tell, and who is next: all of it without a server.</summary>
public sealed class LeaseHoldTests
{
    private static readonly LockKey Key = "key";

    [Theory]
    [InlineData(30, null, 27.5)]
    [InlineData(2, null, 0.9)]
    [InlineData(30, 0, 28.5)]
    [InlineData(30, 15, 13.5)]
    public void It_is_trusted_for_less_than_the_server_keeps_it(double lease, int? margin, double trusted)
    {
        var options = new LockOptions { Lease = TimeSpan.FromSeconds(lease), ClockMargin = margin is { } seconds ? TimeSpan.FromSeconds(seconds) : null };
        Assert.Equal(TimeSpan.FromSeconds(trusted), LeaseHold.TrustOf(options, LockDialect.PostgreSql));
        Assert.Equal(TimeSpan.FromSeconds(lease * 0.95), LeaseHold.TrustOf(options with { ClockMargin = null }, LockDialect.Sqlite));
    }

    [Fact]
    public void The_trust_counts_from_when_the_question_was_sent_and_what_comes_too_late_confirms_nothing()
    {
        var asked = Stopwatch.GetTimestamp();
        var hold = Hold(asked);
        Assert.True(hold.IsHeld(asked + LeaseHold.Ticks(hold.Trusted)));
        var renewed = asked + LeaseHold.Ticks(TimeSpan.FromSeconds(20));
        hold.Confirm(renewed, renewed + LeaseHold.Ticks(TimeSpan.FromSeconds(3)));
        Assert.Equal(renewed + LeaseHold.Ticks(hold.Trusted), hold.TrustEnds);
        Assert.True(hold.IsHeld(hold.TrustEnds));

        // The question was sent in time, and the process has stood still before its answer.
        hold.Confirm(hold.TrustEnds - 1, hold.TrustEnds + 1);
        Assert.True(hold.IsLost);
        Assert.True(hold.Lost.IsCancellationRequested);
        Assert.False(hold.IsHeld(asked));
        Assert.False(hold.Release());
        Assert.True(hold.TakeLoss());
        Assert.False(hold.TakeLoss());
    }

    [Fact]
    public void A_release_is_no_loss_whatever_comes_after_it()
    {
        var hold = Hold(Stopwatch.GetTimestamp());
        Assert.True(hold.Release());
        hold.Lose(null);
        Assert.False(hold.IsHeld(long.MaxValue));
        Assert.False(hold.IsLost);
    }

    [Fact]
    public void A_jump_of_the_servers_clock_is_told_and_a_slow_answer_is_none()
    {
        var (clock, most) = (new LeaseClock(), TimeSpan.FromSeconds(0.5));
        Assert.Null(Note(0, 0, 0.001, "a"));

        // An answer that took three seconds may have been written at any time between.
        Assert.Null(Note(12.9, 10, 13, "a"));
        Assert.Null(Note(20.4, 20, 20.001, "a"));
        var (by, before) = Note(32, 30, 30.001, "b")!.Value;
        Assert.Equal(("a", 1.6), (before, Math.Round(by.TotalSeconds, 1)));
        Assert.Equal(-2, Math.Round(Note(40, 40, 40.001, "a")!.Value.By.TotalSeconds, 1));

        (TimeSpan By, string Before)? Note(double server, double asked, double answered, string name) => clock.Note(
            (long)(server * 1_000_000), (long)(asked * Stopwatch.Frequency), (long)(answered * Stopwatch.Frequency), name, most);
    }

    [Fact]
    public void Who_came_first_is_first_in_every_line_and_a_set_waits_for_all_of_its_lines()
    {
        var line = new LeaseLine();
        var a = line.Enter("a");
        var both = line.Enter(LockKey.All("a", "b"));
        var b = line.Enter("b");
        var c = line.Enter("c");
        Assert.Equal((true, false, false, true), (a.IsFirst, both.IsFirst, b.IsFirst, c.IsFirst));
        line.Leave(a);
        Assert.True(both.IsFirst);
        Assert.Equal(1, both.First.CurrentCount);
        Assert.False(b.IsFirst);
        line.Leave(both);
        line.Leave(both);
        Assert.Equal(1, b.First.CurrentCount);
    }

    [Fact]
    public void Rows_are_ascii_whatever_the_names_are()
    {
        var rows = Leasing.Rows(LockDialect.MariaDb.Leases!, LockKey.All("ä", "a\0", "😀", "\"'\\"), new LockOptions { Note = "\0é" + new string('x', 300) }, "owner");
        var json = LeaseRow.ToJson(rows);
        Assert.All(json, character => Assert.True(char.IsAscii(character)));
        Assert.DoesNotContain("\\u0000", json, StringComparison.Ordinal);
        using var read = JsonDocument.Parse(json);
        Assert.Equal(rows.Select(row => row.Name), read.RootElement.EnumerateArray().Select(row => row.GetProperty("k").GetString()!));
        Assert.Equal(rows.Select(row => row.Name).Order(StringComparer.Ordinal), rows.Select(row => row.Name));
        Assert.All(rows, row => Assert.True(row.Holder!.Length <= 200 && row.Note!.Length <= 200));
    }

    [Theory]
    [InlineData("17", 17, 0)]
    [InlineData("17,o 0 5,p 2 -6", 17, 2)]
    [InlineData("17,o 0 5,+ 0 1234,- 0 3", 17, 1, 3, 1234)]
    [InlineData("17[\"o 0 5\", \"p 2 6\"]", 17, 2)]
    public void An_answer_is_read_from_a_text_or_a_json_array(string answer, long clock, int rows, int slots = 0, long session = 0)
    {
        var reply = LeaseReply.Read(answer);
        Assert.Equal((clock, rows, slots, session), (reply.Clock, reply.Rows.Count, reply.Slots, reply.Session));
    }

    [Theory]
    [InlineData(null), InlineData(""), InlineData("OK"), InlineData("17,o 0"), InlineData("17,o 0 x"), InlineData("uncommitted")]
    public void What_is_no_answer_is_refused(string? answer) => Assert.Throws<LockException>(() => LeaseReply.Read(answer));

    [Fact]
    public void The_texts_of_every_engine_are_the_same_few_for_a_table()
    {
        LeaseRow[] rows = [new("name", "owner")];
        foreach (var dialect in new[] { LockDialect.PostgreSql, LockDialect.SqlServer, LockDialect.MariaDb, LockDialect.MySql, LockDialect.Sqlite })
        {
            var (leases, table) = (dialect.Leases!, new LeaseTable("t \" ` ] x", "s"));
            Assert.Same(leases.Acquire(table, rows, false).Commands[0].Sql, leases.Acquire(new LeaseTable("t \" ` ] x", "s"), rows, false).Commands[0].Sql);
            Assert.NotSame(leases.Acquire(table, rows, false).Commands[0].Sql, leases.Acquire(table, rows, true).Commands[0].Sql);
            Assert.Contains("create table", leases.Create(table), StringComparison.Ordinal);
        }
    }

    private static LeaseHold Hold(long asked)
    {
        var options = new LockOptions { Scope = LockScope.Lease };
        return new(Key, options, Leasing.Rows(LockDialect.PostgreSql.Leases!, Key, options, "owner"), 1, asked, (null, LockDialect.PostgreSql));
    }
}
