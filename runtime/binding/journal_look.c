/* journal_look.c - what is kept beside a journal's entries (cursors, notes), and what is known of it. */
#include <stdlib.h>

#include "base/mem.h"
#include "binding/journal_impl.h"
#include "binding/outside.h"

/* --- Cursors and notes --------------------------------------------------------------------------------- */

/* journal_cursor(box, name) -> position | nil */
static int l_journal_cursor(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  uint64_t position = 0;
  if (holt_journal_cursor(journal->journal, luaL_checkstring(L, 2), &position) != 0) return 0;
  lua_pushinteger(L, (lua_Integer)position);
  return 1;
}

/* journal_set_cursor(box, name, position) -> true | nil, err */
static int l_journal_set_cursor(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  lua_Integer position = luaL_checkinteger(L, 3);
  luaL_argcheck(L, position >= 0, 3, "a position is 1 or more");
  holt_journal_set_cursor(journal->journal, luaL_checkstring(L, 2), (uint64_t)position);
  lua_pushboolean(L, 1);
  return 1;
}

/* journal_note(box, key) -> text | nil */
static int l_journal_note(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  const char *key = luaL_checkstring(L, 2);
  struct holt_writer *out = &journal->node->parts[0]; /* the node's scratch: nothing is lost if Lua raises */
  out->len = 0;
  if (holt_journal_note(journal->journal, key, out) != 0) return 0;
  lua_pushlstring(L, out->len > 0 ? (const char *)out->data : "", out->len);
  return 1;
}

/* journal_set_note(box, key, text or nil) -> true | nil, err */
static int l_journal_set_note(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  const char *key = luaL_checkstring(L, 2);
  size_t len;
  const char *text = luaL_optlstring(L, 3, "", &len);
  holt_journal_set_note(journal->journal, key, holt_buf(text, len));
  lua_pushboolean(L, 1);
  return 1;
}

/* --- Figures ------------------------------------------------------------------------------------------- */

static void set_integer(lua_State *L, const char *name, uint64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, name);
}

static void set_bool(lua_State *L, const char *name, bool value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, name);
}

static void set_hex(lua_State *L, const char *name, const uint8_t bytes[32]) {
  char text[HOLT__HEX];
  holt__write_hex(text, bytes);
  lua_pushlstring(L, text, 64);
  lua_setfield(L, -2, name);
}

/* journal_status(box) -> table | nil, err */
static int l_journal_status(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  struct holt_journal_status status = {0};
  holt_journal_status(journal->journal, &status);
  lua_createtable(L, 0, 21);
  set_hex(L, "id", status.id);
  set_integer(L, "first", status.first);
  set_integer(L, "next", status.next);
  set_integer(L, "entries", status.entries);
  set_integer(L, "bytes", status.bytes);
  set_integer(L, "bytes_free", status.bytes_free);
  set_integer(L, "emitted", status.emitted);
  set_integer(L, "received", status.received);
  set_integer(L, "duplicates", status.duplicates);
  set_integer(L, "refused", status.refused);
  set_integer(L, "branches_refused", status.branches_refused);
  set_integer(L, "penned", status.penned);
  set_integer(L, "pen_evicted", status.pen_evicted);
  set_integer(L, "forks", status.forks);
  set_integer(L, "damaged", status.damaged);
  set_integer(L, "commits", status.commits);
  set_integer(L, "holders", status.holders);
  set_integer(L, "holders_in_step", status.holders_in_step);
  set_integer(L, "authors", holt_journal_author_count(journal->journal));
  set_bool(L, "disk_full", status.is_full);
  return 1;
}

/* journal_authors(box) -> list | nil, err */
static int l_journal_authors(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  lua_newtable(L);
  struct holt_journal_author author;
  for (size_t i = 0; holt_journal_author(journal->journal, i, &author); i++) {
    lua_createtable(L, 0, 8);
    set_hex(L, "author", author.key);
    set_hex(L, "holder", author.holder);
    set_hex(L, "hash", author.tip);
    lua_pushstring(L, author.node);
    lua_setfield(L, -2, "node");
    set_integer(L, "sequence", author.number);
    set_integer(L, "horizon", author.horizon);
    set_bool(L, "forked", author.is_forked);
    set_bool(L, "self", author.is_self);
    if (author.has_proof) {
      holt__push_proof(L, author.proof);
      set_integer(L, "sequence", author.proof_number);
      lua_setfield(L, -2, "proof");
    }
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* journal_parents(box, position) -> list of { author, sequence, hash }: what the author of that entry had
 * seen of others, where it was news */
static int l_journal_parents(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  uint64_t position = (uint64_t)luaL_checkinteger(L, 2);
  struct holt_journal_entry entry;
  int rc = holt_journal_read(journal->journal, &position, &entry);
  if (rc != 0) return holt_lua_fail_code(L, rc);
  lua_newtable(L);
  struct holt_journal_parent parent;
  for (size_t i = 0; holt_journal_parent(journal->journal, i, &parent); i++) {
    lua_createtable(L, 0, 3);
    set_hex(L, "author", parent.author);
    set_integer(L, "sequence", parent.number);
    set_hex(L, "hash", parent.hash);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* journal_verify(box, position, max) -> next, is_end, err: looks at `max` entries from `position` on. With
 * `err` the last one before `next` is wrong. */
static int l_journal_verify(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  uint64_t position = (uint64_t)luaL_checkinteger(L, 2);
  size_t max = (size_t)luaL_checkinteger(L, 3);
  struct holt_err err = {0};
  int rc = holt_journal_verify(journal->journal, &position, max, &err);
  lua_pushinteger(L, (lua_Integer)position);
  lua_pushboolean(L, rc == HOLT_EEOF);
  if (rc == 0 || rc == HOLT_EEOF) return 2;
  if (err.code == 0) holt_err_code(&err, rc);
  holt_lua_push_err(L, &err);
  return 3;
}

/* --- Compaction ---------------------------------------------------------------------------------------- */

static void on_compacted(void *arg, const struct holt_err *err, uint64_t freed) {
  struct lua_journal *journal = arg;
  journal->is_compacting = false;
  journal->compact_err = *err;
  journal->freed = freed;
  holt__pending_wake(&journal->compacts);
}

void holt__journal_compact_shut(struct lua_journal *journal) {
  if (!journal->is_compacting) return;
  struct holt_err err;
  holt_err_set(&err, HOLT_ECLOSED, "the journal was closed before it was compacted");
  holt_journal_compact_cancel(&journal->compaction);
  on_compacted(journal, &err, 0);
}

static int go_compact(lua_State *L, void *owner, int status, uint64_t deadline_ms) {
  struct lua_journal *journal = owner;
  (void)status;
  if (journal->is_compacting) return holt__pend(L, &journal->compacts, deadline_ms, go_compact, journal);
  if (journal->compact_err.code != 0) return holt_lua_fail(L, &journal->compact_err);
  lua_pushinteger(L, (lua_Integer)journal->freed);
  return 1;
}

/* journal_compact(box) -> bytes given back | nil, err */
static int l_journal_compact(lua_State *L) {
  struct lua_journal *journal = holt__open_journal(L);
  if (journal == NULL) return 2;
  if (!journal->is_compacting) {
    journal->compaction = (struct holt_journal_compaction){.cb = on_compacted, .arg = journal};
    int rc = holt_journal_compact(journal->journal, &journal->compaction);
    if (rc != 0) return holt_lua_fail_code(L, rc);
    journal->is_compacting = true;
  }
  return go_compact(L, journal, 0, HOLT__NO_DEADLINE);
}

const luaL_Reg holt__journal_looking[] = {
    {"journal_cursor", l_journal_cursor},   {"journal_set_cursor", l_journal_set_cursor},
    {"journal_note", l_journal_note},       {"journal_set_note", l_journal_set_note},
    {"journal_status", l_journal_status},   {"journal_authors", l_journal_authors},
    {"journal_parents", l_journal_parents}, {"journal_verify", l_journal_verify},
    {"journal_compact", l_journal_compact}, {NULL, NULL}};
