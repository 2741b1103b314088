/* value.h - values of scripts as a plain tree: neither Lua's nor protobuf's, so that both sides can speak
 * it.
 *
 * Included by C and by C++, with nothing but the C library. The whole tree lies in one arena and dies with
 * it; strings in it lie there too, or are borrowed from somebody who lives at least as long. */
#ifndef HOLT_SCHEMA_VALUE_H
#define HOLT_SCHEMA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum holt_value_type {
  HOLT_VALUE_NULL,
  HOLT_VALUE_BOOLEAN,
  HOLT_VALUE_INTEGER,
  HOLT_VALUE_FLOAT,
  HOLT_VALUE_STRING,
  HOLT_VALUE_LIST,  /* `count` items */
  HOLT_VALUE_TABLE, /* `count` pairs: items[2i] is a key, items[2i + 1] its value */
  HOLT_VALUE_OTHER  /* has no form here; `text` names its type: "function" */
};

struct holt_value {
  int type;
  uint32_t count;
  union {
    bool boolean;
    int64_t integer;
    double number;
    struct {
      const char *data; /* not NUL-terminated */
      size_t len;
    } text;
    struct holt_value *items;
  } as;
};

/* Memory that is given back all at once. Zero-initialised is empty. */
struct holt_arena {
  void *blocks; /* newest first */
  char *at, *end;
  size_t used_bytes;
  size_t limit_bytes; /* 0: none */
  bool is_full;       /* an allocation went past the limit, or memory was out */
};

/* `size_bytes`, aligned for anything, not zeroed; returned until holt_arena_free. NULL past the limit or when
 * memory is out. */
void *holt_arena_alloc(struct holt_arena *arena, size_t size_bytes);
/* A copy with a NUL behind it. NULL as above. */
char *holt_arena_text(struct holt_arena *arena, const char *text, size_t len);
/* Give everything back; empty again. */
void holt_arena_free(struct holt_arena *arena);

#ifdef __cplusplus
}
#endif
#endif /* HOLT_SCHEMA_VALUE_H */
