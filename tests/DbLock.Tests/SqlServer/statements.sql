-- acquire one key, Session scope
-- @p0 String = nightly-report
-- @p1 Int32 = 5000
declare @answer int = case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then -1001 else 0 end;
if @answer = 0
  exec @answer = sp_getapplock @Resource = @p0, @LockMode = 'Exclusive', @LockOwner = 'Session', @LockTimeout = @p1;
select @answer

-- acquire shared one key, Session scope
-- @p0 String = nightly-report
-- @p1 Int32 = 5000
declare @answer int = case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then -1001 else 0 end;
if @answer = 0
  exec @answer = sp_getapplock @Resource = @p0, @LockMode = 'Shared', @LockOwner = 'Session', @LockTimeout = @p1;
select @answer

-- acquire with a token one key, Session scope
-- @p0 String = nightly-report
-- @p1 Int32 = 5000
declare @answer int = case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then -1001 else 0 end;
if @answer = 0
  exec @answer = sp_getapplock @Resource = @p0, @LockMode = 'Exclusive', @LockOwner = 'Session', @LockTimeout = @p1;
declare @token bigint = @answer;
if @answer >= 0
begin
  set @token = next value for dbo.dblock_fencing;
  set @token = @token * 1024;
end;
select @token

-- is held one key, Session scope
-- @p0 String = nightly-report
select case when applock_mode('public', @p0, 'Session') = 'NoLock' then 0 else 1 end

-- release, and undo, one key, Session scope
-- @p0 String = nightly-report
declare @code int, @released int = 0;
set @code = -1;
if applock_mode('public', @p0, 'Session') <> 'NoLock'
  exec @code = sp_releaseapplock @Resource = @p0, @LockOwner = 'Session';
if @code = 0 set @released = @released + 1;
select case when @released = 1 then 1 else 0 end

-- acquire three keys, Session scope
-- @p0 String = c
-- @p1 String = a
-- @p2 String = b
-- @p3 Int32 = 5000
declare @answer int = case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then -1001 else 0 end, @taken int = 0, @left int, @start datetime2 = sysutcdatetime();
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p0, @LockMode = 'Exclusive', @LockOwner = 'Session',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p1, @LockMode = 'Exclusive', @LockOwner = 'Session',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p2, @LockMode = 'Exclusive', @LockOwner = 'Session',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer < 0 and @taken > 0 exec sp_releaseapplock @Resource = @p0, @LockOwner = 'Session';
if @answer < 0 and @taken > 1 exec sp_releaseapplock @Resource = @p1, @LockOwner = 'Session';
if @answer < 0 and @taken > 2 exec sp_releaseapplock @Resource = @p2, @LockOwner = 'Session';
select @answer

-- acquire shared three keys, Session scope
-- @p0 String = c
-- @p1 String = a
-- @p2 String = b
-- @p3 Int32 = 5000
declare @answer int = case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then -1001 else 0 end, @taken int = 0, @left int, @start datetime2 = sysutcdatetime();
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p0, @LockMode = 'Shared', @LockOwner = 'Session',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p1, @LockMode = 'Shared', @LockOwner = 'Session',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p2, @LockMode = 'Shared', @LockOwner = 'Session',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer < 0 and @taken > 0 exec sp_releaseapplock @Resource = @p0, @LockOwner = 'Session';
if @answer < 0 and @taken > 1 exec sp_releaseapplock @Resource = @p1, @LockOwner = 'Session';
if @answer < 0 and @taken > 2 exec sp_releaseapplock @Resource = @p2, @LockOwner = 'Session';
select @answer

-- acquire with a token three keys, Session scope
-- @p0 String = c
-- @p1 String = a
-- @p2 String = b
-- @p3 Int32 = 5000
declare @answer int = case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then -1001 else 0 end, @taken int = 0, @left int, @start datetime2 = sysutcdatetime();
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p0, @LockMode = 'Exclusive', @LockOwner = 'Session',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p1, @LockMode = 'Exclusive', @LockOwner = 'Session',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p2, @LockMode = 'Exclusive', @LockOwner = 'Session',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer < 0 and @taken > 0 exec sp_releaseapplock @Resource = @p0, @LockOwner = 'Session';
if @answer < 0 and @taken > 1 exec sp_releaseapplock @Resource = @p1, @LockOwner = 'Session';
if @answer < 0 and @taken > 2 exec sp_releaseapplock @Resource = @p2, @LockOwner = 'Session';
declare @token bigint = @answer;
if @answer >= 0
begin
  set @token = next value for dbo.dblock_fencing;
  set @token = @token * 1024;
end;
select @token

-- is held three keys, Session scope
-- @p0 String = c
-- @p1 String = a
-- @p2 String = b
select case when applock_mode('public', @p0, 'Session') = 'NoLock' or applock_mode('public', @p1, 'Session') = 'NoLock' or applock_mode('public', @p2, 'Session') = 'NoLock' then 0 else 1 end

-- release, and undo, three keys, Session scope
-- @p0 String = c
-- @p1 String = a
-- @p2 String = b
declare @code int, @released int = 0;
set @code = -1;
if applock_mode('public', @p0, 'Session') <> 'NoLock'
  exec @code = sp_releaseapplock @Resource = @p0, @LockOwner = 'Session';
if @code = 0 set @released = @released + 1;
set @code = -1;
if applock_mode('public', @p1, 'Session') <> 'NoLock'
  exec @code = sp_releaseapplock @Resource = @p1, @LockOwner = 'Session';
if @code = 0 set @released = @released + 1;
set @code = -1;
if applock_mode('public', @p2, 'Session') <> 'NoLock'
  exec @code = sp_releaseapplock @Resource = @p2, @LockOwner = 'Session';
if @code = 0 set @released = @released + 1;
select case when @released = 3 then 1 else 0 end

-- acquire one key, Transaction scope
-- @p0 String = nightly-report
-- @p1 Int32 = 5000
declare @begun int;
if @@trancount = 0 and @@options & 2 = 2 select @begun = count(*) from (select top (1) object_id from sys.objects) as one;
declare @answer int = case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then -1001 else 0 end;
if @answer = 0
  exec @answer = sp_getapplock @Resource = @p0, @LockMode = 'Exclusive', @LockOwner = 'Transaction', @LockTimeout = @p1;
select @answer

-- acquire shared one key, Transaction scope
-- @p0 String = nightly-report
-- @p1 Int32 = 5000
declare @begun int;
if @@trancount = 0 and @@options & 2 = 2 select @begun = count(*) from (select top (1) object_id from sys.objects) as one;
declare @answer int = case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then -1001 else 0 end;
if @answer = 0
  exec @answer = sp_getapplock @Resource = @p0, @LockMode = 'Shared', @LockOwner = 'Transaction', @LockTimeout = @p1;
select @answer

-- is held one key, Transaction scope
-- @p0 String = nightly-report
select case when @@trancount = 0 then 0 when applock_mode('public', @p0, 'Transaction') = 'NoLock' then 0 else 1 end

-- release, and undo, one key, Transaction scope
-- @p0 String = nightly-report
declare @code int, @released int = 0;
set @code = -1;
if @@trancount > 0 if applock_mode('public', @p0, 'Transaction') <> 'NoLock'
  exec @code = sp_releaseapplock @Resource = @p0, @LockOwner = 'Transaction';
if @code = 0 set @released = @released + 1;
select case when @released = 1 then 1 else 0 end

-- acquire three keys, Transaction scope
-- @p0 String = c
-- @p1 String = a
-- @p2 String = b
-- @p3 Int32 = 5000
declare @begun int;
if @@trancount = 0 and @@options & 2 = 2 select @begun = count(*) from (select top (1) object_id from sys.objects) as one;
declare @answer int = case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then -1001 else 0 end, @taken int = 0, @left int, @start datetime2 = sysutcdatetime();
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p0, @LockMode = 'Exclusive', @LockOwner = 'Transaction',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p1, @LockMode = 'Exclusive', @LockOwner = 'Transaction',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p2, @LockMode = 'Exclusive', @LockOwner = 'Transaction',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer < 0 and @taken > 0 exec sp_releaseapplock @Resource = @p0, @LockOwner = 'Transaction';
if @answer < 0 and @taken > 1 exec sp_releaseapplock @Resource = @p1, @LockOwner = 'Transaction';
if @answer < 0 and @taken > 2 exec sp_releaseapplock @Resource = @p2, @LockOwner = 'Transaction';
select @answer

-- acquire shared three keys, Transaction scope
-- @p0 String = c
-- @p1 String = a
-- @p2 String = b
-- @p3 Int32 = 5000
declare @begun int;
if @@trancount = 0 and @@options & 2 = 2 select @begun = count(*) from (select top (1) object_id from sys.objects) as one;
declare @answer int = case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then -1001 else 0 end, @taken int = 0, @left int, @start datetime2 = sysutcdatetime();
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p0, @LockMode = 'Shared', @LockOwner = 'Transaction',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p1, @LockMode = 'Shared', @LockOwner = 'Transaction',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer >= 0
begin
  set @left = case when @p3 <= 0 then @p3
    when datediff_big(millisecond, @start, sysutcdatetime()) >= @p3 then 0
    else @p3 - datediff_big(millisecond, @start, sysutcdatetime()) end;
  exec @answer = sp_getapplock @Resource = @p2, @LockMode = 'Shared', @LockOwner = 'Transaction',
      @LockTimeout = @left;
  if @answer >= 0 set @taken = @taken + 1;
end
if @answer < 0 and @taken > 0 exec sp_releaseapplock @Resource = @p0, @LockOwner = 'Transaction';
if @answer < 0 and @taken > 1 exec sp_releaseapplock @Resource = @p1, @LockOwner = 'Transaction';
if @answer < 0 and @taken > 2 exec sp_releaseapplock @Resource = @p2, @LockOwner = 'Transaction';
select @answer

-- is held three keys, Transaction scope
-- @p0 String = c
-- @p1 String = a
-- @p2 String = b
select case when @@trancount = 0 then 0 when applock_mode('public', @p0, 'Transaction') = 'NoLock' or applock_mode('public', @p1, 'Transaction') = 'NoLock' or applock_mode('public', @p2, 'Transaction') = 'NoLock' then 0 else 1 end

-- release, and undo, three keys, Transaction scope
-- @p0 String = c
-- @p1 String = a
-- @p2 String = b
declare @code int, @released int = 0;
set @code = -1;
if @@trancount > 0 if applock_mode('public', @p0, 'Transaction') <> 'NoLock'
  exec @code = sp_releaseapplock @Resource = @p0, @LockOwner = 'Transaction';
if @code = 0 set @released = @released + 1;
set @code = -1;
if @@trancount > 0 if applock_mode('public', @p1, 'Transaction') <> 'NoLock'
  exec @code = sp_releaseapplock @Resource = @p1, @LockOwner = 'Transaction';
if @code = 0 set @released = @released + 1;
set @code = -1;
if @@trancount > 0 if applock_mode('public', @p2, 'Transaction') <> 'NoLock'
  exec @code = sp_releaseapplock @Resource = @p2, @LockOwner = 'Transaction';
if @code = 0 set @released = @released + 1;
select case when @released = 3 then 1 else 0 end

-- holders of three keys
-- @p0 String = ["0:[c]:(","0:[a]:(","0:[b]:("]
if coalesce(has_perms_by_name(null, null, 'VIEW SERVER STATE'), 0) = 0
    and coalesce(has_perms_by_name(null, null, 'VIEW SERVER PERFORMANCE STATE'), 0) = 0
    and (serverproperty('EngineEdition') <> 5 or coalesce(has_perms_by_name(db_name(), 'DATABASE', 'VIEW DATABASE STATE'), 0) = 0)
  select '{"hidden":true}'
else
  select (
    select json_query(coalesce((
      select l.resource_description as resource, l.request_session_id as id, l.request_mode as mode, l.request_status as status,
        case when l.request_session_id = @@spid then 1 else 0 end as own, s.login_name as [user], s.program_name as application,
        coalesce(c.client_net_address, s.host_name) as client, db_name(s.database_id) as [database], s.status as state,
        todatetimeoffset(s.login_time, datename(tzoffset, sysdatetimeoffset())) as since,
        datediff_big(millisecond, s.login_time, sysdatetime()) as session_age,
        datediff_big(millisecond, case s.status when 'sleeping' then s.last_request_end_time else s.last_request_start_time end,
          sysdatetime()) as state_age,
        left(t.text, 1024) as query
      from sys.dm_tran_locks as l
      left join sys.dm_exec_sessions as s on s.session_id = l.request_session_id
      left join sys.dm_exec_connections as c on c.session_id = l.request_session_id and c.parent_connection_id is null
      outer apply sys.dm_exec_sql_text(c.most_recent_sql_handle) as t
      where l.resource_type = 'APPLICATION' and l.resource_database_id = db_id()
        and exists (
          select 1 from openjson(@p0) as k
          where charindex(k.value collate Latin1_General_BIN2, l.resource_description collate Latin1_General_BIN2) = 1)
      for json path, include_null_values), '[]')) as locks
    for json path, without_array_wrapper)

-- look of a pool
select case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then -1001 else 0 end

-- round of a pool
-- @p0 String = ["c"]
-- @p1 String = [["a","Exclusive",0],["b","Shared",1]]
set nocount on;
declare @i int = 0, @n int, @name nvarchar(255), @mode nvarchar(16), @group int, @code int;
declare @released varchar(max) = '', @acquired varchar(max) = '', @token varchar(20) = '';
declare @r table (i int primary key, name nvarchar(255));
declare @a table (i int primary key, name nvarchar(255), mode nvarchar(16), g int, digit char(1));
insert @r select cast([key] as int), value from openjson(@p0);
insert @a
  select cast([key] as int), json_value(value, '$[0]'), json_value(value, '$[1]'), cast(json_value(value, '$[2]') as int), '0'
  from openjson(@p1);
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

select @released + '||' + @acquired + '|' + @token + '|'

-- round of a pool with tokens
-- @p0 String = []
-- @p1 String = [["c","Exclusive",0],["a","Exclusive",0]]
set nocount on;
declare @i int = 0, @n int, @name nvarchar(255), @mode nvarchar(16), @group int, @code int;
declare @released varchar(max) = '', @acquired varchar(max) = '', @token varchar(20) = '';
declare @r table (i int primary key, name nvarchar(255));
declare @a table (i int primary key, name nvarchar(255), mode nvarchar(16), g int, digit char(1));
insert @r select cast([key] as int), value from openjson(@p0);
insert @a
  select cast([key] as int), json_value(value, '$[0]'), json_value(value, '$[1]'), cast(json_value(value, '$[2]') as int), '0'
  from openjson(@p1);
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
if charindex('1', @acquired) > 0
begin
  declare @next bigint = next value for dbo.dblock_fencing;
  set @token = cast(@next * 1024 as varchar(20));
end;
select @released + '||' + @acquired + '|' + @token + '|'

-- are held of a pool
-- @p0 String = ["c","a","b"]
select coalesce((
  select case applock_mode('public', n.value, 'Session') when 'NoLock' then '0' else '1' end as [text()]
  from openjson(@p0) as n order by cast(n.[key] as int) for xml path('')), '')

