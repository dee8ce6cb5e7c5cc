namespace DbLock;

/// <summary>Which modes keep each other out.</summary>
internal static class PgLockModeExtensions
{
    // The rows of the table of conflicts: https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
    private static readonly Dictionary<PgLockMode, PgLockMode[]> Conflicts = new()
    {
        [PgLockMode.AccessShare] = [PgLockMode.AccessExclusive],
        [PgLockMode.RowShare] = [PgLockMode.Exclusive, PgLockMode.AccessExclusive],
        [PgLockMode.RowExclusive] = [PgLockMode.Share, PgLockMode.ShareRowExclusive, PgLockMode.Exclusive, PgLockMode.AccessExclusive],
        [PgLockMode.ShareUpdateExclusive] =
        [
            PgLockMode.ShareUpdateExclusive, PgLockMode.Share, PgLockMode.ShareRowExclusive, PgLockMode.Exclusive,
            PgLockMode.AccessExclusive,
        ],
        [PgLockMode.Share] =
        [
            PgLockMode.RowExclusive, PgLockMode.ShareUpdateExclusive, PgLockMode.ShareRowExclusive, PgLockMode.Exclusive,
            PgLockMode.AccessExclusive,
        ],
        [PgLockMode.ShareRowExclusive] =
        [
            PgLockMode.RowExclusive, PgLockMode.ShareUpdateExclusive, PgLockMode.Share, PgLockMode.ShareRowExclusive,
            PgLockMode.Exclusive, PgLockMode.AccessExclusive,
        ],
        [PgLockMode.Exclusive] =
        [
            PgLockMode.RowShare, PgLockMode.RowExclusive, PgLockMode.ShareUpdateExclusive, PgLockMode.Share,
            PgLockMode.ShareRowExclusive, PgLockMode.Exclusive, PgLockMode.AccessExclusive,
        ],
        [PgLockMode.AccessExclusive] =
        [
            PgLockMode.AccessShare, PgLockMode.RowShare, PgLockMode.RowExclusive, PgLockMode.ShareUpdateExclusive, PgLockMode.Share,
            PgLockMode.ShareRowExclusive, PgLockMode.Exclusive, PgLockMode.AccessExclusive,
        ],
        [PgLockMode.SIRead] = [],
    };

    /// <summary>Says whether one mode keeps another out.</summary>
    public static bool ConflictsWith(this PgLockMode mode, PgLockMode other) => Conflicts[mode].Contains(other);

    /// <summary>Reads a mode as <c>pg_locks</c> writes it: <c>AccessShareLock</c>.</summary>
    public static PgLockMode Parse(string mode) => Enum.Parse<PgLockMode>(mode[..^"Lock".Length]);

    /// <summary>Returns the mode as <c>pg_locks</c> writes it.</summary>
    public static string InPgLocks(this PgLockMode mode) => $"{mode}Lock";
}
