/* json.c - what lua-cjson gets wrong, mended around it; lua/holt/json.lua joins these with cjson.
 *
 * cjson prints 14 digits, reads every number as a float, and writes [] as {}. What would suffer travels
 * through it as a marked string, one that begins with NUL: "\0n" and the digits, "\0a" for an empty array; a
 * NUL that is the user's becomes "\0s".
 *
 * - writing: is_plain(v) says whether cjson alone is right (nearly always), else mark(v) copies the value
 * with marks, and unmark(text) turns the marks in cjson's text into what they stand for;
 * - reading: scan(text) puts marks into the text before cjson sees it, restore(v) replaces them afterwards
 * and makes integers of whole floats. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "script/codec.h"

static char array_key; /* place of the metatable of holt.array in the registry */

void holt_json_push_array_metatable(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key);
}

static bool is_marked_array(lua_State *L, int at) {
  if (!lua_getmetatable(L, at)) return false;
  holt_json_push_array_metatable(L);
  bool is_array = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return is_array;
}

/* --- Writing -------------------------------------------------------------------------------------- */

#define EXACT_INTEGER 100000000000000 /* from here on %.14g loses digits or writes an exponent */

static bool is_plain_float(double v) {
  char text[32];
  if (v == floor(v)) return false; /* must not lose its ".0" */
  snprintf(text, sizeof text, "%.14g", v);
  return strtod(text, NULL) == v;
}

/* 1: cjson alone writes it right; 0: it needs marks; HOLT_ECODEC: it has no JSON form. */
static int inspect(lua_State *L, int at, struct holt_codec_path *path, struct holt_err *err);

static int inspect_table(lua_State *L, int at, struct holt_codec_path *path, struct holt_err *err) {
  const void *table = lua_topointer(L, at);
  int depth = 0;
  for (const struct holt_codec_path *p = path; p != NULL; p = p->outer) depth++;
  if (holt_codec_is_cycle(path->outer, table))
    return holt_codec_fail(path, err, "this table contains itself; JSON has no form for a cycle");
  if (depth > HOLT_CODEC_DEPTH_MAX || !lua_checkstack(L, 5))
    return holt_codec_fail(path, err, "tables are nested more than 100 deep");
  path->table = table;
  struct holt_codec_path inner = {.outer = path, .L = L};
  int plain = 1;
  bool is_empty = true;
  lua_pushnil(L);
  while (lua_next(L, at) != 0) {
    is_empty = false;
    inner.key = lua_gettop(L) - 1;
    int rc = 1;
    if (lua_type(L, inner.key) == LUA_TSTRING) {
      size_t len;
      const char *text = lua_tolstring(L, inner.key, &len);
      if (memchr(text, 0, len) != NULL) plain = 0;
    } else if (!lua_isinteger(L, inner.key)) {
      rc = holt_codec_fail(&inner, err, "a JSON key must be a string or a whole number");
    }
    if (rc > 0) rc = inspect(L, inner.key + 1, &inner, err);
    lua_pop(L, 1);
    if (rc < 0) {
      lua_pop(L, 1);
      return rc;
    }
    if (rc == 0) plain = 0;
  }
  path->table = NULL;
  if (is_empty && is_marked_array(L, at)) return 0;
  return plain;
}

static int inspect(lua_State *L, int at, struct holt_codec_path *path, struct holt_err *err) {
  switch (lua_type(L, at)) {
  case LUA_TNIL:
  case LUA_TBOOLEAN:
    return 1;
  case LUA_TNUMBER: {
    if (lua_isinteger(L, at)) {
      lua_Integer v = lua_tointeger(L, at);
      return v > -EXACT_INTEGER && v < EXACT_INTEGER;
    }
    double v = lua_tonumber(L, at);
    if (isnan(v)) return holt_codec_fail(path, err, "JSON has no form for NaN; send holt.null or a string");
    if (isinf(v))
      return holt_codec_fail(path, err, "JSON has no form for infinity; send holt.null or a string");
    return is_plain_float(v);
  }
  case LUA_TSTRING: {
    size_t len;
    const char *text = lua_tolstring(L, at, &len);
    return memchr(text, 0, len) == NULL;
  }
  case LUA_TTABLE:
    return inspect_table(L, at, path, err);
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(L, at) == NULL) return 1;
    break;
  default:
    break;
  }
  char what[80];
  snprintf(what, sizeof what, "JSON has no form for a %s", lua_typename(L, lua_type(L, at)));
  return holt_codec_fail(path, err, what);
}

/* is_plain(value, number of the argument) -> boolean; raises the error table */
static int l_is_plain(lua_State *L) {
  lua_Integer number = luaL_optinteger(L, 2, 1);
  lua_settop(L, 1);
  struct holt_codec_path path = {.L = L, .index = number};
  struct holt_err err;
  int rc = inspect(L, 1, &path, &err);
  if (rc < 0) {
    lua_pushnil(L);
    lua_pushstring(L, err.message);
    return 2;
  }
  lua_pushboolean(L, rc);
  return 1;
}

/* The string at the top with each NUL made "\0s". */
static void mark_string(lua_State *L) {
  size_t len;
  const char *text = lua_tolstring(L, -1, &len);
  if (memchr(text, 0, len) == NULL) return;
  luaL_Buffer buffer;
  luaL_buffinit(L, &buffer);
  for (size_t i = 0; i < len; i++) {
    luaL_addchar(&buffer, text[i]);
    if (text[i] == '\0') luaL_addchar(&buffer, 's');
  }
  luaL_pushresult(&buffer);
  lua_remove(L, -2);
}

static void mark_number(lua_State *L, int at) {
  char text[48];
  int n;
  if (lua_isinteger(L, at)) {
    lua_Integer v = lua_tointeger(L, at);
    if (v > -EXACT_INTEGER && v < EXACT_INTEGER) {
      lua_pushvalue(L, at);
      return;
    }
    n = snprintf(text + 2, sizeof text - 2, "%lld", (long long)v);
  } else {
    double v = lua_tonumber(L, at);
    if (is_plain_float(v)) {
      lua_pushvalue(L, at);
      return;
    }
    int precision = 15;
    do n = snprintf(text + 2, sizeof text - 2, "%.*g", precision, v);
    while (strtod(text + 2, NULL) != v && ++precision <= 17);
    if (strpbrk(text + 2, ".e") == NULL) {
      memcpy(text + 2 + n, ".0", 3);
      n += 2;
    }
  }
  text[0] = '\0';
  text[1] = 'n';
  lua_pushlstring(L, text, (size_t)n + 2);
}

/* Push a copy of the value with marks; inspect has bounded it. */
static void push_marked(lua_State *L, int at) {
  switch (lua_type(L, at)) {
  case LUA_TNUMBER:
    mark_number(L, at);
    return;
  case LUA_TSTRING:
    lua_pushvalue(L, at);
    mark_string(L);
    return;
  case LUA_TTABLE:
    break;
  default:
    lua_pushvalue(L, at);
    return;
  }
  luaL_checkstack(L, 6, NULL);
  lua_pushnil(L);
  if (lua_next(L, at) == 0) {
    if (is_marked_array(L, at))
      lua_pushlstring(L, "\0a", 2);
    else
      lua_newtable(L);
    return;
  }
  lua_createtable(L, (int)lua_rawlen(L, at), 0);
  lua_insert(L, -3);
  int copy = lua_gettop(L) - 2;
  do {
    lua_pushvalue(L, -2);
    if (lua_type(L, -1) == LUA_TSTRING) mark_string(L);
    push_marked(L, copy + 2);
    lua_rawset(L, copy);
    lua_pop(L, 1);
  } while (lua_next(L, at) != 0);
}

static int l_mark(lua_State *L) {
  lua_settop(L, 1);
  push_marked(L, 1);
  return 1;
}

/* cjson's text with the marks turned into what they stand for. A NUL of the user is always followed by 's',
 * so a quote before \u0000n or \u0000a opens a string. */
static int l_unmark(lua_State *L) {
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len), *end = text + len, *found;
  luaL_Buffer buffer;
  luaL_buffinit(L, &buffer);
  while ((found = memmem(text, (size_t)(end - text), "\\u0000", 6)) != NULL) {
    char kind = found[6];
    size_t before = (size_t)(found - text);
    if (kind == 's') { /* also where an escaped backslash stands before: then it is text of the user */
      size_t slashes = 0;
      while (slashes < before && found[-1 - (long)slashes] == '\\') slashes++;
      luaL_addlstring(&buffer, text, before + 6);
      text = found + (slashes % 2 == 0 ? 7 : 6);
    } else if ((kind == 'n' || kind == 'a') && before > 0 && found[-1] == '"') {
      luaL_addlstring(&buffer, text, before - 1);
      const char *close = memchr(found, '"', (size_t)(end - found));
      if (kind == 'a')
        luaL_addlstring(&buffer, "[]", 2);
      else
        luaL_addlstring(&buffer, found + 7, (size_t)(close - found - 7));
      text = close + 1;
    } else {
      luaL_addlstring(&buffer, text, before + 6);
      text = found + 6;
    }
  }
  luaL_addlstring(&buffer, text, (size_t)(end - text));
  luaL_pushresult(&buffer);
  return 1;
}

/* --- Reading -------------------------------------------------------------------------------------- */

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/* The end of the JSON number at `at`, or `at` when there is none; whether cjson would lose something of it.
 */
static const char *number_end(const char *at, const char *end, bool *is_risky) {
  const char *p = at;
  if (p < end && *p == '-') p++;
  const char *digits = p;
  while (p < end && is_digit(*p)) p++;
  size_t count = (size_t)(p - digits);
  if (count == 0 || (count > 1 && digits[0] == '0')) return at;
  bool is_float = false;
  if (p < end && *p == '.') {
    const char *fraction = ++p;
    while (p < end && is_digit(*p)) p++;
    if (p == fraction) return at;
    is_float = true;
  }
  if (p < end && (*p == 'e' || *p == 'E')) {
    p++;
    if (p < end && (*p == '+' || *p == '-')) p++;
    const char *exponent = p;
    while (p < end && is_digit(*p)) p++;
    if (p == exponent) return at;
    is_float = true;
  }
  if (!is_float) {
    *is_risky = count > 15;
  } else { /* the source is a Lua string, so strtod stops at its NUL at the latest */
    double v = strtod(at, NULL);
    *is_risky = isfinite(v) && v == floor(v);
  }
  return p;
}

static const char *string_end(const char *at, const char *end) { /* `at` is behind the opening quote */
  while (at < end && *at != '"') at += *at == '\\' && at + 1 < end ? 2 : 1;
  return at < end ? at + 1 : end;
}

static const char *skip_space(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
  return at;
}

/* scan(text) -> text with marks (the same string when it needs none) */
static int l_scan(lua_State *L) {
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len), *end = text + len, *at = text, *copied = text;
  bool has_marks = false;
  luaL_Buffer buffer;
  while (at < end) {
    const char *mark = NULL, *from = at, *to = at;
    if (*at == '"') {
      const char *close = string_end(at + 1, end);
      if (end - at > 7 && memcmp(at + 1, "\\u0000", 6) == 0) {
        const char *next = skip_space(close, end);
        if (next >= end || *next != ':') {
          mark = "\"\\u0000s";
          from = at;
          to = at + 1;
        }
      }
      at = close;
    } else if (*at == '-' || is_digit(*at)) {
      bool is_risky = false;
      const char *stop = number_end(at, end, &is_risky);
      if (stop == at) { /* malformed: cjson says so */
        at++;
        continue;
      }
      if (is_risky) {
        mark = "\"\\u0000n";
        from = at;
        to = at;
      }
      at = stop;
    } else if (*at == '[') {
      const char *next = skip_space(at + 1, end);
      if (next < end && *next == ']') {
        mark = "\"\\u0000a\"";
        from = at;
        to = next + 1;
        at = to;
      } else {
        at++;
      }
    } else {
      at++;
    }
    if (mark == NULL) continue;
    if (!has_marks) luaL_buffinit(L, &buffer);
    has_marks = true;
    luaL_addlstring(&buffer, copied, (size_t)(from - copied));
    luaL_addstring(&buffer, mark);
    copied = to;
    if (from == to) { /* a number: its digits, then the closing quote */
      luaL_addlstring(&buffer, from, (size_t)(at - from));
      luaL_addchar(&buffer, '"');
      copied = at;
    }
  }
  if (!has_marks) {
    lua_settop(L, 1);
    return 1;
  }
  luaL_addlstring(&buffer, copied, (size_t)(end - copied));
  luaL_pushresult(&buffer);
  return 1;
}

/* Replace the value on top by what it stands for; true when it was replaced. */
static bool restore_scalar(lua_State *L) {
  if (lua_type(L, -1) == LUA_TNUMBER) {
    if (lua_isinteger(L, -1)) return false;
    double v = lua_tonumber(L, -1);
    if (!isfinite(v)) luaL_error(L, "a number is out of range");
    if (v != floor(v) || fabs(v) >= 1e15) return false;
    lua_pop(L, 1);
    lua_pushinteger(L, (lua_Integer)v);
    return true;
  }
  if (lua_type(L, -1) != LUA_TSTRING) return false;
  size_t len;
  const char *text = lua_tolstring(L, -1, &len);
  if (len < 2 || text[0] != '\0') return false;
  switch (text[1]) {
  case 'n':
    if (lua_stringtonumber(L, text + 2) == 0) return false;
    break;
  case 'a':
    lua_newtable(L);
    holt_json_push_array_metatable(L);
    lua_setmetatable(L, -2);
    break;
  default:
    lua_pushlstring(L, text + 2, len - 2);
    break;
  }
  lua_remove(L, -2);
  return true;
}

/* The table at `at`, all levels. Only fields that exist are set, which a walk allows. */
static void restore_table(lua_State *L, int at) {
  luaL_checkstack(L, 5, NULL);
  lua_pushnil(L);
  while (lua_next(L, at) != 0) {
    if (lua_istable(L, -1)) {
      restore_table(L, lua_gettop(L));
    } else if (restore_scalar(L)) {
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, at);
      continue;
    }
    lua_pop(L, 1);
  }
}

/* restore(value) -> value: a table is changed in place */
static int l_restore(lua_State *L) {
  lua_settop(L, 1);
  if (lua_istable(L, 1))
    restore_table(L, 1);
  else
    restore_scalar(L);
  return 1;
}

void holt_json_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"json_is_plain", l_is_plain}, {"json_mark", l_mark},
                                       {"json_unmark", l_unmark},     {"json_scan", l_scan},
                                       {"json_restore", l_restore},   {NULL, NULL}};
  lua_newtable(L);
  lua_pushliteral(L, "holt.array");
  lua_setfield(L, -2, "__name");
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &array_key);
  lua_setfield(L, -2, "array_metatable");
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  luaL_setfuncs(L, functions, 0);
}
