-- A read model: the journal says what happened, a table says what is. The table is made from the entries, one after the
-- other, and can be thrown away and made again at any time.
--
--   holt run examples/readmodel/orders.lua --data data/orders -- order apple 3       (or cancel)
--   holt run examples/readmodel/orders.lua --data data/orders -- show
--   holt run examples/readmodel/orders.lua --data data/orders -- rebuild
--
-- The table is kept in a file together with the position it was made up to: both change in one rename, so that after a
-- crash no entry counts twice and none is missing, whatever the journal's own cursor says. That is how "at least once"
-- becomes "exactly once".
local holt = require("holt")

local node = holt.node {}
local data = node:settings().data.value
local what, which, count_text = ...
local is_written = what == "order" or what == "cancel"
local how_many = math.tointeger(count_text or 1)
-- What is in the journal stays there, so it is looked at before.
if not data or not (is_written and which and how_many or what == "show" or what == "rebuild") then
  io.stderr:write("usage: holt run examples/readmodel/orders.lua --data FOLDER -- order|cancel SKU [COUNT] | show | rebuild\n")
  return holt.exit(2)
end
local log = assert(node:journal("orders", { codec = "json" }))
local FILE = data .. "/stock.json"

local function load_model()
  local file <close> = io.open(FILE)
  local model = file and holt.json.decode(file:read("a"))
  return model or { position = "start", stock = {} }
end

local function save(model)
  local file = assert(io.open(FILE .. ".new", "w"))
  file:write(assert(holt.json.encode(model)))
  file:close()
  assert(os.rename(FILE .. ".new", FILE))
end

local apply = {}

function apply.Ordered(stock, order)
  stock[order.sku] = (stock[order.sku] or 0) + order.count
end

function apply.Canceled(stock, order)
  stock[order.sku] = (stock[order.sku] or 0) - order.count
end

-- Take in what the model has not seen.
local function catch_up(model)
  local count = 0
  for entry in log:read { from = model.position, filter = { "Ordered", "Canceled" } } do
    apply[entry.name](model.stock, entry.payload)
    model.position, count = entry.position + 1, count + 1
  end
  save(model)
  return count
end

local function show(model)
  local skus = {}
  for sku in pairs(model.stock) do
    skus[#skus + 1] = sku
  end
  table.sort(skus)
  for _, sku in ipairs(skus) do
    print(("%s %d"):format(sku, model.stock[sku]))
  end
end

local model = load_model()
if is_written then
  assert(log:emit(what == "order" and "Ordered" or "Canceled", { sku = which, count = how_many }))
elseif what == "rebuild" then
  model = { position = "start", stock = {} }
end
print(("%d entries taken in"):format(catch_up(model)))
show(model)
node:close()
