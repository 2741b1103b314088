/* node_impl.h - a node and its subscriptions as Lua sees them; for the files that make up its binding
 * only.
 *
 * What the node tells arrives in callbacks of the env and is queued here; the scheduler calls lua_node's
 * source between turns, which runs handlers. Memory: a lua_node is counted by its userdata, its
 * subscriptions, and by emits that wait; a lua_sub by the node's list, by deliveries in the queue and by
 * handlers that run. */
#ifndef HOLT_BINDING_NODE_IMPL_H
#define HOLT_BINDING_NODE_IMPL_H

#include "node/node.h"
#include "script/codec.h"
#include "script/script.h"

struct lua_sub;

struct delivery {
  struct lua_sub *sub;
  struct holt_event *event;
};

/* A growing ring. */
struct delivery_queue {
  struct delivery *items;
  size_t cap, first, count;
};

struct subject_rule { /* which codec the events of a subject get */
  char *pattern;
  size_t len;
  uint8_t codec;
};

/* A subject that was found good, and its codec; the others of its slot are looked at again. */
struct known_subject {
  uint8_t len; /* 0: none */
  uint8_t codec;
  char text[62];
};
#define HOLT_KNOWN_SUBJECTS 16 /* power of two */

struct lua_node {
  struct holt_script *script;
  struct holt_node *node; /* NULL once closed for good */
  struct holt_script_source source;
  unsigned refs;
  bool is_closed;   /* the node has told on_closed */
  bool is_tcp;      /* addresses are host:port, and looked at before they are dialled */
  bool wants_acks;  /* somebody listens to `acknowledge` */
  int self_ref;     /* the node's Lua table, anchored while the node is open */
  const void *self; /* that table's address, NULL once it is not anchored any more */
  int dispatch_ref; /* the Lua function that takes notices */
  struct delivery_queue queue;
  struct holt_list lanes;   /* lanes whose next event may run */
  struct holt_list notices; /* struct notice */
  struct holt_list subs;
  struct holt_list emits;               /* emits that wait for room */
  struct holt_list serves;              /* struct lua_serve */
  struct holt_list requests;            /* struct serving: requests whose handler may begin */
  struct holt_list calls;               /* calls that wait for their answer */
  struct holt_list cluster_calls;       /* operations and reads that wait for the cluster */
  struct holt_list journals;            /* struct lua_journal, open */
  struct holt_list watching;            /* struct lua_object with listeners */
  struct holt_list changes;             /* struct change: what they are to be told */
  unsigned objects_epoch;               /* how often a snapshot took the place of the state */
  bool wants_commits;                   /* somebody listens to `commit` */
  struct holt_writer answer;            /* of the operation that ended last */
  struct holt_writer parts[3], command; /* scratch: key, value, expected value; the command */
  unsigned burst_events;                /* emitted since the loop last had its turn */
  size_t burst_bytes;
  struct holt_list closes; /* calls that wait for the end */
  struct holt_writer writer;
  uint8_t codec; /* of events without a rule */
  struct subject_rule *rules;
  size_t rule_count;
  struct known_subject known[HOLT_KNOWN_SUBJECTS]; /* forgotten when the rules change */
  int encode_refs[256], decode_refs[256];          /* Lua functions by codec id; LUA_NOREF */
};

/* What one origin's events wait behind, while handlers of that origin are parked. */
struct lane {
  struct holt_list of_sub;
  struct holt_list runnable; /* in lua_node's `lanes`, or alone */
  struct lua_sub *sub;
  uint64_t boot;
  unsigned active;
  struct delivery_queue waiting;
};

struct lua_sub {
  struct holt_list node_list;
  struct lua_node *node;
  struct holt_sub *sub; /* NULL when off */
  unsigned refs;
  int ref; /* the handler */
  bool is_once;
  unsigned concurrency; /* 0: no limit */
  struct holt_list lanes;
  size_t pattern_len;
  char pattern[HOLT_SUBJECT_MAX + 1];
};

struct lua_node *holt__check_node(lua_State *L, int index);
struct lua_node *holt__node_of(lua_State *L, int index); /* the same, from any function */
struct lua_node *holt__node_retain(struct lua_node *node);
void holt__node_release(struct lua_node *node);

/* delivery.c */
void holt__queue_push(struct delivery_queue *queue, struct delivery delivery);
struct delivery holt__queue_shift(struct delivery_queue *queue); /* which is not empty */
void holt__queue_free(struct delivery_queue *queue);
void holt__sub_release(struct lua_sub *sub);
struct lane *holt__lane_find(struct lua_sub *sub, uint64_t boot); /* or NULL */
void holt__lane_free(struct lane *lane);

/* values.c */
struct holt__origin { /* for messages: "event 'a.b' from 'n1'" */
  const char *kind, *subject, *node;
};
/* The codec of what is sent under a subject. */
uint8_t holt__codec_of(const struct lua_node *node, struct holt_buf subject);
/* The same, for bytes that may be no subject: holt_subject_check's code and `err` then. */
int holt__subject_codec(struct lua_node *node, struct holt_buf subject, uint8_t *codec, struct holt_err *err);
bool holt__codec_is_known(const struct lua_node *node, uint8_t codec);
/* The bytes of the values from stack place `first` on; they stay valid until Lua runs again. 0 or a code with
 * `err`; a codec written in Lua leaves nil and its own error table at `first` and gives 1. Raises for misuse
 * of raw, at the line `level` calls out, the message beginning with `what`. */
int holt__values_encode(lua_State *L, struct lua_node *node, uint8_t codec, int first, const char *what,
                        int level, struct holt_buf *out, struct holt_err *err);
/* Push the values of `bytes`, return their number; raises an error table when they cannot be read. */
int holt__values_push(lua_State *L, const struct lua_node *node, uint8_t codec, struct holt_buf bytes,
                      const struct holt__origin *from);

/* serve.c */
int holt__l_serve(lua_State *L);
int holt__l_unserve(lua_State *L);
bool holt__requests_run(struct lua_node *node); /* true: more is left */
bool holt__request_event(lua_State *L, const struct holt_task *task);
void holt__serves_close(struct lua_node *node);

/* call.c */
int holt__l_call(lua_State *L);
int holt__l_call_patiently(lua_State *L);
int holt__l_frame_max(lua_State *L);
void holt__calls_shut(struct lua_node *node);

/* dispatch.c */
int holt__l_on(lua_State *L);
int holt__l_once(lua_State *L);
int holt__l_off(lua_State *L);
int holt__l_event(lua_State *L);
bool holt__dispatch(struct lua_node *node); /* true: more is left */
void holt__subs_close(struct lua_node *node);

/* emit.c */
int holt__l_emit(lua_State *L);
void holt__emits_close(struct lua_node *node);

/* change.c */
void holt__on_change(void *arg, struct holt_object *object, enum holt_change_type type, struct holt_item *old,
                     struct holt_item *now, uint64_t revision);
void holt__on_replaced(void *arg);
bool holt__changes_run(struct lua_node *node); /* true: more is left */
void holt__changes_drop(struct lua_node *node);

/* command.c */
void holt__cluster_calls_shut(struct lua_node *node);

/* cluster.c */
/* The cluster's settings from the field `cluster` of the table at 1, if it is there. Texts stay on the stack.
 * May raise. */
void holt__cluster_config(lua_State *L, struct holt_node_config *config);
void holt__binding_cluster(lua_State *L); /* with the metatable of nodes on top, which stays */

/* journal.c */
/* The journal has entries behind those that were told: who waits for them looks again. */
void holt__journals_told(struct lua_node *node, const struct holt_journal *about);
void holt__journals_shut(struct lua_node *node);

/* notice.c */
extern const struct holt_node_ops holt__node_ops;
void holt__notices_run(struct lua_node *node);
void holt__notices_drop(struct lua_node *node);

#endif /* HOLT_BINDING_NODE_IMPL_H */
