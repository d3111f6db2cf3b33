-- claim: lease up to n jobs. ARGV: n, lease ms, token (8 bytes), sweep limit.
-- Returns { microseconds until the next delayed job is due or -1, { id* } }.
--
-- Before it takes anything it moves what has fallen due out of `delayed`, and what was leased by a worker that went
-- silent back to the front of `ready`; both at most `sweep limit` at a time, so that no single call is long.
local n, lease, token, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local moved = false

local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', now, 'LIMIT', 0, limit)
if #due > 0 then
  moved = true
  redis.call('ZREM', DELAYED, unpack(due))
  local metas = redis.call('HMGET', JOBS, unpack(due))
  for i, id in ipairs(due) do
    if metas[i] then enqueue(id, metas[i]) end
  end
end

local expired = redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, limit)
if #expired > 0 then
  moved = true
  redis.call('ZREM', LEASES, unpack(expired))
  local metas = redis.call('HMGET', JOBS, unpack(expired))
  local owners = redis.call('HMGET', OWNERS, unpack(expired))
  redis.call('HDEL', OWNERS, unpack(expired))
  for i, id in ipairs(expired) do
    local again = owners[i] and tonumber(string.sub(owners[i], 9))
    if metas[i] then
      if again and again > now then delay(id, again) else requeue(id, metas[i]) end
    end
  end
end
flush()

local ids, leases, owners, reached = {}, {}, {}, {}
local popped = redis.call('ZPOPMIN', READY, n)
for i = 1, #popped, 2 do
  local id, score = popped[i], tonumber(popped[i + 1])
  local class = math.floor(score / SPAN)
  reached[class] = score - class * SPAN
  ids[#ids + 1] = id
  leases[#leases + 1] = now + lease
  leases[#leases + 1] = id
  owners[#owners + 1] = id
  owners[#owners + 1] = token
end
if #ids > 0 then
  redis.call('ZADD', LEASES, unpack(leases))
  redis.call('HSET', OWNERS, unpack(owners))
end

if #ids < n or redis.call('EXISTS', READY) == 0 then
  redis.call('DEL', TAGS, CLOCK)
else
  for class, tag in pairs(reached) do
    redis.call('HSET', CLOCK, class, tag)
    -- A finish tag the clock has passed says nothing any more: that tenant starts at the clock like a new one.
    local stale = redis.call('ZRANGEBYSCORE', TAGS, class * SPAN, class * SPAN + tag, 'LIMIT', 0, limit)
    if #stale > 0 then redis.call('ZREM', TAGS, unpack(stale)) end
  end
  if moved then redis.call('PUBLISH', WAKE, '') end
end

local head = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
local next_us = -1
if head[2] then next_us = math.max(0, head[2] * 1000 - now_us) end
return { next_us, ids }
