/* machine.h - what the files of collections/ share: the state behind collections.h. */
#ifndef HOLT_COLLECTIONS_MACHINE_H
#define HOLT_COLLECTIONS_MACHINE_H

#include "base/map.h"
#include "collections/collections.h"

enum { DIG_NODES = 256, DIG_OBJECTS = 64 }; /* one piece of freeing */

/* Who waits for an object that does not exist yet. */
struct holt__watch {
  char name[256];
  uint32_t count;
};

struct holt_collections {
  struct holt_object **objects; /* in order of creation; the number is the place */
  size_t count, cap;
  struct holt_map by_name; /* hash of the name -> first object of that hash + 1, see same_hash */
  uint64_t hash;           /* sum over all items and objects: order does not matter */
  struct holt_grave grave;
  struct holt__watch *watches;
  size_t watch_count;
  holt_change_cb on_change;
  void *arg;
};

/* A new, empty object at the end of the list. `options` are copied. */
struct holt_object *holt__object_new(struct holt_collections *c, uint8_t kind, const char *name,
                                     struct holt_buf options);
/* What one item adds to its object's items_hash; what the object adds to the state's hash. */
uint64_t holt__item_hash(const struct holt_object *object, const struct holt_item *item);
uint64_t holt__object_hash(const struct holt_object *object);

void holt__position_key(uint8_t out[8], uint64_t position);

/* --- Reading a command --------------------------------------------------------------------------------- */

struct holt__command_object {
  uint8_t kind;
  struct holt_buf name, options;
};

struct holt__condition {
  uint8_t object, type;
  uint64_t revision;
  struct holt_buf key, value;
};

struct holt__op {
  uint8_t object, op;
  struct holt_buf key, value, expected;
};

/* A command taken apart; conditions and operations are read one by one, in order. */
struct holt__command_view {
  bool is_silent;
  uint32_t object_count, condition_count, op_count;
  struct holt__command_object objects[HOLT_COMMAND_OBJECTS_MAX];
  struct holt_reader rest; /* stands before the next condition, then before the next operation */
};

/* HOLT_EINVAL: not a command. Conditions and operations are looked through as well, so that reading them
 * afterwards cannot fail. */
int holt__command_view(struct holt__command_view *view, struct holt_buf bytes);
void holt__condition_next(struct holt__command_view *view, struct holt__condition *condition);
/* The number of operations, once the conditions are read. */
void holt__ops_begin(struct holt__command_view *view);
void holt__op_next(struct holt__command_view *view, struct holt__op *op);

#endif /* HOLT_COLLECTIONS_MACHINE_H */
