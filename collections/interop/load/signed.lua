-- Sends requests that were signed before, which the program in this directory has written to the file of the argument. Each is sent once.
local threads = 0
function setup(thread)
  threads = threads + 1
  thread:set("id", threads)
end
local all = {}
function init(args)
  local f = assert(io.open(args[1] .. "." .. id, "rb"))
  local one = {}
  for line in f:lines() do
    if line == "." then
      all[#all + 1] = table.concat(one, "\r\n") .. "\r\n\r\n"
      one = {}
    else
      one[#one + 1] = line
    end
  end
  f:close()
end
local n = 0
function request()
  n = n + 1
  if n > #all then
    wrk.thread:stop()
    return "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
  end
  return all[n]
end
