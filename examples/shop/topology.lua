-- Three shops: holt up examples/shop/topology.lua
local shape = require("holt.topology")

return { script = "shop.lua", base_port = 7401, nodes = shape.mesh({ "s1", "s2", "s3" }) }
