using System.Collections.Concurrent;
using System.Data;
using System.Text;

namespace DbLock.Drivers;

/// <summary>
/// What is said to a server to keep leases in a table: a dialect writes the texts of one engine, and never sees a connection.
/// </summary>
/// <remarks><b>Threads.</b> A dialect has no state but its texts and is shared by every lease.</remarks>
public abstract class LeaseDialect
{
    private readonly ConcurrentDictionary<LeaseTable, LeaseTexts> _texts = [];

    /// <summary>Gets by how much the clocks of two servers may differ that can serve one after another: one second by default.</summary>
    public virtual TimeSpan ClockMargin => TimeSpan.FromSeconds(1);

    /// <summary>Gets whether the provider blocks its caller also when it is asked not to; false by default.</summary>
    public virtual bool IsBlocking => false;

    /// <summary>Writes the texts for a table.</summary>
    /// <param name="table">The table.</param>
    protected abstract LeaseTexts Write(LeaseTable table);

    /// <summary>
    /// Returns the name under which a key stands in the table: the key's own, or its beginning and a hash when it is longer than 512 bytes
    /// of UTF-8 or has a NUL.
    /// </summary>
    /// <param name="key">The key; a single one.</param>
    public virtual string Name(LockKey key)
    {
        ArgumentNullException.ThrowIfNull(key);
        return LongName.Shorten(key.Name, key.Name, LeaseRow.LongestName, Encoding.UTF8.GetByteCount);
    }

    /// <summary>Says what an error means.</summary>
    /// <param name="codes">The error's codes.</param>
    public abstract LeaseTrouble Read(DbError codes);

    /// <summary>Returns the statement that creates the table, if there is none.</summary>
    /// <param name="table">The table.</param>
    public string Create(LeaseTable table) => Texts(table).Create;

    /// <summary>Returns the statement that takes leases which nobody has: each of its own, or all or none.</summary>
    /// <param name="table">The table.</param>
    /// <param name="rows">The rows, in the order of their names' bytes.</param>
    /// <param name="allOrNone">Whether the rows are taken all or none; they have one owner then.</param>
    public LockStatement Acquire(LeaseTable table, IReadOnlyList<LeaseRow> rows, bool allOrNone) =>
        Say(allOrNone ? Texts(table).AcquireAll : Texts(table).Acquire, rows);

    /// <summary>Returns the statement that renews leases which have not run out.</summary>
    /// <param name="table">The table.</param>
    /// <param name="rows">The rows, in the order of their names' bytes.</param>
    public LockStatement Renew(LeaseTable table, IReadOnlyList<LeaseRow> rows) => Say(Texts(table).Renew, rows);

    /// <summary>Returns the statement that lets go of leases.</summary>
    /// <param name="table">The table.</param>
    /// <param name="rows">The rows, in the order of their names' bytes.</param>
    public LockStatement Release(LeaseTable table, IReadOnlyList<LeaseRow> rows) => Say(Texts(table).Release, rows);

    /// <summary>Returns the statement that asks for the leases of some names that are not free.</summary>
    /// <param name="table">The table.</param>
    /// <param name="rows">The rows; those without a name ask for all leases.</param>
    public LockStatement Look(LeaseTable table, IReadOnlyList<LeaseRow> rows) => Say(Texts(table).Look, rows);

    /// <summary>Gets whether keys can have slots.</summary>
    /// <param name="table">The table.</param>
    public bool HasSlots(LeaseTable table) => Texts(table).AcquireSlot.Length > 0;

    /// <summary>Returns the statement that takes one slot that nobody has.</summary>
    /// <param name="table">The table.</param>
    /// <param name="row">The row, whose slot is the number of slots.</param>
    public LockStatement AcquireSlot(LeaseTable table, LeaseRow row) => Say(Texts(table).AcquireSlot, [row]);

    /// <summary>Returns the statement that makes the rows of slots that do not exist yet.</summary>
    /// <param name="table">The table.</param>
    /// <param name="rows">The rows, in the order of their slots.</param>
    public LockStatement MakeSlots(LeaseTable table, IReadOnlyList<LeaseRow> rows) => Say(Texts(table).MakeSlots, rows);

    /// <summary>
    /// Returns the statement that fails, or answers with <see cref="LeaseReply.Uncommitted"/>, where what was written just before on the
    /// same connection is not committed yet. It has no command where the answers to the others tell.
    /// </summary>
    /// <param name="table">The table.</param>
    public LockStatement Committed(LeaseTable table) => Say(Texts(table).Committed, []);

    /// <summary>Returns the statement that deletes old rows, where tokens cannot go back without them.</summary>
    /// <param name="table">The table.</param>
    public LockStatement Clear(LeaseTable table) => Say(Texts(table).Clear, []);

    private LeaseTexts Texts(LeaseTable table) => _texts.GetOrAdd(table, static (table, dialect) => dialect.Write(table), this);

    private static LockStatement Say(LockSql[] texts, IReadOnlyList<LeaseRow> rows)
    {
        var json = new LockParameter(DbType.String, LeaseRow.ToJson(rows));
        return new LockStatement(Array.ConvertAll(texts, text => new LockCommand(text, text.Order.Count == 0 ? [] : [json])));
    }
}
