using System.IO.Compression;
using System.Xml.Linq;

namespace DbLock.PublishTests;

/// <summary>What is in the packages.</summary>
public sealed class PackageTests
{
    private static readonly string[] Libraries = ["DbLock.Abstractions", "DbLock.AdoNet", "DbLock.EntityFrameworkCore", "DbLock.Hosting", "DbLock.InMemory", "DbLock.Npgsql"];

    private static IEnumerable<(string File, XElement Nuspec)> Packages => Directory.GetFiles(Made.Packages, "*.nupkg").Select(file => (Path.GetFileName(file), Nuspec(file)));

    [Fact]
    public void All_packages_have_one_version()
    {
        string[] expected = ["DbLock", "DbLock.Cli", .. Libraries];
        Assert.Subset(Packages.Select(package => Value(package.Nuspec, "id")).ToHashSet(), expected.ToHashSet());
        Assert.Single(Packages.Select(package => Value(package.Nuspec, "version")).Distinct());
    }

    [Fact]
    public void Each_package_says_what_it_is()
    {
        foreach (var (file, nuspec) in Packages)
        {
            using var archive = ZipFile.OpenRead(Path.Combine(Made.Packages, file));
            Assert.NotNull(archive.GetEntry("icon.png"));
            Assert.Equal(("icon.png", "README.md", "MIT"), (Value(nuspec, "icon"), Value(nuspec, "readme"), Value(nuspec, "license")));
            Assert.StartsWith("## ", Value(nuspec, "releaseNotes"), StringComparison.Ordinal);
            Assert.NotEqual("Package Description", Value(nuspec, "description"));
            using var readme = new StreamReader(archive.GetEntry("README.md")!.Open());
            Assert.InRange(readme.ReadToEnd().Count(character => character == '\n'), 15, 35);
        }
    }

    [Fact]
    public void Each_library_has_its_symbols_beside_it()
    {
        foreach (var library in Libraries)
        {
            using var archive = ZipFile.OpenRead(Assert.Single(Directory.GetFiles(Made.Packages, $"{library}.*.snupkg")));
            Assert.NotNull(archive.GetEntry($"lib/net10.0/{library}.pdb"));
        }
    }

    [Fact]
    public void The_analyzers_are_in_the_core_and_come_with_every_package()
    {
        using var core = ZipFile.OpenRead(Assert.Single(Directory.GetFiles(Made.Packages, "DbLock.Abstractions.*.nupkg")));
        Assert.NotNull(core.GetEntry("analyzers/dotnet/cs/DbLock.Analyzers.dll"));
        var ours = Packages.SelectMany(package => package.Nuspec.Descendants()).Where(element => element.Name.LocalName == "dependency" && ((string)element.Attribute("id")!).StartsWith("DbLock", StringComparison.Ordinal)).ToList();
        Assert.NotEmpty(ours);
        Assert.All(ours, dependency => Assert.Null(dependency.Attribute("exclude")));
    }

    private static XElement Nuspec(string file)
    {
        using var archive = ZipFile.OpenRead(file);
        using var nuspec = archive.Entries.Single(entry => entry.Name.EndsWith(".nuspec", StringComparison.Ordinal)).Open();
        return XElement.Load(nuspec);
    }

    private static string Value(XElement nuspec, string name) => nuspec.Descendants().First(element => element.Name.LocalName == name).Value;
}
