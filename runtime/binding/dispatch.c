/* dispatch.c - events from the bus to handlers in Lua.
 *
 * - The bus calls on_event inside the loop: the event is queued, nothing more.
 * - Between turns holt__dispatch runs a handler for each, in a coroutine of the pool. Returned or raised: the
 * event is done. Parked: it is done too (its credit goes back), but the handler keeps it for holt.event().
 * - While a handler is parked, later events of that origin for that subscription wait in a lane (unless
 *   `concurrency` allows more); when it ends, the lane goes on with the next run.
 * - Bytes that cannot be decoded are reported like a handler that raised. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "binding/node_impl.h"

#define BATCH 1024 /* handlers run between two turns of the loop */

/* --- Subscriptions -------------------------------------------------------------------------------- */

/* No handler of it starts from now on. */
static void sub_off(struct lua_sub *sub) {
  struct lua_node *node = sub->node;
  if (sub->sub == NULL) return;
  holt_bus_unsubscribe(holt_node_bus(node->node), sub->sub);
  sub->sub = NULL;
  luaL_unref(holt_script_state(node->script), LUA_REGISTRYINDEX, sub->ref);
  sub->ref = LUA_NOREF;
  HOLT_LIST_EACH(&sub->lanes, at, next) {
    struct lane *lane = HOLT_CONTAINER(at, struct lane, of_sub);
    while (lane->waiting.count > 0) {
      holt_event_done(holt__queue_shift(&lane->waiting).event);
      sub->refs--; /* the list's own is still there */
    }
    if (lane->active == 0) holt__lane_free(lane);
  }
  holt_list_remove(&sub->node_list);
  holt__sub_release(sub);
}

void holt__subs_close(struct lua_node *node) {
  HOLT_LIST_EACH(&node->subs, at, next) sub_off(HOLT_CONTAINER(at, struct lua_sub, node_list));
  while (node->queue.count > 0) {
    struct delivery delivery = holt__queue_shift(&node->queue);
    holt_event_done(delivery.event);
    holt__sub_release(delivery.sub);
  }
  holt__queue_free(&node->queue);
}

static void on_event(void *arg, struct holt_event *event) {
  struct lua_sub *sub = arg;
  sub->refs++;
  holt__queue_push(&sub->node->queue, (struct delivery){.sub = sub, .event = event});
  holt_source_ready(sub->node->script, &sub->node->source);
}

/* on(node, pattern, handler, concurrency) */
static int subscribe(lua_State *L, bool is_once) {
  struct lua_node *node = holt__check_node(L, 1);
  size_t len;
  const char *pattern = luaL_checklstring(L, 2, &len);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  lua_Integer concurrency = luaL_optinteger(L, 4, 1);
  struct holt_err err;
  if (holt_subject_check(pattern, len, true, &err) != 0) return luaL_argerror(L, 2, err.message);
  if (node->node == NULL || holt_node_is_closing(node->node)) return holt_lua_fail_code(L, HOLT_ECLOSED);
  lua_pushvalue(L, 3);
  int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  struct lua_sub *sub = holt_alloc(sizeof *sub);
  sub->node = holt__node_retain(node);
  sub->refs = 1;
  sub->ref = ref;
  sub->is_once = is_once;
  sub->concurrency = (unsigned)concurrency;
  sub->pattern_len = len;
  memcpy(sub->pattern, pattern, len);
  holt_list_init(&sub->lanes);
  holt_list_push(&node->subs, &sub->node_list);
  sub->sub = holt_bus_subscribe(holt_node_bus(node->node), pattern, len, on_event, sub);
  lua_pushboolean(L, 1);
  return 1;
}

int holt__l_on(lua_State *L) {
  return subscribe(L, false);
}
int holt__l_once(lua_State *L) {
  return subscribe(L, true);
}

/* off(node, pattern, handler | nil) -> whether there was one; without a handler all of the pattern go */
int holt__l_off(lua_State *L) {
  struct lua_node *node = holt__check_node(L, 1);
  size_t len;
  const char *pattern = luaL_checklstring(L, 2, &len);
  bool is_all = lua_isnoneornil(L, 3), found = false;
  if (!is_all) luaL_checktype(L, 3, LUA_TFUNCTION);
  HOLT_LIST_EACH(&node->subs, at, next) {
    struct lua_sub *sub = HOLT_CONTAINER(at, struct lua_sub, node_list);
    if (sub->pattern_len != len || memcmp(sub->pattern, pattern, len) != 0) continue;
    if (!is_all) {
      lua_rawgeti(L, LUA_REGISTRYINDEX, sub->ref);
      bool is_same = lua_rawequal(L, -1, 3);
      lua_pop(L, 1);
      if (!is_same) continue;
    }
    sub_off(sub);
    found = true;
    if (!is_all) break;
  }
  lua_pushboolean(L, found);
  return 1;
}

/* --- One handler ---------------------------------------------------------------------------------- */

/* A handler that runs: on the C stack until it parks, then allocated. */
struct run {
  struct lua_sub *sub;
  struct holt_event *event;
  struct lane *lane; /* NULL until it parks */
};

static int run_push(lua_State *L, void *arg) {
  struct run *run = arg;
  lua_rawgeti(L, LUA_REGISTRYINDEX, run->sub->ref);
  const struct lua_node *node = run->sub->node;
  if (run->sub->is_once) sub_off(run->sub); /* `run` holds one reference more */
  const struct holt_event *event = run->event;
  struct holt__origin from = {.kind = "event", .subject = event->subject, .node = event->origin};
  return holt__values_push(L, node, event->codec, event->payload, &from);
}

static void run_parked(void *arg, struct holt_task *task) {
  const struct run *run = arg;
  struct lua_sub *sub = run->sub;
  struct run *kept = holt_alloc(sizeof *kept);
  *kept = *run;
  kept->lane = holt__lane_find(sub, run->event->boot);
  if (kept->lane == NULL) {
    kept->lane = holt_alloc(sizeof *kept->lane);
    kept->lane->sub = sub;
    kept->lane->boot = run->event->boot;
    holt_list_init(&kept->lane->runnable);
    holt_list_push(&sub->lanes, &kept->lane->of_sub);
  }
  kept->lane->active++;
  sub->refs++;
  holt_event_retain(run->event);
  holt_task_set_arg(task, kept);
}

static void run_ended(void *arg, struct holt_task *task, lua_State *co, bool ok, int count) {
  (void)task;
  (void)count;
  struct run *run = arg;
  struct lua_sub *sub = run->sub;
  struct lua_node *node = sub->node;
  if (!ok && !lua_isnil(co, -1)) {
    char what[HOLT_SUBJECT_MAX + 128];
    snprintf(what, sizeof what, "handler of '%s' (event '%s' from '%s')", sub->pattern, run->event->subject,
             run->event->origin);
    holt_script_report(node->script, co, what, node->self_ref);
  }
  struct lane *lane = run->lane;
  if (lane == NULL) return; /* it never parked */
  holt_event_release(run->event);
  free(run);
  lane->active--;
  if (lane->waiting.count > 0) {
    if (holt_list_is_empty(&lane->runnable)) holt_list_push(&node->lanes, &lane->runnable);
    holt_source_ready(node->script, &node->source);
  } else if (lane->active == 0) {
    holt__lane_free(lane);
  }
  holt__sub_release(sub);
}

static const struct holt_job run_job = {.push = run_push, .parked = run_parked, .ended = run_ended};

/* Takes the delivery's reference of the subscription. */
static void run_handler(struct delivery delivery) {
  struct run run = {.sub = delivery.sub, .event = delivery.event};
  if (holt_task_run(delivery.sub->node->script, &run_job, &run, NULL) == HOLT_ENOMEM)
    holt_log(HOLT_LOG_ERROR, "no memory to run the handler of '%s': event '%s' from '%s' is not handled",
             delivery.sub->pattern, delivery.event->subject, delivery.event->origin);
  holt_event_done(delivery.event);
  holt__sub_release(delivery.sub);
}

static bool has_room(const struct lane *lane) {
  return lane->sub->concurrency == 0 || lane->active < lane->sub->concurrency;
}

static void deliver(struct delivery delivery) {
  struct lua_sub *sub = delivery.sub;
  if (sub->sub == NULL) { /* off meanwhile */
    holt_event_done(delivery.event);
    holt__sub_release(sub);
    return;
  }
  if (!holt_list_is_empty(&sub->lanes)) {
    struct lane *lane = holt__lane_find(sub, delivery.event->boot);
    if (lane != NULL && (lane->waiting.count > 0 || !has_room(lane))) {
      holt__queue_push(&lane->waiting, delivery);
      return;
    }
  }
  run_handler(delivery);
}

/* Events that waited behind a parked handler. The lane lives while it runs one: its own activity counts. */
static void run_lane(struct lane *lane) {
  lane->active++; /* keeps it */
  while (lane->waiting.count > 0 &&
         lane->active - 1 < (lane->sub->concurrency == 0 ? 1u << 30 : lane->sub->concurrency))
    run_handler(holt__queue_shift(&lane->waiting));
  lane->active--;
  if (lane->active == 0 && lane->waiting.count == 0) holt__lane_free(lane);
}

bool holt__dispatch(struct lua_node *node) {
  struct holt_list *at;
  while ((at = holt_list_shift(&node->lanes)) != NULL) {
    struct lane *lane = HOLT_CONTAINER(at, struct lane, runnable);
    struct lua_sub *sub = lane->sub;
    sub->refs++;
    run_lane(lane);
    holt__sub_release(sub);
  }
  for (int i = 0; i < BATCH && node->queue.count > 0; i++) deliver(holt__queue_shift(&node->queue));
  return node->queue.count > 0 || !holt_list_is_empty(&node->lanes);
}

/* --- holt.event() --------------------------------------------------------------------------------- */

/* event() -> { subject, origin, boot, sequence, age, hops, late } within a handler, { subject, origin, boot,
 * hops, left } within a handler of requests, else nil */
int holt__l_event(lua_State *L) {
  const struct holt_task *task = holt_task_current(holt_script_of(L));
  if (task != NULL && holt__request_event(L, task)) return 1;
  if (task == NULL || holt_task_job(task) != &run_job) {
    lua_pushnil(L);
    return 1;
  }
  const struct run *run = holt_task_arg(task);
  const struct holt_event *event = run->event;
  char boot[17];
  snprintf(boot, sizeof boot, "%016llx", (unsigned long long)event->boot);
  lua_createtable(L, 0, 7);
  lua_pushlstring(L, event->subject, event->subject_len);
  lua_setfield(L, -2, "subject");
  lua_pushstring(L, event->origin);
  lua_setfield(L, -2, "origin");
  lua_pushstring(L, boot);
  lua_setfield(L, -2, "boot");
  lua_pushinteger(L, (lua_Integer)event->sequence);
  lua_setfield(L, -2, "sequence");
  lua_pushnumber(L, (lua_Number)holt_event_age_ms(event) / 1000.0);
  lua_setfield(L, -2, "age");
  lua_pushinteger(L, event->hops);
  lua_setfield(L, -2, "hops");
  lua_pushboolean(L, event->late);
  lua_setfield(L, -2, "late");
  return 1;
}
