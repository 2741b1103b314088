--- Schemas: protobuf messages from a .proto text or file, read at run time.
-- The C side never touches a file: it says which import it lacks, and this module reads it.
-- @module holt.schema
local core = require("holt.core")
local errors = require("holt.errors")
local options = require("holt.options")

local M = {}

---@class holt.SchemaOptions
---@field name? string What the text is called in messages: "shop.proto" unless said otherwise. Of a text only.
---@field folders? string[] Where imports are looked for, after the folder of the file.
---@field files? table<string, string> Texts by name, which imports are looked for in first.

local RULES = {
  name = { "string" },
  folders = { "list" },
  files = { "table" },
}
local DECODE_RULES = { defaults = { "boolean" } }
local LONGEST = 4 * 1024 * 1024

--- Messages --------------------------------------------------------------------------------------------------------

---@class holt.Message
---@field name string Without its package: "Order.Item".
---@field full_name string "shop.Order.Item"
---@field encode fun(value: table): string|nil, holt.Error? Canonical bytes, or nil and `schema`, which names the field.
---@field decode fun(bytes: string, opts?: { defaults?: boolean }): table|nil, holt.Error?
---@field check fun(bytes: string): true|nil, holt.Error? Whether they are this message and nothing else.
---@field schema holt.Schema

local Message = {}
Message.__index = Message
Message.__name = "holt.message"

function Message:__tostring()
  return ("holt.message (%s)"):format(self.full_name)
end

local function new_message(schema, number, described)
  local handle = schema.handle
  return setmetatable({
    name = described.name,
    full_name = described.full_name,
    schema = schema,
    canonical = true, -- equal values, equal bytes: for codecs of shared objects
    encode = function(value)
      return handle:encode(number, value)
    end,
    decode = function(bytes, opts)
      local has_defaults = true
      if opts ~= nil then
        has_defaults = options.check("decode", opts, DECODE_RULES).defaults ~= false
      end
      return handle:decode(number, bytes, has_defaults)
    end,
    check = function(bytes)
      return handle:check(number, bytes)
    end,
  }, Message)
end

---Whether a value is a message of a schema.
---@param value any
---@return boolean
function M.is_message(value)
  return getmetatable(value) == Message
end

--- Schemas ---------------------------------------------------------------------------------------------------------

---@class holt.Schema
---@field name string The file it came from.
---@field messages table<string, holt.Message> By full name, or its end where only one message ends so; pairs() goes
--- over those that stand on the outermost level, imported ones included, google's not.
---@field private handle userdata
local Schema = {}
M.Schema = Schema
Schema.__index = Schema
Schema.__name = "holt.schema"

function Schema:__tostring()
  return ("holt.schema (%s)"):format(self.name)
end

---The message of this name; nil and an error with the nearest name when there is none.
---@param name string
---@return holt.Message|nil
---@return holt.Error? err `schema`
function Schema:message(name)
  if type(name) ~= "string" then
    error(("schema:message: the name must be a string, got %s"):format(type(name)), 2)
  end
  local number, err = self.handle:find(name)
  if not number then
    return nil, err
  end
  local message = self.by_number[number]
  if not message then
    message = new_message(self, number, self:describe().messages[number + 1])
    self.by_number[number] = message
  end
  return message
end

---Everything the schema says: root, files, messages with their fields, enums with their values.
---@return table
function Schema:describe()
  self.description = self.description or assert(self.handle:describe())
  return self.description
end

---The names of the messages on the outermost level, those of the root file first: without their package where that says it all.
---@return string[]
function Schema:names()
  local list = {}
  for number, described in ipairs(self:describe().messages) do
    local is_ours = described.file:sub(1, 16) ~= "google/protobuf/"
    if is_ours and not described.is_nested then
      list[#list + 1] = self.handle:find(described.name) == number - 1 and described.name or described.full_name
    end
  end
  return list
end

---The schema as bytes (a FileDescriptorSet) to be stored: with all imports, without comments; equal schemas have
---equal bytes. `holt.schema.load` reads them.
---@return string
function Schema:bytes()
  return assert(self.handle:bytes())
end

---The same for people: .proto text, all imports in it, each behind a comment with its name.
---@return string
function Schema:text()
  return assert(self.handle:text())
end

local Messages = {}

function Messages:__index(name)
  if type(name) ~= "string" then
    return nil
  end
  local message = rawget(self, Messages):message(name)
  return message or nil
end

function Messages:__pairs()
  local schema = rawget(self, Messages)
  local names, i = schema:names(), 0
  return function()
    i = i + 1
    if names[i] then
      return names[i], (schema:message(names[i]))
    end
  end
end

local function finish(handle, root)
  local ok, err = handle:build(root)
  if not ok then
    return nil, err
  end
  local schema = setmetatable({ handle = handle, name = root, by_number = {} }, Schema)
  schema.messages = setmetatable({ [Messages] = schema }, Messages)
  return schema
end

--- Reading ---------------------------------------------------------------------------------------------------------

local function read(path)
  local file <close> = io.open(path, "rb")
  if not file then
    return nil
  end
  local text = file:read(LONGEST + 1) -- longer ones are refused by who reads it
  return text or (file:seek("end") == 0 and "" or nil) -- a folder opens, but cannot be read
end

-- The text of an import; or nil, and where it was looked for.
local function find_import(name, given, folders)
  if given[name] then
    return given[name]
  end
  if name:find("^/") or ("/" .. name .. "/"):find("/../", 1, true) then
    return nil, "imports lie below the folder of the file"
  end
  for _, folder in ipairs(folders) do
    local text = read(folder .. "/" .. name)
    if text then
      return text
    end
  end
  return nil, #folders > 0 and ("looked for in " .. table.concat(folders, ", ")) or "there is no folder to look in"
end

local function add_imports(handle, given, folders)
  while true do
    local name, place = handle:missing()
    if not name then
      return place == nil or nil, place
    end
    local text, why = find_import(name, given, folders)
    if not text then
      return errors.fail("schema", ('%s: import "%s" was not found; %s'):format(place, name, why))
    end
    local ok, err = handle:add(name, text)
    if not ok then
      return nil, err
    end
  end
end

-- A text has a line break, a semicolon or a bracket; the name of a file has none of them.
local function is_text(source)
  return source:find("[\n;{]") ~= nil or source == ""
end

---Read a schema.
---@param source string A .proto text, or the name of a file; imports are looked for in its folder.
---@param opts? holt.SchemaOptions
---@return holt.Schema|nil
---@return holt.Error? err `schema`, with line and column; `not_found`; `unsupported`: the library is missing.
function M.new(source, opts)
  opts = options.check("holt.schema", opts, RULES, 1)
  if type(source) ~= "string" then
    error(("holt.schema: a .proto text or the name of a file was expected, got %s"):format(type(source)), 3)
  end
  local name, text, folders = opts.name or "schema.proto", source, {}
  if not is_text(source) then
    local folder, base = source:match("^(.*)/([^/]*)$")
    name, folders[1] = base or source, folder or "."
    text = (opts.files or {})[source] or read(source)
    if not text then
      return errors.fail("not_found", ("the schema '%s' cannot be read; is this the file's name?"):format(source))
    end
  end
  table.move(opts.folders or {}, 1, #(opts.folders or {}), #folders + 1, folders)
  local handle, err = core.schema_new()
  if not handle then
    return nil, err
  end
  local ok
  ok, err = handle:add(name, text)
  if ok then
    ok, err = add_imports(handle, opts.files or {}, folders)
  end
  if not ok then
    return nil, err
  end
  return finish(handle, name)
end

---Read what `schema:bytes()` gave.
---@param bytes string
---@return holt.Schema|nil
---@return holt.Error? err `schema`, `unsupported`
function M.load(bytes)
  local handle, err = core.schema_new()
  if not handle then
    return nil, err
  end
  local root
  root, err = handle:load(bytes)
  if not root then
    return nil, err
  end
  return finish(handle, root)
end

return setmetatable(M, {
  __call = function(_, source, opts)
    return M.new(source, opts)
  end,
})
