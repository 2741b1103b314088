return { name = "demo", summary = "later", run = function() return 0 end }
