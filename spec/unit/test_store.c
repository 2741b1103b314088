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
      .index = index, .term = term, .size_bytes = index * 7, .stamp_ms = index * 3, .conf_index = index / 2};
  snapshot.conf.count = (uint32_t)(1 + index % 5);
  snapshot.conf.is_joint = index % 2 == 0;
  for (uint32_t i = 0; i < snapshot.conf.count; i++)
    snapshot.conf.members[i] = (struct holt_raft_member){.id = index + i,
                                                         .since = index,
                                                         .replaces = i,
                                                         .role = (uint8_t)(1 + i),
                                                         .priority = (uint8_t)(9 - i),
                                                         .can_lead = i % 2 == 0,
                                                         .will_vote = i % 3 == 0};
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

static bool same_member(const struct holt_raft_member *a, const struct holt_raft_member *b) {
  return a->id == b->id && a->since == b->since && a->replaces == b->replaces && a->role == b->role &&
         a->priority == b->priority && a->can_lead == b->can_lead && a->will_vote == b->will_vote;
}

static bool same_snapshot(const struct holt_raft_snapshot *a, const struct holt_raft_snapshot *b) {
  bool is_same = a->index == b->index && a->term == b->term && a->size_bytes == b->size_bytes &&
                 a->conf_index == b->conf_index && a->stamp_ms == b->stamp_ms &&
                 a->conf.count == b->conf.count && a->conf.is_joint == b->conf.is_joint;
  for (uint32_t i = 0; is_same && i < a->conf.count; i++)
    is_same = same_member(&a->conf.members[i], &b->conf.members[i]);
  return is_same;
}

/* The log may keep more entries behind the snapshot than it must. */
static bool same_log(const struct holt_wal *wal, const struct holt_wal_files *files,
                     const struct model *model) {
  const struct holt_wal_state *state = holt_wal_state(wal);
  if (state->term != model->term || state->vote != model->vote || state->last != model->last) return false;
  if (state->first < model->first || state->first > model->snapshot_index + 1) return false;
  if (state->snapshot.index != model->snapshot_index) return false;
  if (model->snapshot_index != 0) {
    struct holt_raft_snapshot expected = snapshot_of(model->snapshot_index, model->snapshot_term);
    if (!same_snapshot(&state->snapshot, &expected)) return false;
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

/* --- Damage --------------------------------------------------------------------------------------- */

/* A log of a few batches in several segments, its models after each batch, and where the batches end. */
enum { BATCHES = 14 };

struct recorded {
  struct holt_sim_disk *disk;
  struct model models[BATCHES + 1];
  size_t batches;
};

static void record(struct recorded *r, uint64_t seed, uint64_t most_entries, bool has_snapshot) {
  struct holt_rand rand;
  struct step step;
  int rc;
  memset(r, 0, sizeof *r);
  holt_rand_seed(&rand, seed);
  r->disk = holt_sim_disk_new();
  r->models[0].first = 1;
  struct holt_wal_files files = holt_wal_on_sim_disk(r->disk);
  struct holt_wal *wal = open_log(&files, &rc, NULL);
  assert_int_equal(rc, 0);
  for (r->batches = 0; r->batches < BATCHES; r->batches++) {
    struct model *next = &r->models[r->batches + 1];
    *next = r->models[r->batches];
    if (r->batches == 0) {
      step.persist = (struct holt_raft_persist){.has_vote = true, .term = 3, .vote = 2};
      next->term = 3;
      next->vote = 2;
    } else {
      step.persist = (struct holt_raft_persist){0};
      if (r->batches == 5) {
        step.persist.truncate_from = next->last;
        next->last--;
      }
      if (r->batches == 8 && has_snapshot) {
        next->snapshot_index = next->last - 1;
        next->snapshot_term = next->entries[next->snapshot_index].term;
        step.snapshot = snapshot_of(next->snapshot_index, next->snapshot_term);
        step.persist.snapshot = &step.snapshot;
      }
      for (uint64_t i = 0; i < 1 + r->batches % most_entries; i++) {
        uint64_t index = ++next->last;
        next->entries[index].term = 3;
        next->entries[index].seq = holt_rand_next(&rand) >> 20;
        step.entries[step.persist.count++] = entry_of(index, 3, next->entries[index].seq);
      }
      step.persist.entries = step.entries;
    }
    assert_int_equal(holt_wal_add(wal, &step.persist), 0);
    assert_int_equal(holt_wal_save(wal, &files, NULL), 0);
  }
  holt_wal_free(wal);
}

/* Open what may be damaged. Returns which model it is, or -1 when it was refused. */
static int judge(const struct recorded *r, struct holt_sim_disk *disk) {
  struct holt_wal_files files = holt_wal_on_sim_disk(disk);
  struct holt_err err = {0};
  int rc, found = -1;
  struct holt_wal *wal = open_log(&files, &rc, &err);
  if (rc == 0) {
    for (size_t i = 0; i <= r->batches; i++)
      if (same_log(wal, &files, &r->models[i])) found = (int)i;
    if (found < 0) fail_msg("another history was taken for the recorded one");
  } else {
    assert_int_equal(rc, HOLT_ECORRUPT);
    assert_non_null(strstr(err.message, "cannot be vouched for"));
    assert_non_null(strstr(err.message, ".wal, byte "));
  }
  holt_wal_free(wal);
  return found;
}

static const char *last_file(struct holt_sim_disk *disk) {
  size_t i = 0;
  while (holt_sim_disk_name(disk, i + 1) != NULL) i++;
  return holt_sim_disk_name(disk, i);
}

static void a_whole_log_is_taken_whole(void **state) {
  (void)state;
  static struct recorded r;
  record(&r, 3, 6, true);
  struct holt_sim_disk *copy = holt_sim_disk_clone(r.disk);
  assert_int_equal(judge(&r, copy), BATCHES);
  assert_true(holt_sim_disk_name(copy, 1) != NULL); /* more than one segment */
  holt_sim_disk_free(copy);
  holt_sim_disk_free(r.disk);
}

/* How the bytes of a file are from place `at` on, after a crash that had written only those before. */
static void zero_from(struct holt_sim_disk *disk, const char *name, size_t at) {
  struct holt_buf bytes;
  static const uint8_t zeros[64 * 1024];
  assert_int_equal(holt_sim_disk_view(disk, name, &bytes), 0);
  const struct holt_file_op ops[] = {
      {.type = HOLT_FILE_WRITE, .name = name, .offset = at, .data = zeros, .len = bytes.len - at},
      {.type = HOLT_FILE_SYNC, .name = name},
  };
  assert_true(bytes.len - at <= sizeof zeros);
  assert_int_equal(holt_sim_disk_run(disk, ops, 2, NULL), 0);
}

static void a_log_cut_anywhere_is_a_prefix_or_refused(void **state) {
  (void)state;
  static struct recorded r;
  record(&r, 4, 3, true);
  unsigned prefixes = 0, refused = 0, lengths = 0;
  for (size_t f = 0; holt_sim_disk_name(r.disk, f) != NULL; f++) {
    char name[HOLT_FILE_NAME_MAX + 1];
    struct holt_buf bytes;
    snprintf(name, sizeof name, "%s", holt_sim_disk_name(r.disk, f));
    bool is_last = strcmp(name, last_file(r.disk)) == 0;
    assert_int_equal(holt_sim_disk_view(r.disk, name, &bytes), 0);
    size_t used = bytes.len;
    while (used > 0 && bytes.data[used - 1] == 0) used--;
    int before = -1;
    for (size_t at = 0; at < used; at++) {
      struct holt_sim_disk *copy = holt_sim_disk_clone(r.disk);
      zero_from(copy, name, at);
      int found = judge(&r, copy);
      /* Only the last segment may end early, and there never earlier for a later cut. */
      if (!is_last) assert_int_equal(found, -1);
      if (found >= 0) assert_true(found >= before);
      if (found >= 0) before = found;
      prefixes += found >= 0;
      refused += found < 0;
      holt_sim_disk_free(copy);
      if (at % 7 != 0) continue;
      copy = holt_sim_disk_clone(r.disk);
      assert_int_equal(holt_sim_disk_truncate(copy, name, at), 0);
      assert_int_equal(judge(&r, copy), -1); /* a file never becomes shorter by a crash */
      lengths++;
      holt_sim_disk_free(copy);
    }
    if (is_last) assert_int_equal(before, BATCHES - 1);
  }
  assert_true(prefixes > 300 && refused > 1000 && lengths > 200);
  holt_sim_disk_free(r.disk);
}

static void a_log_with_any_bit_flipped_is_refused(void **state) {
  (void)state;
  static struct recorded r;
  record(&r, 5, 2, true);
  uint64_t refused = 0, harmless = 0;
  for (size_t f = 0; holt_sim_disk_name(r.disk, f) != NULL; f++) {
    const char *name = holt_sim_disk_name(r.disk, f);
    struct holt_buf bytes;
    assert_int_equal(holt_sim_disk_view(r.disk, name, &bytes), 0);
    size_t used = bytes.len;
    while (used > 0 && bytes.data[used - 1] == 0) used--;
    for (uint64_t bit = 0; bit < bytes.len * 8; bit += bit / 8 < used ? 1 : 61) {
      holt_sim_disk_flip(r.disk, name, bit);
      struct holt_sim_disk *copy = holt_sim_disk_clone(r.disk);
      int found = judge(&r, copy);
      if (found >= 0) {
        /* Rot behind the end looks like what a torn write leaves; nothing is lost by wiping it. */
        if (found != BATCHES || bit / 8 < used) fail_msg("bit %llu of %s", (unsigned long long)bit, name);
        harmless++;
      }
      refused += found < 0;
      holt_sim_disk_free(copy);
      holt_sim_disk_flip(r.disk, name, bit);
    }
  }
  assert_true(refused > 20000);
  assert_true(harmless > 10);
  holt_sim_disk_free(r.disk);
}

static void a_missing_segment_is_noticed_unless_the_snapshot_makes_up_for_it(void **state) {
  (void)state;
  static struct recorded r;
  for (int has_snapshot = 0; has_snapshot < 2; has_snapshot++) {
    record(&r, 6, 6, has_snapshot);
    size_t count = 0;
    while (holt_sim_disk_name(r.disk, count) != NULL) count++;
    assert_true(count >= 3);
    for (size_t i = 0; i < count; i++) {
      struct holt_sim_disk *copy = holt_sim_disk_clone(r.disk);
      holt_sim_disk_lose(copy, holt_sim_disk_name(copy, i));
      int found = judge(&r, copy);
      if (i > 1 || !has_snapshot) assert_int_equal(found, -1);
      if (i == 0 && has_snapshot) assert_int_equal(found, BATCHES);
      holt_sim_disk_free(copy);
    }
    holt_sim_disk_free(r.disk);
  }
}

/* A vote in `term`, then an entry: two logs of this kind differ, but their batches have the same places. */
static void write_twin(struct life *life, uint64_t term, struct holt_wal_piece *piece) {
  life_begin(life, 1);
  struct holt_raft_entry entry = entry_of(1, 1, 7);
  const struct holt_raft_persist vote = {.has_vote = true, .term = term, .vote = 1};
  assert_int_equal(holt_wal_add(life->wal, &vote), 0);
  assert_int_equal(holt_wal_save(life->wal, &life->files, NULL), 0);
  assert_int_equal(holt_wal_add(life->wal, &(struct holt_raft_persist){.entries = &entry, .count = 1}), 0);
  assert_int_equal(holt_wal_save(life->wal, &life->files, NULL), 0);
  assert_int_equal(holt_wal_locate(life->wal, 1, 1, 4096, piece), 0);
}

static void a_batch_of_another_log_at_the_right_place_is_refused(void **state) {
  (void)state;
  static struct life one, other;
  struct holt_wal_piece piece, same;
  struct holt_buf bytes;
  struct holt_err err = {0};
  int rc;
  write_twin(&one, 3, &piece);
  write_twin(&other, 4, &same);
  assert_int_equal(piece.offset, same.offset);
  assert_int_equal(holt_sim_disk_view(other.disk, piece.name, &bytes), 0);
  const struct holt_file_op ops[] = {
      {.type = HOLT_FILE_WRITE,
       .name = piece.name,
       .offset = piece.offset - 40,
       .data = bytes.data + piece.offset - 40,
       .len = 40 + piece.len + 8},
      {.type = HOLT_FILE_SYNC, .name = piece.name},
  };
  assert_int_equal(holt_sim_disk_run(one.disk, ops, 2, NULL), 0);
  holt_wal_free(one.wal);
  one.wal = open_log(&one.files, &rc, &err);
  assert_int_equal(rc, HOLT_ECORRUPT);
  assert_non_null(strstr(err.message, "does not follow the one before"));
  life_end(&one);
  life_end(&other);
}

static void a_refused_log_is_left_as_it_was_and_tells_what_it_could_read(void **state) {
  (void)state;
  static struct recorded r;
  record(&r, 7, 3, true);
  const char *first = holt_sim_disk_name(r.disk, 0);
  struct holt_buf bytes;
  assert_int_equal(holt_sim_disk_view(r.disk, first, &bytes), 0);
  holt_sim_disk_flip(r.disk, first, 8 * (bytes.len / 2));
  uint64_t hash = holt_sim_disk_hash(r.disk);
  struct holt_wal_files files = holt_wal_on_sim_disk(r.disk);
  struct holt_err err = {0};
  int rc;
  struct holt_wal *wal = open_log(&files, &rc, &err);
  assert_int_equal(rc, HOLT_ECORRUPT);
  assert_int_equal(holt_sim_disk_hash(r.disk), hash);
  assert_int_equal(holt_sim_disk_unsynced(r.disk), 0);
  assert_true(holt_wal_state(wal)->last > 0);
  assert_true(holt_wal_state(wal)->last < r.models[BATCHES].last);
  struct holt_raft_persist persist = {.has_vote = true, .term = 9};
  assert_int_equal(holt_wal_add(wal, &persist), HOLT_ECLOSED);
  holt_wal_free(wal);
  holt_sim_disk_free(r.disk);
}

static void a_log_of_somebody_else_is_refused_in_words(void **state) {
  (void)state;
  static struct recorded r;
  record(&r, 8, 3, true);
  struct holt_wal_files files = holt_wal_on_sim_disk(r.disk);
  const struct holt_wal_config foreign[] = {{.cluster = 78, .self = 5}, {.cluster = 77, .self = 6}};
  for (int i = 0; i < 2; i++) {
    struct holt_err err = {0};
    struct holt_wal *wal = holt_wal_new(&foreign[i]);
    assert_int_equal(holt_wal_open(wal, &files, &err), HOLT_EFOREIGN);
    assert_non_null(strstr(err.message, "000000000000004d"));
    holt_wal_free(wal);
  }
  struct holt_wal *wal = holt_wal_new(&(struct holt_wal_config){0}); /* whoever it is */
  assert_int_equal(holt_wal_open(wal, &files, NULL), 0);
  assert_int_equal(holt_wal_state(wal)->cluster, 77);
  assert_int_equal(holt_wal_state(wal)->self, 5);
  holt_wal_free(wal);
  holt_sim_disk_free(r.disk);
  struct holt_sim_disk *empty = holt_sim_disk_new();
  files = holt_wal_on_sim_disk(empty);
  wal = holt_wal_new(&(struct holt_wal_config){0});
  assert_int_equal(holt_wal_open(wal, &files, NULL), HOLT_EINVAL);
  holt_wal_free(wal);
  holt_sim_disk_free(empty);
}

/* --- Failing disks -------------------------------------------------------------------------------- */

/* One round with a fault armed; tells what the log answered. */
static int live_with_fault(struct life *life, uint64_t seed) {
  struct step step;
  draw_step(&step, &life->added, &life->rand);
  if (holt_wal_add(life->wal, &step.persist) != 0) fail_life(life, seed, "a persist was refused");
  return holt_wal_save(life->wal, &life->files, NULL);
}

static void without_room_nothing_of_a_batch_counts_and_the_log_goes_on_when_there_is_some(void **state) {
  (void)state;
  static struct life life;
  unsigned full = 0, crashes = 0;
  for (uint64_t seed = 1; seed <= 300; seed++) {
    life_begin(&life, seed);
    for (int i = 0; i < 60; i++) {
      /* A file system without reserved room fails any write; any other one only where a segment is made. */
      uint64_t dice = holt_rand_below(&life.rand, 4);
      static const enum holt_file_op_type types[] = {HOLT_FILE_WRITE, HOLT_FILE_ALLOCATE, HOLT_FILE_CREATE,
                                                     HOLT_FILE_RENAME};
      holt_sim_disk_fail(life.disk, types[dice], (unsigned)holt_rand_below(&life.rand, 3), HOLT_ENOSPC,
                         (size_t)holt_rand_below(&life.rand, 3000));
      int rc = live_with_fault(&life, seed);
      if (rc == 0) {
        life.saved = life.added;
        continue;
      }
      assert_int_equal(rc, HOLT_ENOSPC);
      full++;
      if (!same_log(life.wal, &life.files, &life.saved)) fail_life(&life, seed, "a failed batch counted");
      life.added = life.saved; /* nor does it come back with a crash, now that its failure was told */
      if (holt_rand_below(&life.rand, 2) == 0) {
        holt_sim_disk_fail(life.disk, 0, 0, 0, 0);
        holt_sim_disk_crash(life.disk, &life.rand,
                            (enum holt_sim_loss)holt_rand_below(&life.rand, HOLT_SIM_LOSSES));
        crashes++;
        reopen(&life, seed);
      }
    }
    life_end(&life);
  }
  assert_true(full > 1000 && crashes > 500);
}

static void a_full_disk_keeps_what_was_saved_until_room_comes_back(void **state) {
  (void)state;
  static struct life life;
  life_begin(&life, 1);
  for (int i = 0; i < 20; i++) live_once(&life, 1, false);
  holt_sim_disk_limit(life.disk, holt_sim_disk_used(life.disk) + 100);
  int rc = 0;
  for (int i = 0; i < 200 && rc == 0; i++) {
    rc = live_with_fault(&life, 1);
    if (rc == 0) life.saved = life.added;
  }
  assert_int_equal(rc, HOLT_ENOSPC);
  life.added = life.saved;
  for (int i = 0; i < 20; i++) { /* what is small enough may still fit */
    rc = live_with_fault(&life, 1);
    assert_true(rc == 0 || rc == HOLT_ENOSPC);
    if (rc == 0) life.saved = life.added;
    life.added = life.saved;
    assert_true(same_log(life.wal, &life.files, &life.saved));
  }
  holt_sim_disk_limit(life.disk, 0);
  for (int i = 0; i < 20; i++) live_once(&life, 1, false);
  holt_sim_disk_crash(life.disk, &life.rand, HOLT_SIM_LOSS_ALL);
  reopen(&life, 1);
  life_end(&life);
}

static void after_any_other_failure_the_log_is_never_written_again(void **state) {
  (void)state;
  static struct life life;
  for (uint64_t seed = 1; seed <= 300; seed++) {
    static const enum holt_file_op_type types[] = {HOLT_FILE_WRITE, HOLT_FILE_SYNC, HOLT_FILE_SYNC_DIR, 0};
    life_begin(&life, seed);
    for (int i = 0; i < 10; i++) live_once(&life, seed, false);
    holt_sim_disk_fail(life.disk, types[seed % 4], (unsigned)holt_rand_below(&life.rand, 3), HOLT_EIO,
                       (size_t)holt_rand_below(&life.rand, 600));
    int rc = 0;
    for (int i = 0; i < 200 && rc == 0; i++) {
      rc = live_with_fault(&life, seed);
      if (rc == 0) life.saved = life.added;
    }
    assert_int_equal(rc, HOLT_EIO);
    uint64_t ops = holt_sim_disk_stats(life.disk).ops;
    struct holt_raft_persist persist = {.has_vote = true, .term = life.added.term + 1};
    const struct holt_file_op *list;
    assert_int_equal(holt_wal_add(life.wal, &persist), HOLT_EIO);
    assert_int_equal(holt_wal_flush(life.wal, &list), 0);
    assert_int_equal(holt_sim_disk_stats(life.disk).ops, ops);
    holt_sim_disk_crash(life.disk, &life.rand, (enum holt_sim_loss)(seed % HOLT_SIM_LOSSES));
    reopen(&life, seed);
    life_end(&life);
  }
}

/* --- What does not fit ---------------------------------------------------------------------------- */

static void what_contradicts_the_log_is_refused_and_changes_nothing(void **state) {
  (void)state;
  static struct life life;
  life_begin(&life, 1);
  struct holt_raft_entry good[] = {entry_of(1, 2, 1), entry_of(2, 2, 2), entry_of(3, 3, 3)};
  struct holt_raft_snapshot at2 = snapshot_of(2, 2), at3 = snapshot_of(3, 3), wrong_term = snapshot_of(3, 2);
  struct holt_raft_snapshot beyond = snapshot_of(9, 3), at1 = snapshot_of(1, 2);
  const struct holt_raft_persist fine = {
      .has_vote = true, .term = 3, .vote = 1, .snapshot = NULL, .entries = good, .count = 3};
  assert_int_equal(holt_wal_add(life.wal, &fine), 0);
  assert_int_equal(holt_wal_save(life.wal, &life.files, NULL), 0);
  assert_int_equal(holt_wal_add(life.wal, &(struct holt_raft_persist){.snapshot = &at2}), 0);
  struct holt_raft_entry gap = entry_of(5, 3, 5), again = entry_of(3, 3, 5), old_term = entry_of(4, 2, 5);
  const struct holt_raft_persist bad[] = {
      {.has_vote = true, .term = 2, .vote = 1},
      {.has_vote = true, .term = 3, .vote = 2},
      {.entries = &gap, .count = 1},
      {.entries = &again, .count = 1},
      {.entries = &old_term, .count = 1},
      {.truncate_from = 2},
      {.truncate_from = 5},
      {.snapshot = &wrong_term},
      {.snapshot = &beyond},
      {.snapshot = &at1},
      {.snapshot = &at1, .is_reset = true},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    if (holt_wal_add(life.wal, &bad[i]) != HOLT_EINVAL) fail_msg("number %zu was accepted", i);
  }
  assert_int_equal(holt_wal_drop(life.wal, 2), HOLT_EINVAL); /* the snapshot is not durable yet */
  assert_int_equal(holt_wal_add(life.wal, &(struct holt_raft_persist){.snapshot = &at3}), 0);
  assert_int_equal(holt_wal_save(life.wal, &life.files, NULL), 0);
  assert_int_equal(holt_wal_saved(life.wal), 3);
  assert_int_equal(holt_wal_drop(life.wal, 3), 0);
  assert_int_equal(holt_wal_state(life.wal)->snapshot.index, 3);
  assert_int_equal(holt_wal_state(life.wal)->last, 3);
  life_end(&life);
}

static void segments_behind_the_snapshot_go_and_the_rest_can_be_restored(void **state) {
  (void)state;
  static struct life life;
  life_begin(&life, 2);
  struct step step;
  for (int i = 0; i < 100; i++) {
    memset(&step.persist, 0, sizeof step.persist);
    draw_entries(&step, &life.added, &life.rand, 12);
    assert_int_equal(holt_wal_add(life.wal, &step.persist), 0);
    assert_int_equal(holt_wal_save(life.wal, &life.files, NULL), 0);
  }
  life.saved = life.added;
  uint64_t before = holt_sim_disk_used(life.disk), index = life.saved.last - 30;
  struct holt_raft_snapshot snapshot = snapshot_of(index, life.saved.entries[index].term);
  life.saved.snapshot_index = index;
  life.saved.snapshot_term = snapshot.term;
  assert_int_equal(holt_wal_add(life.wal, &(struct holt_raft_persist){.snapshot = &snapshot}), 0);
  assert_int_equal(holt_wal_save(life.wal, &life.files, NULL), 0);
  assert_int_equal(holt_wal_drop(life.wal, index), 0);
  assert_int_equal(holt_wal_save(life.wal, &life.files, NULL), 0);
  assert_true(holt_sim_disk_used(life.disk) < before / 2);
  assert_true(holt_wal_state(life.wal)->first > 1);
  assert_true(same_log(life.wal, &life.files, &life.saved));
  life.added = life.saved;
  holt_sim_disk_crash(life.disk, &life.rand, HOLT_SIM_LOSS_ALL);
  reopen(&life, 2);
  struct holt_wal_restored restored;
  assert_int_equal(holt_wal_restore(life.wal, &life.files, &restored, NULL), 0);
  assert_int_equal(restored.restore.count, 30);
  assert_int_equal(restored.restore.snapshot->index, index);
  for (uint64_t i = 0; i < 30; i++) {
    uint64_t at = index + 1 + i;
    struct holt_raft_entry expected = entry_of(at, life.saved.entries[at].term, life.saved.entries[at].seq);
    assert_true(same_entry(&restored.restore.entries[i], &expected));
  }
  holt_wal_restored_free(&restored);
  life_end(&life);
}

static void an_entry_that_rots_is_not_read_back(void **state) {
  (void)state;
  static struct life life;
  life_begin(&life, 3);
  struct holt_raft_entry entry = entry_of(1, 1, 1), back;
  entry.len = 200;
  assert_int_equal(holt_wal_add(life.wal, &(struct holt_raft_persist){.entries = &entry, .count = 1}), 0);
  assert_int_equal(holt_wal_save(life.wal, &life.files, NULL), 0);
  struct holt_wal_piece piece;
  assert_int_equal(holt_wal_locate(life.wal, 1, 1, 4096, &piece), 0);
  assert_int_equal(holt_wal_locate(life.wal, 2, 2, 4096, &piece), HOLT_ENOTFOUND);
  holt_sim_disk_flip(life.disk, piece.name, (piece.offset + 100) * 8);
  struct holt_writer bytes = {0};
  struct holt_err err = {0};
  uint32_t count;
  assert_int_equal(holt_wal_read(life.wal, &life.files, 1, 1, 4096, &bytes, &back, &count, 1, &err),
                   HOLT_ECORRUPT);
  assert_non_null(strstr(err.message, piece.name));
  holt_writer_free(&bytes);
  life_end(&life);
}

static void an_entry_larger_than_a_segment_gets_a_larger_one(void **state) {
  (void)state;
  static struct life life;
  life_begin(&life, 4);
  struct holt_raft_entry entries[] = {entry_of(1, 1, 0), entry_of(2, 1, 0)};
  for (int i = 0; i < 2; i++) {
    entries[i].data = payload;
    entries[i].len = 60000;
    assert_int_equal(holt_wal_add(life.wal, &(struct holt_raft_persist){.entries = &entries[i], .count = 1}),
                     0);
    assert_int_equal(holt_wal_save(life.wal, &life.files, NULL), 0);
  }
  holt_sim_disk_crash(life.disk, &life.rand, HOLT_SIM_LOSS_ALL);
  holt_wal_free(life.wal);
  int rc;
  life.wal = open_log(&life.files, &rc, NULL);
  assert_int_equal(rc, 0);
  struct holt_wal_restored restored;
  assert_int_equal(holt_wal_restore(life.wal, &life.files, &restored, NULL), 0);
  assert_int_equal(restored.restore.count, 2);
  for (int i = 0; i < 2; i++) assert_true(same_entry(&restored.restore.entries[i], &entries[i]));
  holt_wal_restored_free(&restored);
  life_end(&life);
}

#define T(name) cmocka_unit_test(name)

int main(void) {
  const struct CMUnitTest tests[] = {
      T(crc32c_gives_the_values_of_rfc_3720_on_both_ways),
      T(after_any_crash_everything_saved_is_there),
      T(a_whole_log_is_taken_whole),
      T(a_log_cut_anywhere_is_a_prefix_or_refused),
      T(a_log_with_any_bit_flipped_is_refused),
      T(a_missing_segment_is_noticed_unless_the_snapshot_makes_up_for_it),
      T(a_batch_of_another_log_at_the_right_place_is_refused),
      T(a_refused_log_is_left_as_it_was_and_tells_what_it_could_read),
      T(a_log_of_somebody_else_is_refused_in_words),
      T(without_room_nothing_of_a_batch_counts_and_the_log_goes_on_when_there_is_some),
      T(a_full_disk_keeps_what_was_saved_until_room_comes_back),
      T(after_any_other_failure_the_log_is_never_written_again),
      T(what_contradicts_the_log_is_refused_and_changes_nothing),
      T(segments_behind_the_snapshot_go_and_the_rest_can_be_restored),
      T(an_entry_that_rots_is_not_read_back),
      T(an_entry_larger_than_a_segment_gets_a_larger_one),
  };
  return cmocka_run_group_tests(tests, setup, NULL);
}
