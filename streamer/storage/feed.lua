-- Writes one unit of a stream (a segment with the messages that belong to it) once, atomically and in order.
--
-- KEYS  feed, segments of the stream (also the channel's name), last written of the stream, identity of the store
-- ARGV  owner, ordinal, ordinal before, retention in ms, seed of an identity, deadline in us of the store's clock or '',
--       '1' where the unit was written before and lost by the store, '2' where it was sent before and nobody knows what
--       became of it, else '' (entries of both have a field `again`, so that who follows the feed can tell),
--       then four a message: kind (segment | stream | other), json, epoch or '', seq (segment) or state (stream) or ''
-- Gives {written | duplicate | fenced | early, id of its segment (else of its last entry) or '', identity, time in us, late}
local owner, ordinal, after = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local store = redis.call('GET', KEYS[4]) or ''

local function answer(status, place, late)
  return {status, place, store, now_us, late}
end

local last = redis.call('HMGET', KEYS[3], 'owner', 'unit', 'epoch', 'seq')
if last[1] ~= owner then return answer('fenced', '', 0) end
local unit, epoch, seq = tonumber(last[2] or '-1'), last[3] or '', tonumber(last[4] or '-1')
if unit >= ordinal then return answer('duplicate', '', 0) end
-- A unit before this one was refused (memory) or lost: writing this one first would put them out of order.
if unit < after then return answer('early', '', 0) end
for i = 8, #ARGV, 4 do
  if ARGV[i] == 'segment' and ARGV[i + 2] == epoch and tonumber(ARGV[i + 3]) <= seq then
    redis.call('HSET', KEYS[3], 'unit', ordinal)
    return answer('duplicate', '', 0)
  end
end
-- Raises for a key of a wrong type before anything is written, because a script that fails half way is not undone.
redis.call('XLEN', KEYS[2])

if store == '' then
  store = string.sub(redis.sha1hex(ARGV[5] .. time[1] .. '.' .. time[2]), 1, 8)
  redis.call('SET', KEYS[4], store)
end
local retention_ms = tonumber(ARGV[4])
local oldest = string.format('%.0f', math.max(now_us / 1000 - retention_ms, 0))
local late = ARGV[6] ~= '' and now_us > tonumber(ARGV[6])
local place, final, state = nil, '', nil

for i = 8, #ARGV, 4 do
  local kind, json = ARGV[i], ARGV[i + 1]
  if kind == 'segment' and late then
    local from, to = string.find(json, '"delivered_late":false', 1, true)
    if from then json = string.sub(json, 1, to - 5) .. 'true' .. string.sub(json, to + 1) end
  end
  if ARGV[7] == '' then
    final = redis.call('XADD', KEYS[1], 'MINID', '~', oldest, '*', 'json', json)
  else
    final = redis.call('XADD', KEYS[1], 'MINID', '~', oldest, '*', 'json', json, 'again', ARGV[7])
  end
  if kind == 'segment' then
    place, epoch, seq = final, ARGV[i + 2], ARGV[i + 3]
    -- `type` stands first in every message, so the cursor goes in after the first comma.
    local comma = string.find(json, ',', 1, true)
    local whole = string.sub(json, 1, comma) .. '"cursor":"' .. final .. '@' .. store .. '",' .. string.sub(json, comma + 1)
    -- The id that the store gave in the feed serves here too, so one cursor is a place in both.
    local added = redis.pcall('XADD', KEYS[2], 'MINID', '~', oldest, final, 'json', whole)
    if type(added) == 'table' and added.err then
      redis.call('XADD', KEYS[2], 'MINID', '~', oldest, '*', 'json', whole)
    end
    -- Who listens live had it when it was written first.
    if ARGV[7] ~= '1' then redis.call('PUBLISH', KEYS[2], whole) end
    redis.call('PEXPIRE', KEYS[2], retention_ms + 1000)
  elseif kind == 'stream' then
    state = ARGV[i + 3]
    if ARGV[i + 2] ~= '' and ARGV[i + 2] ~= epoch then epoch, seq = ARGV[i + 2], '-1' end
  end
end
if state then
  redis.call('HSET', KEYS[3], 'unit', ordinal, 'epoch', epoch, 'seq', seq, 'state', state)
else
  redis.call('HSET', KEYS[3], 'unit', ordinal, 'epoch', epoch, 'seq', seq)
end
redis.call('PEXPIRE', KEYS[3], retention_ms + 604800000)
return answer('written', place or final, late and 1 or 0)
