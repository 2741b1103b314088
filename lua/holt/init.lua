--- holt: event nodes scripted in Lua.
return {}
