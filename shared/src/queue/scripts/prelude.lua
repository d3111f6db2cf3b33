-- Shared head of every script: names for the keys and the one place that puts a job into a waiting set.
--
-- KEYS  ready    ZSET  id -> class * SPAN + start tag        jobs in the order they will be claimed
--       delayed  ZSET  id -> due, ms                         jobs whose time has not come
--       leases   ZSET  id -> deadline and token, see below   jobs in a worker's hands
--       jobs     HASH  id -> 16 bytes tenant, class, weight  everything ordering needs, kept until the job is forgotten
--       again    HASH  id -> due, ms                         leased jobs that were pushed again meanwhile
--       tags     ZSET  class+tenant -> class * SPAN + finish tag
--       clock    HASH  class -> virtual time
--       wake     channel
--       paused   STRING there while nothing may be claimed
--
-- Start-time fair queueing: a job's start tag is max(virtual time, finish tag of its tenant's previous job), its finish
-- tag lies COST / weight further on, and the virtual time is the start tag of the job claimed last. Everything is an
-- integer: COST is divisible by 1..10, and a class may hand out 2^51 / COST = 2 * 10^11 jobs without ever running empty
-- before doubles lose precision. When nothing waits, tags and clock are deleted, so they cost memory only in a backlog.
--
-- A lease's score is its deadline in units of TICK ms, times TOKENS, plus the token of the claim: one member says how
-- long and whose. 53 bits are enough for that until the year 2109.
local READY, DELAYED, LEASES, JOBS, AGAIN, TAGS, CLOCK, WAKE, PAUSED = unpack(KEYS)
local COST, SPAN = 10080, 2251799813685248
local TICK, TOKENS = 128, 262144

local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)

local clock, finish = {}, {}
-- Tables are filled by counting: `#` searches for the end each time.
local to_ready, readies, to_delayed, delays, first_due = {}, 0, {}, 0, nil

local function virtual_time(class)
  if not clock[class] then clock[class] = tonumber(redis.call('HGET', CLOCK, class) or 0) end
  return clock[class]
end

-- Due now, and its tenant pays for it.
local function enqueue(id, meta)
  local class = string.sub(meta, 17, 17)
  local flow = class .. string.sub(meta, 1, 16)
  local tag = class * SPAN + virtual_time(class)
  local last = finish[flow] or tonumber(redis.call('ZSCORE', TAGS, flow) or 0)
  if last > tag then tag = last end
  finish[flow] = tag + math.max(1, math.floor(COST / string.sub(meta, 18)))
  to_ready[readies + 1] = tag
  to_ready[readies + 2] = id
  readies = readies + 2
end

-- Due now, already paid for: handed back unstarted, or its lease ran out. First of its class again.
local function requeue(id, meta)
  local class = string.sub(meta, 17, 17)
  to_ready[readies + 1] = class * SPAN + virtual_time(class)
  to_ready[readies + 2] = id
  readies = readies + 2
end

local function delay(id, due)
  to_delayed[delays + 1] = due
  to_delayed[delays + 2] = id
  delays = delays + 2
  if not first_due or due < first_due then first_due = due end
end

-- Writes what the three functions above collected. True if an idle worker has to hear of it: whoever sleeps has seen
-- `ready` empty and knows the earliest due time, so only a change of these two matters.
local function flush()
  local wake = false
  if readies > 0 then
    wake = redis.call('EXISTS', READY) == 0
    redis.call('ZADD', READY, unpack(to_ready))
    local tags, n = {}, 0
    for flow, tag in pairs(finish) do
      tags[n + 1] = tag
      tags[n + 2] = flow
      n = n + 2
    end
    if n > 0 then redis.call('ZADD', TAGS, unpack(tags)) end
  end
  if delays > 0 then
    local head = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
    wake = wake or not head[2] or first_due < tonumber(head[2])
    redis.call('ZADD', DELAYED, unpack(to_delayed))
  end
  return wake
end

-- The due times of those that were pushed again while they were leased; almost always nobody.
local function agains(ids)
  if redis.call('EXISTS', AGAIN) == 0 then return {} end
  return redis.call('HMGET', AGAIN, unpack(ids))
end
