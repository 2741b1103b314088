/* collections.h - maps, queues, records and subscriptions as one deterministic machine.
 *
 * Every member applies the same commands in the same order and holds the same objects: commands go in as
 * bytes, answers come out as bytes, nothing else is looked at; no clock, no chance, no order of a hash table.
 * Values are bytes that the machine only compares. An object comes to be with the first command that names
 * it. Each of its entries carries the revision (log index) that last touched it.
 *
 * A snapshot is frozen in an instant and written out in pieces, a restore takes pieces and proves itself by
 * the state's hash. Memory running out ends the process: commands are bounded before they are proposed. */
#ifndef HOLT_COLLECTIONS_COLLECTIONS_H
#define HOLT_COLLECTIONS_COLLECTIONS_H

#include "base/buf.h"
#include "base/err.h"
#include "collections/tree.h"

struct holt_collections;

enum holt_kind { HOLT_KIND_MAP = 1, HOLT_KIND_QUEUE, HOLT_KIND_RECORD, HOLT_KIND_EMITTER, HOLT_KINDS };

/* "map", "queue" …; NULL for a number that is none. */
const char *holt_kind_name(uint8_t kind);

/* One shared object. Owned by the machine, lives as long as it. */
struct holt_object {
  char name[256];
  uint8_t kind;            /* enum holt_kind */
  uint32_t number;         /* in order of creation, from 0 */
  uint64_t revision;       /* of the last change */
  struct holt_buf options; /* what all members must agree on: codecs and the like; opaque */
  /* Map, record: key to value. Queue: position (eight bytes, big-endian) to item. Emitter: the event's name,
   * a zero byte, the member's id (eight bytes, big-endian) to its metadata. */
  struct holt_tree tree;
  uint64_t head, tail;           /* queue: the next position to pop and to push */
  uint64_t identity, items_hash; /* the machine's own: parts of the state's hash */
  uint32_t watchers;             /* how many want its changes told: see holt_collections_on_change */
};

struct holt_collections *holt_collections_new(void);
/* With millions of entries that takes long: see holt_collections_free_some. */
void holt_collections_free(struct holt_collections *c);
/* Free a bounded piece of it (about 256 nodes of its trees). False: all of it is gone, `c` too. Once begun,
 * `c` is good for nothing else. */
bool holt_collections_free_some(struct holt_collections *c);

/* --- Commands ------------------------------------------------------------------------------------------ */

enum holt_op {
  HOLT_OP_SET = 1,   /* key value         -> DONE, what was there */
  HOLT_OP_INSERT,    /* key value         -> DONE, or REFUSED and what is there */
  HOLT_OP_UPDATE,    /* key value         -> DONE and what was there, or REFUSED when nothing is */
  HOLT_OP_UPDATE_IF, /* key value expected -> DONE, or REFUSED and what is there */
  HOLT_OP_REMOVE,    /* key               -> DONE and what was there, or REFUSED */
  HOLT_OP_REMOVE_IF, /* key expected      -> DONE, or REFUSED and what is there */
  HOLT_OP_CLEAR,     /*                   -> DONE */
  HOLT_OP_PUSH,      /* value             -> DONE */
  HOLT_OP_POP,       /*                   -> DONE and the item, or REFUSED when empty */
  HOLT_OP_WITHDRAW,  /* key: a member's id, eight bytes big-endian -> DONE; all its subscriptions go */
  HOLT_OPS
};

enum holt_condition {
  HOLT_IF_ABSENT = 1, /* key */
  HOLT_IF_EQUAL,      /* key value */
  HOLT_IF_REVISION,   /* key revision: there, and not touched since */
  HOLT_IF_UNCHANGED,  /* revision: the whole object has not been touched since; 0: it does not exist */
  HOLT_CONDITIONS
};

enum { HOLT_COMMAND_OBJECTS_MAX = 255, HOLT_KEY_MAX = 65535 };

/* Written in this order: begin, objects, conditions, operations, end. All holds or nothing is done: when a
 * condition fails no operation runs. */
struct holt_command {
  struct holt_writer *out;
  size_t conditions_at, ops_at; /* where the counts stand */
  uint32_t objects, conditions, ops;
};

/* `is_silent`: the changes are not told to listeners. */
void holt_command_begin(struct holt_command *command, struct holt_writer *out, bool is_silent);
/* Name an object; returns the number by which conditions and operations mean it. `name`: 1 to 255 bytes. */
uint8_t holt_command_object(struct holt_command *command, uint8_t kind, const char *name,
                            struct holt_buf options);
void holt_command_condition(struct holt_command *command, uint8_t object, uint8_t type, struct holt_buf key,
                            struct holt_buf value, uint64_t revision);
void holt_command_op(struct holt_command *command, uint8_t object, uint8_t op, struct holt_buf key,
                     struct holt_buf value, struct holt_buf expected);
void holt_command_end(struct holt_command *command);

/* --- Applying and answers ------------------------------------------------------------------------------ */

/* Apply one committed command at log index `revision` and append its answer to `answer`. Never fails: what is
 * wrong is an answer too. */
void holt_collections_apply(struct holt_collections *c, uint64_t revision, struct holt_buf command,
                            struct holt_writer *answer);
/* A member left the cluster at `revision`: its subscriptions go. */
void holt_collections_member_left(struct holt_collections *c, uint64_t revision, uint64_t member);

enum holt_answer_type {
  HOLT_ANSWER_DONE = 1, /* the operations ran; their results follow */
  HOLT_ANSWER_CONFLICT, /* condition number `at` does not hold; nothing was done */
  HOLT_ANSWER_ERROR,    /* `code`; object number `at` is to blame; nothing was done */
};

struct holt_answer {
  enum holt_answer_type type;
  int code; /* HOLT_EWRONGKIND, HOLT_EOPTIONS, HOLT_EINVAL */
  uint32_t at, count;
  struct holt_reader rest;
};

struct holt_result {
  bool is_done;
  bool has_value;
  uint64_t revision; /* of the value */
  struct holt_buf value;
};

/* Read an answer; `bytes` stay the caller's and must outlive both. HOLT_EPROTOCOL: not an answer. */
int holt_answer_read(struct holt_answer *answer, struct holt_buf bytes);
/* The next operation's result; HOLT_ENOTFOUND after the last. */
int holt_answer_next(struct holt_answer *answer, struct holt_result *result);

/* --- Looking ------------------------------------------------------------------------------------------- */

/* Borrowed; NULL when there is no object of this name, of whatever kind. */
struct holt_object *holt_collections_find(struct holt_collections *c, const char *name);
struct holt_object *holt_collections_at(struct holt_collections *c, size_t number);
size_t holt_collections_count(const struct holt_collections *c);
/* The first item of a queue, borrowed until the next command; NULL when it is empty. */
struct holt_item *holt_object_peek(const struct holt_object *object);
/* Equal on members that have applied the same commands. */
uint64_t holt_collections_hash(const struct holt_collections *c);

enum holt_change_type { HOLT_CHANGE_INSERT = 1, HOLT_CHANGE_UPDATE, HOLT_CHANGE_REMOVE, HOLT_CHANGE_CLEAR };

/* Told during apply, for objects with watchers: take what is needed (holt_item_hold), do not call back. For
 * INSERT there is no `old`, for REMOVE no `now`, for CLEAR neither. All borrowed. */
typedef void (*holt_change_cb)(void *arg, struct holt_object *object, enum holt_change_type type,
                               struct holt_item *old, struct holt_item *now, uint64_t revision);
/* One more (or, with false, one fewer) who wants the changes of the object of that name told; it need not
 * exist yet. Watching is this member's own affair: it is in no snapshot and no hash. */
void holt_collections_watch(struct holt_collections *c, const char *name, bool is_wanted);
void holt_collections_on_change(struct holt_collections *c, holt_change_cb cb, void *arg);

/* Free what clearing left behind, a bounded piece at a time. Returns false when nothing is left. */
bool holt_collections_tidy(struct holt_collections *c);

/* --- Snapshots ----------------------------------------------------------------------------------------- */

struct holt_frozen; /* the state as it was */

struct holt_frozen *holt_collections_freeze(const struct holt_collections *c);
/* The same state once more, read from its beginning; at no cost. Returned: the caller's. */
struct holt_frozen *holt_frozen_share(const struct holt_frozen *frozen);
void holt_frozen_free(struct holt_frozen *frozen);
/* The same a bounded piece at a time; false: all of it is gone. Once begun, good for nothing else. */
bool holt_frozen_free_some(struct holt_frozen *frozen);
/* How many bytes it gives in all: known at once. Equal states give equal bytes. */
uint64_t holt_frozen_size(const struct holt_frozen *frozen);
/* The next bytes, at most `cap`; 0 at the end. */
size_t holt_frozen_read(struct holt_frozen *frozen, uint8_t *out, size_t cap);

struct holt_restore;

struct holt_restore *holt_restore_new(void);
void holt_restore_free(struct holt_restore *restore);
/* Free it but for what it has made so far, which is returned: the caller's, to be freed in pieces. */
struct holt_collections *holt_restore_abandon(struct holt_restore *restore);
/* Take the next piece, cut anywhere. HOLT_EPROTOCOL: not a snapshot, or a damaged one. */
int holt_restore_feed(struct holt_restore *restore, struct holt_buf piece);
/* All pieces are in: the machine they make, the caller's; `restore` is empty then. HOLT_EPROTOCOL: something
 * is missing or the state's hash is another. */
int holt_restore_finish(struct holt_restore *restore, struct holt_collections **out);

#endif /* HOLT_COLLECTIONS_COLLECTIONS_H */
