-- KEYS: the snapshots and the leases. ARGV: the caller, the life of a lease in
-- microseconds, the life of the leases' key in seconds, 1 to claim the whole account,
-- and for each source its key and the version that the caller has.
-- Returns for each source {record} if it is newer, else {token, 0} if the claim is
-- granted, else {0, the rest of the lease in microseconds}.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local answers = {}
for i = 5, #ARGV, 2 do
  local known = tonumber(ARGV[i + 1])
  local record = redis.call('HGET', KEYS[1], ARGV[i])
  local version = record and tonumber(string.sub(record, 1, 16)) or 0
  local field = ARGV[4] == '1' and 'account' or 'source:' .. ARGV[i]
  local token, till, owner = string.match(redis.call('HGET', KEYS[2], field) or '', '^(%d+) (%d+) (.*)$')
  local left = owner and tonumber(till) - now or 0
  if version > known then
    answers[#answers + 1] = {record}
  elseif left > 0 and owner ~= ARGV[1] then
    answers[#answers + 1] = {0, left}
  else
    local mine = math.max(now, version + 1, known + 1)
    -- The claim of a whole account stays one claim while it is renewed.
    if left <= 0 or ARGV[4] ~= '1' then token = string.format('%.0f', mine) end
    redis.call('HSET', KEYS[2], field, string.format('%s %.0f %s', token, now + tonumber(ARGV[2]), ARGV[1]))
    redis.call('EXPIRE', KEYS[2], ARGV[3])
    answers[#answers + 1] = {mine, 0}
  end
end
return answers
