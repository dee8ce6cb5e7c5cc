using System.Reflection;

namespace DbLock;

/// <summary>Reads what the known providers keep in members that are not public, for which there is no other way.</summary>
internal static class PrivateMembers
{
    private const BindingFlags All = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic;

    /// <summary>Follows properties and fields by their names.</summary>
    /// <param name="from">Where the way begins.</param>
    /// <param name="path">The names.</param>
    /// <param name="place">What the way leads to; null where one of them is null.</param>
    /// <returns>False when the provider, or its version, has no member of such a name.</returns>
    public static bool TryFollow(object from, ReadOnlySpan<string> path, out object? place)
    {
        place = from;
        foreach (var name in path)
        {
            if (place is null)
            {
                break;
            }

            if (place.GetType().GetProperty(name, All) is { } property)
            {
                place = property.GetValue(place);
            }
            else if (place.GetType().GetField(name, All) is { } field)
            {
                place = field.GetValue(place);
            }
            else
            {
                place = null;
                return false;
            }
        }

        return true;
    }

    /// <summary>Follows properties and fields by their names; null where one is null or unknown.</summary>
    public static object? Follow(object from, params ReadOnlySpan<string> path) => TryFollow(from, path, out var place) ? place : null;
}
