-- How an epoch is opened, gates, and what is used. The last part.

-- rules: how old the epoch is, whether it is open, and which of the rules are not ready.
function ops.status()
  local answer = { string.format('%.3f', now - meta.began), meta.open }
  for at = 5, #ARGV do
    local r = rule(ARGV[at])
    hear(r)
    if r.ready ~= 1 then answer[#answer + 1] = ARGV[at] end
  end
  save_rules()
  return answer
end

-- Counts by times, oldest first, of which each time has as many after it as the one of *these* and *those* that has more.
local function fuller(these, those)
  local times, seen = {}, {}
  for _, counts in ipairs({ these, those }) do
    for last in pairs(counts) do
      if not seen[last] then times[#times + 1], seen[last] = last, true end
    end
  end
  table.sort(times)
  local found, told, known, kept = {}, 0, 0, 0
  for at = #times, 1, -1 do
    local last = times[at]
    told, known = told + (these[last] or 0), known + (those[last] or 0)
    local more = math.max(told, known) - kept
    if more > 0 then table.insert(found, 1, { last, more }) end
    kept = kept + more
  end
  return found
end

-- For each rule its suffix, and what was sent: AGE COUNT, oldest first. Opens the host.
function ops.seed()
  for at = 5, #ARGV, 2 do
    local r = rule(ARGV[at])
    hear(r)
    if r.ready ~= 1 then
      local told, known = {}, {}
      local function add(counts, last, count)
        if now < last + r.window then counts[last] = (counts[last] or 0) + count end
      end
      -- The database's clock has measured these: each is as young as its bucket may be.
      for age, count in string.gmatch(ARGV[at + 1], '(%S+) (%d+)') do
        add(told, (math.floor((now - tonumber(age)) / r.width) + 1) * r.width, tonumber(count))
      end
      -- What a rule knows that may have missed something is in the database too, and more. What a new one knows may not be: it
      -- began while this was read.
      for _, count, last in entries(r) do add(r.ready == -1 and known or told, last, count) end
      r.log, r.sum, r.count, r.till, r.ready, r.dirty = '', 0, 0, math.huge, 1, true
      for _, entry in ipairs(fuller(told, known)) do append(r, entry[1], entry[2]) end
    end
  end
  save_rules()
  meta.open = 1
  save_meta()
  return { 'yes' }
end

-- older: mails were sent without this server until so many milliseconds ago. What it knew before is worth nothing, and a new
-- epoch begins, to be told from the database; one that has begun since then knows no less than that.
function ops.forget()
  if now - meta.began > tonumber(ARGV[5]) then
    meta = { epoch = string.format('%.0f', now * 1000), began = now, open = 0, last = now, reap = now, guard = 0 }
    save_meta()
  end
  return { 'yes' }
end

-- SCOPE KEY REMAINING GENERATION REASON, again and again; nothing remaining is open.
function ops.gates()
  for at = 5, #ARGV, 5 do
    local key = base .. 'gate:' .. (ARGV[at] == 'host' and 'host' or 'account:' .. ARGV[at + 1])
    local remaining, generation = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    local packed = redis.call('GET', key)
    local known = packed and cmsgpack.unpack(packed)
    if known and known.till <= now then known = nil end
    if remaining > 0 then
      -- Of generation 0 is what a worker has just closed; the longer one stands until the database says it.
      local newer = not known or generation > known.generation and generation > 0
      if newer or generation == known.generation or (generation == 0 and now + remaining > known.till) then
        redis.call('SET', key, cmsgpack.pack({ till = now + remaining, generation = generation, reason = ARGV[at + 4], at = now }),
          'PX', math.ceil(remaining))
      end
    elseif known and (known.generation > 0 and known.generation <= generation or known.generation == 0 and now - known.at > 5000) then
      redis.call('DEL', key)
    end
  end
  return { 'yes' }
end

-- account, then rules with their limits: what is used, for people.
function ops.usage()
  local account = ARGV[5]
  local answer = { string.format('%.3f', now - meta.began), meta.open, open_slots(base .. 'slots:' .. account), open_slots(base .. 'slots') }
  local line = line_of(base .. 'line:' .. account, '')
  local parked = 0
  local all = redis.call('HGETALL', base .. 'parked:' .. account)
  for at = 1, #all, 2 do
    local _, till = struct.unpack('<dd', all[at + 1])
    parked = math.max(parked, till - now)
  end
  local logins = logins_of(base .. 'logins:' .. account)
  local refused = #logins.refused
  local wait = logins.broken and math.max(0, logins.refused[refused] + BREAK - now) or 0
  answer[5], answer[6], answer[7], answer[8] = #line, string.format('%.0f', parked), refused, string.format('%.0f', wait)
  for at = 6, #ARGV, 2 do
    local r, limit = rule(ARGV[at]), tonumber(ARGV[at + 1])
    local n = #answer
    answer[n + 1], answer[n + 2], answer[n + 3] = r.sum + r.flight, r.flight, string.format('%.0f', free_at(r, limit, 1) - now)
  end
  return answer
end

return ops[op]()
