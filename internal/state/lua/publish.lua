-- KEYS: the snapshots and the leases. ARGV: the caller, the life of the snapshots' key in
-- seconds, and for each outcome its key, its token, 1 if the whole account was claimed,
-- what to do (set, forget or abandon), and the record.
-- Returns for each outcome 1 if it was accepted, else 0.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local answers = {}
for i = 3, #ARGV, 5 do
  local key, token, action = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 3]
  local field = ARGV[i + 2] == '1' and 'account' or 'source:' .. key
  local first, till, owner = string.match(redis.call('HGET', KEYS[2], field) or '', '^(%d+) (%d+) (.*)$')
  local mine = owner == ARGV[1] and (token == 0 or tonumber(first) <= token)
  local accepted = mine or not owner or owner ~= ARGV[1] and tonumber(till) <= now
  if accepted and action ~= 'abandon' and token > 0 then
    local record = redis.call('HGET', KEYS[1], key)
    accepted = (record and tonumber(string.sub(record, 1, 16)) or 0) < token
  end
  if accepted and action == 'set' then
    redis.call('HSET', KEYS[1], key, ARGV[i + 4])
    redis.call('EXPIRE', KEYS[1], ARGV[2])
  elseif accepted and action == 'forget' then
    redis.call('HDEL', KEYS[1], key)
  end
  -- The claim of a whole account serves its next source.
  if mine and field ~= 'account' then redis.call('HDEL', KEYS[2], field) end
  answers[#answers + 1] = accepted and 1 or 0
end
return answers
