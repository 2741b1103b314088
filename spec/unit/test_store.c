/* The segment log on a simulated disk: what was saved is there after any crash, what was damaged is never
 * taken for something else. */
#include "base/crc32c.h"
#include "env/sim_disk.h"
#include "store/wal.h"
#include "unit.h"

enum { ENTRIES_MAX = 4000, SEGMENT = 4096 };

/* --- A log kept in the plainest way, to compare with ---------------------------------------------- */

struct model {
  uint64_t term, vote, first, last, snapshot_index, snapshot_term;
  struct {
    uint64_t term, seq;
  } entries[ENTRIES_MAX];
};

static uint8_t payload[70000]; /* entry i's data begins at payload + seq % 256 */

static uint32_t len_of(uint64_t seq) {
  return (uint32_t)(holt_hash_u64(seq) % 300);
}

static struct holt_raft_entry entry_of(uint64_t index, uint64_t term, uint64_t seq) {
  return (struct holt_raft_entry){.index = index,
                                  .term = term,
                                  .client = seq * 3,
                                  .seq = seq,
                                  .low = seq / 2,
                                  .stamp_ms = seq * 5,
                                  .data = payload + seq % 256,
                                  .len = len_of(seq),
                                  .type = (uint8_t)(1 + seq % 3)};
}

static struct holt_raft_snapshot snapshot_of(uint64_t index, uint64_t term) {
  struct holt_raft_snapshot snapshot = {
      .index = index, .term = term, .size_bytes = index * 7, .conf_index = index / 2};
  snapshot.conf.count = (uint32_t)(1 + index % 5);
  snapshot.conf.is_joint = index % 2 == 0;
  for (uint32_t i = 0; i < snapshot.conf.count; i++)
    snapshot.conf.members[i] =
        (struct holt_raft_member){.id = index + i, .since = index, .role = 1, .can_lead = true};
  return snapshot;
}

/* One persist, drawn at random so that it fits `model`, which becomes what it will be once that is saved. */
struct step {
  struct holt_raft_persist persist;
  struct holt_raft_snapshot snapshot;
  struct holt_raft_entry entries[24];
};

static void draw_entries(struct step *step, struct model *model, struct holt_rand *rand, uint64_t most) {
  uint64_t count = holt_rand_below(rand, most + 1);
  for (uint64_t i = 0; i < count && model->last + 1 < ENTRIES_MAX; i++) {
    uint64_t seq = holt_rand_next(rand) >> 20, index = ++model->last;
    uint64_t before = index == 1                           ? 0
                      : index - 1 == model->snapshot_index ? model->snapshot_term
                                                           : model->entries[index - 1].term;
    uint64_t term = holt_rand_below(rand, 4) == 0 ? model->term : before;
    if (term < before) term = before;
    if (term == 0) term = 1;
    model->entries[index].term = term;
    model->entries[index].seq = seq;
    step->entries[step->persist.count++] = entry_of(index, term, seq);
  }
  step->persist.entries = step->entries;
}

static void draw_step(struct step *step, struct model *model, struct holt_rand *rand) {
  memset(&step->persist, 0, sizeof step->persist);
  struct holt_raft_persist *persist = &step->persist;
  uint64_t dice = holt_rand_below(rand, 100);
  if (dice < 20) {
    persist->has_vote = true;
    if (model->vote == 0 && holt_rand_below(rand, 2) == 0) {
      model->vote = 1 + holt_rand_below(rand, 3);
    } else {
      model->term += 1 + holt_rand_below(rand, 2);
      model->vote = holt_rand_below(rand, 3);
    }
    persist->term = model->term;
    persist->vote = model->vote;
  }
  if (dice >= 20 && dice < 30 && model->last > model->snapshot_index) {
    uint64_t index = model->snapshot_index + 1 + holt_rand_below(rand, model->last - model->snapshot_index);
    model->snapshot_index = index;
    model->snapshot_term = model->entries[index].term;
    step->snapshot = snapshot_of(index, model->snapshot_term);
    persist->snapshot = &step->snapshot;
  } else if (dice >= 30 && dice < 33 && model->last + 60 < ENTRIES_MAX) {
    model->snapshot_index =
        model->snapshot_index + 1 + holt_rand_below(rand, model->last + 50 - model->snapshot_index);
    if (model->term == 0) {
      model->term = persist->term = 1;
      model->vote = 0;
      persist->has_vote = true;
    }
    if (model->snapshot_term == 0 || holt_rand_below(rand, 2) == 0) model->snapshot_term = model->term;
    step->snapshot = snapshot_of(model->snapshot_index, model->snapshot_term);
    persist->snapshot = &step->snapshot;
    persist->is_reset = true;
    model->last = model->snapshot_index;
    model->first = model->last + 1;
  } else if (dice >= 33 && dice < 45 && model->last > model->snapshot_index) {
    uint64_t from = model->snapshot_index + 1 + holt_rand_below(rand, model->last - model->snapshot_index);
    persist->truncate_from = from;
    model->last = from - 1;
  }
  draw_entries(step, model, rand, dice % 3 == 0 ? 20 : 3);
}

/* --- Comparing ------------------------------------------------------------------------------------ */

static bool same_entry(const struct holt_raft_entry *a, const struct holt_raft_entry *b) {
  return a->index == b->index && a->term == b->term && a->client == b->client && a->seq == b->seq &&
         a->low == b->low && a->stamp_ms == b->stamp_ms && a->len == b->len && a->type == b->type &&
         memcmp(a->data, b->data, a->len) == 0;
}

static bool same_entries(const struct holt_wal *wal, const struct holt_wal_files *files,
                         const struct model *model) {
  struct holt_raft_entry entries[16];
  struct holt_writer bytes = {0};
  uint32_t count;
  bool is_same = true;
  for (uint64_t index = holt_wal_state(wal)->first; is_same && index <= model->last; index += count) {
    if (holt_wal_read(wal, files, index, model->last, 2000, &bytes, entries, &count, 16, NULL) != 0 ||
        count == 0) {
      is_same = false;
      break;
    }
    for (uint32_t i = 0; i < count; i++) {
      uint64_t at = index + i;
      struct holt_raft_entry expected = entry_of(at, model->entries[at].term, model->entries[at].seq);
      is_same = is_same && same_entry(&entries[i], &expected);
    }
  }
  holt_writer_free(&bytes);
  return is_same;
}

/* The log may keep more entries behind the snapshot than it must. */
static bool same_log(const struct holt_wal *wal, const struct holt_wal_files *files,
                     const struct model *model) {
  const struct holt_wal_state *state = holt_wal_state(wal);
  if (state->term != model->term || state->vote != model->vote || state->last != model->last) return false;
  if (state->first < model->first || state->first > model->snapshot_index + 1) return false;
  if (state->snapshot.index != model->snapshot_index || state->snapshot.term != model->snapshot_term)
    return false;
  if (model->snapshot_index != 0) {
    struct holt_raft_snapshot expected = snapshot_of(model->snapshot_index, model->snapshot_term);
    if (state->snapshot.size_bytes != expected.size_bytes ||
        state->snapshot.conf_index != expected.conf_index ||
        state->snapshot.conf.count != expected.conf.count ||
        state->snapshot.conf.is_joint != expected.conf.is_joint ||
        memcmp(state->snapshot.conf.members, expected.conf.members,
               expected.conf.count * sizeof *expected.conf.members) != 0)
      return false;
  }
  return same_entries(wal, files, model);
}

static struct holt_wal *open_log(const struct holt_wal_files *files, int *rc, struct holt_err *err) {
  struct holt_wal_config config = {.cluster = 77, .self = 5, .segment_bytes = SEGMENT};
  struct holt_wal *wal = holt_wal_new(&config);
  *rc = holt_wal_open(wal, files, err);
  return wal;
}

static int setup(void **state) {
  (void)state;
  struct holt_rand rand;
  holt_rand_seed(&rand, 99);
  for (size_t i = 0; i < sizeof payload; i++) payload[i] = (uint8_t)(1 + holt_rand_below(&rand, 255));
  return 0;
}

/* --- The checksum --------------------------------------------------------------------------------- */

static void crc32c_gives_the_values_of_rfc_3720_on_both_ways(void **state) {
  (void)state;
  uint8_t bytes[32];
  memset(bytes, 0, 32);
  assert_int_equal(holt_crc32c(0, bytes, 32), 0x8a9136aa);
  assert_int_equal(holt_crc32c_portable(0, bytes, 32), 0x8a9136aa);
  memset(bytes, 0xff, 32);
  assert_int_equal(holt_crc32c(0, bytes, 32), 0x62a8ab43);
  for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)i;
  assert_int_equal(holt_crc32c(0, bytes, 32), 0x46dd794e);
  assert_int_equal(holt_crc32c(0, "123456789", 9), 0xe3069283);
  for (size_t len = 0; len < 200; len++) {
    uint32_t whole = holt_crc32c(0, payload + 3, len);
    assert_int_equal(holt_crc32c_portable(0, payload + 3, len), whole);
    assert_int_equal(holt_crc32c(holt_crc32c(0, payload + 3, len / 3), payload + 3 + len / 3, len - len / 3),
                     whole);
  }
}

/* --- Crashes -------------------------------------------------------------------------------------- */

struct life {
  struct holt_rand rand;
  struct holt_sim_disk *disk;
  struct holt_wal_files files;
  struct model saved, added; /* durable for sure; once everything is */
  struct holt_wal *wal;
  uint64_t boots;
  unsigned crashes, batches, with_tail;
};

static void print_model(const char *name, const struct model *m) {
  print_message("%s: term %llu vote %llu first %llu last %llu snapshot %llu/%llu\n", name,
                (unsigned long long)m->term, (unsigned long long)m->vote, (unsigned long long)m->first,
                (unsigned long long)m->last, (unsigned long long)m->snapshot_index,
                (unsigned long long)m->snapshot_term);
}

static void fail_life(const struct life *life, uint64_t seed, const char *what) {
  const struct holt_wal_state *s = holt_wal_state(life->wal);
  struct model found = {s->term, s->vote, s->first, s->last, s->snapshot.index, s->snapshot.term, {{0, 0}}};
  print_model("found", &found);
  print_model("saved", &life->saved);
  print_model("added", &life->added);
  fail_msg("seed %llu, crash %u: %s", (unsigned long long)seed, life->crashes, what);
}

/* Open after a crash: the log is what was saved, or that and the batch under way. */
static void reopen(struct life *life, uint64_t seed) {
  struct holt_err err = {0};
  int rc;
  holt_wal_free(life->wal);
  life->wal = open_log(&life->files, &rc, &err);
  if (rc != 0) fail_life(life, seed, err.message);
  bool is_saved = same_log(life->wal, &life->files, &life->saved);
  if (!is_saved && !same_log(life->wal, &life->files, &life->added))
    fail_life(life, seed, "another log than was saved");
  if (!is_saved) {
    life->saved = life->added;
    life->with_tail++;
  }
  life->added = life->saved;
  uint64_t boots = holt_wal_state(life->wal)->boot;
  if (boots <= life->boots) fail_life(life, seed, "a start was not counted");
  life->boots = boots;
}

/* Add a few persists, then run what the log wants, to its end or to a crash. */
static void live_once(struct life *life, uint64_t seed, bool may_crash) {
  struct step step;
  uint64_t adds = 1 + holt_rand_below(&life->rand, 3);
  for (uint64_t i = 0; i < adds; i++) {
    draw_step(&step, &life->added, &life->rand);
    int rc = holt_wal_add(life->wal, &step.persist);
    if (rc != 0) fail_life(life, seed, "a persist was refused");
  }
  if (holt_rand_below(&life->rand, 4) == 0)
    holt_wal_drop(life->wal, holt_wal_state(life->wal)->snapshot.index);
  const struct holt_file_op *ops;
  for (size_t count = holt_wal_flush(life->wal, &ops); count > 0; count = holt_wal_flush(life->wal, &ops)) {
    if (may_crash && holt_rand_below(&life->rand, 6) == 0) {
      holt_sim_disk_run(life->disk, ops, (size_t)holt_rand_below(&life->rand, count + 1), NULL);
      holt_sim_disk_crash(life->disk, &life->rand,
                          (enum holt_sim_loss)holt_rand_below(&life->rand, HOLT_SIM_LOSSES));
      life->crashes++;
      reopen(life, seed);
      return;
    }
    if (holt_wal_done(life->wal, holt_sim_disk_run(life->disk, ops, count, NULL)) != 0)
      fail_life(life, seed, "failed");
    life->batches++;
  }
  life->saved = life->added;
}

static void life_begin(struct life *life, uint64_t seed) {
  memset(life, 0, sizeof *life);
  holt_rand_seed(&life->rand, seed);
  life->disk = holt_sim_disk_new();
  life->files = holt_wal_on_sim_disk(life->disk);
  life->saved.first = life->added.first = 1;
  reopen(life, seed);
}

static void life_end(struct life *life) {
  holt_wal_free(life->wal);
  holt_sim_disk_free(life->disk);
}

static void after_any_crash_everything_saved_is_there(void **state) {
  (void)state;
  static struct life life;
  unsigned crashes = 0, with_tail = 0;
  const char *wanted = getenv("HOLT_SEEDS");
  uint64_t seeds = wanted != NULL ? strtoull(wanted, NULL, 10) : 400;
  for (uint64_t seed = 1; seed <= seeds; seed++) {
    life_begin(&life, seed);
    for (int i = 0; i < 120; i++) live_once(&life, seed, true);
    crashes += life.crashes;
    with_tail += life.with_tail;
    life_end(&life);
  }
  assert_true(crashes > seeds * 20);
  assert_true(with_tail > seeds); /* both outcomes were seen often */
}

#define T(name) cmocka_unit_test(name)

int main(void) {
  const struct CMUnitTest tests[] = {
      T(crc32c_gives_the_values_of_rfc_3720_on_both_ways),
      T(after_any_crash_everything_saved_is_there),
  };
  return cmocka_run_group_tests(tests, setup, NULL);
}
