/* sources.h - our Lua modules, carried inside the binary (made by scripts/embed.cmake). */
#ifndef HOLT_BINDING_SOURCES_H
#define HOLT_BINDING_SOURCES_H

#include <stddef.h>

struct holt_lua_source {
  const char *module; /* "holt.json" */
  const char *path;   /* "lua/holt/json.lua", for tracebacks */
  const char *text;
  size_t len;
};

/* Ends with an entry whose module is NULL. */
extern const struct holt_lua_source holt_lua_sources[];

#endif /* HOLT_BINDING_SOURCES_H */
