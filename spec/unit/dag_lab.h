/* dag_lab.h - for tests of dag/: hashes and signatures that are fast and not safe, writers, and a store.
 *
 * The hash is four 64-bit hashes; a key pair is 32 secret bytes and their complement; a signature is a hash
 * under the secret. Nobody here finds collisions, and a forger in a test does not look at secrets. */
#ifndef HOLT_UNIT_DAG_LAB_H
#define HOLT_UNIT_DAG_LAB_H

#include "base/assert.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rand.h"
#include "dag/exchange.h"

#define LAB_JOURNAL "lab"

static inline void lab_hash(void *arg, struct holt_buf bytes, uint8_t out[HOLT_DAG_HASH]) {
  (void)arg;
  uint64_t v = holt_hash_bytes(17, bytes.data, bytes.len);
  for (int i = 0; i < 4; i++) holt_put_u64(out + 8 * i, v = holt_hash_u64(v + (uint64_t)i + bytes.len));
}

static inline void lab_sign_raw(const uint8_t *secret, struct holt_buf text,
                                uint8_t out[HOLT_DAG_SIGNATURE]) {
  uint64_t v = holt_hash_bytes(holt_hash_bytes(5, secret, HOLT_DAG_KEY), text.data, text.len);
  for (int i = 0; i < 8; i++) holt_put_u64(out + 8 * i, v = holt_hash_u64(v));
}

static inline int lab_sign(void *arg, const void *secret, struct holt_buf text,
                           uint8_t out[HOLT_DAG_SIGNATURE]) {
  (void)arg;
  lab_sign_raw(secret, text, out);
  return 0;
}

static inline bool lab_verify(void *arg, const uint8_t key[HOLT_DAG_KEY], struct holt_buf text,
                              const uint8_t signature[HOLT_DAG_SIGNATURE]) {
  uint8_t secret[HOLT_DAG_KEY], right[HOLT_DAG_SIGNATURE];
  (void)arg;
  for (int i = 0; i < HOLT_DAG_KEY; i++) secret[i] = (uint8_t)~key[i];
  lab_sign_raw(secret, text, right);
  return memcmp(right, signature, HOLT_DAG_SIGNATURE) == 0;
}

static const struct holt_dag_ops lab_ops = {.hash = lab_hash, .verify = lab_verify, .sign = lab_sign};

/* --- Writers ------------------------------------------------------------------------------------------ */

struct lab_key {
  uint8_t public[HOLT_DAG_KEY], secret[HOLT_DAG_KEY];
};

static inline struct lab_key lab_key(uint64_t seed) {
  struct lab_key k;
  for (int i = 0; i < 4; i++) holt_put_u64(k.secret + 8 * i, seed = holt_hash_u64(seed + 99));
  for (int i = 0; i < HOLT_DAG_KEY; i++) k.public[i] = (uint8_t)~k.secret[i];
  return k;
}

/* One chain being written: what its author knows of it. */
struct lab_writer {
  struct lab_key key, directory;
  uint64_t number;
  uint8_t tip[HOLT_DAG_HASH];
};

static inline struct lab_writer lab_writer(uint64_t seed) {
  return (struct lab_writer){.key = lab_key(seed), .directory = lab_key(seed + 1000000)};
}

static inline void lab_next(struct lab_writer *w, const struct holt_dag_run *run) {
  w->number = run->first + run->count - 1;
  memcpy(w->tip, holt_dag_run_tip(run), HOLT_DAG_HASH);
}

static inline uint32_t lab_parents(uint8_t *out, const struct holt_dag_ref *refs, size_t count) {
  for (size_t i = 0; i < count; i++) holt_dag_ref_write(out + i * HOLT_DAG_REF, &refs[i]);
  return (uint32_t)count;
}

/* The opening of a chain, signed. */
static inline void lab_open(struct lab_writer *w, struct holt_dag_run *run, const struct holt_dag_ref *refs,
                            size_t ref_count) {
  struct holt_dag_limits limits;
  struct holt_writer payload = {0};
  struct holt_dag_certificate certificate = {.node = "node"};
  uint8_t parents[HOLT_DAG_PARENTS_MAX * HOLT_DAG_REF];
  holt_dag_limits_default(&limits);
  memcpy(certificate.directory, w->directory.public, HOLT_DAG_KEY);
  HOLT_ASSERT(holt_dag_certificate_make(&payload, &certificate, LAB_JOURNAL, w->key.public, &lab_ops,
                                        w->directory.secret) == 0);
  struct holt_dag_entry e = {.kind = HOLT_DAG_OPENING, .name = holt_buf_text("opening"), .parents = parents};
  e.payload = holt_buf(payload.data, payload.len);
  e.parent_count = lab_parents(parents, refs, ref_count);
  holt_dag_run_begin(run, w->key.public, 1, NULL);
  HOLT_ASSERT(holt_dag_run_add(run, &e, &lab_ops, &limits) == 0);
  HOLT_ASSERT(holt_dag_run_sign(run, LAB_JOURNAL, &lab_ops, w->key.secret) == 0);
  holt_writer_free(&payload);
  lab_next(w, run);
}

/* A batch of `count` events behind the writer's tip, signed; the first names `refs`. */
static inline void lab_write(struct lab_writer *w, struct holt_dag_run *run, uint32_t count, const char *text,
                             const struct holt_dag_ref *refs, size_t ref_count) {
  struct holt_dag_limits limits;
  uint8_t parents[HOLT_DAG_PARENTS_MAX * HOLT_DAG_REF];
  holt_dag_limits_default(&limits);
  holt_dag_run_begin(run, w->key.public, w->number + 1, w->tip);
  for (uint32_t i = 0; i < count; i++) {
    struct holt_dag_entry e = {.kind = HOLT_DAG_EVENT, .name = holt_buf_text("event"), .parents = parents};
    e.payload = holt_buf_text(text);
    e.time_ms = 1000 + i;
    if (i == 0) e.parent_count = lab_parents(parents, refs, ref_count);
    HOLT_ASSERT(holt_dag_run_add(run, &e, &lab_ops, &limits) == 0);
  }
  HOLT_ASSERT(holt_dag_run_sign(run, LAB_JOURNAL, &lab_ops, w->key.secret) == 0);
  lab_next(w, run);
}

static inline struct holt_dag_ref lab_ref(const struct lab_writer *w) {
  struct holt_dag_ref ref = {.number = w->number};
  memcpy(ref.author, w->key.public, HOLT_DAG_KEY);
  memcpy(ref.hash, w->tip, HOLT_DAG_HASH);
  return ref;
}

#endif /* HOLT_UNIT_DAG_LAB_H */
