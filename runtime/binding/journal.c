/* journal.c - a journal as Lua sees it: opened, closed, and what its node tells of it.
 *
 * - open: the same name gives the same journal of the runtime, in a box of its own.
 * - close: nothing new is taken; the call waits until emits under way are answered.
 * - the node ends: emits and waits under way hear `closed`, the boxes stay and say so too. */
#include "journal/journal.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "binding/binding.h"
#include "binding/journal_impl.h"
#include "binding/outside.h"

#define JOURNAL "holt.journal"

/* --- Hexadecimal text ---------------------------------------------------------------------------------- */

void holt__write_hex(char out[HOLT__HEX], const uint8_t bytes[32]) {
  static const char digits[] = "0123456789abcdef";
  for (int i = 0; i < 32; i++) {
    out[2 * i] = digits[bytes[i] >> 4];
    out[2 * i + 1] = digits[bytes[i] & 15];
  }
  out[64] = '\0';
}

void holt__push_proof(lua_State *L, const uint8_t proof[2][32]) {
  lua_createtable(L, 2, 1);
  for (int i = 0; i < 2; i++) {
    char text[HOLT__HEX];
    holt__write_hex(text, proof[i]);
    lua_pushlstring(L, text, 64);
    lua_rawseti(L, -2, i + 1);
  }
}

static int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool holt__read_hex(uint8_t *out, const char *text, size_t len) {
  if (len % 2 != 0) return false;
  for (size_t i = 0; i < len; i += 2) {
    int high = digit(text[i]), low = digit(text[i + 1]);
    if (high < 0 || low < 0) return false;
    out[i / 2] = (uint8_t)(high << 4 | low);
  }
  return true;
}

/* --- The box ------------------------------------------------------------------------------------------- */

struct lua_journal *holt__check_journal(lua_State *L, int index) {
  struct lua_journal **box = luaL_checkudata(L, index, JOURNAL);
  luaL_argcheck(L, *box != NULL, index, "the journal has been collected");
  return *box;
}

struct lua_journal *holt__open_journal(lua_State *L) {
  struct lua_journal *journal = holt__check_journal(L, 1);
  if (journal->journal != NULL) return journal;
  struct holt_err err;
  holt_err_set(&err, HOLT_ECLOSED, "the journal is closed");
  holt_lua_fail(L, &err);
  return NULL;
}

void holt__journal_release(struct lua_journal *journal) {
  if (--journal->refs > 0) return;
  holt__node_release(journal->node);
  free(journal);
}

/* Whoever waits has the box on its stack, so only at the end of the state there may be some left: they are
 * canceled later, and must not find their way back here. */
static void forget_all(struct holt_list *waiters) {
  while (holt_list_shift(waiters) != NULL) continue;
}

static void let_go(struct lua_journal *journal) {
  if (journal->journal == NULL) return;
  holt__journal_compact_shut(journal);
  holt_journal_close(journal->journal);
  journal->journal = NULL;
  holt_list_remove(&journal->node_list);
  holt__pending_wake(&journal->waits);
  holt__pending_wake(&journal->rooms);
}

static int l_journal_gc(lua_State *L) {
  struct lua_journal **box = luaL_checkudata(L, 1, JOURNAL);
  struct lua_journal *journal = *box;
  *box = NULL;
  if (journal == NULL) return 0;
  let_go(journal);
  forget_all(&journal->waits);
  forget_all(&journal->rooms);
  forget_all(&journal->ends);
  forget_all(&journal->compacts);
  holt__journal_release(journal);
  return 0;
}

/* --- Opening and closing ------------------------------------------------------------------------------- */

static uint64_t field_integer(lua_State *L, const char *name) {
  lua_getfield(L, 2, name);
  lua_Integer value = luaL_optinteger(L, -1, 0);
  lua_pop(L, 1);
  return value > 0 ? (uint64_t)value : 0;
}

/* The keys of the list `authors`, in a userdata on the stack; NULL when there are none. */
static const uint8_t (*read_authors(lua_State *L, size_t *count))[32] {
  *count = 0;
  if (lua_getfield(L, 2, "authors") == LUA_TNIL) return NULL;
  luaL_checktype(L, -1, LUA_TTABLE);
  size_t n = lua_rawlen(L, -1);
  uint8_t(*keys)[32] = lua_newuserdatauv(L, n * 32 + 1, 0);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, -2, (lua_Integer)i + 1);
    size_t len;
    const char *text = luaL_checklstring(L, -1, &len);
    luaL_argcheck(L, len == 64 && holt__read_hex(keys[i], text, len), 2,
                  "an author is a log.id, 64 hexadecimal digits");
    lua_pop(L, 1);
  }
  *count = n;
  return (const uint8_t(*)[32])keys;
}

/* journal_open(node, { name, authors, entry_bytes_max, keep_ms, keep_entries, keep_bytes }) -> box | nil, err
 */
static int l_journal_open(lua_State *L) {
  struct lua_node *node = holt__node_of(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  struct holt_journal_config config = {0};
  lua_getfield(L, 2, "name");
  config.name = luaL_checkstring(L, -1); /* stays on the stack, as do the authors */
  config.authors = read_authors(L, &config.author_count);
  config.entry_bytes_max = (uint32_t)field_integer(L, "entry_bytes_max");
  config.keep_ms = field_integer(L, "keep_ms");
  config.keep_entries = field_integer(L, "keep_entries");
  config.keep_bytes = field_integer(L, "keep_bytes");
  struct lua_journal **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  luaL_setmetatable(L, JOURNAL);
  struct holt_err err;
  if (node->node == NULL || holt_node_is_closing(node->node)) {
    holt_err_set(&err, HOLT_ECLOSED, "the node is closed");
    return holt_lua_fail(L, &err);
  }
  struct holt_journal *opened;
  int rc = holt_journal_open(holt_node_journals(node->node), &config, &opened, &err);
  holt_watch_excuse(holt_script_of(L));
  if (rc != 0) return holt_lua_fail(L, &err);
  struct lua_journal *journal = holt_alloc(sizeof *journal);
  journal->refs = 1;
  journal->node = holt__node_retain(node);
  journal->journal = opened;
  holt_list_init(&journal->node_list);
  holt_list_init(&journal->emits);
  holt_list_init(&journal->waits);
  holt_list_init(&journal->rooms);
  holt_list_init(&journal->ends);
  holt_list_init(&journal->compacts);
  holt_list_push(&node->journals, &journal->node_list);
  *box = journal;
  return 1;
}

/* Into a buffer: Lua may raise, and the store is being read. */
static void on_name(void *arg, const char *name) {
  holt_write_bytes(arg, name, strlen(name) + 1);
}

/* journal_names(node) -> list of names: the journals in the node's folder | nil, err */
static int l_journal_names(lua_State *L) {
  struct lua_node *node = holt__node_of(L, 1);
  struct holt_err err;
  if (node->node == NULL || holt_node_is_closing(node->node)) {
    holt_err_set(&err, HOLT_ECLOSED, "the node is closed");
    return holt_lua_fail(L, &err);
  }
  struct holt_writer *names = &node->parts[0]; /* the node's scratch */
  names->len = 0;
  if (holt_journals_each(holt_node_journals(node->node), on_name, names, &err) != 0)
    return holt_lua_fail(L, &err);
  lua_newtable(L);
  lua_Integer count = 0;
  for (size_t at = 0; at < names->len; at += strlen((const char *)names->data + at) + 1) {
    lua_pushstring(L, (const char *)names->data + at);
    lua_rawseti(L, -2, ++count);
  }
  return 1;
}

static int go_close(lua_State *L, void *owner, int status, uint64_t deadline_ms) {
  struct lua_journal *journal = owner;
  (void)status;
  if (!holt_list_is_empty(&journal->emits))
    return holt__pend(L, &journal->ends, deadline_ms, go_close, journal);
  let_go(journal);
  lua_pushboolean(L, 1);
  return 1;
}

/* journal_close(box) -> true, once emits under way are answered */
static int l_journal_close(lua_State *L) {
  struct lua_journal *journal = holt__check_journal(L, 1);
  if (holt_wait_is_possible(L)) return go_close(L, journal, 0, HOLT__NO_DEADLINE);
  let_go(journal);
  lua_pushboolean(L, 1);
  return 1;
}

static int l_journal_is_open(lua_State *L) {
  struct lua_journal *journal = holt__check_journal(L, 1);
  lua_pushboolean(L, journal->journal != NULL && !holt_node_is_closing(journal->node->node));
  return 1;
}

/* --- For the node -------------------------------------------------------------------------------------- */

void holt__journals_told(struct lua_node *node, const struct holt_journal *about) {
  HOLT_LIST_EACH(&node->journals, at, next) {
    struct lua_journal *journal = HOLT_CONTAINER(at, struct lua_journal, node_list);
    if (journal->journal == about) holt__pending_wake(&journal->waits);
  }
}

void holt__journals_shut(struct lua_node *node) {
  HOLT_LIST_EACH(&node->journals, at, next) {
    struct lua_journal *journal = HOLT_CONTAINER(at, struct lua_journal, node_list);
    holt__journal_emits_shut(journal);
    let_go(journal);
  }
}

void holt_binding_journals(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"journal_open", l_journal_open},       {"journal_names", l_journal_names},
      {"journal_close", l_journal_close},     {"journal_is_open", l_journal_is_open},
      {"journal_emit", holt__l_journal_emit}, {NULL, NULL}};
  luaL_newmetatable(L, JOURNAL);
  lua_pushcfunction(L, l_journal_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
  luaL_setfuncs(L, holt__journal_reading, 0);
  luaL_setfuncs(L, holt__journal_looking, 0);
}
