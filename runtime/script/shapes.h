/* shapes.h - the keys of maps that were encoded lately, and the order in which canonical MessagePack wants
 * them. Bytes only: nothing here belongs to a Lua state, and whoever uses a shape compares each key with it,
 * so a shape can be outdated but never wrong. Of fixed size; a new shape takes the place of an old one. */
#ifndef HOLT_SCRIPT_SHAPES_H
#define HOLT_SCRIPT_SHAPES_H

#include "base/buf.h"

/* memcpy and memcmp for what is mostly short: two pieces that may overlap, without a call up to 16 bytes. */
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

static inline bool holt_same_short(const void *a, const void *b, size_t len) {
  const char *x = (const char *)a, *y = (const char *)b;
  uint64_t head[2] = {0, 0}, tail[2] = {0, 0};
  if (len > 16) return memcmp(x, y, len) == 0;
  if (len >= 8) {
    memcpy(&head[0], x, 8);
    memcpy(&head[1], y, 8);
    memcpy(&tail[0], x + len - 8, 8);
    memcpy(&tail[1], y + len - 8, 8);
  } else if (len >= 4) {
    memcpy(&head[0], x, 4);
    memcpy(&head[1], y, 4);
    memcpy(&tail[0], x + len - 4, 4);
    memcpy(&tail[1], y + len - 4, 4);
  } else if (len > 0) {
    return x[0] == y[0] && x[len / 2] == y[len / 2] && x[len - 1] == y[len - 1];
  }
  return head[0] == head[1] && tail[0] == tail[1];
}

#define HOLT_SHAPE_KEYS_MAX  16
#define HOLT_SHAPE_BYTES_MAX 240 /* of all keys, encoded */

struct holt_shape {
  unsigned version;                    /* counts how often it was set */
  uint8_t count;                       /* 0: none yet */
  bool is_sorted;                      /* the table gave them in order */
  uint8_t order[HOLT_SHAPE_KEYS_MAX];  /* order[i]: which key comes in place i */
  uint8_t starts[HOLT_SHAPE_KEYS_MAX]; /* in `bytes`; keys as the table gave them: one byte of length, text */
  uint8_t bytes[HOLT_SHAPE_BYTES_MAX];
};

/* Where the shape of maps that begin with this key is kept; valid for ever, borrowed. It may hold another. */
struct holt_shape *holt_shape_of(const char *first_key, size_t len);
/* Keep these encoded keys, all different, in the order in which the table gave them. When they are too many
 * or one is not a text of at most 31 bytes, nothing changes. */
void holt_shape_set(struct holt_shape *shape, const struct holt_buf *keys, size_t count);

/* Whether key number `at` is this text. */
static inline bool holt_shape_has(const struct holt_shape *shape, size_t at, const char *text, size_t len) {
  if (at >= shape->count) return false;
  const uint8_t *key = shape->bytes + shape->starts[at];
  return len < 32 && *key == (0xa0 | len) && holt_same_short(key + 1, text, len);
}

#endif /* HOLT_SCRIPT_SHAPES_H */
