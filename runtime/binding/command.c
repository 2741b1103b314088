/* command.c - writes on shared objects, and every other call that waits for the cluster.
 *
 * - Encode key and values into scratch, write the command, submit it, park.
 * - Applied: the answer becomes true and what was there, or false and what is there.
 * - Refused by the objects (another kind, other options): nil, err in words.
 * - Not done, for certain (no quorum, too large, closed): nil, err.
 * - Unknown: nil, err, and err:outcome(timeout) waits for the answer under the same identity.
 * - Refused at once, for the node or the handle is closed: nil, err too, but other tasks run first: a loop
 * around such a call must not hold up the end of the process.
 * - The task is canceled: nobody waits any more; it may be done all the same.
 * - The node closes: nil, closed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "binding/binding.h"
#include "binding/object_impl.h"

/* What the answer becomes in Lua. */
enum shape {
  SHAPE_NOTHING, /* true */
  SHAPE_WRITE,   /* true, old | false, found */
  SHAPE_IF,      /* true | false, found */
  SHAPE_LIST /* true, { done, … }, { bytes or false, … } | false, number of the condition that failed */
};

struct cluster_call {
  struct holt_wait wait;
  struct holt_cluster_request request;
  struct holt_list node_list;
  struct lua_node *node;
  struct lua_object *object; /* counted; NULL for a call about no object, or about several */
  const char *what;          /* for messages: "barrier" */
  bool is_open;              /* the cluster has the request */
  enum shape shape;
  int code;
  uint64_t number;
  struct holt_err *refusal; /* owned: the call was refused in these words; NULL: it was not */
  struct holt_writer answer;
};

static void call_free(struct cluster_call *call) {
  if (call->is_open && call->node->node != NULL)
    holt_cluster_cancel(holt_node_cluster(call->node->node), &call->request);
  holt_list_remove(&call->node_list);
  if (call->object != NULL) holt__object_release(call->object);
  holt__node_release(call->node);
  holt_writer_free(&call->answer);
  free(call->refusal);
  free(call);
}

static void on_answer(void *arg, int code, struct holt_buf answer, uint64_t number) {
  struct cluster_call *call = arg;
  call->is_open = false;
  call->code = code;
  call->number = number;
  if (code == 0 && answer.len > 0) holt_write_bytes(&call->answer, answer.data, answer.len);
  holt_list_remove(&call->node_list);
  holt_wait_wake(&call->wait);
}

void holt__cluster_calls_shut(struct lua_node *node) {
  HOLT_LIST_EACH(&node->cluster_calls, at, next) {
    struct cluster_call *call = HOLT_CONTAINER(at, struct cluster_call, node_list);
    if (call->is_open) holt_cluster_cancel(holt_node_cluster(node->node), &call->request);
    on_answer(call, HOLT_ECLOSED, holt_buf(NULL, 0), 0);
  }
}

void holt__object_calls_shut(struct lua_object *object) {
  struct lua_node *node = object->node;
  HOLT_LIST_EACH(&node->cluster_calls, at, next) {
    struct cluster_call *call = HOLT_CONTAINER(at, struct cluster_call, node_list);
    if (call->object != object) continue;
    if (call->is_open) holt_cluster_cancel(holt_node_cluster(node->node), &call->request);
    on_answer(call, HOLT_ECLOSED, holt_buf(NULL, 0), 0);
  }
}

/* --- Answers ------------------------------------------------------------------------------------------- */

/* What the call was about, for messages. */
struct blame {
  const char *what;
  const struct lua_object *object; /* NULL: no object, or several */
};

/* Why there is no quorum: what keeps this node out, or the members that are not linked; and a full disk. */
static void say_more(struct holt_cluster *cluster, int code, char *out, size_t cap) {
  struct holt_cluster_status *status = holt_alloc(sizeof *status);
  holt_cluster_status(cluster, status);
  size_t len = 0;
  out[0] = '\0';
  if (strcmp(status->disk, "full") == 0) len += (size_t)snprintf(out, cap, "; the disk of this node is full");
  if (code != HOLT_EUNKNOWN && (status->member_count == 0 || strcmp(status->state, "member") != 0))
    snprintf(out + len, cap - len, "; this node is in no cluster yet (%s): %s", status->state,
             status->problem);
  bool is_first = true;
  for (uint32_t i = 0; code == HOLT_ENOLEADER && i < status->member_count && len < cap; i++) {
    const struct holt_cluster_member *member = &status->members[i];
    if (member->is_self || member->is_linked) continue;
    len += (size_t)snprintf(out + len, cap - len, "%s%s for %.0f s", is_first ? "; not connected: " : ", ",
                            member->name, (double)member->last_heard_ms / 1000);
    is_first = false;
  }
  if (!is_first && len < cap) snprintf(out + len, cap - len, "; start them, or mend the network between");
  free(status);
}

static int fail(lua_State *L, struct lua_node *node, const struct blame *blame, int code) {
  struct holt_err err;
  char subject[300], more[600] = "";
  if (blame->object != NULL)
    snprintf(subject, sizeof subject, "%s '%s'", holt_kind_name(blame->object->kind), blame->object->name);
  else
    snprintf(subject, sizeof subject, "%s", blame->what);
  struct holt_cluster *cluster = holt__open_cluster(node, NULL);
  bool is_waiting = code == HOLT_ENOLEADER || code == HOLT_EUNKNOWN || code == HOLT_ETIMEOUT;
  if (is_waiting && cluster != NULL) say_more(cluster, code, more, sizeof more);
  const char *then = "";
  if (code == HOLT_EUNKNOWN)
    then = ": it may have been done, or may yet be; err:outcome(timeout) waits for the answer";
  if (code == HOLT_EBUSY)
    then = ": the leader took nothing more until the time-out (it may be handing over); nothing was done, "
           "try again";
  if (code == HOLT_ETOOLARGE)
    then = ": split it, or raise the option cluster.max_entry_bytes (at most 7 MiB) on all members";
  if ((code == HOLT_EWRONGKIND || code == HOLT_EOPTIONS) && blame->object != NULL)
    holt__object_blame(blame->object, code, &err);
  else
    holt_err_set(&err, code, "%s: %s%s%s", subject, holt_err_text(code), then, more);
  return holt_lua_fail(L, &err);
}

/* true, old | false, found */
static int push_write(lua_State *L, const struct lua_object *object, struct holt_answer *answer, bool is_if) {
  struct holt_result result;
  struct holt_err err;
  if (holt_answer_next(answer, &result) != 0) {
    lua_pushboolean(L, 1);
    return 1;
  }
  lua_pushboolean(L, result.is_done);
  if (!result.has_value || (is_if && result.is_done)) return 1;
  if (holt__value_push(L, object, result.value, &err) != 0) lua_pushnil(L); /* it was done; say so */
  return 2;
}

static int push_list(lua_State *L, struct holt_answer *answer) {
  struct holt_result result;
  lua_pushboolean(L, 1);
  lua_createtable(L, (int)answer->count, 0);
  lua_createtable(L, (int)answer->count, 0);
  for (lua_Integer i = 1; holt_answer_next(answer, &result) == 0; i++) {
    lua_pushboolean(L, result.is_done);
    lua_rawseti(L, -3, i);
    if (result.has_value)
      lua_pushlstring(L, result.value.len > 0 ? (const char *)result.value.data : "", result.value.len);
    else
      lua_pushboolean(L, 0);
    lua_rawseti(L, -2, i);
  }
  return 3;
}

static int push_answer(lua_State *L, struct lua_node *node, const struct blame *blame, enum shape shape,
                       struct holt_buf bytes) {
  if (shape == SHAPE_NOTHING) {
    lua_pushboolean(L, 1);
    return 1;
  }
  struct holt_answer answer;
  int rc = holt_answer_read(&answer, bytes);
  if (rc != 0) return fail(L, node, blame, rc);
  if (answer.type == HOLT_ANSWER_ERROR) return fail(L, node, blame, answer.code);
  if (answer.type == HOLT_ANSWER_CONFLICT) {
    lua_pushboolean(L, 0);
    lua_pushinteger(L, (lua_Integer)answer.at + 1);
    return 2;
  }
  return shape == SHAPE_LIST ? push_list(L, &answer)
                             : push_write(L, blame->object, &answer, shape == SHAPE_IF);
}

static int l_outcome(lua_State *L);

/* nil, err, where err:outcome(timeout) asks again. Place 1 is what keeps object or node alive. */
static int fail_unknown(lua_State *L, struct lua_node *node, const struct blame *blame, enum shape shape,
                        uint64_t number) {
  int count = fail(L, node, blame, HOLT_EUNKNOWN);
  lua_pushvalue(L, 1);
  lua_pushboolean(L, blame->object != NULL);
  lua_pushinteger(L, shape);
  lua_pushinteger(L, (lua_Integer)number);
  lua_pushcclosure(L, l_outcome, 4);
  lua_setfield(L, -2, "outcome");
  return count;
}

/* The answer outlives the call, so that nothing is lost when Lua raises: in the node's buffer, which the next
 * answer takes; or, where a codec of Lua's may run meanwhile, as a text on the stack. */
static struct holt_buf take_answer(lua_State *L, struct cluster_call *call) {
  struct lua_node *node = call->node;
  if (call->object != NULL && call->object->value.decode_ref != LUA_NOREF) {
    size_t len = call->answer.len;
    return holt_buf(lua_pushlstring(L, len > 0 ? (const char *)call->answer.data : "", len), len);
  }
  struct holt_writer before = node->answer;
  node->answer = call->answer;
  call->answer = before;
  return holt_buf(node->answer.data, node->answer.len);
}

/* Place 1 of the stack is the box of the object, or the node's table. */
static int call_finish(lua_State *L, struct holt_wait *wait) {
  struct cluster_call *call = HOLT_CONTAINER(wait, struct cluster_call, wait);
  if (call->refusal != NULL) {
    struct holt_err refusal = *call->refusal;
    call_free(call);
    return holt_lua_fail(L, &refusal);
  }
  struct blame blame = {.what = call->what, .object = call->object};
  struct lua_node *node = call->node;
  int code = call->code;
  uint64_t number = call->number;
  enum shape shape = call->shape;
  struct holt_buf answer = take_answer(L, call);
  call_free(call); /* whose box at 1 keeps node and object */
  if (code == 0) return push_answer(L, node, &blame, shape, answer);
  if (code == HOLT_EUNKNOWN && number != 0) return fail_unknown(L, node, &blame, shape, number);
  return fail(L, node, &blame, code);
}

static void call_cancel(struct holt_wait *wait) {
  call_free(HOLT_CONTAINER(wait, struct cluster_call, wait));
}

static struct cluster_call *call_new(struct lua_node *node, struct lua_object *object, const char *what,
                                     enum shape shape) {
  struct cluster_call *call = holt_alloc(sizeof *call);
  call->node = holt__node_retain(node);
  call->object = object;
  if (object != NULL) object->refs++;
  call->what = what;
  call->shape = shape;
  call->request.cb = on_answer;
  call->request.arg = call;
  call->is_open = true;
  holt_list_init(&call->node_list);
  holt_list_push(&node->cluster_calls, &call->node_list);
  return call;
}

static int park(lua_State *L, struct cluster_call *call) {
  holt_wait_init(&call->wait, L, call_finish, call_cancel);
  return holt_wait_park(L, &call->wait);
}

/* nil, err, once other tasks have run. Place 1 is what keeps the node alive. */
static int refuse(lua_State *L, struct lua_node *node, const struct holt_err *err) {
  if (!holt_wait_is_possible(L)) return holt_lua_fail(L, err);
  holt_wait_check(L);
  struct cluster_call *call = call_new(node, NULL, "", SHAPE_NOTHING);
  call->is_open = false;
  holt_list_remove(&call->node_list); /* nobody else ends it */
  call->refusal = holt_alloc(sizeof *call->refusal);
  *call->refusal = *err;
  holt_wait_init(&call->wait, L, call_finish, call_cancel);
  holt_wait_wake(&call->wait);
  return holt_wait_park(L, &call->wait);
}

/* outcome(err, timeout): upvalues as fail_unknown pushes them */
static int l_outcome(lua_State *L) {
  uint64_t timeout_ms = lua_isnoneornil(L, 2) ? 5000 : holt_lua_check_seconds(L, 2);
  lua_settop(L, 0);
  lua_pushvalue(L, lua_upvalueindex(1)); /* to place 1, for call_finish */
  bool is_object = lua_toboolean(L, lua_upvalueindex(2));
  struct lua_object *object = is_object ? *(struct lua_object **)lua_touserdata(L, 1) : NULL;
  struct lua_node *node = is_object ? object->node : holt__node_of(L, 1);
  struct holt_err err;
  struct holt_cluster *cluster = holt__open_cluster(node, &err);
  if (cluster == NULL) return refuse(L, node, &err);
  holt_wait_check(L);
  struct cluster_call *call =
      call_new(node, object, "outcome", (enum shape)lua_tointeger(L, lua_upvalueindex(3)));
  holt_cluster_outcome(cluster, &call->request, (uint64_t)lua_tointeger(L, lua_upvalueindex(4)), timeout_ms);
  return park(L, call);
}

/* --- Writes -------------------------------------------------------------------------------------------- */

static int submit(lua_State *L, struct lua_node *node, struct lua_object *object, uint64_t timeout_ms,
                  enum shape shape) {
  struct holt_err err;
  struct holt_cluster *cluster = holt__open_cluster(node, &err);
  if (cluster == NULL) return refuse(L, node, &err);
  struct cluster_call *call = call_new(node, object, "this operation", shape);
  holt_cluster_submit(cluster, &call->request, holt_buf(node->command.data, node->command.len), timeout_ms);
  return park(L, call);
}

/* object_write(box, op, timeout, key, value, expected) -> true, old | false, found | nil, err */
static int l_object_write(lua_State *L) {
  struct lua_object *object = holt__check_object(L, 1);
  lua_Integer op = luaL_checkinteger(L, 2);
  luaL_argcheck(L, op > 0 && op < HOLT_OPS, 2, "not an operation");
  uint64_t timeout_ms = holt_lua_check_seconds(L, 3);
  lua_settop(L, 6);
  holt_wait_check(L);
  struct lua_node *node = object->node;
  struct holt_buf key = {0}, value = {0}, expected = {0};
  struct holt_err err;
  int rc = 0;
  bool has_key = op != HOLT_OP_PUSH && op != HOLT_OP_POP && op != HOLT_OP_CLEAR;
  bool has_value = op <= HOLT_OP_UPDATE_IF || op == HOLT_OP_PUSH;
  bool has_expected = op == HOLT_OP_UPDATE_IF || op == HOLT_OP_REMOVE_IF;
  if (has_key) rc = holt__key_bytes(L, object, 4, &node->parts[0], &key, &err);
  if (rc == 0 && has_value) rc = holt__value_bytes(L, object, 5, &node->parts[1], &value, &err);
  if (rc == 0 && has_expected) rc = holt__value_bytes(L, object, 6, &node->parts[2], &expected, &err);
  if (rc != 0) return holt_lua_fail(L, &err);
  if (object->is_closed && holt__object_find(object, &(struct holt_object *){NULL}, &err) != 0)
    return refuse(L, node, &err);
  struct holt_command command;
  node->command.len = 0;
  holt_command_begin(&command, &node->command, false);
  uint8_t number = holt_command_object(&command, object->kind, object->name, object->options);
  holt_command_op(&command, number, (uint8_t)op, key, value, expected);
  holt_command_end(&command);
  return submit(L, node, object, timeout_ms, has_expected ? SHAPE_IF : SHAPE_WRITE);
}

/* Bytes at `place` of the list at `index`; false or nil is none. They live as long as the list. */
static struct holt_buf list_bytes(lua_State *L, int index, lua_Integer place) {
  struct holt_buf bytes = {0};
  if (lua_rawgeti(L, index, place) == LUA_TSTRING)
    bytes.data = (const uint8_t *)lua_tolstring(L, -1, &bytes.len);
  lua_pop(L, 1);
  return bytes;
}

static lua_Integer list_integer(lua_State *L, int index, lua_Integer place) {
  lua_rawgeti(L, index, place);
  lua_Integer value = lua_tointeger(L, -1);
  lua_pop(L, 1);
  return value;
}

/* Whether all keys at every fifth place of the list at `index`, from the third on, may be keys; else in
 * words. */
static int check_keys(lua_State *L, int index, const struct lua_object *only, struct holt_err *err) {
  for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, index); i <= n; i += 5) {
    size_t len = list_bytes(L, index, i + 2).len;
    if (len > HOLT_KEY_MAX)
      return holt_err_set(err, HOLT_ETOOLARGE, "%s '%s': the key: it has %zu bytes, at most %d are allowed",
                          holt_kind_name(only->kind), only->name, len, HOLT_KEY_MAX);
  }
  return 0;
}

/* command(node, timeout, is_silent, boxes, conditions, operations) -> true, done, bytes | false, number of
 * the condition that failed | nil, err. Conditions: { place of the box, type, key, value, revision, … },
 * operations: { place of the box, op, key, value, expected, … }, all as bytes or false. */
static int l_command(lua_State *L) {
  struct lua_node *node = holt__node_of(L, 1);
  uint64_t timeout_ms = holt_lua_check_seconds(L, 2);
  bool is_silent = lua_toboolean(L, 3);
  for (int i = 4; i <= 6; i++) luaL_checktype(L, i, LUA_TTABLE);
  lua_settop(L, 6);
  holt_wait_check(L);
  lua_Integer boxes = (lua_Integer)lua_rawlen(L, 4);
  luaL_argcheck(L, boxes <= HOLT_COMMAND_OBJECTS_MAX, 4, "too many objects in one operation");
  luaL_argcheck(L, boxes > 0, 4, "an operation needs an object");
  struct holt_err err;
  for (lua_Integer i = boxes; i > 1; i--) {
    lua_rawgeti(L, 4, i);
    holt__check_object(L, -1);
    lua_pop(L, 1);
  }
  lua_rawgeti(L, 4, 1);
  struct lua_object *only = holt__check_object(L, -1);
  lua_pop(L, 1);
  if (check_keys(L, 5, only, &err) != 0 || check_keys(L, 6, only, &err) != 0) return holt_lua_fail(L, &err);
  struct holt_command command;
  node->command.len = 0;
  holt_command_begin(&command, &node->command, is_silent);
  for (lua_Integer i = 1; i <= boxes; i++) {
    lua_rawgeti(L, 4, i);
    struct lua_object *object = holt__check_object(L, -1);
    holt_command_object(&command, object->kind, object->name, object->options);
    lua_pop(L, 1);
  }
  for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, 5); i <= n; i += 5)
    holt_command_condition(&command, (uint8_t)(list_integer(L, 5, i) - 1), (uint8_t)list_integer(L, 5, i + 1),
                           list_bytes(L, 5, i + 2), list_bytes(L, 5, i + 3),
                           (uint64_t)list_integer(L, 5, i + 4));
  for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, 6); i <= n; i += 5)
    holt_command_op(&command, (uint8_t)(list_integer(L, 6, i) - 1), (uint8_t)list_integer(L, 6, i + 1),
                    list_bytes(L, 6, i + 2), list_bytes(L, 6, i + 3), list_bytes(L, 6, i + 4));
  holt_command_end(&command);
  if (boxes != 1) only = NULL;
  if (only != NULL) { /* messages name it */
    lua_rawgeti(L, 4, 1);
    lua_replace(L, 1);
  }
  return submit(L, node, only, timeout_ms, SHAPE_LIST);
}

/* --- Calls about no object ----------------------------------------------------------------------------- */

/* wait(node, what, timeout, name) -> true | nil, err: ready, barrier, leave, transfer (name or nil), remove,
 * applied */
static int l_cluster_wait(lua_State *L) {
  static const char *const names[] = {"ready", "barrier", "leave", "transfer", "remove", "applied", NULL};
  struct lua_node *node = holt__node_of(L, 1);
  int what = luaL_checkoption(L, 2, NULL, names);
  uint64_t timeout_ms = holt_lua_check_seconds(L, 3);
  const char *name = luaL_optstring(L, 4, NULL);
  struct holt_err err;
  struct holt_cluster *cluster = holt__open_cluster(node, &err);
  if (cluster == NULL) return refuse(L, node, &err);
  holt_wait_check(L);
  static const char *const subjects[] = {"ready",  "a linearizable read", "leave", "transfer", "remove",
                                         "applied"};
  struct cluster_call *call = call_new(node, NULL, subjects[what], SHAPE_NOTHING);
  switch (what) {
  case 0:
    holt_cluster_ready(cluster, &call->request, timeout_ms);
    break;
  case 1:
    holt_cluster_barrier(cluster, &call->request, timeout_ms);
    break;
  case 2:
    holt_cluster_leave(cluster, &call->request, timeout_ms);
    break;
  case 3:
    holt_cluster_transfer(cluster, &call->request, name, timeout_ms);
    break;
  case 5:
    holt_cluster_applied(cluster, &call->request, timeout_ms);
    break;
  default:
    holt_cluster_remove(cluster, &call->request, name, timeout_ms);
  }
  return park(L, call);
}

void holt__binding_commands(lua_State *L) {
  static const luaL_Reg functions[] = {{"object_write", l_object_write},
                                       {"command", l_command},
                                       {"cluster_wait", l_cluster_wait},
                                       {NULL, NULL}};
  lua_pushvalue(L, -2);
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, functions, 1);
  lua_pop(L, 1);
}
