-- What is told of opening a journal on a slow disk.
local nodes = require("spec.helper.nodes")
local trace = require("spec.helper.syscalls")

local SCRIPT = [[
holt = require "holt"
node = holt.node {} began = holt.now()
log = assert(node:journal("events", { codec = "json" }))
took = holt.now() - began
function spin() local till = holt.now() + 0.5 while holt.now() < till do end end
]]

describe("opening a journal", function()
  nodes.guard(before_each, after_each)

  it("holds the loop, which nobody could change: it is no warning; what the script does is", function()
    local problem = trace.problem()
    if problem then
      return pending(problem)
    end
    local a = nodes.start({
      name = "a",
      script = SCRIPT,
      listen = false,
      flags = { "--data", nodes.folder() .. "/a" },
      env = { ASAN_OPTIONS = "detect_leaks=0" },
      prefix = { "strace", "-D", "-f", "-qq", "-e", "signal=none", "-o", "/dev/null", "-e", "trace=fdatasync,fsync",
        "-e", "inject=fdatasync,fsync:delay_exit=200000" },
    })
    assert.is_true(a:eval("return took") > 0.2)
    a:eval("holt.after(0, spin)")
    a:wait_output("a%.lua:5 has held the loop")
    assert.is_nil(a:output():find("a.lua:3 has held", 1, true))
  end)
end)
