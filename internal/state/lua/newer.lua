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
local answers, keys = {run .. generation}, {}
for i = 3, #ARGV, 2 do keys[#keys + 1] = ARGV[i] end
if #keys == 0 then return answers end
for i, record in ipairs(redis.call('HMGET', KEYS[1], unpack(keys))) do
  if record and (tonumber(string.sub(record, 1, 16)) or 0) <= tonumber(ARGV[2 * i + 2]) then
    record = false
  end
  answers[i + 1] = record
end
return answers
