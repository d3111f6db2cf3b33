-- claim: lease up to n jobs. ARGV: n, lease ms, token, sweep limit.
-- Returns { microseconds until the next delayed job is due or -1, { id* } }.
--
-- While the queue is paused it takes nothing and moves nothing.
--
-- Before it takes anything it moves what has fallen due out of `delayed`, and what was leased by a worker that went
-- silent back to the front of `ready`; both at most `sweep limit` at a time, so that no single call is long.
if redis.call('EXISTS', PAUSED) == 1 then return { -1, {} } end

local n, lease, token, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
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

local oldest = math.floor(now / TICK) * TOKENS
local expired = redis.call('ZRANGEBYSCORE', LEASES, '-inf', '(' .. string.format('%.0f', oldest), 'LIMIT', 0, limit)
if #expired > 0 then
  moved = true
  redis.call('ZREM', LEASES, unpack(expired))
  local metas, again = redis.call('HMGET', JOBS, unpack(expired)), agains(expired)
  redis.call('HDEL', AGAIN, unpack(expired))
  for i, id in ipairs(expired) do
    local at = again[i] and tonumber(again[i])
    if metas[i] then
      if at and at > now then delay(id, at) else requeue(id, metas[i]) end
    end
  end
end
flush()

local ids = redis.call('ZRANGE', READY, 0, n - 1)
local taken = #ids
local first, last = 0, 0
if taken > 0 then
  -- Cheaper than ZPOPMIN, which would print every score; only those at the ends are needed.
  first, last = redis.call('ZSCORE', READY, ids[1]), redis.call('ZSCORE', READY, ids[taken])
  redis.call('ZREMRANGEBYRANK', READY, 0, taken - 1)
  local deadline = string.format('%.0f', math.ceil((now + lease) / TICK) * TOKENS + token)
  local leases = {}
  for i = 1, taken do
    leases[i * 2 - 1] = deadline
    leases[i * 2] = ids[i]
  end
  redis.call('ZADD', LEASES, unpack(leases))
end

if taken < n or redis.call('EXISTS', READY) == 0 then
  redis.call('DEL', TAGS, CLOCK)
else
  -- All of a class is taken before any of the next: only the last job's class is still waiting.
  local class = math.floor(last / SPAN)
  for over = math.floor(first / SPAN), class - 1 do
    redis.call('HDEL', CLOCK, over)
    redis.call('ZREMRANGEBYSCORE', TAGS, over * SPAN, '(' .. string.format('%.0f', (over + 1) * SPAN))
  end
  redis.call('HSET', CLOCK, class, last - class * SPAN)
  -- A finish tag the clock has passed says nothing any more: that tenant starts at the clock like a new one.
  local stale = redis.call('ZRANGEBYSCORE', TAGS, class * SPAN, last, 'LIMIT', 0, limit)
  if #stale > 0 then redis.call('ZREM', TAGS, unpack(stale)) end
  if moved then redis.call('PUBLISH', WAKE, '') end
end

local head = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
local next_us = -1
if head[2] then next_us = math.max(0, head[2] * 1000 - now_us) end
return { next_us, ids }
