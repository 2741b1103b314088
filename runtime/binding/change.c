/* change.c - what changed in shared objects, told to listeners in Lua.
 *
 * - Applying calls holt__on_change inside the loop: the items are held, the change is queued.
 * - Between turns holt__changes_run tells each in order to the function that object_watch was given, decoded;
 * a change that cannot be decoded becomes an error event.
 * - A snapshot that takes the place of the state: what was queued is told first, then "replaced" to each.
 * - At most object->changes_max changes and BYTES_MAX bytes wait for one handle. At the bound none is queued
 * any more, they are counted; once those that wait have been told, "resync" with that number, and so on as
 * before: who reads the state then has seen what was left out. */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "binding/object_impl.h"

#define BATCH     512        /* changes told between two turns of the loop */
#define BYTES_MAX (64 << 20) /* keys and values of changes that wait for one handle */

struct change {
  struct holt_list node;
  struct lua_object *object; /* counted */
  const char *type;
  struct holt_item *old, *now; /* held */
  size_t count;                /* entries of the object after it; "resync": changes left out */
  size_t bytes;
  uint64_t revision;
  bool is_last; /* of its operation, for this object */
};

static size_t size_of(const struct holt_item *item) {
  return item == NULL ? 0 : item->key_len + item->value_len;
}

static void queue_change(struct lua_object *object, const char *type, struct holt_item *old,
                         struct holt_item *now, size_t count, uint64_t revision) {
  struct change *change = holt_alloc(sizeof *change);
  object->refs++;
  change->object = object;
  change->type = type;
  change->old = old != NULL ? holt_item_hold(old) : NULL;
  change->now = now != NULL ? holt_item_hold(now) : NULL;
  change->count = count;
  change->revision = revision;
  change->bytes = size_of(old) + size_of(now);
  change->is_last = true;
  if (object->newest != NULL && object->newest->revision == revision) object->newest->is_last = false;
  object->newest = change;
  object->queued++;
  object->queued_bytes += change->bytes;
  holt_list_push(&object->node->changes, &change->node);
  holt_source_ready(object->node->script, &object->node->source);
}

static void push_change(struct lua_object *object, const char *type, struct holt_item *old,
                        struct holt_item *now, size_t count, uint64_t revision) {
  size_t bytes = size_of(old) + size_of(now);
  bool is_full = object->queued >= object->changes_max ||
                 (object->queued > 0 && object->queued_bytes + bytes > BYTES_MAX);
  if (object->missed > 0 || is_full)
    object->missed++;
  else
    queue_change(object, type, old, now, count, revision);
}

static void change_free(struct change *change) {
  struct lua_object *object = change->object;
  if (object->newest == change) object->newest = NULL;
  object->queued--;
  object->queued_bytes -= change->bytes;
  holt_item_drop(change->old);
  holt_item_drop(change->now);
  holt__object_release(change->object);
  free(change);
}

static const char *const types[] = {[HOLT_CHANGE_INSERT] = "insert",
                                    [HOLT_CHANGE_UPDATE] = "update",
                                    [HOLT_CHANGE_REMOVE] = "remove",
                                    [HOLT_CHANGE_CLEAR] = "clear"};

void holt__on_change(void *arg, struct holt_object *object, enum holt_change_type type, struct holt_item *old,
                     struct holt_item *now, uint64_t revision) {
  struct lua_node *node = arg;
  HOLT_LIST_EACH(&node->watching, at, next) {
    struct lua_object *watching = HOLT_CONTAINER(at, struct lua_object, watching);
    if (watching->kind == object->kind && strcmp(watching->name, object->name) == 0)
      push_change(watching, types[type], old, now, object->tree.count, revision);
  }
}

void holt__on_replaced(void *arg) {
  struct lua_node *node = arg;
  node->objects_epoch++;
  struct holt_cluster *cluster = node->node != NULL ? holt_node_cluster(node->node) : NULL;
  if (cluster == NULL) return; /* it is being made */
  struct holt_collections *collections = holt_cluster_collections(cluster);
  HOLT_LIST_EACH(&node->watching, at, next) {
    struct lua_object *watching = HOLT_CONTAINER(at, struct lua_object, watching);
    holt_collections_watch(collections, watching->name, true);
    push_change(watching, "replaced", NULL, NULL, 0, 0);
  }
}

/* --- Telling ------------------------------------------------------------------------------------------- */

static void raise(lua_State *L, const struct holt_err *err) {
  holt_lua_push_err(L, err);
  lua_error(L);
}

static void push_value(lua_State *L, const struct lua_object *object, const struct holt_item *item) {
  struct holt_err err;
  if (item == NULL)
    lua_pushnil(L);
  else if (holt__value_push(L, object, holt_item_value(item), &err) != 0)
    raise(L, &err);
}

/* f(self, type, key, old, new, count, bytes, is_last); an emitter's f(self, type, event, old, new, id,
 * bytes); "resync" has the number left out in the place of count or id */
static void tell(lua_State *L, void *arg) {
  const struct change *change = arg;
  const struct lua_object *object = change->object;
  const struct holt_item *item = change->now != NULL ? change->now : change->old;
  struct holt_err err;
  lua_settop(L, 0);
  lua_rawgeti(L, LUA_REGISTRYINDEX, object->watch_ref);
  lua_rawgeti(L, LUA_REGISTRYINDEX, object->self_ref);
  lua_pushstring(L, change->type);
  lua_pushnil(L); /* key */
  lua_pushnil(L); /* id */
  if (item != NULL && object->kind == HOLT_KIND_EMITTER) {
    lua_settop(L, 3);
    holt__subscription_push(L, holt_item_key(item));
  } else if (item != NULL && object->kind != HOLT_KIND_QUEUE) {
    lua_settop(L, 3);
    if (holt__key_push(L, object, holt_item_key(item), &err) != 0) raise(L, &err);
    lua_pushnil(L);
  }
  push_value(L, object, change->old);
  push_value(L, object, change->now);
  if (object->kind == HOLT_KIND_EMITTER) {
    lua_rotate(L, 5, -1); /* id behind old and new */
    if (item == NULL) {
      lua_pushinteger(L, (lua_Integer)change->count);
      lua_replace(L, 7);
    }
    lua_pushinteger(L, (lua_Integer)change->bytes);
    lua_call(L, 7, 0);
    return;
  }
  lua_remove(L, 5);
  lua_pushinteger(L, (lua_Integer)change->count);
  lua_pushinteger(L, (lua_Integer)change->bytes);
  lua_pushboolean(L, change->is_last);
  lua_call(L, 8, 0);
}

bool holt__changes_run(struct lua_node *node) {
  for (int i = 0; i < BATCH; i++) {
    struct holt_list *at = holt_list_shift(&node->changes);
    if (at == NULL) return false;
    struct change *change = HOLT_CONTAINER(at, struct change, node);
    struct holt_err err = {0};
    if (change->object->watch_ref != LUA_NOREF && holt_lua_call(node->script, tell, change, &err) != 0)
      holt_log(HOLT_LOG_ERROR, "%s '%s': telling of a change failed: %s",
               holt_kind_name(change->object->kind), change->object->name, err.message);
    struct lua_object *object = change->object;
    if (object->queued == 1 && object->missed > 0) { /* this was the last of those that wait */
      queue_change(object, "resync", NULL, NULL, object->missed, 0);
      object->missed = 0;
    }
    change_free(change);
  }
  return !holt_list_is_empty(&node->changes);
}

void holt__changes_drop(struct lua_node *node) {
  struct holt_list *at;
  while ((at = holt_list_shift(&node->changes)) != NULL) change_free(HOLT_CONTAINER(at, struct change, node));
}
