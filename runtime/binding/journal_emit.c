/* journal_emit.c - one entry on its way to the disk.
 *
 * - Hand name and payload to the journal, park; many at once cost one record each.
 * - Durable here, and at as many other holders as were asked for: the hash, as text.
 * - Too much waits to be written (busy): wait for room, try again.
 * - Not written (disk full, closed): nil, err.
 * - Too few other holders in time: nil, timeout; err.hash tells the entry, which is durable here, and
 * err.holders how many others have it.
 * - The journal is closed meanwhile: nil, closed, with the same two once it is durable here.
 * - The task is canceled: nobody waits any more; the entry is written all the same. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "binding/journal_impl.h"
#include "binding/outside.h"

struct journal_emit {
  struct holt_wait wait;
  struct holt_journal_emit emit;
  struct holt_list list;       /* among the box's emits */
  struct lua_journal *journal; /* counted */
  struct holt_timer timer;     /* used with a deadline only */
  bool is_open;                /* the journal has it */
  bool is_shut, is_durable;    /* the journal was closed before its answer; it is on the disk here */
  int code;
  uint8_t hash[32];
};

/* Off the list; whoever waits for its end or for room looks again. */
static void leave(struct journal_emit *emit) {
  struct lua_journal *journal = emit->journal;
  holt_list_remove(&emit->list);
  if (!holt_list_is_empty(&journal->rooms)) holt__pending_wake(&journal->rooms);
  if (holt_list_is_empty(&journal->emits)) holt__pending_wake(&journal->ends);
}

static void emit_free(struct journal_emit *emit) {
  if (emit->is_open && emit->journal->journal != NULL)
    holt_journal_emit_cancel(emit->journal->journal, &emit->emit);
  holt_timer_stop(&emit->timer);
  leave(emit);
  holt__journal_release(emit->journal);
  free(emit);
}

static void on_written(void *arg, int code, const uint8_t hash[32]) {
  struct journal_emit *emit = arg;
  emit->is_open = false;
  emit->code = code;
  if (code == 0) memcpy(emit->hash, hash, 32);
  leave(emit);
  holt_wait_wake(&emit->wait);
}

static void on_deadline(void *arg) {
  struct journal_emit *emit = arg;
  emit->code = HOLT_ETIMEOUT;
  holt_wait_wake(&emit->wait);
}

void holt__journal_emits_shut(struct lua_journal *journal) {
  HOLT_LIST_EACH(&journal->emits, at, next) {
    struct journal_emit *emit = HOLT_CONTAINER(at, struct journal_emit, list);
    emit->is_shut = true; /* it is written all the same */
    emit->is_durable = holt_journal_emit_is_durable(&emit->emit);
    if (emit->is_open) holt_journal_emit_cancel(journal->journal, &emit->emit);
    on_written(emit, HOLT_ECLOSED, NULL);
  }
}

/* With the entry's hash, and at how many other holders it is. */
static int fail_named(lua_State *L, const struct holt_err *err, const struct holt_journal_emit *told) {
  char hash[HOLT__HEX];
  holt__write_hex(hash, told->hash);
  int count = holt_lua_fail(L, err);
  lua_pushlstring(L, hash, 64);
  lua_setfield(L, -2, "hash");
  lua_pushinteger(L, told->have);
  lua_setfield(L, -2, "holders");
  return count;
}

static int fail_late(lua_State *L, const struct holt_journal_emit *told, bool is_durable) {
  struct holt_err err;
  if (!is_durable) {
    holt_err_set(&err, HOLT_ETIMEOUT, "emit: not on the disk in time; it is still being written");
    return told->number == 0 ? holt_lua_fail(L, &err) : fail_named(L, &err, told);
  }
  holt_err_set(&err, HOLT_ETIMEOUT,
               "emit: on the disk here, but at %u of the %u other holders that were asked for", told->have,
               told->holders);
  return fail_named(L, &err, told);
}

static int fail_shut(lua_State *L, const struct holt_journal_emit *told, bool is_durable) {
  struct holt_err err;
  if (is_durable)
    holt_err_set(&err, HOLT_ECLOSED,
                 "emit: closed; it is on the disk here, and was at %u of the %u other holders that were "
                 "asked for",
                 told->have, told->holders);
  else
    holt_err_set(&err, HOLT_ECLOSED, "emit: closed before it was on the disk; it is still being written");
  return told->number == 0 ? holt_lua_fail(L, &err) : fail_named(L, &err, told);
}

static int emit_finish(lua_State *L, struct holt_wait *wait) {
  struct journal_emit *emit = HOLT_CONTAINER(wait, struct journal_emit, wait);
  struct holt_journal_emit told = emit->emit;
  int code = emit->code;
  bool is_shut = emit->is_shut;
  bool is_durable = is_shut ? emit->is_durable : holt_journal_emit_is_durable(&told);
  char hash[HOLT__HEX];
  holt__write_hex(hash, emit->hash);
  emit_free(emit);
  if (code == HOLT_ETIMEOUT) return fail_late(L, &told, is_durable);
  if (is_shut) return fail_shut(L, &told, is_durable);
  struct holt_err err;
  if (code != 0) {
    holt_err_set(&err, code, "emit: nothing was written: %s", holt_err_text(code));
    return holt_lua_fail(L, &err);
  }
  lua_pushlstring(L, hash, 64);
  return 1;
}

static void emit_cancel(struct holt_wait *wait) {
  emit_free(HOLT_CONTAINER(wait, struct journal_emit, wait));
}

static void start_timer(lua_State *L, struct journal_emit *emit, uint64_t deadline_ms) {
  struct holt_env *env = holt_script_env(holt_script_of(L));
  holt_timer_init(&emit->timer, env, on_deadline, emit);
  if (deadline_ms == HOLT__NO_DEADLINE) return;
  uint64_t now_ms = holt_env_now_ms(env);
  holt_timer_start(&emit->timer, deadline_ms > now_ms ? deadline_ms - now_ms : 0);
}

static struct holt_buf check_bytes(lua_State *L, int index) {
  size_t len;
  const char *data = luaL_checklstring(L, index, &len);
  return holt_buf(data, len);
}

static int fail_at_once(lua_State *L, int code, size_t len) {
  struct holt_err err;
  if (code == HOLT_ETOOLARGE)
    holt_err_set(&err, code,
                 "emit: %zu bytes are more than an entry may have; the option max_entry_bytes is 1 MiB when "
                 "not given, 4 MiB at most",
                 len);
  else if (code == HOLT_EINVAL)
    holt_err_set(&err, code, "emit: a name has 1 to 255 bytes");
  else
    holt_err_set(&err, code, "emit: nothing was written: %s", holt_err_text(code));
  return holt_lua_fail(L, &err);
}

static int go_emit(lua_State *L, void *owner, int status, uint64_t deadline_ms) {
  struct lua_journal *journal = owner;
  if (journal->journal == NULL) return fail_at_once(L, HOLT_ECLOSED, 0);
  if (status != 0) return fail_at_once(L, status, 0);
  struct holt_buf name = check_bytes(L, 2), payload = check_bytes(L, 3);
  struct journal_emit *emit = holt_alloc(sizeof *emit);
  emit->emit.cb = on_written;
  emit->emit.arg = emit;
  emit->emit.holders = (uint32_t)lua_tointeger(L, 4);
  int rc = holt_journal_emit(journal->journal, &emit->emit, name, payload);
  if (rc != 0) {
    free(emit);
    if (rc == HOLT_EBUSY) return holt__pend(L, &journal->rooms, deadline_ms, go_emit, journal);
    return fail_at_once(L, rc, payload.len);
  }
  emit->is_open = true;
  emit->journal = journal;
  journal->refs++;
  holt_list_init(&emit->list);
  holt_list_push(&journal->emits, &emit->list);
  start_timer(L, emit, deadline_ms);
  holt_wait_init(&emit->wait, L, emit_finish, emit_cancel);
  return holt_wait_park(L, &emit->wait);
}

/* journal_emit(box, name, payload, holders, timeout) -> hash | nil, err. Without a time limit it waits for as
 * long as it takes. */
int holt__l_journal_emit(lua_State *L) {
  struct lua_journal *journal = holt__check_journal(L, 1);
  luaL_checkstring(L, 2);
  luaL_checkstring(L, 3);
  lua_Integer holders = luaL_optinteger(L, 4, 0);
  luaL_argcheck(L, holders >= 0 && holders < 65536, 4, "a number of holders was expected");
  uint64_t deadline_ms = holt__deadline(L, 5);
  lua_settop(L, 4);
  lua_pushinteger(L, holders);
  lua_replace(L, 4);
  holt_wait_check(L);
  return go_emit(L, journal, 0, deadline_ms);
}
