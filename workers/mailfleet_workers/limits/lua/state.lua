-- The limiter of a fleet: every decision about one host and its accounts in one atomic call. docs/limits.md explains it.
--
-- KEYS[1] is the host's own key; every other key is below it, in the same hash slot: NAME:EPOCH:SUFFIX. An epoch begins when
-- Redis has lost what it knew (flushed, restarted, failed over: another run id); what older epochs left is never read.
-- Times are milliseconds of this server's clock, amounts are messages or recipients.
local op, epoch, lease = ARGV[1], ARGV[3], tonumber(ARGV[4])
-- Which server, and how values are written: what another version of this script has left is another epoch's.
local run_id = ARGV[2] .. ' 3'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000

local BUCKETS, HOUR, DAY, FORTY_DAYS = 120, 3600000, 86400000, '3456000000'
local FIRST = 0.001 -- of those that have had the same, who has had nothing lately has had so much less
local LONGEST_PACED = 10000 -- permits of rules of so long a window go one after the other while several apps wait
local GRACE, BEHIND = 250, 50 -- how long somebody in line is expected past its time; how far an app may be behind
local APART = 2 -- permits that go in turn leave apps so far apart
local AWAY, LONG = 500, 5000 -- an app that has had nothing for so long was away; who waits for so long for a connection goes first
local LONG_AGO = 1e13 -- so long before it came, which is a negative time, waits an app that comes
local HEARD = 15000 -- a rule that nobody was heard of who has it in his limits for so long may have missed what was sent
local BREAK, TRIES = 900000, 3 -- after so many refused logins nobody logs in for so long

-- The host: when its epoch began, whether it is open, when it was last asked, when leases that ran out are looked for, until
-- when they are not; then the epoch's name, and the run id of its server.
local meta, held = {}, redis.call('GET', KEYS[1])
-- The host's key and its grants live as long as each other; so that the hash is there from the beginning it has a field of
-- no name.
local function save_meta()
  local numbers = struct.pack('<ddddd', meta.began, meta.open, meta.last, meta.reap, meta.guard)
  redis.call('SET', KEYS[1], numbers .. meta.epoch .. ' ' .. run_id, 'PX', FORTY_DAYS)
  local grants = KEYS[1] .. ':' .. meta.epoch .. ':grants'
  redis.call('HSETNX', grants, '', '')
  redis.call('PEXPIRE', grants, FORTY_DAYS)
end
if held then
  meta.began, meta.open, meta.last, meta.reap, meta.guard = struct.unpack('<ddddd', held)
  meta.epoch, meta.run = string.match(held, '^(%d+) (.*)$', 41)
end
local changed = false
if not held or meta.run ~= run_id or meta.last - now > 2000 then
  meta = { epoch = string.format('%.0f', now * 1000), began = now, open = 0, last = now, reap = now, guard = 0 }
  changed = true
end
if now < meta.last then now = meta.last end
if now - meta.last > lease / 2 then
  -- Nobody was heard for long: Redis stood still, or all of them. Those that live get time to renew their leases.
  meta.guard, changed = now + lease / 2, true
end
if changed or now - meta.last > 500 then
  meta.last = now
  save_meta()
end
if meta.epoch ~= epoch then return { 'epoch', meta.epoch } end

local base = KEYS[1] .. ':' .. epoch .. ':'

-- Rules. A value: ready, sum of the log, in flight, when the oldest entry leaves, the youngest entry's time and count, when
-- somebody was heard who has the rule; then the entries before that, oldest first: 12 bytes each for a time and a count. What is
-- finished in one bucket, a 120th of a window, is one entry, which has the time of the last of them and leaves a window later. Most
-- calls need the first part only. Ready is 1, 0 of a rule that was told nothing yet, -1 of one that may have missed something.
local rules = {}
local HEAD, ENTRY = '<ddddddd', '<dI4'

-- What of the log is left by now; it is in `r.log` from then on.
local function read_log(r)
  local all = redis.call('GET', r.key) or ''
  local at, size = 57, #all
  while at < size do
    local last, count = struct.unpack(ENTRY, all, at)
    if now < last + r.window then break end
    r.sum, at = r.sum - count, at + 12
  end
  r.log = string.sub(all, at) .. r.more
  if r.log == '' and now >= r.last + r.window then r.sum, r.count = r.sum - r.count, 0 end
  local oldest = r.log ~= '' and struct.unpack(ENTRY, r.log) or r.count > 0 and r.last
  r.till = oldest and oldest + r.window or math.huge
end

local function rule(suffix, window, unit)
  local r = rules[suffix]
  if r then return r end
  if not window then
    unit, window = string.match(suffix, ':([mr]):(%d+)$')
    window = tonumber(window)
  end
  r = {
    key = base .. suffix, unit = unit, window = window, width = window / BUCKETS, dirty = false, log = false, more = '',
    ready = 0, sum = 0, flight = 0, till = math.huge, last = 0, count = 0, heard = now,
  }
  rules[suffix] = r
  local head = redis.call('GETRANGE', r.key, '0', '55')
  if head == '' then
    r.log = ''
    return r
  end
  r.ready, r.sum, r.flight, r.till, r.last, r.count, r.heard = struct.unpack(HEAD, head)
  if r.ready == 1 and now - r.heard >= HEARD then r.ready, r.dirty = -1, true end
  if now >= r.till then
    read_log(r)
    r.dirty = true
  end
  return r
end

-- *count* more that were finished *at* a time after the youngest entry's.
local function append(r, at, count)
  r.sum, r.dirty = r.sum + count, true
  if r.count > 0 and math.floor(at / r.width) <= math.floor(r.last / r.width) then
    local only = r.till == r.last + r.window
    r.last, r.count = math.max(r.last, at), r.count + count
    if only then r.till = r.last + r.window end
    return
  end
  if r.count > 0 then
    local entry = struct.pack(ENTRY, r.last, r.count)
    if r.log then r.log = r.log .. entry else r.more = entry end
  else
    r.till = at + r.window
  end
  r.last, r.count = at, count
end

local function log(r, count)
  if count > 0 then append(r, now, count) end
end

-- Somebody has the rule in his limits: it lives on. Of many who say so one a second is enough.
local function hear(r)
  if now - r.heard >= 1000 then r.heard, r.dirty, r.lives = now, true, true end
end

local function save_rules()
  for _, r in pairs(rules) do
    if r.dirty then
      local head = struct.pack(HEAD, r.ready, r.sum, r.flight, r.till, r.last, r.count, r.heard)
      if r.log then
        redis.call('SET', r.key, head .. r.log, 'PX', 2 * r.window + HOUR)
      else
        redis.call('SETRANGE', r.key, '0', head)
        if r.lives then redis.call('PEXPIRE', r.key, 2 * r.window + HOUR) end
        if r.more ~= '' then redis.call('APPEND', r.key, r.more) end
      end
    end
  end
end

-- All entries, oldest first: when each leaves, and its count.
local function entries(r)
  if not r.log then read_log(r) end
  local at, size = 1, #r.log
  return function()
    local last, count = r.last, r.count
    if at < size then last, count = struct.unpack(ENTRY, r.log, at) elseif at > size + 1 or count == 0 then return nil end
    at = at + 12
    return last + r.window, count, last
  end
end

-- When what counts now leaves: waits, and how many have left by then. Of what is in flight nothing is known but that it cannot
-- leave before a window.
local function releases(r)
  local found, sum = {}, 0
  for leaves, count in entries(r) do
    sum = sum + count
    found[#found + 1] = { wait = leaves - now, sum = sum }
  end
  found[#found + 1] = { wait = r.window, sum = math.huge }
  return found
end

-- When *amount* more are free of a limit, if the first of them are taken as soon as they are.
local function free_at(r, limit, amount)
  local rounds = math.floor((amount - 1) / limit)
  local missing, free = r.sum + r.flight + amount - rounds * limit - limit, now
  if missing > 0 then
    free = now + r.window
    for leaves, count in entries(r) do
      missing = missing - count
      if missing <= 0 then
        free = leaves
        break
      end
    end
  end
  return free + rounds * r.window
end

-- Grants in flight: token -> what remains of it and which rules it counts in.
local grants = base .. 'grants'

local function finish(grant, remaining, remaining_r, unused, unused_r)
  remaining, remaining_r = math.min(remaining, grant.left), math.min(remaining_r, grant.left_r)
  local gone, gone_r = grant.left - remaining, grant.left_r - remaining_r
  local sent = gone - math.max(0, unused - grant.unused)
  local sent_r = gone_r - math.max(0, unused_r - grant.unused_r)
  for suffix in string.gmatch(grant.rules, '%S+') do
    local r = rule(suffix)
    r.flight = math.max(0, r.flight - (r.unit == 'm' and gone or gone_r))
    r.dirty = true
    log(r, r.unit == 'm' and sent or sent_r)
  end
  grant.left, grant.left_r = remaining, remaining_r
  grant.unused, grant.unused_r = math.max(unused, grant.unused), math.max(unused_r, grant.unused_r)
end

local function pack_grant(g)
  return struct.pack('<dddddd', g.left, g.left_r, g.unused, g.unused_r, g.till, g.permits) .. g.rules
end

local function unpack_grant(packed)
  local g = {}
  g.left, g.left_r, g.unused, g.unused_r, g.till, g.permits = struct.unpack('<dddddd', packed)
  g.rules = string.sub(packed, 49)
  return g
end

local function save_grant(token, g)
  if g.left == 0 and g.left_r == 0 then
    redis.call('HDEL', grants, token)
  else
    redis.call('HSET', grants, token, pack_grant(g))
  end
end

local function report(token, remaining, remaining_r, unused, unused_r)
  local packed = redis.call('HGET', grants, token)
  if not packed then return end
  local grant = unpack_grant(packed)
  finish(grant, remaining, remaining_r, unused, unused_r)
  save_grant(token, grant)
end

local function reports(text)
  for token, a, b, c, d in string.gmatch(text, '(%S+) (%d+) (%d+) (%d+) (%d+)') do
    report(token, tonumber(a), tonumber(b), tonumber(c), tonumber(d))
  end
end

-- What nobody renewed may have been sent at any time until now.
local function reap()
  if now < meta.reap or now < meta.guard then return end
  meta.reap = now + lease
  local all = redis.call('HGETALL', grants)
  for at = 1, #all, 2 do
    if all[at] ~= '' then
      local grant = unpack_grant(all[at + 1])
      if grant.till <= now then
        finish(grant, 0, 0, 0, 0)
        redis.call('HDEL', grants, all[at])
      else
        meta.reap = math.min(meta.reap, grant.till)
      end
    end
  end
  save_meta()
end
