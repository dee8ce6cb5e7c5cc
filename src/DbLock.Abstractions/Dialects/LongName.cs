using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace DbLock;

/// <summary>
/// Shortens names that are longer than the engine accepts, and names with a NUL, at which engines and drivers end a text (measured on
/// MariaDB). Such a name is hashed and never only cut, because two names with the same beginning would become one lock.
/// </summary>
internal static class LongName
{
    /// <summary>
    /// Returns the name, if it fits. Otherwise it returns as much of its beginning as fits, a colon, and the first 160 bits of the SHA-256
    /// of the whole name in hexadecimal.
    /// </summary>
    /// <param name="name">The name.</param>
    /// <param name="hashed">What is hashed: the name, folded where the engine folds it.</param>
    /// <param name="limit">The engine's limit.</param>
    /// <param name="measure">Measures a text as the engine does.</param>
    public static string Shorten(string name, string hashed, int limit, Func<string, int> measure)
    {
        var hasNul = name.Contains('\0', StringComparison.Ordinal);
        if (measure(name) <= limit && !hasNul)
        {
            return name;
        }

        var hash = ":" + Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(hashed)))[..40];
        var beginning = new StringBuilder();
        var room = limit - hash.Length;
        foreach (var rune in name.EnumerateRunes())
        {
            room -= measure(rune.ToString());
            if (room < 0 || rune.Value == 0)
            {
                break;
            }

            beginning.Append(CultureInfo.InvariantCulture, $"{rune}");
        }

        return beginning.Append(hash).ToString();
    }
}
