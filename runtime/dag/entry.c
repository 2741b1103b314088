#include "dag/entry.h"

#include "base/assert.h"
#include "dag/dag_impl.h"

void holt_dag_limits_default(struct holt_dag_limits *limits) {
  *limits = (struct holt_dag_limits){.entry_bytes = 1u << 20, .run_entries = 1024, .run_bytes = 4u << 20};
}

static const char *const REASON_WORDS[] = {
#define X(name, word, text) word,
    HOLT_DAG_REASONS(X)
#undef X
};
static const char *const REASON_TEXTS[] = {
#define X(name, word, text) text,
    HOLT_DAG_REASONS(X)
#undef X
};

const char *holt_dag_reason_word(enum holt_dag_reason reason) {
  HOLT_ASSERT((size_t)reason < sizeof REASON_WORDS / sizeof REASON_WORDS[0]);
  return REASON_WORDS[reason];
}

const char *holt_dag_reason_text(enum holt_dag_reason reason) {
  HOLT_ASSERT((size_t)reason < sizeof REASON_TEXTS / sizeof REASON_TEXTS[0]);
  return REASON_TEXTS[reason];
}

void holt_dag_ref_write(uint8_t out[HOLT_DAG_REF], const struct holt_dag_ref *ref) {
  memcpy(out, ref->author, HOLT_DAG_KEY);
  holt_put_u64(out + HOLT_DAG_KEY, ref->number);
  memcpy(out + HOLT_DAG_KEY + 8, ref->hash, HOLT_DAG_HASH);
}

void holt_dag_ref_read(const uint8_t bytes[HOLT_DAG_REF], struct holt_dag_ref *ref) {
  memcpy(ref->author, bytes, HOLT_DAG_KEY);
  ref->number = holt_get_u64(bytes + HOLT_DAG_KEY);
  memcpy(ref->hash, bytes + HOLT_DAG_KEY + 8, HOLT_DAG_HASH);
}

/* --- One encoding ----------------------------------------------------------------------------------- */

static bool parents_are_canonical(const struct holt_dag_entry *e) {
  if (e->parent_count > HOLT_DAG_PARENTS_MAX) return false;
  for (uint32_t i = 0; i < e->parent_count; i++) {
    const uint8_t *at = e->parents + (size_t)i * HOLT_DAG_REF;
    if (memcmp(at, e->author, HOLT_DAG_KEY) == 0) return false;
    if (holt_get_u64(at + HOLT_DAG_KEY) == 0) return false;
    if (i > 0 && memcmp(at - HOLT_DAG_REF, at, HOLT_DAG_KEY) >= 0) return false;
  }
  return true;
}

/* What a reader refuses, a writer does not write. */
static bool is_canonical(const struct holt_dag_entry *e) {
  static const uint8_t zeros[HOLT_DAG_HASH];
  bool is_opening = e->kind == HOLT_DAG_OPENING;
  if (e->kind < HOLT_DAG_OPENING || e->kind > HOLT_DAG_HORIZON) return false;
  if (e->number == 0 || e->number == UINT64_MAX) return false;
  if (is_opening != (e->number == 1)) return false;
  if (is_opening && memcmp(e->prev, zeros, HOLT_DAG_HASH) != 0) return false;
  if (e->name.len < 1 || e->name.len > 255) return false;
  return parents_are_canonical(e);
}

static void put_bytes(uint8_t **at, const void *data, size_t len) {
  if (len) memcpy(*at, data, len);
  *at += len;
}

int holt_dag_entry_encode(struct holt_writer *w, const struct holt_dag_entry *e,
                          const struct holt_dag_limits *limits) {
  if (!is_canonical(e)) return HOLT_EINVAL;
  if (e->payload.len > limits->entry_bytes) return HOLT_ETOOLARGE;
  size_t len =
      HOLT_DAG_HEAD + 1 + (size_t)e->parent_count * HOLT_DAG_REF + 8 + 1 + e->name.len + 4 + e->payload.len;
  if (len > limits->entry_bytes) return HOLT_ETOOLARGE;
  uint8_t *at = holt_writer_grow(w, len);
  *at++ = HOLT_DAG_VERSION;
  *at++ = e->kind;
  put_bytes(&at, e->author, HOLT_DAG_KEY);
  holt_put_u64(at, e->number);
  at += 8;
  put_bytes(&at, e->prev, HOLT_DAG_HASH);
  *at++ = (uint8_t)e->parent_count;
  put_bytes(&at, e->parents, (size_t)e->parent_count * HOLT_DAG_REF);
  holt_put_u64(at, e->time_ms);
  at += 8;
  *at++ = (uint8_t)e->name.len;
  put_bytes(&at, e->name.data, e->name.len);
  holt_put_u32(at, (uint32_t)e->payload.len);
  at += 4;
  put_bytes(&at, e->payload.data, e->payload.len);
  return 0;
}

bool holt__dag_tail_read(struct holt_reader *in, struct holt_dag_entry *e) {
  e->parent_count = holt_read_u8(in);
  e->parents = holt_read_bytes(in, (size_t)e->parent_count * HOLT_DAG_REF).data;
  e->time_ms = holt_read_u64(in);
  e->name = holt_read_bytes(in, holt_read_u8(in));
  e->payload = holt_read_bytes(in, holt_read_u32(in));
  return !in->failed && is_canonical(e);
}

int holt_dag_entry_decode(struct holt_buf bytes, const struct holt_dag_limits *limits,
                          struct holt_dag_entry *out) {
  struct holt_reader in = holt_reader(bytes);
  if (bytes.len > limits->entry_bytes) return HOLT_ETOOLARGE;
  if (holt_read_u8(&in) != HOLT_DAG_VERSION) return HOLT_EPROTOCOL;
  out->kind = holt_read_u8(&in);
  out->author = holt_read_bytes(&in, HOLT_DAG_KEY).data;
  out->number = holt_read_u64(&in);
  out->prev = holt_read_bytes(&in, HOLT_DAG_HASH).data;
  if (in.failed || !holt__dag_tail_read(&in, out)) return HOLT_EPROTOCOL;
  return holt_reader_left(&in) == 0 ? 0 : HOLT_EPROTOCOL;
}

void holt_dag_entry_hash(const struct holt_dag_ops *ops, struct holt_buf bytes, uint8_t out[HOLT_DAG_HASH]) {
  ops->hash(ops->arg, bytes, out);
}

/* --- What is signed: a domain of its own for each kind of statement --------------------------------- */

static const char ENTRY_DOMAIN[] = "holt journal entry 1\n";
static const char OPENING_DOMAIN[] = "holt journal opening 1\n";
static const char HORIZON_DOMAIN[] = "holt journal horizon 1\n";

size_t holt_dag_signed_text(const uint8_t hash[HOLT_DAG_HASH], uint8_t out[HOLT_DAG_SIGNED_MAX]) {
  memcpy(out, ENTRY_DOMAIN, sizeof ENTRY_DOMAIN);
  memcpy(out + sizeof ENTRY_DOMAIN, hash, HOLT_DAG_HASH);
  return sizeof ENTRY_DOMAIN + HOLT_DAG_HASH;
}

static bool is_text8(const char *text) {
  size_t len = strlen(text);
  return len >= 1 && len <= 255;
}

static void put_text8(uint8_t **at, const char *text) {
  size_t len = strlen(text);
  *(*at)++ = (uint8_t)len;
  put_bytes(at, text, len);
}

/* The directory's word: this chain is mine, in this journal, and its node is called so. */
static size_t certificate_text(const struct holt_dag_certificate *c, const char *journal,
                               const uint8_t author[HOLT_DAG_KEY], uint8_t out[HOLT_DAG_SIGNED_MAX]) {
  uint8_t *at = out;
  put_bytes(&at, OPENING_DOMAIN, sizeof OPENING_DOMAIN);
  put_text8(&at, journal);
  put_bytes(&at, author, HOLT_DAG_KEY);
  put_text8(&at, c->node);
  return (size_t)(at - out);
}

int holt_dag_certificate_make(struct holt_writer *w, struct holt_dag_certificate *c, const char *journal,
                              const uint8_t author[HOLT_DAG_KEY], const struct holt_dag_ops *ops,
                              const void *secret) {
  uint8_t text[HOLT_DAG_SIGNED_MAX];
  if (!is_text8(journal) || !is_text8(c->node)) return HOLT_EINVAL;
  size_t len = certificate_text(c, journal, author, text);
  int rc = ops->sign(ops->arg, secret, holt_buf(text, len), c->signature);
  if (rc) return rc;
  holt_write_bytes(w, c->directory, HOLT_DAG_KEY);
  holt_write_text8(w, c->node);
  holt_write_bytes(w, c->signature, HOLT_DAG_SIGNATURE);
  return 0;
}

int holt_dag_certificate_read(struct holt_buf payload, const char *journal,
                              const uint8_t author[HOLT_DAG_KEY], const struct holt_dag_ops *ops,
                              struct holt_dag_certificate *out) {
  uint8_t text[HOLT_DAG_SIGNED_MAX];
  struct holt_reader in = holt_reader(payload);
  struct holt_buf directory = holt_read_bytes(&in, HOLT_DAG_KEY);
  holt_read_text8(&in, out->node);
  struct holt_buf signature = holt_read_bytes(&in, HOLT_DAG_SIGNATURE);
  if (in.failed || holt_reader_left(&in) != 0 || !is_text8(out->node)) return HOLT_EPROTOCOL;
  memcpy(out->directory, directory.data, HOLT_DAG_KEY);
  memcpy(out->signature, signature.data, HOLT_DAG_SIGNATURE);
  size_t len = certificate_text(out, journal, author, text);
  bool is_right = ops->verify(ops->arg, out->directory, holt_buf(text, len), out->signature);
  if (HOLT_BUG(1)) is_right = true;
  return is_right ? 0 : HOLT_EPROTOCOL;
}

static bool horizon_is_canonical(const struct holt_dag_horizon *h) {
  if (h->ref_count < 1 || h->ref_count > HOLT_DAG_HORIZON_REFS) return false;
  for (uint32_t i = 0; i < h->ref_count; i++) {
    const uint8_t *at = h->refs + (size_t)i * HOLT_DAG_REF;
    uint64_t number = holt_get_u64(at + HOLT_DAG_KEY);
    if (number == 0 || number >= UINT64_MAX - 1) return false;
    if (i > 0 && memcmp(at - HOLT_DAG_REF, at, HOLT_DAG_KEY) >= 0) return false;
  }
  return true;
}

static void horizon_text(struct holt_writer *w, const struct holt_dag_horizon *h, const char *journal) {
  holt_write_bytes(w, HORIZON_DOMAIN, sizeof HORIZON_DOMAIN);
  holt_write_text8(w, journal);
  holt_write_bytes(w, h->directory, HOLT_DAG_KEY);
  holt_write_bytes(w, h->refs, (size_t)h->ref_count * HOLT_DAG_REF);
}

int holt_dag_horizon_make(struct holt_writer *w, const struct holt_dag_horizon *h, const char *journal,
                          const struct holt_dag_ops *ops, const void *secret) {
  struct holt_writer text = {0};
  uint8_t signature[HOLT_DAG_SIGNATURE];
  if (!horizon_is_canonical(h) || !is_text8(journal)) return HOLT_EINVAL;
  horizon_text(&text, h, journal);
  int rc = ops->sign(ops->arg, secret, holt_buf(text.data, text.len), signature);
  holt_writer_free(&text);
  if (rc) return rc;
  holt_write_bytes(w, h->directory, HOLT_DAG_KEY);
  holt_write_u16(w, (uint16_t)h->ref_count);
  holt_write_bytes(w, h->refs, (size_t)h->ref_count * HOLT_DAG_REF);
  holt_write_bytes(w, signature, HOLT_DAG_SIGNATURE);
  return 0;
}

int holt_dag_horizon_read(struct holt_buf bytes, const char *journal, const struct holt_dag_ops *ops,
                          struct holt_dag_horizon *out) {
  struct holt_reader in = holt_reader(bytes);
  struct holt_buf directory = holt_read_bytes(&in, HOLT_DAG_KEY);
  out->ref_count = holt_read_u16(&in);
  out->refs = holt_read_bytes(&in, (size_t)out->ref_count * HOLT_DAG_REF).data;
  struct holt_buf signature = holt_read_bytes(&in, HOLT_DAG_SIGNATURE);
  if (in.failed || holt_reader_left(&in) != 0 || !horizon_is_canonical(out)) return HOLT_EPROTOCOL;
  memcpy(out->directory, directory.data, HOLT_DAG_KEY);
  struct holt_writer text = {0};
  horizon_text(&text, out, journal);
  bool is_right = ops->verify(ops->arg, out->directory, holt_buf(text.data, text.len), signature.data);
  holt_writer_free(&text);
  return is_right ? 0 : HOLT_EPROTOCOL;
}
