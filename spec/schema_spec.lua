local codec = require("holt.codec")
local core = require("holt.core")
local holt = require("holt")
local journal_codecs = require("holt.journal.codecs")
local nodes = require("spec.helper.nodes")
local schemas = require("holt.schema")

local SHOP = [[
syntax = "proto3";
package shop;

// One order of one customer.
message OrderPlaced {
  int64 id = 1;
  string sku = 2;
  repeated Item items = 3;
  map<string, int32> stock = 4;
  Color color = 5;
  optional int32 rebate = 6;
  oneof payment {
    string card = 7;
    bool cash = 8;
  }
  uint64 serial = 9;
  bytes photo = 10;
  double weight = 11;
  float share = 12;
  Address to = 13;
  map<int32, Item> by_number = 14;
  repeated Color colors = 15;
  message Item {
    string sku = 1;
    int32 qty = 2;  // How many.
  }
}
message Address { string street = 1; }
enum Color { NONE = 0; RED = 1; GREEN = 2; }
]]

local function refused(code, part, value, err)
  assert.is_nil(value)
  assert.equal(code, err.code)
  if part then
    assert.truthy(err.message:find(part, 1, true), ("%q is not in %q"):format(part, err.message))
  end
end

describe("a schema", function()
  local shop, order
  setup(function()
    shop = assert(holt.schema(SHOP, { name = "shop.proto" }))
    order = shop.messages.OrderPlaced
  end)

  it("writes and reads a message with fields of every kind", function()
    local value = {
      id = 9007199254740993,
      sku = "äpfel",
      items = { { sku = "a", qty = 1 }, { sku = "b", qty = -2 } },
      stock = { apple = 3, pear = 0 },
      color = "GREEN",
      rebate = 0,
      cash = true,
      serial = math.maxinteger,
      photo = "\0\xff\xfe",
      weight = 0.1,
      share = 0.5,
      to = { street = "Kai 7" },
      by_number = { [-3] = { sku = "m", qty = 1 }, [12] = { sku = "", qty = 0 } },
      colors = { "RED", "NONE" },
    }
    local back = assert(order.decode(assert(order.encode(value))))
    assert.same(value, back)
    assert.equal("integer", math.type(back.id))
    assert.equal("float", math.type(back.weight))
  end)

  it("gives equal bytes for equal values, the keys of maps sorted", function()
    local first, second = {}, {}
    for i = 1, 40 do
      first["k" .. i], second["k" .. 41 - i] = i, 41 - i
    end
    local bytes = assert(order.encode({ stock = first }))
    assert.equal(bytes, order.encode({ stock = second }))
    local keys = {}
    for key in bytes:gmatch("k%d+") do
      keys[#keys + 1] = key
    end
    local sorted = table.move(keys, 1, #keys, 1, {})
    table.sort(sorted)
    assert.same(sorted, keys)
    assert.equal(40, #keys)
  end)

  it("writes what protoc writes", function()
    -- echo 'id: -1 sku: "hé" items { qty: 300 } serial: 18446744073709551615 weight: 0.1 colors: [RED, GREEN]' |
    --   protoc --deterministic_output --encode=shop.OrderPlaced shop.proto | xxd -p
    local expected = "08ffffffffffffffffff01120368c3a91a0310ac0248ffffffffffffffffff01599a9999999999b93f7a020102"
    local bytes = assert(order.encode({
      id = -1,
      sku = "hé",
      items = { { qty = 300 } },
      serial = "18446744073709551615",
      weight = 0.1,
      colors = { 1, "GREEN" },
    }))
    assert.equal(expected, (bytes:gsub(".", function(c)
      return ("%02x"):format(c:byte())
    end)))
  end)

  it("reads absent fields as their default, unless they can tell absence", function()
    local back = assert(order.decode(""))
    assert.same({
      id = 0,
      sku = "",
      items = {},
      stock = {},
      color = "NONE",
      serial = 0,
      photo = "",
      weight = 0.0,
      share = 0.0,
      by_number = {},
      colors = {},
    }, back)
    assert.same({}, order.decode("", { defaults = false }))
    assert.equal(0, order.decode(assert(order.encode({ rebate = 0 })), { defaults = false }).rebate)
    assert.equal("[]", holt.json.encode(back.items))
  end)

  it("keeps every whole number of 64 bits", function()
    for _, number in ipairs({ math.mininteger, -1, 0, 1, 2 ^ 53 | 1, math.maxinteger }) do
      assert.equal(number, order.decode(order.encode({ id = number })).id)
    end
    assert.equal("9223372036854775808", order.decode(order.encode({ serial = 2.0 ^ 63 })).serial)
    assert.equal("18446744073709551615", order.decode(order.encode({ serial = "18446744073709551615" })).serial)
    assert.equal(7, order.decode(order.encode({ id = 7.0 })).id)
    refused("schema", "OrderPlaced.serial: expected a whole number", order.encode({ serial = "18446744073709551616" }))
  end)

  it("names the field that does not fit, with its path", function()
    for _, case in ipairs({
      { { items = { { qty = 1 }, { qty = "three" } } }, 'OrderPlaced.items[2].qty: expected a whole number, found string "three"' },
      { { items = { { qty = 1.5 } } }, "OrderPlaced.items[1].qty: expected a whole number, found 1.5" },
      { { items = { { qty = 3000000000 } } }, "OrderPlaced.items[1].qty: out of the range of int32: 3000000000" },
      { { items = { { qyt = 1 } } }, "OrderPlaced.items[1]: there is no field \"qyt\", did you mean 'qty'?" },
      { { items = { sku = "a" } }, 'OrderPlaced.items: expected a list without holes, found a table with the key string "sku"' },
      { { items = { { qty = 1 }, nil, { qty = 2 } } }, "OrderPlaced.items: expected a list without holes" },
      { { items = 7 }, "OrderPlaced.items: expected a list, found 7" },
      { { items = { 7 } }, "OrderPlaced.items[1]: expected a table of the fields of OrderPlaced.Item, found 7" },
      { { skuu = 1, zzz = 1 }, "OrderPlaced: there is no field \"skuu\", did you mean 'sku'?" },
      { { sku = 7 }, "OrderPlaced.sku: expected a string, found 7" },
      { { sku = "\xff" }, "OrderPlaced.sku: expected UTF-8, found string" },
      { { stock = { apple = "x" } }, 'OrderPlaced.stock["apple"]: expected a whole number, found string "x"' },
      { { stock = { apple = holt.null } }, 'OrderPlaced.stock["apple"]: expected a whole number, found null' },
      { { stock = { [7] = 1 } }, "OrderPlaced.stock[7]: as a key: expected a string, found 7" },
      { { by_number = { [7] = {}, ["7"] = {} } }, "OrderPlaced.by_number[7]: this key is there twice" },
      { { by_number = { x = {} } }, 'OrderPlaced.by_number["x"]: as a key: expected a whole number, found string "x"' },
      { { by_number = { [3] = { qty = true } } }, "OrderPlaced.by_number[3].qty: expected a whole number, found true" },
      { { color = "GREN" }, "OrderPlaced.color: enum Color has no value \"GREN\", did you mean 'GREEN'?" },
      { { color = 9 }, "OrderPlaced.color: enum Color has no value 9" },
      { { colors = { "RED", {} } }, "OrderPlaced.colors[2]: expected a name of enum Color, found an empty table" },
      { { card = "4711", cash = true }, "OrderPlaced: 'card' and 'cash' exclude each other: oneof payment" },
      { { cash = 1 }, "OrderPlaced.cash: expected true or false, found 1" },
      { { serial = -1 }, "OrderPlaced.serial: out of the range of uint64: -1" },
      { { id = 2.0 ^ 63 }, "OrderPlaced.id: out of the range of int64: 9.2233720368548e+18" },
      { { weight = "1" }, 'OrderPlaced.weight: expected a number, found string "1"' },
      { { weight = 2 ^ 53 | 1 }, "OrderPlaced.weight: a double cannot hold 9007199254740993 exactly" },
      { { share = 1e300 }, "OrderPlaced.share: out of the range of float: 1e+300" },
      { { to = "Kai 7" }, 'OrderPlaced.to: expected a table of the fields of Address, found string "Kai 7"' },
      { { sku = print }, "OrderPlaced.sku: expected a string, found a function" },
      { { 1, 2 }, "OrderPlaced: expected a table of the fields of OrderPlaced, found a list" },
      { 5, "OrderPlaced: expected a table of the fields of OrderPlaced, found 5" },
    }) do
      local bytes, err = order.encode(case[1])
      assert.is_nil(bytes)
      assert.equal("schema", err.code)
      assert.equal(case[2], err.message:sub(1, #case[2]))
    end
  end)

  it("refuses a table that contains itself", function()
    local loop = {}
    loop.to = loop
    refused("schema", "more than 202 deep", order.encode(loop))
  end)

  it("takes holt.null for an absent field, and texts for the keys of maps, as JSON has them", function()
    local value = assert(holt.json.decode('{ "id": 3, "rebate": null, "by_number": { "-7": { "qty": 1 } } }'))
    local back = order.decode(assert(order.encode(value)), { defaults = false })
    assert.same({ id = 3, by_number = { [-7] = { qty = 1 } } }, back)
  end)

  it("refuses bytes that are no such message", function()
    refused("schema", "OrderPlaced: the bytes are no such message", order.decode("\xff\xff"))
    refused("schema", "OrderPlaced: the bytes are no such message", order.decode("\x12\x05abc"))
  end)

  it("passes over fields that a newer schema wrote, but check names them", function()
    local newer = assert(holt.schema([[
      syntax = "proto3"; package shop;
      message OrderPlaced { int64 id = 1; int64 sku = 2; repeated Item items = 3; Color color = 5; bytes to = 13;
        message Item { string sku = 1; int32 qty = 2; string note = 9; } }
      enum Color { NONE = 0; BLUE = 7; }
    ]]))
    local theirs = newer.messages.OrderPlaced
    local bytes = assert(theirs.encode({ id = 1, items = { { sku = "a" }, { note = "n" } } }))
    assert.same({ id = 1, items = { { sku = "a" }, {} } }, order.decode(bytes, { defaults = false }))
    refused(
      "schema",
      "OrderPlaced.items[2]: field number 9 is there, a run of bytes, but message OrderPlaced.Item has none of that number",
      order.check(bytes)
    )
    refused("schema", "OrderPlaced.sku: the bytes hold a varint, the schema says string", order.check(theirs.encode({ sku = 5 })))
    refused("schema", "OrderPlaced.color: enum Color has no value 7", order.check(theirs.encode({ color = "BLUE" })))
    assert.equal(7, order.decode(theirs.encode({ color = "BLUE" })).color)
    assert.is_true(order.check(assert(theirs.encode({ id = 4 }))))
    assert.is_true(order.check(assert(order.encode({ id = -1, items = { { qty = -1 } }, colors = { "RED", "GREEN" } }))))
  end)

  it("check finds numbers that a narrower field would cut", function()
    local wide = assert(holt.schema([[syntax = "proto3";
      message M { int64 a = 1; repeated int64 list = 2; N n = 3; map<string, int64> m = 4; uint64 u = 5; int64 flag = 6; }
      message N { int64 a = 1; }]])).messages.M
    local narrow = assert(holt.schema([[syntax = "proto3";
      message M { int32 a = 1; repeated uint32 list = 2; N n = 3; map<string, sint32> m = 4; uint32 u = 5; bool flag = 6; }
      message N { int32 a = 1; }]])).messages.M
    for _, case in ipairs({
      { { a = 2 ^ 31 | 0 }, "M.a: the bytes hold 2147483648, out of the range of int32" },
      { { a = -2 ^ 31 - 1 | 0 }, "M.a: the bytes hold -2147483649, out of the range of int32" },
      { { list = { 1, 2 ^ 32 | 0 } }, "M.list: the bytes hold 4294967296, out of the range of uint32" },
      { { n = { a = 2 ^ 40 | 0 } }, "M.n.a: the bytes hold 1099511627776, out of the range of int32" },
      { { m = { x = 2 ^ 40 | 0 } }, "M.m.value: the bytes hold 1099511627776, out of the range of sint32" },
      { { u = 2 ^ 32 | 0 }, "M.u: the bytes hold 4294967296, out of the range of uint32" },
      { { flag = 2 }, "M.flag: the bytes hold 2, out of the range of bool" },
    }) do
      refused("schema", case[2], narrow.check(assert(wide.encode(case[1]))))
    end
    local edges = { a = -2 ^ 31 | 0, list = { 0, 2 ^ 32 - 1 | 0 }, n = { a = 2 ^ 31 - 1 | 0 }, u = 2 ^ 32 - 1 | 0, flag = 1 }
    assert.is_true(narrow.check(assert(wide.encode(edges))))
  end)

  it("finds messages by full name, by their end, and says which is near", function()
    assert.equal("shop.OrderPlaced.Item", shop.messages.Item.full_name)
    assert.equal(shop.messages.Item, shop.messages["shop.OrderPlaced.Item"])
    assert.equal(shop.messages.Item, shop.messages["OrderPlaced.Item"])
    assert.is_nil(shop.messages.Orderplacd)
    refused("schema", "the schema has no message 'Orderplacd', did you mean 'OrderPlaced'?", shop:message("Orderplacd"))
    assert.same({ "OrderPlaced", "Address" }, shop:names())
    local seen = {}
    for name, message in pairs(shop.messages) do
      seen[name] = message.full_name
    end
    assert.same({ OrderPlaced = "shop.OrderPlaced", Address = "shop.Address" }, seen)
  end)

  it("is the same again from its bytes, whatever its text looked like", function()
    local again = assert(schemas.load(shop:bytes()))
    assert.equal("shop.proto", again.name)
    assert.equal(shop:bytes(), again:bytes())
    assert.same(shop:names(), again:names())
    assert.equal(order.encode({ id = 5 }), again.messages.OrderPlaced.encode({ id = 5 }))
    local reformatted = assert(holt.schema(SHOP:gsub("\n", "\n\n// a comment\n"), { name = "shop.proto" }))
    assert.equal(shop:bytes(), reformatted:bytes())
    assert.truthy(shop:text():find("message OrderPlaced {", 1, true))
    refused("schema", "these bytes are not a stored schema", schemas.load("nonsense"))
  end)
end)

describe("proto2", function()
  it("has required fields, defaults, groups and extensions", function()
    local schema = assert(holt.schema([[
      package old;
      message M { required string id = 1; optional int32 n = 2 [default = 42]; optional group G = 3 { required string t = 4; }
        extensions 100 to 200; enum Kind { A = 1; B = 2; } optional Kind kind = 5 [default = B]; repeated M more = 6; }
      extend M { optional string note = 100; }
    ]]))
    local m = schema.messages.M
    local bytes = assert(m.encode({ id = "x", g = { t = "q" }, ["[old.note]"] = "hello" }))
    assert.equal("0a01781b2201711ca2060568656c6c6f", (bytes:gsub(".", function(c) -- as protoc writes it
      return ("%02x"):format(c:byte())
    end)))
    assert.same({ id = "x", n = 42, g = { t = "q" }, kind = "B", more = {}, ["[old.note]"] = "hello" }, m.decode(bytes))
    assert.equal(0, m.decode(m.encode({ id = "", n = 0 })).n)
    refused("schema", "M.id: required, but missing", m.encode({}))
    refused("schema", "M.more[2].g.t: required, but missing", m.encode({ id = "", more = { { id = "" }, { id = "", g = {} } } }))
    refused("schema", "M.id: required, but missing", m.decode(""))
    refused("schema", "M.kind: enum Kind has no value 9", m.check("\x0a\0\x28\x09"))
  end)
end)

describe("the well-known types of protobuf", function()
  it("can be imported without a file", function()
    local schema = assert(holt.schema([[
      syntax = "proto3";
      import "google/protobuf/timestamp.proto";
      import "google/protobuf/any.proto";
      message M { google.protobuf.Timestamp at = 1; google.protobuf.Any what = 2; }
    ]]))
    local value = { at = { seconds = 1700000000, nanos = 5 }, what = { type_url = "x/y", value = "\1" } }
    assert.same(value, schema.messages.M.decode(schema.messages.M.encode(value)))
    assert.same({ "M" }, schema:names())
    assert.equal(schema:bytes(), assert(schemas.load(schema:bytes())):bytes())
  end)
end)

describe("a schema that is not in order", function()
  for text, expected in pairs({
    ["message A {\n  optional Strng x = 1;\n}"] = 't.proto:2:12: "Strng" is not defined',
    ["message A {\n  optional string x 1;\n}"] = "t.proto:2:21: Missing field number",
    ["message A {"] = 't.proto:1:12: Reached end of input in message definition (missing \'}\')',
    ["mesage A {}"] = "t.proto:1:1: Expected top-level statement (e.g. \"message\")",
    ["message A { optional string x = 1;\n optional string y = 1; }"] =
      't.proto:2:22: Field number 1 has already been used in "A" by field "x"',
    ["message A {}\nmessage A {}"] = 't.proto:2:9: "A" is already defined',
    ["syntax = 'proto3';\nmessage A { required string x = 1; }"] = "t.proto:2:22: Required fields are not allowed in proto3",
    ["syntax = 'proto4';"] =
      't.proto:1:10: Unrecognized syntax identifier "proto4".  This parser only recognizes "proto2" and "proto3"',
    ["enum E { A = 1; }\nmessage M { optional E e = 1 [default = B]; }"] = 't.proto:2:41: Enum type "E" has no value named "B"',
    ["\nimport 'x.proto';\n"] = 't.proto:2:1: import "x.proto" was not found; there is no folder to look in',
    ["import 't.proto'; message A {}"] = 't.proto:1:1: importing "t.proto" makes a circle',
    ["message A { optional string x = 1 [(nope) = 3]; }"] = 't.proto:1:36: Option "(nope)" unknown',
    ["message A {\n  map<int32, Nope> m = 1;\n}"] = 't.proto:2:20: "Nope" is not defined',
    ["enum E { A = 0; }"] = "t.proto: no message in it",
    [""] = "t.proto: no message in it",
  }) do
    it(("is refused with the place: %s"):format(expected), function()
      local schema, err = holt.schema(text, { name = "t.proto" })
      assert.is_nil(schema)
      assert.equal("schema", err.code)
      assert.equal(expected, err.message:sub(1, #expected))
    end)
  end

  it("is told with every mistake, up to twenty", function()
    local lines = { "message A {" }
    for i = 1, 30 do
      lines[#lines + 1] = ("  optional Nope%d f%d = %d;"):format(i, i, i)
    end
    lines[#lines + 1] = "}"
    local _, err = holt.schema(table.concat(lines, "\n"), { name = "t.proto" })
    assert.truthy(err.message:find('t.proto:21:12: "Nope20" is not defined\nand 10 more', 1, true))
  end)

  it("is a mistake of the caller when it is no text at all", function()
    assert.has_error(function()
      holt.schema(7)
    end)
    assert.has_error(function()
      holt.schema("message A {}", { nam = "x" })
    end)
    refused("not_found", "the schema 'no/such.proto' cannot be read", holt.schema("no/such.proto"))
  end)

  it("does not crash the reader, however it is damaged", function()
    local state = 12345
    local function below(n)
      state = (state * 6364136223846793005 + 1442695040888963407) & math.maxinteger
      return (state >> 24) % n
    end
    local words = {
      "message", "{", "}", ";", "=", "1", "-5", "map<", ">", "oneof",
      "enum", "extend", '"', "[", "]", "import", "reserved 1 to max",
    }
    local refusals = 0
    for _ = 1, 300 do
      local place = below(#SHOP)
      local text = SHOP:sub(1, place) .. words[below(#words) + 1] .. SHOP:sub(place + 1 + below(3))
      local schema, err = holt.schema(text)
      if not schema then
        refusals = refusals + 1
        assert.truthy(err.message:find("^schema.proto:%d+:%d+: ") or err.message:find("no message in it"), err.message)
      end
    end
    assert.is_true(refusals > 100)
  end)
end)

describe("imports", function()
  local folder
  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir -p " .. folder .. "/sub"))
  end)
  after_each(function()
    os.execute("rm -rf " .. folder)
  end)
  local function write(name, text)
    local file <close> = assert(io.open(folder .. "/" .. name, "w"))
    assert(file:write(text))
  end

  it("are looked for in the file's folder, then where the options say", function()
    write("root.proto", 'import "a.proto"; import "sub/b.proto"; message R { optional A a = 1; optional b.B b = 2; }')
    write("a.proto", 'import "sub/b.proto"; message A { optional b.B b = 1; }')
    refused("schema", 'a.proto:1:1: import "sub/b.proto" was not found; looked for in ' .. folder, holt.schema(folder .. "/root.proto"))
    write("sub/b.proto", "package b; message B { optional int32 n = 1; optional Strange s = 2; }")
    refused("schema", 'sub/b.proto:1:55: "Strange" is not defined', holt.schema(folder .. "/root.proto"))
    write("sub/b.proto", "package b; message B { optional int32 n = 1; }")
    local schema = assert(holt.schema(folder .. "/root.proto"))
    assert.equal("root.proto", schema.name)
    assert.same({ "R", "A", "B" }, schema:names())
    local value = { a = { b = { n = 1 } }, b = { n = 2 } }
    assert.same(value, schema.messages.R.decode(schema.messages.R.encode(value)))
    assert(holt.schema('import "b.proto"; message X { optional b.B b = 1; }', { folders = { folder .. "/sub" } }))
  end)

  it("do not leave the folder", function()
    write("sub/c.proto", 'import "../a.proto"; message C {}')
    write("a.proto", "message A {}")
    refused("schema", "imports lie below the folder of the file", holt.schema(folder .. "/sub/c.proto"))
  end)

  it("can be given as texts", function()
    local schema = assert(holt.schema("root.proto", {
      files = { ["root.proto"] = 'import "x.proto"; message R { optional X x = 1; }', ["x.proto"] = "message X {}" },
    }))
    assert.same({ "R", "X" }, schema:names())
  end)
end)

describe("the codec protobuf of a node", function()
  it("sends the name of a message and the message", function()
    local shop = assert(holt.schema(SHOP))
    local a <close> = holt.node({
      name = "a",
      transport = "memory",
      listen = "schema-a",
      schema = shop,
      subjects = { ["order.*"] = "protobuf" },
    })
    local b <close> = holt.node({ name = "b", transport = "memory", connect = "schema-a", schema = SHOP })
    local got
    local gate = core.gate()
    b:on("order.*", function(name, message)
      got = { name, message.id, message.items }
      gate:open()
    end)
    local up = core.gate()
    a.events:on("peer_connected", function()
      up:open()
    end)
    if #a:peers() == 0 then
      assert(up:wait(5))
    end
    assert(a:emit("order.new", "shop.OrderPlaced", { id = 4, items = { { qty = 2 } } }))
    assert(gate:wait(5))
    assert.same({ "OrderPlaced", 4, { { sku = "", qty = 2 } } }, got)
    refused("schema", "OrderPlaced.id: expected a whole number", a:emit("order.new", "OrderPlaced", { id = "x" }))
    refused("schema", "did you mean 'OrderPlaced'?", a:emit("order.new", "OrderPlacd", {}))
    refused("schema", "protobuf takes the name of a message and the message", a:emit("order.new", { id = 4 }))
  end)

  it("needs the option schema", function()
    local function fails(options, part)
      local ok, err = pcall(holt.node, options)
      assert.is_false(ok)
      assert.truthy(tostring(err):find(part, 1, true), tostring(err))
    end
    fails({ codec = "protobuf", transport = "memory" }, "needs the option 'schema'")
    fails({ schema = "message A { optional B b = 1; }", transport = "memory" }, 'schema.proto:1:22: "B" is not defined')
    fails({ schema = {}, transport = "memory" }, "option 'schema'")
    local shop = assert(holt.schema(SHOP))
    fails({ subjects = { x = shop.messages.Item }, transport = "memory" }, "give the node its schema")
  end)

  it("refuses what is cut off or not in the schema", function()
    local protobuf = codec.protobuf(assert(holt.schema(SHOP)))
    local bytes = assert(protobuf.encode("Address", { street = "Kai" }))
    assert.same({ true, "Address", { street = "Kai" } }, { protobuf.decode(bytes) })
    for cut = 0, #bytes - 1 do
      local ok, name = protobuf.decode(bytes:sub(1, cut))
      assert.is_true(ok == nil or (cut == #bytes - #"\x0a\x03Kai" and name == "Address")) -- an empty message is one
    end
    refused("schema", "no message 'Nope'", protobuf.decode(string.pack("<s2", "Nope")))
  end)

  it("encodes the values of shared objects", function()
    local shop = assert(holt.schema(SHOP))
    local node <close> = holt.node({ transport = "memory", cluster = { name = "schema", members = 1 } })
    assert(node:ready(5))
    local map = node:map("orders", { value_codec = shop.messages.OrderPlaced })
    assert(map:set("a", { id = 1 }))
    assert.equal(1, map:get("a").id)
    assert.is_true(map:update_if("a", { id = 2 }, { id = 1 }))
    refused("codec", "OrderPlaced.id: expected a whole number", map:set("a", { id = "x" }))
  end)
end)

describe("the codecs of a journal", function()
  local reverse = { encode = string.reverse, decode = string.reverse }

  it("are registered by name, by table and by list, and calls chain", function()
    local codecs = assert(journal_codecs.new())
    assert.equal(codecs, codecs:register("A", reverse))
    codecs
      :register({ B = reverse, C = { string.upper, string.lower } })
      :register({ { name = "D", codec = reverse }, { name = "E", codec = "json" } })
    for _, name in ipairs({ "A", "B", "D" }) do
      assert.equal("cba", codecs.messages[name].encode("abc"))
      assert.equal("abc", codecs.messages[name].decode("cba"))
      assert.same({ "cba", name }, { codecs:encode(name, "abc") })
    end
    assert.equal("ABC", codecs.messages.C.encode("abc"))
    assert.same({ true, { x = 1 } }, { codecs:decode("E", codecs:encode("E", { x = 1 })) })
    assert.same({ "A", "B", "C", "D", "E", "EventPeer" }, codecs:names())
  end)

  it("refuse a second codec of a name, unless it replaces; then nothing of the call counts", function()
    local codecs = assert(journal_codecs.new()):register("A", reverse)
    local function misuse(part, ...)
      local ok, err = pcall(codecs.register, codecs, ...)
      assert.is_false(ok)
      assert.truthy(err:find(part, 1, true), err)
    end
    misuse("the message 'A' has a codec already; { replace = true } swaps it", "A", reverse)
    misuse("the message 'A' has a codec already", { Z = reverse, A = reverse })
    misuse("the message 'B' is there twice", { { name = "B", codec = reverse }, { name = "B", codec = reverse } })
    misuse("a codec needs both functions", { { name = "Z", codec = reverse }, { name = "Y", codec = {} } })
    misuse("the message 'EventPeer' is the journal's own", "EventPeer", reverse)
    misuse("the message 'Event' is the journal's own", "Event", reverse, { replace = true })
    misuse("unknown option 'replaces', did you mean 'replace'?", "A", reverse, { replaces = true })
    misuse("'jsn' is no codec, did you mean 'json'?", "X", "jsn")
    misuse("the name of a message has 1 to 255 bytes, not 0", "", reverse)
    assert.same({ "A", "EventPeer" }, codecs:names())
    codecs:register("A", { string.upper, string.lower }, { replace = true })
    assert.equal("ABC", codecs.messages.A.encode("abc"))
  end)

  it("come from the schema, whose names are the only ones", function()
    local codecs = assert(journal_codecs.new({ schema = assert(holt.schema(SHOP)) }))
    local bytes, name = codecs:encode("shop.OrderPlaced", { id = 3 })
    assert.equal("OrderPlaced", name)
    assert.equal(bytes, (codecs:encode("OrderPlaced", { id = 3 })))
    assert.equal(3, codecs.messages.OrderPlaced.decode(bytes).id)
    refused("schema", "did you mean 'OrderPlaced'?", codecs:encode("OrderPlacd", {}))
    refused("schema", "OrderPlaced.id: expected", codecs:encode("OrderPlaced", { id = {} }))
    assert.is_nil(codecs.messages.Nope)
    assert.same({ "Address", "EventPeer", "OrderPlaced" }, codecs:names())
    assert.has_error(function()
      codecs:register("OrderPlaced", reverse)
    end, "register_codec: the message 'OrderPlaced' has the codec of the schema; { replace = true } swaps it")
    codecs:register("OrderPlaced", reverse, { replace = true })
    assert.equal("cba", (codecs:encode("shop.OrderPlaced", "abc")))
    codecs:register("Extra", "msgpack")
    assert.same({ true, 7 }, { codecs:decode("Extra", codecs:encode("Extra", 7)) })
  end)

  it("take payloads as they are where there is neither schema nor codec", function()
    local codecs = assert(journal_codecs.new())
    assert.same({ "\0raw", "Any" }, { codecs:encode("Any", "\0raw") })
    assert.same({ true, "\0raw" }, { codecs:decode("Any", "\0raw") })
    refused("codec", "raw takes one string", codecs:encode("Any", { 1 }))
    local other = assert(journal_codecs.new({ default = "json" }))
    assert.same({ true, { x = 1 } }, { other:decode("Any", other:encode("Any", { x = 1 })) })
  end)

  it("keep the journal's own names to themselves", function()
    refused("schema", "a message 'EventPeer', a name that is the journal's own", journal_codecs.new({
      schema = assert(holt.schema("message EventPeer { optional string id = 1; }")),
    }))
    local codecs = assert(journal_codecs.new())
    local peer = { id = "x", addresses = { { ip = "127.0.0.1", port = 7001 } } }
    assert.same(peer, codecs.messages.EventPeer.decode(codecs.messages.EventPeer.encode(peer)))
  end)

  it("check stored bytes against a schema that has changed", function()
    local old = assert(journal_codecs.new({ schema = assert(holt.schema("message A { optional int64 n = 1; optional string s = 2; }")) }))
    local new = assert(journal_codecs.new({ schema = assert(holt.schema("message A { optional int32 n = 1; }")) }))
    assert.is_true(new:check("A", (old:encode("A", { n = 5 }))))
    refused("schema", "A.n: the bytes hold 1099511627776", new:check("A", (old:encode("A", { n = 1 << 40 }))))
    refused("schema", "A: field number 2 is there", new:check("A", (old:encode("A", { s = "x" }))))
    refused("schema", "no message 'B'", new:check("B", ""))
    old:register("J", "json")
    assert.is_true(old:check("J", "[1]"))
    refused("codec", nil, old:check("J", "[1"))
  end)

  it("turn what a codec raises into an error that names the message", function()
    local codecs = assert(journal_codecs.new()):register("A", {
      encode = function()
        error("no form", 0)
      end,
      decode = function()
        return nil, "wrong bytes"
      end,
    })
    refused("codec", "codec of 'A': no form", codecs:encode("A", 1))
    refused("codec", "codec of 'A': wrong bytes", codecs:decode("A", "x"))
  end)
end)

describe("holt types", function()
  local build = "build/" .. (os.getenv("HOLT_BUILD") or "release")
  local folder
  setup(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir -p " .. folder))
    local file <close> = assert(io.open(folder .. "/shop.proto", "w"))
    file:write(SHOP)
  end)
  teardown(function()
    os.execute("rm -rf " .. folder)
  end)

  -- What the command wrote, and its exit code.
  local function run(command)
    local pipe = assert(io.popen(("unset LD_PRELOAD; %s >%s/out 2>%s/err; echo $?"):format(command, folder, folder)))
    local code = tonumber(pipe:read("a"))
    pipe:close()
    local function all(name)
      local file <close> = assert(io.open(folder .. "/" .. name))
      return file:read("a")
    end
    return code, all("out"), all("err")
  end

  it("writes classes, aliases and the table of messages", function()
    local code, out, err = run(build .. "/holt types " .. folder .. "/shop.proto")
    assert.equal("", err)
    assert.equal(0, code)
    assert(load(out))
    for _, line in ipairs({
      "---@meta",
      '---@alias Color "NONE"|"RED"|"GREEN"|integer',
      "---One order of one customer.\n---@class OrderPlaced\n---@field id? integer\n",
      "---@field items? OrderPlaced.Item[]",
      "---@field stock? table<string, integer>",
      "---@field by_number? table<integer, OrderPlaced.Item>",
      "---@field color? Color",
      "---@field card? string One of payment.",
      "---@field qty? integer How many.",
      "---@field serial? integer|string",
      "---@field OrderPlaced { encode: (fun(message: OrderPlaced): string|nil, holt.Error?), ",
      "---@class ShopMessages ",
    }) do
      assert.truthy(out:find(line, 1, true), ("%q is missing in\n%s"):format(line, out))
    end
  end)

  it("ends with 5 where the schema is not in order, and says where", function()
    local file = assert(io.open(folder .. "/bad.proto", "w"))
    file:write("message A {\n  optional Strng x = 1;\n}")
    file:close()
    local code, out, err = run(build .. "/holt types " .. folder .. "/bad.proto")
    assert.same({ 5, "" }, { code, out })
    assert.truthy(err:find('bad.proto:2:12: "Strng" is not defined', 1, true))
    code, out, err = run(build .. "/holt types " .. folder .. "/none.proto")
    assert.same({ 1, "" }, { code, out })
    assert.truthy(err:find("cannot be read", 1, true))
  end)

  it("says what is missing and where it looked, when the program lies alone", function()
    assert(os.execute(("cp %s/holt %s/holt"):format(build, folder)))
    local code, _, err = run(folder .. "/holt types " .. folder .. "/shop.proto")
    assert.equal(1, code)
    local expected = "schemas need holt_schema.so, a part of holt, which was not found as: " .. folder .. "/holt_schema.so"
    assert.truthy(err:find(expected, 1, true), err)
    assert(os.execute(("cp %s/lib/holt/holt_schema.so %s/holt_schema.so"):format(build, folder)))
    assert.equal(0, (run(folder .. "/holt types " .. folder .. "/shop.proto")))
  end)
end)

describe("a library that cannot be loaded", function()
  local build = "build/" .. (os.getenv("HOLT_BUILD") or "release")
  local folder
  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute(("mkdir -p %s && cp %s/holt %s/holt"):format(folder, build, folder)))
  end)
  after_each(function()
    os.execute("rm -rf " .. folder)
  end)

  -- What `holt types` says with these bytes as holt_schema.so beside it.
  local function complaint(bytes)
    local file = assert(io.open(folder .. "/holt_schema.so", "wb"))
    file:write(bytes)
    file:close()
    file = assert(io.open(folder .. "/a.proto", "w"))
    file:write("message A {}")
    file:close()
    local pipe <close> = assert(io.popen(("unset LD_PRELOAD; %s/holt types %s/a.proto 2>&1; echo $?"):format(folder, folder)))
    return pipe:read("a")
  end

  it("names the package of libprotobuf", function()
    local file <close> = assert(io.open(build .. "/lib/holt/holt_schema.so", "rb"))
    local bytes, count = file:read("a"):gsub("libprotobuf%.so%.32", "libprotobuf.so.99")
    assert.is_true(count > 0)
    local text = complaint(bytes)
    assert.truthy(text:find("schemas need libprotobuf: apt-get install libprotobuf32 (libprotobuf.so.99", 1, true), text)
    assert.equal("1", text:match("(%d+)\n$"))
  end)

  it("says why", function()
    local text = complaint("no library")
    assert.truthy(text:find("schemas need holt_schema.so, which cannot be loaded: " .. folder .. "/holt_schema.so: ", 1, true), text)
  end)
end)

describe("libprotobuf", function()
  nodes.guard(before_each, after_each)

  it("is loaded with the first schema and not before", function()
    local node = nodes.start({ name = "idle", script = "node = require('holt').node {}" })
    local function has_it()
      local file <close> = assert(io.open(("/proc/%d/maps"):format(node:eval("return require('holt.core').pid()"))))
      return file:read("a"):find("libprotobuf", 1, true) ~= nil
    end
    assert.is_false(has_it())
    node:eval("return require('holt').schema('message A {}').name")
    assert.is_true(has_it())
  end)
end)
