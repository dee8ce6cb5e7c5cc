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

