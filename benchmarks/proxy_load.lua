-- For wrk: every request has a trace id of its own, as the load of a run has. The argument is the first half of all ids.
local before, after, number = "", "", 0

function init(args)
  wrk.headers["traceparent"] = "00-" .. args[1] .. "@-b7ad6b7169203331-01"
  local whole = wrk.format()
  local at = whole:find("@", 1, true)
  before, after = whole:sub(1, at - 1), whole:sub(at + 1)
end

function request()
  number = number + 1
  return before .. string.format("%016x", number) .. after
end
