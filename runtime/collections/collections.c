/* collections.c - the objects, what applying does to them, and the hash over it all. */
#include "collections/collections.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/rand.h"
#include "collections/machine.h"

static const char *const KIND_NAMES[HOLT_KINDS] = {NULL, "map", "queue", "record", "emitter"};

const char *holt_kind_name(uint8_t kind) {
  return kind < HOLT_KINDS ? KIND_NAMES[kind] : NULL;
}

/* --- Life ---------------------------------------------------------------------------------------------- */

struct holt_collections *holt_collections_new(void) {
  return holt_alloc(sizeof(struct holt_collections));
}

static void object_free(struct holt_object *object) {
  free((void *)(uintptr_t)object->options.data);
  free(object);
}

bool holt_collections_free_some(struct holt_collections *c) {
  if (holt_grave_dig(&c->grave, DIG_NODES)) return true;
  for (int left = DIG_OBJECTS; left > 0 && c->count > 0; left--) {
    struct holt_object *object = c->objects[--c->count];
    holt_tree_bury(&object->tree, &c->grave);
    object_free(object);
  }
  if (c->count > 0 || c->grave.count > 0) return true;
  free(c->objects);
  free(c->watches);
  holt_map_free(&c->by_name);
  holt_grave_free(&c->grave);
  free(c);
  return false;
}

void holt_collections_free(struct holt_collections *c) {
  while (c && holt_collections_free_some(c)) continue;
}

bool holt_collections_tidy(struct holt_collections *c) {
  return holt_grave_dig(&c->grave, DIG_NODES);
}

void holt_collections_on_change(struct holt_collections *c, holt_change_cb cb, void *arg) {
  c->on_change = cb;
  c->arg = arg;
}

static uint32_t take_watch(struct holt_collections *c, const char *name);

/* --- Objects ------------------------------------------------------------------------------------------- */

static uint64_t name_hash(const char *name, uint64_t try) {
  return holt_hash_bytes(try, name, strlen(name));
}

/* Names of equal hash lie under the next try's hash. */
struct holt_object *holt_collections_find(struct holt_collections *c, const char *name) {
  struct holt_object *object;
  for (uint64_t try = 1; (object = holt_map_get(&c->by_name, name_hash(name, try))) != NULL; try++)
    if (strcmp(object->name, name) == 0) return object;
  return NULL;
}

struct holt_object *holt__object_new(struct holt_collections *c, uint8_t kind, const char *name,
                                     struct holt_buf options) {
  struct holt_object *object = holt_alloc(sizeof *object);
  HOLT_ASSERT(strlen(name) < sizeof object->name);
  memcpy(object->name, name, strlen(name) + 1);
  object->kind = kind;
  object->number = (uint32_t)c->count;
  uint8_t *copy = holt_alloc(options.len + 1);
  if (options.len > 0) memcpy(copy, options.data, options.len);
  object->options = holt_buf(copy, options.len);
  object->identity =
      holt_hash_bytes(holt_hash_u64(kind + ((uint64_t)object->number << 8)), name, strlen(name));
  object->identity = holt_hash_bytes(object->identity, options.data, options.len);
  if (c->count == c->cap) {
    c->cap = c->cap ? 2 * c->cap : 16;
    c->objects = holt_realloc(c->objects, c->cap * sizeof(struct holt_object *));
  }
  c->objects[c->count++] = object;
  uint64_t try = 1;
  while (holt_map_get(&c->by_name, name_hash(name, try))) try++;
  holt_map_set(&c->by_name, name_hash(name, try), object);
  object->watchers = take_watch(c, name);
  c->hash += holt__object_hash(object);
  return object;
}

struct holt_object *holt_collections_at(struct holt_collections *c, size_t number) {
  return number < c->count ? c->objects[number] : NULL;
}

size_t holt_collections_count(const struct holt_collections *c) {
  return c->count;
}

struct holt_item *holt_object_peek(const struct holt_object *object) {
  return holt_tree_first(&object->tree);
}

/* --- Watching ------------------------------------------------------------------------------------------ */

/* The record of somebody who waits for an object of this name to come to be; or where a new one goes. */
static struct holt__watch *find_watch(struct holt_collections *c, const char *name) {
  for (size_t i = 0; i < c->watch_count; i++)
    if (strcmp(c->watches[i].name, name) == 0) return &c->watches[i];
  return NULL;
}

static uint32_t take_watch(struct holt_collections *c, const char *name) {
  struct holt__watch *watch = find_watch(c, name);
  if (!watch) return 0;
  uint32_t count = watch->count;
  *watch = c->watches[--c->watch_count];
  return count;
}

void holt_collections_watch(struct holt_collections *c, const char *name, bool is_wanted) {
  HOLT_ASSERT(strlen(name) < sizeof c->watches->name);
  struct holt_object *object = holt_collections_find(c, name);
  struct holt__watch *watch = object ? NULL : find_watch(c, name);
  if (!object && !watch) {
    if (!is_wanted) return;
    c->watches = holt_realloc(c->watches, (c->watch_count + 1) * sizeof *c->watches);
    watch = &c->watches[c->watch_count++];
    memcpy(watch->name, name, strlen(name) + 1);
    watch->count = 0;
  }
  uint32_t *count = object ? &object->watchers : &watch->count;
  if (is_wanted)
    ++*count;
  else if (*count > 0)
    --*count;
  if (watch && watch->count == 0) take_watch(c, name);
}

/* --- Hash ---------------------------------------------------------------------------------------------- */

uint64_t holt__item_hash(const struct holt_object *object, const struct holt_item *item) {
  uint64_t seed = holt_hash_u64(item->revision ^ holt_hash_u64(object->number + 1));
  seed = holt_hash_u64(seed ^ item->key_len);
  return holt_hash_bytes(seed, item->bytes, item->key_len + item->value_len);
}

uint64_t holt__object_hash(const struct holt_object *object) {
  uint64_t hash = object->identity + object->items_hash;
  uint64_t numbers[] = {object->revision, object->head, object->tail};
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
    hash = holt_hash_u64(hash ^ holt_hash_u64(numbers[i] + i));
  return hash;
}

uint64_t holt_collections_hash(const struct holt_collections *c) {
  return c->hash;
}

/* --- Changing ------------------------------------------------------------------------------------------ */

/* One command being applied. */
struct run {
  struct holt_collections *c;
  uint64_t revision;
  bool is_silent;
  struct holt_writer *answer;
  struct holt_object *objects[HOLT_COMMAND_OBJECTS_MAX];
};

void holt__position_key(uint8_t out[8], uint64_t position) {
  for (int i = 0; i < 8; i++) out[i] = (uint8_t)(position >> (56 - 8 * i));
}

static void tell(struct run *run, struct holt_object *object, enum holt_change_type type,
                 struct holt_item *old, struct holt_item *now) {
  struct holt_collections *c = run->c;
  if (c->on_change && object->watchers > 0 && !run->is_silent)
    c->on_change(c->arg, object, type, old, now, run->revision);
}

/* Every change of an object lies between these two, so that the hash follows it. */
static void open(struct run *run, struct holt_object *object) {
  run->c->hash -= holt__object_hash(object);
}

static void shut(struct run *run, struct holt_object *object) {
  object->revision = run->revision;
  run->c->hash += holt__object_hash(object);
}

static void put(struct run *run, struct holt_object *object, struct holt_buf key, struct holt_buf value) {
  struct holt_item *now = holt_item_new(key, value, run->revision);
  open(run, object);
  object->items_hash += holt__item_hash(object, now);
  struct holt_item *old = holt_tree_put(&object->tree, now);
  if (old) object->items_hash -= holt__item_hash(object, old);
  shut(run, object);
  tell(run, object, old ? HOLT_CHANGE_UPDATE : HOLT_CHANGE_INSERT, old, now);
  holt_item_drop(old);
}

static void take(struct run *run, struct holt_object *object, struct holt_buf key) {
  open(run, object);
  struct holt_item *old = holt_tree_remove(&object->tree, key);
  HOLT_ASSERT(old);
  object->items_hash -= holt__item_hash(object, old);
  shut(run, object);
  tell(run, object, HOLT_CHANGE_REMOVE, old, NULL);
  holt_item_drop(old);
}

static void clear(struct run *run, struct holt_object *object) {
  open(run, object);
  object->items_hash = 0;
  holt_tree_bury(&object->tree, &run->c->grave);
  object->head = object->tail;
  shut(run, object);
  tell(run, object, HOLT_CHANGE_CLEAR, NULL, NULL);
}

static void withdraw(struct run *run, struct holt_object *object, const uint8_t member[8]) {
  struct holt_tree before = holt_tree_share(&object->tree);
  struct holt_cursor cursor;
  holt_cursor_seek(&cursor, &before, holt_buf(NULL, 0));
  for (struct holt_item *item; (item = holt_cursor_next(&cursor)) != NULL;)
    if (memcmp(item->bytes + item->key_len - 8, member, 8) == 0) take(run, object, holt_item_key(item));
  holt_tree_clear(&before);
}

void holt_collections_member_left(struct holt_collections *c, uint64_t revision, uint64_t member) {
  struct run run = {.c = c, .revision = revision};
  uint8_t id[8];
  holt__position_key(id, member);
  for (size_t i = 0; i < c->count; i++)
    if (c->objects[i]->kind == HOLT_KIND_EMITTER) withdraw(&run, c->objects[i], id);
}

/* --- Operations ---------------------------------------------------------------------------------------- */

static bool is_equal(const struct holt_item *item, struct holt_buf value) {
  return item->value_len == value.len &&
         (value.len == 0 || memcmp(holt_item_value(item).data, value.data, value.len) == 0);
}

static void answer_op(struct run *run, bool is_done, const struct holt_item *item) {
  holt_write_u8(run->answer, (uint8_t)((is_done ? 1 : 0) | (item ? 2 : 0)));
  if (!item) return;
  holt_write_u64(run->answer, item->revision);
  holt_write_u32(run->answer, item->value_len);
  holt_write_bytes(run->answer, holt_item_value(item).data, item->value_len);
}

/* Operations on a key: whether it is done depends on what is there. */
static void run_keyed(struct run *run, struct holt_object *object, const struct holt__op *op) {
  struct holt_item *there = holt_tree_get(&object->tree, op->key);
  bool is_done = true;
  switch (op->op) {
  case HOLT_OP_INSERT:
    is_done = there == NULL;
    break;
  case HOLT_OP_UPDATE:
  case HOLT_OP_REMOVE:
    is_done = there != NULL;
    break;
  case HOLT_OP_UPDATE_IF:
  case HOLT_OP_REMOVE_IF:
    is_done = there && is_equal(there, op->expected);
    break;
  default:
    break;
  }
  answer_op(run, is_done, there);
  if (!is_done) return;
  if (op->op == HOLT_OP_REMOVE || op->op == HOLT_OP_REMOVE_IF)
    take(run, object, op->key);
  else
    put(run, object, op->key, op->value);
}

static void run_push(struct run *run, struct holt_object *object, struct holt_buf value) {
  uint8_t key[8];
  open(run, object);
  holt__position_key(key, object->tail++);
  run->c->hash += holt__object_hash(object);
  put(run, object, holt_buf(key, 8), value);
  answer_op(run, true, NULL);
}

static void run_pop(struct run *run, struct holt_object *object) {
  struct holt_item *first = holt_tree_first(&object->tree);
  answer_op(run, first != NULL, first);
  if (!first) return;
  uint8_t key[8];
  memcpy(key, first->bytes, 8);
  open(run, object);
  object->head++;
  run->c->hash += holt__object_hash(object);
  take(run, object, holt_buf(key, 8));
}

static void run_op(struct run *run, const struct holt__op *op) {
  struct holt_object *object = run->objects[op->object];
  switch (op->op) {
  case HOLT_OP_CLEAR:
    clear(run, object);
    answer_op(run, true, NULL);
    break;
  case HOLT_OP_PUSH:
    run_push(run, object, op->value);
    break;
  case HOLT_OP_POP:
    run_pop(run, object);
    break;
  case HOLT_OP_WITHDRAW:
    withdraw(run, object, op->key.data);
    answer_op(run, true, NULL);
    break;
  default:
    run_keyed(run, object, op);
  }
}

/* --- Conditions ---------------------------------------------------------------------------------------- */

static bool holds(const struct run *run, const struct holt__condition *condition) {
  const struct holt_object *object = run->objects[condition->object];
  if (condition->type == HOLT_IF_UNCHANGED) return (object ? object->revision : 0) == condition->revision;
  const struct holt_item *item = object ? holt_tree_get(&object->tree, condition->key) : NULL;
  switch (condition->type) {
  case HOLT_IF_ABSENT:
    return item == NULL;
  case HOLT_IF_EQUAL:
    return item && is_equal(item, condition->value);
  default:
    return item && item->revision == condition->revision;
  }
}

/* --- Applying ------------------------------------------------------------------------------------------ */

static void answer_error(struct run *run, int code, uint32_t at) {
  holt_write_u8(run->answer, HOLT_ANSWER_ERROR);
  holt_write_u8(run->answer, (uint8_t)-code);
  holt_write_u32(run->answer, at);
}

static void name_of(const struct holt__command_object *object, char name[256]) {
  memcpy(name, object->name.data, object->name.len);
  name[object->name.len] = 0;
}

/* Find the command's objects; those that do not exist stay NULL. 0, or what is wrong with number *at. */
static int resolve(struct run *run, const struct holt__command_view *view, uint32_t *at) {
  for (*at = 0; *at < view->object_count; ++*at) {
    const struct holt__command_object *wanted = &view->objects[*at];
    char name[256];
    name_of(wanted, name);
    struct holt_object *object = run->objects[*at] = holt_collections_find(run->c, name);
    if (!object) continue;
    if (object->kind != wanted->kind) return HOLT_EWRONGKIND;
    bool is_same = object->options.len == wanted->options.len &&
                   (wanted->options.len == 0 ||
                    memcmp(object->options.data, wanted->options.data, wanted->options.len) == 0);
    if (wanted->options.len > 0 && !is_same) return HOLT_EOPTIONS; /* who names none agrees to all */
  }
  return 0;
}

static void create_missing(struct run *run, const struct holt__command_view *view) {
  for (uint32_t i = 0; i < view->object_count; i++) {
    char name[256];
    name_of(&view->objects[i], name);
    if (!run->objects[i]) run->objects[i] = holt_collections_find(run->c, name); /* named twice */
    if (run->objects[i]) continue;
    struct holt_object *object = run->objects[i] =
        holt__object_new(run->c, view->objects[i].kind, name, view->objects[i].options);
    open(run, object);
    shut(run, object);
  }
}

/* One name twice in a command must mean one kind. */
static bool is_consistent(const struct holt__command_view *view) {
  for (uint32_t i = 0; i < view->object_count; i++)
    for (uint32_t j = 0; j < i; j++) {
      const struct holt__command_object *a = &view->objects[i], *b = &view->objects[j];
      if (a->name.len == b->name.len && memcmp(a->name.data, b->name.data, a->name.len) == 0) return false;
    }
  return true;
}

void holt_collections_apply(struct holt_collections *c, uint64_t revision, struct holt_buf command,
                            struct holt_writer *answer) {
  struct holt__command_view view;
  struct run run = {.c = c, .revision = revision, .answer = answer};
  uint32_t at = 0;
  int rc = holt__command_view(&view, command);
  if (rc == 0 && !is_consistent(&view)) rc = HOLT_EINVAL;
  if (rc == 0) rc = resolve(&run, &view, &at);
  if (rc != 0) {
    answer_error(&run, rc, at);
    return;
  }
  for (uint32_t i = 0; i < view.condition_count; i++) {
    struct holt__condition condition;
    holt__condition_next(&view, &condition);
    if (holds(&run, &condition)) continue;
    holt_write_u8(answer, HOLT_ANSWER_CONFLICT);
    holt_write_u32(answer, i);
    return;
  }
  create_missing(&run, &view);
  run.is_silent = view.is_silent;
  holt__ops_begin(&view);
  holt_write_u8(answer, HOLT_ANSWER_DONE);
  holt_write_u32(answer, view.op_count);
  for (uint32_t i = 0; i < view.op_count; i++) {
    struct holt__op op;
    holt__op_next(&view, &op);
    run_op(&run, &op);
  }
}
