/* dag_world.h - holders of a journal in simulation: stores that lose what was not committed, links that lose,
 * double, reorder and fall, writers, and somebody malicious.
 *
 * The journal around dag/ is played in a few lines: an arrival log with a durable prefix, records of authors
 * that are written with each commit, and one cursor a link. Only what is durable is sent. All chance is from
 * the seed. */
#ifndef HOLT_UNIT_DAG_WORLD_H
#define HOLT_UNIT_DAG_WORLD_H

#include <stdio.h>
#include <stdlib.h>

#include "dag_lab.h"

enum { HOLDERS = 10, EVIL = HOLDERS, NODES = HOLDERS + 1, KEPT_MAX = 256 };

struct stored { /* one entry of an arrival log */
  uint32_t chain, len;
  uint64_t number;
  uint8_t hash[HOLT_DAG_HASH], signature[HOLT_DAG_SIGNATURE];
  bool is_signed;
  uint8_t *bytes;
};

struct chain_index { /* arrivals of one chain */
  uint64_t first;
  uint32_t *at;
  size_t count, cap;
};

struct end {                  /* what a holder knows of one connection */
  struct holt_dag_link *link; /* NULL: none */
  uint64_t source;
  size_t cursor;
  uint64_t connection; /* messages of older ones are lost */
};

struct holder {
  struct holt_dag *dag;
  struct stored *log;
  size_t count, cap, durable;
  struct chain_index *chains;
  size_t chain_count;
  struct holt_writer *records; /* durable ones, by author */
  size_t record_count, record_cap;
  struct lab_writer writer; /* fresh at each start */
  bool has_opened;
  struct end ends[NODES];
  uint64_t wants, penned, evicted, refused, cuts; /* over its lives */
};

struct parcel {
  uint32_t from, to;
  uint64_t connection;
  uint8_t *bytes;
  size_t len;
};

/* What the malicious one remembers: places where chains of his may go on, or fork. */
struct plot {
  struct lab_writer writer;
};

struct world {
  struct holt_rand rand;
  struct holder holders[HOLDERS];
  bool linked[NODES][NODES];          /* may have a connection */
  uint64_t connections[NODES][NODES]; /* 0: none now */
  struct parcel *mail;
  size_t mail_count, mail_cap;
  uint64_t serial;
  struct holt_map genuine; /* hash of the hash of each entry that its author has signed */
  struct plot plots[64];
  size_t plot_count;
  uint8_t *kept[KEPT_MAX]; /* messages that he saw or made */
  size_t kept_len[KEPT_MAX], kept_count;
  bool is_reliable, has_evil, is_small_pen, has_retention;
  char trouble[200]; /* first promise that broke, or "" */
};

static inline void trouble(struct world *w, const char *text, uint64_t number) {
  if (w->trouble[0] == '\0')
    snprintf(w->trouble, sizeof w->trouble, "%s (%llu)", text, (unsigned long long)number);
}

static inline uint64_t roll(struct world *w, uint64_t bound) {
  return holt_rand_below(&w->rand, bound);
}

/* --- Genuine entries ---------------------------------------------------------------------------------- */

static inline uint64_t name_of(const uint8_t *hash) {
  return holt_hash_bytes(3, hash, HOLT_DAG_HASH);
}

static inline void note_genuine(struct world *w, const struct holt_dag_run *run) {
  for (uint32_t i = 0; i < run->count; i++) holt_map_set(&w->genuine, name_of(run->items[i].hash), w);
}

/* --- The store ---------------------------------------------------------------------------------------- */

static inline int lab_hash_at(void *arg, uint32_t id, uint64_t number, uint8_t out[HOLT_DAG_HASH]) {
  struct holder *h = arg;
  HOLT_ASSERT(id < h->chain_count);
  const struct chain_index *c = &h->chains[id];
  HOLT_ASSERT(number >= c->first && number - c->first < c->count);
  struct holt_dag_chain chain;
  struct holt_dag_author author;
  holt_dag_chain(h->dag, id, &chain);
  holt_dag_author(h->dag, chain.author, &author);
  HOLT_ASSERT(number > author.horizon || number == 1); /* what is below is not there any more */
  memcpy(out, h->log[c->at[number - c->first]].hash, HOLT_DAG_HASH);
  return 0;
}

static inline void index_entry(struct holder *h, uint32_t chain, uint64_t number, size_t arrival) {
  if (chain >= h->chain_count) {
    h->chains = holt_realloc(h->chains, (chain + 1) * sizeof *h->chains);
    memset(h->chains + h->chain_count, 0, (chain + 1 - h->chain_count) * sizeof *h->chains);
    h->chain_count = chain + 1;
  }
  struct chain_index *c = &h->chains[chain];
  if (c->count == 0) c->first = number;
  HOLT_ASSERT(number == c->first + c->count);
  if (c->count == c->cap) {
    c->cap = c->cap ? c->cap * 2 : 8;
    c->at = holt_realloc(c->at, c->cap * sizeof *c->at);
  }
  c->at[c->count++] = (uint32_t)arrival;
}

/* Not demanded, because it is below a horizon. */
static inline bool is_below(struct holder *h, const struct holt_dag_ref *ref) {
  struct holt_dag_author author;
  uint32_t id;
  if (holt_dag_author_find(h->dag, ref->author, &id) != 0) return false;
  holt_dag_author(h->dag, id, &author);
  return ref->number <= author.horizon || ref->number <= author.excused;
}

static inline bool stores(struct holder *h, const struct holt_dag_ref *ref) {
  for (size_t i = 0; i < h->count; i++)
    if (memcmp(h->log[i].hash, ref->hash, HOLT_DAG_HASH) == 0) return true;
  return false;
}

/* Checks what is promised of everything that is admitted. */
static inline void check_entry(struct world *w, struct holder *h, struct holt_buf bytes,
                               const uint8_t *hash) {
  struct holt_dag_entry e;
  if (!holt_map_get(&w->genuine, name_of(hash)))
    trouble(w, "an entry was admitted that nobody has signed", 0);
  if (holt_dag_entry_decode(bytes, holt_dag_limits(h->dag), &e) != 0) {
    trouble(w, "what was admitted is no entry", 0);
    return;
  }
  for (uint32_t i = 0; i < e.parent_count; i++) {
    struct holt_dag_ref ref;
    holt_dag_entry_parent(&e, i, &ref);
    if (!stores(h, &ref) && !is_below(h, &ref))
      trouble(w, "an entry was admitted before its parent", e.number);
  }
  struct holt_dag_ref prev = {.number = e.number - 1};
  memcpy(prev.hash, e.prev, HOLT_DAG_HASH);
  memcpy(prev.author, e.author, HOLT_DAG_KEY);
  if (e.number > 1 && !stores(h, &prev) && !is_below(h, &prev))
    trouble(w, "an entry was admitted before the one it follows", e.number);
}

static inline void append(struct world *w, struct holder *h, const struct holt_dag_admitted *a) {
  for (uint32_t i = 0; i < a->count; i++) {
    struct holt_buf bytes = holt_dag_run_entry(a->run, a->skip + i);
    const uint8_t *hash = a->run->items[a->skip + i].hash;
    struct holt_dag_ref ref;
    memcpy(ref.hash, hash, HOLT_DAG_HASH);
    if (stores(h, &ref)) trouble(w, "an entry was admitted twice", a->first + i);
    check_entry(w, h, bytes, hash);
    if (h->count == h->cap) {
      h->cap = h->cap ? h->cap * 2 : 64;
      h->log = holt_realloc(h->log, h->cap * sizeof *h->log);
    }
    struct stored *s = &h->log[h->count];
    *s = (struct stored){.chain = a->chain, .len = (uint32_t)bytes.len, .number = a->first + i};
    s->bytes = holt_alloc(bytes.len);
    memcpy(s->bytes, bytes.data, bytes.len);
    memcpy(s->hash, hash, HOLT_DAG_HASH);
    s->is_signed = i == a->count - 1;
    memcpy(s->signature, a->run->signature, HOLT_DAG_SIGNATURE);
    index_entry(h, a->chain, s->number, h->count++);
  }
}

/* --- Sending ------------------------------------------------------------------------------------------ */

static inline uint32_t id_of(const struct world *w, const struct holder *h) {
  return (uint32_t)(h - w->holders);
}

static inline void post(struct world *w, uint32_t from, uint32_t to, const uint8_t *bytes, size_t len) {
  uint64_t connection = w->connections[from][to];
  if (connection == 0) return;
  if (w->mail_count == w->mail_cap) {
    w->mail_cap = w->mail_cap ? w->mail_cap * 2 : 64;
    w->mail = holt_realloc(w->mail, w->mail_cap * sizeof *w->mail);
  }
  struct parcel *p = &w->mail[w->mail_count++];
  *p = (struct parcel){.from = from, .to = to, .connection = connection, .len = len};
  p->bytes = holt_alloc(len + 1);
  memcpy(p->bytes, bytes, len);
}

static inline void post_and_clear(struct world *w, struct holder *h, uint32_t to, struct holt_writer *out) {
  if (out->len) post(w, id_of(w, h), to, out->data, out->len);
  out->len = 0;
}

static inline void send_all_tips(struct world *w, struct holder *h, uint32_t to) {
  struct holt_writer out = {0};
  for (uint32_t chain = 0; holt_dag_have_all(h->dag, &chain, &out);) post_and_clear(w, h, to, &out);
  holt_writer_free(&out);
}

static inline int by_key(const void *a, const void *b) {
  return memcmp(a, b, HOLT_DAG_KEY);
}

/* What was dropped here, signed; before anything that rests on it. */
static inline void send_horizons(struct world *w, struct holder *h, uint32_t to) {
  uint8_t refs[512 * HOLT_DAG_REF];
  struct holt_dag_horizon horizon = {.refs = refs};
  struct holt_writer made = {0}, out = {0};
  for (uint32_t i = 0; i < holt_dag_author_count(h->dag) && horizon.ref_count < 512; i++) {
    struct holt_dag_ref ref;
    if (holt_dag_horizon_ref(h->dag, i, &ref))
      holt_dag_ref_write(refs + HOLT_DAG_REF * (size_t)horizon.ref_count++, &ref);
  }
  if (horizon.ref_count == 0) return;
  qsort(refs, horizon.ref_count, HOLT_DAG_REF, by_key);
  memcpy(horizon.directory, h->writer.directory.public, HOLT_DAG_KEY);
  HOLT_ASSERT(holt_dag_horizon_make(&made, &horizon, LAB_JOURNAL, &lab_ops, h->writer.directory.secret) == 0);
  holt_dag_horizon_encode(holt_buf(made.data, made.len), &out);
  post_and_clear(w, h, to, &out);
  holt_writer_free(&made);
  holt_writer_free(&out);
}

static inline void say_all(struct world *w, struct holder *h, uint32_t to) {
  send_horizons(w, h, to);
  send_all_tips(w, h, to);
}

/* The run that begins at this arrival, in one piece, up to a signature at or behind `to`. Returns its
 * entries. */
static inline uint32_t send_run(struct world *w, struct holder *h, struct end *end, uint32_t peer,
                                size_t arrival, uint64_t to) {
  struct holt_writer out = {0};
  struct holt_dag_pack pack;
  uint32_t chain = h->log[arrival].chain;
  holt_dag_pack_begin(&pack, &out);
  for (size_t i = arrival; i < h->durable && h->log[i].chain == chain; i++) {
    const struct stored *s = &h->log[i];
    if (i > arrival && s->number != h->log[i - 1].number + 1) break;
    if (holt_dag_pack_add(&pack, holt_buf(s->bytes, s->len), s->is_signed ? s->signature : NULL,
                          holt_dag_limits(h->dag)) != 0)
      break;
    if (s->is_signed && s->number >= to) break;
  }
  uint32_t count = holt_dag_pack_end(&pack);
  HOLT_ASSERT(count > 0);
  holt_dag_link_sent(end->link, chain, h->log[arrival].number + count - 1);
  post_and_clear(w, h, peer, &out);
  holt_writer_free(&out);
  return count;
}

static inline void send_range(struct world *w, struct holder *h, struct end *end, uint32_t peer,
                              const struct holt_dag_range *range) {
  const struct chain_index *c = &h->chains[range->chain];
  for (uint64_t number = range->from; number <= range->to && number - c->first < c->count;) {
    size_t arrival = c->at[number - c->first];
    if (arrival >= h->durable) return;
    number += send_run(w, h, end, peer, arrival, range->to);
  }
}

/* Moves the cursor on, until `runs` were sent. True: there is more. */
static inline bool pump(struct world *w, struct holder *h, uint32_t peer, int runs) {
  struct end *end = &h->ends[peer];
  struct holt_dag_range range;
  if (end->link == NULL || !holt_dag_link_is_ready(end->link)) return false;
  while (runs > 0 && holt_dag_link_next_range(end->link, &range)) {
    send_range(w, h, end, peer, &range);
    runs--;
  }
  while (runs > 0 && end->cursor < h->durable) {
    const struct stored *s = &h->log[end->cursor];
    if (!holt_dag_link_lacks(end->link, s->chain, s->number)) {
      end->cursor++;
      continue;
    }
    end->cursor += send_run(w, h, end, peer, end->cursor, UINT64_MAX);
    runs--;
  }
  return end->cursor < h->durable;
}

/* --- What the index asks for --------------------------------------------------------------------------- */

static inline struct end *end_with(struct holder *h, uint64_t source, uint32_t *peer) {
  for (*peer = 0; *peer < NODES; (*peer)++)
    if (h->ends[*peer].link && h->ends[*peer].source == source) return &h->ends[*peer];
  for (*peer = 0; *peer < NODES; (*peer)++) /* gone: somebody else may have it */
    if (h->ends[*peer].link) return &h->ends[*peer];
  return NULL;
}

static inline void send_asked(struct world *w, struct holder *h) {
  struct holt_writer out = {0};
  struct holt_dag_want want;
  struct holt_dag_ref ref;
  uint32_t peer;
  while (holt_dag_next_want(h->dag, &want)) {
    if (end_with(h, want.source, &peer) == NULL) continue;
    HOLT_ASSERT(holt_dag_want_encode(h->dag, &want.ref, &out) == 0);
    post_and_clear(w, h, peer, &out);
    h->wants++;
  }
  for (peer = 0; peer < NODES; peer++) {
    if (h->ends[peer].link == NULL) continue;
    while (holt_dag_link_next_want(h->ends[peer].link, &ref)) {
      HOLT_ASSERT(holt_dag_want_encode(h->dag, &ref, &out) == 0);
      post_and_clear(w, h, peer, &out);
      h->wants++;
    }
  }
  holt_writer_free(&out);
}

/* Stores what was admitted, and tells the links. */
static inline void take(struct world *w, struct holder *h, const struct holt_dag_result *result) {
  struct holt_dag_status status;
  uint32_t peer;
  h->evicted += result->evicted_count;
  for (size_t i = 0; i < result->admitted_count; i++) append(w, h, &result->admitted[i]);
  for (size_t i = 0; i < result->admitted_count; i++) {
    h->cuts += result->admitted[i].is_cut;
    for (peer = 0; peer < NODES; peer++)
      if (h->ends[peer].link)
        HOLT_ASSERT(holt_dag_link_admitted(h->ends[peer].link, &result->admitted[i]) == 0);
  }
  for (peer = 0; peer < NODES && result->is_horizon_moved; peer++)
    if (h->ends[peer].link) send_horizons(w, h, peer);
  for (size_t i = 0; i < result->evicted_count; i++)
    if (end_with(h, result->evicted[i], &peer) && roll(w, 4) == 0) say_all(w, h, peer);
  holt_dag_status(h->dag, &status);
  if (status.pen_bytes > (w->is_small_pen ? 3000u : 16u << 20))
    trouble(w, "the pen is over its bound", status.pen_bytes);
  send_asked(w, h);
}

static inline void offer(struct world *w, struct holder *h, const struct holt_dag_run *run, uint64_t source,
                         struct end *end) {
  struct holt_dag_result result;
  holt_dag_offer(h->dag, run, source, &result);
  if (result.outcome == HOLT_DAG_DUPLICATE && end) holt_dag_link_duplicate(end->link, run);
  h->penned += result.outcome == HOLT_DAG_PENNED;
  h->refused += result.outcome == HOLT_DAG_REFUSED;
  if (source == 0 && result.outcome != HOLT_DAG_ADMITTED)
    trouble(w, "an own entry was not admitted", result.reason);
  take(w, h, &result);
}

/* --- Life and death ------------------------------------------------------------------------------------ */

static inline void commit(struct world *w, struct holder *h) {
  uint32_t changed[512], author;
  size_t count = 0;
  struct holt_writer out = {0};
  h->durable = h->count;
  while (count < 512 && holt_dag_next_changed(h->dag, &author)) {
    while (h->record_count <= author) {
      h->records = holt_realloc(h->records, (h->record_count + 1) * sizeof *h->records);
      h->records[h->record_count++] = (struct holt_writer){0};
    }
    h->records[author].len = 0;
    holt_dag_save(h->dag, author, &h->records[author]);
    changed[count++] = author;
  }
  HOLT_ASSERT(count < 512);
  for (uint32_t peer = 0; peer < NODES && count; peer++) {
    if (h->ends[peer].link == NULL) continue;
    for (size_t done = 0; done < count;) {
      done += holt_dag_have_some(h->dag, changed + done, count - done, &out);
      post_and_clear(w, h, peer, &out);
    }
  }
  holt_writer_free(&out);
}

static inline void disconnect(struct world *w, uint32_t a, uint32_t b) {
  w->connections[a][b] = w->connections[b][a] = 0;
  for (int i = 0; i < 2; i++) {
    uint32_t one = i ? b : a, other = i ? a : b;
    if (one == EVIL) continue;
    struct holder *h = &w->holders[one];
    if (h->ends[other].link) holt_dag_source_gone(h->dag, h->ends[other].source);
    holt_dag_link_free(h->ends[other].link);
    h->ends[other] = (struct end){0};
  }
  if (a != EVIL) send_asked(w, &w->holders[a]);
  if (b != EVIL) send_asked(w, &w->holders[b]);
}

static inline void connect_them(struct world *w, uint32_t a, uint32_t b) {
  if (w->connections[a][b] || a == b) return;
  w->connections[a][b] = w->connections[b][a] = ++w->serial;
  for (int i = 0; i < 2; i++) {
    uint32_t one = i ? b : a, other = i ? a : b;
    if (one == EVIL) continue;
    struct holder *h = &w->holders[one];
    h->ends[other] = (struct end){.source = ++w->serial, .connection = w->connections[a][b]};
    h->ends[other].link = holt_dag_link_new(h->dag, h->ends[other].source);
    say_all(w, h, other);
  }
}

static inline void wake_up(struct world *w, struct holder *h) {
  struct holt_dag_options options;
  holt_dag_options_default(&options);
  options.hash_at = lab_hash_at;
  options.arg = h;
  if (w->is_small_pen) options.pen_bytes = 3000;
  h->dag = holt_dag_new(&options);
  for (size_t i = 0; i < h->record_count; i++)
    HOLT_ASSERT(holt_dag_load(h->dag, holt_buf(h->records[i].data, h->records[i].len)) == 0);
  HOLT_ASSERT(holt_dag_loaded(h->dag) == 0);
  h->writer = lab_writer(++w->serial + (w->rand.state[0] & 0xffff0000));
  h->has_opened = false;
}

static inline void forget_chains(struct holder *h) {
  for (size_t i = 0; i < h->chain_count; i++) free(h->chains[i].at);
  free(h->chains);
  h->chains = NULL;
  h->chain_count = 0;
}

/* All that was not committed is gone. */
static inline void crash(struct world *w, struct holder *h) {
  for (uint32_t peer = 0; peer < NODES; peer++)
    if (h->ends[peer].link) disconnect(w, id_of(w, h), peer);
  holt_dag_free(h->dag);
  while (h->count > h->durable) free(h->log[--h->count].bytes);
  forget_chains(h);
  for (size_t i = 0; i < h->count; i++) index_entry(h, h->log[i].chain, h->log[i].number, i);
  wake_up(w, h);
}

/* Drops some of an author's entries, all that there is of him perhaps, in one commit with the index. */
static inline void retain(struct world *w, struct holder *h) {
  struct holt_dag_chain c;
  struct holt_dag_ref ref;
  if (holt_dag_chain_count(h->dag) == 0) return;
  uint32_t chain = (uint32_t)roll(w, holt_dag_chain_count(h->dag));
  holt_dag_chain(h->dag, chain, &c);
  if (holt_dag_cut(h->dag, chain, c.first + roll(w, c.tip - c.first + 1), &ref) != 0) return;
  h->cuts++;
  commit(w, h);
  for (uint32_t peer = 0; peer < NODES; peer++)
    if (h->ends[peer].link) send_horizons(w, h, peer);
}

static inline void write_some(struct world *w, struct holder *h) {
  struct holt_dag_run run = {0};
  struct holt_dag_ref heads[HOLT_DAG_PARENTS_MAX];
  char text[40];
  size_t count = holt_dag_heads(h->dag, h->writer.key.public, heads);
  if (!h->has_opened) {
    lab_open(&h->writer, &run, heads, count);
    note_genuine(w, &run);
    offer(w, h, &run, 0, NULL);
    h->has_opened = true;
    count = 0;
  }
  snprintf(text, sizeof text, "value %llu", (unsigned long long)++w->serial);
  lab_write(&h->writer, &run, 1 + (uint32_t)roll(w, 4), text, heads, count);
  note_genuine(w, &run);
  offer(w, h, &run, 0, NULL);
  holt_dag_run_free(&run);
}

/* --- Receiving ----------------------------------------------------------------------------------------- */

static inline void keep(struct world *w, const uint8_t *bytes, size_t len) {
  size_t at = w->kept_count < KEPT_MAX ? w->kept_count++ : roll(w, KEPT_MAX);
  free(w->kept[at]);
  w->kept[at] = holt_alloc(len + 1);
  w->kept_len[at] = len;
  memcpy(w->kept[at], bytes, len);
}

/* Asked for entries of an author, he sends what he has of it: his own forks spread. */
static inline void evil_answer(struct world *w, const struct parcel *p) {
  struct holt_dag_message m;
  if (holt_dag_message_decode(holt_buf(p->bytes, p->len), &m) != 0 || m.type != HOLT_DAG_WANT) return;
  for (size_t i = 0; i < w->kept_count; i++)
    if (w->kept_len[i] > HOLT_DAG_KEY && w->kept[i][0] == HOLT_DAG_RUN &&
        memcmp(w->kept[i] + 1, m.ref.author, HOLT_DAG_KEY) == 0)
      post(w, EVIL, p->from, w->kept[i], w->kept_len[i]);
}

static inline void receive_run(struct world *w, struct holder *h, struct end *end, struct holt_buf bytes,
                               bool is_honest) {
  struct holt_dag_run run = {0};
  enum holt_dag_reason reason =
      holt_dag_run_read(&run, bytes, LAB_JOURNAL, &lab_ops, holt_dag_limits(h->dag));
  if (reason == HOLT_DAG_NONE) offer(w, h, &run, end->source, end);
  if (reason != HOLT_DAG_NONE && is_honest) trouble(w, "what an honest holder sent was refused", reason);
  h->refused += reason != HOLT_DAG_NONE;
  holt_dag_run_free(&run);
}

static inline void receive_horizon(struct world *w, struct holder *h, struct end *end,
                                   struct holt_buf bytes) {
  struct holt_dag_horizon horizon;
  struct holt_dag_result result;
  if (holt_dag_horizon_read(bytes, LAB_JOURNAL, &lab_ops, &horizon) != 0) return;
  HOLT_ASSERT(holt_dag_horizon_told(h->dag, &horizon, end->source, &result) == 0);
  take(w, h, &result);
}

static inline void start_cursor(struct holder *h, struct end *end) {
  end->cursor = h->count;
  for (uint32_t chain = 0; chain < holt_dag_chain_count(h->dag); chain++) {
    uint64_t from = holt_dag_link_lacks_from(end->link, chain);
    if (from == 0) continue;
    size_t arrival = h->chains[chain].at[from - h->chains[chain].first];
    if (arrival < end->cursor) end->cursor = arrival;
  }
}

static inline void receive(struct world *w, const struct parcel *p) {
  if (w->connections[p->from][p->to] != p->connection) return;
  if (p->to == EVIL) {
    evil_answer(w, p);
    keep(w, p->bytes, p->len);
    return;
  }
  struct holder *h = &w->holders[p->to];
  struct end *end = &h->ends[p->from];
  struct holt_dag_message m;
  bool is_begun;
  if (holt_dag_message_decode(holt_buf(p->bytes, p->len), &m) != 0) {
    if (p->from != EVIL) trouble(w, "an honest message is malformed", p->bytes[0]);
    h->refused++;
    return;
  }
  switch (m.type) {
  case HOLT_DAG_HAVE:
    HOLT_ASSERT(holt_dag_link_have(end->link, &m, &is_begun) == 0);
    if (is_begun) start_cursor(h, end);
    send_asked(w, h);
    break;
  case HOLT_DAG_WANT:
    holt_dag_link_asked(end->link, &m);
    break;
  case HOLT_DAG_RUN:
    receive_run(w, h, end, m.bytes, p->from != EVIL);
    break;
  case HOLT_DAG_TAKES:
    holt_dag_link_takes(end->link, &m);
    break;
  default:
    receive_horizon(w, h, end, m.bytes);
  }
}

/* One message arrives: any, or the oldest. `loss` of a hundred are lost, and as many come twice. */
static inline bool deliver(struct world *w, uint64_t loss) {
  if (w->mail_count == 0) return false;
  size_t at = w->is_reliable ? 0 : roll(w, w->mail_count < 20 ? w->mail_count : 20);
  struct parcel p = w->mail[at];
  bool is_lost = roll(w, 100) < loss, is_double = roll(w, 100) < loss;
  if (!is_double) memmove(w->mail + at, w->mail + at + 1, (--w->mail_count - at) * sizeof p);
  if (is_double) {
    uint8_t *copy = holt_alloc(p.len + 1);
    memcpy(copy, p.bytes, p.len);
    p.bytes = copy;
  }
  if (!is_lost) receive(w, &p);
  free(p.bytes);
  return true;
}

#endif /* HOLT_UNIT_DAG_WORLD_H */
