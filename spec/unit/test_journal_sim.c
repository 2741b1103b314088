/* Whole holders under faults: nodes that emit, die, are cut off and come back, on disks that lose what was
 * not committed, in a graph that the seed draws. In the end all have the same entries and the same heads, and
 * everything that an emit returned for. Then bits turn over on some disks, in entries that lie side by side
 * too: all is mended. With every fourth seed two of them keep few entries: then all have the same heads,
 * but of authors of whom one of these keeps nothing.
 *
 * With every fourth seed (another one) a liar (liar.h) is linked to some of them, all the time. They end up
 * alike all the same, with nothing that its author has not signed; its forks are kept by all and told to all;
 * whatever is refused, the liar is named; of what it cannot be had the pen keeps a bounded part, and it is
 * not asked for again and again.
 *
 *   HOLT_SEED=n  the first seed (1)     HOLT_SEEDS=n  how many (30) */
#include "base/rand.h"
#include "env/sim.h"
#include "env/uv.h"
#include "liar.h"
#include "node/node.h"
#include "store/kv_disk.h"
#include "unit.h"

enum {
  HOLDERS = 10,
  KEEPERS = 2,
  KEPT = 100,
  AUTHORS_MAX = 400,
  EMITS_MAX = 4000,
  EVENTS_MAX = EMITS_MAX + LIAR_GENUINE,
  ROUNDS = 60,
  ENTRY_MAX = 16384 /* where there is a liar, who writes larger ones */
};

struct holder {
  struct holt_env *env;
  struct holt_node *node;
  struct holt_journal *journal;
  unsigned refused, mended;      /* over its lives, as the next */
  char forked[LIAR_AUTHORS][65]; /* authors that it was told of */
  uint8_t directory[HOLT_DAG_KEY];
};

struct emitted {
  struct holt_journal_emit emit;
  struct holder *holder;
  int code;
  bool is_done, is_open;
  uint8_t hash[32];
};

static struct holt_sim *room;
static struct holt_rand *chance;
static struct holder h[HOLDERS];
static bool linked[HOLDERS][HOLDERS];
static struct emitted emits[EMITS_MAX];
static unsigned emit_count, kills, flips;
static bool is_keeping; /* the first KEEPERS of them keep KEPT entries */
static struct liar *liar;

static void note_fork(struct holder *holder, const char *author) {
  for (unsigned i = 0; i < LIAR_AUTHORS; i++) {
    if (strcmp(holder->forked[i], author) == 0) return;
    if (holder->forked[i][0] != '\0') continue;
    snprintf(holder->forked[i], sizeof holder->forked[i], "%s", author);
    return;
  }
  fail_msg("author %s was told to have forked, who is not the liar's", author);
}

static void note_refusal(struct holder *holder, const struct holt_journal_notice *notice) {
  holder->refused++;
  if (liar != NULL && (strcmp(notice->text, "liar") != 0 || strstr(notice->err.message, "liar") == NULL))
    fail_msg("'%s' was named: %s", notice->text, notice->err.message);
}

static void on_journal(void *arg, const struct holt_journal_notice *notice) {
  struct holder *holder = arg;
  if (notice->event == HOLT_JOURNAL_REFUSED) note_refusal(holder, notice);
  if (notice->event == HOLT_JOURNAL_FORKED) note_fork(holder, notice->text);
  if (notice->event == HOLT_JOURNAL_MENDED) holder->mended++;
}

static const struct holt_node_ops node_ops = {.on_journal = on_journal};

static void dial(unsigned i, unsigned k) {
  char address[16];
  struct holt_peer *peer;
  snprintf(address, sizeof address, "h%u:7000", k);
  assert_int_equal(holt_node_connect(h[i].node, address, &peer, NULL), 0);
}

static void start(unsigned i) {
  char name[16];
  struct holt_err err = {0};
  struct holder *holder = &h[i];
  snprintf(name, sizeof name, "h%u", i);
  holder->env = holt_sim_host(room, name);
  struct holt_node_config config = holt_node_defaults();
  config.link.name = name;
  config.link.timeout_ms = 1000;
  config.link.backoff_max_ms = 500;
  config.insecure = true;
  config.journal = "journal";
  assert_int_equal(holt_node_new(holder->env, &config, &node_ops, holder, &holder->node, &err), 0);
  assert_int_equal(holt_node_listen(holder->node, ":7000", NULL, &err), 0);
  struct holt_journal_status status;
  struct holt_journal_config journal = {.name = "shop",
                                        .keep_entries = is_keeping && i < KEEPERS ? KEPT : 0,
                                        .entry_bytes_max = liar != NULL ? ENTRY_MAX : 0};
  int rc = holt_journal_open(holt_node_journals(holder->node), &journal, &holder->journal, &err);
  if (rc != 0) fail_msg("%s", err.message);
  holt_journal_status(holder->journal, &status);
  memcpy(holder->directory, status.id, sizeof holder->directory);
  for (unsigned k = 0; k < HOLDERS; k++)
    if (linked[i][k]) dial(i, k);
}

static void die(unsigned i) {
  for (unsigned e = 0; e < emit_count; e++)
    if (emits[e].holder == &h[i] && emits[e].is_open) {
      holt_journal_emit_cancel(h[i].journal, &emits[e].emit);
      emits[e].is_open = false; /* perhaps it was written, perhaps not */
    }
  holt_node_free(h[i].node);
  holt_env_free(h[i].env);
  h[i].node = NULL;
  h[i].env = NULL;
  h[i].journal = NULL;
  kills++;
}

static void on_emitted(void *arg, int code, const uint8_t hash[32]) {
  struct emitted *emitted = arg;
  emitted->code = code;
  emitted->is_done = true;
  emitted->is_open = false;
  memcpy(emitted->hash, hash, sizeof emitted->hash);
}

static void emit(unsigned i) {
  uint8_t payload[600] = {0};
  if (h[i].node == NULL || emit_count == EMITS_MAX) return;
  struct emitted *emitted = &emits[emit_count++];
  memset(emitted, 0, sizeof *emitted);
  emitted->holder = &h[i];
  emitted->emit = (struct holt_journal_emit){.cb = on_emitted, .arg = emitted};
  emitted->is_open = true;
  holt_put_u32(payload, emit_count);
  int rc = holt_journal_emit(h[i].journal, &emitted->emit, holt_buf_text("e"),
                             holt_buf(payload, 4 + holt_rand_below(chance, 500)));
  assert_int_equal(rc, 0);
}

/* A tree, and some links more. */
static void draw_graph(void) {
  memset(linked, 0, sizeof linked);
  for (unsigned i = 1; i < HOLDERS; i++) linked[i][holt_rand_below(chance, i)] = true;
  for (unsigned i = 0; i < 2; i++) {
    unsigned a = (unsigned)holt_rand_below(chance, HOLDERS), b = (unsigned)holt_rand_below(chance, HOLDERS);
    if (a > b) linked[a][b] = true;
  }
}

static void host(unsigned i, char out[16]) {
  snprintf(out, 16, "h%u", i);
}

static void cut(unsigned a, unsigned b, bool is_cut) {
  char from[16], to[16];
  host(a, from);
  host(b, to);
  if (a == b) return;
  holt_sim_cut(room, from, to, is_cut);
  holt_sim_cut(room, to, from, is_cut);
}

static void do_something(void) {
  unsigned i = (unsigned)holt_rand_below(chance, HOLDERS), k = (unsigned)holt_rand_below(chance, HOLDERS);
  char a[16], b[16];
  switch (holt_rand_below(chance, 10)) {
  case 0:
    if (h[i].node != NULL) die(i);
    break;
  case 1:
    if (h[i].node == NULL) start(i);
    break;
  case 2:
    cut(i, k, true);
    break;
  case 3:
    cut(i, k, false);
    break;
  case 4:
    host(i, a);
    host(k, b);
    if (i != k) holt_sim_break(room, a, b);
    break;
  default:
    for (uint64_t count = 1 + holt_rand_below(chance, holt_rand_below(chance, 8) == 0 ? 200 : 5); count > 0;
         count--)
      emit(i);
  }
}

static int by_bytes(const void *a, const void *b) {
  return memcmp(a, b, 32);
}

/* Hashes of all events of a holder, sorted. */
static size_t all_of(struct holder *holder, uint8_t (*out)[32]) {
  uint64_t position = holt_journal_first(holder->journal);
  struct holt_journal_entry entry;
  size_t count = 0;
  while (holt_journal_read(holder->journal, &position, &entry) == 0) {
    assert_true(count < EVENTS_MAX);
    memcpy(out[count++], entry.hash, 32);
  }
  qsort(out, count, 32, by_bytes);
  return count;
}

static void check_sound(struct holder *holder) {
  uint64_t position = holt_journal_first(holder->journal);
  struct holt_err err = {0};
  int rc = 0;
  while (rc == 0) rc = holt_journal_verify(holder->journal, &position, 100, &err);
  if (rc != HOLT_EEOF) fail_msg("%s", err.message);
  if (!is_keeping && liar == NULL) assert_int_equal(holder->refused, 0);
}

/* Whether somebody dropped all that he had of this author: who has only him for a neighbour gets no more. */
static bool is_dropped(const uint8_t key[32]) {
  struct holt_journal_author author;
  for (unsigned i = 0; i < HOLDERS && is_keeping; i++)
    for (size_t k = 0; holt_journal_author(h[i].journal, k, &author); k++)
      if (memcmp(author.key, key, 32) == 0 && author.horizon >= author.number) return true;
  return false;
}

/* Key, number and hash of every author's newest entry, sorted. */
static size_t heads_of(struct holder *holder, uint8_t (*out)[72]) {
  struct holt_journal_author author;
  size_t count = 0;
  for (size_t i = 0; holt_journal_author(holder->journal, i, &author); i++) {
    assert_true(count < AUTHORS_MAX);
    if (is_dropped(author.key)) continue;
    memcpy(out[count], author.key, 32);
    holt_put_u64(out[count] + 32, author.number);
    memcpy(out[count++] + 40, author.tip, 32);
  }
  qsort(out, count, sizeof *out, by_bytes);
  return count;
}

static bool are_heads_alike(void) {
  static uint8_t first[AUTHORS_MAX][72], other[AUTHORS_MAX][72];
  size_t count = heads_of(&h[0], first);
  for (unsigned i = 1; i < HOLDERS; i++)
    if (heads_of(&h[i], other) != count || memcmp(first, other, count * sizeof *first) != 0) return false;
  return count > 0;
}

static uint8_t wanted[EVENTS_MAX][32], got[EVENTS_MAX][32];

static void check_all(void) {
  assert_true(are_heads_alike());
  for (unsigned i = 0; i < HOLDERS; i++) check_sound(&h[i]);
  if (is_keeping) return; /* what some have dropped others need not have */
  size_t count = all_of(&h[0], wanted);
  for (unsigned i = 0; i < HOLDERS; i++) {
    assert_int_equal(all_of(&h[i], got), count);
    assert_memory_equal(got, wanted, count * 32);
  }
  for (size_t i = 1; i < count; i++) assert_true(memcmp(wanted[i - 1], wanted[i], 32) != 0);
  for (unsigned e = 0; e < emit_count; e++) {
    if (!emits[e].is_done) continue;
    assert_int_equal(emits[e].code, 0);
    assert_non_null(bsearch(emits[e].hash, wanted, count, 32, by_bytes));
  }
}

static bool are_alike(void) {
  size_t count = is_keeping ? 0 : all_of(&h[0], wanted);
  for (unsigned i = 1; i < HOLDERS && !is_keeping; i++)
    if (all_of(&h[i], got) != count || memcmp(got, wanted, count * 32) != 0) return false;
  return are_heads_alike();
}

static void settle(void) {
  for (int wait = 0; wait < 60; wait++) {
    holt_sim_run(room, 1000);
    if (wait >= 5 && are_alike()) break;
  }
}

/* Looks at all entries; how many are damaged. */
static unsigned damaged_of(unsigned i) {
  uint64_t position = holt_journal_first(h[i].journal);
  struct holt_err err;
  unsigned damaged = 0;
  int rc = 0;
  while (rc == 0 || rc == HOLT_ECORRUPT) {
    rc = holt_journal_verify(h[i].journal, &position, 100, &err);
    damaged += rc == HOLT_ECORRUPT;
  }
  return damaged;
}

/* On a holder's disk, alone or side by side; each bit once. The others have them all. */
static void rot(unsigned i) {
  char name[16];
  uint64_t entries = holt_journal_next(h[i].journal) - holt_journal_first(h[i].journal);
  snprintf(name, sizeof name, "h%u", i);
  struct holt_kv_disk *disk = holt_kv_disk_of(room, name, "journal");
  uint64_t from = holt_rand_below(chance, entries), to = from + 1 + holt_rand_below(chance, 40);
  for (uint64_t record = from; record < to && record < entries; record++)
    flips += holt_kv_disk_flip(disk, "shop/log", record, 8 * 3 + holt_rand_below(chance, 400)) == 0;
  unsigned damaged = damaged_of(i), before = h[i].mended;
  assert_true(damaged > 0);
  for (int wait = 0; wait < 60 && h[i].mended - before < damaged; wait++) holt_sim_run(room, 1000);
  assert_int_equal(damaged_of(i), 0);
}

/* --- With a liar ------------------------------------------------------------------------------------- */

static bool is_of_holder(const struct holt_journal_entry *entry) {
  for (unsigned i = 0; i < HOLDERS; i++)
    if (memcmp(h[i].directory, entry->holder, HOLT_DAG_KEY) == 0) return true;
  return false;
}

/* Each entry is what its author has written. */
static void check_genuine(struct holder *holder) {
  static const uint8_t zeros[600];
  uint64_t position = holt_journal_first(holder->journal);
  struct holt_journal_entry entry;
  while (holt_journal_read(holder->journal, &position, &entry) == 0) {
    if (!is_of_holder(&entry)) {
      assert_memory_equal(entry.holder, holt_signer_public(liar->directory), HOLT_DAG_KEY);
      assert_true(liar_has_signed(liar, entry.hash));
      continue;
    }
    assert_true(entry.payload.len >= 4);
    assert_true(entry.payload.len < sizeof zeros);
    uint32_t number = holt_get_u32(entry.payload.data);
    assert_true(number >= 1);
    assert_true(number <= emit_count);
    assert_memory_equal(entry.payload.data + 4, zeros, entry.payload.len - 4);
    if (emits[number - 1].is_done) assert_memory_equal(entry.hash, emits[number - 1].hash, 32);
  }
}

static uint8_t places[EVENTS_MAX][40]; /* author and number of each event of a holder, sorted */
static size_t place_count;

static int by_place(const void *a, const void *b) {
  return memcmp(a, b, sizeof places[0]);
}

static void look_at_places(struct holder *holder) {
  uint64_t position = holt_journal_first(holder->journal);
  struct holt_journal_entry entry;
  place_count = 0;
  while (holt_journal_read(holder->journal, &position, &entry) == 0) {
    assert_true(place_count < EVENTS_MAX);
    memcpy(places[place_count], entry.author, 32);
    holt_put_u64(places[place_count++] + 32, entry.number);
  }
  qsort(places, place_count, sizeof places[0], by_place);
}

/* Whether it has two entries of one number. */
static bool has_two(const uint8_t author[32]) {
  for (size_t i = 1; i < place_count; i++)
    if (memcmp(places[i], author, 32) == 0 && by_place(places[i - 1], places[i]) == 0) return true;
  return false;
}

static void check_proof(struct holder *holder, const struct holt_journal_author *author) {
  assert_true(author->has_proof);
  assert_true(memcmp(author->proof[0], author->proof[1], 32) < 0);
  for (int i = 0; i < 2; i++) {
    uint64_t position;
    struct holt_journal_entry entry;
    assert_int_equal(holt_journal_find(holder->journal, author->proof[i], &position), 0);
    assert_int_equal(holt_journal_read(holder->journal, &position, &entry), 0);
    assert_memory_equal(entry.hash, author->proof[i], 32);
    assert_memory_equal(entry.author, author->key, 32);
    assert_int_equal(entry.number, author->proof_number);
  }
}

/* Who wrote two histories is marked, and was told of; nobody else is. Returns how many. */
static unsigned check_forks(struct holder *holder) {
  struct holt_journal_author author;
  unsigned count = 0;
  look_at_places(holder);
  for (size_t i = 0; holt_journal_author(holder->journal, i, &author); i++) {
    char text[65];
    bool is_told = false;
    assert_int_equal(author.is_forked, has_two(author.key));
    if (!author.is_forked) continue;
    check_proof(holder, &author);
    assert_memory_equal(author.holder, holt_signer_public(liar->directory), HOLT_DAG_KEY);
    holt__hex(author.key, HOLT_DAG_KEY, text);
    for (unsigned k = 0; k < LIAR_AUTHORS; k++) is_told = is_told || strcmp(holder->forked[k], text) == 0;
    assert_true(is_told);
    count++;
  }
  return count;
}

static void check_bounds(void) {
  struct holt_journal_status status;
  for (unsigned i = 0; i < HOLDERS; i++) {
    if (h[i].node == NULL) continue;
    holt_journal_status(h[i].journal, &status);
    assert_true(status.penned <= 1024);
  }
}

static struct {
  uint64_t seeds, refused, forks, evicted, asked, told, altered, withheld, repeated, forged, oversized,
      parentless;
} lies; /* of all seeds */

static void check_lies(void) {
  unsigned forks = check_forks(&h[0]);
  for (unsigned i = 0; i < HOLDERS; i++) {
    struct holt_journal_status status;
    check_genuine(&h[i]);
    assert_int_equal(check_forks(&h[i]), forks);
    holt_journal_status(h[i].journal, &status);
    assert_int_equal(status.branches_refused, 0);
    lies.refused += h[i].refused;
    lies.evicted += status.pen_evicted;
  }
  check_bounds();
  assert_true(liar->asked <= liar->told);
  lies.seeds++;
  lies.forks += forks;
  lies.asked += liar->asked;
  lies.told += liar->told;
  lies.altered += liar->altered;
  lies.withheld += liar->withheld;
  lies.repeated += liar->repeated;
  lies.forged += liar->forged;
  lies.oversized += liar->oversized;
  lies.parentless += liar->parentless;
}

static void introduce_liar(void) {
  char address[16];
  struct holt_peer *peer;
  for (uint64_t count = 2 + holt_rand_below(chance, 3); count > 0; count--) {
    snprintf(address, sizeof address, "h%llu:7000", (unsigned long long)holt_rand_below(chance, HOLDERS));
    assert_int_equal(holt_links_connect(liar->links, address, &peer, NULL), 0);
  }
}

static void run_seed(uint64_t seed) {
  struct holt_sim_config config = {
      .seed = seed, .delay_min_us = 100, .delay_max_us = 20000, .disk_min_us = 50, .disk_max_us = 5000};
  room = holt_sim_new(&config);
  chance = holt_sim_rand(room);
  emit_count = 0;
  is_keeping = seed % 4 == 3;
  memset(h, 0, sizeof h);
  draw_graph();
  liar = seed % 4 == 2 ? liar_new(holt_sim_host(room, "liar"), chance) : NULL;
  for (unsigned i = 0; i < HOLDERS; i++) start(i);
  if (liar != NULL) introduce_liar();
  for (unsigned round = 0; round < ROUNDS; round++) {
    do_something();
    for (int i = 0; i < 5 && liar != NULL; i++) liar_act(liar);
    if (liar != NULL && seed % 64 == 34 && round == ROUNDS / 2) liar_flood(liar, room);
    if (liar != NULL) check_bounds();
    holt_sim_run(room, holt_rand_below(chance, holt_rand_below(chance, 5) == 0 ? 2000 : 30));
  }
  for (unsigned i = 0; i < HOLDERS; i++)
    for (unsigned k = 0; k < i; k++) cut(i, k, false);
  for (unsigned i = 0; i < HOLDERS; i++)
    if (h[i].node == NULL) start(i);
  for (unsigned i = 0; i < HOLDERS; i++) emit(i);
  if (liar != NULL) liar_split(liar);
  if (liar != NULL) liar->is_tired = true;
  settle();
  check_all();
  for (int i = 0; i < 2 && !is_keeping; i++) rot((unsigned)holt_rand_below(chance, HOLDERS));
  check_all();
  if (liar != NULL) check_lies();
  for (unsigned i = 0; i < HOLDERS; i++) die(i);
  if (liar != NULL) liar_free(liar);
  holt_sim_free(room);
}

static uint64_t number_of(const char *name, uint64_t otherwise) {
  const char *text = getenv(name);
  return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void all_holders_end_up_with_everything_that_was_acknowledged(void **state) {
  (void)state;
  uint64_t first = number_of("HOLT_SEED", 1), count = number_of("HOLT_SEEDS", 30), emitted = 0;
  static const uint64_t ONCE_BROKEN[] = {
      1123, 1175, /* an opening kept apart was not sent with what is behind it */
      351,        /* a run that waited was cut into by the retention of its only source */
      2196};      /* what had been mended was without the signature that another needed to be mended */
  for (size_t i = 0; getenv("HOLT_SEED") == NULL && i < sizeof ONCE_BROKEN / sizeof ONCE_BROKEN[0]; i++)
    run_seed(ONCE_BROKEN[i]);
  for (uint64_t seed = first; seed < first + count; seed++) {
    print_message("seed %llu\r", (unsigned long long)seed);
    run_seed(seed);
    emitted += emit_count;
  }
  print_message("%llu seeds, %llu emits, %u deaths, %u entries damaged\n", (unsigned long long)count,
                (unsigned long long)emitted, kills, flips);
  assert_true(kills > count); /* it does try */
  print_message(
      "%llu with a liar: %llu forked authors, %llu altered, %llu withheld, %llu repeated, %llu forged, %llu "
      "too large, %llu without parents; %llu refused, %llu evicted, %llu asked for\n",
      (unsigned long long)lies.seeds, (unsigned long long)lies.forks, (unsigned long long)lies.altered,
      (unsigned long long)lies.withheld, (unsigned long long)lies.repeated, (unsigned long long)lies.forged,
      (unsigned long long)lies.oversized, (unsigned long long)lies.parentless,
      (unsigned long long)lies.refused, (unsigned long long)lies.evicted, (unsigned long long)lies.asked);
}

/* --- On real processes -------------------------------------------------------------------------------- */

static bool have_all_told_back(void) {
  unsigned count = 0;
  for (struct holt_link *link = holt_links_first(liar->links); link;
       link = holt_links_next(liar->links, link))
    count += holt_link_data(link) != NULL;
  return count == 2;
}

static unsigned links_up(void) {
  unsigned count = 0;
  for (struct holt_link *link = holt_links_first(liar->links); link;
       link = holt_links_next(liar->links, link))
    count += holt_link_is_up(link);
  return count;
}

/* Tells the holders at these addresses two histories of one author, one each; names the author. Both have
 * them on their disks when it ends. For spec/journal_fork_spec.lua. */
static int fork_between(const char *address, const char *other) {
  struct holt_peer *peer;
  struct holt_rand rand;
  char text[65];
  holt_rand_seed(&rand, 1);
  liar = liar_new(holt_env_uv_new(), &rand);
  liar->is_mute = true;
  if (holt_links_connect(liar->links, address, &peer, NULL) != 0) return 1;
  if (holt_links_connect(liar->links, other, &peer, NULL) != 0) return 1;
  while (links_up() < 2) holt_env_turn(liar->env, true);
  liar_open(liar);
  liar_split(liar);
  while (!have_all_told_back()) holt_env_turn(liar->env, true);
  holt__hex(holt_signer_public(liar->chains[0]), HOLT_DAG_KEY, text);
  printf("%s\n", text);
  liar_free(liar);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "--fork") == 0) return fork_between(argv[2], argv[3]);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_holders_end_up_with_everything_that_was_acknowledged),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
