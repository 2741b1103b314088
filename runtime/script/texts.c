#include "script/texts.h"

void holt_text_push_new(lua_State *L, struct holt_text *text, const char *at, size_t len, uint64_t head,
                        uint64_t tail) {
  uint64_t sum = (head ^ tail << 7 ^ tail >> 57) + len;
  lua_pushlstring(L, at, len);
  if (text->last != sum) {
    text->last = sum;
    return;
  }
  lua_pushvalue(L, -1);
  if (text->ref == 0)
    text->ref = luaL_ref(L, LUA_REGISTRYINDEX);
  else
    lua_rawseti(L, LUA_REGISTRYINDEX, text->ref);
  text->head = head;
  text->tail = tail;
  text->len = (uint8_t)len;
}
