/* journal_impl.h - the parts of a journal that the files of this folder share.
 *
 * The way of an own entry: emit (queued) - sealed off the loop (hashed, linked, the last of the batch signed)
 * - offered to the index - committed off the loop - answered, and read by handlers and by the links' cursors.
 * The way of a foreign run: received (queued) - checked off the loop (hashed, linked, verified) - offered -
 * committed - acknowledged to the sender. One sealing, one checking and one commit are under way at a time,
 * beside each other; the index, and all else, belongs to the loop. */
#ifndef HOLT_JOURNAL_IMPL_H
#define HOLT_JOURNAL_IMPL_H

#include "base/map.h"
#include "dag/dag.h"
#include "dag/exchange.h"
#include "journal/book.h"
#include "journal/crypto.h"
#include "journal/journal.h"
#include "store/kv.h"

enum {
  HOLT__SEAL_ENTRIES = 1024,      /* own entries sealed at once */
  HOLT__SEAL_BYTES = 2 << 20,     /* and their bytes */
  HOLT__CHECK_BYTES = 1 << 20,    /* of messages checked at once */
  HOLT__COMMIT_BYTES = 8 << 20,   /* committed at once */
  HOLT__WAITING_BYTES = 64 << 20, /* emits that wait */
  HOLT__SEND_BYTES = 128 << 10,   /* one message of a run */
  HOLT__LOOK_ENTRIES = 4096,      /* looked at for one link before the loop turns */
  HOLT__DAMAGES_MAX = 4096,       /* damaged entries known at a time */
  HOLT__SAVE_MS = 1000            /* cursors and notes are written this much later at the latest */
};

/* One neighbour: what it sent and is not dealt with yet, in order, so that its credit comes back in order. */
struct holt__station {
  struct holt_list node;
  struct holt_link *link; /* NULL: it is gone, and this one waits for its last runs */
  uint64_t source;        /* names it in the indexes */
  uint64_t received;      /* number of the last message */
  uint64_t consumed;      /* its credit went back up to this one */
  struct holt_list runs;  /* struct holt__inbound.of_station, by number */
  char name[HOLT_NAME_MAX + 1];
};

/* A run on its way in. */
struct holt__inbound {
  struct holt_list node;       /* in the journal's `inbox`, or in the checking */
  struct holt_list of_station; /* until its credit went back */
  struct holt__station *station;
  uint64_t number;
  bool is_done; /* its credit may go back */
  enum holt_dag_reason reason;
  struct holt_dag_run run;
  size_t len;
  uint8_t message[];
};

/* Entries that were admitted and are not durable yet. */
struct holt__chunk {
  struct holt_list node;
  struct holt_dag_run run; /* owned */
  uint32_t skip, count, author, chain;
  uint64_t first; /* number of the first entry that counts */
  size_t bytes;
  struct holt__inbound *inbound; /* to be done when it is durable, or NULL */
};

struct holt__cursor {
  struct holt_list node;
  uint64_t position;
  bool is_changed, is_leaving; /* leaving: with the commit under way */
  char name[];
};

/* An entry whose bytes changed on the disk. */
struct holt__damage {
  struct holt_list node;
  uint64_t position, number;
  uint32_t chain;
  struct holt_dag_ref ref, before; /* it, and the nearest entry before it that is whole (number 0: none) */
  bool is_known, is_signed;        /* known: which entry it was */
  bool is_asked;                   /* the neighbours, lately */
  struct holt_writer bytes;        /* once they came */
  uint8_t signature[HOLT_DAG_SIGNATURE];
};

struct holt__note {
  struct holt_list node;
  struct holt_writer value; /* empty: to be removed */
  bool is_changed, is_leaving;
  char key[];
};

/* What one journal knows of one neighbour. */
struct holt__exchange {
  struct holt_list node;
  struct holt__station *station;
  struct holt_dag_link *link;
  uint64_t cursor;               /* next position to look at */
  uint64_t range_next, range_to; /* what was asked for: numbers of range_chain */
  uint32_t range_chain;          /* HOLT_DAG_NO_CHAIN: none */
  bool owes_have, asks;          /* a full one; and asks for theirs */
  bool owes_horizons;
  bool was_caught_up; /* told once a connection */
};

/* Own entries that are sealed together: hashed, linked, the last of each run signed. */
struct holt__item {
  struct holt_journal_emit *emit; /* NULL: nobody waits */
  uint8_t kind;                   /* enum holt_dag_kind */
  uint32_t offset, name_len, payload_len;
  uint64_t time_ms;
};
struct holt__batch {
  struct holt_list node;
  struct holt__item *items;
  uint32_t count, cap;
  struct holt_writer bytes; /* names and payloads */
  uint64_t last;            /* number of its last entry, once sealed */
};

struct holt__sealing {
  struct holt_work work;
  struct holt_journal *journal;
  bool is_busy;
  struct holt__batch *batch;
  struct holt_dag_run runs[8]; /* the first is the opening, where there was none */
  uint32_t run_count;
  uint64_t first, opening_ms;
  unsigned reloads; /* the journal's when it began */
  uint8_t prev[HOLT_DAG_HASH];
  struct holt_dag_ref heads[HOLT_DAG_PARENTS_MAX];
  size_t head_count;
  int code;
};

struct holt__checking {
  struct holt_work work;
  struct holt_journal *journal;
  bool is_busy;
  struct holt_list items;
};

struct holt__commit {
  struct holt_kv_job job;
  struct holt_journal *journal;
  bool is_busy;
  struct holt_list chunks, mends;
  struct holt_writer authors; /* records: author number, length, bytes */
  struct holt_writer cursors; /* name and position of each that changed */
  struct holt_writer notes;
  struct holt_book_entry *entries; /* scratch of the worker */
  uint32_t entry_cap;
  uint64_t now_ms; /* wall clock */
  uint64_t cut_to; /* positions below it go; 0: none */
};

struct holt_journal {
  struct holt_journals *all;
  struct holt_list node;
  unsigned opens; /* times it was opened and not closed */
  bool is_closing, is_dead, is_full, is_broken, is_save_due;
  bool is_repaired;       /* at this opening */
  bool knows_missing;     /* what is found to be missing now was known to be */
  struct holt_err report; /* to be told at the first turn, if its code is not 0 */
  char name[256];
  struct holt_dag_options options;
  uint8_t *authors;                                        /* of options */
  uint64_t keep_ms, keep_entries, keep_bytes, keep_due_ms; /* due: the next look, wall clock */
  struct holt_dag *dag;
  unsigned reloads; /* how often the index was made anew */
  struct holt_book *book;
  struct holt_crypto *seal_crypto, *check_crypto, *loop_crypto;
  struct holt_signer *chain; /* of this start */
  uint32_t self;             /* author number, UINT32_MAX before the opening */
  uint64_t tip;              /* number of the last own entry that was sealed */
  uint8_t tip_hash[HOLT_DAG_HASH];

  struct holt_list batches; /* that wait to be sealed, the last may take more */
  struct holt_list sealed;  /* batches that wait to be durable */
  struct holt_list waiting; /* emits durable here that wait for other holders */
  size_t waiting_bytes;     /* of all three */
  struct holt_list inbox;
  struct holt_list pending; /* chunks for the next commit */
  size_t pending_bytes;
  struct holt__sealing sealing;
  struct holt__checking checking;
  struct holt__commit commit;
  uint64_t durable; /* number of the last own entry that is */

  struct holt_list cursors, notes; /* cursors: all; notes: those that wait to be written */
  struct holt_timer save, keep;
  struct holt_list exchanges, damages;
  struct holt_map damaged; /* position: struct holt__damage, of `damages` or of the commit's mends */
  unsigned damages_asked;  /* asked for and not brought yet */
  bool is_damage_told;     /* that there are more than are taken up */
  struct holt_timer again; /* ask for them again */
  uint64_t again_ms;
  struct holt_post turn;                 /* work put off to the end of the turn */
  char (*node_names)[HOLT_NAME_MAX + 1]; /* by author number, "" while unknown */
  uint32_t node_names_cap;
  struct holt_writer entry; /* what was read last */
  struct holt_writer out;   /* a message being made */
  struct holt_journal_status counts;
};

struct holt_journals {
  struct holt_env *env;
  struct holt_links *links;
  char *node_name, *directory;
  const struct holt_journals_ops *ops;
  void *arg;
  struct holt_kv *kv;
  struct holt_signer *directory_key;
  struct holt_list journals;
  struct holt_list stations;
  struct holt_list compactions; /* struct holt_journal_compaction: who waits for the one under way */
  bool is_compacting;
  bool is_damage_told;   /* of its pages */
  uint64_t bytes_before; /* it */
  uint64_t last_source;
  bool is_closing, is_dead;
  struct holt_env_end end; /* while workers are at it after the death of the node */
};

/* journal.c */
struct holt_dag_ops holt__dag_ops(struct holt_crypto *crypto);
uint64_t holt__journal_wall_ms(const struct holt_journal *journal);
void holt__hex(const uint8_t *bytes, size_t len, char *out); /* 2 * len + 1 bytes */
void holt__journal_tell(struct holt_journal *journal, enum holt_journal_event event, const char *text,
                        uint64_t number, const struct holt_err *err);
/* Of a branch: the hashes of its first entry and of the other one of that number, in order of their bytes.
 * False: they cannot be had (any more). */
bool holt__journal_fork_proof(struct holt_journal *journal, uint32_t chain, uint8_t proof[2][32]);
void holt__journal_tell_fork(struct holt_journal *journal, uint32_t chain);
void holt__journal_tell_cut(struct holt_journal *journal, uint32_t author);
/* Let work begin that can, at the end of this turn. */
void holt__journal_stir(struct holt_journal *journal);
int holt__journal_hash_at(void *arg, uint32_t chain, uint64_t number, uint8_t out[HOLT_DAG_HASH]);
bool holt__journal_is_idle(const struct holt_journal *journal);
/* The index anew from what is durable; what was not is gone. */
int holt__journal_reload(struct holt_journal *journal, struct holt_err *err);
/* Nobody hears of it from now on; it is freed once its workers have let go. */
void holt__journal_kill(struct holt_journal *journal);
void holt__journal_bury(struct holt_journal *journal);
void holt__journal_free(struct holt_journal *journal);

/* journals.c */
/* Close a store whose pages are damaged, so that its next opening makes it anew; false: others use it, or it
 * is in order. */
bool holt__journals_close_damaged(struct holt_journals *all);

/* write.c */
uint32_t holt__entry_overhead(void);
/* An entry of our own that nobody waits for. */
void holt__write_own(struct holt_journal *journal, uint8_t kind, const char *name, struct holt_buf payload);
void holt__write_turn(struct holt_journal *journal);
void holt__inbound_done(struct holt__inbound *inbound);
/* The chunk, not durable yet, in which this entry lies, or NULL. */
struct holt__chunk *holt__chunk_find(struct holt_journal *journal, uint32_t chain, uint64_t number);
void holt__write_free(struct holt_journal *journal);
/* Whether enough holders have what waits for them. */
void holt__emits_look(struct holt_journal *journal);

/* kept.c */
bool holt__journal_wants_save(const struct holt_journal *journal);
void holt__kept_collect(struct holt_journal *journal);
int holt__kept_write(struct holt__commit *commit); /* on the worker */
void holt__kept_written(struct holt_journal *journal);
void holt__kept_unwritten(struct holt_journal *journal);

/* exchange.c */
/* Begin with this neighbour; `asks`: it shall tell all it has, for it may have told us before we listened. */
void holt__exchange_open(struct holt_journal *journal, struct holt__station *station, bool asks);
void holt__exchange_close(struct holt_journal *journal, struct holt__exchange *exchange);
struct holt__exchange *holt__exchange_of(struct holt_journal *journal, const struct holt__station *station);
void holt__exchange_message(struct holt_journal *journal, struct holt__station *station, uint8_t flags,
                            struct holt_buf body, uint64_t number);
void holt__exchange_turn(struct holt_journal *journal);
void holt__exchange_admitted(struct holt_journal *journal, const struct holt_dag_admitted *admitted);
void holt__exchange_ask_again(struct holt_journal *journal, const struct holt__exchange *exchange,
                              const struct holt_dag_ref *ref, const struct holt_dag_ref *before);
/* These are durable here now. */
void holt__exchange_news(struct holt_journal *journal, const struct holt_dag_ref *refs, size_t count);
/* Everything anew, with everybody; with the neighbour of that source. */
void holt__exchange_restart(struct holt_journal *journal);
void holt__exchange_again(struct holt_journal *journal, uint64_t source);
/* Horizons here have moved: everybody is to be told. */
void holt__exchange_horizons(struct holt_journal *journal);
/* Somebody is to be told what is durable: let the commits end first. */
bool holt__exchange_wants_quiet(const struct holt_journal *journal);

/* read.c. Of a record beside the entries: appended to `out`. */
int holt__journal_record(struct holt_journal *journal, enum holt_book_kind kind, const char *key,
                         struct holt_writer *out);
/* An entry's bytes, appended to `out`; its position (0: it is only kept by number). Both may be NULL. */
int holt__journal_entry(struct holt_journal *journal, uint32_t chain, uint64_t number,
                        struct holt_writer *out, uint64_t *position);

/* write.c */
/* What the index has admitted is written with the next commit, and told. `own` is the run that was offered,
 * which `inbound` brought, or NULL; `inbound` is done with once that is written, or now. */
void holt__journal_take(struct holt_journal *journal, const struct holt_dag_result *result,
                        const struct holt_dag_run *own, struct holt__inbound *inbound);

/* keep.c */
/* Retention: true when the next commit drops entries. */
bool holt__keep_look(struct holt_journal *journal);
/* How fine the book's marks must be; and look in a while, also if nothing is written until then. */
void holt__keep_marks(const struct holt_journal *journal, struct holt_book_options *options);
void holt__keep_soon(struct holt_journal *journal);
/* A message with horizons of authors from *author on; false: there are none (left). */
bool holt__keep_horizon(struct holt_journal *journal, uint32_t *author, struct holt_writer *out);
int holt__journal_horizon_told(struct holt_journal *journal, const struct holt__station *station,
                               const struct holt_dag_message *message);

/* damage.c */
/* Tell, once, if pages of the store are damaged: reading goes on, but it must be made anew. */
void holt__journals_look_damage(struct holt_journal *journal);
#define HOLT__DAMAGED_NOTE "damaged" /* positions, 8 bytes each */
/* What was found before this start and is damaged still. */
void holt__damages_load(struct holt_journal *journal);
/* The entry there is damaged: it is told, noted and asked for, unless it is known already. With
 * HOLT__DAMAGES_MAX that are known it is left for later, which is told once. */
void holt__journal_damaged(struct holt_journal *journal, uint64_t position);
/* The hash that a damaged entry must have. HOLT_ECORRUPT: not known. */
int holt__damage_hash(struct holt_journal *journal, uint32_t chain, uint64_t number,
                      uint8_t out[HOLT_DAG_HASH]);
void holt__damages_ask(struct holt_journal *journal, struct holt__exchange *exchange);
void holt__damages_look(struct holt_journal *journal, const struct holt_dag_run *run);
void holt__damages_collect(struct holt_journal *journal);
int holt__damages_write(struct holt__commit *commit); /* on the worker */
void holt__damages_settle(struct holt_journal *journal, int status);
void holt__damages_ask_again(void *journal); /* the timer's callback */
void holt__damages_free(struct holt_journal *journal);

/* repair.c. At the opening, with the book open: look whether the store was made anew since the last time
 * (j->is_repaired), and if so have the book's indexes made again. */
int holt__repair_look(struct holt_journal *journal, const struct holt_book_options *options,
                      struct holt_err *err);
/* Of a journal that is_repaired; `loaded`: the outcome of loading its authors. */
int holt__repair(struct holt_journal *journal, const struct holt_book_options *options, int loaded,
                 struct holt_err *err);

/* compact.c */
/* Nobody is told any more; the one under way ends soon. */
void holt__journals_compact_stop(struct holt_journals *all);

/* journals.c */
void holt__station_consume(struct holt__station *station);
int holt__journals_open_store(struct holt_journals *all, struct holt_err *err);
struct holt_signer *holt__journals_new_chain(struct holt_journals *all);
void holt__journals_bury(struct holt_journals *all);

#endif /* HOLT_JOURNAL_IMPL_H */
