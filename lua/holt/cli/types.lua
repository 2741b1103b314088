--- holt types SCHEMA: descriptions of a schema's messages for editors (the Lua language server).
local schemas = require("holt.schema")
local term = require("holt.cli.term")

local EXIT = { schema = 5 }

local verb = {
  name = "types",
  usage = "holt types SCHEMA",
  summary = "Write descriptions of a schema's messages for editors, as Lua comments that the Lua language server reads.",
  examples = {
    { "holt types shop.proto > types/shop.lua", "then `---@param order OrderPlaced` completes and checks fields" },
    { "holt types shop.proto --folder protos", "imports are also looked for in protos/" },
  },
  flags = {
    { "folder", value = "DIR", help = "look for imports here too, after the schema's own folder", is_repeatable = true },
  },
  arguments = { min = 1, max = 1, names = "SCHEMA" },
}

local NUMBERS = {
  int32 = true, int64 = true, uint32 = true, sint32 = true, sint64 = true, fixed32 = true, sfixed32 = true, sfixed64 = true,
}
local OTHERS = { uint64 = "integer|string", fixed64 = "integer|string", double = "number", float = "number", bool = "boolean" }

local function type_of(field, names)
  local plain = names[field.message or field.enum]
    or (NUMBERS[field.type] and "integer")
    or OTHERS[field.type]
    or "string"
  if field.label == "map" then
    local key = NUMBERS[field.key] and "integer" or OTHERS[field.key] or "string"
    return ("table<%s, %s>"):format(key, plain)
  elseif field.label == "repeated" then
    return plain:find("|", 1, true) and ("(%s)[]"):format(plain) or plain .. "[]"
  end
  return plain
end

-- A comment of the schema as one line.
local function one_line(comment)
  return comment and (comment:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")) or nil
end

local function comment_lines(out, comment)
  for line in (comment or ""):gmatch("[^\n]+") do
    out[#out + 1] = "---" .. line:gsub("^%s+", ""):gsub("%s+$", "")
  end
end

local function field_line(field, names)
  local words = {}
  if field.oneof then
    words[#words + 1] = ("One of %s."):format(field.oneof)
  end
  if field.default ~= nil then
    words[#words + 1] = ("Default: %s."):format(tostring(field.default))
  end
  words[#words + 1] = one_line(field.comment)
  local text = ("---@field %s%s %s"):format(field.name, field.label == "required" and "" or "?", type_of(field, names))
  return #words > 0 and text .. " " .. table.concat(words, " ") or text
end

-- Full name -> name of its class: without the package where no other has that name.
local function class_names(described)
  local count, names = {}, {}
  for _, list in ipairs({ described.messages, described.enums }) do
    for _, item in ipairs(list) do
      count[item.name] = (count[item.name] or 0) + 1
    end
  end
  for _, list in ipairs({ described.messages, described.enums }) do
    for _, item in ipairs(list) do
      local is_google = item.file:sub(1, 16) == "google/protobuf/"
      names[item.full_name] = (count[item.name] == 1 and not is_google) and item.name or item.full_name
    end
  end
  return names
end

-- "shop-v2.proto" -> "ShopV2"
local function title(file)
  local base = file:match("([^/]*)$"):gsub("%.proto$", "")
  return (base:gsub("[^%w]+", " "):gsub("(%w)(%w*)%s*", function(first, rest)
    return first:upper() .. rest
  end))
end

---The text of the descriptions.
---@param schema holt.Schema
---@return string
function verb.stubs(schema)
  local described = schema:describe()
  local names = class_names(described)
  local out = { "---@meta", ("-- From %s by `holt types`; make it again instead of editing it."):format(described.root) }
  for _, item in ipairs(described.enums) do
    local values = {}
    for _, value in ipairs(item.values) do
      values[#values + 1] = ("%q"):format(value.name)
    end
    out[#out + 1] = ""
    comment_lines(out, item.comment)
    out[#out + 1] = ("---@alias %s %s|integer"):format(names[item.full_name], table.concat(values, "|"))
  end
  for _, message in ipairs(described.messages) do
    out[#out + 1] = ""
    comment_lines(out, message.comment)
    out[#out + 1] = "---@class " .. names[message.full_name]
    for _, field in ipairs(message.fields) do
      out[#out + 1] = field_line(field, names)
    end
  end
  out[#out + 1] = ""
  out[#out + 1] = ("---@class %sMessages What schema.messages and log.messages of this schema hold."):format(title(described.root))
  for _, name in ipairs(schema:names()) do
    local class = names[schema:message(name).full_name]
    local key = name:find("^[%a_][%w_]*$") and name or ("[%q]"):format(name)
    local encode = ("encode: (fun(message: %s): string|nil, holt.Error?)"):format(class)
    local decode = ("decode: (fun(bytes: string): %s|nil, holt.Error?)"):format(class)
    out[#out + 1] = ("---@field %s { %s, %s }"):format(key, encode, decode)
  end
  return table.concat(out, "\n") .. "\n"
end

function verb.run(values, arguments)
  local schema, err = schemas.new(arguments[1], { folders = values.folder })
  if not schema then
    term.say("%s", err.message)
    return EXIT[err.code] or 1
  end
  io.stdout:write(verb.stubs(schema))
  return 0
end

return verb
