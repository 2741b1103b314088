/* serve.c - node:serve: requests from the bus to a handler in Lua, its results back as the reply.
 *
 * - The bus calls on_request inside the loop: the request is queued, nothing more.
 * - Between turns holt__requests_run starts a handler for each, in a coroutine of the pool; those beyond
 *   `concurrency` wait, and keep their link's credit meanwhile. Whose caller has given up is not run.
 * - Returned: its results are the reply, in the request's codec where this node knows it. Parked: the
 *   request's credit goes back. Raised: the caller gets the message, this node an error event.
 * - The handle is closed: what was received before is still answered. The node is closed: what has not begun
 *   is not run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "binding/node_impl.h"

#define BATCH 256 /* handlers begun between two turns of the loop */

struct lua_serve {
  struct holt_list node_list;
  struct lua_node *node;
  struct holt_serve *serve; /* NULL when closed */
  unsigned refs;            /* the node's list, and requests */
  int ref;                  /* the handler */
  lua_Integer number;
  unsigned concurrency; /* 0: no limit */
  unsigned active;
  struct holt_list waiting; /* struct serving beyond `concurrency` */
  char subject[HOLT_SUBJECT_MAX + 1];
};

struct serving {
  struct holt_list node_list;
  struct lua_serve *serve;
  struct holt_request *request; /* NULL once answered */
};

static void serve_release(struct lua_serve *serve) {
  if (--serve->refs > 0) return;
  luaL_unref(holt_script_state(serve->node->script), LUA_REGISTRYINDEX, serve->ref);
  holt__node_release(serve->node);
  free(serve);
}

static void serving_free(struct serving *serving) {
  holt_list_remove(&serving->node_list);
  serve_release(serving->serve);
  free(serving);
}

static void fail(struct serving *serving, const char *message) {
  struct holt_request *request = serving->request;
  serving->request = NULL;
  if (request != NULL) holt_request_fail(request, message);
}

/* --- One handler ---------------------------------------------------------------------------------- */

/* The handler's results lie from place 2 on. */
static int reply(lua_State *L, int status, lua_KContext context) {
  (void)status;
  struct serving *serving = (struct serving *)context;
  struct lua_node *node = serving->serve->node;
  struct holt_request *request = serving->request;
  struct holt_buf payload = {0};
  struct holt_err err = {0};
  uint8_t codec = HOLT_CODEC_MSGPACK;
  if (holt_request_left_ms(request) > 0) {
    codec = request->codec;
    if (!holt__codec_is_known(node, codec)) codec = holt__codec_of(node, holt_buf_text(request->subject));
    int rc = holt__values_encode(L, node, codec, 2, "what the handler returned", 1, &payload, &err);
    if (rc > 0) {
      lua_settop(L, 3);
      return lua_error(L);
    }
    if (rc < 0) return holt_lua_raise(L, err.code, "what the handler returned: %s", err.message);
  }
  serving->request = NULL;
  holt_request_reply(request, codec, payload);
  return 0;
}

/* (serving, handler, values…) */
static int l_handle(lua_State *L) {
  struct serving *serving = lua_touserdata(L, 1);
  lua_callk(L, lua_gettop(L) - 2, LUA_MULTRET, (lua_KContext)serving, reply);
  return reply(L, LUA_OK, (lua_KContext)serving);
}

static int run_push(lua_State *L, void *arg) {
  struct serving *serving = arg;
  const struct holt_request *request = serving->request;
  struct holt__origin from = {.kind = "request", .subject = request->subject, .node = request->origin};
  lua_pushcfunction(L, l_handle);
  lua_pushlightuserdata(L, serving);
  lua_rawgeti(L, LUA_REGISTRYINDEX, serving->serve->ref);
  return 2 + holt__values_push(L, serving->serve->node, request->codec, request->payload, &from);
}

static void run_parked(void *arg, struct holt_task *task) {
  (void)task;
  holt_request_begun(((struct serving *)arg)->request);
}

struct reason {
  lua_State *co;
  char text[300];
};

/* What a handler raised, as text: the message of an error table, else what tostring says. */
static void reason_body(lua_State *L, void *arg) {
  struct reason *reason = arg;
  lua_pushvalue(reason->co, -1);
  lua_xmove(reason->co, L, 1);
  if (lua_istable(L, 1)) lua_getfield(L, 1, "value");
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, "message");
    if (lua_type(L, -1) != LUA_TSTRING) lua_pop(L, 1);
  }
  snprintf(reason->text, sizeof reason->text, "%s", luaL_tolstring(L, -1, NULL));
}

static void run_ended(void *arg, struct holt_task *task, lua_State *co, bool ok, int count) {
  (void)task;
  (void)count;
  struct serving *serving = arg;
  struct lua_serve *serve = serving->serve;
  struct lua_node *node = serve->node;
  if (!ok && lua_isnil(co, -1)) {
    fail(serving, "its handler was canceled");
  } else if (!ok) {
    char what[2 * HOLT_SUBJECT_MAX];
    snprintf(what, sizeof what, "handler of requests for '%s'%s%s", serve->subject,
             serving->request != NULL ? " from " : "",
             serving->request != NULL ? serving->request->origin : "");
    struct reason reason = {.co = co};
    struct holt_err err = {0};
    if (!lua_checkstack(co, 2) || holt_lua_call(node->script, reason_body, &reason, &err) != 0)
      snprintf(reason.text, sizeof reason.text, "an error that has no text");
    fail(serving, reason.text);
    holt_script_report(node->script, co, what, node->self_ref);
  }
  serve->active--;
  struct holt_list *next = holt_list_shift(&serve->waiting);
  if (next != NULL) {
    holt_list_push(&node->requests, next);
    holt_source_ready(node->script, &node->source);
  }
  serving_free(serving);
}

static const struct holt_job serve_job = {.push = run_push, .parked = run_parked, .ended = run_ended};

static void start(struct serving *serving) {
  struct lua_serve *serve = serving->serve;
  if (holt_request_left_ms(serving->request) == 0) {
    fail(serving, "its caller gave up before the handler began");
    serving_free(serving);
    return;
  }
  if (serve->concurrency > 0 && serve->active >= serve->concurrency) {
    holt_list_push(&serve->waiting, &serving->node_list);
    return;
  }
  serve->active++;
  if (holt_task_run(serve->node->script, &serve_job, serving, NULL) != HOLT_ENOMEM) return;
  serve->active--;
  holt_log(HOLT_LOG_ERROR, "no memory to run the handler of requests for '%s'", serve->subject);
  fail(serving, "no memory to run the handler");
  serving_free(serving);
}

bool holt__requests_run(struct lua_node *node) {
  for (int i = 0; i < BATCH; i++) {
    struct holt_list *at = holt_list_shift(&node->requests);
    if (at == NULL) return false;
    start(HOLT_CONTAINER(at, struct serving, node_list));
  }
  return !holt_list_is_empty(&node->requests);
}

/* A request is on the way in: for holt.event(). False when `task` handles none. */
bool holt__request_event(lua_State *L, const struct holt_task *task) {
  if (holt_task_job(task) != &serve_job) return false;
  const struct serving *serving = holt_task_arg(task);
  const struct holt_request *request = serving->request;
  if (request == NULL) return false;
  char boot[17];
  snprintf(boot, sizeof boot, "%016llx", (unsigned long long)request->boot);
  lua_createtable(L, 0, 5);
  lua_pushstring(L, request->subject);
  lua_setfield(L, -2, "subject");
  lua_pushstring(L, request->origin);
  lua_setfield(L, -2, "origin");
  lua_pushstring(L, boot);
  lua_setfield(L, -2, "boot");
  lua_pushinteger(L, request->hops);
  lua_setfield(L, -2, "hops");
  lua_pushnumber(L, (lua_Number)holt_request_left_ms(request) / 1000.0);
  lua_setfield(L, -2, "left");
  return true;
}

/* --- Serving -------------------------------------------------------------------------------------- */

static void on_request(void *arg, struct holt_request *request) {
  struct lua_serve *serve = arg;
  struct serving *serving = holt_alloc(sizeof *serving);
  serving->serve = serve;
  serving->request = request;
  serve->refs++;
  holt_list_push(&serve->node->requests, &serving->node_list);
  holt_source_ready(serve->node->script, &serve->node->source);
}

static void serve_close(struct lua_serve *serve) {
  holt_bus_unserve(holt_node_bus(serve->node->node), serve->serve);
  serve->serve = NULL;
  holt_list_remove(&serve->node_list);
  serve_release(serve);
}

/* serve(node, subject, handler, concurrency | nil) -> number | nil, err */
int holt__l_serve(lua_State *L) {
  static lua_Integer serves_made;
  struct lua_node *node = holt__check_node(L, 1);
  size_t len;
  const char *subject = luaL_checklstring(L, 2, &len);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  lua_Integer concurrency = luaL_optinteger(L, 4, 0);
  struct holt_err err;
  if (holt_subject_check(subject, len, false, &err) != 0) return luaL_argerror(L, 2, err.message);
  if (node->node == NULL || holt_node_is_closing(node->node)) return holt_lua_fail_code(L, HOLT_ECLOSED);
  lua_pushvalue(L, 3);
  int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  struct lua_serve *serve = holt_alloc(sizeof *serve);
  serve->serve = holt_bus_serve(holt_node_bus(node->node), subject, len, on_request, serve);
  if (serve->serve == NULL) {
    free(serve);
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
    holt_err_set(&err, HOLT_EEXISTS,
                 "this node serves '%s' already; close that handle first, or serve it from another node",
                 subject);
    return holt_lua_fail(L, &err);
  }
  serve->node = holt__node_retain(node);
  serve->refs = 1;
  serve->ref = ref;
  serve->number = ++serves_made;
  serve->concurrency = (unsigned)concurrency;
  memcpy(serve->subject, subject, len);
  holt_list_init(&serve->waiting);
  holt_list_push(&node->serves, &serve->node_list);
  lua_pushinteger(L, serve->number);
  return 1;
}

/* unserve(node, number) -> whether it was served until now */
int holt__l_unserve(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  lua_Integer number = luaL_checkinteger(L, 2);
  bool found = false;
  HOLT_LIST_EACH(&node->serves, at, next) {
    struct lua_serve *serve = HOLT_CONTAINER(at, struct lua_serve, node_list);
    if (serve->number != number) continue;
    serve_close(serve);
    found = true;
    break;
  }
  lua_pushboolean(L, found);
  return 1;
}

static void fail_all(struct holt_list *servings) {
  struct holt_list *at;
  while ((at = holt_list_shift(servings)) != NULL) {
    struct serving *serving = HOLT_CONTAINER(at, struct serving, node_list);
    fail(serving, "the node was closed before the handler began");
    serving_free(serving);
  }
}

void holt__serves_close(struct lua_node *node) {
  HOLT_LIST_EACH(&node->serves, at, next) {
    struct lua_serve *serve = HOLT_CONTAINER(at, struct lua_serve, node_list);
    fail_all(&serve->waiting);
    serve_close(serve);
  }
  fail_all(&node->requests);
}
