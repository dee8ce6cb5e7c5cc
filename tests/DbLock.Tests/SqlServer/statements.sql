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

