local holt = require("holt")
local json = require("holt.json")

local function round(value)
  return json.decode(assert(json.encode(value)))
end

describe("json loses no digit", function()
  for _, value in ipairs({
    0,
    -1,
    99999999999999,
    100000000000000,
    -100000000000000,
    999999999999999,
    1000000000000000,
    (1 << 53) + 1,
    -(1 << 53) - 1,
    math.maxinteger,
    math.mininteger,
  }) do
    it("of the integer " .. value, function()
      assert.equal(("%d"):format(value), json.encode(value))
      assert.equal(value, round(value))
      assert.equal("integer", math.type(round(value)))
    end)
  end

  for _, value in ipairs({ 0.1, 1 / 3, 9.0, -0.0, 1e15, 1e100, 2.0 ^ 53, 5e-324, 1.7976931348623157e308, 123456789.123456789 }) do
    it("of the float " .. ("%.17g"):format(value), function()
      local back = round(value)
      assert.equal(("%a"):format(value), ("%a"):format(back))
      assert.equal("float", math.type(back))
    end)
  end

  it("of a float that needs 17 digits", function()
    assert.equal("0.30000000000000004", json.encode(0.1 + 0.2))
  end)

  it("inside tables, next to ordinary values", function()
    local value = { id = math.maxinteger, list = { 1, 2.0, 0.1 + 0.2, "x" } }
    assert.same(value, round(value))
    assert.equal("float", math.type(round(value).list[2]))
  end)

  it("of a number that stands in foreign text", function()
    local value = json.decode('{"big":9007199254740993,"neg":-9223372036854775808,"f":1.0,"e":1e2,"text":"9007199254740993"}')
    assert.same({ big = 9007199254740993, neg = math.mininteger, f = 1.0, e = 100.0, text = "9007199254740993" }, value)
    assert.equal("integer", math.type(value.big))
    assert.equal("float", math.type(value.f))
  end)

  it("reads a whole number beyond 64 bits as the nearest float", function()
    assert.equal(18446744073709551616.0, json.decode("18446744073709551616"))
  end)
end)

describe("json keeps arrays arrays", function()
  it("[] stays [] and {} stays {}, at every place", function()
    for _, text in ipairs({ "[]", "{}", "[[],{}]", '{"a":[{}]}', '["[]"]', '{"[]":[]}' }) do
      assert.equal(text, json.encode(json.decode(text)))
    end
  end)

  it("reads [ ] with any space inside", function()
    assert.equal("[[]]", json.encode(json.decode("[ [ \n\t] ]")))
  end)

  it("writes an empty table as {} unless it is said to be an array", function()
    assert.equal("{}", json.encode({}))
    assert.equal("[]", json.encode(holt.array()))
    assert.equal('{"list":[]}', json.encode({ list = holt.array({}) }))
  end)

  it("writes an array that was filled later as what it holds", function()
    local list = json.decode("[]")
    list[1] = "one"
    assert.equal('["one"]', json.encode(list))
  end)
end)

describe("json and null", function()
  it("reads null as holt.null, inside and alone", function()
    assert.equal(holt.null, json.decode("null"))
    local value = json.decode("[1,null,3]")
    assert.equal(3, #value)
    assert.equal(holt.null, value[2])
  end)

  it("writes holt.null and nil as null", function()
    assert.equal("null", json.encode(nil))
    assert.equal("[null]", json.encode({ holt.null }))
  end)

  it("keeps nil among the arguments of an event", function()
    local text = assert(json.encode_values(1, nil, "x", nil))
    assert.equal('[1,null,"x",null]', text)
    assert.same({ true, 1, nil, "x", nil, n = 5 }, table.pack(json.decode_values(text)))
  end)
end)

describe("json strings", function()
  local traps = { "\\\0n1", "é\u{1F9A6}", '"\\/\b\f\n\r\t' }
  for _, value in ipairs({ "", "\0", "a\0b", "\0n5", "\0a", "\0s", 'x"\0n5', "\\u0000n5", '\\"\\u0000s', table.unpack(traps) }) do
    it(("come back as they were: %q"):format(value), function()
      assert.equal(value, round(value))
      assert.same({ value, { k = value }, 0.1 + 0.2 }, round({ value, { k = value }, 0.1 + 0.2 }))
    end)
  end

  it("may hold a NUL in a key", function()
    assert.same({ ["\0n1"] = 1, ["\0s"] = {} }, round({ ["\0n1"] = 1, ["\0s"] = {} }))
  end)
end)

describe("json raises nothing but says what has no form:", function()
  local loop = {}
  loop.self = loop
  for what, case in pairs({
    NaN = { 0 / 0, "json: JSON has no form for NaN; send holt.null or a string" },
    infinity = { { x = -1 / 0 }, "json: field 'x': JSON has no form for infinity; send holt.null or a string" },
    ["a function"] = { { a = { b = print } }, "json: field 'a.b': JSON has no form for a function" },
    ["a userdata"] = { { io.stdout }, "json: field '[1]': JSON has no form for a userdata" },
    ["a cycle"] = { loop, "json: field 'self': this table contains itself; JSON has no form for a cycle" },
    ["a boolean key"] = { { [true] = 1 }, "json: field '[boolean]': a JSON key must be a string or a whole number" },
    ["a key with a fraction"] = { { [1.5] = 1 }, "json: field '[number]': a JSON key must be a string or a whole number" },
  }) do
    it(what, function()
      local text, err = json.encode(case[1])
      assert.is_nil(text)
      assert.equal("codec", err.code)
      assert.equal(case[2], err.message)
    end)
  end

  it("which of an event's arguments", function()
    local _, err = json.encode_values(1, { x = print })
    assert.equal("json: argument 2, field 'x': JSON has no form for a function", err.message)
  end)

  for _, text in ipairs({ "", "{", "[1,2", "01", "tru", "nan", "Infinity", "1e400", '"\\x"', '{"a" 1}', "[1,]", "1 2" }) do
    it("the text " .. text, function()
      local value, err = json.decode(text)
      assert.is_nil(value)
      assert.equal("codec", err.code)
      assert.matches("^json: ", err.message)
    end)
  end

  it("text that is nested too deeply", function()
    local _, err = json.decode(("["):rep(200) .. ("]"):rep(200))
    assert.equal("codec", err.code)
  end)

  it("a table that is nested too deeply", function()
    local deep = {}
    for _ = 1, 150 do
      deep = { deep }
    end
    local _, err = json.encode(deep)
    assert.matches("nested more than 100 deep", err.message)
  end)
end)

it("json writes a table with gaps so that nothing of it is lost", function()
  assert.equal('[1,null,3]', json.encode({ 1, nil, 3 }))
  assert.same({ ["1"] = "a", x = true }, round({ "a", x = true }))
  assert.same({ ["1000000"] = "far" }, round({ [1000000] = "far" }))
end)
