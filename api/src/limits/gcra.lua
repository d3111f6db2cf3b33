-- Takes one request out of each of some buckets, or out of none of them, or gives one back: the generic cell rate algorithm.
--
-- KEYS[n]      when the n-th bucket will be full, in microseconds since 1970; there is no key while it is full
-- ARGV[1]      1 to take, 0 to look only, -1 to give back
-- ARGV[2n]     microseconds in which one request comes back to it
-- ARGV[2n+1]   how many requests it holds
--
-- Returns 1 if each of them has (or had) a request to give, else 0; then for each how long it will be until it is full, in
-- microseconds. Time is that of Redis, so that the processes that ask need no common clock.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local passed, answer = true, { 0 }

for n, key in ipairs(KEYS) do
  local interval, burst = tonumber(ARGV[2 * n]), tonumber(ARGV[2 * n + 1])
  local full = math.max(tonumber(redis.call('GET', key) or now), now)
  -- no bucket is emptier than empty, except if its figures were others before, or the clock went back
  full = math.min(full, now + interval * burst)
  answer[n + 1] = full - now
  if full + interval > now + interval * burst then passed = false end
end

if ARGV[1] == '-1' then
  for n, key in ipairs(KEYS) do
    local left = math.max(answer[n + 1] - tonumber(ARGV[2 * n]), 0)
    answer[n + 1] = left
    if left == 0 then
      redis.call('DEL', key)
    else
      redis.call('SET', key, string.format('%.0f', now + left), 'PX', math.ceil(left / 1000))
    end
  end
elseif passed then
  answer[1] = 1
  if ARGV[1] == '1' then
    for n, key in ipairs(KEYS) do
      local left = answer[n + 1] + tonumber(ARGV[2 * n])
      answer[n + 1] = left
      redis.call('SET', key, string.format('%.0f', now + left), 'PX', math.ceil(left / 1000))
    end
  end
end

return answer
