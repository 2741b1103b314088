/* A holder of a journal that hears whatever the bytes say: entries, records, horizons, and messages of
 * another holder. Signatures are all taken for good here, so that what is behind them is reached. It never
 * crashes, admits each entry once and behind what it follows, and the pen keeps its bound.
 *
 * The first byte chooses what is read; messages come as u16 length and bytes. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/rand.h"
#include "dag/exchange.h"

enum { CHAINS = 256 };

static struct {
  uint64_t first, count, cap;
  uint8_t (*hashes)[HOLT_DAG_HASH];
} chains[CHAINS];
static struct holt_dag *dag;
static struct holt_dag_link *here;

static void hash(void *arg, struct holt_buf bytes, uint8_t out[HOLT_DAG_HASH]) {
  (void)arg;
  memset(out, 0, HOLT_DAG_HASH);
  holt_put_u64(out, holt_hash_bytes(1, bytes.data, bytes.len));
}

static bool verify(void *arg, const uint8_t key[HOLT_DAG_KEY], struct holt_buf text,
                   const uint8_t signature[HOLT_DAG_SIGNATURE]) {
  (void)arg, (void)key, (void)text;
  return signature[0] != 255;
}

static const struct holt_dag_ops ops = {.hash = hash, .verify = verify};

static int hash_at(void *arg, uint32_t chain, uint64_t number, uint8_t out[HOLT_DAG_HASH]) {
  (void)arg;
  HOLT_ASSERT(chain < CHAINS);
  HOLT_ASSERT(number >= chains[chain].first && number - chains[chain].first < chains[chain].count);
  memcpy(out, chains[chain].hashes[number - chains[chain].first], HOLT_DAG_HASH);
  return 0;
}

static void store(const struct holt_dag_admitted *a) {
  HOLT_ASSERT(a->chain < CHAINS && a->count > 0 && a->skip + a->count == a->run->count);
  if (chains[a->chain].count == 0) chains[a->chain].first = a->first;
  HOLT_ASSERT(a->first == chains[a->chain].first + chains[a->chain].count); /* once, and behind its own */
  for (uint32_t i = 0; i < a->count; i++) {
    if (chains[a->chain].count == chains[a->chain].cap) {
      chains[a->chain].cap = chains[a->chain].cap ? chains[a->chain].cap * 2 : 8;
      chains[a->chain].hashes = holt_realloc(chains[a->chain].hashes, chains[a->chain].cap * HOLT_DAG_HASH);
    }
    memcpy(chains[a->chain].hashes[chains[a->chain].count++], a->run->items[a->skip + i].hash, HOLT_DAG_HASH);
  }
}

static void hear_run(struct holt_buf bytes) {
  struct holt_dag_run run = {0};
  struct holt_dag_result result;
  struct holt_dag_status status;
  if (holt_dag_run_read(&run, bytes, "journal", &ops, holt_dag_limits(dag)) == HOLT_DAG_NONE) {
    holt_dag_offer(dag, &run, 1, &result);
    for (size_t i = 0; i < result.admitted_count; i++) store(&result.admitted[i]);
    for (size_t i = 0; i < result.admitted_count; i++)
      HOLT_ASSERT(holt_dag_link_admitted(here, &result.admitted[i]) == 0);
    if (result.outcome == HOLT_DAG_DUPLICATE) HOLT_ASSERT(holt_dag_link_duplicate(here, &run) == 0);
    if (result.outcome == HOLT_DAG_ADMITTED) { /* what is here is a duplicate from now on, or too old */
      bool is_moved = result.is_horizon_moved;
      holt_dag_offer(dag, &run, 1, &result);
      bool is_old = result.outcome == HOLT_DAG_REFUSED && result.reason == HOLT_DAG_BELOW_HORIZON;
      HOLT_ASSERT(result.outcome == HOLT_DAG_DUPLICATE || (is_moved && is_old));
    }
  }
  holt_dag_status(dag, &status);
  HOLT_ASSERT(status.pen_bytes <= 4000 && status.pen_runs <= 8);
  holt_dag_run_free(&run);
}

static void answer(void) {
  struct holt_dag_want want;
  struct holt_dag_ref ref;
  struct holt_dag_range range;
  struct holt_writer w = {0};
  while (holt_dag_next_want(dag, &want)) HOLT_ASSERT(holt_dag_want_encode(dag, &want.ref, &w) == 0);
  while (holt_dag_link_next_want(here, &ref)) HOLT_ASSERT(holt_dag_want_encode(dag, &ref, &w) == 0);
  while (holt_dag_link_next_range(here, &range)) {
    HOLT_ASSERT(range.from <= range.to && range.chain < holt_dag_chain_count(dag));
    HOLT_ASSERT(range.from >= chains[range.chain].first);
    HOLT_ASSERT(range.to - chains[range.chain].first < chains[range.chain].count);
  }
  for (uint32_t c = 0; c < holt_dag_chain_count(dag); c++) {
    uint64_t from = holt_dag_link_lacks_from(here, c);
    HOLT_ASSERT(from == 0 || from - chains[c].first < chains[c].count);
  }
  holt_writer_free(&w);
}

static void hear(struct holt_buf bytes) {
  struct holt_dag_message m;
  struct holt_dag_horizon horizon;
  bool is_begun;
  if (holt_dag_message_decode(bytes, &m) != 0) return;
  switch (m.type) {
  case HOLT_DAG_HAVE:
    HOLT_ASSERT(holt_dag_link_have(here, &m, &is_begun) == 0);
    break;
  case HOLT_DAG_WANT:
    (void)holt_dag_link_asked(here, &m);
    break;
  case HOLT_DAG_RUN:
    hear_run(m.bytes);
    break;
  case HOLT_DAG_TAKES:
    holt_dag_link_takes(here, &m);
    break;
  default:
    if (holt_dag_horizon_read(m.bytes, "journal", &ops, &horizon) == 0) {
      struct holt_dag_result result;
      (void)holt_dag_horizon_told(dag, &horizon, 1, &result);
      for (size_t i = 0; i < result.admitted_count; i++) store(&result.admitted[i]);
    }
  }
  answer();
}

static void hear_all(struct holt_reader *in) {
  struct holt_dag_options options;
  struct holt_dag_ref ref;
  holt_dag_options_default(&options);
  options.hash_at = hash_at;
  options.branches_max = 5;
  options.chains_max = CHAINS;
  options.pen_runs = 8;
  options.pen_bytes = 4000;
  dag = holt_dag_new(&options);
  here = holt_dag_link_new(dag, 1);
  while (!in->failed && holt_reader_left(in) > 2) {
    uint16_t len = holt_read_u16(in);
    if (len >= 65000 && holt_dag_chain_count(dag) > 0) { /* retention */
      struct holt_dag_chain c;
      uint32_t chain = len % holt_dag_chain_count(dag);
      holt_dag_chain(dag, chain, &c);
      (void)holt_dag_cut(dag, chain, (c.first + c.tip) / 2, &ref);
      answer();
      continue;
    }
    struct holt_buf bytes = holt_read_bytes(in, len);
    if (!in->failed) hear(bytes);
  }
  holt_dag_link_free(here);
  holt_dag_free(dag);
  for (int i = 0; i < CHAINS; i++) {
    free(chains[i].hashes);
    memset(&chains[i], 0, sizeof chains[i]);
  }
}

static void read_entry(struct holt_buf bytes) {
  struct holt_dag_limits limits;
  struct holt_dag_entry e;
  struct holt_writer w = {0};
  holt_dag_limits_default(&limits);
  if (holt_dag_entry_decode(bytes, &limits, &e) != 0) return;
  HOLT_ASSERT(holt_dag_entry_encode(&w, &e, &limits) == 0);
  HOLT_ASSERT(w.len == bytes.len && memcmp(w.data, bytes.data, w.len) == 0);
  holt_writer_free(&w);
}

static void read_records(struct holt_reader *in) {
  struct holt_dag_options options;
  struct holt_dag_ref heads[HOLT_DAG_PARENTS_MAX];
  int rc = 0;
  holt_dag_options_default(&options);
  options.chains_max = 1000;
  struct holt_dag *copy = holt_dag_new(&options);
  while (rc == 0 && holt_reader_left(in) > 2) {
    struct holt_buf record = holt_read_bytes(in, holt_read_u16(in));
    rc = in->failed ? HOLT_ECORRUPT : holt_dag_load(copy, record);
  }
  if (rc == 0) rc = holt_dag_loaded(copy);
  if (rc == 0) (void)holt_dag_heads(copy, NULL, heads);
  holt_dag_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct holt_reader in = holt_reader(holt_buf(data, size));
  switch (holt_read_u8(&in) % 4) {
  case 0:
    read_entry(holt_buf(in.at, holt_reader_left(&in)));
    break;
  case 1:
    read_records(&in);
    break;
  default:
    hear_all(&in);
  }
  return 0;
}
