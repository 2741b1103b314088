/* Journals on simulated nodes: what is emitted is durable, everywhere, in causal order, through cuts and
 * deaths. */
#include "env/sim.h"
#include "journal/journal_impl.h" /* a forger speaks for itself */
#include "node/node.h"
#include "store/kv_disk.h"
#include "unit.h"

enum { HOLDERS = 5, READ_MAX = 8192 };

struct holder {
  struct holt_env *env;
  struct holt_node *node;
  struct holt_journal *journal;
  char address[128];
  char names[READ_MAX][24];
  unsigned read;
  unsigned refused, forked, damaged, mended, disk_errors;
  char refused_of[32], refused_why[512], disk_why[512];
};

static struct holt_sim *room;
static struct holder h[HOLDERS];

static void on_journal(void *arg, const struct holt_journal_notice *notice) {
  struct holder *holder = arg;
  if (notice->event == HOLT_JOURNAL_REFUSED) {
    holder->refused++;
    snprintf(holder->refused_of, sizeof holder->refused_of, "%s", notice->text);
    snprintf(holder->refused_why, sizeof holder->refused_why, "%s", notice->err.message);
  }
  if (notice->event == HOLT_JOURNAL_FORKED) holder->forked++;
  if (notice->event == HOLT_JOURNAL_DAMAGED) holder->damaged++;
  if (notice->event == HOLT_JOURNAL_MENDED) holder->mended++;
  if (notice->event == HOLT_JOURNAL_DISK_ERROR) {
    holder->disk_errors++;
    snprintf(holder->disk_why, sizeof holder->disk_why, "%s", notice->err.message);
  }
}

static const struct holt_node_ops node_ops = {.on_journal = on_journal};

static uint64_t keep_entries, keep_ms;
static uint32_t entry_bytes_max;
static const uint8_t (*authors)[32];

static void start(struct holder *holder, bool is_durable) {
  char name[16], address[32];
  struct holt_err err = {0};
  unsigned i = (unsigned)(holder - h);
  snprintf(name, sizeof name, "h%u", i);
  holder->env = holt_sim_host(room, name);
  struct holt_node_config config = holt_node_defaults();
  config.link.name = name;
  config.insecure = true;
  config.journal = is_durable ? "journal" : NULL;
  assert_int_equal(holt_node_new(holder->env, &config, &node_ops, holder, &holder->node, &err), 0);
  snprintf(address, sizeof address, "h%u:7000", i);
  assert_int_equal(holt_node_listen(holder->node, address, holder->address, &err), 0);
  struct holt_journal_config journal = {.name = "shop",
                                        .keep_entries = keep_entries,
                                        .keep_ms = keep_ms,
                                        .authors = authors,
                                        .author_count = authors != NULL,
                                        .entry_bytes_max = entry_bytes_max};
  assert_int_equal(holt_journal_open(holt_node_journals(holder->node), &journal, &holder->journal, &err), 0);
}

static void die(struct holder *holder) {
  holt_node_free(holder->node);
  holt_env_free(holder->env);
  memset(holder, 0, sizeof *holder);
}

static void meet(struct holder *a, struct holder *b) {
  struct holt_peer *peer;
  struct holt_err err;
  assert_int_equal(holt_node_connect(a->node, b->address, &peer, &err), 0);
}

struct emitted {
  struct holt_journal_emit emit;
  int code;
  bool is_done;
};

static void on_emitted(void *arg, int code, const uint8_t hash[32]) {
  struct emitted *emitted = arg;
  (void)hash;
  emitted->code = code;
  emitted->is_done = true;
}

static void emit(struct holder *holder, struct emitted *emitted, const char *name, uint32_t holders) {
  memset(emitted, 0, sizeof *emitted);
  emitted->emit = (struct holt_journal_emit){.cb = on_emitted, .arg = emitted, .holders = holders};
  assert_int_equal(
      holt_journal_emit(holder->journal, &emitted->emit, holt_buf_text(name), holt_buf_text("payload")), 0);
}

static void emit_now(struct holder *holder, const char *name) {
  struct emitted emitted;
  emit(holder, &emitted, name, 0);
  for (int i = 0; i < 1000 && !emitted.is_done; i++) holt_sim_run(room, 1);
  assert_true(emitted.is_done);
  assert_int_equal(emitted.code, 0);
}

static void read_all(struct holder *holder) {
  uint64_t position = holt_journal_first(holder->journal);
  struct holt_journal_entry entry;
  holder->read = 0;
  while (holt_journal_read(holder->journal, &position, &entry) == 0 && holder->read < READ_MAX) {
    char *name = holder->names[holder->read++];
    snprintf(name, 24, "%.*s", (int)entry.name.len, (const char *)entry.name.data);
    assert_int_equal(entry.payload.len, 7);
  }
}

static unsigned place_of(const struct holder *holder, const char *name) {
  unsigned found = READ_MAX;
  for (unsigned i = 0; i < holder->read; i++)
    if (strcmp(holder->names[i], name) == 0) {
      assert_int_equal(found, READ_MAX); /* once */
      found = i;
    }
  return found;
}

static int set_up(void **state) {
  (void)state;
  memset(h, 0, sizeof h);
  struct holt_sim_config config = {
      .seed = 7, .delay_min_us = 100, .delay_max_us = 2000, .disk_min_us = 50, .disk_max_us = 800};
  room = holt_sim_new(&config);
  keep_entries = keep_ms = entry_bytes_max = 0;
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  for (int i = 0; i < HOLDERS; i++) {
    if (h[i].node == NULL) continue;
    holt_node_close(h[i].node);
    holt_sim_run(room, 100);
    die(&h[i]);
  }
  holt_sim_run(room, 1000);
  holt_sim_free(room);
  return 0;
}

static void an_entry_is_durable_before_emit_answers(void **state) {
  (void)state;
  start(&h[0], true);
  emit_now(&h[0], "first");
  emit_now(&h[0], "second");
  die(&h[0]);
  start(&h[0], true);
  read_all(&h[0]);
  assert_int_equal(h[0].read, 2);
  assert_string_equal(h[0].names[0], "first");
  assert_string_equal(h[0].names[1], "second");
  emit_now(&h[0], "third");
  read_all(&h[0]);
  assert_string_equal(h[0].names[2], "third");
  assert_int_equal(holt_journal_author_count(h[0].journal),
                   2); /* each start writes under a chain of its own */
}

static void holders_get_what_they_lack_through_others(void **state) {
  (void)state;
  start(&h[0], true);
  start(&h[1], true);
  start(&h[2], true);
  emit_now(&h[0], "before");
  meet(&h[0], &h[1]);
  meet(&h[1], &h[2]);
  holt_sim_run(room, 2000);
  emit_now(&h[2], "after");
  emit_now(&h[0], "live");
  holt_sim_run(room, 2000);
  for (int i = 0; i < 3; i++) {
    read_all(&h[i]);
    assert_int_equal(h[i].read, 3);
    assert_true(place_of(&h[i], "before") < place_of(&h[i], "after")); /* h2 had it when it wrote */
    assert_int_equal(h[i].refused, 0);
  }
}

static void an_emit_waits_for_other_holders(void **state) {
  (void)state;
  struct emitted emitted;
  start(&h[0], true);
  start(&h[1], true);
  start(&h[2], true);
  emit(&h[0], &emitted, "wanted", 2);
  holt_sim_run(room, 1000);
  assert_false(emitted.is_done);
  meet(&h[0], &h[1]);
  holt_sim_run(room, 1000);
  assert_false(emitted.is_done);
  assert_int_equal(emitted.emit.have, 1);
  meet(&h[0], &h[2]);
  holt_sim_run(room, 1000);
  assert_true(emitted.is_done);
  assert_int_equal(emitted.code, 0);
  read_all(&h[2]);
  assert_int_equal(place_of(&h[2], "wanted"), 0);
}

static void who_was_away_catches_up(void **state) {
  (void)state;
  char name[24];
  start(&h[0], true);
  start(&h[1], true);
  meet(&h[0], &h[1]);
  holt_sim_run(room, 1000);
  emit_now(&h[0], "together");
  holt_sim_run(room, 1000);
  die(&h[1]);
  for (int i = 0; i < 3000; i++) {
    struct emitted *emitted = calloc(1, sizeof *emitted);
    snprintf(name, sizeof name, "away%d", i);
    emit(&h[0], emitted, name, 0);
    if (i % 7 == 0) holt_sim_run(room, 3);
    if (i == 2999)
      while (!emitted->is_done) holt_sim_run(room, 1);
    if (emitted->is_done)
      free(emitted);
    else {
      holt_journal_emit_cancel(h[0].journal, &emitted->emit); /* it is written all the same */
      free(emitted);
    }
  }
  start(&h[1], true);
  emit_now(&h[1], "alone");
  meet(&h[1], &h[0]);
  holt_sim_run(room, 20000);
  for (int i = 0; i < 2; i++) {
    read_all(&h[i]);
    assert_int_equal(h[i].read, 3002);
    assert_true(place_of(&h[i], "away0") < place_of(&h[i], "away2999"));
    assert_true(place_of(&h[i], "alone") < READ_MAX);
  }
}

static void cursors_and_notes_outlive_the_node(void **state) {
  (void)state;
  uint64_t position = 0;
  struct holt_writer note = {0};
  start(&h[0], true);
  emit_now(&h[0], "one");
  assert_int_equal(holt_journal_cursor(h[0].journal, "audit", &position), HOLT_ENOTFOUND);
  holt_journal_set_cursor(h[0].journal, "audit", 7);
  holt_journal_set_note(h[0].journal, "schema", holt_buf_text("message A {}"));
  assert_int_equal(holt_journal_cursor(h[0].journal, "audit", &position), 0);
  assert_int_equal(position, 7);
  holt_sim_run(room, 1500);
  die(&h[0]);
  start(&h[0], true);
  assert_int_equal(holt_journal_cursor(h[0].journal, "audit", &position), 0);
  assert_int_equal(position, 7);
  assert_int_equal(holt_journal_note(h[0].journal, "schema", &note), 0);
  assert_int_equal(note.len, 12);
  holt_writer_free(&note);
  holt_journal_set_note(h[0].journal, "schema", holt_buf(NULL, 0));
  assert_int_equal(holt_journal_note(h[0].journal, "schema", &note), HOLT_ENOTFOUND);
}

static void a_full_disk_refuses_and_goes_on_when_there_is_room(void **state) {
  (void)state;
  struct emitted emitted;
  start(&h[0], true);
  start(&h[1], true);
  meet(&h[0], &h[1]);
  emit_now(&h[0], "before");
  struct holt_kv_disk *disk = holt_kv_disk_of(room, "h0", "journal");
  holt_kv_disk_limit(disk, 1);
  emit(&h[0], &emitted, "refused", 0);
  holt_sim_run(room, 100);
  assert_true(emitted.is_done);
  assert_int_equal(emitted.code, HOLT_ENOSPC);
  assert_int_equal(h[0].disk_errors, 1);
  emit_now(&h[1], "meanwhile");
  holt_sim_run(room, 3000);
  read_all(&h[0]);
  assert_int_equal(h[0].read, 1); /* reading goes on */
  holt_kv_disk_limit(disk, 0);
  holt_sim_run(room, 4000);
  emit_now(&h[0], "after");
  holt_sim_run(room, 2000);
  for (int i = 0; i < 2; i++) {
    read_all(&h[i]);
    assert_int_equal(h[i].read, 3);
    assert_int_equal(place_of(&h[i], "refused"), READ_MAX);
    assert_true(place_of(&h[i], "meanwhile") < READ_MAX);
    assert_true(place_of(&h[i], "after") < READ_MAX);
  }
}

static void a_failing_disk_ends_the_journal_and_says_so(void **state) {
  (void)state;
  struct emitted emitted;
  start(&h[0], true);
  emit_now(&h[0], "before");
  holt_kv_disk_fail(holt_kv_disk_of(room, "h0", "journal"), 0, HOLT_EIO);
  emit(&h[0], &emitted, "lost", 0);
  holt_sim_run(room, 100);
  assert_true(emitted.is_done);
  assert_int_equal(emitted.code, HOLT_EIO);
  assert_int_equal(h[0].disk_errors, 1);
  struct holt_journal_emit again = {.cb = on_emitted, .arg = &emitted};
  assert_int_equal(holt_journal_emit(h[0].journal, &again, holt_buf_text("x"), holt_buf_text("")), HOLT_EIO);
  read_all(&h[0]);
  assert_int_equal(h[0].read, 1);
}

static void what_is_damaged_is_fetched_again(void **state) {
  (void)state;
  char name[24];
  start(&h[0], true);
  start(&h[1], true);
  meet(&h[0], &h[1]);
  for (int i = 0; i < 50; i++) {
    snprintf(name, sizeof name, "e%d", i);
    emit_now(&h[0], name);
  }
  holt_sim_run(room, 2000);
  struct holt_kv_disk *disk = holt_kv_disk_of(room, "h1", "journal");
  for (uint64_t record = 0; record < 51; record += 7)
    assert_int_equal(holt_kv_disk_flip(disk, "shop/log", record, 333), 0);
  uint64_t position = 1;
  struct holt_err err;
  unsigned wrong = 0;
  for (int rc = 0; rc != HOLT_EEOF;) {
    rc = holt_journal_verify(h[1].journal, &position, 10, &err);
    wrong += rc == HOLT_ECORRUPT;
  }
  assert_int_equal(wrong, 8);
  assert_int_equal(h[1].damaged, 8);
  holt_sim_run(room, 5000);
  assert_int_equal(h[1].mended, 8);
  position = 1;
  int rc;
  while ((rc = holt_journal_verify(h[1].journal, &position, 10, &err)) == 0) {
  }
  assert_int_equal(rc, HOLT_EEOF);
  read_all(&h[1]);
  assert_int_equal(h[1].read, 50);
}

/* How many entries verify finds wrong. */
static unsigned wrong_of(struct holder *holder) {
  uint64_t position = 1;
  struct holt_err err;
  unsigned wrong = 0;
  for (int rc = 0; rc != HOLT_EEOF;) {
    rc = holt_journal_verify(holder->journal, &position, 10, &err);
    wrong += rc == HOLT_ECORRUPT;
  }
  return wrong;
}

/* Two holders of the same: h0 wrote `count` entries in commits of several, and h1 has them. */
static void two_alike(unsigned count) {
  char name[24];
  start(&h[0], true);
  start(&h[1], true);
  meet(&h[0], &h[1]);
  for (unsigned i = 0; i < count; i++) {
    struct emitted emitted;
    snprintf(name, sizeof name, "e%u", i);
    emit(&h[0], &emitted, name, 0);
    if (i % 5 == 4)
      while (!emitted.is_done) holt_sim_run(room, 1);
    else
      holt_journal_emit_cancel(h[0].journal, &emitted.emit);
  }
  holt_sim_run(room, 2000);
  read_all(&h[1]);
  assert_int_equal(h[1].read, count);
}

/* Only the last of neighbours is named by what follows it. */
static void neighbours_that_are_damaged_are_fetched_again(void **state) {
  (void)state;
  two_alike(100);
  struct holt_kv_disk *disk = holt_kv_disk_of(room, "h1", "journal");
  for (uint64_t record = 20; record < 55; record++)
    assert_int_equal(holt_kv_disk_flip(disk, "shop/log", record, 333), 0);
  for (uint64_t record = 90; record < 101; record++) /* up to the newest */
    assert_int_equal(holt_kv_disk_lose(disk, "shop/log", 90), 0);
  assert_int_equal(wrong_of(&h[1]), 35 + 11);
  assert_int_equal(h[1].damaged, 35 + 11);
  holt_sim_run(room, 5000);
  assert_int_equal(h[1].mended, 35 + 11);
  assert_int_equal(wrong_of(&h[1]), 0);
  read_all(&h[1]);
  assert_int_equal(h[1].read, 100);
}

/* More than are taken up at once; each for itself and side by side, each once. */
static unsigned rot(struct holt_kv_disk *disk) {
  unsigned flips = 0;
  for (uint64_t record = 10; record < 2000; record++, flips++)
    assert_int_equal(holt_kv_disk_flip(disk, "shop/log", record, 333), 0);
  for (uint64_t record = 2001; record < 7500; record += 2, flips++)
    assert_int_equal(holt_kv_disk_flip(disk, "shop/log", record, 333), 0);
  return flips;
}

static unsigned wait_mended(struct holder *holder, unsigned wanted) {
  unsigned waits = 0;
  for (; waits < 120 && holder->mended < wanted; waits++) holt_sim_run(room, 500);
  return waits;
}

static void more_damage_than_is_taken_up_at_once_is_mended_in_turns(void **state) {
  (void)state;
  two_alike(7500);
  unsigned flips = rot(holt_kv_disk_of(room, "h1", "journal"));
  assert_true(flips > 4096);
  assert_int_equal(wrong_of(&h[1]), flips);
  assert_int_equal(h[1].damaged, 4096); /* these are asked for */
  assert_int_equal(h[1].disk_errors, 1);
  assert_non_null(strstr(h[1].disk_why, "verify"));
  assert_true(wait_mended(&h[1], 4096) < 120);
  assert_int_equal(h[1].mended, 4096);
  assert_int_equal(wrong_of(&h[1]), flips - 4096);
  wait_mended(&h[1], flips);
  assert_int_equal(h[1].mended, flips);
  assert_int_equal(wrong_of(&h[1]), 0);
  assert_int_equal(h[1].disk_errors, 1);
}

/* A commit of two; they are sent as one run. */
static void emit_two(struct holder *holder, const char *name, const char *other) {
  struct emitted first, second;
  emit(holder, &first, name, 0);
  emit(holder, &second, other, 0);
  while (!first.is_done || !second.is_done) holt_sim_run(room, 1);
}

/* h0 wrote two runs beside each other, of which h1 has the second elsewhere. What mends both has one
 * signature, at its end: the first one's is lost, and is not needed to send it on. */
static void what_was_mended_can_be_sent_on(void **state) {
  (void)state;
  start(&h[0], true);
  start(&h[1], true);
  meet(&h[1], &h[0]);
  emit_now(&h[0], "opens");
  emit_two(&h[0], "a1", "a2");
  holt_sim_run(room, 2000);
  die(&h[1]);
  emit_two(&h[0], "b1", "b2");
  start(&h[1], true);
  emit_now(&h[1], "between");
  meet(&h[1], &h[0]);
  holt_sim_run(room, 2000);
  struct holt_kv_disk *disk = holt_kv_disk_of(room, "h1", "journal");
  assert_int_equal(holt_journal_next(h[1].journal), 9); /* opening, opens, a1, a2, opening, between, b1, b2 */
  for (int i = 0; i < 3; i++)
    assert_int_equal(holt_kv_disk_flip(disk, "shop/log", (uint64_t[]){3, 6, 7}[i], 333), 0);
  assert_int_equal(wrong_of(&h[1]), 3);
  wait_mended(&h[1], 3);
  assert_int_equal(wrong_of(&h[1]), 0);
  die(&h[0]);
  start(&h[2], true);
  meet(&h[2], &h[1]);
  holt_sim_run(room, 3000);
  read_all(&h[2]);
  assert_int_equal(h[2].read, 6);
  assert_int_equal(h[2].refused + h[1].refused, 0);
}

/* His neighbour gets it himself later, from the other side. */
static void who_cannot_give_a_damaged_entry_yet_is_asked_again(void **state) {
  (void)state;
  two_alike(40);
  start(&h[2], true);
  meet(&h[2], &h[1]);
  holt_sim_run(room, 2000);
  die(&h[0]);
  for (int i = 1; i < 3; i++) {
    char host[8];
    snprintf(host, sizeof host, "h%d", i);
    assert_int_equal(holt_kv_disk_flip(holt_kv_disk_of(room, host, "journal"), "shop/log", 20, 333), 0);
  }
  assert_int_equal(wrong_of(&h[1]), 1);
  assert_int_equal(wrong_of(&h[2]), 1);
  holt_sim_run(room, 3000);
  assert_int_equal(h[1].mended + h[2].mended, 0);
  start(&h[0], true);
  meet(&h[1], &h[0]);
  wait_mended(&h[2], 1);
  assert_int_equal(h[1].mended, 1);
  assert_int_equal(h[2].mended, 1);
  assert_int_equal(wrong_of(&h[2]), 0);
}

/* Who looks for damage has nobody to ask; who is linked later reads nothing old. */
static void damage_found_before_is_mended_by_the_next_start(void **state) {
  (void)state;
  two_alike(40);
  die(&h[0]);
  die(&h[1]);
  struct holt_kv_disk *disk = holt_kv_disk_of(room, "h1", "journal");
  for (uint64_t record = 5; record < 15; record++)
    assert_int_equal(holt_kv_disk_flip(disk, "shop/log", record, 333), 0);
  start(&h[1], true);
  assert_int_equal(wrong_of(&h[1]), 10);
  holt_sim_run(room, 1500); /* the note is written */
  die(&h[1]);
  start(&h[0], true);
  start(&h[1], true);
  meet(&h[1], &h[0]);
  holt_sim_run(room, 5000);
  assert_int_equal(h[1].mended, 10);
  assert_int_equal(wrong_of(&h[1]), 0);
  struct holt_writer note = {0};
  assert_int_equal(holt_journal_note(h[1].journal, "damaged", &note), HOLT_ENOTFOUND);
}

/* The run that would mend it reaches beyond the horizon, and so is not refused. */
static void what_was_damaged_and_then_dropped_is_not_mended(void **state) {
  (void)state;
  struct holt_journal_status status;
  two_alike(40); /* an opening, then commits of five: 17 to 21 is one */
  die(&h[0]);
  die(&h[1]);
  keep_entries = 25;
  start(&h[1], true);
  holt_sim_run(room, 2000);
  assert_int_equal(holt_journal_first(h[1].journal), 17);
  assert_int_equal(holt_kv_disk_flip(holt_kv_disk_of(room, "h1", "journal"), "shop/log", 3, 333), 0);
  assert_int_equal(wrong_of(&h[1]), 1);
  for (int i = 0; i < 2; i++) emit_now(&h[1], "one more"); /* an eighth more may be kept */
  holt_sim_run(room, 2000);
  assert_int_equal(holt_journal_first(h[1].journal), 21);
  keep_entries = 0;
  start(&h[0], true);
  meet(&h[1], &h[0]);
  holt_sim_run(room, 5000);
  assert_int_equal(wrong_of(&h[1]), 0);
  assert_int_equal(h[1].mended, 0);
  holt_journal_status(h[1].journal, &status);
  assert_int_equal(status.refused, 0);
}

static void retention_leaves_a_horizon_and_newcomers_begin_there(void **state) {
  (void)state;
  char name[24];
  struct holt_journal_status status;
  struct holt_journal_author author;
  keep_entries = 100;
  start(&h[0], true);
  for (int i = 0; i < 400; i++) {
    snprintf(name, sizeof name, "e%d", i);
    emit_now(&h[0], name);
  }
  holt_sim_run(room, 5000);
  emit_now(&h[0], "last");
  holt_sim_run(room, 5000);
  holt_journal_status(h[0].journal, &status);
  assert_true(status.entries < 100 + 64 + 8);
  assert_true(holt_journal_author(h[0].journal, 0, &author));
  assert_true(author.horizon > 200);
  read_all(&h[0]);
  assert_true(h[0].read > 90 && h[0].read < 180);
  keep_entries = 0;
  start(&h[1], true);
  meet(&h[1], &h[0]);
  holt_sim_run(room, 5000);
  read_all(&h[1]);
  assert_int_equal(h[1].read, h[0].read);
  assert_int_equal(place_of(&h[1], "last"), h[0].read - 1);
  assert_int_equal(h[1].refused, 0);
  emit_now(&h[0], "live");
  holt_sim_run(room, 2000);
  read_all(&h[1]);
  assert_true(place_of(&h[1], "live") < READ_MAX);
  die(&h[0]); /* and it opens again */
  start(&h[0], true);
  read_all(&h[0]);
  assert_true(place_of(&h[0], "live") < READ_MAX);
}

/* Nothing younger than it was told goes, all that is older by an eighth does, though nobody writes. */
static void retention_by_time_needs_no_writes(void **state) {
  (void)state;
  char name[24];
  struct holt_journal_status status;
  keep_ms = 16000;
  start(&h[0], true);
  for (int i = 0; i < 30; i++) {
    snprintf(name, sizeof name, "early%d", i);
    emit_now(&h[0], name);
  }
  holt_sim_run(room, 10000);
  for (int i = 0; i < 30; i++) {
    snprintf(name, sizeof name, "late%d", i);
    emit_now(&h[0], name);
  }
  holt_sim_run(room, 5000);
  read_all(&h[0]);
  assert_int_equal(h[0].read, 60);
  holt_sim_run(room, 7000);
  read_all(&h[0]);
  assert_int_equal(h[0].read, 30);
  assert_int_equal(place_of(&h[0], "late0"), 0);
  holt_sim_run(room, 10000);
  read_all(&h[0]);
  assert_int_equal(h[0].read, 0);
  holt_journal_status(h[0].journal, &status);
  uint64_t next = status.next;
  holt_sim_run(room, 200000);
  holt_journal_status(h[0].journal, &status);
  assert_int_equal(status.next, next); /* what tells of a cut is no reason for another */
  emit_now(&h[0], "again");
  read_all(&h[0]);
  assert_int_equal(h[0].read, 1);
}

/* More authors than one entry has room to tell of: each is cut all the same, and nobody's emit pays for it.
 */
static void retention_of_many_authors_takes_several_entries(void **state) {
  (void)state;
  struct holt_journal_author author;
  struct holt_journal_status status;
  entry_bytes_max = 6000;
  for (int i = 0; i < 120; i++) { /* each start is another author */
    start(&h[0], true);
    emit_now(&h[0], "early");
    die(&h[0]);
  }
  keep_entries = 40;
  start(&h[0], true);
  emit_now(&h[0], "late");
  holt_sim_run(room, 5000);
  emit_now(&h[0], "later");
  holt_sim_run(room, 5000);
  unsigned cut = 0;
  for (size_t i = 0; holt_journal_author(h[0].journal, i, &author); i++) cut += author.horizon > 0;
  assert_true(cut >= 80);
  holt_journal_status(h[0].journal, &status);
  assert_true(status.emitted >=
              2 + cut / 20); /* the two, and what tells of the cut: it would not fit into one */
  start(&h[1], true);
  meet(&h[1], &h[0]);
  holt_sim_run(room, 10000);
  read_all(&h[0]);
  read_all(&h[1]);
  assert_int_equal(h[1].read, h[0].read);
  assert_int_equal(h[1].refused, 0);
  uint64_t position = holt_journal_first(h[0].journal);
  struct holt_err err;
  int rc = 0;
  while (rc == 0) rc = holt_journal_verify(h[0].journal, &position, 100, &err);
  assert_int_equal(rc, HOLT_EEOF);
}

/* --- A neighbour that forges ------------------------------------------------------------------------- */

/* h[4] is a node without a journal: what goes over its link is what is made here. */
struct forger {
  struct holt_crypto *crypto;
  struct holt_dag_ops ops;
  struct holt_dag_limits limits;
  struct holt_signer *directory, *chain;
  struct holt_dag_run opening, run;
  struct holt_writer message;
};

static struct forger forger;

static struct holt_signer *signer(uint8_t n) {
  uint8_t seed[HOLT_KEY_BYTES] = {n};
  return holt_signer_new(seed);
}

static void add_entry(struct holt_dag_run *run, uint8_t kind, const char *name, struct holt_buf payload) {
  struct holt_dag_entry entry = {.kind = kind,
                                 .time_ms = 1,
                                 .name = holt_buf_text(name),
                                 .payload = payload,
                                 .parents = (const uint8_t *)""};
  assert_int_equal(holt_dag_run_add(run, &entry, &forger.ops, &forger.limits), 0);
}

static void forger_new(void) {
  struct forger *f = &forger;
  struct holt_dag_options options;
  struct holt_dag_certificate certificate = {.node = "forger"};
  struct holt_writer payload = {0};
  memset(f, 0, sizeof *f);
  holt_dag_options_default(&options);
  f->limits = options.limits;
  f->crypto = holt_crypto_new();
  f->ops = holt__dag_ops(f->crypto);
  f->directory = signer(1);
  f->chain = signer(2);
  memcpy(certificate.directory, holt_signer_public(f->directory), HOLT_DAG_KEY);
  assert_int_equal(holt_dag_certificate_make(&payload, &certificate, "shop", holt_signer_public(f->chain),
                                             &f->ops, f->directory),
                   0);
  holt_dag_run_begin(&f->opening, holt_signer_public(f->chain), 1, NULL);
  add_entry(&f->opening, HOLT_DAG_OPENING, "opening", holt_buf(payload.data, payload.len));
  assert_int_equal(holt_dag_run_sign(&f->opening, "shop", &f->ops, f->chain), 0);
  holt_writer_free(&payload);
}

static void forger_free(void) {
  holt_dag_run_free(&forger.opening);
  holt_dag_run_free(&forger.run);
  holt_signer_free(forger.directory);
  holt_signer_free(forger.chain);
  holt_crypto_free(forger.crypto);
  holt_writer_free(&forger.message);
}

/* An event behind the opening, signed with this key. */
static const struct holt_dag_run *event(struct holt_signer *key, size_t len) {
  uint8_t *payload = calloc(1, len);
  holt_dag_run_begin(&forger.run, holt_signer_public(forger.chain), 2, holt_dag_run_tip(&forger.opening));
  add_entry(&forger.run, HOLT_DAG_EVENT, "forged", holt_buf(payload, len));
  assert_int_equal(holt_dag_run_sign(&forger.run, "shop", &forger.ops, key), 0);
  free(payload);
  return &forger.run;
}

/* Send it, with the byte that lies `from_end` before the end turned over (0: none), and see what comes of it.
 */
static void send_forged(const struct holt_dag_run *run, size_t from_end) {
  struct holt_dag_pack pack = {0};
  struct holt_writer *w = &forger.message;
  struct holt_journals *all = holt_node_journals(h[4].node);
  struct holt__station *station = HOLT_CONTAINER(all->stations.next, struct holt__station, node);
  w->len = 0;
  holt_write_text8(w, "shop");
  holt_write_u8(w, 0);
  holt_dag_pack_begin(&pack, w);
  for (uint32_t i = 0; i < run->count; i++)
    assert_int_equal(holt_dag_pack_add(&pack, holt_dag_run_entry(run, i),
                                       i + 1 == run->count ? run->signature : NULL, &forger.limits),
                     0);
  assert_int_equal(holt_dag_pack_end(&pack), run->count);
  if (from_end > 0) w->data[w->len - from_end] ^= 1;
  struct holt_msg *msg = holt_msg_new(HOLT_WIRE_JOURNAL, w->len);
  memcpy(msg->data, w->data, w->len);
  msg->born_ms = holt_env_now_ms(h[4].env);
  holt_link_send(station->link, HOLT_LANE_JOURNAL, msg);
  holt_msg_release(msg);
  holt_sim_run(room, 500);
}

static void assert_refused(unsigned count, const char *why) {
  struct holt_journal_status status;
  holt_journal_status(h[0].journal, &status);
  assert_int_equal(status.refused, count);
  assert_int_equal(h[0].refused, count);
  assert_string_equal(h[0].refused_of, "h4");
  if (strstr(h[0].refused_why, why) == NULL) fail_msg("'%s', not '%s'", h[0].refused_why, why);
  assert_non_null(strstr(h[0].refused_why, "h4"));
  read_all(&h[0]);
  assert_int_equal(h[0].read, 0);
}

static void begin_forging(void) {
  forger_new();
  start(&h[0], true);
  start(&h[4], true);
  holt_journal_close(h[4].journal);
  meet(&h[4], &h[0]);
  holt_sim_run(room, 1000);
}

static void what_is_forged_is_refused_and_its_source_named(void **state) {
  (void)state;
  struct holt_signer *other = signer(3);
  entry_bytes_max = 6000;
  begin_forging();
  send_forged(&forger.opening, HOLT_DAG_SIGNATURE + 20); /* in the certificate, which ends the entry */
  assert_refused(1, holt_dag_reason_text(HOLT_DAG_BAD_SIGNATURE));
  send_forged(&forger.opening, 0);
  send_forged(event(other, 7), 0); /* somebody else's signature */
  assert_refused(2, holt_dag_reason_text(HOLT_DAG_BAD_SIGNATURE));
  send_forged(event(forger.chain, 7), HOLT_DAG_SIGNATURE + 3); /* altered on its way */
  assert_refused(3, holt_dag_reason_text(HOLT_DAG_BAD_SIGNATURE));
  send_forged(event(forger.chain, 7000), 0);
  assert_refused(4, holt_dag_reason_text(HOLT_DAG_TOO_LARGE));
  send_forged(event(forger.chain, 7), 0); /* nothing but what was wrong was held against it */
  assert_int_equal(h[0].refused, 4);
  read_all(&h[0]);
  assert_int_equal(h[0].read, 1);
  holt_signer_free(other);
  forger_free();
}

static void who_may_not_write_is_refused_and_its_source_named(void **state) {
  (void)state;
  uint8_t allowed[1][32] = {{1, 2, 3}};
  authors = allowed;
  begin_forging();
  authors = NULL;
  send_forged(&forger.opening, 0);
  assert_refused(1, holt_dag_reason_text(HOLT_DAG_NOT_ALLOWED));
  assert_int_equal(holt_journal_author_count(h[0].journal), 0);
  forger_free();
}

/* Two entries of one author and number: both stay, and it is told. */
static void who_writes_two_histories_is_marked(void **state) {
  (void)state;
  struct holt_journal_author author;
  begin_forging();
  send_forged(&forger.opening, 0);
  send_forged(event(forger.chain, 7), 0);
  assert_int_equal(h[0].forked, 0);
  send_forged(event(forger.chain, 8), 0);
  assert_int_equal(h[0].forked, 1);
  assert_int_equal(h[0].refused, 0);
  assert_true(holt_journal_author(h[0].journal, 0, &author));
  assert_true(author.is_forked);
  assert_int_equal(holt_journal_next(h[0].journal), 4);
  forger_free();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(what_is_forged_is_refused_and_its_source_named, set_up, tear_down),
      cmocka_unit_test_setup_teardown(who_may_not_write_is_refused_and_its_source_named, set_up, tear_down),
      cmocka_unit_test_setup_teardown(who_writes_two_histories_is_marked, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_entry_is_durable_before_emit_answers, set_up, tear_down),
      cmocka_unit_test_setup_teardown(holders_get_what_they_lack_through_others, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_emit_waits_for_other_holders, set_up, tear_down),
      cmocka_unit_test_setup_teardown(who_was_away_catches_up, set_up, tear_down),
      cmocka_unit_test_setup_teardown(cursors_and_notes_outlive_the_node, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_full_disk_refuses_and_goes_on_when_there_is_room, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_failing_disk_ends_the_journal_and_says_so, set_up, tear_down),
      cmocka_unit_test_setup_teardown(what_is_damaged_is_fetched_again, set_up, tear_down),
      cmocka_unit_test_setup_teardown(neighbours_that_are_damaged_are_fetched_again, set_up, tear_down),
      cmocka_unit_test_setup_teardown(more_damage_than_is_taken_up_at_once_is_mended_in_turns, set_up,
                                      tear_down),
      cmocka_unit_test_setup_teardown(what_was_mended_can_be_sent_on, set_up, tear_down),
      cmocka_unit_test_setup_teardown(who_cannot_give_a_damaged_entry_yet_is_asked_again, set_up, tear_down),
      cmocka_unit_test_setup_teardown(damage_found_before_is_mended_by_the_next_start, set_up, tear_down),
      cmocka_unit_test_setup_teardown(what_was_damaged_and_then_dropped_is_not_mended, set_up, tear_down),
      cmocka_unit_test_setup_teardown(retention_by_time_needs_no_writes, set_up, tear_down),
      cmocka_unit_test_setup_teardown(retention_of_many_authors_takes_several_entries, set_up, tear_down),
      cmocka_unit_test_setup_teardown(retention_leaves_a_horizon_and_newcomers_begin_there, set_up,
                                      tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
