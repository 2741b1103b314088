local errors = require("holt.errors")
local options = require("holt.options")

describe("options", function()
  local rules = {
    name = { "string" },
    timeout = { "seconds", min = 0.001 },
    listen = { "string|list" },
    overflow = { "string", values = { "drop_oldest", "wait", "error" } },
    retries = { "integer", min = 0, max = 10 },
    insecure = { "boolean" },
    handler = { "function" },
  }

  for _, case in ipairs({
    { { nmae = "x" }, "unknown option 'nmae', did you mean 'name'?" },
    { { tiemout = 1 }, "unknown option 'tiemout', did you mean 'timeout'?" },
    {
      { zzz = 1 },
      "unknown option 'zzz'; there are: handler, insecure, listen, name, overflow, retries, timeout",
    },
    { { "x" }, "options are named; 1 is not a name" },
    { { name = 5 }, "option 'name' must be a string, but it is 5" },
    { { timeout = "5" }, "option 'timeout' must be a number of seconds that is not negative, but it is the string \"5\"" },
    { { timeout = -1 }, "option 'timeout' must be a number of seconds that is not negative, but it is -1" },
    { { timeout = 0 }, "option 'timeout' must be at least 0.001, but it is 0" },
    { { listen = { 1 } }, "option 'listen' must be a string or a list of strings, but it is a table" },
    {
      { overflow = "wiat" },
      'option \'overflow\' cannot be "wiat" (did you mean "wait"?); it may be: drop_oldest, wait, error',
    },
    { { retries = 1.5 }, "option 'retries' must be a whole number, but it is 1.5" },
    { { retries = 11 }, "option 'retries' must be at most 10, but it is 11" },
    { { insecure = "yes" }, "option 'insecure' must be true or false, but it is the string \"yes\"" },
    { { handler = {} }, "option 'handler' must be a function, but it is a table" },
  }) do
    it("say: " .. case[2], function()
      assert.equal(case[2], options.problems(case[1], rules))
    end)
  end

  it("pass when all is right", function()
    assert.is_nil(options.problems({
      name = "n1",
      timeout = 0.5,
      listen = { "a", "b" },
      overflow = "wait",
      retries = 10,
      insecure = false,
      handler = print,
    }, rules))
  end)

  it("are blamed on the line that called", function()
    local function api(opts)
      options.check("api", opts, rules)
    end
    local ok, message = pcall(function()
      api({ nmae = 1 })
    end)
    assert.is_false(ok)
    local line = debug.getinfo(1, "l").currentline - 3
    assert.equal(("spec/options_spec.lua:%d: api: unknown option 'nmae', did you mean 'name'?"):format(line), message)
  end)

  it("find no nearest word for one that resembles none", function()
    assert.is_nil(options.nearest("xyzzy", { "run", "demo", "bench" }))
    assert.equal("demo", options.nearest("dmeo", { "run", "demo", "bench" }))
    assert.equal("bench", options.nearest("bnch", { "run", "demo", "bench" }))
  end)
end)

describe("an error table", function()
  it("reads well, with its node, hint and cause", function()
    local err = errors.new("timeout", "no answer within 0.5 s", {
      node = "n2",
      hint = "raise `timeout`",
      cause = errors.new("closed", "already closed"),
    })
    assert.equal(
      "n2: no answer within 0.5 s [timeout]\n  hint: raise `timeout`\n  caused by: already closed [closed]",
      tostring(err)
    )
    assert.is_true(errors.is(err))
    assert.is_false(errors.is("timeout"))
  end)
end)
