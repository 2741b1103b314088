/* Runs: made by their author, packed from the store, read from a message.
 *
 * A message: type, author, number of the first entry, its prev, count, signature of the last entry; then each
 * entry without its head (entry.h): kind and what follows. The reader makes the heads again, hashing as it
 * goes. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "dag/dag_impl.h"
#include "dag/exchange.h"

enum {
  AT_COUNT = 1 + HOLT_DAG_KEY + 8 + HOLT_DAG_HASH,
  AT_SIGNATURE = AT_COUNT + 2,
  AT_ENTRIES = AT_SIGNATURE + HOLT_DAG_SIGNATURE
};

void holt_dag_run_clear(struct holt_dag_run *run) {
  run->bytes.len = 0;
  run->count = 0;
  free(run->certificate);
  run->certificate = NULL;
  memset(run->signature, 0, sizeof run->signature);
}

void holt_dag_run_free(struct holt_dag_run *run) {
  holt_dag_run_clear(run);
  holt_writer_free(&run->bytes);
  free(run->items);
  *run = (struct holt_dag_run){0};
}

void holt_dag_run_copy(struct holt_dag_run *to, const struct holt_dag_run *from) {
  *to = *from;
  to->bytes = (struct holt_writer){0};
  holt_write_bytes(&to->bytes, from->bytes.data, from->bytes.len);
  to->items = holt_alloc(from->count * sizeof *to->items);
  memcpy(to->items, from->items, from->count * sizeof *to->items);
  to->cap = from->count;
  if (from->certificate == NULL) return;
  to->certificate = holt_alloc(sizeof *to->certificate);
  *to->certificate = *from->certificate;
}

/* Room for one more entry? A run of one entry may always be as large as an entry. */
static bool has_room(uint32_t count, size_t bytes, size_t more, uint64_t first,
                     const struct holt_dag_limits *limits) {
  if (count == 0) return true;
  if (first == 1) return false; /* an opening is a run of its own */
  return count < limits->run_entries && count < UINT16_MAX && bytes + more <= limits->run_bytes;
}

static void add_item(struct holt_dag_run *run, size_t start, const struct holt_dag_ops *ops) {
  if (run->count == run->cap) {
    run->cap = run->cap ? run->cap * 2 : 16;
    run->items = holt_realloc(run->items, run->cap * sizeof *run->items);
  }
  struct holt_dag_item *item = &run->items[run->count++];
  item->offset = (uint32_t)start;
  item->len = (uint32_t)(run->bytes.len - start);
  holt_dag_entry_hash(ops, holt_buf(run->bytes.data + start, item->len), item->hash);
}

/* --- By its author ---------------------------------------------------------------------------------- */

void holt_dag_run_begin(struct holt_dag_run *run, const uint8_t author[HOLT_DAG_KEY], uint64_t first,
                        const uint8_t *prev) {
  HOLT_ASSERT(first > 0);
  HOLT_ASSERT((first == 1) == (prev == NULL));
  holt_dag_run_clear(run);
  memcpy(run->author, author, HOLT_DAG_KEY);
  run->first = first;
  if (prev) {
    memcpy(run->prev, prev, HOLT_DAG_HASH);
  } else {
    memset(run->prev, 0, HOLT_DAG_HASH);
  }
}

int holt_dag_run_add(struct holt_dag_run *run, struct holt_dag_entry *entry, const struct holt_dag_ops *ops,
                     const struct holt_dag_limits *limits) {
  size_t start = run->bytes.len;
  if (!has_room(run->count, start, 0, run->first, limits)) return HOLT_EFULL;
  entry->author = run->author;
  entry->number = run->first + run->count;
  entry->prev = run->count ? holt_dag_run_tip(run) : run->prev;
  int rc = holt_dag_entry_encode(&run->bytes, entry, limits);
  if (rc) return rc;
  if (!has_room(run->count, run->bytes.len, 0, run->first, limits)) {
    run->bytes.len = start;
    return HOLT_EFULL;
  }
  add_item(run, start, ops);
  return 0;
}

static bool is_signed(const struct holt_dag_run *run, const struct holt_dag_ops *ops) {
  uint8_t text[HOLT_DAG_SIGNED_MAX];
  size_t len = holt_dag_signed_text(holt_dag_run_tip(run), text);
  return ops->verify(ops->arg, run->author, holt_buf(text, len), run->signature);
}

/* An opening has to be certified; nothing else has a certificate. */
static int read_certificate(struct holt_dag_run *run, const char *journal, const struct holt_dag_ops *ops,
                            const struct holt_dag_limits *limits) {
  struct holt_dag_entry entry;
  if (run->first != 1) return 0;
  int rc = holt_dag_entry_decode(holt_dag_run_entry(run, 0), limits, &entry);
  if (rc) return rc;
  struct holt_dag_certificate *c = holt_alloc(sizeof *c);
  rc = holt_dag_certificate_read(entry.payload, journal, run->author, ops, c);
  if (rc) {
    free(c);
    return rc;
  }
  free(run->certificate);
  run->certificate = c;
  return 0;
}

int holt_dag_run_sign(struct holt_dag_run *run, const char *journal, const struct holt_dag_ops *ops,
                      const void *secret) {
  const struct holt_dag_limits any = {.entry_bytes = UINT32_MAX};
  uint8_t text[HOLT_DAG_SIGNED_MAX];
  HOLT_ASSERT(run->count > 0);
  int rc = read_certificate(run, journal, ops, &any);
  if (rc) return rc;
  size_t len = holt_dag_signed_text(holt_dag_run_tip(run), text);
  return ops->sign(ops->arg, secret, holt_buf(text, len), run->signature);
}

/* --- From the store --------------------------------------------------------------------------------- */

void holt_dag_pack_begin(struct holt_dag_pack *pack, struct holt_writer *out) {
  *pack = (struct holt_dag_pack){.out = out, .start = out->len};
}

static void write_front(struct holt_dag_pack *pack, const struct holt_dag_entry *entry) {
  pack->first = entry->number;
  memcpy(pack->author, entry->author, HOLT_DAG_KEY);
  holt_write_u8(pack->out, HOLT_DAG_RUN);
  holt_write_bytes(pack->out, entry->author, HOLT_DAG_KEY);
  holt_write_u64(pack->out, entry->number);
  holt_write_bytes(pack->out, entry->prev, HOLT_DAG_HASH);
  memset(holt_writer_grow(pack->out, AT_ENTRIES - AT_COUNT), 0, AT_ENTRIES - AT_COUNT);
}

int holt_dag_pack_add(struct holt_dag_pack *pack, struct holt_buf bytes, const uint8_t *signature,
                      const struct holt_dag_limits *limits) {
  struct holt_dag_entry entry;
  if (holt_dag_entry_decode(bytes, limits, &entry) != 0) return HOLT_ECORRUPT;
  if (pack->count > 0) {
    if (memcmp(pack->author, entry.author, HOLT_DAG_KEY) != 0) return HOLT_EFULL;
    if (entry.number != pack->first + pack->count) return HOLT_EFULL;
    if (!has_room(pack->count, pack->entry_bytes, bytes.len, pack->first, limits)) return HOLT_EFULL;
  } else {
    write_front(pack, &entry);
  }
  holt_write_u8(pack->out, entry.kind);
  holt_write_bytes(pack->out, bytes.data + HOLT_DAG_HEAD, bytes.len - HOLT_DAG_HEAD);
  pack->count++;
  pack->entry_bytes += (uint32_t)bytes.len;
  if (signature == NULL) return 0;
  memcpy(pack->signature, signature, HOLT_DAG_SIGNATURE);
  pack->cut = pack->out->len;
  pack->cut_count = pack->count;
  return 0;
}

uint32_t holt_dag_pack_end(struct holt_dag_pack *pack) {
  uint32_t count = pack->cut_count;
  pack->out->len = count ? pack->cut : pack->start;
  if (count) {
    uint8_t *front = pack->out->data + pack->start;
    holt_put_u16(front + AT_COUNT, (uint16_t)count);
    memcpy(front + AT_SIGNATURE, pack->signature, HOLT_DAG_SIGNATURE);
  }
  *pack = (struct holt_dag_pack){0};
  return count;
}

/* --- From a message --------------------------------------------------------------------------------- */

/* The next entry of the message becomes a whole entry again, at the end of run->bytes. */
static enum holt_dag_reason read_entry(struct holt_dag_run *run, struct holt_reader *in,
                                       const struct holt_dag_ops *ops, const struct holt_dag_limits *limits) {
  struct holt_dag_entry entry = {.author = run->author, .number = run->first + run->count};
  entry.prev = run->count ? holt_dag_run_tip(run) : run->prev;
  entry.kind = holt_read_u8(in);
  const uint8_t *tail = in->at;
  if (in->failed || !holt__dag_tail_read(in, &entry)) return HOLT_DAG_MALFORMED;
  size_t tail_len = (size_t)(in->at - tail), start = run->bytes.len;
  if (HOLT_DAG_HEAD + tail_len > limits->entry_bytes) return HOLT_DAG_TOO_LARGE;
  if (!has_room(run->count, start, HOLT_DAG_HEAD + tail_len, run->first, limits)) return HOLT_DAG_TOO_LARGE;
  uint8_t *at = holt_writer_grow(&run->bytes, HOLT_DAG_HEAD + tail_len);
  at[0] = HOLT_DAG_VERSION;
  at[1] = entry.kind;
  memcpy(at + 2, entry.author, HOLT_DAG_KEY);
  holt_put_u64(at + 34, entry.number);
  memcpy(at + 42, entry.prev, HOLT_DAG_HASH);
  memcpy(at + HOLT_DAG_HEAD, tail, tail_len);
  add_item(run, start, ops);
  return HOLT_DAG_NONE;
}

static enum holt_dag_reason read_run(struct holt_dag_run *run, struct holt_buf message, const char *journal,
                                     const struct holt_dag_ops *ops, const struct holt_dag_limits *limits) {
  static const uint8_t zeros[HOLT_DAG_HASH];
  struct holt_reader in = holt_reader(message);
  bool is_run = holt_read_u8(&in) == HOLT_DAG_RUN;
  struct holt_buf author = holt_read_bytes(&in, HOLT_DAG_KEY);
  run->first = holt_read_u64(&in);
  struct holt_buf prev = holt_read_bytes(&in, HOLT_DAG_HASH);
  uint32_t count = holt_read_u16(&in);
  struct holt_buf signature = holt_read_bytes(&in, HOLT_DAG_SIGNATURE);
  if (in.failed || !is_run) return HOLT_DAG_MALFORMED;
  memcpy(run->author, author.data, HOLT_DAG_KEY);
  memcpy(run->prev, prev.data, HOLT_DAG_HASH);
  memcpy(run->signature, signature.data, HOLT_DAG_SIGNATURE);
  if (count == 0 || run->first == 0 || run->first >= UINT64_MAX - count) return HOLT_DAG_MALFORMED;
  if (count > limits->run_entries) return HOLT_DAG_TOO_LARGE;
  if ((run->first == 1) != (memcmp(run->prev, zeros, HOLT_DAG_HASH) == 0)) return HOLT_DAG_BAD_LINK;
  while (run->count < count) {
    enum holt_dag_reason reason = read_entry(run, &in, ops, limits);
    if (reason) return reason;
  }
  if (holt_reader_left(&in) != 0) return HOLT_DAG_MALFORMED;
  if (!HOLT_BUG(2) && !is_signed(run, ops)) return HOLT_DAG_BAD_SIGNATURE;
  return read_certificate(run, journal, ops, limits) == 0 ? HOLT_DAG_NONE : HOLT_DAG_BAD_CERTIFICATE;
}

enum holt_dag_reason holt_dag_run_read(struct holt_dag_run *run, struct holt_buf message, const char *journal,
                                       const struct holt_dag_ops *ops, const struct holt_dag_limits *limits) {
  holt_dag_run_clear(run);
  memset(run->author, 0, HOLT_DAG_KEY);
  enum holt_dag_reason reason = read_run(run, message, journal, ops, limits);
  if (reason) holt_dag_run_clear(run);
  return reason;
}
