local nodes = require("spec.helper.nodes")

describe("the example of a node that goes away", function()
  nodes.guard(before_each, after_each)

  local function numbers(reader, from)
    local list, is_whole = {}, true
    for number in reader:output("stdout"):gmatch("reading (%d+):") do
      list[#list + 1] = math.tointeger(number)
      is_whole = is_whole and list[#list] == (list[#list - 1] or from - 1) + 1
    end
    return list, is_whole
  end

  it("catches up after it was stopped: every reading comes, in order, also those emitted meanwhile", function()
    local station = nodes.start { name = "station", file = "examples/away/station.lua", args = { "0.01" } }
    local reader = nodes.start { name = "reader", file = "examples/away/reader.lua", connect = { station } }
    reader:wait_output("reading %d+: [%d.]+ %(fresh%)")
    reader:stop()
    station:wait_output("reader is away; its readings are kept")
    local before = numbers(reader, 0)
    local seen_before = #reader.lines
    nodes.until_true(function() -- for a while, nobody reads
      return station:eval("(function() for _, p in ipairs(require('holt.node').all()[1]:peers()) do "
        .. "if p:status().buffered >= 80 then return true end end end)()")
    end)
    reader:restart()
    reader:wait_output("%(kept for us%)")
    reader:wait_output("kept for us.*%(fresh%)")
    reader:stop()
    station:stop()
    local all = numbers(reader, before[1])
    assert.is_true(#reader.lines > seen_before + 80)
    local last = before[1] - 1
    for _, number in ipairs(all) do
      assert.is_true(number <= last + 1, ("reading %d is missing"):format(last + 1)) -- some may come twice, none is missing
      last = math.max(last, number)
    end
    assert.not_matches("are lost", reader:output())
  end)
end)
