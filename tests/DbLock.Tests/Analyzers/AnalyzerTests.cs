using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CodeFixes;
using Microsoft.CodeAnalysis.CSharp.Testing;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Testing;

namespace DbLock.Tests;

/// <summary>Mistakes with locks that do not compile, and what is none. A mistake stands between {|its number: and |}.</summary>
public sealed class AnalyzerTests
{
    private const string Before = """
        using System;
        using System.Data.Common;
        using System.Threading;
        using System.Threading.Tasks;
        using DbLock;
        using Lock = DbLock.Lock;

        DbDataSource source = null!;
        DbConnection conn = null!;
        Lock l = null!;
        ILockSource locks = null!;
        TableLock table = null!;
        var second = TimeSpan.FromSeconds(1);
        bool block = args.Length > 0;

        """;

    public static TheoryData<string> DroppedAnswers =>
    [
        "{|DBLOCK001:l.Acquire(block: false);|}",
        "{|DBLOCK001:l.Acquire(block);|}",
        "{|DBLOCK001:l.Acquire(second);|}",
        "{|DBLOCK001:await l.AcquireAsync(second);|}",
        "{|DBLOCK001:await l.AcquireAsync(false, CancellationToken.None).ConfigureAwait(false);|}",
        "{|DBLOCK001:await table.AcquireAsync(second);|}",
        "{|DBLOCK001:l.AcquireAsync(second).AsTask().Wait();|}",
        "{|DBLOCK001:l.AcquireAsync(second).AsTask().GetAwaiter().GetResult();|}",
        "{|DBLOCK001:await new Shop().LockTableAsync<string>(PgLockMode.Share, second);|}",
        "{|DBLOCK001:await new Shop().Database.CreateLock(\"a\").AcquireAsync(block: false);|}",
        "l.Acquire(); await l.AcquireAsync(); await l.AcquireAsync(CancellationToken.None);",
        "l.Acquire(Timeout.InfiniteTimeSpan); new Shop().LockTable<string>(PgLockMode.Share);",
        "if (await l.AcquireAsync(second)) { } _ = l.Acquire(block: false); var held = l.Acquire(second);",
        "Throws(async () => await l.AcquireAsync(second)); static void Throws(Func<Task> body) { }",
        "l.TryRun(() => { }); await l.TryRunAsync(_ => Task.CompletedTask);",
        "l.Release(); await l.ReleaseAsync();",
    ];

    public static TheoryData<string, string?> HeldLocks => new()
    {
        { "await {|DBLOCK002:source.AcquireLockAsync(\"y\")|};", "await using var held = await source.AcquireLockAsync(\"y\");" },
        { "{|DBLOCK002:source.AcquireLock(\"y\")|};", "using var held = source.AcquireLock(\"y\");" },
        { "await {|DBLOCK002:locks.TryAcquireLockAsync(\"y\")|};", "await using var held = await locks.TryAcquireLockAsync(\"y\");" },
        {
            "var h = await {|DBLOCK002:locks.AcquireLockAsync(\"y\")|};\nConsole.WriteLine(h.IsHeld);",
            "await using var h = await locks.AcquireLockAsync(\"y\");\nConsole.WriteLine(h.IsHeld);"
        },
        {
            "HeldLock h = {|DBLOCK002:source.AcquireLock(\"y\")|};\nh.ThrowIfLost();",
            "using HeldLock h = source.AcquireLock(\"y\");\nh.ThrowIfLost();"
        },
        { "if (await {|DBLOCK002:locks.TryAcquireLockAsync(\"y\")|} is { } h) { h.ThrowIfLost(); }", null },
        { "if (await {|DBLOCK002:locks.TryAcquireLockAsync(\"y\")|} is null) { return; }", null },
        { "var h = await {|DBLOCK002:new Shop().Database.AcquireLockAsync(\"y\")|};", "await using var h = await new Shop().Database.AcquireLockAsync(\"y\");" },
        { "var p = {|DBLOCK002:locks.AcquireLockAsync(\"y\")|};", null },
        { "{|DBLOCK002:source.AcquireLockAsync(\"y\")|}.AsTask().GetAwaiter().GetResult();", "using var held = source.AcquireLockAsync(\"y\").AsTask().GetAwaiter().GetResult();" },
        { "var h = {|DBLOCK002:source.AcquireLockAsync(\"y\")|}.AsTask().Result;", "using var h = source.AcquireLockAsync(\"y\").AsTask().Result;" },
        {
            "var h = await {|DBLOCK002:source.TryAcquireLockAsync(\"y\")|} ?? throw new TimeoutException();\nh.ThrowIfLost();",
            "await using var h = await source.TryAcquireLockAsync(\"y\") ?? throw new TimeoutException();\nh.ThrowIfLost();"
        },
        { "var h = block ? {|DBLOCK002:source.AcquireLock(\"y\")|} : null;", "using var h = block ? source.AcquireLock(\"y\") : null;" },
        { "HeldLock? g = null; var h = g ?? {|DBLOCK002:source.AcquireLock(\"y\")|};", null },
        { "HeldLock? g = null; var h = block ? g : {|DBLOCK002:source.AcquireLock(\"y\")|};", null },
        { "{|DBLOCK002:source.AcquireLockAsync(\"y\")|}.AsTask().Wait();", null },
        { "HeldLock? h; Func<Task> f = async () => h = await {|DBLOCK002:source.AcquireLockAsync(\"y\")|};", null },
        { "if (await source.TryAcquireLockAsync(\"y\") is not { } h) { return; } await using (h) { }", null },
        { "HeldLock? h; h = source.TryAcquireLock(\"y\"); if (h is not { } held) { return; } using (held) { }", null },
        { "HeldLock? field = null; ref var h = ref field; h = source.AcquireLock(\"y\");", null },
        { "HeldLock? h; Throws(async () => { h = await source.AcquireLockAsync(\"y\"); }); static void Throws(Func<Task> body) { }", null },
        { "HeldLock? h = null; h = await {|DBLOCK002:source.AcquireLockAsync(\"y\")|}; h.ThrowIfLost();", null },
        { "HeldLock? h; if (block) { h = {|DBLOCK002:source.TryAcquireLock(\"y\")|}; } else { h = null; }", null },
        { "HeldLock? h = null; try { h = await source.AcquireLockAsync(\"y\"); } finally { h?.Dispose(); }", null },
        { "HeldLock? h; h = await source.AcquireLockAsync(\"y\"); await using (h) { }", null },
        { "HeldLock? h; Keep(h = source.AcquireLock(\"y\")); static void Keep(IHeldLock held) { }", null },
        { "HeldLock? h; Func<Task> begin = async () => { h = await {|DBLOCK002:source.AcquireLockAsync(\"y\")|}; }; await begin();", null },
        { "var h = await source.TryAcquireLockAsync(\"y\") ?? throw new TimeoutException(); Keep(h); static void Keep(HeldLock held) { }", null },
        { "using var h = block ? source.AcquireLock(\"y\") : null; await using var g = await source.TryAcquireLockAsync(\"z\") ?? throw new TimeoutException();", null },
        { "var p = locks.AcquireLockAsync(\"y\"); await using var h = await p.ConfigureAwait(false);", null },
        { "var p = source.AcquireLockAsync(\"y\"); using var h = p.GetAwaiter().GetResult();", null },
        { "var p = source.AcquireLockAsync(\"y\").AsTask(); p.Wait(); using var h = p.Result;", null },
        { "Throws(async () => await source.AcquireLockAsync(\"y\", second)); static void Throws(Func<Task> body) { }", null },
        { "await using var h = await source.AcquireLockAsync(\"y\"); using var g = source.AcquireLock(\"z\");", null },
        { "await using (await source.AcquireLockAsync(\"y\")) { } using (source.AcquireLock(\"z\")) { }", null },
        { "var h = await locks.AcquireLockAsync(\"y\"); await h.ReleaseAsync();", null },
        { "var h = await locks.TryAcquireLockAsync(\"y\"); if (h is not null) { await h.DisposeAsync(); }", null },
        { "var h = await locks.AcquireLockAsync(\"y\"); await using (h.ConfigureAwait(false)) { }", null },
        { "var h = await locks.AcquireLockAsync(\"y\"); Keep(h); static void Keep(IHeldLock held) { }", null },
        { "if (await locks.TryAcquireLockAsync(\"y\") is { } h) { await using (h) { } }", null },
        { "var h = await locks.TryAcquireLockAsync(\"y\"); if (h != null) { Func<Task> end = async () => await h.DisposeAsync(); await end(); }", null },
        { "static ValueTask<IHeldLock> Get(ILockSource locks) => locks.AcquireLockAsync(\"y\"); await using var h = await Get(locks);", null },
    };

    public static TheoryData<string, string?> NeverAcquired => new()
    {
        { "using ({|DBLOCK003:conn.CreateLock(\"e\")|}) { }", null },
        { "await using ({|DBLOCK003:new Lock(conn, \"e\")|}) { }", null },
        { "using (var e = {|DBLOCK003:conn.CreateLock(\"e\")|}) { e.ThrowIfLost(); }", null },
        { "using var e = {|DBLOCK003:conn.CreateLock(\"e\")|};", "using var e = conn.CreateLock(\"e\");\ne.Acquire();\n" },
        { "await using var e = {|DBLOCK003:new Shop().Database.CreateLock(\"e\")|};", "await using var e = new Shop().Database.CreateLock(\"e\");\nawait e.AcquireAsync();\n" },
        { "using var e = conn.CreateLock(\"e\"); e.Acquire();", null },
        { "await using var e = new Lock(conn, \"e\"); await e.RunAsync(_ => Task.CompletedTask);", null },
        { "using var e = conn.CreateLock(\"e\"); e.RunInTransaction(_ => { });", null },
        { "using var e = conn.CreateLock(\"e\"); Console.WriteLine(e.GetHolders());", null },
        { "using var e = conn.CreateLock(\"e\"); Work(e); static void Work(Lock l) => l.Acquire();", null },
        { "using var e = conn.CreateLock(\"e\"); Action later = () => e.Acquire(); later();", null },
    };

    [Theory, MemberData(nameof(DroppedAnswers))]
    public Task The_answer_to_a_try_is_looked_at(string code) => VerifyAsync<DroppedAnswerAnalyzer, EmptyCodeFixProvider>(code);

    [Theory, MemberData(nameof(HeldLocks))]
    public Task A_held_lock_is_disposed(string code, string? mended) => VerifyAsync<NeverLetGoAnalyzer, DisposeFix>(code, mended);

    [Theory, MemberData(nameof(NeverAcquired))]
    public Task A_lock_in_a_using_is_acquired(string code, string? mended) => VerifyAsync<NeverAcquiredAnalyzer, AcquireFix>(code, mended);

    [Theory]
    [InlineData("await using ({|CS8410:{|DBLOCK004:await l.AcquireAsync()|}|}) { }")]
    [InlineData("using ({|CS1674:{|DBLOCK004:l.Acquire()|}|}) { }")]
    [InlineData("{|CS8410:await using var held = {|DBLOCK004:await l.AcquireAsync(second)|};|}")]
    [InlineData("await using (await source.AcquireLockAsync(\"y\")) { }")]
    public Task An_answer_is_not_disposed(string code) => VerifyAsync<DisposedAnswerAnalyzer, EmptyCodeFixProvider>(code);

    [Theory]
    [InlineData("{|CS0619:l.Run({|DBLOCK005:async () => await Task.Yield()|})|};", "await l.RunAsync(async {|DBLOCK006:cancellationToken|} => await Task.Yield());")]
    [InlineData("{|CS0619:l.TryRun({|DBLOCK005:async () => { await Task.Yield(); }|})|};", "await l.TryRunAsync(async {|DBLOCK006:cancellationToken|} => { await Task.Yield(); });")]
    [InlineData(
        "{|CS0619:conn.RunLocked({|DBLOCK005:async () => await Task.Yield()|}, \"key\")|};", "await conn.RunLockedAsync(async {|DBLOCK006:cancellationToken|} => await Task.Yield(), \"key\");")]
    [InlineData(
        "l.RunInTransaction({|DBLOCK005:async transaction => await Task.Yield()|});",
        "await l.RunInTransactionAsync(async (transaction, {|DBLOCK006:cancellationToken|}) => await Task.Yield());")]
    [InlineData("_ = l.Run({|DBLOCK005:() => ValueTask.CompletedTask|});", null)]
    [InlineData("conn.RunLocked({|DBLOCK005:WorkAsync|}, \"key\"); static async void WorkAsync() => await Task.Yield();", null)]
    [InlineData("l.Run(() => { }); l.RunInTransaction(transaction => { }); var seven = l.Run(() => 7);", null)]
    public Task An_asynchronous_body_has_an_asynchronous_call(string code, string? mended) => VerifyAsync<BodyAnalyzer, AsynchronousBodyFix>(code, mended);

    [Theory]
    [InlineData("await l.RunAsync(async {|DBLOCK006:_|} => await Task.Delay(1));")]
    [InlineData("await l.RunInTransactionAsync(async (transaction, {|DBLOCK006:token|}) => await Task.Delay(1));")]
    [InlineData("await conn.TryRunLockedAsync({|DBLOCK006:token|} => Task.Delay(1), \"key\");")]
    [InlineData("await l.RunAsync(async token => await Task.Delay(1, token)); await l.RunAsync(_ => Task.CompletedTask);")]
    public Task A_body_looks_at_its_token(string code) => VerifyAsync<BodyAnalyzer, EmptyCodeFixProvider>(code);

    [Fact]
    public Task A_fix_goes_where_await_can_stand() => new Test<BodyAnalyzer, AsynchronousBodyFix>
    {
        TestCode = """
            using System.Threading.Tasks;
            using Lock = DbLock.Lock;

            class C
            {
                async Task M(Lock l) { {|CS0619:l.Run({|DBLOCK005:async () => await Task.Yield()|})|}; }

                void N(Lock l) { {|CS0619:l.Run({|DBLOCK005:async () => await Task.Yield()|})|}; }

                static void Main() { }
            }
            """,
        FixedState =
        {
            Sources =
            {
                """
                using System.Threading.Tasks;
                using Lock = DbLock.Lock;

                class C
                {
                    async Task M(Lock l) { await l.RunAsync(async {|DBLOCK006:cancellationToken|} => await Task.Yield()); }

                    void N(Lock l) { {|CS0619:l.Run({|DBLOCK005:async () => await Task.Yield()|})|}; }

                    static void Main() { }
                }
                """,
            },
            MarkupHandling = MarkupMode.Allow,
        },
        CodeFixTestBehaviors = CodeFixTestBehaviors.SkipFixAllCheck,
    }.RunAsync(TestContext.Current.CancellationToken);

    [Fact]
    public void Each_rule_has_its_section()
    {
        var page = File.ReadAllText(Path.Combine(Compiler.Repository, "docs", "analyzers.md"));
        foreach (var rule in Compiler.Analyzers.SelectMany(analyzer => analyzer.SupportedDiagnostics))
        {
            Assert.Contains(rule.Id, page, StringComparison.Ordinal);
        }
    }

    private static Task VerifyAsync<TAnalyzer, TFix>(string code, string? mended = null)
        where TAnalyzer : DiagnosticAnalyzer, new()
        where TFix : CodeFixProvider, new()
    {
        const string After = "\nclass Shop() : Microsoft.EntityFrameworkCore.DbContext();\n";
        var test = new Test<TAnalyzer, TFix> { TestCode = Before + code + After };
        if (mended is not null)
        {
            test.FixedCode = Before + mended + After;
        }

        return test.RunAsync(TestContext.Current.CancellationToken);
    }

    /// <summary>The program of a user who has every package.</summary>
    private sealed class Test<TAnalyzer, TFix> : CSharpCodeFixTest<TAnalyzer, TFix, DefaultVerifier>
        where TAnalyzer : DiagnosticAnalyzer, new()
        where TFix : CodeFixProvider, new()
    {
        public Test()
        {
            ReferenceAssemblies = new ReferenceAssemblies("net10.0");
            TestState.OutputKind = OutputKind.ConsoleApplication;
            TestState.AdditionalReferences.AddRange(Compiler.References);
        }
    }
}
