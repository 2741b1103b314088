std = "lua54"
max_line_length = 140
unused_args = false
self = false
files["spec"] = { std = "+busted" }
files["examples"] = { std = "+busted", globals = { "latest" } }
files["**/*_spec.lua"] = { std = "+busted" }
exclude_files = { "build" }
