local nodes = require("spec.helper.nodes")

describe("the example of an audit trail", function()
  nodes.guard(before_each, after_each)

  local function run(...)
    local data = nodes.folder() .. "/data"
    local program = nodes.holt("run", "examples/audit/audit.lua", "--data", data, "--control", "none", "--", ...)
    return program:wait(), program:output()
  end

  -- Change a word in the files of the journal, as somebody would who can write to the disk.
  local function forge(from, to)
    local pipe <close> = assert(io.popen("grep -rlaF '" .. from .. "' " .. nodes.folder() .. "/data/journal"))
    local changed = 0
    for path in pipe:lines() do
      local file = assert(io.open(path, "r+b"))
      local text = file:read("a")
      local at = 1
      while true do
        at = text:find(from, at, true)
        if not at then
          break
        end
        file:seek("set", at - 1)
        file:write(to)
        at, changed = at + #from, changed + 1
      end
      file:close()
    end
    return changed
  end

  it("records nothing that is not said in full, and does not take another word for a check", function()
    for _, given in ipairs { { "record", "alice" }, { "record" }, { "chekc" }, { "check", "00" }, {} } do
      local code, text = run(table.unpack(given))
      assert.same(2, code)
      assert.matches("^usage: ", text)
    end
    local code, text = run("check")
    assert.same(0, code)
    assert.matches("^0 entries", text)
  end)

  it("misses the newest entry in an older copy of the folder", function()
    local folder = nodes.folder() .. "/data"
    run("record", "alice", "opened safe 1")
    assert(os.execute(("cp -r %s %s.old"):format(folder, folder)))
    run("record", "alice", "opened safe 2")
    local code, text = run("check")
    local hashes = {}
    for hash in text:gmatch("%x+") do
      hashes[#hashes + 1] = #hash == 64 and hash or nil
    end
    assert.same({ 0, 2 }, { code, #hashes })
    for _, hash in ipairs(hashes) do
      assert.same(0, (run("check", hash)))
    end
    assert(os.execute(("rm -r %s && mv %s.old %s"):format(folder, folder, folder)))
    assert.same(0, (run("check"))) -- it is sound in itself
    local codes = {}
    for i, hash in ipairs(hashes) do
      codes[i], text = run("check", hash)
      assert.matches(codes[i] == 1 and "MISSING" or "as they were written", text)
    end
    table.sort(codes)
    assert.same({ 0, 1 }, codes)
  end)

  it("is in order until somebody changes a word on the disk", function()
    for i = 1, 5 do
      assert.same(0, (run("record", "alice", "opened safe " .. i)))
    end
    local code, text = run("check")
    assert.same(0, code)
    assert.matches("entries, all as they were written", text)
    assert.is_true(forge("opened safe 3", "cleaned desk3") > 0)
    code, text = run("check")
    assert.same(1, code)
    assert.matches("TAMPERED WITH", text)
  end)
end)
