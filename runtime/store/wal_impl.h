/* wal_impl.h - the format in numbers, and what the files of the segment log share. Only for store/ itself. */
#ifndef HOLT_STORE_WAL_IMPL_H
#define HOLT_STORE_WAL_IMPL_H

#include "store/wal.h"

/* --- Format (docs/store.md) ------------------------------------------------------------------------ */

#define WAL_MAGIC       "holt.wal"
#define WAL_BATCH_MAGIC 0xb7a9c5e3u
#define WAL_END_MAGIC   0xe5d3b1f7u
#define WAL_VERSION     1u

enum {
  WAL_HEADER_BYTES = 128, /* of a segment, before the snapshot's bytes */
  WAL_BATCH_BYTES = 40,   /* header of a batch */
  WAL_END_BYTES = 8,      /* its trailer */
  WAL_RECORD_BYTES = 28,  /* header of a record */
  WAL_ENTRY_BYTES = 32,   /* what an entry's body has before its data */
  WAL_SEAL_BYTES = WAL_BATCH_BYTES + 32 + WAL_END_BYTES,
  WAL_SECTOR = 512, /* what a disk writes whole or not at all */
  WAL_SNAPSHOT_MAX = 4096,
};

#define WAL_INDEX_MAX (UINT64_MAX / 4) /* no log gets there; what comes after it still counts up */

enum wal_record_type {
  WAL_ENTRY = 1, /* index, term, kind: the entry's type; body: client, seq, low, stamp, data */
  WAL_VOTE,      /* index: the vote; term */
  WAL_TRUNCATE,  /* index: of the first void entry; term: of the entry before it */
  WAL_SNAPSHOT,  /* index, term; body: the rest of it */
  WAL_RESET,     /* the same, and the whole log before is void */
  WAL_BOOT,      /* index: the boot's number */
  WAL_SEAL,      /* index: number of the next segment; the last batch of this one */
};

struct wal_record {
  uint64_t index, term;
  uint8_t type, kind;
  struct holt_buf body;
};

struct wal_batch {
  uint32_t size, count;
  uint64_t sequence;
  uint32_t offset, segment;
  uint32_t chain; /* check of the batch before */
  uint32_t digest;
  uint32_t check; /* of the header; the next one's chain */
};

struct wal_segment {
  uint32_t size; /* of the header with the snapshot: where the first batch goes */
  uint64_t number, capacity;
  uint64_t sequence; /* of its first batch */
  uint32_t chain;
  struct holt_wal_state base; /* everything as it stood when the segment was made */
};

/* --- Encoding (wal_format.c) ----------------------------------------------------------------------- */

static inline size_t wal_round(size_t len) {
  return (len + 7) & ~(size_t)7;
}

void holt__wal_name(char out[HOLT_FILE_NAME_MAX + 1], uint64_t number, bool is_temporary);
/* The number in a segment's name; 0 when it is not one. */
uint64_t holt__wal_name_number(const char *name, bool *is_temporary);

/* Append a record; returns its length. `head` and `body` make up its body. */
size_t holt__wal_record_write(struct holt_writer *w, const struct wal_record *record, struct holt_buf head);
/* The record at the start of `bytes`; its length, or 0 when there is none that is whole. */
size_t holt__wal_record_read(struct holt_buf bytes, struct wal_record *record);
/* Fill in a batch whose records stand in `bytes` (size bytes in all, room for header and trailer included)
 * and which goes to `batch->offset`. Sets size, count, digest and check. */
void holt__wal_batch_seal(uint8_t *bytes, size_t size, struct wal_batch *batch);
/* Read a batch's header. False when it is none: magic, check or place are wrong. */
bool holt__wal_batch_read(const uint8_t *bytes, size_t left, uint64_t segment, uint64_t offset,
                          struct wal_batch *batch);
/* Whether records and trailer are what the header says. `bytes` begins at the header. */
bool holt__wal_batch_is_whole(const uint8_t *bytes, const struct wal_batch *batch);
void holt__wal_segment_write(struct holt_writer *w, const struct wal_segment *segment);
/* 0; HOLT_EVERSION; HOLT_ECORRUPT. */
int holt__wal_segment_read(struct holt_buf bytes, struct wal_segment *segment);
void holt__wal_snapshot_write(struct holt_writer *w, const struct holt_raft_snapshot *snapshot);
bool holt__wal_snapshot_read(struct holt_buf bytes, struct holt_raft_snapshot *snapshot);
/* The entry in a record; its data is borrowed from the record. */
bool holt__wal_entry_read(const struct wal_record *record, struct holt_raft_entry *entry);

/* --- State ------------------------------------------------------------------------------------------ */

/* Where a durable entry lies. */
struct wal_place {
  uint64_t segment, term;
  uint32_t offset, len; /* of the record */
};

/* A change to the table of places that happens when its batch is durable. */
struct wal_edit {
  uint64_t index, term;
  uint32_t offset, len; /* in the batch; len 0: entries from `index` on are void */
};

/* Added and not yet durable. */
struct wal_batch_draft {
  struct holt_writer bytes; /* begins with room for the header */
  struct wal_edit *edits;
  size_t edit_count, edit_cap;
  uint32_t records;
  uint64_t adds;
  struct holt_wal_state after; /* the state once it is durable */
};

enum wal_job { WAL_JOB_NONE, WAL_JOB_REPAIR, WAL_JOB_DROP, WAL_JOB_ROTATE, WAL_JOB_BATCH };

struct holt_wal {
  struct holt_wal_config config;
  bool is_open;
  int failed; /* 0, or why it can never be written again */
  struct holt_wal_state state;

  /* The last segment. number 0: none yet. */
  uint64_t number, oldest; /* the oldest segment that belongs to the log */
  uint64_t capacity, tail;
  uint64_t sequence; /* of the last batch */
  uint32_t chain;    /* check of the last batch */

  /* Of the entries first..last. */
  struct wal_place *places;
  size_t place_begin, place_count, place_cap;

  struct wal_batch_draft filling, flying;
  uint64_t saved;

  enum wal_job job;
  struct holt_file_op *ops;
  size_t op_count, op_cap;
  char (*op_names)[HOLT_FILE_NAME_MAX + 1];
  size_t op_name_count, op_name_cap;
  struct holt_writer preamble; /* of the segment being made */
  uint64_t new_capacity;
  uint8_t seal[WAL_SEAL_BYTES];
  struct wal_batch seal_batch;

  /* What must be put right before anything else is written. */
  bool needs_repair, is_opening;
  bool is_wiping;      /* a batch had no room: its failure is told once nothing of it can come back */
  uint64_t wipe_to;    /* zeros from tail to here */
  bool drop_next;      /* a segment behind the last one may lie about */
  uint64_t drop_below; /* segments with smaller numbers may go */
  char **strays;       /* files found at recovery that belong to nobody */
  size_t stray_count;
  uint8_t *zeros;
};

/* Position of entry `index`, which must be within first..last. */
struct wal_place *holt__wal_place(const struct holt_wal *wal, uint64_t index);
void holt__wal_place_push(struct holt_wal *wal, struct wal_place place);
/* Forget the places of entries below / from `index` on; places begin at state.first. */
void holt__wal_places_cut_front(struct holt_wal *wal, size_t count);
void holt__wal_places_cut_back(struct holt_wal *wal, size_t count);

/* Count this start: the first thing an opened log writes, and so the proof that what was found is durable. */
void holt__wal_add_boot(struct holt_wal *wal);

#endif /* HOLT_STORE_WAL_IMPL_H */
