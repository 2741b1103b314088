/* wal_read.c - where each durable entry lies; and the pieces of files that hold entries to be read back. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "store/wal_impl.h"

struct wal_place *holt__wal_place(const struct holt_wal *wal, uint64_t index) {
  HOLT_ASSERT(index >= wal->state.first);
  HOLT_ASSERT(index - wal->state.first < wal->place_count);
  return &wal->places[wal->place_begin + (index - wal->state.first)];
}

void holt__wal_place_push(struct holt_wal *wal, struct wal_place place) {
  if (wal->place_begin + wal->place_count == wal->place_cap) {
    if (wal->place_begin > wal->place_cap / 2) { /* the front is empty: move down instead of growing */
      memmove(wal->places, wal->places + wal->place_begin, wal->place_count * sizeof *wal->places);
      wal->place_begin = 0;
    } else {
      wal->place_cap = wal->place_cap == 0 ? 64 : wal->place_cap * 2;
      wal->places = holt_realloc(wal->places, wal->place_cap * sizeof *wal->places);
    }
  }
  wal->places[wal->place_begin + wal->place_count++] = place;
}

void holt__wal_places_cut_front(struct holt_wal *wal, size_t count) {
  HOLT_ASSERT(count <= wal->place_count);
  wal->place_begin += count;
  wal->place_count -= count;
  if (wal->place_count == 0) wal->place_begin = 0;
}

void holt__wal_places_cut_back(struct holt_wal *wal, size_t count) {
  HOLT_ASSERT(count <= wal->place_count);
  wal->place_count -= count;
  if (wal->place_count == 0) wal->place_begin = 0;
}

/* --- Reading -------------------------------------------------------------------------------------- */

int holt_wal_locate(const struct holt_wal *wal, uint64_t first, uint64_t last, size_t max_bytes,
                    struct holt_wal_piece *piece) {
  if (last > wal->state.last) last = wal->state.last;
  if (first < wal->state.first || first > last) return HOLT_ENOTFOUND;
  const struct wal_place *begin = holt__wal_place(wal, first), *end = begin;
  uint64_t index = first;
  for (; index < last; index++) {
    const struct wal_place *next = end + 1;
    if (next->segment != begin->segment || next->offset + next->len - begin->offset > max_bytes) break;
    end = next;
  }
  holt__wal_name(piece->name, begin->segment, false);
  piece->offset = begin->offset;
  piece->len = end->offset + end->len - begin->offset;
  piece->first = first;
  piece->count = (uint32_t)(index - first + 1);
  return 0;
}

static int decode_one(const struct wal_place *place, uint64_t index, struct holt_buf record_bytes,
                      struct holt_raft_entry *entry) {
  struct wal_record record;
  if (holt__wal_record_read(record_bytes, &record) != place->len) return HOLT_ECORRUPT;
  if (!holt__wal_entry_read(&record, entry)) return HOLT_ECORRUPT;
  return entry->index == index && entry->term == place->term ? 0 : HOLT_ECORRUPT;
}

int holt_wal_decode(const struct holt_wal *wal, const struct holt_wal_piece *piece, struct holt_buf bytes,
                    struct holt_raft_entry *entries, uint32_t *count, struct holt_err *err) {
  bool is_temporary;
  uint64_t segment = holt__wal_name_number(piece->name, &is_temporary);
  HOLT_ASSERT(bytes.len == piece->len);
  for (*count = 0; *count < piece->count; (*count)++) {
    uint64_t index = piece->first + *count;
    if (index < wal->state.first || index > wal->state.last) break;
    const struct wal_place *place = holt__wal_place(wal, index);
    if (place->segment != segment || place->offset < piece->offset ||
        place->offset + place->len > piece->offset + piece->len)
      break; /* another entry has taken that index meanwhile */
    struct holt_buf at = holt_buf(bytes.data + (place->offset - piece->offset), place->len);
    if (decode_one(place, index, at, &entries[*count]) != 0)
      return holt_err_set(err, HOLT_ECORRUPT,
                          "entry %llu, at byte %u of %s, is not what was written there; check the disk",
                          (unsigned long long)index, place->offset, piece->name);
  }
  return 0;
}

int holt_wal_read(const struct holt_wal *wal, const struct holt_wal_files *files, uint64_t first,
                  uint64_t last, size_t max_bytes, struct holt_writer *bytes, struct holt_raft_entry *entries,
                  uint32_t *count, uint32_t entry_max, struct holt_err *err) {
  struct holt_wal_piece piece;
  *count = 0;
  if (entry_max == 0) return HOLT_EINVAL;
  if (last - first >= entry_max) last = first + entry_max - 1;
  int rc = holt_wal_locate(wal, first, last, max_bytes, &piece);
  if (rc != 0) return holt_err_code(err, rc);
  bytes->len = 0;
  struct holt_file_op op = {.type = HOLT_FILE_READ,
                            .name = piece.name,
                            .offset = piece.offset,
                            .len = piece.len,
                            .into = holt_writer_grow(bytes, piece.len)};
  rc = files->run(files->arg, &op, 1, err);
  if (rc != 0) return rc;
  return holt_wal_decode(wal, &piece, holt_buf(bytes->data, bytes->len), entries, count, err);
}

/* --- For the core at its start -------------------------------------------------------------------- */

/* Read entries first..last into `out`, which has room for them and for `size` bytes. */
static int read_all(const struct holt_wal *wal, const struct holt_wal_files *files, uint64_t first,
                    uint64_t last, struct holt_wal_restored *out, struct holt_err *err) {
  size_t at = 0;
  for (uint64_t index = first; index <= last;) {
    struct holt_wal_piece piece;
    uint32_t count;
    int rc = holt_wal_locate(wal, index, last, SIZE_MAX, &piece);
    HOLT_ASSERT(rc == 0);
    struct holt_file_op op = {.type = HOLT_FILE_READ,
                              .name = piece.name,
                              .offset = piece.offset,
                              .len = piece.len,
                              .into = out->bytes + at};
    rc = files->run(files->arg, &op, 1, err);
    if (rc != 0) return rc;
    rc = holt_wal_decode(wal, &piece, holt_buf(out->bytes + at, piece.len), out->entries + out->restore.count,
                         &count, err);
    if (rc != 0) return rc;
    HOLT_ASSERT(count == piece.count);
    out->restore.count += count;
    index += count;
    at += piece.len;
  }
  return 0;
}

int holt_wal_restore(const struct holt_wal *wal, const struct holt_wal_files *files,
                     struct holt_wal_restored *out, struct holt_err *err) {
  const struct holt_wal_state *state = &wal->state;
  uint64_t first = state->snapshot.index + 1;
  size_t size = 0;
  *out = (struct holt_wal_restored){.restore = {.term = state->term, .vote = state->vote}};
  if (state->snapshot.index != 0) {
    out->snapshot = state->snapshot;
    out->restore.snapshot = &out->snapshot;
  }
  if (first > state->last) return 0;
  for (uint64_t index = first; index <= state->last;) {
    struct holt_wal_piece piece;
    int rc = holt_wal_locate(wal, index, state->last, SIZE_MAX, &piece);
    if (rc != 0) return holt_err_code(err, rc);
    size += piece.len;
    index += piece.count;
  }
  out->bytes = holt_realloc(NULL, size);
  out->entries = holt_alloc((size_t)(state->last - first + 1) * sizeof *out->entries);
  out->restore.entries = out->entries;
  int rc = read_all(wal, files, first, state->last, out, err);
  if (rc != 0) holt_wal_restored_free(out);
  return rc;
}

void holt_wal_restored_free(struct holt_wal_restored *restored) {
  free(restored->bytes);
  free(restored->entries);
  *restored = (struct holt_wal_restored){0};
}
