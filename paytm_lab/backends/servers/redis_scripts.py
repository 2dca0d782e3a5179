"""The sliding windows, as scripts that run inside Redis: atomic, whole batches in a round trip.

A window is one sorted set, so that one DELETE or one expiry takes all of it. It has two entries for
a member: '@member' scored with its time, and '#member' scored with the negative of what its count
was when it was first counted. Times are never negative, so the two cannot be taken for each other.
"""

from __future__ import annotations

# Lua numbers are doubles: microseconds stay exact until the year 2255, but '..' would round them.
_COMMON = """
local function text(number) return string.format('%.0f', number) end
local function within(key, after_us, before_us)
  local from = '0'
  if after_us >= 0 then from = '(' .. text(after_us) end
  return redis.call('ZCOUNT', key, from, text(before_us))
end
local function forget(key, window_us)
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
  local until_us = tonumber(last[2]) - 2 * window_us
  if until_us < 0 then return end
  local old = redis.call('ZRANGEBYSCORE', key, '0', text(until_us))
  for _, entry in ipairs(old) do
    redis.call('ZREM', key, entry, '#' .. string.sub(entry, 2))
  end
end
"""

# KEYS: one per hit. ARGV: window_us, ttl_ms, then member and at_us of each hit.
COUNT_WINDOW = (
    _COMMON
    + """
local window_us = tonumber(ARGV[1])
local counts = {}
for i, key in ipairs(KEYS) do
  local member = ARGV[2 * i + 1]
  local counted = redis.call('ZSCORE', key, '#' .. member)
  if counted then
    counts[i] = -tonumber(counted)
  else
    redis.call('ZADD', key, 'NX', ARGV[2 * i + 2], '@' .. member)
    local at_us = tonumber(redis.call('ZSCORE', key, '@' .. member))
    counts[i] = within(key, at_us - window_us, at_us)
    redis.call('ZADD', key, -counts[i], '#' .. member)
    forget(key, window_us)
  end
  redis.call('PEXPIRE', key, ARGV[2])
end
return counts
"""
)

# KEYS: one per hit. ARGV: window_us, ttl_ms, count_max, then member and at_us of each hit.
RESERVE = (
    _COMMON
    + """
local window_us, count_max = tonumber(ARGV[1]), tonumber(ARGV[3])
local answers = {}
for i, key in ipairs(KEYS) do
  local member, arrived_us = ARGV[2 * i + 2], ARGV[2 * i + 3]
  local known = redis.call('ZSCORE', key, '@' .. member)
  local at_us = tonumber(known or arrived_us)
  local count = within(key, at_us - window_us, at_us + window_us - 1)
  local admitted = known or count < count_max
  if admitted and not known then
    redis.call('ZADD', key, arrived_us, '@' .. member)
    count = count + 1
    forget(key, window_us)
  end
  redis.call('PEXPIRE', key, ARGV[2])
  answers[2 * i - 1], answers[2 * i] = admitted and 1 or 0, count
end
return answers
"""
)

# KEYS: one per value. ARGV: ttl_ms, then the values. One command of many words costs the client a
# third of as many commands.
SET_MANY = """
for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[1]) end
"""
