/* emit.c - node:emit: encode into a reused buffer, hand the bytes to the bus, wait where it asks us to.
 *
 * - Room everywhere: the bus copies the bytes, emit returns true.
 * - HOLT_EAGAIN: the bytes are kept, the coroutine parks in the bus's queue; at its turn the callback tries
 * again.
 * - The node closes meanwhile: nil, closed. The task is canceled: it leaves the queue, nothing was sent. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "binding/node_impl.h"

struct emit {
  struct holt_wait wait;
  struct holt_bus_waiter waiter;
  struct holt_list node_list;
  struct lua_node *node;
  struct holt_err err;
  int status;
  uint8_t codec;
  size_t subject_len, payload_len;
  char bytes[]; /* subject, then payload */
};

static void emit_free(struct emit *emit) {
  holt_list_remove(&emit->node_list);
  holt__node_release(emit->node);
  free(emit);
}

/* A status above 0: the codec refused; nil and what it says lie at 3 and 4. */
static int push_result(lua_State *L, int status, const struct holt_err *err) {
  if (status > 0) {
    lua_settop(L, 4);
    return 2;
  }
  if (status != 0) return holt_lua_fail(L, err);
  lua_pushboolean(L, 1);
  return 1;
}

static int emit_finish(lua_State *L, struct holt_wait *wait) {
  struct emit *emit = HOLT_CONTAINER(wait, struct emit, wait);
  struct holt_err err = emit->err;
  int status = emit->status;
  emit_free(emit);
  return push_result(L, status, &err);
}

static void emit_cancel(struct holt_wait *wait) {
  struct emit *emit = HOLT_CONTAINER(wait, struct emit, wait);
  if (emit->node->node != NULL && !holt_list_is_empty(&emit->node_list))
    holt_bus_wait_cancel(holt_node_bus(emit->node->node), &emit->waiter);
  emit_free(emit);
}

static void on_turn(void *arg) {
  struct emit *emit = arg;
  struct holt_bus *bus = holt_node_bus(emit->node->node);
  struct holt_buf payload = holt_buf(emit->bytes + emit->subject_len, emit->payload_len);
  int rc = holt_bus_emit(bus, emit->bytes, emit->subject_len, emit->codec, payload, &emit->err);
  if (rc == HOLT_EAGAIN) {
    holt_bus_wait(bus, &emit->waiter, on_turn, emit);
    return;
  }
  emit->status = rc;
  holt_list_remove(&emit->node_list);
  holt_wait_wake(&emit->wait);
}

void holt__emits_close(struct lua_node *node) {
  HOLT_LIST_EACH(&node->emits, at, next) {
    struct emit *emit = HOLT_CONTAINER(at, struct emit, node_list);
    if (node->node != NULL) holt_bus_wait_cancel(holt_node_bus(node->node), &emit->waiter);
    holt_list_remove(&emit->node_list);
    emit->status =
        holt_err_set(&emit->err, HOLT_ECLOSED, "the node was closed before the event could be sent");
    holt_wait_wake(&emit->wait);
  }
}

static int emit_wait(lua_State *L, struct lua_node *node, struct holt_buf subject, uint8_t codec,
                     struct holt_buf payload) {
  holt_wait_check(L); /* may raise; nothing is held */
  struct emit *emit = holt_alloc(sizeof *emit + subject.len + payload.len);
  memcpy(emit->bytes, subject.data, subject.len);
  if (payload.len > 0) memcpy(emit->bytes + subject.len, payload.data, payload.len);
  emit->subject_len = subject.len;
  emit->payload_len = payload.len;
  emit->codec = codec;
  emit->node = holt__node_retain(node);
  holt_list_push(&node->emits, &emit->node_list);
  holt_wait_init(&emit->wait, L, emit_finish, emit_cancel);
  holt_bus_wait(holt_node_bus(node->node), &emit->waiter, on_turn, emit);
  return holt_wait_park(L, &emit->wait);
}

/* --- Letting the loop turn ------------------------------------------------------------------------ */

/* So many events or bytes may be emitted in a row before the loop must have its turn: a script that emits
 * without ever waiting would otherwise keep it from sending anything. */
#define BURST_EVENTS 1000
#define BURST_BYTES  (1024 * 1024)

struct breath {
  struct holt_wait wait;
  int status; /* how the emit before it ended */
  struct holt_err err;
};

static int breath_finish(lua_State *L, struct holt_wait *wait) {
  struct breath *breath = HOLT_CONTAINER(wait, struct breath, wait);
  struct holt_err err = breath->err;
  int status = breath->status;
  free(breath);
  return push_result(L, status, &err);
}

static void breath_cancel(struct holt_wait *wait) {
  free(HOLT_CONTAINER(wait, struct breath, wait));
}

static int take_breath(lua_State *L, int status, const struct holt_err *err) {
  if (!holt_wait_is_possible(L)) return push_result(L, status, err);
  if (!lua_isyieldable(L)) { /* the main thread of plain Lua */
    holt_script_turn(holt_script_of(L), false);
    return push_result(L, status, err);
  }
  struct breath *breath = holt_alloc(sizeof *breath);
  breath->status = status;
  if (status < 0) breath->err = *err;
  holt_wait_init(&breath->wait, L, breath_finish, breath_cancel);
  holt_wait_wake(&breath->wait);
  return holt_wait_park(L, &breath->wait);
}

/* Count an emit, however it ended: one that only fails must not keep the loop from its turn either. */
static int end_emit(lua_State *L, struct lua_node *node, int status, size_t len, const struct holt_err *err) {
  node->burst_bytes += len;
  if (++node->burst_events < BURST_EVENTS && node->burst_bytes < BURST_BYTES)
    return push_result(L, status, err);
  node->burst_events = 0;
  node->burst_bytes = 0;
  return take_breath(L, status, err);
}

/* emit(node, subject, ...) -> true | nil, err */
int holt__l_emit(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  struct holt_buf subject = {0}, payload = {0};
  subject.data = (const uint8_t *)luaL_checklstring(L, 2, &subject.len);
  struct holt_err err;
  uint8_t codec;
  if (holt__subject_codec(node, subject, &codec, &err) != 0) return luaL_argerror(L, 2, err.message);
  if (holt_wait_is_canceled(L)) holt_wait_check(L); /* else a task that only emits could never be canceled */
  if (node->node == NULL) {
    holt_err_set(&err, HOLT_ECLOSED, "the node is closed; nothing was sent");
    return end_emit(L, node, HOLT_ECLOSED, 0, &err);
  }
  int rc = holt__values_encode(L, node, codec, 3, "node:emit", 1, &payload, &err);
  if (rc == 0 && node->node == NULL) /* closed by a codec written in Lua */
    rc = holt_err_set(&err, HOLT_ECLOSED, "the node was closed before the event could be sent");
  if (rc == 0)
    rc = holt_bus_emit(holt_node_bus(node->node), (const char *)subject.data, subject.len, codec, payload,
                       &err);
  if (rc == HOLT_EAGAIN) return emit_wait(L, node, subject, codec, payload);
  return end_emit(L, node, rc, payload.len, &err);
}
