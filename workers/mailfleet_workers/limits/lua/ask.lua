-- Permits, and a slot with them: the one question that every mail asks. Continues line.lua.

local ops = {}

-- "token app priority weight slot comes recipients" (- for no slot, - for no mail) reports owner account numbers names, then each
-- rule's name. The numbers, as doubles: reserve max_idle shares connections host_connections gap host_gap counted, then each
-- rule's window, limit, and whether it counts recipients. The names are all of them in one.
function ops.ask()
  local token, app, rank, weight, slot, new, wished = string.match(ARGV[5], '^(%S+) (%S+) (%d) (%d+) (%S+) (%d) (%S+)$')
  local owner, account, numbers, suffixes = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
  local reserve, max_idle, shares, connections, host_connections, gap, host_gap, counted = struct.unpack('<dddddddd', numbers)
  rank, weight, shares, counted = tonumber(rank), tonumber(weight), shares == 1, counted == 1

  local first, limits = tonumber(string.match(wished, '%d+')), {}
  if first then -- else only a slot is asked for
    for at = 11, #ARGV do
      local window, limit, of_recipients = struct.unpack('<ddd', numbers, 65 + 24 * (at - 11))
      local r = rule(ARGV[at], window, of_recipients == 1 and 'r' or 'm')
      r.suffix, r.limit = ARGV[at], limit
      hear(r)
      limits[at - 10] = r
    end
  end
  if ARGV[6] ~= '' then reports(ARGV[6]) end
  reap()
  for _, r in ipairs(limits) do
    local most = r.limit
    if rank == 2 then r.limit = math.max(1, math.floor(most * (1 - reserve))) end
    if r.unit == 'r' then
      if first > most then
        save_rules()
        return string.format('no inf 0 0 %s', r.suffix)
      end
      r.limit = math.max(r.limit, first)
    end
  end

  local line_key = base .. 'line:' .. account
  local mine = owner .. ' ' .. app .. ' ' .. rank
  local line, own = line_of(line_key, mine)
  local waiting = {}
  for _, one in ipairs(line) do waiting[one.app] = true end
  if shares then read_shares(account, rank, waiting) end
  local fresh = shares and not had[app]
  local function want() return wanted(line, line_key, app, rank, slot == '-') end
  -- Since when it waits for a connection. An app that comes for its first mail, or its next after a while, is before all others.
  local since = own and own.slot > 0 and own.since or shares and new == '1' and comes(own, app, rank, waiting) and now - LONG_AGO or now

  -- Refused: stand in line for a short wait, so that nobody who comes behind goes ahead meanwhile. *lacks* is 0 for permits,
  -- 1 for a connection that somebody could close, 2 for a login, 3 for permits and a connection, 4 for a connection of a lower
  -- priority, 5 for any connection, both at once.
  local function refuse(why, wait, lacks)
    save_rules()
    if wait <= max_idle then
      redis.call('HSET', line_key, mine, struct.pack('<ddd', now + wait, lacks, since))
      redis.call('PEXPIRE', line_key, HOUR)
      if shares then join(account, app, rank) end
    elseif own then
      redis.call('HDEL', line_key, mine)
    end
    return string.format('no %.3f %d %d %s', wait + 0.01, lacks ~= 0 and lacks ~= 3 and 1 or 0, want(), why)
  end

  local known = redis.call('HGET', grants, token)
  if known then
    save_rules()
    local grant = unpack_grant(known)
    return string.format('yes %d 0 %d', grant.permits, want())
  end
  if meta.open == 0 then return refuse('not ready', 1000, 0) end
  local gates = redis.call('MGET', base .. 'gate:host', base .. 'gate:account:' .. account)
  for at = 1, 2 do
    if gates[at] then
      local gate = cmsgpack.unpack(gates[at])
      if gate.till > now then
        save_rules()
        local whose = at == 1 and 'host' or 'account'
        return string.format('gate %.3f %s %d %s', gate.till - now, whose, gate.generation, gate.reason)
      end
    end
  end
  for _, r in ipairs(limits) do
    if r.ready ~= 1 then return refuse('not ready', 1000, 0) end
  end

  -- The connection.
  local slots_key, host_slots_key = base .. 'slots:' .. account, base .. 'slots'
  local logins_key, host_logins_key = base .. 'logins:' .. account, base .. 'logins'
  -- Asked again after an answer that was lost, it is taken already.
  local opens = slot ~= '-' and not is_open(slots_key, slot)
  if opens then
    for at, key in ipairs({ slots_key, host_slots_key }) do
      local most = at == 1 and connections or host_connections
      if most > 0 then
        local class = rank == 2 and math.max(1, most - math.floor(most * reserve)) or most
        local ahead = 0
        for _, one in ipairs(line) do
          if one.slot > 0 and before(one, app, rank, since) then ahead = ahead + 1 end
        end
        if open_slots(key) + ahead >= class then
          local why = (at == 1 and 'account' or 'host') .. ' connections ' .. most
          local lacks = since < 0 and 5 or rank == 0 and 4 or 1
          -- Who has said so is heard once.
          if own and own.slot == 1 then lacks = 1 end
          return refuse(why, math.min(100 * (1 + ahead), 300), lacks)
        end
      end
    end
    if gap > 0 or counted then
      local wait, why = login_wait(logins_of(logins_key), gap, counted)
      if wait then return refuse(why, wait, 2) end
    end
    if host_gap > 0 then
      local wait, why = login_wait(logins_of(host_logins_key), host_gap, false)
      if wait then return refuse(why, wait, 2) end
    end
  end

  -- Who goes first: a higher priority, and of other apps the one that has had less for its weight.
  local higher, poorer, told, own_had = 0, 0, {}, had_of(app)
  for _, one in ipairs(line) do
    -- One that lacks a connection keeps nothing from those that have one; one that lacks permits too keeps its rank.
    if one.slot == 0 or one.slot == 3 then
      local its = had_of(one.app)
      if one.rank < rank then
        higher = higher + 1
      elseif one.rank == rank and its < own_had then
        poorer = poorer + 1
      elseif one.rank == rank and its == own_had and one.told > now and one.slot == 0 then
        told[#told + 1] = one.told
      end
    end
  end
  for other, share in pairs(had) do
    -- Between two grants it is out of line.
    if other ~= app and not waiting[other] and share.rank == rank and now - share.served <= GRACE
      and had_of(other) < own_had then
      poorer = poorer + 1
    end
  end
  local ahead = higher + poorer

  -- While several apps wait permits go out one after the other, not all in the moment in which they are free: what comes
  -- new finds some that are free soon, not a burst that must end first.
  local pace, rivals = 0, false
  for other, share in pairs(had) do
    if other ~= app and competes(other, share, waiting) then rivals = true end
  end
  if first and rivals then
    for _, r in ipairs(limits) do
      if r.unit == 'm' and r.window <= LONGEST_PACED then pace = math.max(pace, 0.8 * r.window / r.limit) end
    end
    paced = math.max(paced, now - GRACE)
  end

  local free, free_r = math.huge, math.huge
  if pace > 0 and not fresh and paced <= now then free = 1 + math.floor((now - paced) / pace) end
  for _, r in ipairs(limits) do
    local left = r.limit - r.sum - r.flight - ahead
    if r.unit == 'm' then free = math.min(free, left) else free_r = math.min(free_r, left) end
  end
  local permits, amount = 0, 0
  for text in string.gmatch(wished, '%d+') do
    local one = tonumber(text)
    if permits + 1 > free or amount + one > free_r then break end
    permits, amount = permits + 1, amount + one
  end

  if permits > 0 and pace > 0 and not fresh and paced > now then
    return refuse('share', paced - now + pace * math.min(ahead, 2), slot ~= '-' and 3 or 0)
  end
  if first and permits == 0 then
    local blocked = false
    for _, r in ipairs(limits) do
      local need = r.unit == 'm' and 1 or first
      if need > r.limit - r.sum - r.flight then blocked = true end
    end
    if not blocked then return refuse(higher > 0 and 'priority' or 'share', 20 * ahead, slot ~= '-' and 3 or 0) end
    -- The first release that nobody of our kind was told of.
    local till, why
    for before = 0, #told do
      till, why = now, nil
      for _, r in ipairs(limits) do
        local free_then = free_at(r, r.limit, (r.unit == 'm' and 1 or first) + ahead + before)
        if free_then >= till then till, why = free_then, r.suffix end
      end
      if not told[before + 1] or told[before + 1] > till then break end
    end
    return refuse(why, till - now, slot ~= '-' and 3 or 0)
  end

  local tight = #line > 0
  for _, r in ipairs(limits) do
    r.flight = r.flight + (r.unit == 'm' and permits or amount)
    r.dirty = true
    if (r.limit - r.sum - r.flight) * 10 < r.limit then tight = true end
  end
  save_rules()
  if first then
    local grant = { left = permits, left_r = amount, unused = 0, unused_r = 0, till = now + lease, permits = permits, rules = suffixes }
    redis.call('HSET', grants, token, pack_grant(grant))
  end
  if own then redis.call('HDEL', line_key, mine) end
  if shares and first then serve(account, app, rank, permits / weight, waiting, paced + pace * permits) end
  if opens then
    redis.call('ZADD', slots_key, now + lease, slot)
    redis.call('ZADD', host_slots_key, now + lease, slot)
    redis.call('PEXPIRE', slots_key, DAY)
    redis.call('PEXPIRE', host_slots_key, DAY)
    begin_login(logins_key, slot, gap, counted)
    begin_login(host_logins_key, slot, host_gap, false)
  end
  return string.format('yes %d %d %d', permits, tight and 1 or 0, want())
end


-- What follows is of the other operations, and need not be made for this one.
if op == 'ask' then return ops.ask() end
