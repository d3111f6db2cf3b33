-- report: what became of a call. ARGV: id, outcome, ms of rest asked for or -1, when it was admitted, ms it took,
-- calls at once, failures that open the circuit, ms of the first pause, ms of the longest pause.
--
-- After a 429 there is rest as long as the provider says; then calls go on at seven tenths of the pace at which it
-- answered, and the pace grows: quickly back to where it was, slowly beyond. Calls that were admitted before a cut and
-- come back with 429 after it belong to the same burst and do not cut again. Before the first 429 there is no pace, only
-- the window, which begins small, so that a crowd meets a provider's limit with few calls.
local id, outcome, rest, admitted, taken = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local concurrency, threshold, pause, longest =
  tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])

local probe = redis.call('HGET', STATE, 'probe') == id
if probe then redis.call('HDEL', STATE, 'probe') end
redis.call('ZREM', CALLS, id)

local function measured()
  return math.max(s.rate, s.count * 1000 / math.max(1000, now - s.since))
end

local function closed()
  s.failures, s.opens, s.open = 0, 0, 0
end

if outcome == 'ok' then
  closed()
  if s.lag == 0 then s.lag = taken else s.lag = s.lag * 0.8 + taken * 0.2 end
  local step = 0.25
  if s.cuts == 0 then step = 1 end
  s.window = math.min(concurrency, s.window + step)
  s.count = s.count + 1
  if now - s.since >= 1000 then
    local rate = s.count * 1000 / math.max(1000, math.min(now - s.since, 10000))
    if s.since == 0 then rate = s.count end
    if s.rate == 0 then s.rate = rate else s.rate = s.rate * 0.5 + rate * 0.5 end
    s.since, s.count = now, 0
  end
  -- only a pace that is used may grow
  if s.pace > 0 and s.pace <= 2 * measured() + 1 then
    local elapsed = math.min(1000, math.max(0, now - s.grown)) / 1000
    if s.pace < s.peak then
      s.pace = s.pace + (s.peak - s.pace) * 0.5 * elapsed
    elseif s.cuts <= 1 then
      s.pace = s.pace * (1 + 0.5 * elapsed)
    else
      s.pace = s.pace * (1 + 0.1 * elapsed)
    end
  end
  s.grown = now
elseif outcome == 'answered' then
  closed()
elseif outcome == 'limited' then
  s.failures, s.opens, s.open = 0, 0, 0
  if rest < 0 then rest = 1000 end
  if admitted > s.cut then
    local rate = measured()
    local peak = math.max(rate, 0.1)
    if s.pace > 0 then peak = math.min(s.pace, math.max(rate, s.pace * 0.5)) end
    s.peak, s.pace = peak, math.max(0.05, peak * 0.7)
    -- the pace does the work; the window must not be narrower than it needs
    s.window = math.max(1, math.floor(s.window / 2), math.ceil(s.pace * s.lag / 1000))
    s.window = math.min(s.window, math.max(1, concurrency))
    s.cut, s.cuts = now, s.cuts + 1
  end
  s.rest = math.max(s.rest, now + rest)
  s.next, s.turn = s.rest, math.max(s.turn, s.rest)
  s.since, s.count, s.grown = s.rest, 0, s.rest
elseif outcome == 'failed' then
  if rest > 0 then s.rest = math.max(s.rest, now + rest) end
  s.failures = s.failures + 1
  if probe then
    s.opens = s.opens + 1
    s.open = now + math.min(longest, pause * 2 ^ math.min(s.opens - 1, 10))
  elseif s.opens == 0 and s.failures >= threshold then
    s.opens = 1
    s.open = now + pause
  end
end
save()
return redis.status_reply('OK')
