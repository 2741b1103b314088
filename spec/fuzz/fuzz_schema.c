/* Two things in one: any text as a schema, and any bytes as a message.
 *
 * - Text (first byte 't'): it is read or refused with a reason; what was read is the same again from its
 * stored form.
 * - Stored schemas (first byte 's'): the same.
 * - Anything else is a message: if check takes it, it can be read, written, and read again with the same
 * outcome. */
#include <stdint.h>
#include <stdio.h>

#include "base/assert.h"
#include "binding/binding.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char code[] =
    "local schemas = require('holt.schema')\n"
    "local known = assert(schemas.new([[\n"
    "  syntax = 'proto2'; package p; enum E { A = 0; B = -1; }\n"
    "  message M { optional int32 a = 1; optional int64 b = 2; optional uint64 c = 3; optional sint32 d = "
    "4;\n"
    "    optional double e = 5; optional float f = 6; optional bool g = 7; optional string h = 8;\n"
    "    optional bytes i = 9; repeated int32 j = 10 [packed = true]; map<string, M> k = 11; optional E l = "
    "12;\n"
    "    oneof o { M m = 13; string n = 14; } repeated M r = 15; map<bool, E> s = 16; optional group U = 17 "
    "{ required\n"
    "    fixed64 v = 1; } extensions 100 to max; } extend M { optional M x = 100; }]]))\n"
    "local m = known.messages.M\n"
    "local function same(schema)\n"
    "  local bytes = schema:bytes()\n"
    "  assert(assert(schemas.load(bytes)):bytes() == bytes, 'another schema came back')\n"
    "  schema:describe() schema:names() schema:text()\n"
    "end\n"
    "return function(text)\n"
    "  local kind, rest = text:sub(1, 1), text:sub(2)\n"
    "  if kind == 't' or kind == 's' then\n"
    "    local schema, err\n"
    "    if kind == 't' then schema, err = schemas.new(rest .. '\\n') else schema, err = schemas.load(rest) "
    "end\n"
    "    if schema then same(schema) else assert(err.code == 'schema' and #err.message > 0) end\n"
    "    return\n"
    "  end\n"
    "  local value, err = m.decode(text)\n"
    "  if not value then assert(#err.message > 0) return end\n"
    "  if not m.check(text) then return end\n"
    "  local bytes = assert(m.encode(value))\n"
    "  assert(m.check(bytes))\n"
    "  assert(m.encode(assert(m.decode(bytes))) == bytes, 'another message came back')\n"
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
