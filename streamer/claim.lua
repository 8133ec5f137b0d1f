-- Makes a writer the owner of a stream. Owners begin with the store's time at their claim, so the later one is the larger.
--
-- KEYS  last written of the stream
-- ARGV  name of the writer, owner to restore ('' for a new claim), ordinal of the last unit known to be written (-1: none)
-- Gives {claimed | fenced, owner, epoch or '', seq or '', time in us}
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local last = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'seq')
local current, epoch, seq = last[1] or '', last[2] or '', last[3] or ''
local owner = ARGV[2]
if owner == '' then
  local stamp = now_us
  local before = tonumber(string.match(current, '^%d+') or '0')
  if before >= stamp then stamp = before + 1 end
  owner = string.format('%016.0f', stamp) .. '-' .. ARGV[1]
elseif owner == current then
  -- A replica that took over without the last units: they were settled, so what follows may be written.
  local unit = tonumber(redis.call('HGET', KEYS[1], 'unit') or '-1')
  if unit < tonumber(ARGV[3]) then redis.call('HSET', KEYS[1], 'unit', ARGV[3]) end
  return {'claimed', owner, epoch, seq, now_us}
elseif owner < current then
  return {'fenced', current, epoch, seq, now_us}
end
redis.call('HSET', KEYS[1], 'owner', owner, 'unit', ARGV[3])
return {'claimed', owner, epoch, seq, now_us}
