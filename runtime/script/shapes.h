/* shapes.h - the keys of maps that were encoded lately, and the order in which canonical MessagePack wants
 * them.
 *
 * The keys are short strings, of which Lua keeps one copy each, and anchored here: a key that has the address
 * of one of them is that key. One set of shapes a Lua state, of fixed size; it belongs to the state. A new
 * shape takes the place of an old one when that has missed several times in a row. */
#ifndef HOLT_SCRIPT_SHAPES_H
#define HOLT_SCRIPT_SHAPES_H

#include <lua.h>

#include "base/buf.h"

#define HOLT_SHAPES_MAX      16 /* power of two */
#define HOLT_SHAPE_KEYS_MAX  15
#define HOLT_SHAPE_BYTES_MAX 240 /* of all keys, encoded */

struct holt_shape {
  uint8_t count;                           /* 0: none yet */
  uint8_t misses;                          /* since it fitted last */
  unsigned users;                          /* maps that are being encoded by it: it must stay as it is */
  const void *ids[HOLT_SHAPE_KEYS_MAX];    /* addresses of the keys, as the table gives them */
  uint8_t order[HOLT_SHAPE_KEYS_MAX];      /* order[i]: which key comes in place i */
  uint8_t starts[HOLT_SHAPE_KEYS_MAX + 1]; /* in `bytes`, and where they end */
  uint8_t bytes[HOLT_SHAPE_BYTES_MAX];     /* of each key: one of length, its text */
};

struct holt_shapes {
  int anchors; /* a table in the registry: the keys of shape s from place s * HOLT_SHAPE_KEYS_MAX + 1 on */
  struct holt_shape shapes[HOLT_SHAPES_MAX];
};

/* Make the shapes of a state; they live as long as it does. May raise (memory). */
struct holt_shapes *holt_shapes_new(lua_State *L);
/* The table at `table` did not fit; these are its encoded keys, in the order in which it gives them. Whether
 * they shall be kept is decided here. Never raises; needs three places on the stack. */
void holt_shape_missed(lua_State *L, struct holt_shapes *shapes, struct holt_shape *shape, int table,
                       const struct holt_buf *keys, size_t count);

/* Where the shape of maps that begin with the key of this address is kept; it may hold another. */
static inline struct holt_shape *holt_shape_of(struct holt_shapes *shapes, const void *first_id) {
  return &shapes->shapes[((uintptr_t)first_id >> 5) & (HOLT_SHAPES_MAX - 1)];
}

/* memcpy for what is mostly short: two pieces that may overlap, without a call up to 16 bytes. */
static inline void holt_copy_short(void *to, const void *from, size_t len) {
  char *out = (char *)to;
  const char *in = (const char *)from;
  if (len > 16) {
    memcpy(out, in, len);
  } else if (len >= 8) {
    uint64_t head, tail;
    memcpy(&head, in, 8);
    memcpy(&tail, in + len - 8, 8);
    memcpy(out, &head, 8);
    memcpy(out + len - 8, &tail, 8);
  } else if (len >= 4) {
    uint32_t head, tail;
    memcpy(&head, in, 4);
    memcpy(&tail, in + len - 4, 4);
    memcpy(out, &head, 4);
    memcpy(out + len - 4, &tail, 4);
  } else if (len > 0) {
    char first = in[0], middle = in[len / 2], last = in[len - 1];
    out[0] = first;
    out[len / 2] = middle;
    out[len - 1] = last;
  }
}

#endif /* HOLT_SCRIPT_SHAPES_H */
