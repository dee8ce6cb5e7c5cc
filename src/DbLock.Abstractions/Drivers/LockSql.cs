using System.Globalization;
using System.Text.RegularExpressions;

namespace DbLock.Drivers;

/// <summary>
/// The text of one SQL command, with its parameters written as <c>{0}</c>, <c>{1}</c> and so on, ready in every form that drivers need.
/// </summary>
/// <remarks>Make each text once and keep it in a static field, so that servers and drivers see the same few texts again.</remarks>
public sealed partial class LockSql
{
    // Parts of the text at even indexes, numbers of parameters at odd ones.
    private readonly string[] _parts;

    /// <summary>Initializes a new instance from a template.</summary>
    /// <param name="template">SQL in which <c>{n}</c> stands for parameter n, counted from 0. A parameter may stand more than once.</param>
    public LockSql(string template)
    {
        ArgumentNullException.ThrowIfNull(template);
        _parts = Marker().Split(template);
        Order = [.. _parts.Where((_, i) => i % 2 == 1).Select(number => int.Parse(number, CultureInfo.InvariantCulture))];
    }

    /// <summary>Gets the text with <c>$1</c>, <c>$2</c> … as markers.</summary>
    public string Numbered => field ??= Format(n => string.Create(CultureInfo.InvariantCulture, $"${n + 1}"));

    /// <summary>Gets the text with <c>@p0</c>, <c>@p1</c> … as markers.</summary>
    public string Named => field ??= Format(n => string.Create(CultureInfo.InvariantCulture, $"@p{n}"));

    /// <summary>Gets the text with <c>?</c> as markers; <see cref="Order"/> says which parameter each one stands for.</summary>
    public string Positional => field ??= Format(_ => "?");

    /// <summary>Gets the parameter of each <c>?</c> of <see cref="Positional"/>, counted from 0.</summary>
    public IReadOnlyList<int> Order { get; }

    /// <summary>Returns the text with markers of another form.</summary>
    /// <param name="marker">Writes the marker of parameter n, counted from 0, for each time that it stands there.</param>
    public string Format(Func<int, string> marker)
    {
        ArgumentNullException.ThrowIfNull(marker);
        var parts = new string[_parts.Length];
        for (var i = 0; i < parts.Length; i++)
        {
            parts[i] = i % 2 == 0 ? _parts[i] : marker(Order[i / 2]);
        }

        return string.Concat(parts);
    }

    /// <summary>Returns the text with <c>$1</c>, <c>$2</c> … as markers.</summary>
    public override string ToString() => Numbered;

    [GeneratedRegex(@"\{([0-9]+)\}")]
    private static partial Regex Marker();
}
