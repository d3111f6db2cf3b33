-- admit: a place for one call. ARGV: id of the call, calls at once, ms a call may last, calls a minute or 0.
-- Returns { 'go', now } or { why not, ms until it is worth asking again }.
--
-- Those who have to wait are told times one after the other, as far apart as calls can be admitted, so that they come
-- back in a row and not in a crowd. They are no reservations: whoever does not come back costs nothing.
local id, concurrency, lease, minute = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local pace = s.pace
if minute > 0 and (pace == 0 or pace > minute / 60) then pace = minute / 60 end
local learned = pace > 0 and pace == s.pace
local few = s.few > now and s.apart > 0 and (pace == 0 or pace > 1000 / s.apart)
if few then pace, learned = 1000 / s.apart, false end
local limit = math.max(1, math.min(concurrency, math.floor(s.window)))

redis.call('ZREMRANGEBYSCORE', CALLS, '-inf', now)
local open = redis.call('ZCARD', CALLS)

local why, at
if s.rest > now then
  why, at = 'rest', s.rest
elseif s.open > now then
  why, at = 'open', s.open
elseif s.opens > 0 then
  local probe = redis.call('HGET', STATE, 'probe')
  if probe and redis.call('ZSCORE', CALLS, probe) then
    why, at = 'open', now + 1000
  end
elseif open >= limit then
  why, at = 'full', now
elseif few and s.next > now then
  -- when there are more again, nobody has to wait for his place any more
  why, at = 'few', math.min(s.next, s.few)
elseif pace > 0 and s.next > now + SLACK then
  why, at = 'pace', s.next
end

if why then
  -- window and pace are guesses that grow (see report.lua): those who are told to come late find them grown
  local ahead, lag = math.max(0, s.turn - math.max(now, at)), s.lag > 0 and s.lag or 200
  if s.cuts == 0 then limit = math.min(concurrency, limit * 2 ^ math.min(10, ahead / lag)) end
  if learned then
    pace = pace * math.exp(math.min(2, (s.cuts <= 1 and 0.5 or 0.05) * ahead / 1000))
  end
  local apart = math.max(lag / limit, pace > 0 and 1000 / pace or 0)
  s.turn = math.max(s.turn, at) + apart
  if why == 'pace' and learned then s.pressed = now end
  -- a queue longer than this starts again at its head; the crowd is thin by then
  if s.turn > at + LONGEST_TURN then s.turn = at + apart end
  save()
  return { why, math.ceil(s.turn - now) }
end

if s.opens > 0 then redis.call('HSET', STATE, 'probe', id) end
-- whoever comes a little late may catch up, within the slack
if pace > 0 then s.next = math.max(s.next, now - SLACK) + 1000 / pace end
save()
redis.call('ZADD', CALLS, now + lease, id)
if redis.call('PTTL', CALLS) < lease then redis.call('PEXPIRE', CALLS, lease) end
return { 'go', now }
