-- Pushes documents that are not there yet. The arguments tell runs apart, and how large the documents are: small (100 bytes), fields (30 of them, 1 KiB) or
-- items (100 of them, 4 KiB).
local threads = 0
function setup(thread)
  threads = threads + 1
  thread:set("id", threads)
end
local body
function init(args)
  run = args[1] or "0"
  local kind, parts = args[2] or "small", {}
  if kind == "fields" then
    for i = 0, 29 do parts[#parts + 1] = string.format('"field%02d":{"v":%d,"name":"value %d"}', i, i, i) end
  elseif kind == "items" then
    for i = 0, 99 do parts[#parts + 1] = string.format('{"id":%d,"name":"item %d","tags":["a","b"]}', i, i) end
    parts = { '"items":[' .. table.concat(parts, ",") .. "]" }
  else
    parts = { '"title":"A note","tags":["a","b"],"count":12,"body":"words and words and words"' }
  end
  body = '{"data":{' .. table.concat(parts, ",") .. '},"baseHash":null}'
end
local n = 0
local headers = { ["Content-Type"] = "application/json" }
function request()
  n = n + 1
  return wrk.format("POST", "/push/notes/" .. run .. "-" .. id .. "-" .. n, headers, body)
end
