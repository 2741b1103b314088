/* kv_redo.h - the redo log of a store in a folder: what each transaction changed, on the disk before the
 * pages of the tables are. Only for store/ itself; it knows nothing of LMDB. docs/store.md has the format.
 *
 * The file `redo` is made once, filled with zeros, and written over from then on: so an append is one write
 * and one sync of blocks that are there. It has two halves of records and a head in front. The head names a
 * checkpoint (the first page of the tables as it was then) and the first record behind it. While that head
 * counts, records go on into the other half; the next head frees the first one.
 *
 * The principle, a checkpoint and a log of what came later, is that of ARIES (Mohan et al., 1992), section 3;
 * as pages of a checkpoint are never written over, nothing has to be undone. */
#ifndef HOLT_STORE_KV_REDO_H
#define HOLT_STORE_KV_REDO_H

#include "base/buf.h"

#define HOLT__REDO_FILE "redo"

enum {
  HOLT__REDO_ID = 16,     /* bytes that say which file of tables it belongs to */
  HOLT__REDO_IMAGE = 512, /* bytes of a first page */
  HOLT__REDO_HALF = 512 * 1024,
  HOLT__REDO_RECORD_MAX = 128 * 1024, /* more is not worth a log */
  HOLT__REDO_HEADER = 32              /* bytes that a record's writer leaves free in front */
};

/* Where the tables can begin again. */
struct holt_redo_head {
  uint8_t id[HOLT__REDO_ID];
  uint64_t generation;
  uint64_t first; /* number of the first record behind it */
  uint32_t half;  /* and where that is */
  uint32_t page;  /* bytes of a page */
  uint8_t image[HOLT__REDO_IMAGE];
};

struct holt_redo {
  int fd;
  int head_fd;   /* for the heads: a failed write is told once an open file, so each has its own */
  uint64_t salt; /* goes into every check, so that no value can look like a record */
  struct holt_redo_head head;
  uint64_t number; /* of the next record */
  uint32_t half;   /* where it goes */
  uint64_t at, last_at;
};

/* Open the file of this folder. ENOENT: there is none; EILSEQ: its heads are damaged; else errno. */
int holt__redo_open(struct holt_redo *redo, const char *folder);
/* Make it, in the place of an older one; it has no head yet. errno. */
int holt__redo_make(struct holt_redo *redo, const char *folder, uint64_t salt);
void holt__redo_close(struct holt_redo *redo);

/* Where the records of a half begin, in the file. */
uint64_t holt__redo_start(uint32_t half);
/* The next records go into the other half: what a new head will begin with. */
void holt__redo_turn(struct holt_redo *redo);
/* Write a head and sync it; `generation` is set here. What stood before its first record counts no more. May
 * run beside an append. errno; then no write may be trusted any more. */
int holt__redo_write_head(struct holt_redo *redo, struct holt_redo_head *head);

bool holt__redo_has_room(const struct holt_redo *redo, size_t record_bytes);
/* Write the record and sync it. The first HOLT__REDO_HEADER bytes of it are filled in, the end is padded.
 * errno; then no write may be trusted any more. */
int holt__redo_append(struct holt_redo *redo, struct holt_writer *record);
/* Take the last record back: it never was. errno, as above. */
int holt__redo_retract(struct holt_redo *redo);

/* Each record behind the head, in order, until `each` returns other than 0, which is returned. The next
 * append goes behind the last one. `*lost` (records that were damaged between others; at least so many): a
 * record at the end that is not whole was never acknowledged. errno. */
typedef int (*holt_redo_each_cb)(void *arg, struct holt_buf body);
int holt__redo_each(struct holt_redo *redo, holt_redo_each_cb each, void *arg, uint64_t *lost);

#endif /* HOLT_STORE_KV_REDO_H */
