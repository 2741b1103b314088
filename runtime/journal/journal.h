/* journal.h - one journal of a node: durable, signed entries that every holder ends up with.
 *
 * A journal is a log of entries in the order in which they became durable here (their *position*, 1, 2, 3…):
 * causal order, though not the same on every holder. What a holder lacks it gets from the holders it is
 * linked to, from the first entry on or from where the last connection ended, verified, and passes it on.
 *
 * Call from the loop's thread only; no callback runs inside the call that registered it. Durations and times
 * are milliseconds. */
#ifndef HOLT_JOURNAL_JOURNAL_H
#define HOLT_JOURNAL_JOURNAL_H

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "env/env.h"
#include "link/link.h"

struct holt_kv; /* store/kv.h */

/* --- All journals of a node ----------------------------------------------------------------------------- */

struct holt_journals;

enum holt_journal_event {
  HOLT_JOURNAL_ENTRIES,   /* `number`: position of the newest durable entry; told at most once a turn */
  HOLT_JOURNAL_REFUSED,   /* `text`: the node that sent it; `err`: what was wrong with it */
  HOLT_JOURNAL_FORKED,    /* `text`: the author; `number`: of the entry that exists twice */
  HOLT_JOURNAL_TRUNCATED, /* `text`: the author; `number`: its entries up to this one are not to be had any
                             more */
  HOLT_JOURNAL_DAMAGED, /* `number`: position of an entry whose bytes changed on the disk; it is fetched again
                         */
  HOLT_JOURNAL_MENDED,  /* `number`: its position */
  HOLT_JOURNAL_SYNCED,  /* `text`: we have all that this holder has told us of; once a connection */
  HOLT_JOURNAL_DISK_ERROR /* `err`; writes are refused until it is over (full), or for good (I/O).
                             HOLT_ECORRUPT: pages of the store are damaged, or it was made anew for that at
                             this start, or more than 4,096 entries are damaged, and so many are taken up at
                             a time; the sentence says which */
};

struct holt_journal;
struct holt_journal_notice {
  struct holt_journal *journal;
  enum holt_journal_event event;
  const char *text; /* borrowed */
  uint64_t number;
  /* FORKED: the hashes of two entries of that number, in order of their bytes; they can be read as soon as
   * they are durable. */
  bool has_proof;
  uint8_t proof[2][32];
  struct holt_err err;
};

struct holt_journals_ops {
  void (*on_event)(void *arg, const struct holt_journal_notice *notice);
};

/* `directory`: where the node's journals lie (made when missing); NULL: in memory. Opened with the first
 * journal. `node_name` and `directory` are copied, `links` are borrowed and outlive it. */
struct holt_journals *holt_journals_new(struct holt_env *env, struct holt_links *links, const char *node_name,
                                        const char *directory, const struct holt_journals_ops *ops,
                                        void *arg);
/* Take nothing more; what was emitted is still written. */
void holt_journals_close(struct holt_journals *journals);
/* True once nothing is under way any more. */
bool holt_journals_are_idle(const struct holt_journals *journals);
void holt_journals_free(struct holt_journals *journals);

/* What the links tell: the node passes it on. */
void holt_journals_link_up(struct holt_journals *journals, struct holt_link *link);
void holt_journals_link_down(struct holt_journals *journals, struct holt_link *link);
void holt_journals_message(struct holt_journals *journals, struct holt_link *link,
                           const struct holt_link_message *message);
void holt_journals_room(struct holt_journals *journals);

/* --- One journal ---------------------------------------------------------------------------------------- */

#define HOLT_JOURNAL_ENTRY_MAX (4u << 20) /* a run of one entry, which is written and sent as a whole */

struct holt_journal_config {
  const char *name; /* 1 to 255 bytes; holders of one name exchange what they have; copied */
  /* The directory keys (see holt_journal_status.id) whose entries are taken; 0: everybody's. Copied. */
  const uint8_t (*authors)[32];
  size_t author_count;
  uint32_t
      entry_bytes_max; /* encoded; 0: 1 MiB; at most HOLT_JOURNAL_ENTRY_MAX, and the same for all holders */
  /* Keep at most so much; what is older goes. 0: no limit. */
  uint64_t keep_ms, keep_entries, keep_bytes;
};

/* Open, or make, the journal; the same name gives the same one, counted: each open needs its close. Blocks
 * the loop for as long as it reads its index (a second for ten million entries at most).
 * Errors, each with a sentence: HOLT_EINVAL (name), HOLT_ELOCKED, HOLT_EVERSION, HOLT_ECORRUPT, HOLT_EIO,
 * HOLT_ENOSPC, HOLT_EPERMISSION, HOLT_ECLOSED. */
int holt_journal_open(struct holt_journals *journals, const struct holt_journal_config *config,
                      struct holt_journal **out, struct holt_err *err);
/* Emits under way are still written, and answered. */
void holt_journal_close(struct holt_journal *journal);
/* The names of the journals that the node's folder holds, open or not: `each` for one after the other,
 * borrowed. Opens the folder; makes no journal. Errors as above. */
int holt_journals_each(struct holt_journals *journals, void (*each)(void *arg, const char *name), void *arg,
                       struct holt_err *err);
const char *holt_journal_name(const struct holt_journal *journal);

/* One emit under way. The caller owns the memory until `cb` has run or it was canceled. */
struct holt_journal_emit {
  struct holt_list node;
  /* code 0: durable here (and at `holders` others); `hash` is borrowed until return. HOLT_ENOSPC, HOLT_EIO,
   * HOLT_ECLOSED: not written, and never will be. */
  void (*cb)(void *arg, int code, const uint8_t hash[32]);
  void *arg;
  uint32_t holders; /* how many other holders must have it on their disks before `cb` runs */
  /* From here on the journal's; readable while it waits. */
  uint32_t have;   /* others that have it */
  uint64_t number; /* of the entry, 0 until it has one */
  uint8_t hash[32];
  struct holt__batch *batch;
  uint32_t index;
};
/* Append an entry; `name` and `payload` are copied. Errors at once: HOLT_EINVAL (name of 0 or over 255
 * bytes), HOLT_ETOOLARGE, HOLT_ECLOSED, HOLT_EBUSY (64 MiB wait to be written: wait for some of it). */
int holt_journal_emit(struct holt_journal *journal, struct holt_journal_emit *emit, struct holt_buf name,
                      struct holt_buf payload);
/* Whether an emit that has not been answered is on the disk here, and waits for other holders. */
bool holt_journal_emit_is_durable(const struct holt_journal_emit *emit);
/* Forget the caller; the entry is written all the same. */
void holt_journal_emit_cancel(struct holt_journal *journal, struct holt_journal_emit *emit);

/* --- Reading -------------------------------------------------------------------------------------------- */

struct holt_journal_entry {
  uint64_t position;
  uint8_t hash[32], author[32], holder[32]; /* `holder`: the directory key that vouches for the author */
  uint64_t number;                          /* of the author's, from 1 on */
  uint64_t time_ms;                         /* by the author's wall clock, since 1970 */
  struct holt_buf node, name, payload;      /* of the author's node; borrowed until the next call */
};

/* Positions of the oldest entry kept and of the one after the newest. */
uint64_t holt_journal_first(const struct holt_journal *journal);
uint64_t holt_journal_next(const struct holt_journal *journal);
/* The first entry of an author's event (not openings and the like) at `*position` or behind it; `*position`
 * is moved behind it. HOLT_EEOF: none yet. HOLT_ECORRUPT: the entry there is damaged and was skipped; it is
 * being fetched from other holders. HOLT_EIO. */
int holt_journal_read(struct holt_journal *journal, uint64_t *position, struct holt_journal_entry *out);
/* Which entry it is that is damaged at this position, as far as that is known. */
struct holt_journal_damage {
  uint8_t author[32], hash[32];
  uint64_t number; /* of the author's; 0: nothing is known */
  bool has_hash;   /* its neighbours name it */
};
/* False: none is known to be damaged there. */
bool holt_journal_damage(const struct holt_journal *journal, uint64_t position,
                         struct holt_journal_damage *out);
/* An entry of another author that the author of the entry read last had seen, where that was news. `index`
 * from 0; false behind the last. */
struct holt_journal_parent {
  uint8_t author[32], hash[32];
  uint64_t number;
};
bool holt_journal_parent(struct holt_journal *journal, size_t index, struct holt_journal_parent *out);
/* The position of an entry, HOLT_ENOTFOUND. */
int holt_journal_find(struct holt_journal *journal, const uint8_t hash[32], uint64_t *position);
/* The position of the author's entry of that number. `author` may be a beginning of at least 4 bytes of its
 * key, if only one author begins so (HOLT_ECONTENDED). */
int holt_journal_find_number(struct holt_journal *journal, struct holt_buf author, uint64_t number,
                             uint64_t *position);
/* The position of the first entry whose time is at least `time_ms`, whatever the clocks of its author and the
 * others did; holt_journal_next when there is none. (Should an entry that retention dropped have had a time
 * of the future, it is a binary search: exact where clocks agree, close elsewhere.) */
uint64_t holt_journal_find_time(struct holt_journal *journal, uint64_t time_ms);

/* Named cursors: positions kept with the journal. Moved in memory at once, on the disk with the next commit,
 * within a second at the latest, and at close. HOLT_ENOTFOUND: there is none of that name. */
int holt_journal_cursor(struct holt_journal *journal, const char *name, uint64_t *position);
void holt_journal_set_cursor(struct holt_journal *journal, const char *name, uint64_t position);
/* Small texts kept with the journal (its schema, known peers): `value` len 0 removes. Written like cursors.
 */
int holt_journal_note(struct holt_journal *journal, const char *key, struct holt_writer *out);
void holt_journal_set_note(struct holt_journal *journal, const char *key, struct holt_buf value);

/* --- Looking -------------------------------------------------------------------------------------------- */

struct holt_journal_author {
  uint8_t key[32], holder[32];
  char node[HOLT_NAME_MAX + 1];
  uint64_t number;  /* of its last entry here */
  uint64_t horizon; /* entries up to this one are gone; 0: none */
  uint8_t tip[32];
  bool is_forked, is_self;
  bool has_proof; /* of a fork: hashes of two entries of number `proof_number`; not below the horizon */
  uint64_t proof_number;
  uint8_t proof[2][32];
};
size_t holt_journal_author_count(const struct holt_journal *journal);
/* `index` from 0; false behind the last. */
bool holt_journal_author(struct holt_journal *journal, size_t index, struct holt_journal_author *out);

struct holt_journal_status {
  uint8_t id[32];                         /* the public key of this data directory */
  uint64_t first, next;                   /* positions */
  uint64_t entries, bytes;                /* kept here; bytes on the disk, of all journals of the directory */
  uint64_t bytes_free;                    /* of these, what a compaction gives back at least */
  uint64_t emitted, received, duplicates; /* since the start */
  uint64_t branches_refused;              /* runs that would have begun one branch too many of their author */
  uint64_t refused, penned, pen_evicted, forks, damaged, commits;
  uint32_t holders, holders_in_step; /* linked now; of these with all that we have */
  bool is_full;                      /* the disk is */
};
void holt_journal_status(struct holt_journal *journal, struct holt_journal_status *out);

/* One compaction under way. The caller owns the memory until `cb` has run or it was canceled. */
struct holt_journal_compaction {
  struct holt_list node;
  /* code 0: `freed` bytes of the disk were given back. Else, with a sentence, what holt_kv_compact says: but
   * for HOLT_EIO nothing has changed. */
  void (*cb)(void *arg, const struct holt_err *err, uint64_t freed);
  void *arg;
};
/* Give the disk back what deleted entries took: the file of all journals of this directory is written anew.
 * Reading goes on meanwhile, what is emitted or received is written afterwards. Whoever asks while one is
 * under way is told with it. HOLT_ECLOSED; HOLT_EIO: see HOLT_JOURNAL_DISK_ERROR. */
int holt_journal_compact(struct holt_journal *journal, struct holt_journal_compaction *compaction);
void holt_journal_compact_cancel(struct holt_journal_compaction *compaction);

/* Look at entries from `*position` on, at most `max` of them: bytes, hash, links to what came before,
 * signatures. `*position` is moved; HOLT_EEOF at the end. HOLT_ECORRUPT with a sentence for the first that is
 * wrong, `*position` behind it. */
int holt_journal_verify(struct holt_journal *journal, uint64_t *position, size_t max, struct holt_err *err);

#endif /* HOLT_JOURNAL_JOURNAL_H */
