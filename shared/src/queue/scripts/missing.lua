-- missing: which of these jobs wait nowhere and are leased by nobody. ARGV: id*. Returns their places (from 1).
-- It asks the three sets themselves, not `jobs`, so that a set lost by itself (an eviction) is noticed as well.
local ready = redis.call('ZMSCORE', READY, unpack(ARGV))
local delayed = redis.call('ZMSCORE', DELAYED, unpack(ARGV))
local leased = redis.call('ZMSCORE', LEASES, unpack(ARGV))
local missing = {}
for n = 1, #ARGV do
  if not ready[n] and not delayed[n] and not leased[n] then missing[#missing + 1] = n end
end
return missing
