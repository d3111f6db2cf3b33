-- claim: lease up to n jobs. ARGV: n, lease ms, token, sweep limit.
-- Returns { microseconds until the next delayed job is due or -1, { id* } }.
--
-- Before it takes anything it moves what has fallen due out of `delayed`, and what was leased by a worker that went
-- silent back to the front of `ready`; both at most `sweep limit` at a time, so that no single call is long.
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

local popped = redis.call('ZPOPMIN', READY, n)
local taken = #popped / 2
local ids, leases = {}, {}
if taken > 0 then
  local deadline = math.ceil((now + lease) / TICK) * TOKENS + token
  for i = 1, taken do
    local id = popped[i * 2 - 1]
    ids[i] = id
    leases[i * 2 - 1] = deadline
    leases[i * 2] = id
  end
  redis.call('ZADD', LEASES, unpack(leases))
end

if taken < n or redis.call('EXISTS', READY) == 0 then
  redis.call('DEL', TAGS, CLOCK)
else
  -- All of a class was taken before any of the next: only the last job's class is still waiting.
  local first, last = math.floor(popped[2] / SPAN), math.floor(popped[taken * 2] / SPAN)
  for class = first, last - 1 do
    redis.call('HDEL', CLOCK, class)
    redis.call('ZREMRANGEBYSCORE', TAGS, class * SPAN, '(' .. string.format('%.0f', (class + 1) * SPAN))
  end
  local tag = popped[taken * 2] - last * SPAN
  redis.call('HSET', CLOCK, last, tag)
  -- A finish tag the clock has passed says nothing any more: that tenant starts at the clock like a new one.
  local stale = redis.call('ZRANGEBYSCORE', TAGS, last * SPAN, last * SPAN + tag, 'LIMIT', 0, limit)
  if #stale > 0 then redis.call('ZREM', TAGS, unpack(stale)) end
  if moved then redis.call('PUBLISH', WAKE, '') end
end

local head = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
local next_us = -1
if head[2] then next_us = math.max(0, head[2] * 1000 - now_us) end
return { next_us, ids }
