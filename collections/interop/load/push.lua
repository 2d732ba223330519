-- Pushes documents that are not there yet. The argument tells runs apart.
local threads = 0
function setup(thread)
  threads = threads + 1
  thread:set("id", threads)
end
function init(args) run = args[1] or "0" end
local n = 0
local headers = { ["Content-Type"] = "application/json" }
function request()
  n = n + 1
  return wrk.format("POST", "/push/notes/" .. run .. "-" .. id .. "-" .. n, headers, '{"data":{"title":"A note","tags":["a","b"],"count":12,"body":"words and words and words"},"baseHash":null}')
end
