--- Which codecs a journal has: those of the schema or codec it is opened with, else those it was made with, which are kept
-- beside its entries.
-- @module holt.journal.payloads
local codecs = require("holt.journal.codecs")
local core = require("holt.core")
local schemas = require("holt.schema")

local M = {}

-- The schema that is asked for, else the one that is kept; nil when there is none, nil and an error when it is broken.
local function find_schema(box, given)
  if type(given) == "table" then
    return given
  elseif given then
    return schemas.new(given)
  end
  local kept = core.journal_note(box, "schema")
  if kept then
    return schemas.load(kept)
  end
end

local function keep(box, key, value)
  if value and core.journal_note(box, key) ~= value then
    core.journal_set_note(box, key, value)
  end
end

---The codecs of an open journal; nil and an error when its schema is broken.
---@param box userdata
---@param given { schema?: string|holt.Schema, codec?: string|table }
---@return holt.JournalCodecs|nil
---@return holt.Error?
function M.new(box, given)
  local schema, err
  if given.schema or not given.codec then -- a codec in the schema's place makes us forget it
    schema, err = find_schema(box, given.schema)
    if err then
      return nil, err
    end
  end
  local default = given.codec or core.journal_note(box, "codec")
  local made
  made, err = codecs.new({ schema = schema, default = default })
  if not made then
    return nil, err
  end
  keep(box, "schema", given.schema and schema:bytes())
  keep(box, "codec", type(given.codec) == "string" and given.codec or nil)
  made.is_typed = schema ~= nil or default ~= nil
  return made
end

return M
