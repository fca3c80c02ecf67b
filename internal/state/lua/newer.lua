-- KEYS: the snapshots, and a name for what is stored there. ARGV: a new name, the life of
-- the name in seconds, and for each source its key, and the version that the caller has.
-- Returns the run id of the server with the name, and for each source the record if it is
-- newer, else false.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local generation = redis.call('GET', KEYS[2])
if not generation then
  generation = ARGV[1]
  redis.call('SET', KEYS[2], generation, 'EX', ARGV[2])
end
local answers = {run .. generation}
for i = 3, #ARGV, 2 do
  local record = redis.call('HGET', KEYS[1], ARGV[i])
  if record and (tonumber(string.sub(record, 1, 16)) or 0) <= tonumber(ARGV[i + 1]) then
    record = false
  end
  answers[#answers + 1] = record
end
return answers
