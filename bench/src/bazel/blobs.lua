-- For wrk: asks for the blobs in the file BENCH_REQUESTS round and round; a line is a path and a token, or "-".
local requests = {}
local at = 0

init = function()
  for line in io.lines(os.getenv("BENCH_REQUESTS")) do
    local path, token = line:match("^(%S+) (%S+)$")
    local headers = {}
    if token ~= "-" then headers["Authorization"] = "Bearer " .. token end
    requests[#requests + 1] = wrk.format("GET", path, headers)
  end
end

request = function()
  at = at % #requests + 1
  return requests[at]
end

done = function(summary)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
  io.write(string.format("RESULT %d %d %d\n", summary.requests, summary.duration, errors))
end
