-- Shared head of the governor's scripts: the keys, the clock, and the state of one provider.
--
-- KEYS  state  HASH  what has been learned about the provider, see below; forgotten when it is idle
--       calls  ZSET  id of a call on its way -> ms until when it may last, after which its worker is dead
--
-- state  rest      no calls before this time
--        turn      when the caller told last comes back; the next is told a later time
--        pace      calls a second it is known to take, 0 before its first 429
--        peak      the pace at which it said 429 last
--        cut       when the pace was cut last
--        cuts      how often, since it was forgotten
--        grown     when the pace grew last
--        pressed   when a call had to wait for the pace last
--        next      when the next call is due at this pace
--        few       until this time the provider has few calls left, which go
--        apart     ms after one another
--        window    calls at once, at most; grows from START with every answer
--        lag       ms an answer takes, smoothed
--        since, count, rate   answers a second: of the running second, and of those before, smoothed
--        failures  in a row
--        opens     how often the circuit opened in a row; 0 is closed
--        open      it stays open until this time, then one probe may go
--        probe     id of the call that is the probe, as long as it is in `calls`
-- Times are ms since the epoch.
local STATE, CALLS = KEYS[1], KEYS[2]
-- START: the first window. SLACK: ms that a call may be late without losing its place in the pace. LONGEST_TURN: ms.
-- MEMORY: ms that an idle provider is remembered.
local START, SLACK, LONGEST_TURN, MEMORY = 16, 100, 30000, 900000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local NAMES = { 'rest', 'turn', 'pace', 'peak', 'cut', 'cuts', 'grown', 'pressed', 'next', 'window', 'lag', 'since',
  'count', 'rate', 'failures', 'opens', 'open', 'few', 'apart' }
local s = {}
for n, value in ipairs(redis.call('HMGET', STATE, unpack(NAMES))) do s[NAMES[n]] = tonumber(value or 0) end
if s.window == 0 then s.window = START end

local function save()
  local fields = {}
  for n, name in ipairs(NAMES) do
    fields[n * 2 - 1] = name
    fields[n * 2] = string.format('%.4f', s[name])
  end
  redis.call('HSET', STATE, unpack(fields))
  redis.call('PEXPIRE', STATE, math.max(MEMORY, s.rest - now + MEMORY, s.open - now + MEMORY))
end

