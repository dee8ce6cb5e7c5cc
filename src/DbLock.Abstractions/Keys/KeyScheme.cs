namespace DbLock;

/// <summary>The way a library turns a name into the number that PostgreSQL locks.</summary>
/// <remarks>
/// Two programs share a PostgreSQL lock when they agree on the number, not on the name. Every scheme hashes the UTF-8
/// bytes of the text exactly as given: nothing is trimmed, folded or normalised. Engines that lock names
/// (SQL Server, MySQL, MariaDB) are given the text itself, whatever the scheme.
/// </remarks>
public enum KeyScheme
{
    /// <summary>
    /// postgresql-lock 0.1.6 and later (Python), and DbLock's default: SHA-1, first 8 bytes, big-endian. A number is hashed as its decimal
    /// text.
    /// </summary>
    PostgresqlLock,

    /// <summary>django-pglock (Python): SHA-256, first 8 bytes, little-endian. A number is used as it is.</summary>
    DjangoPglock,

    /// <summary>
    /// django-pglocks 1.x (Python): CRC-32 as a signed 32-bit number, sign-extended. A number is used as it is. Names collide early (32
    /// bits).
    /// </summary>
    DjangoPglocks1,

    /// <summary>django-pglocks 2.x (Python): SHA-256, first 8 bytes, big-endian. A number is used as it is.</summary>
    DjangoPglocks2,

    /// <summary>
    /// DistributedLock.Postgres (.NET) with hashing allowed: up to 9 ASCII characters are packed into a pair, 16 hexadecimal digits are a
    /// number, 8 digits, a comma and 8 digits are a pair, anything else is SHA-1, first 8 bytes, little-endian. A number is used as it is.
    /// </summary>
    DistributedLock,

    /// <summary>
    /// with_advisory_lock (Ruby) without a prefix: the pair (CRC-32 without its sign bit, 0). A number keeps its low 31 bits in the same
    /// way.
    /// </summary>
    WithAdvisoryLock,

    /// <summary>sqlx's PgAdvisoryLock (Rust): HKDF-SHA-256, 8 bytes, little-endian. A number is used as it is.</summary>
    Sqlx,

    /// <summary>good_job (Ruby): MD5, first 8 bytes, big-endian. It has no numeric keys.</summary>
    GoodJob,

    /// <summary>
    /// pals (Python): SHA-1, first 8 bytes, little-endian, of the name, or of <c>app.name</c> where an application name is set. It has no
    /// numeric keys.
    /// </summary>
    Pals,
}
