-- Replaces a quota record, unless another process has changed it meanwhile.
-- KEYS: the record. ARGV: what the caller assumes (the run id of the server, the
-- record, the time in microseconds), the new record, and its life in seconds.
-- Returns whether it was replaced, the time, the run id and the record before.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local record = redis.call('GET', KEYS[1]) or ''
-- A time ahead of this clock would grant requests too early.
if ARGV[1] ~= run or ARGV[2] ~= record or tonumber(ARGV[3]) > now then
  return {0, now, run, record}
end
if ARGV[4] ~= record then
  redis.call('SET', KEYS[1], ARGV[4], 'EX', ARGV[5])
end
return {1, now, run, record}
