using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.FileProviders;
using Microsoft.Extensions.Logging;

namespace DbLock.PublishTests;

/// <summary>The site, served as files and looked at in Chromium, wide and narrow.</summary>
public sealed class SiteTests(SiteTests.Served served) : IClassFixture<SiteTests.Served>
{
    [Theory]
    [InlineData("index.html", "DbLock", "TryAcquireLockAsync", 1280), InlineData("index.html", "DbLock", "TryAcquireLockAsync", 390)]
    [InlineData("locking.html", "Locking", "conn.CreateLock", 1280), InlineData("locking.html", "Locking", "conn.CreateLock", 390)]
    [InlineData("api/DbLock.Lock.html", "Class Lock", "AcquireAsync", 1280), InlineData("api/DbLock.Lock.html", "Class Lock", "AcquireAsync", 390)]
    public async Task A_page_has_its_heading_its_code_and_its_pictures_and_nothing_is_cut_off(string page, string heading, string code, int width)
    {
        await using var browser = await Browser.StartAsync();
        await browser.OpenAsync($"{served.Address}/{page}", width);
        await browser.TakePictureAsync($"{page.Replace('/', '-')}-{width}");

        Assert.StartsWith(heading, (string?)await browser.EvaluateAsync("document.querySelector('h1').innerText"), StringComparison.Ordinal);
        Assert.Contains(code, (string?)await browser.EvaluateAsync("[...document.querySelectorAll('pre')].map(pre => pre.innerText).join('\\n')"), StringComparison.Ordinal);
        Assert.Equal("", (string?)await browser.EvaluateAsync("[...document.images].filter(image => image.naturalWidth == 0).map(image => image.src).join()"));
        Assert.True((bool)(await browser.EvaluateAsync("document.documentElement.scrollWidth <= innerWidth"))!, "The page is wider than the window.");
        Assert.Equal("", (string?)await browser.EvaluateAsync("[...document.querySelectorAll('article a')].filter(link => !link.closest('pre, table') && link.getBoundingClientRect().right > innerWidth).map(link => link.innerText).join()"));
    }

    [Fact]
    public async Task The_search_finds_a_page_by_a_word_of_it()
    {
        await using var browser = await Browser.StartAsync();
        await browser.OpenAsync($"{served.Address}/index.html", 1280);
        await browser.UntilAsync("document.querySelector('#search-query:enabled')");
        await browser.EvaluateAsync("document.querySelector('#search-query').focus()");
        await browser.TypeAsync("fencing");
        await browser.UntilAsync("[...document.querySelectorAll('#search-results a')].some(found => found.href.includes('fencing.html'))");
        await browser.TakePictureAsync("search");
    }

    /// <summary>A static host.</summary>
    public sealed class Served : IAsyncLifetime
    {
        private WebApplication? _host;

        public string Address => _host!.Urls.Single();

        public async ValueTask InitializeAsync()
        {
            var builder = WebApplication.CreateSlimBuilder();
            builder.Logging.ClearProviders();
            builder.WebHost.UseUrls("http://127.0.0.1:0");
            _host = builder.Build();
            _host.UseFileServer(new FileServerOptions { FileProvider = new PhysicalFileProvider(Made.Site), StaticFileOptions = { ServeUnknownFileTypes = true } });
            await _host.StartAsync();
        }

        public async ValueTask DisposeAsync() => await _host!.DisposeAsync();
    }
}
