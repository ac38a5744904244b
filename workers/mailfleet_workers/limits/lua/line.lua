-- Connections, logins, and who waits a short time. Continues state.lua.

local function open_slots(key)
  if now >= meta.guard then redis.call('ZREMRANGEBYSCORE', key, '-inf', now) end
  return redis.call('ZCARD', key)
end

-- Whether the slot is taken by *token*; for some time after nobody was heard a lease that ran out counts too.
local function is_open(key, token)
  local till = redis.call('ZSCORE', key, token)
  return till and (tonumber(till) > now or now < meta.guard)
end

-- Who waits a short time: OWNER APP PRIORITY -> when to come again, what it lacks (`refuse` has the numbers), since when.
local function line_of(key, mine)
  local found, own = {}, nil
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    local owner, app, rank = string.match(all[at], '^(%S+) (%S+) (%d)$')
    local told, slot, since = struct.unpack('<ddd', all[at + 1])
    if now > told + GRACE then
      redis.call('HDEL', key, all[at])
    elseif all[at] == mine then
      own = { told = told, since = since, slot = slot }
    else
      found[#found + 1] = { owner = owner, app = app, rank = tonumber(rank), told = told, slot = slot, since = since, field = all[at] }
    end
  end
  table.sort(found, function(a, b) return a.told < b.told end)
  return found, own
end

-- What apps have had on the account, permits by weight: start-time fair queueing, as mailfleet_workers.limits.line says it. The
-- most that one had when it was served, the least of those that compete, and when the next permit may go while several wait.
local shared, had, last_had, least_had, paced = false, {}, 0, 0, 0

local function had_of(app)
  local share = had[app]
  return share and math.max(share.had, last_had - BEHIND) or least_had - FIRST
end

local function competes(app, share, waiting) return waiting[app] or now - share.served <= GRACE end

-- The least is that of apps of priority *rank*: one of a lower priority, which gets nothing, may be far behind.
local function read_shares(account, rank, waiting)
  shared = true
  local all = redis.call('HGETALL', base .. 'shares:' .. account)
  for at = 1, #all, 2 do
    local amount, served, rank = struct.unpack('<ddd', all[at + 1])
    if all[at] == '*' then last_had, paced = amount, served else had[all[at]] = { had = amount, served = served, rank = rank } end
  end
  least_had = last_had
  for app, share in pairs(had) do
    -- Those that came and were not served yet are before the others already, and equal to who comes now.
    local before = share.served < 0 and FIRST or 0
    if share.rank == rank and competes(app, share, waiting) then least_had = math.min(least_had, had_of(app) + before) end
  end
end

-- Somebody of *app* stands in line: it has had as little as any, if nothing is known of it, and comes before them.
local function join(account, app, rank)
  local key = base .. 'shares:' .. account
  redis.call('HSETNX', key, app, struct.pack('<ddd', least_had - FIRST, -HOUR, rank))
  redis.call('PEXPIRE', key, 60000)
end

local function serve(account, app, rank, more, waiting, next)
  local key = base .. 'shares:' .. account
  local begun = had_of(app)
  redis.call('HSET', key, app, struct.pack('<ddd', begun + more, now, rank), '*', struct.pack('<ddd', math.max(last_had, begun), next, 9))
  local least = math.min(least_had, begun)
  for other, share in pairs(had) do
    if other ~= app and share.rank == rank and share.had <= least and not competes(other, share, waiting) then
      redis.call('HDEL', key, other)
    end
  end
  redis.call('PEXPIRE', key, 60000)
end

-- Logins of an account: when the next may begin, those in progress, when credentials were refused since the last success.
local function logins_of(key)
  local packed = redis.call('GET', key)
  local found = packed and cmsgpack.unpack(packed) or { next = 0, progress = {}, refused = {} }
  for token, till in pairs(found.progress) do
    if till <= now and now >= meta.guard then found.progress[token] = nil end
  end
  return found
end

local function save_logins(key, logins) redis.call('SET', key, cmsgpack.pack(logins), 'PX', DAY) end

local function in_progress(logins)
  local count = 0
  for _ in pairs(logins.progress) do count = count + 1 end
  return count
end

-- Refusals of long ago count no more, unless there were too many: then nobody has succeeded since.
local function forget_refusals(logins)
  local refused = logins.refused
  while not logins.broken and refused[1] and refused[1] + BREAK <= now do table.remove(refused, 1) end
end

-- How long a login must wait, and why; nil when it may begin.
local function login_wait(logins, gap, counted)
  if gap > 0 then
    if now < logins.next then return logins.next - now, 'login gap' end
    if in_progress(logins) > 0 then return 100, 'login gap' end
  end
  if not counted then return nil end
  local refused = logins.refused
  if logins.broken then
    local till = refused[#refused] + BREAK
    if now < till then return till - now, 'login refused' end
    if in_progress(logins) > 0 then return 1000, 'login refused' end
    return nil
  end
  forget_refusals(logins)
  if in_progress(logins) + #refused >= TRIES then return 250, 'logins in progress' end
  return nil
end

local function begin_login(key, token, gap, counted)
  if gap <= 0 and not counted then return end
  local logins = logins_of(key)
  logins.progress[token] = now + lease
  if logins.told == token then logins.told = nil end
  save_logins(key, logins)
end

local function end_login(key, token, how, gap)
  local logins = logins_of(key)
  logins.progress[token] = nil
  if how == 'done' then logins.refused, logins.broken = {}, nil end
  -- Said twice, after an answer that was lost, it is one refusal.
  if how == 'refused' and logins.told ~= token then
    logins.told = token
    forget_refusals(logins)
    logins.refused[#logins.refused + 1] = now
    while #logins.refused > TRIES do table.remove(logins.refused, 1) end
    if #logins.refused == TRIES then logins.broken = true end
  end
  if gap > 0 then logins.next = math.max(logins.next, now + gap) end
  save_logins(key, logins)
end

-- Whether an app comes, as its process says, which has used no connection for a while: nobody of it stands in line, nor was served
-- a moment ago, and it has had no more than those that compete.
local function comes(own, app, rank, waiting)
  local share = had[app]
  if own or waiting[app] or share and now - share.served <= AWAY then return false end
  local most = -math.huge
  for other, its in pairs(had) do
    if other ~= app and its.rank == rank and competes(other, its, waiting) then most = math.max(most, its.had) end
  end
  return not share or most == -math.huge or share.had <= most + 1
end

-- Who has waited for so long goes with those that come: connections are not for ever of those whose mails take long.
local function goes_first(since) return since < 0 or now - since > LONG end

-- Whether *one* in line goes before another where a connection is free: by priority, then those that come or have waited long, then
-- who has had less.
local function before(one, app, rank, since)
  if one.rank ~= rank then return one.rank < rank end
  if goes_first(one.since) ~= goes_first(since) then return goes_first(one.since) end
  local its, own = had_of(one.app), had_of(app)
  return its < own or its == own and one.since < since
end

-- What others want of an app's connections: 1 those that it does not use, as somebody waits; 2 each after its turn, as one that
-- waits goes before it; 3 one at once, if it has one that is *open*. The first that hears so closes one.
local function wanted(line, key, app, rank, open)
  local found = 0
  for _, one in ipairs(line) do
    if one.slot == 1 or one.slot > 3 then
      local behind = not shared or one.app == app or not had[one.app] or goes_first(one.since) or had_of(one.app) + APART <= had_of(app)
      found = math.max(found, (one.rank < rank or one.rank == rank and behind) and 2 or 1)
    end
    if open and found < 3 and (one.slot == 5 and one.rank <= rank or one.slot == 4 and one.rank < rank) then
      found = 3
      redis.call('HSET', key, one.field, struct.pack('<ddd', one.told, 1, one.since))
    end
  end
  return found
end
