-- A journal opened with another schema than the one it was written with: told by the schemas alone, whatever is in it.
local compatible = require("holt.journal.compatible")
local nodes = require("spec.helper.nodes")
local schemas = require("holt.schema")

local OLD = [[
syntax = "proto2";
package shop;
message Order {
  required string sku = 1;
  optional int32 qty = 2;
  repeated Item items = 3;
  map<string, int32> stock = 4;
  optional Color color = 5;
  optional string card = 6;
  optional bool cash = 7;
  message Item { optional uint32 count = 1; optional Order back = 2; }
}
message Gone { optional int32 a = 1; }
enum Color { RED = 0; GREEN = 1; }
]]

describe("two schemas of a journal", function()
  nodes.guard(before_each, after_each)

  -- What is said of OLD with these texts replaced: { from, to, from, to … }.
  local function problems(...)
    local text, changes = OLD, { ... }
    for i = 1, #changes, 2 do
      local from, to = text:find(changes[i], 1, true)
      assert.is_truthy(from, changes[i])
      text = text:sub(1, from - 1) .. changes[i + 1] .. text:sub(to + 1)
    end
    local old, new = schemas.new(OLD), assert(schemas.new(text))
    return compatible.problems(assert(old), new)
  end

  it("go together when something was added, named otherwise, or made wider", function()
    assert.is_nil(problems())
    assert.is_nil(problems("message Gone", "message New { optional int32 a = 1; } message Gone"))
    assert.is_nil(problems("optional int32 qty = 2;", "optional int32 qty = 2; optional string note = 20;"))
    assert.is_nil(problems("GREEN = 1;", "GREEN = 1; BLUE = 2;"))
    assert.is_nil(problems("optional int32 qty = 2", "optional int64 amount = 2"))
    assert.is_nil(problems("required string sku", "optional bytes sku"))
    assert.is_nil(problems("map<string, int32> stock", "map<string, int64> stock"))
    assert.is_nil(problems("optional Color color", "optional int32 color"))
    assert.is_nil(problems("optional string card = 6;", "oneof payment { string card = 6; }"))
    assert.is_nil(problems("package shop;", "package store;"))
  end)

  it("do not when entries could be read wrongly: message and field are named", function()
    for said, change in pairs {
      ["message Gone is gone"] = { "message Gone", "message Other" },
      ["Order.qty (number 2) is gone"] = { "optional int32 qty = 2;", "" },
      ["Order.qty was number 2, and is 8"] = { "qty = 2", "qty = 8" },
      ["Order.qty (number 2) was int32, and is string"] = { "optional int32 qty", "optional string qty" },
      ["Order.qty (number 2) was int32, and is repeated int32"] = { "optional int32 qty", "repeated int32 qty" },
      ["Order.items (number 3) was repeated shop.Order.Item, and is shop.Order.Item"] = { "repeated Item items", "optional Item items" },
      ["Order.stock (number 4) was map<string, int32>, and is map<string, string>"] = { "<string, int32>", "<string, string>" },
      ["Order.stock (number 4) was map<string, int32>, and is map<int32, int32>"] = { "<string, int32>", "<int32, int32>" },
      ["Order.Item.count (number 1) was uint32, and is int32"] = { "optional uint32 count", "optional int32 count" },
      ["Order.color: value GREEN (number 1) of enum shop.Color is gone"] = { "GREEN = 1;", "BLUE = 2;" },
      ["Order.color: value GREEN of enum shop.Color was number 1, and is 3"] = { "GREEN = 1;", "GREEN = 3;" },
      ["Order.qty (number 2) is required, which entries without it are not"] = { "optional int32 qty", "required int32 qty" },
      ["Gone.b (number 2) is required, which entries without it are not"] = { "a = 1; }", "a = 1; required int32 b = 2; }" },
      ["Order: an entry may hold both card and cash, which exclude each other now (oneof payment)"] = {
        "optional string card = 6;",
        "oneof payment { string card = 6; bool cash = 7; }",
        "optional bool cash = 7;",
        "",
      },
      ["Order.card (number 6) was string, and is bool; Order.cash (number 7) was bool, and is string"] = {
        "optional string card = 6",
        "optional bool paid = 6",
        "optional bool cash = 7",
        "optional string number = 7",
      },
    } do
      assert.same(said, problems(table.unpack(change)))
    end
  end)

  it("that swap the numbers of two fields do not go together either, though the types are the same", function()
    local old = assert(schemas.new('syntax = "proto3"; message M { string from = 1; string to = 2; }'))
    local new = assert(schemas.new('syntax = "proto3"; message M { string to = 1; string from = 2; }'))
    assert.same("M.from was number 1, and is 2; M.to was number 2, and is 1", compatible.problems(old, new))
  end)

  it("are told no more than five times, and how many there are", function()
    local fields = {}
    for i = 1, 9 do
      fields[i] = ("int32 f%d = %d;"):format(i, i)
    end
    local old = assert(schemas.new('syntax = "proto3"; message M {' .. table.concat(fields) .. "}"))
    local new = assert(schemas.new('syntax = "proto3"; message M { }'))
    assert.matches("M.f5 %(number 5%) is gone; and 4 more$", compatible.problems(old, new))
  end)
end)

local SCRIPT = [[
holt = require "holt"
node = holt.node {}
function open(schema)
  if log then log:close() end
  local err
  log, err = node:journal("shop", { schema = schema })
  return log and true, err and err.code, err and tostring(err), err and err.hint
end
]]
local FIRST = 'syntax = "proto3"; message Order { string sku = 1; int32 qty = 2; }'
local WIDER = 'syntax = "proto3"; message Order { string sku = 1; int64 qty = 2; string note = 3; }'
local OTHER = 'syntax = "proto3"; message Order { string sku = 1; string qty = 2; string note = 3; }'

describe("a journal opened with another schema", function()
  nodes.guard(before_each, after_each)

  local function folder()
    return nodes.folder() .. "/a"
  end

  local function start()
    return nodes.start({ name = "a", listen = false, script = SCRIPT, flags = { "--data", folder() } })
  end

  local function check(text, ...)
    local path = nodes.write("new.proto", text)
    local program = nodes.holt("journal", "check", path, "--db", folder(), "--name", "shop", ...)
    return (program:wait()), program:output()
  end

  it("takes one that goes together with what is there, and keeps it", function()
    local a = start()
    assert.is_true((a:eval(("return open(%q)"):format(FIRST))))
    a:eval("assert(log:emit('Order', { sku = 'apple', qty = 3 }))")
    assert.is_true((a:eval(("return open(%q)"):format(WIDER))))
    a:eval("assert(log:emit('Order', { sku = 'pear', note = 'ripe' }))")
    a:stop()
    a = start()
    assert.is_true((a:eval("return open()")))
    assert.same({ { "apple", 3, "" }, { "pear", 0, "ripe" } },
      a:eval("local l = {} for e in log:read {} do local p = e.payload l[#l + 1] = { p.sku, p.qty, p.note } end return l"))
  end)

  it("refuses one that does not, names the field, and says how to go on; the kept one stays", function()
    local a = start()
    a:eval(("open(%q) assert(log:emit('Order', { sku = 'apple' }))"):format(FIRST))
    local opened, code, text, hint = a:eval(("return open(%q)"):format(OTHER))
    assert.is_nil(opened)
    assert.same("schema_conflict", code)
    assert.matches("Order.qty %(number 2%) was int32, and is string", text)
    assert.matches("holt journal check schema.proto", hint)
    assert.is_true((a:eval("return open()")))
    assert.same("apple", a:eval("for e in log:read {} do return e.payload.sku end"))
    a:stop()
    local program = nodes.holt("journal", nodes.write("other.proto", OTHER), "--db", folder(), "--name", "shop")
    assert.same(5, (program:wait()))
    assert.matches("was int32, and is string.*holt journal check other.proto", program:output("stderr"))
  end)

  it("takes such a one once no entry speaks against it: check says so, --accept keeps it", function()
    local a = start()
    a:eval(("open(%q) assert(log:emit('Order', { sku = 'apple' }))"):format(FIRST))
    a:stop()
    assert.same(0, (check(OTHER))) -- no entry has the field
    a = start()
    assert.same("schema_conflict", select(2, a:eval(("return open(%q)"):format(OTHER))))
    a:stop()
    assert.same(0, (check(OTHER, "--accept")))
    a = start()
    assert.is_true((a:eval(("return open(%q)"):format(OTHER))))
    a:eval("assert(log:emit('Order', { sku = 'pear', qty = 'a few' }))")
    a:stop()
    local code, said = check(FIRST, "--accept")
    assert.same(5, code)
    assert.matches("Order", said)
    assert.matches("qty", said)
    a = start()
    assert.same("a few", a:eval("open() local last for e in log:read {} do last = e.payload end return last.qty"))
  end)

  it("takes any while nothing is written", function()
    local a = start()
    assert.is_true((a:eval(("return open(%q)"):format(FIRST))))
    assert.is_true((a:eval(("return open(%q)"):format(OTHER))))
  end)
end)
