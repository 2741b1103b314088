/* entry.h - the journal's entry: its one encoding, its hash, what is signed, and runs of entries.
 *
 * An entry is named by the SHA-256 of its bytes, which name its predecessor and its parents by their hashes:
 * a Merkle DAG (Merkle 1987; Git), one hash-linked log a writer (Secure Scuttlebutt: Tarr et al., "Secure
 * Scuttlebutt", ICN 2019) with links across the writers for causal order (Merkle-CRDTs: Sanjuan et al. 2020).
 * So who changes one bit changes every later hash, and one signature at the end of a run vouches for all of
 * it.
 *
 * Pure: hashing, signing and verifying come in as functions. Any thread, as long as one object is used by one
 * at a time. Times are milliseconds since 1970 as the author had them; they order nothing. Numbers are
 * little-endian. */
#ifndef HOLT_DAG_ENTRY_H
#define HOLT_DAG_ENTRY_H

#include "base/buf.h"
#include "base/err.h"

#define HOLT_DAG_HASH        32 /* bytes of a hash (SHA-256) */
#define HOLT_DAG_KEY         32 /* bytes of a public key (Ed25519) */
#define HOLT_DAG_SIGNATURE   64 /* bytes of a signature (Ed25519) */
#define HOLT_DAG_REF         72 /* bytes of an author, a number and a hash */
#define HOLT_DAG_HEAD        74 /* bytes of an entry before its parents: what a run carries once only */
#define HOLT_DAG_PARENTS_MAX 64
#define HOLT_DAG_SIGNED_MAX  700 /* room for any text that is signed, but a horizon's */
#define HOLT_DAG_VERSION     1

/* SHA-256 and Ed25519, or what a test puts in their place. Called from whichever thread calls the functions
 * below that take `ops`. */
struct holt_dag_ops {
  void (*hash)(void *arg, struct holt_buf bytes, uint8_t out[HOLT_DAG_HASH]);
  bool (*verify)(void *arg, const uint8_t key[HOLT_DAG_KEY], struct holt_buf text,
                 const uint8_t signature[HOLT_DAG_SIGNATURE]);
  /* 0 or a code; `secret` is what the caller of the signing function below gave, borrowed. May be NULL where
   * nothing is signed. */
  int (*sign)(void *arg, const void *secret, struct holt_buf text, uint8_t out[HOLT_DAG_SIGNATURE]);
  void *arg;
};

struct holt_dag_limits {
  uint32_t entry_bytes; /* of one entry, encoded; 1 MiB */
  uint32_t run_entries; /* 1,024: between two signatures, so in one run */
  uint32_t run_bytes; /* of a run's entries, encoded; 4 MiB; a run of one entry may always have entry_bytes */
};
void holt_dag_limits_default(struct holt_dag_limits *limits);

enum holt_dag_kind {
  HOLT_DAG_OPENING = 1, /* number 1 of each author; its payload is a certificate */
  HOLT_DAG_EVENT = 2,
  HOLT_DAG_HORIZON = 3 /* its payload is a horizon: what the author's holder no longer keeps */
};

/* Why something was refused. The words are stable. X(NAME, word, text) */
#define HOLT_DAG_REASONS(X)                                                                                  \
  X(NONE, "none", "nothing was refused")                                                                     \
  X(MALFORMED, "malformed", "the bytes are not an entry")                                                    \
  X(TOO_LARGE, "too_large", "an entry or a run is larger than allowed")                                      \
  X(BAD_LINK, "bad_link", "the entry does not follow the one before it")                                     \
  X(BAD_SIGNATURE, "bad_signature", "the signature is not the author's")                                     \
  X(BAD_CERTIFICATE, "bad_certificate", "the opening is not certified for this journal")                     \
  X(NOT_ALLOWED, "not_allowed", "this author may not write here")                                            \
  X(BELOW_HORIZON, "below_horizon", "older than what is kept here")                                          \
  X(BRANCHES, "too_many_branches", "its author has forked into more branches than are kept")                 \
  X(FULL, "full", "there are too many authors")                                                              \
  X(STORE, "store", "the store could not be read")

enum holt_dag_reason {
#define X(name, word, text) HOLT_DAG_##name,
  HOLT_DAG_REASONS(X)
#undef X
};
const char *holt_dag_reason_word(enum holt_dag_reason reason);
const char *holt_dag_reason_text(enum holt_dag_reason reason);

/* An entry named from elsewhere. */
struct holt_dag_ref {
  uint8_t author[HOLT_DAG_KEY];
  uint64_t number;
  uint8_t hash[HOLT_DAG_HASH];
};
void holt_dag_ref_write(uint8_t out[HOLT_DAG_REF], const struct holt_dag_ref *ref);
void holt_dag_ref_read(const uint8_t bytes[HOLT_DAG_REF], struct holt_dag_ref *ref);

/* One entry; its pointers are borrowed from the bytes it was decoded from, or from whoever encodes it. */
struct holt_dag_entry {
  uint8_t kind;
  const uint8_t *author; /* HOLT_DAG_KEY bytes: the chain's public key */
  uint64_t number;       /* 1, 2, 3… without a hole in one chain */
  const uint8_t *prev;   /* HOLT_DAG_HASH bytes: hash of number - 1, zeros for number 1 */
  const uint8_t
      *parents; /* parent_count refs of HOLT_DAG_REF bytes, authors strictly ascending, not the own one */
  uint32_t parent_count;
  uint64_t time_ms;
  struct holt_buf name; /* 1 to 255 bytes */
  struct holt_buf payload;
};

/* The time in the bytes of an entry, which decode. */
static inline uint64_t holt_dag_entry_time(struct holt_buf entry) {
  const uint8_t *parents = entry.data + HOLT_DAG_HEAD;
  return holt_get_u64(parents + 1 + (size_t)parents[0] * HOLT_DAG_REF);
}

static inline void holt_dag_entry_parent(const struct holt_dag_entry *entry, uint32_t i,
                                         struct holt_dag_ref *out) {
  holt_dag_ref_read(entry->parents + (size_t)i * HOLT_DAG_REF, out);
}

/* Append the encoding: version, kind, author, number, prev | count and parents, time, name, payload. Errors:
 * HOLT_EINVAL  something the decoder would refuse; HOLT_ETOOLARGE  longer than limits->entry_bytes. On error
 * nothing was written. */
int holt_dag_entry_encode(struct holt_writer *w, const struct holt_dag_entry *entry,
                          const struct holt_dag_limits *limits);
/* The entry of these bytes, all of them. Each entry has exactly one encoding; all others are refused:
 * HOLT_EPROTOCOL, or HOLT_ETOOLARGE. `out` borrows from `bytes`. */
int holt_dag_entry_decode(struct holt_buf bytes, const struct holt_dag_limits *limits,
                          struct holt_dag_entry *out);
void holt_dag_entry_hash(const struct holt_dag_ops *ops, struct holt_buf bytes, uint8_t out[HOLT_DAG_HASH]);

/* --- Openings --------------------------------------------------------------------------------------- */
/* Each start of a node opens a new chain with a fresh key that is never stored, certified by the key of the
 * data directory: a directory that was copied or restored writes under a new chain and forks nothing. An
 * opening is always a run of its own, signed by the chain's key as well: nobody can open a chain that is not
 * his. */

struct holt_dag_certificate {
  uint8_t directory[HOLT_DAG_KEY]; /* public key of the data directory: who writes */
  char node[256];                  /* name of the node, 1 to 255 bytes without NUL */
  uint8_t signature[HOLT_DAG_SIGNATURE];
};
/* Makes the payload of the opening of chain `author` of the journal `journal` (1 to 255 bytes): fills
 * certificate->signature, by the directory's `secret`, and appends the payload. Errors: HOLT_EINVAL; those of
 * ops->sign. */
int holt_dag_certificate_make(struct holt_writer *w, struct holt_dag_certificate *certificate,
                              const char *journal, const uint8_t author[HOLT_DAG_KEY],
                              const struct holt_dag_ops *ops, const void *secret);
/* Reads and checks one. HOLT_EPROTOCOL when it is malformed, of another journal or chain, or not signed by
 * the directory that it names. */
int holt_dag_certificate_read(struct holt_buf payload, const char *journal,
                              const uint8_t author[HOLT_DAG_KEY], const struct holt_dag_ops *ops,
                              struct holt_dag_certificate *out);

/* --- Horizons --------------------------------------------------------------------------------------- */
/* Signed by the directory's key: "of these authors I no longer keep the entries up to and with this number".
 * It goes two ways: as the payload of an entry of kind HOLT_DAG_HORIZON in the holder's own chain, for
 * everybody to see who dropped what and when; and as a message at the start of a link, where it lets a
 * newcomer begin in the middle (dag.h). It obliges nobody else to drop anything. */

#define HOLT_DAG_HORIZON_REFS 4096 /* authors in one; a holder that cut more makes several */

struct holt_dag_horizon {
  uint8_t directory[HOLT_DAG_KEY];
  const uint8_t *refs; /* ref_count refs, authors strictly ascending; borrowed */
  uint32_t ref_count;
};
/* Appends it, signed. Errors: HOLT_EINVAL (none, too many, not ascending); those of ops->sign. */
int holt_dag_horizon_make(struct holt_writer *w, const struct holt_dag_horizon *horizon, const char *journal,
                          const struct holt_dag_ops *ops, const void *secret);
/* Reads and checks one; `out` borrows from `bytes`. HOLT_EPROTOCOL when it is malformed or not signed. */
int holt_dag_horizon_read(struct holt_buf bytes, const char *journal, const struct holt_dag_ops *ops,
                          struct holt_dag_horizon *out);

/* --- Runs ------------------------------------------------------------------------------------------- */
/* Consecutive entries of one author, each the predecessor of the next, with a signature of the last: the unit
 * that is written, sent, checked, admitted and kept, always as a whole. */

struct holt_dag_item {
  uint32_t offset, len; /* of the entry in run->bytes */
  uint8_t hash[HOLT_DAG_HASH];
};

/* Owns its memory. Zero-initialised is empty; free with holt_dag_run_free. */
struct holt_dag_run {
  uint8_t author[HOLT_DAG_KEY];
  uint64_t first;              /* number of the first entry */
  uint8_t prev[HOLT_DAG_HASH]; /* what the first entry follows */
  struct holt_writer bytes;    /* the entries, one behind the other */
  struct holt_dag_item *items;
  uint32_t count, cap;
  uint8_t signature[HOLT_DAG_SIGNATURE];    /* of the last entry; zeros while there is none */
  struct holt_dag_certificate *certificate; /* of an opening, read; else NULL */
};

void holt_dag_run_free(struct holt_dag_run *run);
/* `to`, whatever it held, becomes a copy with memory of its own. */
void holt_dag_run_copy(struct holt_dag_run *to, const struct holt_dag_run *from);
/* Forgets the entries and keeps the memory. */
void holt_dag_run_clear(struct holt_dag_run *run);
static inline struct holt_buf holt_dag_run_entry(const struct holt_dag_run *run, uint32_t i) {
  return holt_buf(run->bytes.data + run->items[i].offset, run->items[i].len);
}
static inline const uint8_t *holt_dag_run_tip(const struct holt_dag_run *run) {
  return run->items[run->count - 1].hash;
}

/* Begins a run of own entries behind number first - 1, whose hash is `prev` (NULL before the opening). */
void holt_dag_run_begin(struct holt_dag_run *run, const uint8_t author[HOLT_DAG_KEY], uint64_t first,
                        const uint8_t *prev);
/* Adds an entry: author, number and prev are filled in here. Copies all. Errors: as holt_dag_entry_encode;
 * HOLT_EFULL  the run is at its limit: sign it and begin the next. On error nothing was added. */
int holt_dag_run_add(struct holt_dag_run *run, struct holt_dag_entry *entry, const struct holt_dag_ops *ops,
                     const struct holt_dag_limits *limits);
/* Signs the last entry with the chain's `secret`; an opening's certificate is read and checked as well.
 * Errors: those of ops->sign; HOLT_EPROTOCOL when it would be refused elsewhere. */
int holt_dag_run_sign(struct holt_dag_run *run, const char *journal, const struct holt_dag_ops *ops,
                      const void *secret);
/* The text that a signature of an entry covers: a domain and the hash. Returns its length. */
size_t holt_dag_signed_text(const uint8_t hash[HOLT_DAG_HASH], uint8_t out[HOLT_DAG_SIGNED_MAX]);

/* --- Runs as messages ------------------------------------------------------------------------------- */
/* Author, first number and the first prev go once; numbers and the other prevs are made again by the reader.
 */

/* Packs stored entries into a message. Zero-initialised is empty; `out` may be lent a writer of the caller's.
 */
struct holt_dag_pack {
  struct holt_writer *out; /* the caller's: the message is appended */
  size_t start, cut;       /* where the message begins; its length up to the last signed entry */
  uint32_t count, cut_count;
  uint32_t entry_bytes; /* of all, as they were encoded */
  uint64_t first;
  uint8_t author[HOLT_DAG_KEY], tip[HOLT_DAG_HASH]; /* tip is unused by the packer but for the first prev */
  uint8_t signature[HOLT_DAG_SIGNATURE];
};
void holt_dag_pack_begin(struct holt_dag_pack *pack, struct holt_writer *out);
/* Adds one stored entry, which was checked when it was admitted, with its signature or NULL. HOLT_EFULL when
 * it is not the next of the same author, or at a limit: end this message and begin another. HOLT_ECORRUPT
 * when the bytes are none. Take only entries that lie beside each other in the arrival log: so all parents of
 * a run are before the run. */
int holt_dag_pack_add(struct holt_dag_pack *pack, struct holt_buf entry, const uint8_t *signature,
                      const struct holt_dag_limits *limits);
/* Ends the message behind the last entry with a signature and returns how many entries it holds; with 0
 * nothing was written. */
uint32_t holt_dag_pack_end(struct holt_dag_pack *pack);

/* Reads a message of a run and checks all that can be checked without knowing other entries: encoding,
 * limits, links, numbers, the signature of the last entry, an opening's certificate. Hashes each entry and
 * verifies once. `run` is filled (its old content is gone). Returns the reason, HOLT_DAG_NONE when all is
 * well; else the run is empty but for its author, for the report, when that much could be read. */
enum holt_dag_reason holt_dag_run_read(struct holt_dag_run *run, struct holt_buf message, const char *journal,
                                       const struct holt_dag_ops *ops, const struct holt_dag_limits *limits);

#endif /* HOLT_DAG_ENTRY_H */
