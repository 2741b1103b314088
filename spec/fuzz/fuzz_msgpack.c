/* Any bytes into the MessagePack decoder: it answers values or an error, within bounds; and what it read,
 * written canonically and read again, is the same bytes. */
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "script/codec.h"
#include "script/script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct holt_script *script;

static void round_trip(lua_State *L, void *arg) {
  struct holt_err err;
  int count = holt_msgpack_decode(L, *(const struct holt_buf *)arg, &err);
  HOLT_ASSERT(lua_gettop(L) == (count < 0 ? 0 : count));
  if (count < 0) return;
  struct holt_writer first = {0}, second = {0};
  int rc = holt_msgpack_encode(L, 1, count, &first, &err);
  HOLT_ASSERT(rc == 0);
  lua_settop(L, 0);
  int again = holt_msgpack_decode(L, holt_buf(first.data, first.len), &err);
  HOLT_ASSERT(again == count);
  rc = holt_msgpack_encode(L, 1, count, &second, &err);
  HOLT_ASSERT(rc == 0);
  HOLT_ASSERT(first.len == second.len);
  HOLT_ASSERT(first.len == 0 || memcmp(first.data, second.data, first.len) == 0);
  holt_writer_free(&first);
  holt_writer_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (script == NULL) {
    script = holt_script_new(NULL); /* nothing here waits */
    HOLT_ASSERT(script != NULL);
  }
  struct holt_buf bytes = holt_buf(data, size);
  struct holt_err err;
  int rc = holt_lua_call(script, round_trip, &bytes, &err);
  HOLT_ASSERT(rc == 0);
  return 0;
}
