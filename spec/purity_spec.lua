-- The folders that promise to be pure call nothing but base/ and plain memory functions: shown by the
-- undefined symbols of their archives.

local build = os.getenv("HOLT_BUILD") or "release"

---Names that an archive defines or needs.
---@param archive string Path of a static library.
---@param option string Of nm: which symbols.
---@return table<string, boolean> names
local function symbols(archive, option)
  local names = {}
  local out = assert(io.popen("nm --format=posix " .. option .. " " .. archive .. " 2>/dev/null"))
  for line in out:lines() do
    local name, kind = line:match("^(%S+) (%a)")
    if name then names[name] = kind ~= nil end
  end
  out:close()
  return names
end

-- What a compiler puts in by itself, and memory. No printf, no files, no clock, no chance, no locks.
local plain = {}
for name in ([[memcpy memmove memset memcmp strlen qsort bsearch malloc realloc free __stack_chk_fail
              _GLOBAL_OFFSET_TABLE_]]):gmatch("%S+") do
  plain[name] = true
end

local function is_of_compiler(name) return name:match("^__asan_") or name:match("^__ubsan_") or name:match("^__sanitizer_") end

---Symbols that `folder` needs and may not.
---@param folder string
---@param uses string[] Folders it may call.
---@return string[] strangers
local function strangers(folder, uses)
  local path = "build/" .. build .. "/libholt_%s.a"
  local own = symbols(path:format(folder), "--defined-only")
  assert(next(own), path:format(folder) .. " defines nothing: is it built?")
  local allowed = {}
  for _, used in ipairs(uses) do
    for name in pairs(symbols(path:format(used), "--defined-only")) do
      if not name:match("^holt_log") then allowed[name] = true end -- base/log.h writes
    end
  end
  local found = {}
  for name in pairs(symbols(path:format(folder), "--undefined-only")) do
    if not (own[name] or allowed[name] or plain[name] or is_of_compiler(name)) then found[#found + 1] = name end
  end
  table.sort(found)
  return found
end

describe("purity", function()
  it("of raft/: nothing but base/ and memory", function() assert.same({}, strangers("raft", { "base" })) end)

  it("of dag/: nothing but base/, wire/ and memory", function() assert.same({}, strangers("dag", { "base", "wire" })) end)

  it("of collections/: nothing but base/ and memory", function() assert.same({}, strangers("collections", { "base" })) end)

  it("would be noticed missing: env/ calls names that are not allowed", function()
    local found = table.concat(strangers("env", { "base" }), " ")
    assert.truthy(found:find("uv_run", 1, true))
  end)

  it("does not let a clock or a file in by way of base/", function()
    local allowed = symbols("build/" .. build .. "/libholt_raft.a", "--undefined-only")
    for _, name in ipairs({ "clock_gettime", "time", "rand", "getrandom", "fopen", "open", "write", "printf" }) do
      assert.is_nil(allowed[name])
    end
  end)
end)
