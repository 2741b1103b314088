/* wal_open.c - what the files of a segment log say, and whether they can be vouched for.
 *
 * - The segments are read in order; each header repeats the whole state, which must be what the ones before
 * made.
 * - Batches are taken one by one while they are whole and chained to the one before.
 * - What follows the last one is zeros: a clean end. Something else there: a batch torn by a crash, or rot.
 * - Torn: wiped by the repair job, the log goes on from there. Only the last batch can be torn, since each is
 *   written after the one before was synced.
 * - Rot, anywhere: HOLT_ECORRUPT, nothing is changed, nothing is written any more.
 *
 * How the two are told apart (Alagappan et al., "Protocol-aware recovery for consensus-based storage", 2018,
 * asks the same question): a fresh segment is zeros, and a crash takes whole sectors away, or everything from
 * some place on. So where a batch is torn, zeros stand in a whole sector of it or at its very end. Bytes that
 * are neither right nor missing were right once. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "env/sim_disk.h"
#include "raft/bug.h"
#include "store/wal_impl.h"

enum end { END_CLEAN, END_SEALED, END_TORN };

struct scan {
  struct holt_wal *wal;
  const struct holt_wal_files *files;
  struct holt_err *err;
  struct holt_writer bytes; /* of the segment that is read */
  uint64_t *numbers;        /* of the segments, rising */
  size_t count;
  char name[HOLT_FILE_NAME_MAX + 1];
  uint64_t used; /* of the segment: everything behind is zeros */
  enum end end;  /* of the last segment that was read */
};

static int corrupt(struct scan *scan, uint64_t offset, const char *what) {
  return holt_err_set(scan->err, HOLT_ECORRUPT,
                      "%s, byte %" PRIu64 ": %s; the log cannot be vouched for from there on", scan->name,
                      offset, what);
}

/* --- Records -------------------------------------------------------------------------------------- */

static const char *apply_entry(struct holt_wal *wal, const struct wal_record *record,
                               struct wal_place place) {
  struct holt_wal_state *state = &wal->state;
  struct holt_raft_entry entry;
  if (!holt__wal_entry_read(record, &entry)) return "an entry without its fields";
  if (record->index != state->last + 1) return "an entry out of order";
  if (record->term == 0 || record->term < state->last_term) return "an entry whose term goes back";
  if (wal->place_count == 0) state->first = record->index;
  holt__wal_place_push(wal, place);
  state->last = record->index;
  state->last_term = record->term;
  return NULL;
}

static const char *apply_vote(struct holt_wal_state *state, const struct wal_record *record) {
  bool has_voted = record->term == state->term && state->vote != 0;
  if (record->term < state->term) return "a term that goes back";
  if (has_voted && record->index != state->vote) return "a second vote in one term";
  state->term = record->term;
  state->vote = record->index;
  return NULL;
}

static const char *apply_truncate(struct holt_wal *wal, const struct wal_record *record) {
  struct holt_wal_state *state = &wal->state;
  if (record->index <= state->snapshot.index) return "a truncation of what the snapshot covers";
  if (record->index > state->last) return "a truncation behind the end";
  uint64_t void_count = state->last - record->index + 1;
  holt__wal_places_cut_back(wal, void_count < wal->place_count ? (size_t)void_count : wal->place_count);
  state->last = record->index - 1;
  state->last_term = record->term;
  if (state->first > state->last + 1) state->first = state->last + 1;
  return NULL;
}

static const char *apply_snapshot(struct holt_wal *wal, const struct wal_record *record) {
  struct holt_wal_state *state = &wal->state;
  struct holt_raft_snapshot snapshot = {.index = record->index, .term = record->term};
  if (!holt__wal_snapshot_read(record->body, &snapshot)) return "a snapshot without its fields";
  if (record->index == 0 || record->index < state->snapshot.index) return "a snapshot older than the last";
  if (record->index > WAL_INDEX_MAX) return "a snapshot of entries that cannot be";
  if (record->type == WAL_SNAPSHOT && record->index > state->last) return "a snapshot of entries unknown";
  state->snapshot = snapshot;
  if (record->type == WAL_SNAPSHOT) return NULL;
  holt__wal_places_cut_back(wal, wal->place_count);
  state->last = record->index;
  state->last_term = record->term;
  state->first = state->last + 1;
  return NULL;
}

/* NULL, or what is wrong with it. */
static const char *apply(struct scan *scan, const struct wal_record *record, struct wal_place place) {
  struct holt_wal *wal = scan->wal;
  switch (record->type) {
  case WAL_ENTRY:
    return apply_entry(wal, record, place);
  case WAL_VOTE:
    return apply_vote(&wal->state, record);
  case WAL_TRUNCATE:
    return apply_truncate(wal, record);
  case WAL_SNAPSHOT:
  case WAL_RESET:
    return apply_snapshot(wal, record);
  case WAL_BOOT:
    if (record->index != wal->state.boot + 1) return "a start out of order";
    wal->state.boot = record->index;
    return NULL;
  case WAL_SEAL:
    if (record->index != wal->number + 1) return "the name of a wrong segment";
    scan->end = END_SEALED;
    return NULL;
  default:
    return "a record of an unknown kind";
  }
}

static int apply_batch(struct scan *scan, const uint8_t *bytes, const struct wal_batch *batch) {
  struct holt_buf left = holt_buf(bytes + WAL_BATCH_BYTES, batch->size - WAL_BATCH_BYTES - WAL_END_BYTES);
  while (left.len > 0) {
    struct wal_record record;
    size_t len = holt__wal_record_read(left, &record);
    HOLT_ASSERT(len > 0); /* the batch is whole */
    uint32_t offset = batch->offset + (uint32_t)(left.data - bytes);
    struct wal_place place = {
        .segment = scan->wal->number, .term = record.term, .offset = offset, .len = (uint32_t)len};
    const char *wrong = scan->end == END_SEALED ? "a record behind the seal" : apply(scan, &record, place);
    if (wrong != NULL) return corrupt(scan, offset, wrong);
    left = holt_buf(left.data + len, left.len - len);
  }
  return 0;
}

/* --- Torn or rotten ------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *bytes, size_t len) {
  return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

/* Whether some sector's part of the range is nothing but zeros. */
static bool lacks_a_sector(const uint8_t *segment, uint64_t offset, uint64_t size) {
  uint64_t end = offset + size;
  for (uint64_t at = offset; at < end;) {
    uint64_t next = (at / WAL_SECTOR + 1) * WAL_SECTOR;
    if (next > end) next = end;
    if (is_zero(segment + at, (size_t)(next - at))) return true;
    at = next;
  }
  return false;
}

/* Why what stands at `tail`, which is no whole batch, cannot come from a crash; NULL when it can. */
static const char *why_rotten(const struct scan *scan, uint64_t tail) {
  const uint8_t *segment = scan->bytes.data;
  uint64_t capacity = scan->bytes.len, number = scan->wal->number;
  struct wal_batch batch;
  for (uint64_t at = tail + 8; at + WAL_BATCH_BYTES <= scan->used; at += 8)
    if (holt__wal_batch_read(segment + at, (size_t)(capacity - at), number, at, &batch))
      return "a batch is damaged, and a later one proves that it once was whole";
  if (capacity - tail < WAL_BATCH_BYTES + WAL_END_BYTES) return "bytes where none were ever written";
  if (holt__wal_batch_read(segment + tail, (size_t)(capacity - tail), number, tail, &batch))
    return segment[tail + batch.size - 1] == 0 || lacks_a_sector(segment, tail, batch.size)
               ? NULL
               : "the last batch is damaged, and not as a crash would do it";
  return scan->used <= tail + WAL_BATCH_BYTES || lacks_a_sector(segment, tail, WAL_BATCH_BYTES)
             ? NULL
             : "the head of the last batch is damaged, and not as a crash would do it";
}

/* --- Segments ------------------------------------------------------------------------------------- */

static int scan_batches(struct scan *scan) {
  struct holt_wal *wal = scan->wal;
  while (scan->end == END_CLEAN && wal->tail < scan->used) {
    const uint8_t *at = scan->bytes.data + wal->tail;
    struct wal_batch batch;
    if (!holt__wal_batch_read(at, (size_t)(wal->capacity - wal->tail), wal->number, wal->tail, &batch) ||
        (!holt__wal_batch_is_whole(at, &batch) && !HOLT_BUG(31))) {
      const char *rotten = why_rotten(scan, wal->tail);
      if (rotten != NULL) return corrupt(scan, wal->tail, rotten);
      scan->end = END_TORN;
      return 0;
    }
    if (batch.chain != wal->chain || batch.sequence != wal->sequence + 1)
      return corrupt(scan, wal->tail, "a batch that does not follow the one before");
    int rc = apply_batch(scan, at, &batch);
    if (rc != 0) return rc;
    wal->tail += batch.size;
    if (scan->end != END_SEALED && wal->tail + WAL_SEAL_BYTES > wal->capacity)
      return corrupt(scan, wal->tail, "a batch where only the seal may stand");
    wal->sequence = batch.sequence;
    wal->chain = batch.check;
  }
  if (scan->end == END_SEALED && scan->used > wal->tail)
    return corrupt(scan, wal->tail, "bytes behind the seal");
  return 0;
}

static bool is_same_state(const struct holt_wal_state *a, const struct holt_wal_state *b) {
  return a->cluster == b->cluster && a->self == b->self && a->last == b->last &&
         a->last_term == b->last_term && a->term == b->term && a->vote == b->vote && a->boot == b->boot &&
         a->snapshot.index == b->snapshot.index && a->snapshot.term == b->snapshot.term;
}

static int check_owner(struct scan *scan, const struct wal_segment *segment) {
  const struct holt_wal_config *config = &scan->wal->config;
  bool is_ours = (config->cluster == 0 || config->cluster == segment->base.cluster) &&
                 (config->self == 0 || config->self == segment->base.self);
  if (is_ours) return 0;
  return holt_err_set(scan->err, HOLT_EFOREIGN,
                      "%s is of cluster %016" PRIx64 ", member %016" PRIx64 ", not of cluster %016" PRIx64
                      ", member %016" PRIx64,
                      scan->name, segment->base.cluster, segment->base.self, config->cluster, config->self);
}

static int read_header(struct scan *scan, uint64_t number, struct wal_segment *segment) {
  scan->bytes.len = 0;
  int rc = scan->files->read(scan->files->arg, scan->name, &scan->bytes, scan->err);
  if (rc != 0) return rc;
  rc = holt__wal_segment_read(holt_buf(scan->bytes.data, scan->bytes.len), segment);
  if (rc == HOLT_EVERSION)
    return holt_err_set(scan->err, rc,
                        "%s was written by a newer holt (layout %u, this one knows up to %u); start the node "
                        "with that one, or give it another directory",
                        scan->name, holt_get_u32(scan->bytes.data + 8), WAL_VERSION);
  if (rc != 0) return corrupt(scan, 0, "the header is damaged");
  rc = check_owner(scan, segment);
  if (rc != 0) return rc;
  if (segment->base.last > WAL_INDEX_MAX || segment->base.snapshot.index > segment->base.last)
    return corrupt(scan, 0, "the header contradicts itself");
  if (segment->number != number) return corrupt(scan, 0, "the file has another segment's name");
  if (segment->capacity != scan->bytes.len) return corrupt(scan, scan->bytes.len, "the file was cut short");
  if (segment->capacity > UINT32_MAX || segment->capacity < segment->size + WAL_SEAL_BYTES)
    return corrupt(scan, 0, "the file has a size that was never made");
  scan->used = scan->bytes.len;
  while (scan->used > segment->size && scan->bytes.data[scan->used - 1] == 0) scan->used--;
  return 0;
}

static void begin_segment(struct scan *scan, const struct wal_segment *segment) {
  struct holt_wal *wal = scan->wal;
  wal->number = segment->number;
  wal->capacity = segment->capacity;
  wal->tail = segment->size;
  wal->sequence = segment->sequence - 1;
  wal->chain = segment->chain;
  scan->end = END_CLEAN;
}

/* `place`: 0 for the first one that is read. */
static int scan_segment(struct scan *scan, size_t place) {
  struct holt_wal *wal = scan->wal;
  struct wal_segment segment;
  holt__wal_name(scan->name, scan->numbers[place], false);
  int rc = read_header(scan, scan->numbers[place], &segment);
  if (rc != 0) return rc;
  if (place == 0) {
    wal->state = segment.base;
    wal->oldest = segment.number;
  } else if (scan->end != END_SEALED) {
    /* Made just before the crash, and nothing was written to it: the one before is still the last. */
    if (place + 1 < scan->count || scan->used > segment.size) {
      holt__wal_name(scan->name, wal->number, false);
      return corrupt(scan, wal->tail, "the end of a segment is missing, and a later one was written to");
    }
    wal->drop_next = true;
    return 0;
  } else if (segment.chain != wal->chain || segment.sequence != wal->sequence + 1 ||
             !is_same_state(&segment.base, &wal->state)) {
    return corrupt(scan, 0, "the segment does not follow the one before");
  }
  begin_segment(scan, &segment);
  rc = scan_batches(scan);
  if (rc != 0) return rc;
  wal->wipe_to = scan->used;
  return 0;
}

static int scan_all(struct scan *scan) {
  struct holt_wal *wal = scan->wal;
  for (size_t i = 0; i < scan->count; i++) {
    int rc = scan_segment(scan, i);
    if (rc != 0) return rc;
  }
  if (scan->count == 0) return 0;
  if (scan->end == END_SEALED) {
    holt__wal_name(scan->name, wal->number + 1, false);
    return corrupt(scan, 0, "this file is missing");
  }
  if (wal->state.first > wal->state.snapshot.index + 1) {
    holt__wal_name(scan->name, wal->oldest - 1, false);
    return corrupt(scan, 0, "this file, whose entries are still needed, is missing");
  }
  return 0;
}

/* --- Opening -------------------------------------------------------------------------------------- */

static void add_stray(struct holt_wal *wal, const char *name) {
  wal->strays = holt_realloc(wal->strays, (wal->stray_count + 1) * sizeof *wal->strays);
  wal->strays[wal->stray_count++] = holt_strdup(name);
}

static int by_number(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* Which segments there are. Of those not joined to the newest by an unbroken row of numbers, a crash while
 * old ones were dropped brought some back: they go, and if one was needed after all, the scan will miss its
 * entries. */
static void sort_names(struct scan *scan, char **names, size_t count) {
  char name[HOLT_FILE_NAME_MAX + 1];
  size_t total = 0;
  scan->numbers = holt_alloc((count + 1) * sizeof *scan->numbers);
  for (size_t i = 0; i < count; i++) {
    bool is_temporary;
    uint64_t number = holt__wal_name_number(names[i], &is_temporary);
    if (number != 0 && is_temporary) add_stray(scan->wal, names[i]);
    if (number != 0 && !is_temporary) scan->numbers[total++] = number;
  }
  qsort(scan->numbers, total, sizeof *scan->numbers, by_number);
  size_t begin = total;
  while (begin > 0 && (begin == total || scan->numbers[begin - 1] + 1 == scan->numbers[begin])) begin--;
  for (size_t i = 0; i < begin; i++) {
    holt__wal_name(name, scan->numbers[i], false);
    add_stray(scan->wal, name);
  }
  scan->count = total - begin;
  memmove(scan->numbers, scan->numbers + begin, scan->count * sizeof *scan->numbers);
}

static int recover(struct holt_wal *wal, const struct holt_wal_files *files, struct holt_err *err) {
  struct scan scan = {.wal = wal, .files = files, .err = err};
  char **names = NULL;
  size_t count = 0;
  int rc = files->list(files->arg, &names, &count, err);
  if (rc != 0) return rc;
  sort_names(&scan, names, count);
  free(names);
  rc = scan_all(&scan);
  if (rc == 0 && scan.count == 0) {
    wal->state =
        (struct holt_wal_state){.cluster = wal->config.cluster, .self = wal->config.self, .first = 1};
    if (wal->config.cluster == 0 || wal->config.self == 0)
      rc = holt_err_set(err, HOLT_EINVAL, "a new log needs to know whose it is");
  }
  free(scan.numbers);
  holt_writer_free(&scan.bytes);
  return rc;
}

int holt_wal_open(struct holt_wal *wal, const struct holt_wal_files *files, struct holt_err *err) {
  HOLT_ASSERT(!wal->is_open);
  int rc = recover(wal, files, err);
  if (rc != 0) return rc;
  wal->is_open = true;
  wal->needs_repair = wal->is_opening = true;
  wal->filling.after = wal->state;
  holt__wal_add_boot(wal);
  rc = holt_wal_save(wal, files, err);
  if (rc != 0) wal->is_open = false;
  return rc;
}

/* --- On a simulated disk -------------------------------------------------------------------------- */

static int sim_list(void *arg, char ***names, size_t *count, struct holt_err *err) {
  (void)err;
  return holt_sim_disk_list(arg, names, count);
}

static int sim_read(void *arg, const char *name, struct holt_writer *into, struct holt_err *err) {
  struct holt_buf bytes;
  int rc = holt_sim_disk_view(arg, name, &bytes);
  if (rc != 0) return holt_err_set(err, rc, "%s: %s", name, holt_err_text(rc));
  holt_write_bytes(into, bytes.data, bytes.len);
  return 0;
}

static int sim_run(void *arg, const struct holt_file_op *ops, size_t count, struct holt_err *err) {
  size_t failed;
  int rc = holt_sim_disk_run(arg, ops, count, &failed);
  if (rc == 0) return 0;
  return holt_err_set(err, rc, "%s: %s", ops[failed].name == NULL ? "the directory" : ops[failed].name,
                      holt_err_text(rc));
}

struct holt_wal_files holt_wal_on_sim_disk(struct holt_sim_disk *disk) {
  return (struct holt_wal_files){.arg = disk, .list = sim_list, .read = sim_read, .run = sim_run};
}
