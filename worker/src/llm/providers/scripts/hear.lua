-- hear: what a good answer said about the calls after it. ARGV: calls that are left, ms until there are more again.
--
-- None is left: rest until then. Fewer than are open now: those go one after the other over the time until then, so that
-- a limit that fills up slowly is not run into, and the next answer says how it stands. Answers come in another order
-- than they were counted in, so a rest is never taken back.
local left, reset = tonumber(ARGV[1]), tonumber(ARGV[2])

redis.call('ZREMRANGEBYSCORE', CALLS, '-inf', now)
if left == 0 then
  s.rest = math.max(s.rest, now + reset)
  s.turn = math.max(s.turn, s.rest)
  s.few = 0
elseif left < redis.call('ZCARD', CALLS) then
  s.few, s.apart = now + reset, reset / left
  s.next = math.max(s.next, math.min(s.few, now + s.apart))
else
  s.few = 0
end
save()
return redis.status_reply('OK')
