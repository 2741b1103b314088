/* texts.h - short strings that came lately, such as the keys of tables: to find one here is cheaper than to
 * have Lua hash and look it up again. One set a Lua state, of fixed size; a string takes its place when it
 * comes for the second time in a row there, so that ever new strings pass by. */
#ifndef HOLT_SCRIPT_TEXTS_H
#define HOLT_SCRIPT_TEXTS_H

#include <lauxlib.h>

#include "base/buf.h"

#define HOLT_TEXTS_MAX    128
#define HOLT_TEXT_LEN_MAX 16

struct holt_text {
  uint64_t head, tail; /* its bytes: two pieces that may overlap */
  uint64_t last;       /* the sum of the one that came last, when it was not this */
  int ref;             /* in the registry; 0: nothing is here yet */
  uint8_t len;
};

struct holt_texts {
  struct holt_text texts[HOLT_TEXTS_MAX]; /* by the upper seven bits of a product */
};

/* Push the string and, now or the next time, keep it in `text`. May raise (memory). */
void holt_text_push_new(lua_State *L, struct holt_text *text, const char *at, size_t len, uint64_t head,
                        uint64_t tail);

/* As lua_pushlstring. */
static inline void holt_texts_push(lua_State *L, struct holt_texts *texts, const char *at, size_t len) {
  uint64_t head = 0, tail = 0;
  if (len - 1 >= HOLT_TEXT_LEN_MAX) { /* empty or long */
    lua_pushlstring(L, len > 0 ? at : "", len);
    return;
  }
  if (len >= 8) {
    memcpy(&head, at, 8);
    memcpy(&tail, at + len - 8, 8);
  } else if (len >= 4) {
    memcpy(&head, at, 4);
    memcpy(&tail, at + len - 4, 4);
  } else {
    head = (uint64_t)(uint8_t)at[0] | (uint64_t)(uint8_t)at[len / 2] << 8;
    tail = (uint8_t)at[len - 1];
  }
  uint64_t sum = (head ^ tail * 3 ^ len) * 0x9e3779b97f4a7c15u;
  struct holt_text *text = &texts->texts[sum >> 57];
  if (text->len == len && text->head == head && text->tail == tail) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, text->ref);
    text->last = 0; /* it is in use: another must come twice in a row */
  } else {
    holt_text_push_new(L, text, at, len, head, tail);
  }
}

#endif /* HOLT_SCRIPT_TEXTS_H */
