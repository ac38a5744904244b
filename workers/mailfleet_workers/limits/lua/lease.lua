-- Logins, slots that are given back, leases that are renewed. Continues wait.lua.

-- token account gap host_gap counted
function ops.login()
  local token, account, gap, host_gap = ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
  local counted = ARGV[9] == '1'
  local key, host_key = base .. 'logins:' .. account, base .. 'logins'
  local logins = logins_of(key)
  if logins.progress[token] then return { 'yes' } end
  local wait, why = login_wait(logins, gap, counted)
  if not wait and host_gap > 0 then wait, why = login_wait(logins_of(host_key), host_gap, false) end
  if wait then return { 'no', why, string.format('%.3f', wait), 1, 0 } end
  begin_login(key, token, gap, counted)
  begin_login(host_key, token, host_gap, false)
  return { 'yes' }
end

-- token account gap host_gap counted how
function ops.logged_in()
  local token, account, gap, host_gap = ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
  if gap > 0 or ARGV[9] == '1' then end_login(base .. 'logins:' .. account, token, ARGV[10], gap) end
  if host_gap > 0 then end_login(base .. 'logins', token, 'failed', host_gap) end
  return { 'yes' }
end

-- token account gap host_gap counted linger
function ops.close()
  local token, account, linger = ARGV[5], ARGV[6], tonumber(ARGV[10])
  -- Closed in its login: that has ended too.
  for key, gap in pairs({ [base .. 'logins:' .. account] = tonumber(ARGV[7]), [base .. 'logins'] = tonumber(ARGV[8]) }) do
    if gap > 0 or ARGV[9] == '1' then
      local logins = logins_of(key)
      if logins.progress[token] then end_login(key, token, 'failed', gap) end
    end
  end
  for _, key in ipairs({ base .. 'slots:' .. account, base .. 'slots' }) do
    if linger > 0 then redis.call('ZADD', key, 'XX', 'LT', now + linger, token) else redis.call('ZREM', key, token) end
  end
  return { 'yes' }
end

-- What is left of a grant is in flight in all the rules named *suffixes*.
local function fly(grant, suffixes)
  local known = ' ' .. grant.rules .. ' '
  for suffix in string.gmatch(suffixes, '%S+') do
    if not string.find(known, ' ' .. suffix .. ' ', 1, true) then
      local r = rule(suffix)
      r.flight, r.dirty = r.flight + (r.unit == 'm' and grant.left or grant.left_r), true
      grant.rules = grant.rules == '' and suffix or grant.rules .. ' ' .. suffix
    end
  end
end

-- owner connections-of-host, then: grants as TOKEN LEFT LEFT_R UNUSED UNUSED_R ADOPT RULES...; slots as TOKEN ACCOUNT MOST ADOPT;
-- accounts whose line is of interest; rules to keep. Each list in one argument, by lines. ADOPT 1 is of another epoch and ours
-- for certain. ADOPT 2 is lost: not ours, but its conversation goes on, so it counts until that has ended.
function ops.renew()
  local owner, host_most = ARGV[5], tonumber(ARGV[6])
  local answer, logins, prolonged = { 'yes' }, {}, {}
  for token, a, b, c, d, adopt, suffixes in string.gmatch(ARGV[7], '(%S+) (%d+) (%d+) (%d+) (%d+) (%d) ([^\n]*)\n') do
    local packed = redis.call('HGET', grants, token)
    if packed then
      local grant = unpack_grant(packed)
      finish(grant, tonumber(a), tonumber(b), tonumber(c), tonumber(d))
      grant.till = now + lease
      -- A rule that began while it was on its way has to count it too.
      if grant.rules ~= suffixes then fly(grant, suffixes) end
      save_grant(token, grant)
    else
      -- Its lease ran out, and it counts as sent; that it has ended may have been heard just now.
      if adopt ~= '1' then answer[#answer + 1] = 'gone ' .. token end
      if adopt ~= '0' and (a ~= '0' or b ~= '0') then
        local left, left_r = tonumber(a), tonumber(b)
        local grant = { left = left, left_r = left_r, unused = tonumber(c), unused_r = tonumber(d), till = now + lease, permits = left, rules = '' }
        fly(grant, suffixes)
        redis.call('HSET', grants, token, pack_grant(grant))
      end
    end
  end
  for token, account, most, adopt in string.gmatch(ARGV[8], '(%S+) (%S+) (%d+) (%d)\n') do
    local key, host_key = base .. 'slots:' .. account, base .. 'slots'
    local held = is_open(key, token) and is_open(host_key, token)
    if not held and adopt == '0' then
      -- It lapsed. Ours again if nobody took it.
      redis.call('ZREM', key, token)
      redis.call('ZREM', host_key, token)
      most = tonumber(most)
      held = (most == 0 or open_slots(key) < most) and (host_most == 0 or open_slots(host_key) < host_most)
    end
    -- One that is lost is not ours, but its connection is open still.
    if held or adopt ~= '0' then
      redis.call('ZADD', key, now + lease, token)
      redis.call('ZADD', host_key, now + lease, token)
      redis.call('PEXPIRE', key, DAY)
      redis.call('PEXPIRE', host_key, DAY)
      for _, each in ipairs({ base .. 'logins:' .. account, base .. 'logins' }) do
        logins[each] = logins[each] or logins_of(each)
        local progress = logins[each].progress
        if progress[token] then progress[token], prolonged[each] = now + lease, true end
      end
    end
    if not held and adopt ~= '1' then answer[#answer + 1] = 'lost ' .. token end
  end
  for each in pairs(prolonged) do save_logins(each, logins[each]) end
  for account in string.gmatch(ARGV[9], '%S+') do
    local key, others = base .. 'line:' .. account, {}
    for _, one in ipairs((line_of(key, ''))) do
      if one.owner ~= owner then others[#others + 1] = one end
    end
    if wanted(others, key, '', 9) > 0 then answer[#answer + 1] = 'wanted ' .. account end
  end
  reap()
  for suffix in string.gmatch(ARGV[10], '%S+') do
    local r = rule(suffix)
    hear(r)
    if r.ready ~= 1 then answer[#answer + 1] = 'unready ' .. suffix end
  end
  save_rules()
  return answer
end
