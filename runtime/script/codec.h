/* codec.h - values of Lua to bytes and back. The id of the codec travels in each event's frame.
 *
 * msgpack: nil, booleans, integers, floats, strings and plain tables come back as they were; canonical: keys
 * sorted by their encoded bytes, shortest forms, so that equal values have equal bytes on every node. Several
 * values stand one behind the other. json: helpers for lua/holt/json.lua, which closes the traps of
 * lua-cjson. See docs/codecs.md. */
#ifndef HOLT_SCRIPT_CODEC_H
#define HOLT_SCRIPT_CODEC_H

#include <lua.h>

#include "base/buf.h"
#include "base/err.h"

enum holt_codec {
  HOLT_CODEC_RAW = 0,
  HOLT_CODEC_MSGPACK = 1,
  HOLT_CODEC_JSON = 2,
  HOLT_CODEC_PROTOBUF = 3, /* with a schema only: see lua/holt/codec.lua */
  HOLT_CODEC_CUSTOM = 16   /* this one and those above: named by the node's options */
};

#define HOLT_CODEC_VALUES_MAX 200         /* values in one message */
#define HOLT_CODEC_DEPTH_MAX  100         /* tables within tables */
#define HOLT_CODEC_BYTES_MAX  (64u << 20) /* of one message */

/* Append the values at stack places first..last to `out`. Returns 0; HOLT_ECODEC with a sentence that says
 * where the offending value is ("argument 2, field 'x.y': a function cannot be sent"); HOLT_ETOOLARGE. Never
 * raises, runs no metamethods. After an error `out` is as long as it was. */
int holt_msgpack_encode(lua_State *L, int first, int last, struct holt_writer *out, struct holt_err *err);

/* Push the values of `bytes` and return their number, or HOLT_ECODEC with nothing pushed. nil inside a table
 * becomes holt.null. Bounds depth and size before it builds tables. Raises only when memory is out. */
int holt_msgpack_decode(lua_State *L, struct holt_buf bytes, struct holt_err *err);

/* Functions for lua/holt/json.lua, set on the table on top: see json.c. */
void holt_json_open(lua_State *L);
/* Push the metatable of holt.array: a table that has it is an array, even while it is empty. */
void holt_json_push_array_metatable(lua_State *L);

/* --- Within this folder --------------------------------------------------------------------------- */

/* Where a value lies, from the outside in; built on the C stack while walking. */
struct holt_codec_path {
  const struct holt_codec_path *outer;
  lua_State *L;
  int key;           /* stack place of the key within `outer`; 0: the argument itself */
  lua_Integer index; /* argument number, or place in an array when `key` is 0 and `outer` is set */
  const void *table; /* the table that is being walked, to notice cycles */
};

/* Fill `err` with "argument 1, field 'a.b[3]': what". Returns HOLT_ECODEC. */
int holt_codec_fail(const struct holt_codec_path *path, struct holt_err *err, const char *what);
/* Whether a table is already being walked further out, and how deep we are. */
bool holt_codec_is_cycle(const struct holt_codec_path *path, const void *table);

#endif /* HOLT_SCRIPT_CODEC_H */
