/* call.c - node:call: encode the request, hand it to the bus, wait for what comes of it.
 *
 * - The bus refuses it at once (too large, too many under way, closed): nil, err; nothing was sent.
 * - Else the coroutine parks until the bus tells the outcome, at the latest at the deadline.
 * - The task is canceled: the call is given up. The node closes: nil, closed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "binding/node_impl.h"

struct call {
  struct holt_wait wait;
  struct holt_list node_list;
  struct lua_node *node;
  struct holt_call *call; /* NULL once answered */
  struct holt_err err;
  bool may_have_run;
  uint8_t codec;
  char responder[65];
  struct holt_writer payload;
  char subject[HOLT_SUBJECT_MAX + 1];
};

static void call_free(struct call *call) {
  if (call->call != NULL) holt_call_cancel(call->call);
  holt_list_remove(&call->node_list);
  holt_writer_free(&call->payload);
  holt__node_release(call->node);
  free(call);
}

static int push_failure(lua_State *L, const struct holt_err *err, bool may_have_run) {
  holt_lua_fail(L, err);
  lua_pushboolean(L, may_have_run);
  lua_setfield(L, -2, "may_have_run");
  return 2;
}

/* decode(reply bytes, call) in a protected call: a reply that cannot be read is an expected failure. */
static int l_decode(lua_State *L) {
  const struct call *call = lua_touserdata(L, 1);
  struct holt__origin from = {.kind = "the reply to", .subject = call->subject, .node = call->responder};
  struct holt_buf bytes = holt_buf(call->payload.data, call->payload.len);
  return holt__values_push(L, call->node, call->codec, bytes, &from);
}

static int call_finish(lua_State *L, struct holt_wait *wait) {
  struct call *call = HOLT_CONTAINER(wait, struct call, wait);
  if (call->err.code != 0) {
    struct holt_err err = call->err;
    bool may_have_run = call->may_have_run;
    call_free(call);
    return push_failure(L, &err, may_have_run);
  }
  int before = lua_gettop(L);
  lua_pushcfunction(L, l_decode);
  lua_pushlightuserdata(L, call);
  int status = lua_pcall(L, 1, LUA_MULTRET, 0);
  call_free(call);
  if (status == LUA_OK) return lua_gettop(L) - before;
  if (lua_type(L, -1) == LUA_TTABLE) { /* it ran, and answered what we cannot read */
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "may_have_run");
  }
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

static void call_cancel(struct holt_wait *wait) {
  call_free(HOLT_CONTAINER(wait, struct call, wait));
}

static void on_result(void *arg, const struct holt_call_result *result) {
  struct call *call = arg;
  call->call = NULL;
  call->err = result->err;
  call->may_have_run = result->may_have_run;
  call->codec = result->codec;
  snprintf(call->responder, sizeof call->responder, "%s", result->node != NULL ? result->node : "");
  if (result->err.code == 0) holt_write_bytes(&call->payload, result->payload.data, result->payload.len);
  holt_list_remove(&call->node_list);
  holt_wait_wake(&call->wait);
}

void holt__calls_shut(struct lua_node *node) {
  HOLT_LIST_EACH(&node->calls, at, next) {
    struct call *call = HOLT_CONTAINER(at, struct call, node_list);
    holt_call_cancel(call->call);
    call->call = NULL;
    call->may_have_run = true;
    holt_err_set(&call->err, HOLT_ECLOSED, "call of '%s': the node was closed before an answer came",
                 call->subject);
    holt_list_remove(&call->node_list);
    holt_wait_wake(&call->wait);
  }
}

typedef struct holt_call *call_fn(struct holt_bus *bus, const char *subject, size_t len, uint8_t codec,
                                  struct holt_buf payload, uint64_t timeout_ms, holt_call_cb cb, void *arg,
                                  struct holt_err *err);

static int call_by(lua_State *L, call_fn *begin) {
  struct lua_node *node = holt__check_node(L, 1);
  struct holt_buf subject = {0}, payload = {0};
  subject.data = (const uint8_t *)luaL_checklstring(L, 2, &subject.len);
  uint64_t timeout_ms = holt_lua_check_seconds(L, 3);
  struct holt_err err = {0};
  if (holt_subject_check((const char *)subject.data, subject.len, false, &err) != 0)
    return luaL_argerror(L, 2, err.message);
  if (node->node == NULL) {
    holt_err_set(&err, HOLT_ECLOSED, "the node is closed; nothing was sent");
    return push_failure(L, &err, false);
  }
  holt_wait_check(L);
  uint8_t codec = node->rule_count > 0 ? holt__codec_of(node, subject) : node->codec;
  int rc = holt__values_encode(L, node, codec, 4, "node:call", 2, &payload, &err);
  if (rc > 0) { /* [4] is nil, [5] what the codec says */
    lua_settop(L, 5);
    return 2;
  }
  if (rc < 0) return push_failure(L, &err, false);
  if (node->node == NULL) { /* closed by a codec written in Lua */
    holt_err_code(&err, HOLT_ECLOSED);
    return push_failure(L, &err, false);
  }
  struct call *call = holt_alloc(sizeof *call);
  call->node = holt__node_retain(node);
  holt_list_init(&call->node_list);
  memcpy(call->subject, subject.data, subject.len);
  call->call = begin(holt_node_bus(node->node), call->subject, subject.len, codec, payload, timeout_ms,
                     on_result, call, &err);
  if (call->call == NULL) {
    call_free(call);
    return push_failure(L, &err, false);
  }
  holt_list_push(&node->calls, &call->node_list);
  holt_wait_init(&call->wait, L, call_finish, call_cancel);
  return holt_wait_park(L, &call->wait);
}

/* call(node, subject, timeout, request?) -> what the handler returned | nil, err */
int holt__l_call(lua_State *L) {
  return call_by(L, holt_bus_call);
}

/* call_patiently(node, subject, timeout, request?): the same, but waits for a responder with room. */
int holt__l_call_patiently(lua_State *L) {
  return call_by(L, holt_bus_call_patiently);
}

/* frame_max(node) -> bytes of the largest frame body | nil when closed */
int holt__l_frame_max(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  if (node->node == NULL) return 0;
  lua_pushinteger(L, holt_links_frame_max(holt_node_links(node->node)));
  return 1;
}
