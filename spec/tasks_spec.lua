local core = require("holt.core")
local holt = require("holt")
local nodes = require("spec.helper.nodes")

describe("a call that waits", function()
  it("returns on the main thread once the loop has turned far enough", function()
    local started = holt.now()
    holt.sleep(0.02)
    assert.is_true(holt.now() - started >= 0.02)
  end)

  it("never wakes early, even when the script computed for a while before", function()
    local started = holt.now()
    while holt.now() - started < 0.03 do -- luacheck: ignore 542
    end
    started = holt.now()
    holt.sleep(0.02)
    assert.is_true(holt.now() - started >= 0.02)
  end)

  it("passes through coroutines of the user, two deep, and leaves their own yields alone", function()
    local outer = coroutine.wrap(function(...)
      local inner = coroutine.wrap(function(a)
        holt.sleep(0.001)
        local b = coroutine.yield(a + 1)
        holt.sleep(0.001)
        return b * 2
      end)
      local sum = inner(...)
      coroutine.yield(sum)
      coroutine.yield(inner(21))
    end)
    local task = holt.go(function()
      return outer(4), outer()
    end)
    assert.same({ true, 5, 42 }, { task:join(5) })
  end)

  it("may stand inside a pcall and inside a for iterator", function()
    local function numbers()
      local i = 0
      return function()
        holt.sleep(0.001)
        i = i + 1
        return i <= 3 and i or nil
      end
    end
    local task = holt.go(function()
      local sum = 0
      assert(pcall(function()
        for i in numbers() do
          sum = sum + i
        end
      end))
      return sum
    end)
    assert.same({ true, 6 }, { task:join(5) })
  end)

  it("keeps a coroutine that waits from being resumed or closed by somebody else", function()
    local co = coroutine.create(function()
      holt.sleep(0.05)
      return "slept"
    end)
    local task = holt.go(function()
      return coroutine.resume(co)
    end)
    holt.sleep(0.005)
    local ok, message = coroutine.resume(co)
    assert.is_false(ok)
    assert.matches("cannot resume a coroutine that waits", message)
    local closed, problem = pcall(coroutine.close, co)
    assert.is_false(closed)
    assert.matches("cannot close a coroutine that waits", problem)
    assert.same({ true, true, "slept" }, { task:join(5) })
  end)

  it("keeps a task's own coroutine from being resumed or closed by somebody else", function()
    local own
    local task = holt.go(function()
      own = coroutine.running()
      holt.sleep(0.01)
      coroutine.yield()
      return "ended"
    end)
    holt.sleep(0.001)
    local ok, message = coroutine.resume(own)
    assert.is_false(ok)
    assert.matches("cannot resume the coroutine of a task", message)
    local closed, problem = pcall(coroutine.close, own)
    assert.is_false(closed)
    assert.matches("cannot close the coroutine of a task", problem)
    assert.same({ true, "ended" }, { task:join(5) })
    assert.is_false((coroutine.resume(own))) -- idle now, or at work for another task
  end)

  it("lets an error out of a wrapped coroutine with its place", function()
    local task = holt.go(function()
      return coroutine.wrap(function()
        holt.sleep(0.001)
        error("broken")
      end)()
    end)
    local ok, err = task:join(5)
    assert.is_nil(ok)
    assert.equal("script_error", err.code)
    assert.matches("tasks_spec.lua:%d+: broken", err.message)
  end)

  for what, call in pairs({
    ["table.sort"] = function()
      table.sort({ 3, 2, 1 }, function(a, b)
        holt.sleep(0.001)
        return a < b
      end)
    end,
    ["string.gsub"] = function()
      return (("x"):gsub("x", function()
        holt.sleep(0.001)
      end))
    end,
    ["a coroutine resumed inside table.sort"] = function()
      table.sort({ 2, 1 }, function(a, b)
        coroutine.wrap(function()
          holt.sleep(0.001)
        end)()
        return a < b
      end)
    end,
  }) do
    it("raises cannot_block in a task inside " .. what .. " and has done nothing", function()
      local before = core.task_count()
      local task = core.go_quiet(call)
      local ok, err = task:join(5)
      assert.is_nil(ok)
      assert.equal("cannot_block", err.code)
      assert.equal(before, core.task_count())
    end)
  end

  it("raises cannot_block inside a finaliser, on the main thread too", function()
    local code
    setmetatable({}, {
      __gc = function()
        local _, err = pcall(holt.sleep, 0.001)
        code = err.code
      end,
    })
    collectgarbage()
    collectgarbage()
    assert.equal("cannot_block", code)
  end)

  it("refuses to wait for ever when nothing is left that could answer", function()
    local gate = core.gate()
    local ok, err = pcall(gate.wait, gate)
    assert.is_false(ok)
    assert.equal("cannot_block", err.code)
    assert.matches("wait for ever", err.message)
  end)

  for what, value in pairs({ ["a negative number"] = -1, NaN = 0 / 0, ["a string"] = "soon", ["nothing"] = false }) do
    it("refuses " .. what .. " as a number of seconds, at the line of the caller", function()
      local ok, message = pcall(function()
        holt.sleep(value or nil)
      end)
      assert.is_false(ok)
      assert.matches("tasks_spec.lua:%d+: bad argument #1 to 'sleep'", message)
    end)
  end
end)

describe("a task", function()
  it("hands over all its results, nil included, and does so again", function()
    local task = holt.go(function(...)
      return select("#", ...), nil, ...
    end, 1, nil)
    local results = table.pack(task:join(5))
    assert.equal(5, results.n)
    assert.same({ true, 2, nil, 1, n = 5 }, results)
    assert.equal(2, select(2, task:join()))
    assert.equal("done", task:status())
  end)

  it("tells where it stands", function()
    local gate = core.gate()
    local task = holt.go(gate.wait, gate)
    assert.equal("new", task:status())
    holt.sleep(0.001)
    assert.equal("waiting", task:status())
    gate:open()
    task:join(5)
    assert.equal("done", task:status())
  end)

  it("leaves no debug hook to the next one in its coroutine", function()
    local first
    holt.go(function()
      first = coroutine.running()
      debug.sethook(function() end, "l")
    end):join(5)
    collectgarbage() -- lets go of the task, and with it of its coroutine
    collectgarbage()
    local tasks, hooks = {}, {}
    for i = 1, 300 do -- more than lie idle
      tasks[i] = holt.go(function()
        hooks[coroutine.running()] = debug.gethook() or "none"
      end)
    end
    tasks[#tasks]:join(5)
    assert.equal("none", hooks[first])
  end)

  it("gives a time-out to who joins too briefly, and lives on", function()
    local task = holt.go(function()
      holt.sleep(0.03)
      return "late"
    end)
    local ok, err = task:join(0.001)
    assert.is_nil(ok)
    assert.equal("timeout", err.code)
    assert.same({ true, "late" }, { task:join(5) })
  end)

  it("gives the raised error, with a traceback, to who joins", function()
    local task = core.go_quiet(function()
      local function deeper()
        error("deep trouble")
      end
      deeper()
    end)
    local ok, err = task:join(5)
    assert.is_nil(ok)
    assert.equal("script_error", err.code)
    assert.matches("deep trouble", err.message)
    assert.matches("deeper", err.traceback)
    assert.equal("failed", task:status())
  end)

  it("gives an error table that was raised as it was", function()
    local raised = holt.errors.new("no_stock", "nothing left", { hint = "order more" })
    local _, err = core.go_quiet(error, raised):join(5)
    assert.equal(raised, err)
    assert.equal("nothing left [no_stock]\n  hint: order more", tostring(err))
  end)

  it("is canceled where it is parked, may clean up there, even by waiting", function()
    local steps = {}
    local task = holt.go(function()
      local closing <close> = setmetatable({}, {
        __close = function()
          holt.sleep(0.001)
          steps[#steps + 1] = "closed"
        end,
      })
      steps[#steps + 1] = closing and "parked"
      holt.sleep(60)
      steps[#steps + 1] = "never"
    end)
    holt.sleep(0.001)
    assert.is_true(task:cancel())
    local ok, err = task:join(5)
    assert.is_nil(ok)
    assert.equal("canceled", err.code)
    assert.equal("canceled", task:status())
    assert.same({ "parked", "closed" }, steps)
    assert.is_false(task:cancel())
  end)

  it("never runs when it is canceled before its first turn", function()
    local has_run = false
    local task = holt.go(function()
      has_run = true
    end)
    task:cancel()
    local _, err = task:join(5)
    assert.equal("canceled", err.code)
    assert.is_false(has_run)
    assert.equal("canceled", task:status())
  end)

  it("keeps an answer that came before the cancel, and is canceled at its next park", function()
    local gate, got = core.gate(), nil
    local task = holt.go(function()
      got = gate:wait()
      holt.sleep(60)
    end)
    holt.sleep(0.001)
    gate:open()
    task:cancel()
    local _, err = task:join(5)
    assert.equal("canceled", err.code)
    assert.is_true(got)
  end)

  it("cannot join itself", function()
    local task
    task = core.go_quiet(function()
      task:join()
    end)
    local _, err = task:join(5)
    assert.matches("would wait for ever", err.message)
  end)

  it("is reported once when it raises and nobody joins it", function()
    local told = {}
    core.set_error_sink(function(value, traceback, what)
      told[#told + 1] = { value, traceback, what }
    end)
    holt.go(function()
      error("unheard")
    end)
    holt.sleep(0.005)
    package.loaded["holt.node"] = nil
    require("holt.node") -- sets its own sink again
    assert.equal(1, #told)
    assert.matches("unheard", told[1][1])
    assert.matches("stack traceback", told[1][2])
    assert.matches("task at .*tasks_spec.lua:%d+", told[1][3])
  end)

  it("leaves nothing behind when ten thousand of them have run", function()
    local before, sum = core.task_count(), 0
    for round = 1, 100 do
      local tasks = {}
      for i = 1, 100 do
        tasks[i] = holt.go(function()
          if i % 10 == 0 then
            holt.sleep(0)
          end
          sum = sum + 1
        end)
      end
      for _, task in ipairs(tasks) do
        assert(task:join(5), round)
      end
    end
    assert.equal(10000, sum)
    assert.equal(before, core.task_count())
  end)
end)

describe("holt.all", function()
  it("waits for all and keeps each result in its place, nil too", function()
    local results = assert(holt.all({
      function()
        holt.sleep(0.005)
        return "first"
      end,
      function() end,
      function()
        return "third"
      end,
    }))
    assert.same({ "first", nil, "third", n = 3 }, results)
  end)

  it("gives the first failure and cancels the others", function()
    local was_canceled = false
    local results, err = holt.all({
      function()
        local ok = pcall(holt.sleep, 60)
        was_canceled = not ok
      end,
      function()
        holt.sleep(0.001)
        error(holt.errors.new("broken", "this one broke"))
      end,
    })
    assert.is_nil(results)
    assert.equal("broken", err.code)
    holt.sleep(0.001)
    assert.is_true(was_canceled)
  end)

  it("cancels its functions when its caller is canceled", function()
    local was_canceled = false
    local task = holt.go(holt.all, {
      function()
        was_canceled = not pcall(holt.sleep, 60)
      end,
    })
    holt.sleep(0.002)
    task:cancel()
    task:join(5)
    holt.sleep(0.002)
    assert.is_true(was_canceled)
  end)

  it("has nothing to wait for without functions", function()
    assert.same({ n = 0 }, holt.all({}))
  end)

  it("says which item is no function", function()
    assert.has_error(function()
      holt.all({ print, 7 })
    end, "holt.all: item 2 must be a function, but it is a number")
  end)
end)

describe("holt.race", function()
  it("gives the place and the results of the first to end, and cancels the others", function()
    local was_canceled = false
    local winner, a, b = holt.race({
      function()
        was_canceled = not pcall(holt.sleep, 60)
      end,
      function()
        holt.sleep(0.001)
        return "won", 2
      end,
    })
    assert.same({ 2, "won", 2 }, { winner, a, b })
    holt.sleep(0.001)
    assert.is_true(was_canceled)
  end)

  it("is lost when the first to end raised", function()
    local winner, err = holt.race({
      function()
        error("stumbled")
      end,
      function()
        holt.sleep(60)
      end,
    })
    assert.is_nil(winner)
    assert.matches("stumbled", err.message)
  end)
end)

describe("a timer", function()
  it("runs once after its time, with its arguments", function()
    local gate, got = core.gate(), nil
    holt.after(0.001, function(...)
      got = table.pack(...)
      gate:open()
    end, "a", nil)
    assert(gate:wait(5))
    assert.same({ "a", n = 2 }, got)
  end)

  it("does not run once it is canceled", function()
    local has_run = false
    local timer = holt.after(0.002, function()
      has_run = true
    end)
    assert.is_true(timer:is_active())
    assert.is_true(timer:cancel())
    assert.is_false(timer:cancel())
    holt.sleep(0.01)
    assert.is_false(has_run)
  end)

  it("does not run when one that was due in the same turn canceled it", function()
    local timers, ran = {}, {}
    for i = 1, 2 do
      timers[i] = holt.after(0.002, function()
        ran[#ran + 1] = timers[3 - i]:cancel()
      end)
    end
    local started = holt.now()
    holt.sleep(0)
    while holt.now() - started < 0.01 do -- luacheck: ignore 542
    end
    holt.sleep(0.01)
    assert.same({ true }, ran)
  end)

  it("never overlaps with itself and skips what it missed", function()
    local running, most, runs, gate = 0, 0, 0, core.gate()
    local timer
    timer = holt.every(0.002, function()
      running = running + 1
      most = math.max(most, running)
      holt.sleep(0.01)
      running = running - 1
      runs = runs + 1
      if runs == 3 then
        timer:cancel()
        gate:open()
      end
    end)
    assert(gate:wait(5))
    holt.sleep(0.01)
    assert.equal(1, most)
    assert.equal(3, runs)
  end)

  it("goes on after a run that raised, which is reported by the timer's name", function()
    local runs, gate, timer = 0, core.gate(), nil
    local told = {}
    core.set_error_sink(function(_, _, what)
      told[#told + 1] = what
    end)
    timer = holt.every(0.001, function()
      runs = runs + 1
      if runs == 3 then
        timer:cancel()
        gate:open()
      end
      error("again")
    end)
    local ok = gate:wait(5)
    holt.sleep(0.001)
    package.loaded["holt.node"] = nil
    require("holt.node") -- sets its own sink again
    assert.is_true(ok)
    assert.equal(3, runs)
    assert.equal(3, #told)
    assert.matches("^timer at .*tasks_spec.lua:%d+$", told[1])
  end)

  it("refuses an interval of zero, which would never let go", function()
    assert.has_error(function()
      holt.every(0, print)
    end, "holt.every: seconds must be more than 0, got 0")
  end)
end)

describe("a task of a process of its own", function()
  nodes.guard(before_each, after_each)

  for what, value in pairs({ ["emits"] = "1", ["emits what has no form"] = "print" }) do
    it("ends when it is canceled, though it " .. what .. " without ever waiting", function()
      local program = nodes.holt("run", "--control=none", nodes.write("emits.lua", ([[
        local holt = require("holt")
        local node = holt.node { transport = "memory", codec = "json" }
        local emitted = 0
        local task = holt.go(function()
          while true do
            node:emit("x", %s)
            emitted = emitted + 1
          end
        end)
        holt.after(0.02, function()
          task:cancel()
          task:join()
          print(task:status(), emitted > 0)
          holt.exit(0)
        end)
      ]]):format(value)))
      assert.same(0, (program:wait(10)))
      assert.same("canceled\ttrue", program:output("stdout"))
    end)
  end

  it("ends plain Lua with the code it gives to holt.exit, wherever the main thread is", function()
    for code, last in pairs({ [3] = "holt.run()", [4] = "holt.sleep(60)", [5] = "pcall(holt.sleep, 60)" }) do
      local program = nodes.plain_lua(([[
        local holt = require("holt")
        holt.after(0.01, holt.exit, %d)
        %s
        print("goes on")
      ]]):format(code, last))
      assert.same({ code, "" }, { (program:wait(10)), program:output() })
    end
  end)

  it("may wait for a stream when plain Lua ends", function()
    local program = nodes.plain_lua [[
      local holt, core = require("holt"), require("holt.core")
      local listener = core.listen("127.0.0.1:0")
      holt.go(function()
        local stream = assert(core.connect(listener:address()))
        core.go(function() stream:read() end)
        stream:read()
      end)
      assert(listener:accept(5))
      holt.sleep(0.01)
      print("ends")
    ]]
    assert.same({ 0, nil }, { program:wait(10) })
    assert.same("ends", program:output())
  end)
end)
