--- Which codecs a journal has: those of the schema or codec it is opened with, else those it was made with, which are kept
-- beside its entries.
-- @module holt.journal.payloads
local codecs = require("holt.journal.codecs")
local compatible = require("holt.journal.compatible")
local core = require("holt.core")
local errors = require("holt.errors")
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

-- A codec in the place of another, or of a schema: what is there could not be read any more, and what is written would be of two
-- kinds. Functions of the script's own are not compared: they may well read what a built-in codec wrote.
local function codec_conflict(box, given)
  local first, after = core.journal_bounds(box)
  local kept, schema = core.journal_note(box, "codec"), core.journal_note(box, "schema")
  if first == after or not (schema or kept) then
    return nil
  elseif schema and (given.schema or not given.codec) then
    return nil
  elseif not schema and not given.schema and (not given.codec or type(given.codec) == "table" or given.codec == kept) then
    return nil
  end
  local was = schema and "has a schema" or ("has the codec '%s'"):format(kept)
  local wanted = type(given.codec) == "string" and ("the codec '%s'"):format(given.codec) or given.codec and "a codec" or "a schema"
  return errors.new("option_conflict", ("this journal %s: it cannot be opened with %s in its place"):format(was, wanted), {
    hint = "leave that out, or bring its entries into a new folder: holt journal export --db OLD | holt journal import - --db NEW "
      .. (given.codec and "--codec NAME" or "--schema FILE"),
  })
end

-- Another schema than the kept one: refused where entries that are here could be read wrongly with it. The entries are not looked
-- at, however many there are.
local function conflict(box, name, schema)
  local kept = core.journal_note(box, "schema")
  local first, after = core.journal_bounds(box)
  if not kept or first == after or kept == schema:bytes() then
    return nil
  end
  local old = schemas.load(kept)
  local problems = old and compatible.problems(old, schema)
  if problems then
    return errors.new("schema_conflict", ("journal '%s': the schema %s does not go together with the one that its entries were "
      .. "written with: %s"):format(name, schema.name, problems), {
        hint = ("`holt journal check %s --db FOLDER --name %s` names the first entry concerned; if none is, --accept takes the schema")
          :format(schema.name, name),
      })
  end
end

-- What is given is kept; the other kind, of a time when there were no entries, is forgotten.
local function keep(box, key, value, other)
  if value and core.journal_note(box, other) then
    core.journal_set_note(box, other)
  end
  if value and core.journal_note(box, key) ~= value then
    core.journal_set_note(box, key, value)
  end
end

---The codecs of an open journal; nil and an error when its schema is broken (`schema`) or does not go together with the
---kept one (`schema_conflict`), or when the codec or schema that is given is of another kind than the one that is kept
---(`option_conflict`).
---@param box userdata
---@param name string
---@param given { schema?: string|holt.Schema, codec?: string|table }
---@return holt.JournalCodecs|nil
---@return holt.Error?
function M.new(box, name, given)
  local schema, err = nil, codec_conflict(box, given)
  if err then
    return nil, err
  end
  if given.schema or not given.codec then -- a codec in the schema's place makes us forget it
    schema, err = find_schema(box, given.schema)
    err = err or (given.schema and conflict(box, name, schema))
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
  if given.schema then
    keep(box, "schema", schema:bytes(), "codec")
  elseif type(given.codec) == "string" then
    keep(box, "codec", given.codec, "schema")
  end
  made.is_typed = schema ~= nil or default ~= nil
  return made
end

return M
