local core = require("holt.core")
local holt = require("holt")
local loader = require("holt.loader")

describe("the require that waits", function()
  local names = {}
  local function module(name, body)
    names[#names + 1] = name
    package.preload[name] = body
  end
  after_each(function()
    for _, name in ipairs(names) do
      package.preload[name], package.loaded[name] = nil, nil
    end
    names = {}
    assert.same({}, core.loading)
  end)

  it("lets a module's top level wait", function()
    module("spec.slow", function(name)
      holt.sleep(0.002)
      return { name = name }
    end)
    local task = holt.go(loader.require, "spec.slow")
    local _, value = assert(task:join(5))
    assert.equal("spec.slow", value.name)
    assert.equal(value, loader.require("spec.slow"))
  end)

  it("loads once for two tasks that want the same module", function()
    local loads = 0
    module("spec.once", function()
      loads = loads + 1
      holt.sleep(0.005)
      return {}
    end)
    local first, second = holt.go(loader.require, "spec.once"), holt.go(loader.require, "spec.once")
    local _, a = assert(first:join(5))
    local _, b = assert(second:join(5))
    assert.equal(a, b)
    assert.equal(1, loads)
  end)

  it("tells modules that require each other in a circle", function()
    module("spec.a", function()
      return loader.require("spec.b")
    end)
    module("spec.b", function()
      return loader.require("spec.a")
    end)
    local ok, message = pcall(loader.require, "spec.a")
    assert.is_false(ok)
    assert.matches("circular require: 'spec.a'", message)
  end)

  it("tells a circle that closes over two tasks that wait for each other", function()
    module("spec.left", function()
      holt.sleep(0.002)
      return loader.require("spec.right")
    end)
    module("spec.right", function()
      holt.sleep(0.002)
      return loader.require("spec.left")
    end)
    local left, right = core.go_quiet(loader.require, "spec.left"), core.go_quiet(loader.require, "spec.right")
    local ok_left, err_left = left:join(5)
    local ok_right, err_right = right:join(5)
    assert.is_nil(ok_left and ok_right)
    assert.matches("circular require", tostring(err_left) .. tostring(err_right))
  end)

  it("raises the module's own error, and tries again the next time", function()
    local loads = 0
    module("spec.bad", function()
      loads = loads + 1
      error("not today")
    end)
    local ok, message = pcall(loader.require, "spec.bad")
    assert.is_false(ok)
    assert.matches("not today", message)
    assert.is_false(pcall(loader.require, "spec.bad"))
    assert.equal(2, loads)
  end)

  it("says where it looked for a module that is nowhere", function()
    local ok, message = pcall(loader.require, "spec.nowhere")
    assert.is_false(ok)
    assert.matches("module 'spec.nowhere' not found:", message)
    assert.matches("no field package.preload%['spec.nowhere'%]", message)
    assert.matches("no module 'spec.nowhere' inside holt", message)
  end)

  it("keeps what a module stored in package.loaded when it returns nothing", function()
    module("spec.own", function(name)
      package.loaded[name] = "mine"
    end)
    module("spec.silent", function() end)
    assert.equal("mine", loader.require("spec.own"))
    assert.is_true(loader.require("spec.silent"))
  end)
end)
