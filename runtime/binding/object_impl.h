/* object_impl.h - shared objects as Lua holds them; for the files of the cluster's binding only.
 *
 * A handle is a box with one lua_object: which object it means and how its keys and values become bytes. It
 * is counted by its box, by calls under way and by changes in the queue. The object itself may not exist yet,
 * and is looked up anew after a snapshot took the place of the state. */
#ifndef HOLT_BINDING_OBJECT_IMPL_H
#define HOLT_BINDING_OBJECT_IMPL_H

#include "binding/node_impl.h"

/* How one side of an entry becomes bytes: a codec we bring, or two functions of Lua's (registry references)
 * of the shape encode(value) -> bytes | nil, err and decode(bytes) -> true, value | nil, err. */
struct object_codec {
  uint8_t id;
  int encode_ref, decode_ref; /* LUA_NOREF: raw or msgpack, by id */
};

struct change; /* change.c */

struct lua_object {
  struct lua_node *node; /* counted */
  unsigned refs;
  uint8_t kind;
  bool is_closed;
  struct object_codec key, value;
  struct holt_buf options;   /* ours: what all members must agree on */
  struct holt_list watching; /* in lua_node's list while somebody listens */
  int watch_ref, self_ref;   /* the Lua function that is told of changes, and its first argument */
  size_t queued, queued_bytes, changes_max; /* changes that wait to be told, see change.c */
  size_t missed;                            /* left out, to be told by "resync" */
  struct change *newest;                    /* the one queued last, while it waits */
  struct holt_object *found;                /* NULL: not there when looked for last */
  unsigned epoch;                           /* of lua_node's `objects_epoch`, when it was found */
  char name[256];
};

/* The cluster of an open node; NULL with a sentence (`err` may be NULL) when it is closed or in none. */
struct holt_cluster *holt__open_cluster(const struct lua_node *node, struct holt_err *err);

/* object.c */
struct lua_object *holt__check_object(lua_State *L, int index);
void holt__object_release(struct lua_object *object);
/* 0 and the object, NULL while it does not exist; HOLT_ECLOSED, HOLT_EWRONGKIND, HOLT_EOPTIONS with a
 * sentence. */
int holt__object_find(struct lua_object *object, struct holt_object **out, struct holt_err *err);
/* Fill `err` with what stands against this object: code HOLT_EWRONGKIND or HOLT_EOPTIONS. */
int holt__object_blame(const struct lua_object *object, int code, struct holt_err *err);
/* The bytes of the key or value at stack place `index`, valid until `scratch` or the stack changes. 0, or a
 * code with a sentence. */
int holt__key_bytes(lua_State *L, const struct lua_object *object, int index, struct holt_writer *scratch,
                    struct holt_buf *out, struct holt_err *err);
int holt__value_bytes(lua_State *L, const struct lua_object *object, int index, struct holt_writer *scratch,
                      struct holt_buf *out, struct holt_err *err);
/* Push the one value of `bytes`, or push nothing: a code with a sentence. */
int holt__key_push(lua_State *L, const struct lua_object *object, struct holt_buf bytes,
                   struct holt_err *err);
int holt__value_push(lua_State *L, const struct lua_object *object, struct holt_buf bytes,
                     struct holt_err *err);
/* look.c. The parts of an emitter's key: pushes the event's name, then the member's id. */
void holt__subscription_push(lua_State *L, struct holt_buf key);

/* look.c, command.c: add their functions to the table below the metatable of boxes, which is on top and
 * stays.
 */
void holt__binding_look(lua_State *L);
void holt__binding_commands(lua_State *L);
/* Calls under way about this object end with HOLT_ECLOSED. */
void holt__object_calls_shut(struct lua_object *object);

#endif /* HOLT_BINDING_OBJECT_IMPL_H */
