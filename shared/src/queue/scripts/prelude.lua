-- Shared head of every script: names for the keys and the one place that puts a job into a waiting set.
--
-- KEYS  ready    ZSET  id -> class * SPAN + start tag        jobs in the order they will be claimed
--       delayed  ZSET  id -> due, ms                         jobs whose time has not come
--       leases   ZSET  id -> deadline, ms                    jobs in a worker's hands
--       jobs     HASH  id -> 16 bytes tenant, class, weight  everything ordering needs, kept until the job is forgotten
--       owners   HASH  id -> 8 bytes lease token [due, ms]   who holds the lease; a due time means "again afterwards"
--       tags     ZSET  class+tenant -> class * SPAN + finish tag
--       clock    HASH  class -> virtual time
--       wake     channel
--
-- Start-time fair queueing: a job's start tag is max(virtual time, finish tag of its tenant's previous job), its finish
-- tag lies COST / weight further on, and the virtual time is the start tag of the job claimed last. Everything is an
-- integer: COST is divisible by 1..10, and a class may hand out 2^51 / COST = 2 * 10^11 jobs without ever running empty
-- before doubles lose precision. When nothing waits, tags and clock are deleted, so they cost memory only in a backlog.
local READY, DELAYED, LEASES, JOBS, OWNERS, TAGS, CLOCK, WAKE = unpack(KEYS)
local COST, SPAN = 10080, 2251799813685248

local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)

local clock, finish = {}, {}
local to_ready, to_delayed, first_due = {}, {}, nil

local function virtual_time(class)
  if not clock[class] then clock[class] = tonumber(redis.call('HGET', CLOCK, class) or 0) end
  return clock[class]
end

-- Due now, and its tenant pays for it.
local function enqueue(id, meta)
  local class = string.sub(meta, 17, 17)
  local flow = class .. string.sub(meta, 1, 16)
  local base = class * SPAN
  local tag = base + virtual_time(class)
  local last = finish[flow] or tonumber(redis.call('ZSCORE', TAGS, flow) or 0)
  if last > tag then tag = last end
  finish[flow] = tag + math.max(1, math.floor(COST / string.sub(meta, 18)))
  to_ready[#to_ready + 1] = tag
  to_ready[#to_ready + 1] = id
end

-- Due now, already paid for: handed back unstarted, or its lease ran out. First of its class again.
local function requeue(id, meta)
  local class = string.sub(meta, 17, 17)
  to_ready[#to_ready + 1] = class * SPAN + virtual_time(class)
  to_ready[#to_ready + 1] = id
end

local function delay(id, due)
  to_delayed[#to_delayed + 1] = due
  to_delayed[#to_delayed + 1] = id
  if not first_due or due < first_due then first_due = due end
end

-- Writes what the three functions above collected. True if an idle worker has to hear of it: whoever sleeps has seen
-- `ready` empty and knows the earliest due time, so only a change of these two matters.
local function flush()
  local wake = false
  if #to_ready > 0 then
    wake = redis.call('ZCARD', READY) == 0
    redis.call('ZADD', READY, unpack(to_ready))
    local tags = {}
    for flow, tag in pairs(finish) do
      tags[#tags + 1] = tag
      tags[#tags + 1] = flow
    end
    if #tags > 0 then redis.call('ZADD', TAGS, unpack(tags)) end
  end
  if #to_delayed > 0 then
    local head = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
    wake = wake or not head[2] or first_due < tonumber(head[2])
    redis.call('ZADD', DELAYED, unpack(to_delayed))
  end
  return wake
end
