/* Ten holders of a journal, in simulation: whatever is lost, doubled, reordered, cut, crashed or forged, in
 * the end all have the same entries and heads, none of them forged, each behind its parents, and what was
 * durable is there.
 *
 * HOLT_SEEDS=n runs n seeds, HOLT_SEED=n that one. The last test breaks one rule after the other
 * (runtime/dag/bug.h) and shows that this would notice. */
#include "dag_world.h"
#include "unit.h"

int holt_dag_bug;

/* --- Somebody malicious --------------------------------------------------------------------------------- */

static void evil_post(struct world *w, const uint8_t *bytes, size_t len) {
  uint32_t to = (uint32_t)roll(w, HOLDERS);
  for (int i = 0; i < HOLDERS && !w->connections[EVIL][to]; i++) to = (to + 1) % HOLDERS;
  post(w, EVIL, to, bytes, len);
}

static struct holt_writer run_message(const struct holt_dag_run *run) {
  struct holt_dag_limits limits;
  struct holt_writer out = {0};
  struct holt_dag_pack pack;
  holt_dag_limits_default(&limits);
  holt_dag_pack_begin(&pack, &out);
  for (uint32_t i = 0; i < run->count; i++)
    HOLT_ASSERT(holt_dag_pack_add(&pack, holt_dag_run_entry(run, i),
                                  i == run->count - 1 ? run->signature : NULL, &limits) == 0);
  HOLT_ASSERT(holt_dag_pack_end(&pack) == run->count);
  return out;
}

static void evil_send(struct world *w, const struct holt_dag_run *run) {
  struct holt_writer out = run_message(run);
  keep(w, out.data, out.len);
  evil_post(w, out.data, out.len);
  holt_writer_free(&out);
}

/* An author of his, who names what an honest holder has; all of it well signed. */
static void evil_write(struct world *w) {
  struct holt_dag_run run = {0};
  struct holt_dag_ref heads[HOLT_DAG_PARENTS_MAX];
  struct holder *h = &w->holders[roll(w, HOLDERS)];
  char text[40];
  struct lab_writer writer;
  if (w->plot_count == 0 || roll(w, 8) == 0) {
    writer = lab_writer(++w->serial + (w->rand.state[1] & 0xffff0000));
    lab_open(&writer, &run, heads, holt_dag_heads(h->dag, writer.key.public, heads));
  } else { /* from any place in the past: so forks come to be */
    writer = w->plots[roll(w, w->plot_count)].writer;
    snprintf(text, sizeof text, "evil %llu", (unsigned long long)++w->serial);
    size_t count = holt_dag_heads(h->dag, writer.key.public, heads);
    if (roll(w, 4) == 0 && count > 0) heads[0].hash[3] ^= 1; /* a parent that does not exist */
    lab_write(&writer, &run, 1 + (uint32_t)roll(w, 3), text, heads, count);
  }
  note_genuine(w, &run);
  size_t at = w->plot_count < 64 ? w->plot_count++ : roll(w, 64);
  w->plots[at].writer = writer;
  evil_send(w, &run);
  holt_dag_run_free(&run);
}

/* A chain of his own that claims the directory of an honest holder. */
static void evil_open(struct world *w, const struct lab_key *directory) {
  struct holt_dag_run run = {0};
  struct holt_dag_limits limits;
  struct holt_writer payload = {0};
  struct holt_dag_certificate certificate = {.node = "honest"};
  struct lab_key key = lab_key(++w->serial + (w->rand.state[1] & 0xffff0000)), wrong = lab_key(5);
  uint8_t text[HOLT_DAG_SIGNED_MAX];
  holt_dag_limits_default(&limits);
  memcpy(certificate.directory, directory->public, HOLT_DAG_KEY);
  HOLT_ASSERT(holt_dag_certificate_make(&payload, &certificate, LAB_JOURNAL, key.public, &lab_ops,
                                        wrong.secret) == 0);
  struct holt_dag_entry e = {.kind = HOLT_DAG_OPENING, .name = holt_buf_text("opening")};
  e.payload = holt_buf(payload.data, payload.len);
  holt_dag_run_begin(&run, key.public, 1, NULL);
  HOLT_ASSERT(holt_dag_run_add(&run, &e, &lab_ops, &limits) == 0);
  lab_sign_raw(key.secret, holt_buf(text, holt_dag_signed_text(holt_dag_run_tip(&run), text)), run.signature);
  evil_send(w, &run);
  holt_writer_free(&payload);
  holt_dag_run_free(&run);
}

/* In the name of an honest author, whose secret he does not have. */
static void evil_forge(struct world *w) {
  struct holt_dag_run run = {0};
  struct holder *h = &w->holders[roll(w, HOLDERS)];
  struct lab_writer writer = h->writer;
  if (!h->has_opened) return;
  if (roll(w, 3) == 0) {
    evil_open(w, &writer.directory);
    return;
  }
  writer.key.secret[0] ^= 1;
  lab_write(&writer, &run, 1, "forged", NULL, 0);
  evil_send(w, &run);
  holt_dag_run_free(&run);
}

static void evil_alter(struct world *w) {
  if (w->kept_count == 0) return;
  size_t at = roll(w, w->kept_count), len = w->kept_len[at];
  uint8_t *copy = holt_alloc(len + 1);
  memcpy(copy, w->kept[at], len);
  if (len > 0) copy[roll(w, len)] ^= (uint8_t)(1u << roll(w, 8));
  if (roll(w, 4) == 0) len = roll(w, len + 1);
  evil_post(w, copy, len);
  free(copy);
}

static void evil_repeat(struct world *w) {
  if (w->kept_count == 0) return;
  size_t at = roll(w, w->kept_count);
  evil_post(w, w->kept[at], w->kept_len[at]);
}

/* Tells of entries that are nowhere, or asks for them. */
static void evil_lie(struct world *w) {
  struct holder *h = &w->holders[roll(w, HOLDERS)];
  struct holt_writer out = {0};
  struct holt_dag_ref ref = {.number = 1 + roll(w, 30)};
  uint8_t bytes[HOLT_DAG_REF];
  memcpy(ref.author, h->writer.key.public, HOLT_DAG_KEY);
  memset(ref.hash, (int)roll(w, 256), HOLT_DAG_HASH);
  holt_dag_ref_write(bytes, &ref);
  if (roll(w, 2)) {
    holt_write_u8(&out, HOLT_DAG_HAVE);
    holt_write_u8(&out, (uint8_t)roll(w, 4));
    holt_write_u16(&out, 1);
    holt_write_bytes(&out, bytes, sizeof bytes);
    holt_write_u8(&out, (uint8_t)roll(w, 2));
  } else {
    HOLT_ASSERT(holt_dag_want_encode(h->dag, &ref, &out) == 0);
  }
  evil_post(w, out.data, out.len);
  holt_writer_free(&out);
}

static void be_evil(struct world *w) {
  switch (roll(w, 6)) {
  case 0:
  case 1:
    evil_write(w);
    break;
  case 2:
    evil_forge(w);
    break;
  case 3:
    evil_alter(w);
    break;
  case 4:
    evil_repeat(w);
    break;
  default:
    evil_lie(w);
  }
}

static void tell_one(struct world *w, uint32_t holder, const struct holt_dag_run *run) {
  struct holt_writer out = run_message(run);
  note_genuine(w, run);
  post(w, EVIL, holder, out.data, out.len);
  holt_writer_free(&out);
}

/* At the end he tells each holder, now alone, one of some stories of the same author, which begin alike. */
static void last_blow(struct world *w) {
  struct holt_dag_run opening = {0}, begin = {0}, stories[4] = {0};
  struct lab_writer before = lab_writer(++w->serial + (w->rand.state[1] & 0xffff0000));
  uint64_t count = 2 + roll(w, 3);
  lab_open(&before, &opening, NULL, 0);
  lab_write(&before, &begin, 1 + (uint32_t)roll(w, 5), "once upon a time", NULL, 0);
  for (uint64_t i = 0; i < count; i++) {
    struct lab_writer writer = before;
    char text[40];
    snprintf(text, sizeof text, "story %llu", (unsigned long long)++w->serial);
    lab_write(&writer, &stories[i], 1 + (uint32_t)roll(w, 5), text, NULL, 0);
  }
  for (uint32_t i = 0; i < HOLDERS; i++)
    for (uint32_t k = 0; k < i; k++) disconnect(w, i, k);
  for (uint32_t i = 0; i < HOLDERS; i++) {
    connect_them(w, i, EVIL);
    tell_one(w, i, &opening);
    tell_one(w, i, &begin);
    tell_one(w, i, &stories[roll(w, count)]);
  }
  while (deliver(w, 0)) continue;
  holt_dag_run_free(&opening);
  holt_dag_run_free(&begin);
  for (uint64_t i = 0; i < count; i++) holt_dag_run_free(&stories[i]);
}

/* --- A world -------------------------------------------------------------------------------------------- */

/* A chain of holders, with a few links besides; the malicious one knows some. */
static void lay_out(struct world *w) {
  uint64_t more = roll(w, 3) == 0 ? 0 : roll(w, 12);
  for (uint32_t i = 1; i < HOLDERS; i++) w->linked[i - 1][i] = w->linked[i][i - 1] = true;
  for (uint64_t i = 0; i < more; i++) {
    uint64_t a = roll(w, HOLDERS), b = roll(w, HOLDERS);
    if (a != b) w->linked[a][b] = w->linked[b][a] = true;
  }
  for (uint32_t i = 0; i < HOLDERS && w->has_evil; i++)
    if (roll(w, 3) == 0) w->linked[i][EVIL] = w->linked[EVIL][i] = true;
}

static struct world *world_new(uint64_t seed) {
  struct world *w = holt_alloc(sizeof *w);
  holt_rand_seed(&w->rand, seed);
  w->is_reliable = seed % 5 < 2; /* two connected ends lose nothing; connections fall all the same */
  w->has_evil = seed % 5 > 0 && seed % 5 < 4;
  w->is_small_pen = seed % 5 == 2;
  w->has_retention = seed % 7 == 6;
  if (w->has_retention) w->has_evil = false; /* he would tell horizons, too: what he hides is hidden */
  lay_out(w);
  for (uint32_t i = 0; i < HOLDERS; i++) wake_up(w, &w->holders[i]);
  for (uint32_t i = 0; i < NODES; i++)
    for (uint32_t k = 0; k < i; k++)
      if (w->linked[i][k]) connect_them(w, i, k);
  return w;
}

static void world_free(struct world *w) {
  for (uint32_t i = 0; i < HOLDERS; i++) {
    struct holder *h = &w->holders[i];
    for (uint32_t k = 0; k < NODES; k++) holt_dag_link_free(h->ends[k].link);
    holt_dag_free(h->dag);
    for (size_t k = 0; k < h->count; k++) free(h->log[k].bytes);
    for (size_t k = 0; k < h->record_count; k++) holt_writer_free(&h->records[k]);
    free(h->records);
    free(h->log);
    forget_chains(h);
  }
  for (size_t i = 0; i < w->mail_count; i++) free(w->mail[i].bytes);
  for (size_t i = 0; i < w->kept_count; i++) free(w->kept[i]);
  free(w->mail);
  holt_map_free(&w->genuine);
  free(w);
}

static void pump_all(struct world *w, uint32_t holder, int runs) {
  for (uint32_t peer = 0; peer < NODES; peer++) pump(w, &w->holders[holder], peer, runs);
}

static void link_some(struct world *w) {
  uint32_t a = (uint32_t)roll(w, NODES), b = (uint32_t)roll(w, NODES);
  for (int i = 0; i < NODES && !w->linked[a][b]; i++) b = (b + 1) % NODES;
  if (!w->linked[a][b]) return;
  if (w->connections[a][b]) {
    disconnect(w, a, b);
  } else {
    connect_them(w, a, b);
  }
}

/* Says again what it has, and asks again: what mends losses. */
static void speak_again(struct world *w, uint32_t holder) {
  struct holder *h = &w->holders[holder];
  for (uint32_t peer = 0; peer < NODES; peer++)
    if (h->ends[peer].link) say_all(w, h, peer);
  holt_dag_ask_again(h->dag, 0);
  send_asked(w, h);
}

static void one_step(struct world *w) {
  uint32_t i = (uint32_t)roll(w, HOLDERS);
  struct holder *h = &w->holders[i];
  uint64_t what = roll(w, 100);
  if (what < 6)
    write_some(w, h);
  else if (what < 16)
    commit(w, h);
  else if (what < 30)
    pump_all(w, i, 1 + (int)roll(w, 4));
  else if (what < 80)
    deliver(w, w->is_reliable ? 0 : 10);
  else if (what < 88)
    link_some(w);
  else if (what < 90 && !w->is_reliable)
    crash(w, h);
  else if (what < 91 && !w->is_reliable)
    speak_again(w, i);
  else if (what < 94 && w->has_retention)
    retain(w, h);
  if (w->has_evil && roll(w, 8) == 0) be_evil(w);
}

/* --- Peace ---------------------------------------------------------------------------------------------- */

static int by_bytes(const void *a, const void *b) {
  return memcmp(a, b, HOLT_DAG_HASH);
}

/* The number of a stored entry, and how far somebody has dropped this author: a map of key hashes to numbers
 * + 1. */
static bool is_dropped(const struct holder *h, const struct stored *e, const struct holt_map *horizons) {
  struct holt_dag_chain chain;
  struct holt_dag_author author;
  holt_dag_chain(h->dag, e->chain, &chain);
  holt_dag_author(h->dag, chain.author, &author);
  return e->number <= (uintptr_t)holt_map_get(horizons, name_of(author.key));
}

/* The highest horizon of each author: above these all must have the same. */
static struct holt_map highest_horizons(const struct world *w) {
  struct holt_map all = {0};
  for (int i = 0; i < HOLDERS; i++)
    for (uint32_t a = 0; a < holt_dag_author_count(w->holders[i].dag); a++) {
      struct holt_dag_author author;
      holt_dag_author(w->holders[i].dag, a, &author);
      uintptr_t old = (uintptr_t)holt_map_get(&all, name_of(author.key));
      if (author.horizon > old) holt_map_set(&all, name_of(author.key), (void *)(uintptr_t)author.horizon);
    }
  return all;
}

/* One number for all hashes above the horizons, in order of their bytes, and for the heads. */
static uint64_t fingerprint(const struct holder *h, const struct holt_map *horizons) {
  struct holt_dag_ref heads[HOLT_DAG_PARENTS_MAX];
  uint8_t *all = holt_alloc(h->count * HOLT_DAG_HASH + 1);
  size_t count = 0;
  for (size_t i = 0; i < h->count; i++)
    if (!is_dropped(h, &h->log[i], horizons))
      memcpy(all + HOLT_DAG_HASH * count++, h->log[i].hash, HOLT_DAG_HASH);
  qsort(all, count, HOLT_DAG_HASH, by_bytes);
  uint64_t print = holt_hash_bytes(count, all, count * HOLT_DAG_HASH);
  free(all);
  if (horizons->count) return print;
  for (uint32_t c = 0; c < holt_dag_chain_count(h->dag); c++) { /* the tips, in any order */
    struct holt_dag_chain chain;
    holt_dag_chain(h->dag, c, &chain);
    print += holt_hash_bytes(chain.is_head, chain.tip_hash, HOLT_DAG_HASH);
  }
  return print + holt_dag_heads(h->dag, NULL, heads);
}

static bool all_agree(const struct world *w) {
  struct holt_map horizons = highest_horizons(w);
  uint64_t first = fingerprint(&w->holders[0], &horizons);
  bool is_same = true;
  for (uint32_t i = 1; i < HOLDERS; i++) is_same = is_same && fingerprint(&w->holders[i], &horizons) == first;
  holt_map_free(&horizons);
  return is_same;
}

/* The heads are those entries that no other names: looked up in the log. */
static void check_heads(struct world *w, struct holder *h) {
  struct holt_map named = {0};
  struct holt_dag_status status;
  uint32_t heads = 0;
  for (size_t i = 0; i < h->count; i++) {
    struct holt_dag_entry e;
    HOLT_ASSERT(
        holt_dag_entry_decode(holt_buf(h->log[i].bytes, h->log[i].len), holt_dag_limits(h->dag), &e) == 0);
    holt_map_set(&named, name_of(e.prev), w);
    for (uint32_t k = 0; k < e.parent_count; k++) {
      struct holt_dag_ref ref;
      holt_dag_entry_parent(&e, k, &ref);
      holt_map_set(&named, name_of(ref.hash), w);
    }
  }
  for (size_t i = 0; i < h->count; i++) heads += holt_map_get(&named, name_of(h->log[i].hash)) == NULL;
  holt_map_free(&named);
  holt_dag_status(h->dag, &status);
  if (heads != status.heads) trouble(w, "a head is named by another entry, or one is missing", heads);
}

/* Until nothing is under way. */
static void settle_down(struct world *w) {
  for (int turn = 0; turn < 100; turn++) {
    for (uint32_t i = 0; i < HOLDERS; i++) pump_all(w, i, 1000);
    if (w->mail_count == 0) return;
    while (deliver(w, 0)) continue;
    for (uint32_t i = 0; i < HOLDERS; i++) commit(w, &w->holders[i]);
  }
  trouble(w, "holders never come to rest", w->mail_count);
}

/* All links stand, nothing is lost any more, the malicious one is gone. */
static void make_peace(struct world *w) {
  for (uint32_t i = 0; i < HOLDERS; i++) disconnect(w, i, EVIL);
  for (uint32_t i = 0; i < HOLDERS; i++)
    for (uint32_t k = 0; k < i; k++)
      if (w->linked[i][k]) connect_them(w, i, k);
  for (uint32_t i = 0; i < HOLDERS; i++) commit(w, &w->holders[i]);
  settle_down(w);
  if (w->is_reliable) return; /* must have come by itself */
  bool is_over = false;
  for (int round = 0; round < 40 && !is_over; round++) {
    is_over = all_agree(w); /* then once more, for what they know of each other */
    for (uint32_t i = 0; i < HOLDERS; i++) speak_again(w, i);
    settle_down(w);
  }
}

static void check_peace(struct world *w) {
  if (!all_agree(w)) trouble(w, "holders that are linked do not have the same", 0);
  for (uint32_t i = 0; i < HOLDERS; i++) {
    struct holder *h = &w->holders[i];
    if (w->has_retention) continue;
    check_heads(w, h);
    if (w->is_reliable && !w->has_evil && h->penned + h->wants + h->evicted)
      trouble(w, "something was out of order", h->penned);
    for (uint32_t peer = 0; peer < HOLDERS; peer++)
      if (h->ends[peer].link && !w->trouble[0] && !holt_dag_link_is_in_step(h->ends[peer].link))
        trouble(w, "a holder does not know that another has all", peer);
  }
}

struct outcome {
  char trouble[200];
  uint64_t entries, forks, penned, wants, refused, evicted, cuts;
};

static struct outcome live(uint64_t seed) {
  struct world *w = world_new(seed);
  struct outcome out = {0};
  uint64_t steps = 200 + roll(w, 800);
  for (uint64_t i = 0; i < steps && !w->trouble[0]; i++) one_step(w);
  if (w->has_evil && roll(w, 2)) last_blow(w);
  struct holt_map durable = {0}; /* what some holder has on its disk must be everywhere */
  for (uint32_t i = 0; i < HOLDERS; i++)
    for (size_t k = 0; k < w->holders[i].durable; k++)
      holt_map_set(&durable, name_of(w->holders[i].log[k].hash), w);
  make_peace(w);
  check_peace(w);
  struct holt_map horizons = highest_horizons(w);
  for (uint32_t i = 0; i < HOLDERS; i++)
    for (size_t k = 0; k < w->holders[i].count; k++)
      if (is_dropped(&w->holders[i], &w->holders[i].log[k], &horizons))
        holt_map_remove(&durable, name_of(w->holders[i].log[k].hash));
  holt_map_free(&horizons);
  for (size_t k = 0; k < w->holders[0].count; k++)
    holt_map_remove(&durable, name_of(w->holders[0].log[k].hash));
  if (durable.count) trouble(w, "what was durable is not there", durable.count);
  holt_map_free(&durable);
  for (uint32_t i = 0; i < HOLDERS; i++) {
    struct holt_dag_status status;
    holt_dag_status(w->holders[i].dag, &status);
    out.entries += w->holders[i].count;
    out.forks += status.forked;
    out.penned += w->holders[i].penned;
    out.wants += w->holders[i].wants;
    out.refused += w->holders[i].refused;
    out.evicted += w->holders[i].evicted;
    out.cuts += w->holders[i].cuts;
  }
  memcpy(out.trouble, w->trouble, sizeof out.trouble);
  world_free(w);
  return out;
}

static uint64_t seeds(const char *name, uint64_t otherwise) {
  const char *text = getenv(name);
  return text ? strtoull(text, NULL, 10) : otherwise;
}

static void all_holders_end_up_with_the_same(void **state) {
  (void)state;
  uint64_t count = seeds("HOLT_SEEDS", 2000), one = seeds("HOLT_SEED", 0);
  struct outcome sum = {0};
  for (uint64_t seed = one ? one : 1; seed <= (one ? one : count); seed++) {
    struct outcome o = live(seed);
    if (o.trouble[0]) fail_msg("seed %llu: %s", (unsigned long long)seed, o.trouble);
    sum.entries += o.entries;
    sum.forks += o.forks;
    sum.penned += o.penned;
    sum.wants += o.wants;
    sum.refused += o.refused;
    sum.evicted += o.evicted;
    sum.cuts += o.cuts;
  }
  print_message("%llu entries, %llu forked authors, %llu penned, %llu asked for, %llu refused, %llu evicted, "
                "%llu cut\n",
                (unsigned long long)sum.entries, (unsigned long long)sum.forks,
                (unsigned long long)sum.penned, (unsigned long long)sum.wants,
                (unsigned long long)sum.refused, (unsigned long long)sum.evicted,
                (unsigned long long)sum.cuts);
  if (one) return;
  assert_true(sum.entries > count * 100); /* each of these did happen */
  assert_true(sum.forks > 0);
  assert_true(sum.penned > 0);
  assert_true(sum.wants > 0);
  assert_true(sum.refused > 0);
  assert_true(sum.evicted > 0);
  assert_true(sum.cuts > 0);
}

/* A build without one of the rules breaks a promise within some seeds. X(number of HOLT_BUG, what is broken)
 */
#define BUGS(X)                                                                                              \
  X(1, "certificates are not looked at")                                                                     \
  X(2, "signatures are not looked at")                                                                       \
  X(3, "parents are not demanded")                                                                           \
  X(4, "branches are dropped")                                                                               \
  X(5, "the pen has no bound")                                                                               \
  X(6, "tips on other branches are not asked for")                                                           \
  X(7, "tips of forks are told as if there were one")                                                        \
  X(8, "what is named stays a head")                                                                         \
  X(9, "an entry joins a tip whatever it says it follows")                                                   \
  X(10, "what waits for what waited is not looked at again")                                                 \
  X(11, "what was known of the other survives a new beginning")                                              \
  X(12, "a run that forks in its middle joins at its beginning")                                             \
  X(13, "tips told earlier are not looked at again")                                                         \
  X(14, "the record forgets what was named")                                                                 \
  X(15, "horizons that moved are not told on")

static void each_seeded_bug_is_noticed(void **state) {
  (void)state;
  static const struct {
    int number;
    const char *text;
  } bugs[] = {
#define X(number, text) {number, text},
      BUGS(X)
#undef X
  };
  for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++) {
    struct outcome o = {0};
    uint64_t seed = 0;
    holt_dag_bug = bugs[i].number;
    while (!o.trouble[0] && seed < 1000) o = live(++seed);
    holt_dag_bug = 0;
    if (!o.trouble[0]) fail_msg("bug %d was not noticed: %s", bugs[i].number, bugs[i].text);
    print_message("%2d %s: seed %llu, %s\n", bugs[i].number, bugs[i].text, (unsigned long long)seed,
                  o.trouble);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_holders_end_up_with_the_same),
      cmocka_unit_test(each_seeded_bug_is_noticed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
