/* codec.c - where in a message a value lies, for errors that people read. */
#include <stdio.h>
#include <string.h>

#include "script/codec.h"

/* Append the steps from the argument down to `path`; returns the bytes used. */
static size_t put_steps(const struct holt_codec_path *path, char *out, size_t room) {
  if (path->outer == NULL) return 0;
  size_t used = put_steps(path->outer, out, room);
  char *at = out + used;
  size_t left = room - used;
  int n;
  if (path->key == 0) {
    n = snprintf(at, left, "[%lld]", (long long)path->index);
  } else if (lua_type(path->L, path->key) == LUA_TSTRING) {
    size_t len;
    const char *text = lua_tolstring(path->L, path->key, &len);
    n = snprintf(at, left, "%s%.40s%s", used > 0 ? "." : "", text, len > 40 ? "…" : "");
  } else if (lua_isinteger(path->L, path->key)) {
    n = snprintf(at, left, "[%lld]", (long long)lua_tointeger(path->L, path->key));
  } else {
    n = snprintf(at, left, "[%s]", lua_typename(path->L, lua_type(path->L, path->key)));
  }
  if (n < 0) return used;
  return (size_t)n < left ? used + (size_t)n : room - 1;
}

int holt_codec_fail(const struct holt_codec_path *path, struct holt_err *err, const char *what) {
  char steps[200] = "";
  const struct holt_codec_path *root = path;
  while (root->outer != NULL) root = root->outer;
  if (put_steps(path, steps, sizeof steps) > 0)
    return holt_err_set(err, HOLT_ECODEC, "argument %d, field '%s': %s", (int)root->index, steps, what);
  return holt_err_set(err, HOLT_ECODEC, "argument %d: %s", (int)root->index, what);
}

bool holt_codec_is_cycle(const struct holt_codec_path *path, const void *table) {
  for (; path != NULL; path = path->outer)
    if (path->table == table) return true;
  return false;
}
