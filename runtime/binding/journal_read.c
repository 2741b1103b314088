/* journal_read.c - entries of a journal as tables of Lua, and waiting for the next one. Nothing of a journal
 * lies in memory between two reads. */
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "binding/journal_impl.h"
#include "binding/outside.h"

#define READ_BYTES (1u << 20) /* of payloads in one answer */
#define SCAN_MAX   8192       /* entries that one call looks at */

/* --- Entries ------------------------------------------------------------------------------------------- */

static void set_integer(lua_State *L, const char *name, uint64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, name);
}

static void set_bytes(lua_State *L, const char *name, struct holt_buf bytes) {
  lua_pushlstring(L, bytes.len > 0 ? (const char *)bytes.data : "", bytes.len);
  lua_setfield(L, -2, name);
}

static void push_hex(lua_State *L, const uint8_t bytes[32]) {
  char text[HOLT__HEX];
  holt__write_hex(text, bytes);
  lua_pushlstring(L, text, 64);
}

/* Texts that entries of one author share lie in these places of the stack. */
struct shared {
  int author_at, holder_at, node_at;
  bool is_filled;
  uint8_t author[32];
};

static void fill_shared(lua_State *L, struct shared *shared, const struct holt_journal_entry *entry) {
  if (shared->is_filled && memcmp(shared->author, entry->author, 32) == 0) return;
  push_hex(L, entry->author);
  lua_replace(L, shared->author_at);
  push_hex(L, entry->holder);
  lua_replace(L, shared->holder_at);
  lua_pushlstring(L, entry->node.len > 0 ? (const char *)entry->node.data : "", entry->node.len);
  lua_replace(L, shared->node_at);
  memcpy(shared->author, entry->author, 32);
  shared->is_filled = true;
}

static void push_entry(lua_State *L, struct shared *shared, const struct holt_journal_entry *entry) {
  fill_shared(L, shared, entry);
  lua_createtable(L, 0, 12);
  push_hex(L, entry->hash);
  lua_setfield(L, -2, "hash");
  lua_pushvalue(L, shared->author_at);
  lua_setfield(L, -2, "author");
  lua_pushvalue(L, shared->holder_at);
  lua_setfield(L, -2, "holder");
  lua_pushvalue(L, shared->node_at);
  lua_setfield(L, -2, "node");
  set_integer(L, "sequence", entry->number);
  set_integer(L, "position", entry->position);
  lua_pushnumber(L, (lua_Number)entry->time_ms / 1000.0);
  lua_setfield(L, -2, "time");
  set_bytes(L, "name", entry->name);
  set_bytes(L, "payload", entry->payload);
}

/* Whether the filter at `index` (nil, a name, a set of names) lets the entry through. */
static bool is_wanted(lua_State *L, int index, const struct holt_journal_entry *entry) {
  size_t len;
  switch (lua_type(L, index)) {
  case LUA_TNIL:
    return true;
  case LUA_TSTRING: {
    const char *name = lua_tolstring(L, index, &len);
    return len == entry->name.len && memcmp(name, entry->name.data, len) == 0;
  }
  default:
    lua_pushlstring(L, (const char *)entry->name.data, entry->name.len);
    lua_rawget(L, index);
    bool is_wanted = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return is_wanted;
  }
}

/* Which entry it is, as text and as fields of the error, as far as that is known. */
static void push_damage(lua_State *L, const struct lua_journal *journal, uint64_t position) {
  struct holt_err err;
  struct holt_journal_damage damage = {0};
  char author[HOLT__HEX];
  bool is_known = holt_journal_damage(journal->journal, position, &damage) && damage.number > 0;
  holt__write_hex(author, damage.author);
  if (is_known)
    holt_err_set(&err, HOLT_ECORRUPT,
                 "the entry at position %llu (number %llu of author %.16s) is damaged; "
                 "linked holders that have it give it back",
                 (unsigned long long)position, (unsigned long long)damage.number, author);
  else
    holt_err_set(&err, HOLT_ECORRUPT,
                 "the entry at position %llu is damaged; linked holders that have it give it back",
                 (unsigned long long)position);
  holt_lua_push_err(L, &err);
  if (!is_known) return;
  lua_pushlstring(L, author, 64);
  lua_setfield(L, -2, "author");
  set_integer(L, "sequence", damage.number);
  if (!damage.has_hash) return;
  push_hex(L, damage.hash);
  lua_setfield(L, -2, "hash");
}

static int push_read(lua_State *L, const struct lua_journal *journal, uint64_t next, int code, uint64_t at) {
  lua_pushinteger(L, (lua_Integer)next);
  if (code == 0) return 2;
  struct holt_err err;
  if (code == HOLT_ECORRUPT) {
    push_damage(L, journal, at);
  } else {
    holt_err_set(&err, code, "reading at position %llu: %s", (unsigned long long)at, holt_err_text(code));
    holt_lua_push_err(L, &err);
  }
  set_integer(L, "position", at);
  return 3;
}

/* journal_read(box, position, max, filter, limit) -> list, next, err. At most `max` entries from `position`
 * on that lie before `limit` (nil: none); an empty list may have a `next` that has moved on. With `err` the
 * entry behind the list could not be read: `next` lies behind it when it is damaged, else at it. */
static int l_journal_read(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  lua_Integer from = luaL_checkinteger(L, 2), max = luaL_checkinteger(L, 3);
  luaL_argcheck(L, from >= 0, 2, "a position is 1 or more");
  if (!lua_isnoneornil(L, 4) && !lua_isstring(L, 4)) luaL_checktype(L, 4, LUA_TTABLE);
  lua_Integer limit = luaL_optinteger(L, 5, INT64_MAX);
  lua_settop(L, 8);
  struct shared shared = {.author_at = 6, .holder_at = 7, .node_at = 8};
  lua_newtable(L);
  uint64_t end = holt_journal_next(journal->journal);
  if (limit >= 0 && (uint64_t)limit < end) end = (uint64_t)limit;
  uint64_t position = (uint64_t)from;
  size_t bytes = 0;
  lua_Integer count = 0;
  for (int scanned = 0; scanned < SCAN_MAX && count < max && bytes < READ_BYTES && position < end;
       scanned++) {
    struct holt_journal_entry entry;
    uint64_t at = position;
    int rc = holt_journal_read(journal->journal, &position, &entry);
    if (rc == HOLT_EEOF) {
      position = end;
      break;
    }
    if (rc != 0) return push_read(L, journal, position, rc, rc == HOLT_ECORRUPT ? position - 1 : at);
    if (entry.position >= end) { /* behind the limit */
      position = end;
      break;
    }
    if (!is_wanted(L, 4, &entry)) continue;
    bytes += entry.payload.len;
    push_entry(L, &shared, &entry);
    lua_rawseti(L, 9, ++count);
  }
  return push_read(L, journal, position, 0, 0);
}

/* --- Waiting ------------------------------------------------------------------------------------------- */

static int go_wait(lua_State *L, void *owner, int status, uint64_t deadline_ms) {
  struct lua_journal *journal = owner;
  if (journal->journal == NULL) return holt_lua_fail_code(L, HOLT_ECLOSED);
  if (holt_journal_next(journal->journal) > (uint64_t)lua_tointeger(L, 2)) {
    lua_pushboolean(L, 1);
    return 1;
  }
  if (status != 0) return holt_lua_fail_code(L, status);
  return holt__pend(L, &journal->waits, deadline_ms, go_wait, journal);
}

/* journal_wait(box, position, timeout) -> true once an entry is there, at that position or behind it | nil,
 * err */
static int l_journal_wait(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  luaL_checkinteger(L, 2);
  return go_wait(L, journal, 0, holt__deadline(L, 3));
}

/* --- Places -------------------------------------------------------------------------------------------- */

static int push_place(lua_State *L, int code, uint64_t position, const char *missing) {
  if (code != 0) {
    struct holt_err err;
    holt_err_set(&err, code, "%s", code == HOLT_ENOTFOUND ? missing : holt_err_text(code));
    return holt_lua_fail(L, &err);
  }
  lua_pushinteger(L, (lua_Integer)position);
  return 1;
}

/* journal_find(box, hash) -> position | nil, err */
static int l_journal_find(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  size_t len;
  const char *text = luaL_checklstring(L, 2, &len);
  uint8_t hash[32];
  luaL_argcheck(L, len == 64 && holt__read_hex(hash, text, len), 2, "a hash is 64 hexadecimal digits");
  uint64_t position = 0;
  int rc = holt_journal_find(journal->journal, hash, &position);
  return push_place(L, rc, position, "no entry here has this hash");
}

/* journal_find_number(box, author, number) -> position | nil, err */
static int l_journal_find_number(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  size_t len;
  const char *text = luaL_checklstring(L, 2, &len);
  lua_Integer number = luaL_checkinteger(L, 3);
  uint8_t key[32];
  luaL_argcheck(L, len >= 8 && len <= 64 && holt__read_hex(key, text, len), 2,
                "an author is 8 to 64 hexadecimal digits, an even number of them");
  luaL_argcheck(L, number > 0, 3, "an entry's number is 1 or more");
  uint64_t position = 0;
  int rc = holt_journal_find_number(journal->journal, holt_buf(key, len / 2), (uint64_t)number, &position);
  if (rc == HOLT_ECONTENDED) {
    struct holt_err err;
    holt_err_set(&err, HOLT_EINVAL, "several authors begin with %s; give more digits", text);
    return holt_lua_fail(L, &err);
  }
  return push_place(L, rc, position, "this author has no entry of this number here");
}

/* journal_find_time(box, seconds since 1970) -> position */
static int l_journal_find_time(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  lua_Number seconds = luaL_checknumber(L, 2);
  /* Up to the next millisecond, but not for what an entry's own time loses as a number of seconds. */
  uint64_t ms = seconds <= 0 ? 0 : seconds > 9e15 ? UINT64_MAX / 2 : (uint64_t)ceil(seconds * 1000.0 - 0.01);
  lua_pushinteger(L, (lua_Integer)holt_journal_find_time(journal->journal, ms));
  return 1;
}

/* journal_bounds(box) -> first, next */
static int l_journal_bounds(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  lua_pushinteger(L, (lua_Integer)holt_journal_first(journal->journal));
  lua_pushinteger(L, (lua_Integer)holt_journal_next(journal->journal));
  return 2;
}

const luaL_Reg holt__journal_reading[] = {{"journal_read", l_journal_read},
                                          {"journal_wait", l_journal_wait},
                                          {"journal_find", l_journal_find},
                                          {"journal_find_number", l_journal_find_number},
                                          {"journal_find_time", l_journal_find_time},
                                          {"journal_bounds", l_journal_bounds},
                                          {NULL, NULL}};
