-- What is finished, and when mails that are given back should come again. Continues ask.lua.

-- reports
function ops.report()
  reports(ARGV[5])
  reap()
  save_rules()
  return { 'yes' }
end

if op == 'report' then return ops.report() end

-- app priority account mails after reserve weight max_idle, then for each rule its suffix and limit.
function ops.park()
  local app, rank, account, mails, after = ARGV[5], tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
  local reserve, weight, max_idle = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
  local key, mine = base .. 'parked:' .. account, app .. ' ' .. rank

  -- What was parked before and has not come yet: of ours, of those that go first, of other apps beside us.
  local own, before, beside, heavy, came = 0, 0, 0, 0, now + DAY
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    local from, till, count, its_weight = struct.unpack('<dddd', all[at + 1])
    local its_app, its_rank = string.match(all[at], '^(%S+) (%d)$')
    its_rank = tonumber(its_rank)
    if till <= now then
      redis.call('HDEL', key, all[at])
    else
      if now > from then count = count * (till - now) / (till - from) end
      if all[at] == mine then
        own, came = count, from
      elseif its_rank < rank then
        before = before + count
      elseif its_rank == rank then
        beside, heavy = beside + count, heavy + its_weight
      end
    end
  end

  local limits = {}
  for at = 13, #ARGV, 2 do
    local r, limit = rule(ARGV[at]), tonumber(ARGV[at + 1])
    if rank == 2 then limit = math.max(1, math.floor(limit * (1 - reserve))) end
    local leaves = releases(r)
    local last = (leaves[#leaves - 1] or leaves[1]).wait
    limits[#limits + 1] = { limit = limit, free = limit - r.sum - r.flight, rounds = r.window, leaves = leaves, last = last }
  end
  local waits, first, last = {}, nil, 0
  for k = 1, mails do
    -- Apps of one priority come in turns, by their weights.
    local place = before + own + k + math.min(beside, (own + k) * heavy / weight)
    local wait = after
    for _, l in ipairs(limits) do
      local behind = place - l.free
      if behind > 0 then
        -- They come as permits become free: those that count now, then those that go in their places, and so on.
        local rounds = math.ceil(behind / l.limit) - 1
        local rest, at = behind - rounds * l.limit, l.at or 1
        if rounds ~= l.round then l.round, at = rounds, 1 end
        while l.leaves[at + 1] and l.leaves[at].sum < rest do at = at + 1 end
        l.at = at
        local free = math.max(l.leaves[at].wait, 0) + rounds * l.rounds
        -- After a longer wait all of them are free: then at the pace of the rule.
        if after > l.last then free = math.max(free, after + (behind - 1) * l.rounds / l.limit) end
        wait = math.max(wait, free)
      end
    end
    first, last = first or wait, math.max(last, wait)
    -- Early, so that they are there when their permits are: what is left of their wait they sleep. Hints wait for whole
    -- seconds and take a moment, so that they come as much later as not at all. After a day they ask again in any case:
    -- limits may have changed.
    local early = math.min(last - math.min(0.9 * max_idle + 200, last / 2), DAY)
    waits[k] = string.format('%.0f', math.max(after, early))
  end
  if last > 0 then
    -- Those that ask again after a day are back by then.
    last = math.min(last, math.max(DAY, after))
    local from, till = math.min(came, now + first), now + last + 1
    redis.call('HSET', key, mine, struct.pack('<dddd', math.max(from, now), till, own + mails, weight))
    redis.call('PEXPIRE', key, math.ceil(last + HOUR))
  end
  save_rules()
  return waits
end
