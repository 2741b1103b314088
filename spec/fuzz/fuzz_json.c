/* Any text into our JSON reader around lua-cjson: it answers a value or an error table; what it read can be
 * written, and read again is the same value. */
#include <stdint.h>
#include <stdio.h>

#include "base/assert.h"
#include "binding/binding.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char code[] = "local json = require('holt.json')\n"
                           "local function same(a, b)\n"
                           "  if type(a) ~= 'table' or type(b) ~= 'table' then\n"
                           "    return a == b and math.type(a) == math.type(b)\n"
                           "  end\n"
                           "  for k, v in pairs(a) do if not same(v, b[k]) then return false end end\n"
                           "  for k in pairs(b) do if a[k] == nil then return false end end\n"
                           "  return true\n"
                           "end\n"
                           "return function(text)\n"
                           "  local value, err = json.decode(text)\n"
                           "  if err then assert(err.code == 'codec') return end\n"
                           "  local back = json.decode(assert(json.encode(value)))\n"
                           "  assert(same(value, back), 'another value came back')\n"
                           "end\n";

static struct holt_script *script;
static int check_ref;

static void prepare(lua_State *L, void *arg) {
  (void)arg;
  holt_binding_open(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, "holt.core");
  holt_binding_add_searcher(L, true);
  if (luaL_loadbuffer(L, code, sizeof code - 1, "=fuzz") != LUA_OK) lua_error(L);
  lua_call(L, 0, 1);
  check_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

static void check(lua_State *L, void *arg) {
  const struct holt_buf *text = arg;
  lua_rawgeti(L, LUA_REGISTRYINDEX, check_ref);
  lua_pushlstring(L, text->len > 0 ? (const char *)text->data : "", text->len);
  lua_call(L, 1, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct holt_err err = {0};
  if (script == NULL) {
    script = holt_script_new(NULL); /* nothing here waits */
    HOLT_ASSERT(script != NULL);
    int rc = holt_lua_call(script, prepare, NULL, &err);
    if (rc != 0) fprintf(stderr, "%s\n", err.message);
    HOLT_ASSERT(rc == 0);
  }
  struct holt_buf text = holt_buf(data, size);
  int rc = holt_lua_call(script, check, &text, &err);
  if (rc != 0) fprintf(stderr, "%s\n", err.message);
  HOLT_ASSERT(rc == 0);
  return 0;
}
