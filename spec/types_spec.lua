local core = require("holt.core")
local holt = require("holt")

-- All stubs as one text.
local function stubs()
  local texts = {}
  for _, name in ipairs({ "holt", "node", "cluster", "journal", "core" }) do
    local file = assert(io.open("lua/holt/types/" .. name .. ".lua"))
    texts[#texts + 1] = file:read("a")
    file:close()
  end
  return table.concat(texts, "\n")
end

describe("every public function has a stub for editors:", function()
  local text = stubs()
  local node, task, timer, peer
  setup(function()
    node = holt.node({ transport = "memory", cluster = { name = "types", members = 1 } })
    peer = node:connect("nowhere")
    task = holt.go(function() end)
    timer = holt.after(0, function() end)
    task:join()
  end)
  teardown(function()
    node:close()
  end)

  -- Functions of a table, or the methods behind an object.
  local function functions(object)
    local list = {}
    if type(object) ~= "table" or getmetatable(object) then
      object = getmetatable(object).__index
    end
    for name, value in pairs(object) do
      if type(value) == "function" and type(name) == "string" and not name:find("^__") then
        list[#list + 1] = name
      end
    end
    table.sort(list)
    assert.is_true(#list > 0)
    return list
  end

  for prefix, object in pairs({
    ["holt."] = function()
      return holt
    end,
    ["core."] = function()
      return core
    end,
    ["log."] = function()
      return holt.log
    end,
    ["errors."] = function()
      return holt.errors
    end,
    ["json."] = function()
      return holt.json
    end,
    ["schema."] = function()
      return { new = holt.schema.new, load = holt.schema.load, is_message = holt.schema.is_message }
    end,
    ["Schema:"] = function()
      return assert(holt.schema("message A {}"))
    end,
    ["codec."] = function()
      return holt.codec
    end,
    ["Node:"] = function()
      return node
    end,
    ["Peer:"] = function()
      return peer
    end,
    ["Service:"] = function()
      return node:serve("spec", print)
    end,
    ["Emitter:"] = function()
      return node.events
    end,
    ["Task:"] = function()
      return task
    end,
    ["Timer:"] = function()
      return timer
    end,
    ["Map:"] = function()
      return node:map("m")
    end,
    ["Queue:"] = function()
      return node:queue("q")
    end,
    ["Record:"] = function()
      return node:record("r")
    end,
    ["SharedEmitter:"] = function()
      return node:emitter("e")
    end,
    ["Subscriptions:"] = function()
      return node:emitter("e").subscriptions
    end,
    ["Txn:"] = function()
      local seen
      assert(node:txn(function(t)
        seen = t
      end))
      return seen
    end,
    ["Log:"] = function()
      return assert(node:journal("j"))
    end,
    ["Reader:"] = function()
      return assert(node:journal("j")):read()
    end,
    ["Office:"] = function()
      return node:on_leader(function() end)
    end,
    ["Gate:"] = function()
      return core.gate()
    end,
  }) do
    it("those of " .. prefix, function()
      local missing = {}
      for _, name in ipairs(functions(object())) do
        if not text:find("function " .. prefix .. name .. "(", 1, true) then
          missing[#missing + 1] = prefix .. name
        end
      end
      assert.same({}, missing)
    end)
  end

  it("and the stubs themselves are Lua", function()
    for _, name in ipairs({ "holt", "node", "cluster", "journal", "core" }) do
      assert(loadfile("lua/holt/types/" .. name .. ".lua"))
    end
  end)
end)
