/* wal_format.c - segments, batches and records as bytes, and back. docs/store.md has the tables. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "store/wal_impl.h"

/* --- Names ---------------------------------------------------------------------------------------- */

void holt__wal_name(char out[HOLT_FILE_NAME_MAX + 1], uint64_t number, bool is_temporary) {
  static const char digits[] =
      "0123456789abcdef"; /* printf would cost a simulated write a quarter of its time */
  for (int i = 0; i < 16; i++) out[i] = digits[number >> (60 - 4 * i) & 15];
  memcpy(out + 16, is_temporary ? ".tmp" : ".wal", 5);
}

uint64_t holt__wal_name_number(const char *name, bool *is_temporary) {
  if (strlen(name) != 20 || strspn(name, "0123456789abcdef") != 16) return 0;
  *is_temporary = strcmp(name + 16, ".tmp") == 0;
  if (!*is_temporary && strcmp(name + 16, ".wal") != 0) return 0;
  return strtoull(name, NULL, 16);
}

/* --- Records -------------------------------------------------------------------------------------- */

size_t holt__wal_record_write(struct holt_writer *w, const struct wal_record *record, struct holt_buf head) {
  size_t len = head.len + record->body.len;
  size_t size = wal_round(WAL_RECORD_BYTES + len);
  uint8_t *at = holt_writer_grow(w, size);
  holt_put_u32(at + 4, (uint32_t)len);
  holt_put_u64(at + 8, record->index);
  holt_put_u64(at + 16, record->term);
  at[24] = record->type;
  at[25] = record->kind;
  at[26] = at[27] = 0;
  if (head.len > 0) memcpy(at + WAL_RECORD_BYTES, head.data, head.len);
  if (record->body.len > 0) memcpy(at + WAL_RECORD_BYTES + head.len, record->body.data, record->body.len);
  memset(at + WAL_RECORD_BYTES + len, 0, size - WAL_RECORD_BYTES - len);
  holt_put_u32(at, holt_crc32c(0, at + 4, size - 4));
  return size;
}

size_t holt__wal_record_read(struct holt_buf bytes, struct wal_record *record) {
  if (bytes.len < WAL_RECORD_BYTES) return 0;
  const uint8_t *at = bytes.data;
  uint32_t len = holt_get_u32(at + 4);
  if (len > bytes.len - WAL_RECORD_BYTES) return 0;
  size_t size = wal_round(WAL_RECORD_BYTES + (size_t)len);
  if (size > bytes.len) return 0;
  if (holt_crc32c(0, at + 4, size - 4) != holt_get_u32(at)) return 0;
  record->index = holt_get_u64(at + 8);
  record->term = holt_get_u64(at + 16);
  record->type = at[24];
  record->kind = at[25];
  record->body = holt_buf(at + WAL_RECORD_BYTES, len);
  return size;
}

bool holt__wal_entry_read(const struct wal_record *record, struct holt_raft_entry *entry) {
  if (record->type != WAL_ENTRY || record->body.len < WAL_ENTRY_BYTES) return false;
  const uint8_t *at = record->body.data;
  *entry = (struct holt_raft_entry){
      .index = record->index,
      .term = record->term,
      .client = holt_get_u64(at),
      .seq = holt_get_u64(at + 8),
      .low = holt_get_u64(at + 16),
      .stamp_ms = holt_get_u64(at + 24),
      .data = at + WAL_ENTRY_BYTES,
      .len = (uint32_t)(record->body.len - WAL_ENTRY_BYTES),
      .type = record->kind,
  };
  return true;
}

/* --- Batches -------------------------------------------------------------------------------------- */

/* Checks of the records in order, and their count; false when one is not whole or they do not fill the batch.
 */
static bool digest_records(const uint8_t *bytes, size_t size, uint32_t *count, uint32_t *digest) {
  struct holt_buf left = holt_buf(bytes + WAL_BATCH_BYTES, size - WAL_BATCH_BYTES - WAL_END_BYTES);
  struct wal_record record;
  *count = 0;
  *digest = 0;
  while (left.len > 0) {
    size_t len = holt__wal_record_read(left, &record);
    if (len == 0) return false;
    *digest = holt_crc32c(*digest, left.data, 4);
    (*count)++;
    left = holt_buf(left.data + len, left.len - len);
  }
  return true;
}

void holt__wal_batch_seal(uint8_t *bytes, size_t size, struct wal_batch *batch) {
  batch->size = (uint32_t)size;
  /* The checks of the records were made when they were added: only their list is summed up here. */
  batch->count = 0;
  batch->digest = 0;
  for (size_t at = WAL_BATCH_BYTES; at < size - WAL_END_BYTES;) {
    batch->digest = holt_crc32c(batch->digest, bytes + at, 4);
    batch->count++;
    at += wal_round(WAL_RECORD_BYTES + (size_t)holt_get_u32(bytes + at + 4));
  }
  holt_put_u32(bytes, WAL_BATCH_MAGIC);
  holt_put_u32(bytes + 4, batch->size);
  holt_put_u64(bytes + 8, batch->sequence);
  holt_put_u32(bytes + 16, batch->offset);
  holt_put_u32(bytes + 20, batch->segment);
  holt_put_u32(bytes + 24, batch->chain);
  holt_put_u32(bytes + 28, batch->count);
  holt_put_u32(bytes + 32, batch->digest);
  batch->check = holt_crc32c(0, bytes, 36);
  holt_put_u32(bytes + 36, batch->check);
  holt_put_u32(bytes + size - 8, (uint32_t)batch->sequence);
  holt_put_u32(bytes + size - 4,
               WAL_END_MAGIC); /* its last byte is never zero: zero there means "not written" */
}

bool holt__wal_batch_read(const uint8_t *bytes, size_t left, uint64_t segment, uint64_t offset,
                          struct wal_batch *batch) {
  if (left < WAL_BATCH_BYTES + WAL_END_BYTES || holt_get_u32(bytes) != WAL_BATCH_MAGIC) return false;
  if (holt_crc32c(0, bytes, 36) != holt_get_u32(bytes + 36)) return false;
  *batch = (struct wal_batch){
      .size = holt_get_u32(bytes + 4),
      .sequence = holt_get_u64(bytes + 8),
      .offset = holt_get_u32(bytes + 16),
      .segment = holt_get_u32(bytes + 20),
      .chain = holt_get_u32(bytes + 24),
      .count = holt_get_u32(bytes + 28),
      .digest = holt_get_u32(bytes + 32),
      .check = holt_get_u32(bytes + 36),
  };
  return batch->offset == offset && batch->segment == (uint32_t)segment && batch->size % 8 == 0 &&
         batch->size >= WAL_BATCH_BYTES + WAL_END_BYTES && batch->size <= left;
}

bool holt__wal_batch_is_whole(const uint8_t *bytes, const struct wal_batch *batch) {
  uint32_t count, digest;
  if (holt_get_u32(bytes + batch->size - 8) != (uint32_t)batch->sequence) return false;
  if (holt_get_u32(bytes + batch->size - 4) != WAL_END_MAGIC) return false;
  return digest_records(bytes, batch->size, &count, &digest) && count == batch->count &&
         digest == batch->digest;
}

/* --- Snapshots ------------------------------------------------------------------------------------ */

void holt__wal_snapshot_write(struct holt_writer *w, const struct holt_raft_snapshot *snapshot) {
  HOLT_ASSERT(snapshot->conf.count <= HOLT_RAFT_MEMBERS_MAX);
  holt_write_u64(w, snapshot->size_bytes);
  holt_write_u64(w, snapshot->conf_index);
  holt_write_u64(w, snapshot->stamp_ms);
  holt_write_u16(w, (uint16_t)snapshot->conf.count);
  holt_write_u16(w, snapshot->conf.is_joint);
  for (uint32_t i = 0; i < snapshot->conf.count; i++) {
    const struct holt_raft_member *member = &snapshot->conf.members[i];
    holt_write_u64(w, member->id);
    holt_write_u64(w, member->since);
    holt_write_u64(w, member->replaces);
    holt_write_u8(w, member->role);
    holt_write_u8(w, member->priority);
    holt_write_u8(w, member->can_lead);
    holt_write_u8(w, member->will_vote);
  }
}

bool holt__wal_snapshot_read(struct holt_buf bytes, struct holt_raft_snapshot *snapshot) {
  struct holt_reader in = holt_reader(bytes);
  snapshot->size_bytes = holt_read_u64(&in);
  snapshot->conf_index = holt_read_u64(&in);
  snapshot->stamp_ms = holt_read_u64(&in);
  snapshot->conf = (struct holt_raft_conf){.count = holt_read_u16(&in)};
  snapshot->conf.is_joint = holt_read_u16(&in) != 0;
  if (in.failed || snapshot->conf.count > HOLT_RAFT_MEMBERS_MAX) return false;
  for (uint32_t i = 0; i < snapshot->conf.count; i++) {
    struct holt_raft_member *member = &snapshot->conf.members[i];
    member->id = holt_read_u64(&in);
    member->since = holt_read_u64(&in);
    member->replaces = holt_read_u64(&in);
    member->role = holt_read_u8(&in);
    member->priority = holt_read_u8(&in);
    member->can_lead = holt_read_u8(&in) != 0;
    member->will_vote = holt_read_u8(&in) != 0;
  }
  return !in.failed && holt_reader_left(&in) == 0;
}

/* --- Segments ------------------------------------------------------------------------------------- */

enum { AT_SIZE = 12, AT_CONF_LEN = 112, AT_CHAIN = 116, AT_CRC = 124 };

static uint32_t segment_check(const uint8_t *bytes, size_t size) {
  uint32_t crc = holt_crc32c(0, bytes, AT_CRC);
  return holt_crc32c(crc, bytes + WAL_HEADER_BYTES, size - WAL_HEADER_BYTES);
}

void holt__wal_segment_write(struct holt_writer *w, const struct wal_segment *segment) {
  const struct holt_wal_state *base = &segment->base;
  const uint64_t words[] = {base->cluster,     base->self, segment->number,      segment->capacity,
                            segment->sequence, base->last, base->last_term,      base->term,
                            base->vote,        base->boot, base->snapshot.index, base->snapshot.term};
  size_t begin = w->len;
  uint8_t *header = holt_writer_grow(w, WAL_HEADER_BYTES);
  memset(header, 0, WAL_HEADER_BYTES);
  memcpy(header, WAL_MAGIC, 8); /* NOLINT(bugprone-not-null-terminated-result): eight bytes, no text */
  holt_put_u32(header + 8, WAL_VERSION);
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) holt_put_u64(header + 16 + 8 * i, words[i]);
  holt_put_u32(header + AT_CHAIN, segment->chain);
  if (base->snapshot.index != 0) holt__wal_snapshot_write(w, &base->snapshot);
  size_t conf_len = w->len - begin - WAL_HEADER_BYTES;
  size_t size = wal_round(w->len - begin);
  memset(holt_writer_grow(w, size - (w->len - begin)), 0, size - WAL_HEADER_BYTES - conf_len);
  header = w->data + begin; /* it may have moved */
  holt_put_u32(header + AT_SIZE, (uint32_t)size);
  holt_put_u32(header + AT_CONF_LEN, (uint32_t)conf_len);
  holt_put_u32(header + AT_CRC, segment_check(header, size));
}

int holt__wal_segment_read(struct holt_buf bytes, struct wal_segment *segment) {
  const uint8_t *at = bytes.data;
  if (bytes.len < WAL_HEADER_BYTES || memcmp(at, WAL_MAGIC, 8) != 0) return HOLT_ECORRUPT;
  uint32_t size = holt_get_u32(at + AT_SIZE), conf_len = holt_get_u32(at + AT_CONF_LEN);
  if (size < WAL_HEADER_BYTES || size > WAL_HEADER_BYTES + WAL_SNAPSHOT_MAX || size % 8 != 0 ||
      size > bytes.len)
    return HOLT_ECORRUPT;
  if (segment_check(at, size) != holt_get_u32(at + AT_CRC)) return HOLT_ECORRUPT;
  if (holt_get_u32(at + 8) != WAL_VERSION) return HOLT_EVERSION;
  if (conf_len > size - WAL_HEADER_BYTES) return HOLT_ECORRUPT;
  struct holt_reader in = holt_reader(holt_buf(at + 16, WAL_HEADER_BYTES - 16));
  struct holt_wal_state *base = &segment->base;
  *segment = (struct wal_segment){.size = size, .chain = holt_get_u32(at + AT_CHAIN)};
  base->cluster = holt_read_u64(&in);
  base->self = holt_read_u64(&in);
  segment->number = holt_read_u64(&in);
  segment->capacity = holt_read_u64(&in);
  segment->sequence = holt_read_u64(&in);
  base->last = holt_read_u64(&in);
  base->last_term = holt_read_u64(&in);
  base->term = holt_read_u64(&in);
  base->vote = holt_read_u64(&in);
  base->boot = holt_read_u64(&in);
  base->snapshot.index = holt_read_u64(&in);
  base->snapshot.term = holt_read_u64(&in);
  base->first = base->last + 1;
  if (base->snapshot.index == 0) return conf_len == 0 ? 0 : HOLT_ECORRUPT;
  return holt__wal_snapshot_read(holt_buf(at + WAL_HEADER_BYTES, conf_len), &base->snapshot) ? 0
                                                                                             : HOLT_ECORRUPT;
}
