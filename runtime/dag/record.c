/* Records of authors: what the journal keeps, so that it opens without reading entries.
 *
 * A record: version, key, directory, flags, horizon and excused with their hashes, count of chains; of each
 * chain its number, first, tip with hash, base, cited. */
#include "base/assert.h"
#include "dag/dag_impl.h"

enum { RECORD_VERSION = 1, HAS_OPENING = 1, IS_FORKED = 2 };

void holt_dag_save(const struct holt_dag *dag, uint32_t author, struct holt_writer *w) {
  HOLT_ASSERT(author < dag->author_count);
  const struct holt__dag_author *a = &dag->authors[author];
  holt_write_u8(w, RECORD_VERSION);
  holt_write_bytes(w, a->key, HOLT_DAG_KEY);
  holt_write_bytes(w, a->directory, HOLT_DAG_KEY);
  holt_write_u8(w, (uint8_t)((a->has_opening ? HAS_OPENING : 0) | (a->is_forked ? IS_FORKED : 0)));
  holt_write_u64(w, a->horizon);
  holt_write_bytes(w, a->horizon_hash, HOLT_DAG_HASH);
  holt_write_u64(w, a->excused);
  holt_write_bytes(w, a->excused_hash, HOLT_DAG_HASH);
  holt_write_u32(w, a->chain_count);
  for (uint32_t id = a->chain; id != HOLT__DAG_NONE; id = dag->chains[id].next) {
    const struct holt__dag_chain *c = &dag->chains[id];
    holt_write_u32(w, id);
    holt_write_u64(w, c->first);
    holt_write_u64(w, c->tip);
    holt_write_bytes(w, c->tip_hash, HOLT_DAG_HASH);
    holt_write_u32(w, c->base);
    holt_write_u64(w, HOLT_BUG(14) ? 0 : c->cited);
  }
}

static void read_into(struct holt_reader *in, uint8_t *out, size_t len) {
  struct holt_buf bytes = holt_read_bytes(in, len);
  if (bytes.len == len) memcpy(out, bytes.data, len);
}

static bool load_chain(struct holt_dag *dag, uint32_t author, struct holt_reader *in) {
  uint8_t hash[HOLT_DAG_HASH] = {0};
  uint32_t id = holt_read_u32(in);
  uint64_t first = holt_read_u64(in), tip = holt_read_u64(in);
  read_into(in, hash, HOLT_DAG_HASH);
  uint32_t base = holt_read_u32(in);
  uint64_t cited = holt_read_u64(in);
  if (in->failed || id >= dag->options.chains_max || first == 0 || tip < first || cited > tip) return false;
  if (id < dag->chain_count && dag->chains[id].first != 0) return false; /* twice */
  holt__dag_chain_at(dag, id, author, first, base);
  struct holt__dag_chain *c = &dag->chains[id];
  c->tip = tip;
  c->cited = cited;
  memcpy(c->tip_hash, hash, HOLT_DAG_HASH);
  return true;
}

int holt_dag_load(struct holt_dag *dag, struct holt_buf record) {
  struct holt_reader in = holt_reader(record);
  uint8_t version = holt_read_u8(&in);
  struct holt_buf key = holt_read_bytes(&in, HOLT_DAG_KEY);
  if (in.failed || version != RECORD_VERSION) return HOLT_ECORRUPT;
  if (holt__dag_author_of(dag, key.data) != HOLT__DAG_NONE) return HOLT_ECORRUPT;
  uint32_t id = holt__dag_author_add(dag, key.data);
  struct holt__dag_author *a = &dag->authors[id];
  read_into(&in, a->directory, HOLT_DAG_KEY);
  uint8_t flags = holt_read_u8(&in);
  a->has_opening = flags & HAS_OPENING;
  a->is_forked = flags & IS_FORKED;
  a->horizon = holt_read_u64(&in);
  read_into(&in, a->horizon_hash, HOLT_DAG_HASH);
  a->excused = holt_read_u64(&in);
  read_into(&in, a->excused_hash, HOLT_DAG_HASH);
  uint32_t count = holt_read_u32(&in);
  if (in.failed || flags > (HAS_OPENING | IS_FORKED) || (count > 0) != a->has_opening) return HOLT_ECORRUPT;
  for (uint32_t i = 0; i < count; i++)
    if (!load_chain(dag, id, &in)) return HOLT_ECORRUPT;
  return holt_reader_left(&in) == 0 ? 0 : HOLT_ECORRUPT;
}

int holt_dag_loaded(struct holt_dag *dag) {
  for (uint32_t id = 0; id < dag->chain_count; id++) {
    const struct holt__dag_chain *c = &dag->chains[id];
    if (c->first == 0) return HOLT_ECORRUPT; /* no record has it */
    if (c->base == HOLT__DAG_NONE) continue;
    if (c->base >= dag->chain_count || dag->chains[c->base].author != c->author) return HOLT_ECORRUPT;
    if (dag->chains[c->base].first >= c->first || dag->chains[c->base].tip < c->first) return HOLT_ECORRUPT;
  }
  for (uint32_t author = 0; author < dag->author_count; author++) holt__dag_review(dag, author);
  for (uint32_t author; holt_dag_next_changed(dag, &author);) continue;
  return 0;
}
