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

-- What apps have had on one account, permits by weight, and when the next permit may go while several wait: start-time fair queueing, as mailfleet_workers.limits.line says it.
local function shares_of(wanted, account)
  local found, last, paced = {}, 0, 0
  if wanted then
    local all = redis.call('HGETALL', base .. 'shares:' .. account)
    for at = 1, #all, 2 do
      local had, served, rank = struct.unpack('<ddd', all[at + 1])
      if all[at] == '*' then last, paced = had, served else found[all[at]] = { had = had, served = served, rank = rank } end
    end
  end
  return found, last, paced
end

local function had_of(found, last, app)
  local share = found[app]
  return share and math.max(share.had, last - BEHIND) or last - FIRST
end

-- Somebody of *app* stands in line: it has had as much as the one served last, if nothing is known of it, and comes before it.
local function join(account, app, rank)
  local key = base .. 'shares:' .. account
  local last = redis.call('HGET', key, '*')
  redis.call('HSETNX', key, app, struct.pack('<ddd', (last and struct.unpack('<d', last) or 0) - FIRST, -HOUR, rank))
  redis.call('PEXPIRE', key, 60000)
end

local function serve(account, app, rank, more, found, last, waiting, paced)
  local key = base .. 'shares:' .. account
  local begun = had_of(found, last, app)
  last = math.max(last, begun)
  redis.call('HSET', key, app, struct.pack('<ddd', begun + more, now, rank), '*', struct.pack('<ddd', last, paced, 9))
  for other, share in pairs(found) do
    if other ~= app and not waiting[other] and now - share.served > GRACE and share.had <= last then
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

-- Whether somebody waits for a connection: 2 if it should have at once one that *rank* uses. The first that hears so closes one.
local function wanted(line, key, rank)
  local found = 0
  for _, one in ipairs(line) do
    if one.slot == 1 or one.slot > 3 then found = math.max(found, 1) end
    if found < 2 and (one.slot == 5 and one.rank <= rank or one.slot == 4 and one.rank < rank) then
      found = 2
      redis.call('HSET', key, one.field, struct.pack('<ddd', one.told, 1, one.since))
    end
  end
  return found
end
