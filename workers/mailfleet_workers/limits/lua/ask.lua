-- Permits, and a slot with them: the one question that every mail asks. Continues line.lua.

local ops = {}

-- owner token app priority account reserve max_idle weight shares slot connections host_connections gap host_gap counted
-- recipients reports, then for each rule its suffix and limit.
function ops.ask()
  local owner, token, app, rank, account = ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9]
  local reserve, max_idle, weight, shares = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]), ARGV[13] == '1'
  local slot, connections, host_connections = ARGV[14], tonumber(ARGV[15]), tonumber(ARGV[16])
  local gap, host_gap, counted = tonumber(ARGV[17]), tonumber(ARGV[18]), ARGV[19] == '1'
  reports(ARGV[21])
  reap()

  local keys, limits, count = { base .. 'gate:host', base .. 'gate:account:' .. account }, {}, 0
  for at = 22, #ARGV, 2 do
    count = count + 1
    keys[#keys + 1] = base .. ARGV[at]
  end
  local values = redis.call('MGET', unpack(keys))
  local first = tonumber(string.match(ARGV[20], '%d+'))
  if not first then count = 0 end -- only a slot is asked for
  for at = 1, count do
    local suffix, limit = ARGV[20 + 2 * at], tonumber(ARGV[21 + 2 * at])
    -- A rule that a report has loaded is fresher than what was read.
    local r = rule(suffix, values[at + 2])
    local class = limit
    if rank == 2 then class = math.max(1, math.floor(limit * (1 - reserve))) end
    if r.unit == 'r' then
      if first > limit then return { 'no', suffix, 'inf', 0, 0 } end
      class = math.max(class, first)
    end
    limits[at] = { rule = r, limit = class }
  end

  local line_key = base .. 'line:' .. account
  local mine = owner .. ' ' .. app .. ' ' .. rank
  local line, own = line_of(line_key, mine)
  local want = wanted(line)

  -- Refused: stand in line for a short wait, so that nobody of lower rank goes ahead meanwhile.
  local function refuse(why, wait, for_slot)
    save_rules()
    if wait <= max_idle then
      local since = own and own.slot and own.since or now
      redis.call('HSET', line_key, mine, struct.pack('<ddd', now + wait, for_slot and 1 or 0, since))
      redis.call('PEXPIRE', line_key, HOUR)
    elseif own then
      redis.call('HDEL', line_key, mine)
    end
    return { 'no', why, string.format('%.3f', wait), for_slot and 1 or 0, want }
  end

  local known = redis.call('HGET', grants, token)
  if known then
    save_rules()
    local grant = cmsgpack.unpack(known)
    return { 'yes', grant.permits, 0, want }
  end
  if meta.open == 0 then return refuse('not ready', 1000, false) end
  for at = 1, 2 do
    if values[at] then
      local gate = cmsgpack.unpack(values[at])
      if gate.till > now then
        save_rules()
        return { 'gate', at == 1 and 'host' or 'account', string.format('%.3f', gate.till - now), gate.generation, gate.reason }
      end
    end
  end
  for _, l in ipairs(limits) do
    if l.rule.ready == 0 then return refuse('not ready', 1000, false) end
  end

  -- The connection.
  local slots_key, host_slots_key = base .. 'slots:' .. account, base .. 'slots'
  local logins_key, host_logins_key = base .. 'logins:' .. account, base .. 'logins'
  if slot ~= '' then
    for at, key in ipairs({ slots_key, host_slots_key }) do
      local most = at == 1 and connections or host_connections
      if most > 0 then
        local class = rank == 2 and math.max(1, most - math.floor(most * reserve)) or most
        local ahead, since = 0, own and own.slot and own.since or now
        for _, one in ipairs(line) do
          if one.slot and (one.rank < rank or (one.rank == rank and one.since < since)) then ahead = ahead + 1 end
        end
        if open_slots(key) + ahead >= class then
          local why = (at == 1 and 'account' or 'host') .. ' connections ' .. most
          return refuse(why, math.min(100 * (1 + ahead), 500), true)
        end
      end
    end
    if gap > 0 or counted then
      local wait, why = login_wait(logins_of(logins_key), gap, counted)
      if wait then return refuse(why, wait, true) end
    end
    if host_gap > 0 then
      local wait, why = login_wait(logins_of(host_logins_key), host_gap, false)
      if wait then return refuse(why, wait, true) end
    end
  end

  -- Who goes first: a higher priority, and of other apps the one that has had less for its weight.
  local virtual, own_virtual, shares_key = {}, 0, base .. 'shares:' .. account
  if shares then
    local all, least = redis.call('HGETALL', shares_key), nil
    local waiting = {}
    for _, one in ipairs(line) do waiting[one.app] = true end
    for at = 1, #all, 2 do
      local v, served = struct.unpack('<dd', all[at + 1])
      if all[at] == app then
        own_virtual = v
        if now - served < TURN then waiting[app] = true end
      end
      virtual[all[at]] = v
      if all[at] ~= app and (waiting[all[at]] or now - served < TURN) then least = math.min(least or v, v) end
    end
    if not waiting[app] and not own and least then own_virtual = math.max(own_virtual, least) end
  end
  local ahead, reason = 0, nil
  for _, one in ipairs(line) do
    if not one.slot then
      if one.rank < rank then
        one.ahead, ahead, reason = true, ahead + 1, 'priority'
      elseif shares and one.rank == rank and one.app ~= app and (virtual[one.app] or 0) < own_virtual then
        one.ahead, ahead, reason = true, ahead + 1, reason or 'share'
      end
    end
  end

  local free, free_r = math.huge, math.huge
  for _, l in ipairs(limits) do
    local left = l.limit - l.rule.sum - l.rule.flight - ahead
    if l.rule.unit == 'm' then free = math.min(free, left) else free_r = math.min(free_r, left) end
  end
  local permits, amount = 0, 0
  for text in string.gmatch(ARGV[20], '%d+') do
    local one = tonumber(text)
    if permits + 1 > free or amount + one > free_r then break end
    permits, amount = permits + 1, amount + one
  end

  if first and permits == 0 then
    local till, why, position, before
    position = 1 + ahead
    repeat
      before, till, why = position, now, reason or 'share'
      for at, l in ipairs(limits) do
        local need = l.rule.unit == 'm' and position or math.min(first + position - 1, l.limit)
        local free_then = free_at(l.rule, l.limit, need)
        if free_then > till then
          till, why = free_then, ARGV[20 + 2 * at]
          if reason and free_at(l.rule, l.limit, need - ahead) <= now then why = reason end
        end
      end
      -- The first release that nobody of our kind was told of.
      position = 1 + ahead
      for _, one in ipairs(line) do
        if not one.slot and not one.ahead and one.told > now and one.told <= till + 1 then position = position + 1 end
      end
    until position <= before
    return refuse(why, math.max(till - now, 1), false)
  end

  local suffixes, tight = {}, #line > 0
  for at, l in ipairs(limits) do
    l.rule.flight = l.rule.flight + (l.rule.unit == 'm' and permits or amount)
    l.rule.dirty = true
    suffixes[at] = l.rule.suffix
    if (l.limit - l.rule.sum - l.rule.flight) * 10 < l.limit then tight = true end
  end
  save_rules()
  if first then
    redis.call('HSET', grants, token, cmsgpack.pack({
      left = permits, left_r = amount, unused = 0, unused_r = 0, till = now + lease, permits = permits,
      rules = table.concat(suffixes, ' '),
    }))
    redis.call('PEXPIRE', grants, DAY)
  end
  if own then redis.call('HDEL', line_key, mine) end
  if shares and first then
    redis.call('HSET', shares_key, app, struct.pack('<dd', own_virtual + permits / weight, now))
    redis.call('PEXPIRE', shares_key, 60000)
  end
  if slot ~= '' then
    redis.call('ZADD', slots_key, now + lease, slot)
    redis.call('ZADD', host_slots_key, now + lease, slot)
    redis.call('PEXPIRE', slots_key, DAY)
    redis.call('PEXPIRE', host_slots_key, DAY)
    begin_login(logins_key, slot, gap, counted)
    begin_login(host_logins_key, slot, host_gap, false)
  end
  return { 'yes', permits, tight and 1 or 0, want }
end
