using System.Net;
using DbLock.LocalServers;
using Npgsql;
using Xunit.Sdk;
using Xunit.v3;

// As many as there are cores on the smallest machine that runs them: they compile.
[assembly: Parallelization(Mode = ParallelMode.All, MaxThreads = 2)]

namespace DbLock.PublishTests;

/// <summary>
/// Somebody who has the SDK, a server and the folder of packages follows the page of each package, as it stands. In its code only the
/// connection string becomes that of the server.
/// </summary>
public sealed class StrangerTests(StrangerTests.Servers servers) : IClassFixture<StrangerTests.Servers>
{
    [Fact]
    public async Task The_page_of_DbLock()
    {
        using var workplace = new Workplace();
        var database = await servers.CreateDatabaseAsync();
        var project = await FollowAsync(workplace, "DbLock", "console", database);
        Assert.Contains("Nobody else is at it", await workplace.RunAsync(project, "dotnet", "run"), StringComparison.Ordinal);

        await using var other = new NpgsqlConnection(database + ";Pooling=false");
        await other.OpenAsync();
        await using var command = other.CreateCommand();
        command.CommandText = "select pg_advisory_lock(('x' || substr(encode(sha1, 'hex'), 1, 16))::bit(64)::bigint) from (select $1::bytea as sha1) as of";
#pragma warning disable CA5350 // the number that DbLock and postgresql-lock make of a name
        command.Parameters.Add(new() { Value = System.Security.Cryptography.SHA1.HashData("nightly-report"u8) });
#pragma warning restore CA5350
        await command.ExecuteNonQueryAsync();

        Assert.Contains("Somebody else is at it.", await workplace.RunAsync(project, "dotnet", "run", "--no-build"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("DbLock.Npgsql", "advisory lock 'nightly-report'")]
    [InlineData("DbLock.AdoNet", "Nobody else is at it.")]
    [InlineData("DbLock.EntityFrameworkCore", "Nobody else is at it.")]
    [InlineData("DbLock.InMemory", "True, False")]
    public async Task The_page_of_a_package_for_a_console(string package, string told)
    {
        using var workplace = new Workplace();
        var project = await FollowAsync(workplace, package, "console");
        Assert.Contains(told, await workplace.RunAsync(project, "dotnet", "run"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_mistake_with_a_lock_does_not_compile()
    {
        using var workplace = new Workplace();
        var project = await FollowAsync(workplace, "DbLock", "console");
        await File.AppendAllTextAsync(Path.Combine(project, "Program.cs"), "\nawait database.AcquireLockAsync(\"y\");\n");
        var error = await Assert.ThrowsAsync<InvalidOperationException>(() => workplace.RunAsync(project, "dotnet", "build"));
        Assert.Contains("error DBLOCK002", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_page_of_DbLock_Abstractions()
    {
        using var workplace = new Workplace();
        await workplace.RunAsync(await FollowAsync(workplace, "DbLock.Abstractions", "classlib"), "dotnet", "build");
    }

    [Fact]
    public async Task The_page_of_DbLock_Hosting()
    {
        using var workplace = new Workplace();
        var project = await FollowAsync(workplace, "DbLock.Hosting", "web");
        await workplace.RunAsync(project, "dotnet", "build");
        using var application = workplace.Start(
            project, "dotnet", "run", "--no-build", "--no-launch-profile", "--", "--urls", "http://127.0.0.1:0", "--ConnectionStrings:Default", servers.PostgreSql.ConnectionString);
        try
        {
            const string Listening = "Now listening on: ";
            string? line;
            do
            {
                line = await application.StandardOutput.ReadLineAsync();
            }
            while (line?.Contains(Listening, StringComparison.Ordinal) == false);

            var address = new Uri((line ?? throw new InvalidOperationException(await application.StandardError.ReadToEndAsync())).Split(Listening)[1]);
            using var client = new HttpClient();
            Assert.Equal(HttpStatusCode.OK, (await client.PostAsync(new Uri(address, "/customers/42/import"), null)).StatusCode);
        }
        finally
        {
            application.Kill(entireProcessTree: true);
            await application.WaitForExitAsync();
        }
    }

    [Fact]
    public async Task The_page_of_DbLock_Cli()
    {
        using var workplace = new Workplace();
        var readme = PackageReadme.Of("DbLock.Cli");
        await workplace.RunAsync(workplace.Folder, "sh", "-ec", "printf '#!/bin/sh\necho reported $1\n' >report && chmod +x report");
        await workplace.RunAsync(workplace.Folder, "sh", "-ec", string.Join('\n', readme.Commands));
        var connection = $"export DBLOCK_CONNECTION='{servers.PostgreSql.ConnectionString}' PATH=\"$DOTNET_CLI_HOME/.dotnet/tools:$PATH\"";
        Assert.Contains("reported --all", await workplace.RunAsync(workplace.Folder, "sh", "-ec", string.Join('\n', [connection, .. readme.NextCommands])), StringComparison.Ordinal);
    }

    // A new project of the SDK's, the commands of the page, and its first example.
    private async Task<string> FollowAsync(Workplace workplace, string package, string template, string? database = null)
    {
        var readme = PackageReadme.Of(package);
        var project = Path.Combine(workplace.Folder, "hello");
        await workplace.RunAsync(workplace.Folder, "dotnet", "new", template, "--no-restore", "--output", project);
        foreach (var source in Directory.GetFiles(project, "*.cs"))
        {
            File.Delete(source);
        }

        File.WriteAllText(Path.Combine(project, "Program.cs"), readme.Example
            .Replace("Host=localhost;Username=app;Password=secret", database ?? servers.PostgreSql.ConnectionString, StringComparison.Ordinal)
            .Replace("Server=localhost;User=app;Password=secret", servers.MariaDb.ConnectionString, StringComparison.Ordinal));
        await workplace.RunAsync(project, "sh", "-ec", string.Join('\n', readme.Commands));
        return project;
    }

    /// <summary>The servers, one of each.</summary>
    public sealed class Servers : IAsyncLifetime
    {
        public PostgreSqlServer PostgreSql { get; private set; } = null!;

        public MariaDbServer MariaDb { get; private set; } = null!;

        /// <summary>Creates a database, which has locks of its own, and returns its connection string.</summary>
        public async Task<string> CreateDatabaseAsync()
        {
            var name = $"stranger_{Guid.NewGuid():N}";
            await using var source = NpgsqlDataSource.Create(PostgreSql.ConnectionString);
            await using var command = source.CreateCommand($"create database {name}");
            await command.ExecuteNonQueryAsync();
            return new NpgsqlConnectionStringBuilder(PostgreSql.ConnectionString) { Database = name }.ConnectionString;
        }

        public async ValueTask InitializeAsync() => (PostgreSql, MariaDb) = (await PostgreSqlServer.StartAsync(), await MariaDbServer.StartAsync());

        public async ValueTask DisposeAsync()
        {
            await PostgreSql.DisposeAsync();
            await MariaDb.DisposeAsync();
        }
    }
}
