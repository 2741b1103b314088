/* codec.c - bytes of messages, entries and snapshots. Bounded; anything malformed is refused.
 *
 * A message: type u8, flags u8, cluster, from, to, term, then the fields of its type in the order of the
 * list below, then its entries, or its snapshot and data. Numbers are little-endian. */
#include <string.h>

#include "raft/raft_impl.h"

enum field {
  F_INDEX = 1,
  F_LOG_TERM = 2,
  F_COMMIT = 4,
  F_ROUND = 8,
  F_EPOCH = 16,
  F_HINT = 32,
  F_HINT_TERM = 64,
  F_TAG = 128,
  F_OFFSET = 256,
  F_CODE = 512,
  F_ENTRIES = 1024,
  F_SNAPSHOT = 2048
};

static const uint16_t FIELDS[HOLT_RAFT_MESSAGE_TYPES] = {
    [HOLT_RAFT_APPEND] = F_INDEX | F_LOG_TERM | F_COMMIT | F_EPOCH | F_ENTRIES,
    [HOLT_RAFT_APPEND_REPLY] = F_INDEX | F_EPOCH | F_HINT | F_HINT_TERM,
    [HOLT_RAFT_HEARTBEAT] = F_COMMIT | F_ROUND | F_EPOCH,
    [HOLT_RAFT_HEARTBEAT_REPLY] = F_INDEX | F_ROUND | F_EPOCH,
    [HOLT_RAFT_VOTE] = F_INDEX | F_LOG_TERM,
    [HOLT_RAFT_VOTE_REPLY] = 0,
    [HOLT_RAFT_SNAPSHOT] = F_EPOCH | F_OFFSET | F_SNAPSHOT,
    [HOLT_RAFT_SNAPSHOT_REPLY] = F_INDEX | F_EPOCH | F_OFFSET,
    [HOLT_RAFT_TIMEOUT_NOW] = 0,
    [HOLT_RAFT_READ] = F_EPOCH | F_TAG,
    [HOLT_RAFT_READ_REPLY] = F_INDEX | F_EPOCH | F_TAG | F_CODE,
    [HOLT_RAFT_FORWARD] = F_EPOCH | F_TAG | F_ENTRIES,
    [HOLT_RAFT_FORWARD_REPLY] = F_INDEX | F_LOG_TERM | F_EPOCH | F_HINT | F_TAG | F_CODE,
};

/* --- Entries and snapshots ----------------------------------------------------------------------------- */

enum { ENTRY_HEAD_BYTES = 53 };

void holt_raft_entry_encode(struct holt_writer *out, const struct holt_raft_entry *entry) {
  uint8_t *at = holt_writer_grow(out, ENTRY_HEAD_BYTES + (size_t)entry->len);
  holt_put_u64(at, entry->index);
  holt_put_u64(at + 8, entry->term);
  holt_put_u64(at + 16, entry->client);
  holt_put_u64(at + 24, entry->seq);
  holt_put_u64(at + 32, entry->low);
  holt_put_u64(at + 40, entry->stamp_ms);
  at[48] = entry->type;
  holt_put_u32(at + 49, entry->len);
  if (entry->len > 0) memcpy(at + ENTRY_HEAD_BYTES, entry->data, entry->len);
}

int holt_raft_entry_decode(struct holt_reader *in, struct holt_raft_entry *entry) {
  struct holt_buf head = holt_read_bytes(in, ENTRY_HEAD_BYTES);
  if (in->failed) return HOLT_EPROTOCOL;
  const uint8_t *at = head.data;
  *entry = (struct holt_raft_entry){
      .index = holt_get_u64(at),
      .term = holt_get_u64(at + 8),
      .client = holt_get_u64(at + 16),
      .seq = holt_get_u64(at + 24),
      .low = holt_get_u64(at + 32),
      .stamp_ms = holt_get_u64(at + 40),
      .type = at[48],
      .len = holt_get_u32(at + 49),
  };
  entry->data = holt_read_bytes(in, entry->len).data;
  if (in->failed || entry->type < HOLT_RAFT_NOOP || entry->type > HOLT_RAFT_CONF) return HOLT_EPROTOCOL;
  return 0;
}

void holt_raft_snapshot_encode(struct holt_writer *out, const struct holt_raft_snapshot *snapshot) {
  uint8_t conf[HOLT_RAFT_CONF_BYTES];
  size_t len = holt_raft_conf_encode(conf, &snapshot->conf);
  holt_write_u64(out, snapshot->index);
  holt_write_u64(out, snapshot->term);
  holt_write_u64(out, snapshot->size_bytes);
  holt_write_u64(out, snapshot->stamp_ms);
  holt_write_u64(out, snapshot->conf_index);
  holt_write_u16(out, (uint16_t)len);
  holt_write_bytes(out, conf, len);
}

int holt_raft_snapshot_decode(struct holt_reader *in, struct holt_raft_snapshot *snapshot) {
  memset(snapshot, 0, sizeof *snapshot);
  snapshot->index = holt_read_u64(in);
  snapshot->term = holt_read_u64(in);
  snapshot->size_bytes = holt_read_u64(in);
  snapshot->stamp_ms = holt_read_u64(in);
  snapshot->conf_index = holt_read_u64(in);
  struct holt_buf conf = holt_read_bytes(in, holt_read_u16(in));
  if (in->failed) return HOLT_EPROTOCOL;
  return holt_raft_conf_decode(conf, &snapshot->conf);
}

/* --- Messages ------------------------------------------------------------------------------------------ */

struct numbers {
  uint16_t field;
  uint64_t *at;
};

enum { NUMBERS = 9 };

/* The message's plain numbers in the order of their bytes. */
static void list_numbers(struct holt_raft_message *m, struct numbers out[NUMBERS]) {
  const struct numbers list[NUMBERS] = {
      {F_INDEX, &m->index},         {F_LOG_TERM, &m->log_term}, {F_COMMIT, &m->commit},
      {F_ROUND, &m->round},         {F_EPOCH, &m->epoch},       {F_HINT, &m->hint},
      {F_HINT_TERM, &m->hint_term}, {F_TAG, &m->tag},           {F_OFFSET, &m->offset},
  };
  memcpy(out, list, sizeof list);
}

void holt_raft_message_encode(struct holt_writer *out, const struct holt_raft_message *message) {
  HOLT_ASSERT(message->type > 0 && message->type < HOLT_RAFT_MESSAGE_TYPES);
  struct holt_raft_message copy = *message;
  struct numbers numbers[NUMBERS];
  list_numbers(&copy, numbers);
  uint16_t fields = FIELDS[message->type];
  uint8_t head[34] = {message->type, message->flags};
  holt_put_u64(head + 2, message->cluster);
  holt_put_u64(head + 10, message->from);
  holt_put_u64(head + 18, message->to);
  holt_put_u64(head + 26, message->term);
  holt_write_bytes(out, head, sizeof head);
  for (size_t i = 0; i < NUMBERS; i++)
    if (fields & numbers[i].field) holt_write_u64(out, *numbers[i].at);
  if (fields & F_CODE) holt_write_u32(out, (uint32_t)message->code);
  if (fields & F_ENTRIES) {
    holt_write_u32(out, message->count);
    for (uint32_t i = 0; i < message->count; i++) holt_raft_entry_encode(out, &message->entries[i]);
  }
  if (fields & F_SNAPSHOT) {
    holt_raft_snapshot_encode(out, message->snapshot);
    holt_write_u32(out, message->len);
    if (message->len > 0) holt_write_bytes(out, message->data, message->len);
  }
}

static int decode_entries(struct holt_reader *in, struct holt_raft_message *m,
                          struct holt_raft_entry *entries, uint32_t entry_max) {
  m->count = holt_read_u32(in);
  if (in->failed) return HOLT_EPROTOCOL;
  if (m->count > entry_max) return HOLT_ETOOLARGE;
  for (uint32_t i = 0; i < m->count; i++)
    if (holt_raft_entry_decode(in, &entries[i]) != 0) return HOLT_EPROTOCOL;
  m->entries = entries;
  return 0;
}

static int decode_snapshot(struct holt_reader *in, struct holt_raft_message *m,
                           struct holt_raft_snapshot *snapshot) {
  if (holt_raft_snapshot_decode(in, snapshot) != 0) return HOLT_EPROTOCOL;
  m->snapshot = snapshot;
  m->len = holt_read_u32(in);
  m->data = holt_read_bytes(in, m->len).data;
  return in->failed ? HOLT_EPROTOCOL : 0;
}

int holt_raft_message_decode(struct holt_buf bytes, struct holt_raft_message *m,
                             struct holt_raft_entry *entries, uint32_t entry_max,
                             struct holt_raft_snapshot *snapshot) {
  struct holt_reader in = holt_reader(bytes);
  memset(m, 0, sizeof *m);
  m->type = holt_read_u8(&in);
  m->flags = holt_read_u8(&in);
  m->cluster = holt_read_u64(&in);
  m->from = holt_read_u64(&in);
  m->to = holt_read_u64(&in);
  m->term = holt_read_u64(&in);
  if (in.failed || m->type == 0 || m->type >= HOLT_RAFT_MESSAGE_TYPES || m->flags > 7) return HOLT_EPROTOCOL;
  uint16_t fields = FIELDS[m->type];
  struct numbers numbers[NUMBERS];
  list_numbers(m, numbers);
  for (size_t i = 0; i < NUMBERS; i++)
    if (fields & numbers[i].field) *numbers[i].at = holt_read_u64(&in);
  if (fields & F_CODE) m->code = (int32_t)holt_read_u32(&in);
  int rc = 0;
  if (fields & F_ENTRIES) rc = decode_entries(&in, m, entries, entry_max);
  if (rc == 0 && fields & F_SNAPSHOT) rc = decode_snapshot(&in, m, snapshot);
  if (rc == 0 && (in.failed || holt_reader_left(&in) != 0)) rc = HOLT_EPROTOCOL;
  return rc;
}
