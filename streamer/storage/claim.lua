-- Makes a writer the owner of a stream. Owners begin with the store's time at their claim, so the later one is the larger.
--
-- KEYS  last written of the stream, identity of the store
-- ARGV  name of the writer, owner to restore ('' for a new claim), the least ordinal to count as written (-1: none),
--       ordinal settled last (-1: none), identity of the store that settled it ('' for a new claim)
-- Gives {claimed | fenced, owner, epoch or '', seq or '', time in us, last ordinal of this owner's that is here (-1: none)}
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local last = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'seq', 'unit')
local current, epoch, seq = last[1] or '', last[2] or '', last[3] or ''
local owner, least, here = ARGV[2], tonumber(ARGV[3]), -1
if owner == '' then
  local stamp = now_us
  local before = tonumber(string.match(current, '^%d+') or '0')
  if before >= stamp then stamp = before + 1 end
  owner = string.format('%016.0f', stamp) .. '-' .. ARGV[1]
elseif owner == current then
  -- A replica that took over without the last units, or a file that was read again: it went back in time.
  here = tonumber(last[4] or '-1')
elseif owner < current then
  return {'fenced', current, epoch, seq, now_us, -1}
elseif current == '' and ARGV[5] ~= '' and ARGV[5] == redis.call('GET', KEYS[2]) then
  -- Nothing was lost but this one key (evicted, removed by hand): what was settled still stands in the feed.
  here = tonumber(ARGV[4])
end
redis.call('HSET', KEYS[1], 'owner', owner, 'unit', math.max(here, least))
return {'claimed', owner, epoch, seq, now_us, here}
