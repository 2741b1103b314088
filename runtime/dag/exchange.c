/* Messages between holders.
 *
 * HAVE: type, flags, u16 count; of each tip author, number, hash, a byte: HOLT_DAG_TIP_.
 * TAKES: type, u16 count; keys of directories.
 * WANT: type, author, number, hash, u8 count; of each entry that is here number, hash.
 * RUN: run.c. HORIZON_TOLD: type, then entry.c. */
#include "dag/exchange.h"

#include "dag/dag_impl.h"

enum { TIP_BYTES = HOLT_DAG_REF + 1, LOCATE_BYTES = 8 + HOLT_DAG_HASH };

/* --- Reading ------------------------------------------------------------------------------------------ */

static bool read_have(struct holt_reader *in, struct holt_dag_message *out) {
  out->flags = holt_read_u8(in);
  out->count = holt_read_u16(in);
  out->tips = holt_read_bytes(in, (size_t)out->count * TIP_BYTES).data;
  if (in->failed || out->count > HOLT_DAG_HAVE_MAX) return false;
  if (out->flags > (HOLT_DAG_HAVE_BEGIN | HOLT_DAG_HAVE_END)) return false;
  for (uint32_t i = 0; i < out->count; i++) {
    const uint8_t *at = out->tips + (size_t)i * TIP_BYTES;
    if (holt_get_u64(at + HOLT_DAG_KEY) == 0 || at[HOLT_DAG_REF] > HOLT_DAG_TIP_FULL) return false;
  }
  return true;
}

static bool read_want(struct holt_reader *in, struct holt_dag_message *out) {
  struct holt_buf ref = holt_read_bytes(in, HOLT_DAG_REF);
  out->count = holt_read_u8(in);
  out->tips = holt_read_bytes(in, (size_t)out->count * LOCATE_BYTES).data;
  if (in->failed || out->count > HOLT_DAG_LOCATE_MAX) return false;
  holt_dag_ref_read(ref.data, &out->ref);
  for (uint32_t i = 0; i < out->count; i++)
    if (holt_get_u64(out->tips + (size_t)i * LOCATE_BYTES) == 0) return false;
  return out->ref.number > 0;
}

static bool read_takes(struct holt_reader *in, struct holt_dag_message *out) {
  out->count = holt_read_u16(in);
  out->tips = holt_read_bytes(in, (size_t)out->count * HOLT_DAG_KEY).data;
  return !in->failed && out->count > 0 && out->count <= HOLT_DAG_TAKES_MAX;
}

int holt_dag_message_decode(struct holt_buf bytes, struct holt_dag_message *out) {
  struct holt_reader in = holt_reader(bytes);
  *out = (struct holt_dag_message){.type = holt_read_u8(&in)};
  bool is_right = true;
  switch (out->type) {
  case HOLT_DAG_HAVE:
    is_right = read_have(&in, out);
    break;
  case HOLT_DAG_WANT:
    is_right = read_want(&in, out);
    break;
  case HOLT_DAG_TAKES:
    is_right = read_takes(&in, out);
    break;
  case HOLT_DAG_RUN:
    out->bytes = bytes;
    return 0;
  case HOLT_DAG_HORIZON_TOLD:
    out->bytes = holt_read_bytes(&in, holt_reader_left(&in));
    break;
  default:
    return HOLT_EPROTOCOL;
  }
  return is_right && !in.failed && holt_reader_left(&in) == 0 ? 0 : HOLT_EPROTOCOL;
}

/* --- Writing: what is here ---------------------------------------------------------------------------- */

bool holt_dag_takes_encode(const struct holt_dag *dag, struct holt_writer *w) {
  size_t count = dag->options.author_count;
  if (count == 0 || count > HOLT_DAG_TAKES_MAX) return false;
  holt_write_u8(w, HOLT_DAG_TAKES);
  holt_write_u16(w, (uint16_t)count);
  holt_write_bytes(w, dag->allowed, count * HOLT_DAG_KEY);
  return true;
}

static void write_tip(const struct holt_dag *dag, uint32_t chain, bool is_forked, struct holt_writer *w) {
  const struct holt__dag_chain *c = &dag->chains[chain];
  holt_write_bytes(w, dag->authors[c->author].key, HOLT_DAG_KEY);
  holt_write_u64(w, c->tip);
  holt_write_bytes(w, c->tip_hash, HOLT_DAG_HASH);
  uint8_t word = holt__dag_is_full_of(dag, c->author) ? HOLT_DAG_TIP_FULL : HOLT_DAG_TIP_FORKED;
  holt_write_u8(w, is_forked && !HOLT_BUG(7) ? word : HOLT_DAG_TIP_ONLY);
}

static size_t begin_have(struct holt_writer *w, uint8_t flags) {
  size_t start = w->len;
  holt_write_u8(w, HOLT_DAG_HAVE);
  holt_write_u8(w, flags);
  holt_write_u16(w, 0);
  return start;
}

bool holt_dag_have_all(const struct holt_dag *dag, uint32_t *chain, struct holt_writer *w) {
  if (*chain == HOLT__DAG_NONE) return false;
  size_t start = begin_have(w, *chain == 0 ? HOLT_DAG_HAVE_BEGIN : 0);
  uint16_t count = 0;
  for (; *chain < dag->chain_count && count < HOLT_DAG_HAVE_MAX; (*chain)++) {
    if (holt__dag_is_buried(dag, *chain)) continue;
    write_tip(dag, *chain, dag->authors[dag->chains[*chain].author].live > 1, w);
    count++;
  }
  holt_put_u16(w->data + start + 2, count);
  if (*chain < dag->chain_count) return true;
  w->data[start + 1] |= HOLT_DAG_HAVE_END;
  *chain = HOLT__DAG_NONE;
  return true;
}

size_t holt_dag_have_some(const struct holt_dag *dag, const uint32_t *authors, size_t count,
                          struct holt_writer *w) {
  size_t start = begin_have(w, 0), done = 0;
  uint32_t tips = 0;
  for (; done < count; done++) {
    uint32_t live = dag->authors[authors[done]].live;
    if (tips > 0 && tips + live > HOLT_DAG_HAVE_MAX) break;
    uint32_t id = dag->authors[authors[done]].chain;
    for (; id != HOLT__DAG_NONE && tips < HOLT_DAG_HAVE_MAX; id = dag->chains[id].next) {
      if (holt__dag_is_buried(dag, id)) continue;
      write_tip(dag, id, live > 1, w);
      tips++;
    }
  }
  holt_put_u16(w->data + start + 2, (uint16_t)tips);
  if (tips == 0) w->len = start;
  return done;
}

/* --- Writing: what is wanted -------------------------------------------------------------------------- */

/* Of one chain its tip, the entry before it, the one two before that, then four… and the first that is here.
 */
static int locate(const struct holt_dag *dag, uint32_t id, struct holt_writer *w, uint8_t *count) {
  const struct holt__dag_chain *c = &dag->chains[id];
  uint64_t horizon = dag->authors[c->author].horizon;
  uint64_t lowest = c->first > horizon ? c->first : horizon + 1, step = 1;
  if (lowest > c->tip) lowest = c->tip; /* the tip lies on the horizon */
  for (uint64_t number = c->tip; *count < HOLT_DAG_LOCATE_MAX; step *= 2) {
    uint8_t hash[HOLT_DAG_HASH];
    int rc = holt__dag_hash_of(dag, id, number, hash);
    if (rc) return rc;
    holt_write_u64(w, number);
    holt_write_bytes(w, hash, HOLT_DAG_HASH);
    (*count)++;
    if (number == lowest) break;
    number = number - lowest > step ? number - step : lowest;
  }
  return 0;
}

int holt_dag_want_encode(const struct holt_dag *dag, const struct holt_dag_ref *ref, struct holt_writer *w) {
  uint8_t bytes[HOLT_DAG_REF], count = 0;
  size_t start = w->len;
  holt_dag_ref_write(bytes, ref);
  holt_write_u8(w, HOLT_DAG_WANT);
  holt_write_bytes(w, bytes, sizeof bytes);
  holt_write_u8(w, 0);
  uint32_t author = holt__dag_author_of(dag, ref->author);
  uint32_t id = author == HOLT__DAG_NONE ? HOLT__DAG_NONE : dag->authors[author].chain;
  for (; id != HOLT__DAG_NONE && count < HOLT_DAG_LOCATE_MAX; id = dag->chains[id].next) {
    if (holt__dag_is_buried(dag, id)) continue;
    int rc = locate(dag, id, w, &count);
    if (rc) {
      w->len = start;
      return rc;
    }
  }
  w->data[start + 1 + HOLT_DAG_REF] = count;
  return 0;
}

void holt_dag_horizon_encode(struct holt_buf horizon, struct holt_writer *w) {
  holt_write_u8(w, HOLT_DAG_HORIZON_TOLD);
  holt_write_bytes(w, horizon.data, horizon.len);
}
