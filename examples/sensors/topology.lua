local shape = require("holt.topology")

return {
  script = "sensors.lua",
  base_port = tonumber(os.getenv("SENSORS_PORT") or "7201"),
  nodes = shape.ring { "north", "east", "south", "west" },
  args = { os.getenv("SENSORS_INTERVAL") or "1" },
}
