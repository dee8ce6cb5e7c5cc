using System.Buffers;
using System.Data;
using System.Globalization;
using System.Text;
using System.Text.Json;

namespace DbLock;

/// <summary>A session of SQL Server that carries the locks of a pool: several sp_getapplock without a wait in one batch.</summary>
/// <remarks>
/// One text serves any number of locks, which come as JSON (compatibility level 130). The engine has no bell here and no statement that
/// lets go of everything, so that the pool's session is ended instead.
/// </remarks>
internal sealed class SqlServerCarrier(Func<LockKey, string> nameOf) : LockCarrier
{
    private static readonly LockSql LookSql = new($"select {SqlServerTexts.Trust}");

    private static readonly LockSql AreHeldSql = new("""
        select coalesce((
          select case applock_mode('public', n.value, 'Session') when 'NoLock' then '0' else '1' end as [text()]
          from openjson({0}) as n order by cast(n.[key] as int) for xml path('')), '')
        """);

    private static readonly LockSql Plain = Carrying(fencing: false);
    private static readonly LockSql Fenced = Carrying(fencing: true);

    public override bool LocksNames => true;

    public override bool MayPrepare => false;

    public override int MostPerStatement => 1024;

    public override LockStatement? ReleaseAll => null;

    public override LockStatement Look(int? sessionId) => new(new LockCommand(LookSql));

    public override long ReadRoom(object? answer)
    {
        if (answer is null or DBNull)
        {
            throw NotAnswered();
        }

        var isReadOnly = Convert.ToInt32(answer, CultureInfo.InvariantCulture) == SqlServerTexts.ReadOnly;
        return isReadOnly ? throw SqlServerTexts.NotWritable() : long.MaxValue;
    }

    public override LockStatement Carry(
        IReadOnlyList<CarriedLock> releases, IReadOnlyList<CarriedLock> acquires, string bell, bool fencing, bool counts) =>
        new(new LockCommand(fencing ? Fenced : Plain, Names(releases), Acquires(acquires)));

    public override LockStatement AreHeld(IReadOnlyList<CarriedLock> locks) => new(new LockCommand(AreHeldSql, Names(locks)));

    public override LockStatement Holders(IReadOnlyCollection<LockKey> keys) => SqlServerHolders.Question(keys.Select(nameOf));

    public override IReadOnlyDictionary<LockKey, LockHolders> ReadHolders(IReadOnlyCollection<LockKey> keys, object? answer) =>
        keys.Zip(SqlServerHolders.Read([.. keys], nameOf, answer)).ToDictionary(static one => one.First, static one => one.Second);

    // https://learn.microsoft.com/sql/relational-databases/errors-events/mssqlserver-1204-database-engine-error
    public override bool IsFull(DbError codes) => codes.Number == 1204;

    private LockParameter Names(IReadOnlyList<CarriedLock> locks) =>
        new(DbType.String, SqlServerNames.ToJson(locks.Select(one => nameOf(one.Key!))));

    // Of each lock the name, the mode and the number of its group.
    private LockParameter Acquires(IReadOnlyList<CarriedLock> locks)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartArray();
            foreach (var one in locks)
            {
                json.WriteStartArray();
                json.WriteStringValue(nameOf(one.Key!));
                json.WriteStringValue(one.Shared ? "Shared" : "Exclusive");
                json.WriteNumberValue(one.Group);
                json.WriteEndArray();
            }

            json.WriteEndArray();
        }

        return new(DbType.String, Encoding.UTF8.GetString(buffer.WrittenSpan));
    }

    // A lock that the session holds already would be granted once more, so it is asked for first. NOCOUNT keeps the counts of rows from
    // coming before the answer over ODBC; it ends with the batch that a driver sends with parameters.
    private static LockSql Carrying(bool fencing) => new($$"""
        set nocount on;
        declare @i int = 0, @n int, @name nvarchar(255), @mode nvarchar(16), @group int, @code int;
        declare @released varchar(max) = '', @acquired varchar(max) = '', @token varchar(20) = '';
        declare @r table (i int primary key, name nvarchar(255));
        declare @a table (i int primary key, name nvarchar(255), mode nvarchar(16), g int, digit char(1));
        insert @r select cast([key] as int), value from openjson({0});
        insert @a
          select cast([key] as int), json_value(value, '$[0]'), json_value(value, '$[1]'), cast(json_value(value, '$[2]') as int), '0'
          from openjson({1});
        select @n = count(*) from @r;
        while @i < @n
        begin
          select @name = name, @code = -1 from @r where i = @i;
          if applock_mode('public', @name, 'Session') <> 'NoLock'
            exec @code = sp_releaseapplock @Resource = @name, @LockOwner = 'Session';
          select @released = @released + case @code when 0 then '1' else '0' end, @i = @i + 1;
        end;
        select @n = count(*), @i = 0 from @a;
        while @i < @n
        begin
          select @name = name, @mode = mode, @code = -1 from @a where i = @i;
          if applock_mode('public', @name, 'Session') = 'NoLock'
            exec @code = sp_getapplock @Resource = @name, @LockMode = @mode, @LockOwner = 'Session', @LockTimeout = 0;
          update @a set digit = case when @code >= 0 then '1' else '0' end where i = @i;
          set @i = @i + 1;
        end;
        set @i = 0;
        while @i < @n
        begin
          select @name = name, @group = g from @a where i = @i;
          if exists (select 1 from @a where i = @i and digit = '1') and exists (select 1 from @a where g = @group and digit = '0')
          begin
            exec sp_releaseapplock @Resource = @name, @LockOwner = 'Session';
            update @a set digit = '2' where i = @i;
          end;
          select @acquired = @acquired + digit, @i = @i + 1 from @a where i = @i;
        end;
        {{(fencing ? $"""
            if charindex('1', @acquired) > 0
            begin
              declare @next bigint = next value for {SqlServerTexts.Sequence};
              set @token = cast(@next * 1024 as varchar(20));
            end;
            """ : "")}}
        select @released + '||' + @acquired + '|' + @token + '|'
        """);
}
