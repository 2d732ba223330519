-- Pulls a thousand documents in turns.
local n = 0
function request()
  n = (n + 7) % 1000
  return wrk.format("GET", "/pull/notes/seed-" .. n)
end
