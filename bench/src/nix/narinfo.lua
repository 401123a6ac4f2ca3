-- For wrk: asks for the paths in the file BENCH_PATHS round and round. Requests are formatted once.
local requests = {}
local at = 0

init = function()
  local authorization = os.getenv("BENCH_AUTHORIZATION")
  local headers = {}
  if authorization ~= nil and authorization ~= "" then headers["Authorization"] = authorization end
  for path in io.lines(os.getenv("BENCH_PATHS")) do
    requests[#requests + 1] = wrk.format("GET", path, headers)
  end
end

request = function()
  at = at % #requests + 1
  return requests[at]
end

done = function(summary, latency)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
  io.write(string.format("RESULT %d %d %d %f %f\n", summary.requests, summary.duration, errors,
    latency:percentile(50), latency:percentile(99)))
end
