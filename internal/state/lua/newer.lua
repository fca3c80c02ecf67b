-- KEYS: the snapshots. ARGV: for each source its key, and the version that the caller has.
-- Returns for each source the record if it is newer, else false.
local answers = {}
for i = 1, #ARGV, 2 do
  local record = redis.call('HGET', KEYS[1], ARGV[i])
  if record and (tonumber(string.sub(record, 1, 16)) or 0) <= tonumber(ARGV[i + 1]) then
    record = false
  end
  answers[#answers + 1] = record
end
return answers
