-- Appends alerts to the feed, in order, each once however often it is sent.
--
-- KEYS  feed, marks of the alerts that were appended last, identity of the store
-- ARGV  retention in ms, seed of an identity, how many marks are kept, then two an alert: its mark, json
-- Gives how many were new
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local retention_ms = tonumber(ARGV[1])
local oldest = string.format('%.0f', math.max(now_us / 1000 - retention_ms, 0))
-- Raises for a key of a wrong type before anything is written, because a script that fails half way is not undone.
redis.call('XLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])

if not redis.call('GET', KEYS[3]) then
  redis.call('SET', KEYS[3], string.sub(redis.sha1hex(ARGV[2] .. time[1] .. '.' .. time[2]), 1, 8))
end
local new = 0
for i = 4, #ARGV, 2 do
  if redis.call('ZADD', KEYS[2], 'NX', now_us, ARGV[i]) == 1 then
    redis.call('XADD', KEYS[1], 'MINID', '~', oldest, '*', 'json', ARGV[i + 1])
    new = new + 1
  end
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[3]))
redis.call('PEXPIRE', KEYS[2], retention_ms + 604800000)
return new
