using System.Globalization;
using System.Net;
using System.Text;

namespace DbLock.Benchmarks;

/// <summary>Curves over one axis.</summary>
/// <param name="Title">What is drawn, and its unit.</param>
/// <param name="Axis">What grows to the right.</param>
/// <param name="Lines">The curves, by name.</param>
internal sealed record Curves(string Title, string Axis, IReadOnlyList<(string Name, IReadOnlyList<(double X, double Y)> Points)> Lines);

/// <summary>Draws SVG.</summary>
internal static class Picture
{
    private const int Left = 20;
    private const int Width = 900;
    private static readonly string[] Colours = ["#2f6fab", "#c46a2f", "#5a8f3c"];

    /// <summary>Draws two bars for each row, on a logarithmic axis: DbLock's and DistributedLock's.</summary>
    public static string OfPairs(string title, IReadOnlyList<(string What, double DbLock, double Peer)> rows)
    {
        var most = rows.Max(row => Math.Max(row.DbLock, row.Peer));
        var least = rows.Min(row => Math.Min(row.DbLock, row.Peer)) / 2;
        double Length(double value) => Math.Log(value / least) / Math.Log(most / least) * (Width - Left - 90);
        var svg = Begin((rows.Count * 52) + 50);
        Text(svg, Left, 22, title, weight: "bold", size: 14);
        Legend(svg, 560, 22, ["DbLock", "DistributedLock"]);
        for (var i = 0; i < rows.Count; i++)
        {
            var (what, own, peer) = rows[i];
            var y = (i * 52) + 42;
            Text(svg, Left, y + 10, what);
            Bar(y + 15, own, Colours[0]);
            Bar(y + 29, peer, Colours[1]);
        }

        return End(svg);

        void Bar(int y, double value, string colour)
        {
            Add(svg, $"<rect x=\"{Left}\" y=\"{y}\" width=\"{Length(value):0}\" height=\"12\" fill=\"{colour}\"/>");
            Text(svg, Left + Length(value) + 5, y + 10, string.Create(CultureInfo.InvariantCulture, $"{value:N0} µs"));
        }
    }

    /// <summary>Draws a diagram for each of the curves, both axes logarithmic.</summary>
    public static string OfCurves(IReadOnlyList<Curves> all)
    {
        const int Tall = 230, Wide = 440;
        var svg = Begin(((all.Count + 1) / 2 * Tall) + 10);
        for (var n = 0; n < all.Count; n++)
        {
            var curves = all[n];
            var (left, top) = ((n % 2 * Wide) + 70, (n / 2 * Tall) + 50);
            var points = curves.Lines.SelectMany(line => line.Points).ToList();
            var (minX, maxX) = (points.Min(point => point.X), points.Max(point => point.X));
            var (minY, maxY) = (Math.Pow(10, Math.Floor(Math.Log10(points.Min(point => point.Y)))), Math.Pow(10, Math.Ceiling(Math.Log10(points.Max(point => point.Y)))));
            double X(double value) => left + (Math.Log(value / minX) / Math.Log(maxX / minX) * 340);
            double Y(double value) => top + 130 - (Math.Log(value / minY) / Math.Log(maxY / minY) * 130);
            Text(svg, left - 50, top - 30, curves.Title, weight: "bold", size: 12);
            Legend(svg, left - 50, top - 14, [.. curves.Lines.Select(line => line.Name)]);
            for (var y = minY; y <= maxY * 1.01; y *= 10)
            {
                Add(svg, $"<line x1=\"{left}\" y1=\"{Y(y):0.0}\" x2=\"{left + 340}\" y2=\"{Y(y):0.0}\" stroke=\"#ddd\"/>");
                Text(svg, left - 5, Y(y) + 4, Number(y), anchor: "end");
            }

            foreach (var x in points.Select(point => point.X).Distinct())
            {
                Text(svg, X(x), top + 145, Number(x), anchor: "middle");
            }

            Text(svg, left + 170, top + 162, curves.Axis, anchor: "middle");
            for (var i = 0; i < curves.Lines.Count; i++)
            {
                var path = string.Join(' ', curves.Lines[i].Points.Select(point => string.Create(CultureInfo.InvariantCulture, $"{X(point.X):0.0},{Y(point.Y):0.0}")));
                Add(svg, $"<polyline points=\"{path}\" fill=\"none\" stroke=\"{Colours[i]}\" stroke-width=\"2\"/>");
                foreach (var (x, y) in curves.Lines[i].Points)
                {
                    Add(svg, $"<circle cx=\"{X(x):0.0}\" cy=\"{Y(y):0.0}\" r=\"3\" fill=\"{Colours[i]}\"/>");
                }
            }
        }

        return End(svg);
    }

    private static string Number(double value) => value >= 1
        ? value.ToString("N0", CultureInfo.InvariantCulture) : value.ToString("0.####", CultureInfo.InvariantCulture);

    private static StringBuilder Begin(int height)
    {
        var svg = new StringBuilder();
        Add(svg, $"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{Width}\" height=\"{height}\" viewBox=\"0 0 {Width} {height}\" font-family=\"sans-serif\" font-size=\"11\">");
        Add(svg, $"<rect width=\"{Width}\" height=\"{height}\" fill=\"white\"/>");
        return svg;
    }

    private static string End(StringBuilder svg) => svg.Append("</svg>\n").ToString();

    private static void Legend(StringBuilder svg, double x, double y, IReadOnlyList<string> names)
    {
        for (var i = 0; i < names.Count && names.Count > 1; i++)
        {
            Add(svg, $"<rect x=\"{x:0}\" y=\"{y - 9:0}\" width=\"10\" height=\"10\" fill=\"{Colours[i]}\"/>");
            Text(svg, x + 14, y, names[i]);
            x += 30 + (6.2 * names[i].Length);
        }
    }

    private static void Text(StringBuilder svg, double x, double y, string text, string anchor = "start", string weight = "normal", int size = 11) =>
        Add(svg, $"<text x=\"{x:0.0}\" y=\"{y:0.0}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\" font-size=\"{size}\">{WebUtility.HtmlEncode(text)}</text>");

    private static void Add(StringBuilder svg, FormattableString line) => svg.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
}
