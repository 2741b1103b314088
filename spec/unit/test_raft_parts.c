/* The table of sessions, the log in memory and the driver, each by itself. */
#include "unit.h"

#include "base/err.h"
#include "base/rand.h"
#include "raft/driver.h"
#include "raft/raft_impl.h"
#include "raft/sessions.h"

/* --- Sessions ------------------------------------------------------------------------------------------ */

static enum holt_session_verdict begin(struct holt_sessions *s, uint64_t client, uint64_t seq, uint64_t low) {
  struct holt_buf result = {0};
  return holt_sessions_begin(s, client, seq, low, &result);
}

static void answer(struct holt_sessions *s, uint64_t client, uint64_t seq, const char *text) {
  holt_sessions_end(s, client, seq, holt_buf_text(text));
}

static void an_operation_is_new_once_and_answered_the_same_again(void **state) {
  (void)state;
  struct holt_sessions s = {0};
  struct holt_buf result = {0};
  assert_true(holt_sessions_open(&s, 7));
  assert_false(holt_sessions_open(&s, 7));
  assert_int_equal(HOLT_SESSION_NEW, begin(&s, 7, 1, 1));
  answer(&s, 7, 1, "one");
  assert_int_equal(HOLT_SESSION_DUPLICATE, holt_sessions_begin(&s, 7, 1, 1, &result));
  assert_int_equal(3, result.len);
  assert_memory_equal("one", result.data, 3);
  holt_sessions_free(&s);
}

static void operations_may_come_in_any_order(void **state) {
  (void)state;
  struct holt_sessions s = {0};
  holt_sessions_open(&s, 7);
  static const uint64_t order[] = {5, 2, 9, 1, 4};
  for (size_t i = 0; i < 5; i++) {
    assert_int_equal(HOLT_SESSION_NEW, begin(&s, 7, order[i], 1));
    answer(&s, 7, order[i], "x");
  }
  for (size_t i = 0; i < 5; i++) assert_int_equal(HOLT_SESSION_DUPLICATE, begin(&s, 7, order[i], 1));
  assert_int_equal(HOLT_SESSION_NEW, begin(&s, 7, 3, 1));
  holt_sessions_free(&s);
}

static void what_is_below_low_is_forgotten_and_refused(void **state) {
  (void)state;
  struct holt_sessions s = {0};
  holt_sessions_open(&s, 7);
  for (uint64_t seq = 1; seq <= 4; seq++) {
    begin(&s, 7, seq, 1);
    answer(&s, 7, seq, "x");
  }
  assert_int_equal(HOLT_SESSION_NEW, begin(&s, 7, 5, 4));
  assert_int_equal(HOLT_SESSION_FORGOTTEN, begin(&s, 7, 3, 1)); /* low never goes back */
  assert_int_equal(HOLT_SESSION_DUPLICATE, begin(&s, 7, 4, 4));
  assert_int_equal(HOLT_SESSION_TOO_FAR, begin(&s, 7, 4 + HOLT_SESSION_WINDOW, 4));
  holt_sessions_free(&s);
}

static void a_client_that_is_not_open_is_refused(void **state) {
  (void)state;
  struct holt_sessions s = {0};
  assert_int_equal(HOLT_SESSION_UNKNOWN, begin(&s, 7, 1, 1));
  assert_false(holt_sessions_has(&s, 7)); /* and not opened in passing */
  holt_sessions_open(&s, 7);
  assert_true(holt_sessions_close(&s, 7));
  assert_false(holt_sessions_close(&s, 7));
  assert_int_equal(HOLT_SESSION_UNKNOWN, begin(&s, 7, 1, 1));
  assert_int_equal(0, s.hash);
  holt_sessions_free(&s);
}

static void a_table_comes_back_from_its_bytes(void **state) {
  (void)state;
  struct holt_sessions s = {0}, other = {0};
  for (uint64_t client = 1; client <= 40; client++) {
    holt_sessions_open(&s, client * 977);
    for (uint64_t seq = 1; seq <= client % 5; seq++) {
      begin(&s, client * 977, seq, 1);
      answer(&s, client * 977, seq, "answer");
    }
  }
  struct holt_writer bytes = {0}, again = {0};
  holt_sessions_encode(&s, &bytes);
  struct holt_reader in = holt_reader(holt_buf(bytes.data, bytes.len));
  assert_int_equal(0, holt_sessions_decode(&other, &in));
  assert_int_equal(s.hash, other.hash);
  assert_int_equal(40, holt_sessions_count(&other));
  holt_sessions_encode(&other, &again);
  assert_int_equal(bytes.len, again.len);
  assert_memory_equal(bytes.data, again.data, bytes.len);
  for (size_t cut = 0; cut < bytes.len; cut++) { /* less of it is refused, wherever it ends */
    in = holt_reader(holt_buf(bytes.data, cut));
    assert_int_equal(HOLT_EPROTOCOL, holt_sessions_decode(&other, &in));
    assert_int_equal(0, holt_sessions_count(&other));
  }
  holt_writer_free(&bytes);
  holt_writer_free(&again);
  holt_sessions_free(&s);
  holt_sessions_free(&other);
}

/* --- The log in memory ---------------------------------------------------------------------------------- */

struct memory {
  struct holt_rand rand;
  size_t largest_copied; /* bytes that one call may have copied */
  bool may_fail;
};

static void *take_memory(void *arg, void *old, size_t size_bytes) {
  struct memory *m = arg;
  if (size_bytes == 0) {
    free(old);
    return NULL;
  }
  if (m->may_fail && holt_rand_below(&m->rand, 10) == 0) return NULL;
  if (old && size_bytes > m->largest_copied) m->largest_copied = size_bytes;
  return realloc(old, size_bytes);
}

static uint64_t word_of(uint64_t index, uint64_t term) {
  return holt_hash_u64(index * 31 + term);
}

static int push_some(struct holt_raft *r, size_t count, uint64_t term) {
  int rc = holt__raft_log_reserve(r, count);
  for (size_t i = 0; rc == 0 && i < count; i++) {
    uint64_t index = holt__raft_log_last(r) + 1, *word = malloc(sizeof *word);
    *word = word_of(index, term);
    struct holt_raft_entry entry = {.index = index,
                                    .term = term,
                                    .data = (uint8_t *)word,
                                    .len = sizeof *word,
                                    .type = HOLT_RAFT_COMMAND};
    holt__raft_log_push(r, &entry, 0);
  }
  return rc;
}

/* Entries are pushed, cut off and dropped, and short of memory now and then: what is kept stays as it was. */
static void a_log_keeps_its_entries_while_it_moves(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 8; seed++) {
    static struct holt_raft raft;
    struct memory memory = {.may_fail = true};
    size_t moves = 0;
    uint64_t term = 1;
    struct holt_raft *r = &raft;
    *r = (struct holt_raft){.options = {.alloc = take_memory, .alloc_arg = &memory}};
    holt_rand_seed(&memory.rand, seed);
    for (int round = 0; round < 1500; round++) {
      uint64_t what = holt_rand_below(&memory.rand, 100), first = r->log.base_index + 1;
      uint64_t last = holt__raft_log_last(r),
               some = r->log.count == 0 ? 0 : holt_rand_below(&memory.rand, r->log.count);
      const void *before = r->log.entries;
      if (what < 90)
        push_some(r, what < 2 ? 3000 : 1 + holt_rand_below(&memory.rand, 40), term);
      else if (what < 94 && r->log.count > 0)
        holt__raft_log_truncate(r, last - some / 2), term++;
      else if (what < 98)
        holt__raft_log_compact(r, first - 1 + some / 4, term);
      else if (what == 98)
        holt__raft_log_compact(r, last + 5, term); /* as a snapshot does that goes beyond it */
      moves += r->log.cap > 1024 && before != r->log.entries;
      for (uint64_t i = r->log.base_index + 1; i <= holt__raft_log_last(r); i++) {
        const struct holt_raft_entry *entry = holt__raft_log_at(r, i);
        assert_int_equal(i, entry->index);
        uint64_t word = word_of(i, entry->term);
        assert_memory_equal(&word, entry->data, sizeof word);
      }
    }
    assert_true(moves > 1);
    holt__raft_log_free(r);
  }
}

static void a_long_log_is_never_copied_at_once(void **state) {
  (void)state;
  static struct holt_raft raft;
  struct memory memory = {0};
  struct holt_raft *r = &raft;
  *r = (struct holt_raft){.options = {.alloc = take_memory, .alloc_arg = &memory}};
  uint64_t before = 0;
  for (int i = 0; i < 20000; i++) {
    const struct holt_raft_entry *entries = r->log.entries;
    assert_int_equal(0, push_some(r, 10, 1));
    if (entries != r->log.entries && r->log.count > 2048) { /* room for as many again */
      assert_true(r->log.count - before > r->log.count / 4);
      before = r->log.count;
    }
    assert_true(r->log.head + r->log.count <= r->log.cap);
  }
  assert_true(memory.largest_copied <= 1024 * sizeof *r->log.entries);
  for (uint64_t first = 1; first < 190000; first += 1000) { /* what is dropped gives its room back */
    holt__raft_log_compact(r, first, 1);
    push_some(r, 10, 1);
  }
  for (int i = 0; i < 2000; i++)
    push_some(r, 1000, 1), holt__raft_log_compact(r, holt__raft_log_last(r) - 500, 1);
  assert_true(r->log.cap <= 16384);
  holt__raft_log_free(r);
}

/* --- Driver -------------------------------------------------------------------------------------------- */

struct world { /* one member of two, its world told as a line */
  struct holt_raft *raft;
  struct holt_raft_driver driver;
  char story[400];
  int persist_rc;
  uint64_t seq;
};

static void tell(struct world *w, const char *what, uint64_t number) {
  size_t at = strlen(w->story);
  snprintf(w->story + at, sizeof w->story - at, "%s%s %llu", at > 0 ? ", " : "", what,
           (unsigned long long)number);
}

static int io_persist(void *arg, const struct holt_raft_persist *p) {
  struct world *w = arg;
  w->seq = p->seq;
  tell(w, "persist", p->seq);
  return w->persist_rc;
}

static void io_send(void *arg, const struct holt_raft_message *m, struct holt_buf bytes) {
  assert_true(bytes.len > 0);
  tell(arg, m->type == HOLT_RAFT_VOTE ? (m->flags & HOLT_RAFT_PRE ? "ask" : "stand") : "send", m->to);
}

static void io_apply(void *arg, const struct holt_raft_entry *entry) {
  tell(arg, "apply", entry->index);
}

static void io_done(void *arg, const struct holt_raft_done *done) {
  tell(arg, "done", done->tag);
}

static int io_take(void *arg, const struct holt_raft_snapshot *snapshot) {
  tell(arg, "snapshot", snapshot->index);
  return 0;
}

static int io_read(void *arg, const struct holt_raft_snapshot *snapshot, uint64_t offset, uint8_t *out,
                   uint32_t *len) {
  (void)arg, (void)snapshot, (void)offset, (void)out, (void)len;
  return HOLT_ENOTFOUND;
}

static int io_part(void *arg, const struct holt_raft_part *part) {
  (void)arg, (void)part;
  return 0;
}

static const struct holt_raft_driver_io io = {.persist = io_persist,
                                              .send = io_send,
                                              .apply = io_apply,
                                              .done = io_done,
                                              .snapshot_take = io_take,
                                              .snapshot_read = io_read,
                                              .snapshot_part = io_part};

static void open_world(struct world *w, uint32_t voters, struct holt_raft_driver_options options) {
  struct holt_raft_options raft;
  *w = (struct world){0};
  holt_raft_options_default(&raft);
  raft.self = 1;
  raft.cluster = 9;
  raft.seed = 4;
  raft.election_ms = 100;
  raft.heartbeat_ms = 20;
  assert_int_equal(0, holt_raft_new(&raft, NULL, 0, &w->raft));
  options.held_bytes_max = 4096;
  holt_raft_driver_init(&w->driver, w->raft, &io, w, &options, 0);
  struct holt_raft_conf conf = {.count = voters};
  for (uint32_t i = 0; i < voters; i++)
    conf.members[i] = (struct holt_raft_member){.id = i + 1, .role = HOLT_RAFT_VOTER, .can_lead = true};
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_BOOTSTRAP, .conf = &conf};
  assert_int_equal(0, holt_raft_driver_step(&w->driver, &event));
}

static void close_world(struct world *w) {
  holt_raft_driver_close(&w->driver);
  holt_raft_free(w->raft);
}

static void a_candidate_is_heard_only_once_its_vote_is_durable(void **state) {
  (void)state;
  struct world w;
  open_world(&w, 2, (struct holt_raft_driver_options){0});
  holt_raft_driver_persisted(&w.driver, w.seq, 1);
  w.story[0] = '\0';
  holt_raft_driver_time(&w.driver, w.driver.deadline_ms);
  assert_string_equal("ask 2", w.story);
  struct holt_raft_message reply = {
      .type = HOLT_RAFT_VOTE_REPLY, .flags = HOLT_RAFT_PRE, .cluster = 9, .from = 2, .to = 1, .term = 2};
  struct holt_writer bytes = {0};
  holt_raft_message_encode(&bytes, &reply);
  w.story[0] = '\0';
  assert_int_equal(
      0, holt_raft_driver_receive(&w.driver, holt_buf(bytes.data, bytes.len), w.driver.deadline_ms - 1));
  assert_string_equal("persist 2", w.story);
  holt_raft_driver_persisted(&w.driver, 2, w.driver.deadline_ms - 1);
  assert_string_equal("persist 2, stand 2", w.story);
  holt_writer_free(&bytes);
  close_world(&w);
}

static void a_disk_that_fails_silences_the_member(void **state) {
  (void)state;
  struct world w;
  open_world(&w, 2, (struct holt_raft_driver_options){0});
  holt_raft_driver_persisted(&w.driver, w.seq, 1);
  w.story[0] = '\0';
  holt_raft_driver_disk_failed(&w.driver, 2);
  for (int i = 0; i < 5; i++) holt_raft_driver_time(&w.driver, w.driver.deadline_ms);
  assert_string_equal("", w.story);
  close_world(&w);
}

/* Alone and with a log in memory: everything happens within one call. */
static void one_member_leads_writes_applies_and_takes_snapshots(void **state) {
  (void)state;
  struct world w;
  open_world(&w, 1, (struct holt_raft_driver_options){.snapshot_entries = 3});
  w.persist_rc = 1;
  holt_raft_driver_persisted(&w.driver, w.seq, 1);
  w.story[0] = '\0';
  uint64_t now = w.driver.deadline_ms;
  holt_raft_driver_time(&w.driver, now);
  assert_string_equal("persist 2, apply 1, apply 2", w.story);
  w.story[0] = '\0';
  struct holt_raft_entry entry = {.type = HOLT_RAFT_COMMAND, .data = (const uint8_t *)"hello", .len = 5};
  struct holt_raft_event event = {
      .type = HOLT_RAFT_EV_PROPOSE, .now_ms = now, .entries = &entry, .count = 1, .tag = 55};
  assert_int_equal(0, holt_raft_driver_step(&w.driver, &event));
  assert_string_equal("persist 3, done 55, apply 3, snapshot 3", w.story);
  w.story[0] = '\0';
  assert_int_equal(0, holt_raft_driver_snapshot_taken(&w.driver, 0, 100, now));
  assert_string_equal("persist 4", w.story); /* the log now begins behind it */
  assert_int_equal(HOLT_EINVAL, holt_raft_driver_snapshot_taken(&w.driver, 0, 100, now));
  close_world(&w);
}

static void a_bounded_turn_leaves_the_rest_for_the_next(void **state) {
  (void)state;
  struct world w;
  open_world(&w, 1, (struct holt_raft_driver_options){.apply_max = 1});
  w.persist_rc = 1;
  holt_raft_driver_persisted(&w.driver, w.seq, 1);
  w.story[0] = '\0';
  uint64_t now = w.driver.deadline_ms;
  holt_raft_driver_time(&w.driver, now);
  assert_string_equal("persist 2, apply 1", w.story);
  assert_true(holt_raft_driver_has_work(&w.driver));
  holt_raft_driver_time(&w.driver, now); /* the same turn still */
  assert_string_equal("persist 2, apply 1", w.story);
  holt_raft_driver_turn(&w.driver, now);
  assert_string_equal("persist 2, apply 1, apply 2", w.story);
  assert_false(holt_raft_driver_has_work(&w.driver));
  close_world(&w);
}

static void a_large_entry_is_work_for_several(void **state) {
  (void)state;
  struct world w;
  static const uint8_t large[4096];
  open_world(&w, 1, (struct holt_raft_driver_options){.apply_max = 4});
  w.persist_rc = 1;
  holt_raft_driver_persisted(&w.driver, w.seq, 1);
  uint64_t now = w.driver.deadline_ms;
  holt_raft_driver_time(&w.driver, now);
  holt_raft_driver_turn(&w.driver, now);
  w.story[0] = '\0';
  struct holt_raft_entry entries[3] = {{.type = HOLT_RAFT_COMMAND, .data = large, .len = sizeof large},
                                       {.type = HOLT_RAFT_COMMAND, .data = large, .len = 5},
                                       {.type = HOLT_RAFT_COMMAND, .data = large, .len = 5}};
  struct holt_raft_event event = {
      .type = HOLT_RAFT_EV_PROPOSE, .now_ms = now, .entries = entries, .count = 3, .tag = 55};
  assert_int_equal(0, holt_raft_driver_step(&w.driver, &event));
  assert_string_equal("persist 3, done 55, done 56, done 57, apply 3", w.story);
  w.story[0] = '\0';
  holt_raft_driver_turn(&w.driver, now);
  assert_string_equal("apply 4, apply 5", w.story);
  close_world(&w);
}

/* Time passes before each event, and what that brings counts even if the event itself makes no sense. */
static void what_time_brings_is_done_though_the_event_makes_no_sense(void **state) {
  (void)state;
  struct world w;
  open_world(&w, 2, (struct holt_raft_driver_options){0});
  w.persist_rc = 1;
  holt_raft_driver_persisted(&w.driver, w.seq, 1);
  uint64_t now = w.driver.deadline_ms;
  holt_raft_driver_time(&w.driver, now);
  struct holt_raft_message yes = {
      .type = HOLT_RAFT_VOTE_REPLY, .flags = HOLT_RAFT_PRE, .cluster = 9, .from = 2, .to = 1, .term = 2};
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_RECEIVE, .now_ms = now, .message = &yes};
  assert_int_equal(0, holt_raft_driver_step(&w.driver, &event));
  yes.flags = 0;
  assert_int_equal(0, holt_raft_driver_step(&w.driver, &event));
  event = (struct holt_raft_event){.type = HOLT_RAFT_EV_READ, .now_ms = now, .tag = 77};
  assert_int_equal(0, holt_raft_driver_step(&w.driver, &event));
  w.story[0] = '\0';
  event = (struct holt_raft_event){.type = HOLT_RAFT_EV_SNAPSHOT_STORED, .now_ms = now + 1000};
  assert_int_equal(HOLT_EINVAL, holt_raft_driver_step(&w.driver, &event));
  assert_string_equal("done 77", w.story); /* it leads no more: the read is refused, not forgotten */
  close_world(&w);
}

static void bytes_that_are_no_message_are_refused(void **state) {
  (void)state;
  struct world w;
  open_world(&w, 1, (struct holt_raft_driver_options){0});
  assert_int_equal(HOLT_EPROTOCOL, holt_raft_driver_receive(&w.driver, holt_buf_text("nonsense"), 5));
  close_world(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_operation_is_new_once_and_answered_the_same_again),
      cmocka_unit_test(operations_may_come_in_any_order),
      cmocka_unit_test(what_is_below_low_is_forgotten_and_refused),
      cmocka_unit_test(a_client_that_is_not_open_is_refused),
      cmocka_unit_test(a_table_comes_back_from_its_bytes),
      cmocka_unit_test(a_log_keeps_its_entries_while_it_moves),
      cmocka_unit_test(a_long_log_is_never_copied_at_once),
      cmocka_unit_test(a_candidate_is_heard_only_once_its_vote_is_durable),
      cmocka_unit_test(a_disk_that_fails_silences_the_member),
      cmocka_unit_test(one_member_leads_writes_applies_and_takes_snapshots),
      cmocka_unit_test(a_bounded_turn_leaves_the_rest_for_the_next),
      cmocka_unit_test(a_large_entry_is_work_for_several),
      cmocka_unit_test(what_time_brings_is_done_though_the_event_makes_no_sense),
      cmocka_unit_test(bytes_that_are_no_message_are_refused),
  };
  return cmocka_run_group_tests_name("raft_parts", tests, NULL, NULL);
}
