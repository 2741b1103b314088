/* codec.c - msgpack for Lua; json and the table of codecs live in lua/holt/codec.lua. */
#include "script/codec.h"
#include "binding/binding.h"

/* The buffer belongs to the state, so an error on the way cannot leak it. */
static int l_writer_gc(lua_State *L) {
  holt_writer_free(lua_touserdata(L, 1));
  return 0;
}

/* msgpack_encode(...) -> bytes | nil, err; upvalue 1 is the writer */
static int l_msgpack_encode(lua_State *L) {
  struct holt_writer *out = lua_touserdata(L, lua_upvalueindex(1));
  struct holt_err err;
  out->len = 0;
  int rc = holt_msgpack_encode(L, 1, lua_gettop(L), out, &err);
  if (rc != 0) return holt_lua_fail(L, &err);
  lua_pushlstring(L, out->len > 0 ? (const char *)out->data : "", out->len);
  if (out->cap > (1u << 20)) holt_writer_free(out);
  return 1;
}

/* msgpack_decode(bytes) -> true, values... | nil, err */
static int l_msgpack_decode(lua_State *L) {
  size_t len;
  const char *bytes = luaL_checklstring(L, 1, &len);
  struct holt_err err;
  lua_settop(L, 1);
  lua_pushboolean(L, 1);
  int count = holt_msgpack_decode(L, holt_buf(bytes, len), &err);
  if (count < 0) return holt_lua_fail(L, &err);
  return count + 1;
}

void holt_binding_codecs(lua_State *L) {
  lua_pushcfunction(L, l_msgpack_decode);
  lua_setfield(L, -2, "msgpack_decode");
  struct holt_writer *out = lua_newuserdatauv(L, sizeof *out, 0);
  *out = (struct holt_writer){0};
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, l_writer_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_pushcclosure(L, l_msgpack_encode, 1);
  lua_setfield(L, -2, "msgpack_encode");
  holt_json_open(L);
}
