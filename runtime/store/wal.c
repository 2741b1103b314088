/* wal.c - adding to the segment log, and the operations that make it durable.
 *
 * - holt_wal_add encodes records into the draft that is being filled.
 * - holt_wal_flush makes the draft a batch behind the last one, or first a new segment where it has no room.
 * - holt_wal_done moves the log forward; the places of the entries become known.
 * - No room for a batch: the repair job wipes what may lie there, then both drafts are dropped and the
 * failure is told. In this order: who was told that an entry, a vote or a truncation failed acts on it, and a
 * crash must not bring it back then. No room for a new segment is told at once: no batch was written.
 * - Anything else fails: the log has failed for good; what became of the batch only a recovery can tell. */
#include "store/wal.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "store/wal_impl.h"

struct holt_wal *holt_wal_new(const struct holt_wal_config *config) {
  struct holt_wal *wal = holt_alloc(sizeof *wal);
  wal->config = *config;
  if (wal->config.segment_bytes == 0) wal->config.segment_bytes = HOLT_WAL_SEGMENT_BYTES;
  if (wal->config.segment_bytes < 1024) wal->config.segment_bytes = 1024;
  wal->state.first = 1;
  return wal;
}

static void draft_free(struct wal_batch_draft *draft) {
  holt_writer_free(&draft->bytes);
  free(draft->edits);
}

void holt_wal_free(struct holt_wal *wal) {
  if (wal == NULL) return;
  draft_free(&wal->filling);
  draft_free(&wal->flying);
  holt_writer_free(&wal->preamble);
  for (size_t i = 0; i < wal->stray_count; i++) free(wal->strays[i]);
  free(wal->strays);
  free(wal->places);
  free(wal->ops);
  free(wal->op_names);
  free(wal->zeros);
  free(wal);
}

const struct holt_wal_state *holt_wal_state(const struct holt_wal *wal) {
  return &wal->state;
}

uint64_t holt_wal_saved(const struct holt_wal *wal) {
  return wal->saved;
}

/* --- Adding --------------------------------------------------------------------------------------- */

static void draft_empty(struct wal_batch_draft *draft) {
  draft->bytes.len = 0;
  draft->edit_count = 0;
  draft->records = 0;
  draft->adds = 0;
}

static const struct wal_edit *find_edit(const struct wal_batch_draft *draft, uint64_t index) {
  for (size_t i = draft->edit_count; i > 0; i--)
    if (draft->edits[i - 1].index == index && draft->edits[i - 1].len > 0) return &draft->edits[i - 1];
  return NULL;
}

/* Term of an entry that is in the log with all that was added, 0 when unknown. */
static uint64_t term_of(const struct holt_wal *wal, uint64_t index) {
  const struct holt_wal_state *after = &wal->filling.after;
  if (index == after->snapshot.index) return after->snapshot.term;
  const struct wal_edit *edit = find_edit(&wal->filling, index);
  if (edit == NULL) edit = find_edit(&wal->flying, index);
  if (edit != NULL) return edit->term;
  bool is_placed = index >= wal->state.first && index <= wal->state.last;
  return is_placed ? holt__wal_place(wal, index)->term : 0;
}

static int check_snapshot(const struct holt_wal *wal, const struct holt_raft_persist *persist,
                          const struct holt_wal_state *after) {
  const struct holt_raft_snapshot *snapshot = persist->snapshot;
  if (snapshot->index == 0 || snapshot->index > WAL_INDEX_MAX || snapshot->index < after->snapshot.index)
    return HOLT_EINVAL;
  if (snapshot->conf.count > HOLT_RAFT_MEMBERS_MAX) return HOLT_EINVAL;
  if (persist->is_reset) return 0;
  if (snapshot->index > after->last) return HOLT_EINVAL;
  uint64_t term = term_of(wal, snapshot->index);
  return term == 0 || term == snapshot->term ? 0 : HOLT_EINVAL;
}

static int check_entries(const struct holt_raft_persist *persist, struct holt_wal_state *after,
                         size_t *size) {
  for (size_t i = 0; i < persist->count; i++) {
    const struct holt_raft_entry *entry = &persist->entries[i];
    if (entry->index != after->last + 1 || entry->term == 0 || entry->term < after->last_term)
      return HOLT_EINVAL;
    if (entry->len > HOLT_WAL_BATCH_MAX / 2) return HOLT_ETOOLARGE;
    after->last = entry->index;
    after->last_term = entry->term;
    *size += wal_round(WAL_RECORD_BYTES + WAL_ENTRY_BYTES + (size_t)entry->len);
  }
  return 0;
}

/* What the state will be, or why `persist` does not fit. */
static int check(const struct holt_wal *wal, const struct holt_raft_persist *persist,
                 struct holt_wal_state *after) {
  size_t size = wal->filling.bytes.len + 8192; /* room for everything but entries */
  *after = wal->filling.after;
  if (persist->has_vote) {
    bool has_voted = persist->term == after->term && after->vote != 0;
    if (persist->term < after->term || (has_voted && persist->vote != after->vote)) return HOLT_EINVAL;
    after->term = persist->term;
    after->vote = persist->vote;
  }
  if (persist->snapshot != NULL) {
    int rc = check_snapshot(wal, persist, after);
    if (rc != 0) return rc;
    after->snapshot = *persist->snapshot;
    if (persist->is_reset) {
      after->last = persist->snapshot->index;
      after->last_term = persist->snapshot->term;
      after->first = after->last + 1;
    }
  }
  if (persist->truncate_from != 0) {
    uint64_t from = persist->truncate_from;
    if (from > after->last + 1 || from <= after->snapshot.index || from < after->first) return HOLT_EINVAL;
    if (from <= after->last) {
      after->last = from - 1;
      after->last_term =
          after->last == after->snapshot.index ? after->snapshot.term : term_of(wal, after->last);
    }
  }
  int rc = check_entries(persist, after, &size);
  if (rc != 0) return rc;
  return size > HOLT_WAL_BATCH_MAX ? HOLT_EFULL : 0;
}

static void add_edit(struct wal_batch_draft *draft, struct wal_edit edit) {
  if (draft->edit_count == draft->edit_cap) {
    draft->edit_cap = draft->edit_cap == 0 ? 64 : draft->edit_cap * 2;
    draft->edits = holt_realloc(draft->edits, draft->edit_cap * sizeof *draft->edits);
  }
  draft->edits[draft->edit_count++] = edit;
}

static void add_record(struct wal_batch_draft *draft, enum wal_record_type type, uint64_t index,
                       uint64_t term, struct holt_buf body) {
  struct wal_record record = {.type = (uint8_t)type, .index = index, .term = term, .body = body};
  if (draft->bytes.len == 0) holt_writer_grow(&draft->bytes, WAL_BATCH_BYTES);
  holt__wal_record_write(&draft->bytes, &record, holt_buf(NULL, 0));
  draft->records++;
}

static void add_entry(struct wal_batch_draft *draft, const struct holt_raft_entry *entry) {
  uint8_t head[WAL_ENTRY_BYTES];
  struct wal_record record = {.type = WAL_ENTRY,
                              .kind = entry->type,
                              .index = entry->index,
                              .term = entry->term,
                              .body = holt_buf(entry->data, entry->len)};
  if (draft->bytes.len == 0) holt_writer_grow(&draft->bytes, WAL_BATCH_BYTES);
  holt_put_u64(head, entry->client);
  holt_put_u64(head + 8, entry->seq);
  holt_put_u64(head + 16, entry->low);
  holt_put_u64(head + 24, entry->stamp_ms);
  uint32_t offset = (uint32_t)draft->bytes.len;
  size_t len = holt__wal_record_write(&draft->bytes, &record, holt_buf(head, sizeof head));
  add_edit(draft, (struct wal_edit){entry->index, entry->term, offset, (uint32_t)len});
  draft->records++;
}

static void add_snapshot(struct wal_batch_draft *draft, const struct holt_raft_persist *persist) {
  struct holt_writer body = {0};
  holt__wal_snapshot_write(&body, persist->snapshot);
  add_record(draft, persist->is_reset ? WAL_RESET : WAL_SNAPSHOT, persist->snapshot->index,
             persist->snapshot->term, holt_buf(body.data, body.len));
  if (persist->is_reset) add_edit(draft, (struct wal_edit){0, 0, 0, 0});
  holt_writer_free(&body);
}

int holt_wal_add(struct holt_wal *wal, const struct holt_raft_persist *persist) {
  struct wal_batch_draft *draft = &wal->filling;
  struct holt_wal_state after;
  if (!wal->is_open) return HOLT_ECLOSED;
  if (wal->failed != 0) return wal->failed;
  int rc = check(wal, persist, &after);
  if (rc != 0) return rc;
  if (persist->snapshot != NULL) add_snapshot(draft, persist);
  if (persist->truncate_from != 0) {
    uint64_t from = persist->truncate_from;
    uint64_t kept_term = 0, last = persist->is_reset ? persist->snapshot->index : draft->after.last;
    if (from <= last) {
      kept_term = from - 1 == after.snapshot.index ? after.snapshot.term : term_of(wal, from - 1);
      add_record(draft, WAL_TRUNCATE, from, kept_term, holt_buf(NULL, 0));
      add_edit(draft, (struct wal_edit){from, 0, 0, 0});
    }
  }
  for (size_t i = 0; i < persist->count; i++) add_entry(draft, &persist->entries[i]);
  /* Something is written in any case, so that each add has a batch that makes it durable. */
  if (persist->has_vote || draft->records == 0)
    add_record(draft, WAL_VOTE, after.vote, after.term, holt_buf(NULL, 0));
  draft->after = after;
  draft->adds++;
  return 0;
}

void holt__wal_add_boot(struct holt_wal *wal) {
  wal->filling.after.boot++;
  add_record(&wal->filling, WAL_BOOT, wal->filling.after.boot, 0, holt_buf(NULL, 0));
}

int holt_wal_drop(struct holt_wal *wal, uint64_t index) {
  if (!wal->is_open) return HOLT_ECLOSED;
  if (index > wal->state.snapshot.index) return HOLT_EINVAL;
  if (wal->number == 0) return 0;
  uint64_t needed = index + 1 > wal->state.first ? index + 1 : wal->state.first;
  uint64_t below = needed > wal->state.last ? wal->number : holt__wal_place(wal, needed)->segment;
  if (below > wal->drop_below) wal->drop_below = below;
  return 0;
}

/* --- Operations ----------------------------------------------------------------------------------- */

static void reserve_ops(struct holt_wal *wal, size_t ops, size_t names) {
  wal->op_count = wal->op_name_count = 0;
  if (ops > wal->op_cap) {
    wal->ops = holt_realloc(wal->ops, ops * sizeof *wal->ops);
    wal->op_cap = ops;
  }
  if (names > wal->op_name_cap) {
    wal->op_names = holt_realloc(wal->op_names, names * sizeof *wal->op_names);
    wal->op_name_cap = names;
  }
}

static const char *op_name(struct holt_wal *wal, uint64_t number, bool is_temporary) {
  HOLT_ASSERT(wal->op_name_count < wal->op_name_cap);
  char *name = wal->op_names[wal->op_name_count++];
  holt__wal_name(name, number, is_temporary);
  return name;
}

static void add_op(struct holt_wal *wal, struct holt_file_op op) {
  HOLT_ASSERT(wal->op_count < wal->op_cap);
  wal->ops[wal->op_count++] = op;
}

static void op_simple(struct holt_wal *wal, enum holt_file_op_type type, const char *name) {
  add_op(wal, (struct holt_file_op){.type = type, .name = name});
}

static void op_write(struct holt_wal *wal, const char *name, uint64_t offset, const void *data, size_t len) {
  add_op(wal, (struct holt_file_op){
                  .type = HOLT_FILE_WRITE, .name = name, .offset = offset, .data = data, .len = len});
}

static void plan_repair(struct holt_wal *wal) {
  reserve_ops(wal, wal->stray_count + 6, 4);
  for (size_t i = 0; i < wal->stray_count; i++) op_simple(wal, HOLT_FILE_UNLINK, wal->strays[i]);
  if (wal->drop_next) {
    op_simple(wal, HOLT_FILE_UNLINK, op_name(wal, wal->number + 1, false));
    op_simple(wal, HOLT_FILE_UNLINK, op_name(wal, wal->number + 1, true));
  }
  if (wal->op_count > 0 || wal->is_opening) op_simple(wal, HOLT_FILE_SYNC_DIR, NULL);
  if (wal->number == 0) return;
  const char *name = op_name(wal, wal->number, false);
  if (wal->wipe_to > wal->tail) {
    size_t len = (size_t)(wal->wipe_to - wal->tail);
    wal->zeros = holt_alloc(len);
    op_write(wal, name, wal->tail, wal->zeros, len);
  }
  op_simple(wal, HOLT_FILE_SYNC, name);
  /* What was read may have been in the system's memory only, the last segment's seal among it. */
  if (wal->is_opening && wal->number > wal->oldest)
    op_simple(wal, HOLT_FILE_SYNC, op_name(wal, wal->number - 1, false));
}

static void plan_drop(struct holt_wal *wal) {
  size_t count = (size_t)(wal->drop_below - wal->oldest), cut = 0;
  reserve_ops(wal, count + 1, count);
  for (uint64_t number = wal->oldest; number < wal->drop_below; number++)
    op_simple(wal, HOLT_FILE_UNLINK, op_name(wal, number, false));
  op_simple(wal, HOLT_FILE_SYNC_DIR, NULL);
  /* Nobody shall be sent to look for what may be gone in a moment. */
  while (cut < wal->place_count && wal->places[wal->place_begin + cut].segment < wal->drop_below) cut++;
  holt__wal_places_cut_front(wal, cut);
  wal->state.first += cut;
  if (wal->filling.after.first < wal->state.first) wal->filling.after.first = wal->state.first;
}

static size_t draft_size(const struct wal_batch_draft *draft) {
  return draft->bytes.len + WAL_END_BYTES;
}

static bool has_room(const struct holt_wal *wal) {
  return wal->number != 0 && wal->tail + draft_size(&wal->filling) + WAL_SEAL_BYTES <= wal->capacity;
}

/* The last batch of the present segment, which names the next. */
static void make_seal(struct holt_wal *wal) {
  struct wal_batch_draft draft = {0};
  add_record(&draft, WAL_SEAL, wal->number + 1, 0, holt_buf(NULL, 0));
  holt_writer_grow(&draft.bytes, WAL_END_BYTES);
  HOLT_ASSERT(draft.bytes.len == WAL_SEAL_BYTES);
  wal->seal_batch = (struct wal_batch){.sequence = wal->sequence + 1,
                                       .offset = (uint32_t)wal->tail,
                                       .segment = (uint32_t)wal->number,
                                       .chain = wal->chain};
  holt__wal_batch_seal(draft.bytes.data, draft.bytes.len, &wal->seal_batch);
  memcpy(wal->seal, draft.bytes.data, WAL_SEAL_BYTES);
  draft_free(&draft);
}

static void plan_rotate(struct holt_wal *wal) {
  struct wal_segment segment = {.number = wal->number + 1, .base = wal->state};
  reserve_ops(wal, 8, 3);
  if (wal->number != 0) make_seal(wal);
  segment.sequence = wal->number != 0 ? wal->seal_batch.sequence + 1 : 1;
  segment.chain = wal->number != 0 ? wal->seal_batch.check : 0;
  size_t needed = WAL_HEADER_BYTES + WAL_SNAPSHOT_MAX + draft_size(&wal->filling) + WAL_SEAL_BYTES;
  size_t usual = wal->config.segment_bytes;
  /* A small segment holds a small header: reckon with its real size before making a larger file. */
  for (int i = 0; i < 2; i++) {
    wal->new_capacity = (needed > usual ? needed : usual) + WAL_SECTOR - 1;
    wal->new_capacity -= wal->new_capacity % WAL_SECTOR;
    segment.capacity = wal->new_capacity;
    wal->preamble.len = 0;
    holt__wal_segment_write(&wal->preamble, &segment);
    needed = wal->preamble.len + draft_size(&wal->filling) + WAL_SEAL_BYTES;
  }
  const char *temporary = op_name(wal, segment.number, true), *name = op_name(wal, segment.number, false);
  op_simple(wal, HOLT_FILE_CREATE, temporary);
  add_op(wal, (struct holt_file_op){
                  .type = HOLT_FILE_ALLOCATE, .name = temporary, .len = (size_t)wal->new_capacity});
  op_write(wal, temporary, 0, wal->preamble.data, wal->preamble.len);
  op_simple(wal, HOLT_FILE_SYNC, temporary);
  add_op(wal, (struct holt_file_op){.type = HOLT_FILE_RENAME, .name = temporary, .to = name});
  op_simple(wal, HOLT_FILE_SYNC_DIR, NULL);
  if (wal->number == 0) return;
  const char *old = op_name(wal, wal->number, false);
  op_write(wal, old, wal->tail, wal->seal, WAL_SEAL_BYTES);
  op_simple(wal, HOLT_FILE_SYNC, old);
}

static void plan_batch(struct holt_wal *wal) {
  struct wal_batch_draft spare = wal->flying;
  wal->flying = wal->filling;
  spare.after = wal->filling.after;
  wal->filling = spare;
  draft_empty(&wal->filling);
  struct holt_writer *bytes = &wal->flying.bytes;
  holt_writer_grow(bytes, WAL_END_BYTES);
  wal->seal_batch = (struct wal_batch){.sequence = wal->sequence + 1,
                                       .offset = (uint32_t)wal->tail,
                                       .segment = (uint32_t)wal->number,
                                       .chain = wal->chain};
  holt__wal_batch_seal(bytes->data, bytes->len, &wal->seal_batch);
  reserve_ops(wal, 2, 1);
  const char *name = op_name(wal, wal->number, false);
  op_write(wal, name, wal->tail, bytes->data, bytes->len);
  op_simple(wal, HOLT_FILE_SYNC, name);
}

size_t holt_wal_flush(struct holt_wal *wal, const struct holt_file_op **ops) {
  HOLT_ASSERT(wal->job == WAL_JOB_NONE);
  bool has_batch = wal->filling.records > 0;
  if (!wal->is_open || wal->failed != 0) return 0;
  if (wal->needs_repair && (has_batch || wal->is_opening || wal->is_wiping)) {
    wal->job = WAL_JOB_REPAIR;
    plan_repair(wal);
  } else if (wal->drop_below > wal->oldest) {
    wal->job = WAL_JOB_DROP;
    plan_drop(wal);
  } else if (has_batch && !has_room(wal)) {
    wal->job = WAL_JOB_ROTATE;
    plan_rotate(wal);
  } else if (has_batch) {
    wal->job = WAL_JOB_BATCH;
    plan_batch(wal);
  } else {
    return 0;
  }
  *ops = wal->ops;
  return wal->op_count;
}

/* --- Outcomes ------------------------------------------------------------------------------------- */

static void finish_repair(struct holt_wal *wal) {
  for (size_t i = 0; i < wal->stray_count; i++) free(wal->strays[i]);
  wal->stray_count = 0;
  wal->needs_repair = wal->is_opening = wal->is_wiping = wal->drop_next = false;
  wal->wipe_to = 0;
}

static void finish_rotate(struct holt_wal *wal) {
  if (wal->number != 0) {
    wal->sequence = wal->seal_batch.sequence;
    wal->chain = wal->seal_batch.check;
  } else {
    wal->oldest = 1;
  }
  wal->number++;
  wal->tail = wal->preamble.len;
  wal->capacity = wal->new_capacity;
}

static void apply_edit(struct holt_wal *wal, const struct wal_edit *edit, uint64_t *first) {
  if (edit->len > 0) {
    if (wal->place_count == 0) *first = edit->index;
    holt__wal_place_push(wal, (struct wal_place){.segment = wal->number,
                                                 .term = edit->term,
                                                 .offset = (uint32_t)wal->tail + edit->offset,
                                                 .len = edit->len});
    return;
  }
  uint64_t end = *first + wal->place_count;
  if (edit->index < end)
    holt__wal_places_cut_back(wal, edit->index <= *first ? wal->place_count : (size_t)(end - edit->index));
}

static void finish_batch(struct holt_wal *wal) {
  uint64_t first = wal->state.first;
  for (size_t i = 0; i < wal->flying.edit_count; i++) apply_edit(wal, &wal->flying.edits[i], &first);
  wal->state = wal->flying.after;
  HOLT_ASSERT(wal->state.last + 1 - wal->state.first == wal->place_count);
  HOLT_ASSERT(wal->place_count == 0 || first == wal->state.first);
  wal->tail += wal->flying.bytes.len;
  wal->sequence = wal->seal_batch.sequence;
  wal->chain = wal->seal_batch.check;
  wal->saved += wal->flying.adds;
  draft_empty(&wal->flying);
}

static void drop_drafts(struct holt_wal *wal) {
  draft_empty(&wal->flying);
  draft_empty(&wal->filling);
  wal->filling.after = wal->state;
}

static int finish(struct holt_wal *wal, enum wal_job job) {
  int status = 0;
  if (job == WAL_JOB_REPAIR) {
    status = wal->is_wiping ? HOLT_ENOSPC : 0;
    finish_repair(wal);
    if (status != 0) drop_drafts(wal);
  }
  if (job == WAL_JOB_DROP) wal->oldest = wal->drop_below;
  if (job == WAL_JOB_ROTATE) finish_rotate(wal);
  if (job == WAL_JOB_BATCH) finish_batch(wal);
  return status;
}

/* The job found no room. */
static int give_way(struct holt_wal *wal, enum wal_job job) {
  switch (job) {
  case WAL_JOB_DROP:
    wal->drop_below = wal->oldest; /* tried again with the next drop */
    return 0;
  case WAL_JOB_BATCH:
    wal->needs_repair = wal->is_wiping = true;
    wal->wipe_to = wal->tail + wal->flying.bytes.len;
    return 0; /* told when it is wiped */
  case WAL_JOB_ROTATE:
    wal->needs_repair = wal->drop_next = true;
    wal->wipe_to = wal->number == 0 ? 0 : wal->tail + WAL_SEAL_BYTES;
    break;
  default:
    if (wal->is_wiping) wal->failed = HOLT_EIO; /* what the batch left cannot be taken back */
    break;
  }
  drop_drafts(wal);
  return wal->failed != 0 ? wal->failed : HOLT_ENOSPC;
}

int holt_wal_done(struct holt_wal *wal, int status) {
  enum wal_job job = wal->job;
  HOLT_ASSERT(job != WAL_JOB_NONE);
  wal->job = WAL_JOB_NONE;
  free(wal->zeros);
  wal->zeros = NULL;
  if (status == 0) return finish(wal, job);
  if (status == HOLT_ENOSPC) return give_way(wal, job);
  wal->failed = status;
  drop_drafts(wal);
  return status;
}

int holt_wal_save(struct holt_wal *wal, const struct holt_wal_files *files, struct holt_err *err) {
  const struct holt_file_op *ops;
  for (size_t count = holt_wal_flush(wal, &ops); count > 0; count = holt_wal_flush(wal, &ops)) {
    int rc = holt_wal_done(wal, files->run(files->arg, ops, count, err));
    if (rc != 0) return rc;
  }
  return wal->failed;
}
