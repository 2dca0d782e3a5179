-- wrk's side of `paytm-lab bench http`: a payment between two of the first N users, or a bulk of
-- them, with the token and a key of its own. Arguments: token, users, payments a request, a number
-- that no other run has. At the end one line of JSON on stderr.

local headers = {}
local users, bulk, run, sent

function init(args)
   headers["Authorization"] = "Bearer " .. args[1]
   users, bulk, run = tonumber(args[2]), tonumber(args[3]), args[4]
   sent = 0
   math.randomseed(tonumber(string.sub(run, -9)))
   if bulk > 1 then headers["Content-Type"] = "application/json" end
end

local function two_users()
   local payer = math.random(users)
   local payee = math.random(users - 1)
   if payee >= payer then payee = payee + 1 end
   return payer, payee
end

function request()
   sent = sent + 1
   headers["Idempotency-Key"] = run .. "-" .. sent
   if bulk == 1 then
      local payer, payee = two_users()
      return wrk.format("POST", "/transfer/" .. payer .. "/" .. payee .. "/1.25", headers)
   end
   local items = {}
   for place = 1, bulk do
      local payer, payee = two_users()
      items[place] = '{"from_user":"' .. payer .. '","to_user":"' .. payee .. '","amount":"1.25"}'
   end
   local body = '{"transfers":[' .. table.concat(items, ",") .. ']}'
   return wrk.format("POST", "/transfers/bulk", headers, body)
end

function done(summary, latency)
   local e = summary.errors
   io.stderr:write(string.format(
      '{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p95_ms": %.3f, "p99_ms": %.3f, "errors": %d}\n',
      summary.requests - e.status, summary.duration / 1e6, latency:percentile(50) / 1e3,
      latency:percentile(95) / 1e3, latency:percentile(99) / 1e3,
      e.connect + e.read + e.write + e.status + e.timeout))
end
