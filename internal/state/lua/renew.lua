-- KEYS: the snapshots and the leases. ARGV: the caller, the life of a lease in
-- microseconds (0 to release it), the life of the leases' key in seconds, and for each
-- lease its key, its token and 1 if it is of the whole account.
-- Returns for each lease 1 if the caller still has it, else 0.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local answers = {}
for i = 4, #ARGV, 3 do
  local key, token, whole = ARGV[i], ARGV[i + 1], ARGV[i + 2] == '1'
  local field = whole and 'account' or 'source:' .. key
  local first, till, owner = string.match(redis.call('HGET', KEYS[2], field) or '', '^(%d+) (%d+) (.*)$')
  local mine = owner == ARGV[1] and tonumber(first) <= tonumber(token)
  if not mine and (not owner or owner ~= ARGV[1] and tonumber(till) <= now) then
    -- The server has lost the lease, or no process has taken it since it expired.
    local record = not whole and redis.call('HGET', KEYS[1], key)
    first, mine = token, not record or (tonumber(string.sub(record, 1, 16)) or 0) < tonumber(token)
  end
  if mine and ARGV[2] == '0' then
    redis.call('HDEL', KEYS[2], field)
  elseif mine then
    redis.call('HSET', KEYS[2], field, string.format('%s %.0f %s', first, now + tonumber(ARGV[2]), ARGV[1]))
    redis.call('EXPIRE', KEYS[2], ARGV[3])
  end
  answers[#answers + 1] = mine and 1 or 0
end
return answers
