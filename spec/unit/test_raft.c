/* The consensus core by itself: its bytes, what it refuses, and that it survives every allocation failing. */
#include "raft_lab.h"

/* --- Bytes -----------------------------------------------------------------------------------------------
 */

static struct holt_rand chance;

static uint64_t any_number(void) {
  static const uint64_t EDGES[] = {0, 1, 2, 255, 256, UINT32_MAX, (uint64_t)UINT32_MAX + 1, UINT64_MAX};
  uint64_t roll = holt_rand_below(&chance, 12);
  return roll < 8 ? EDGES[roll] : holt_rand_next(&chance) >> holt_rand_below(&chance, 64);
}

static void any_conf(struct holt_raft_conf *conf) {
  memset(conf, 0, sizeof *conf);
  conf->count = (uint32_t)holt_rand_below(&chance, HOLT_RAFT_MEMBERS_MAX + 1);
  conf->is_joint = holt_rand_below(&chance, 2);
  for (uint32_t i = 0; i < conf->count; i++)
    conf->members[i] = (struct holt_raft_member){
        .id = any_number() * 64 + i + 1,
        .since = any_number(),
        .replaces = any_number(),
        .role = (uint8_t)(1 + holt_rand_below(&chance, conf->is_joint ? 5 : 2)),
        .priority = (uint8_t)holt_rand_below(&chance, 11),
        .can_lead = holt_rand_below(&chance, 2),
        .will_vote = holt_rand_below(&chance, 2),
    };
}

static const uint8_t SOME_BYTES[] = "some bytes that stand for data of an entry or of a snapshot";

static void any_entries(struct holt_raft_entry *entries, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    entries[i] = (struct holt_raft_entry){
        .index = any_number(),
        .term = any_number(),
        .client = any_number(),
        .seq = any_number(),
        .low = any_number(),
        .stamp_ms = any_number(),
        .data = SOME_BYTES,
        .len = (uint32_t)holt_rand_below(&chance, sizeof SOME_BYTES),
        .type = (uint8_t)(1 + holt_rand_below(&chance, 3)),
    };
}

static struct holt_raft_message any_message(uint8_t type, struct holt_raft_entry *entries,
                                            struct holt_raft_snapshot *snapshot) {
  struct holt_raft_message m = {
      .type = type,
      .flags = (uint8_t)holt_rand_below(&chance, 8),
      .code = -(int32_t)holt_rand_below(&chance, 50),
      .cluster = any_number(),
      .from = any_number(),
      .to = any_number(),
      .term = any_number(),
      .index = any_number(),
      .log_term = any_number(),
      .commit = any_number(),
      .round = any_number(),
      .epoch = any_number(),
      .hint = any_number(),
      .hint_term = any_number(),
      .tag = any_number(),
      .offset = any_number(),
      .entries = entries,
      .count = (uint32_t)holt_rand_below(&chance, 9),
      .len = (uint32_t)holt_rand_below(&chance, sizeof SOME_BYTES),
      .data = SOME_BYTES,
      .snapshot = snapshot,
  };
  any_entries(entries, m.count);
  any_conf(&snapshot->conf);
  snapshot->index = any_number();
  snapshot->term = any_number();
  snapshot->size_bytes = any_number();
  snapshot->stamp_ms = any_number();
  snapshot->conf_index = any_number();
  return m;
}

/* A field that this type does not carry comes back as 0. */
#define SAME_OR_NONE(field) assert_true(back.field == 0 || back.field == m->field)

static void check_fields(const struct holt_raft_message *m, struct holt_raft_message back) {
  assert_int_equal(back.type, m->type);
  assert_int_equal(back.flags, m->flags);
  assert_true(back.cluster == m->cluster && back.from == m->from && back.to == m->to && back.term == m->term);
  SAME_OR_NONE(code);
  SAME_OR_NONE(index);
  SAME_OR_NONE(log_term);
  SAME_OR_NONE(commit);
  SAME_OR_NONE(round);
  SAME_OR_NONE(epoch);
  SAME_OR_NONE(hint);
  SAME_OR_NONE(hint_term);
  SAME_OR_NONE(tag);
  SAME_OR_NONE(offset);
  SAME_OR_NONE(count);
  SAME_OR_NONE(len);
  for (uint32_t i = 0; i < back.count; i++) {
    const struct holt_raft_entry *a = &back.entries[i], *b = &m->entries[i];
    assert_true(a->index == b->index && a->term == b->term && a->client == b->client && a->seq == b->seq);
    assert_true(a->low == b->low && a->stamp_ms == b->stamp_ms && a->len == b->len && a->type == b->type);
    assert_memory_equal(a->data, b->data, b->len);
  }
}

static void check_snapshot(const struct holt_raft_snapshot *a, const struct holt_raft_snapshot *b) {
  assert_true(a->index == b->index && a->term == b->term && a->size_bytes == b->size_bytes);
  assert_true(a->stamp_ms == b->stamp_ms && a->conf_index == b->conf_index);
  assert_true(a->conf.count == b->conf.count && a->conf.is_joint == b->conf.is_joint);
  for (uint32_t i = 0; i < a->conf.count; i++) {
    const struct holt_raft_member *x = &a->conf.members[i], *y = &b->conf.members[i];
    assert_true(x->id == y->id && x->since == y->since && x->replaces == y->replaces && x->role == y->role);
    assert_true(x->priority == y->priority && x->can_lead == y->can_lead && x->will_vote == y->will_vote);
  }
}

static void every_message_comes_back_as_it_was(void **state) {
  (void)state;
  static struct holt_raft_entry entries[16], entries_back[16];
  static struct holt_raft_snapshot snapshot, snapshot_back;
  holt_rand_seed(&chance, 3);
  for (unsigned i = 0; i < 20000; i++) {
    struct holt_raft_message m = any_message((uint8_t)(1 + i % (HOLT_RAFT_MESSAGE_TYPES - 1)), entries,
                                             &snapshot),
                             back;
    struct holt_writer w = {0}, again = {0};
    holt_raft_message_encode(&w, &m);
    int rc = holt_raft_message_decode(holt_buf(w.data, w.len), &back, entries_back, 16, &snapshot_back);
    assert_int_equal(rc, 0);
    check_fields(&m, back);
    if (m.type == HOLT_RAFT_SNAPSHOT) check_snapshot(&snapshot, &snapshot_back);
    holt_raft_message_encode(&again, &back);
    assert_int_equal(again.len, w.len);
    assert_memory_equal(again.data, w.data, w.len);
    holt_writer_free(&w);
    holt_writer_free(&again);
  }
}

static void a_message_cut_anywhere_or_with_a_byte_more_is_refused(void **state) {
  (void)state;
  static struct holt_raft_entry entries[16], entries_back[16];
  static struct holt_raft_snapshot snapshot, snapshot_back;
  holt_rand_seed(&chance, 4);
  for (unsigned i = 0; i < 200; i++) {
    struct holt_raft_message m = any_message((uint8_t)(1 + i % (HOLT_RAFT_MESSAGE_TYPES - 1)), entries,
                                             &snapshot),
                             back;
    struct holt_writer w = {0};
    holt_raft_message_encode(&w, &m);
    for (size_t len = 0; len < w.len; len++)
      assert_int_equal(
          holt_raft_message_decode(holt_buf(w.data, len), &back, entries_back, 16, &snapshot_back),
          HOLT_EPROTOCOL);
    holt_write_u8(&w, 0);
    assert_int_equal(
        holt_raft_message_decode(holt_buf(w.data, w.len), &back, entries_back, 16, &snapshot_back),
        HOLT_EPROTOCOL);
    holt_writer_free(&w);
  }
}

static void more_entries_than_there_is_room_for_are_too_large(void **state) {
  (void)state;
  struct holt_raft_entry entries[3] = {{.type = HOLT_RAFT_NOOP}, {.type = HOLT_RAFT_NOOP}}, back_entries[2];
  struct holt_raft_message m = {.type = HOLT_RAFT_FORWARD, .entries = entries, .count = 2}, back;
  struct holt_writer w = {0};
  holt_raft_message_encode(&w, &m);
  assert_int_equal(holt_raft_message_decode(holt_buf(w.data, w.len), &back, back_entries, 1, NULL),
                   HOLT_ETOOLARGE);
  assert_int_equal(holt_raft_message_decode(holt_buf(w.data, w.len), &back, back_entries, 2, NULL), 0);
  holt_writer_free(&w);
}

static void a_membership_that_makes_no_sense_is_refused(void **state) {
  (void)state;
  struct holt_raft_conf conf = {.count = 2}, back;
  conf.members[0] = (struct holt_raft_member){.id = 1, .role = HOLT_RAFT_VOTER, .can_lead = true};
  conf.members[1] = (struct holt_raft_member){.id = 2, .role = HOLT_RAFT_LEARNER};
  uint8_t good[HOLT_RAFT_CONF_BYTES], bytes[HOLT_RAFT_CONF_BYTES];
  size_t len = holt_raft_conf_encode(good, &conf);
  assert_int_equal(holt_raft_conf_decode(holt_buf(good, len), &back), 0);
  static const struct {
    size_t at;
    uint8_t value;
  } BAD[] = {
      {0, 3},       /* a member that is not there */
      {0, 32},      /* more than the most */
      {1, 2},       /* neither joint nor not */
      {2, 0},       /* id 0 */
      {2 + 28, 1},  /* an id twice */
      {2 + 24, 0},  /* no role */
      {2 + 24, 6},  /* an unknown one */
      {2 + 24, 3},  /* incoming, but not joint */
      {2 + 25, 11}, /* a priority above 10 */
      {2 + 26, 2},  /* neither true nor false */
      {2 + 27, 2},
  };
  for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
    memcpy(bytes, good, len);
    bytes[BAD[i].at] = BAD[i].value;
    assert_int_equal(holt_raft_conf_decode(holt_buf(bytes, len), &back), HOLT_EPROTOCOL);
  }
}

/* --- Misuse -----------------------------------------------------------------------------------------------
 */

static struct holt_raft_options some_options(void) {
  struct holt_raft_options o;
  holt_raft_options_default(&o);
  o.self = 1;
  o.cluster = 1;
  o.election_ms = 100;
  o.heartbeat_ms = 20;
  o.keep_entries = 0;
  o.chunk_bytes = 10;
  return o;
}

#define REFUSED_WITH(field, value)                                                                           \
  do {                                                                                                       \
    struct holt_raft_options bad = some_options();                                                           \
    struct holt_raft *raft;                                                                                  \
    bad.field = (value);                                                                                     \
    assert_int_equal(holt_raft_new(&bad, NULL, 0, &raft), HOLT_EINVAL);                                      \
    assert_null(raft);                                                                                       \
  } while (0)

static void options_that_make_no_sense_are_refused(void **state) {
  (void)state;
  REFUSED_WITH(self, 0);
  REFUSED_WITH(cluster, 0);
  REFUSED_WITH(election_ms, 0);
  REFUSED_WITH(heartbeat_ms, 0);
  REFUSED_WITH(heartbeat_ms, 34);
  REFUSED_WITH(append_bytes, 0);
  REFUSED_WITH(chunk_bytes, 0);
  REFUSED_WITH(inflight_messages, 0);
  REFUSED_WITH(inflight_messages, HOLT_RAFT_INFLIGHT_MAX + 1);
  REFUSED_WITH(inflight_bytes, 0);
  REFUSED_WITH(uncommitted_bytes, 0);
  REFUSED_WITH(reads_max, 0);
}

static int restore_with(uint64_t term, const struct holt_raft_snapshot *snapshot, uint64_t index1,
                        uint64_t term1, uint64_t index2, uint64_t term2) {
  struct holt_raft_entry entries[2] = {{.index = index1, .term = term1, .type = HOLT_RAFT_NOOP},
                                       {.index = index2, .term = term2, .type = HOLT_RAFT_NOOP}};
  struct holt_raft_restore restore = {.term = term, .snapshot = snapshot, .entries = entries, .count = 2};
  struct holt_raft_options o = some_options();
  struct holt_raft *raft;
  int rc = holt_raft_new(&o, &restore, 0, &raft);
  holt_raft_free(raft);
  return rc;
}

static void a_log_with_gaps_or_terms_that_go_back_is_refused(void **state) {
  (void)state;
  struct holt_raft_snapshot at5 = {.index = 5, .term = 2}, at0 = {.index = 0},
                            ahead = {.index = 5, .term = 9};
  assert_int_equal(restore_with(3, NULL, 1, 1, 2, 3), 0);
  assert_int_equal(restore_with(3, NULL, 1, 1, 3, 3), HOLT_EINVAL);   /* a gap */
  assert_int_equal(restore_with(3, NULL, 2, 1, 3, 1), HOLT_EINVAL);   /* does not begin at 1 */
  assert_int_equal(restore_with(3, NULL, 1, 2, 2, 1), HOLT_EINVAL);   /* the term goes back */
  assert_int_equal(restore_with(2, NULL, 1, 1, 2, 3), HOLT_EINVAL);   /* beyond the member's term */
  assert_int_equal(restore_with(3, &at5, 6, 2, 7, 3), 0);             /* behind a snapshot */
  assert_int_equal(restore_with(3, &at5, 5, 2, 6, 2), HOLT_EINVAL);   /* inside it */
  assert_int_equal(restore_with(3, &at5, 6, 1, 7, 3), HOLT_EINVAL);   /* older than its term */
  assert_int_equal(restore_with(3, &at0, 1, 1, 2, 1), HOLT_EINVAL);   /* of nothing */
  assert_int_equal(restore_with(3, &ahead, 6, 9, 7, 9), HOLT_EINVAL); /* beyond the member's term */
}

static struct holt_raft_conf voters(unsigned count) {
  struct holt_raft_conf conf = {.count = count};
  for (unsigned i = 0; i < count && i < HOLT_RAFT_MEMBERS_MAX; i++)
    conf.members[i] = (struct holt_raft_member){.id = i + 1, .role = HOLT_RAFT_VOTER, .can_lead = true};
  return conf;
}

static int step(struct holt_raft *raft, struct holt_raft_event event) {
  struct holt_raft_update update;
  return holt_raft_step(raft, &event, &update);
}

static void a_cluster_begins_once_and_only_with_sense(void **state) {
  (void)state;
  struct holt_raft_options o = some_options();
  struct holt_raft *raft;
  assert_int_equal(holt_raft_new(&o, NULL, 0, &raft), 0);
  struct holt_raft_event begin = {.type = HOLT_RAFT_EV_BOOTSTRAP};
  struct holt_raft_conf bad = voters(2);
  begin.conf = &bad;
  bad.members[0].id = 9; /* this member is not in it */
  assert_int_equal(step(raft, begin), HOLT_EINVAL);
  bad = voters(2);
  bad.is_joint = true;
  assert_int_equal(step(raft, begin), HOLT_EINVAL);
  bad = voters(2);
  bad.members[1].id = 1;
  assert_int_equal(step(raft, begin), HOLT_EINVAL);
  bad = voters(HOLT_RAFT_MEMBERS_MAX + 1);
  assert_int_equal(step(raft, begin), HOLT_EINVAL);
  bad = voters(HOLT_RAFT_MEMBERS_MAX);
  assert_int_equal(step(raft, begin), 0);
  assert_int_equal(step(raft, begin), HOLT_EINVAL);
  holt_raft_free(raft);
}

static void events_that_make_no_sense_are_refused(void **state) {
  (void)state;
  struct holt_raft_options o = some_options();
  struct holt_raft *raft;
  struct holt_raft_conf conf = voters(3);
  struct holt_raft_entry noop = {.type = HOLT_RAFT_NOOP};
  struct holt_raft_snapshot snapshot = {.index = 1, .term = 1};
  assert_int_equal(holt_raft_new(&o, NULL, 0, &raft), 0);
  assert_int_equal(step(raft, (struct holt_raft_event){.type = HOLT_RAFT_EV_BOOTSTRAP, .conf = &conf}), 0);
  assert_int_equal(step(raft, (struct holt_raft_event){.type = 0}), HOLT_EINVAL);
  assert_int_equal(step(raft, (struct holt_raft_event){.type = 99}), HOLT_EINVAL);
  assert_int_equal(step(raft, (struct holt_raft_event){.type = HOLT_RAFT_EV_PERSISTED, .seq = 2}),
                   HOLT_EINVAL);
  assert_int_equal(step(raft, (struct holt_raft_event){.type = HOLT_RAFT_EV_APPLIED, .index = 1}),
                   HOLT_EINVAL);
  assert_int_equal(
      step(raft, (struct holt_raft_event){.type = HOLT_RAFT_EV_SNAPSHOT_TAKEN, .snapshot = &snapshot}),
      HOLT_EINVAL);
  assert_int_equal(step(raft, (struct holt_raft_event){.type = HOLT_RAFT_EV_SNAPSHOT_STORED}), HOLT_EINVAL);
  assert_int_equal(step(raft, (struct holt_raft_event){.type = HOLT_RAFT_EV_PROPOSE}), HOLT_EINVAL);
  assert_int_equal(
      step(raft, (struct holt_raft_event){.type = HOLT_RAFT_EV_PROPOSE, .entries = &noop, .count = 1}),
      HOLT_EINVAL);
  holt_raft_free(raft);
}

static void messages_for_others_are_refused_and_counted(void **state) {
  (void)state;
  struct holt_raft_options o = some_options();
  struct holt_raft *raft;
  struct holt_raft_status s;
  assert_int_equal(holt_raft_new(&o, NULL, 0, &raft), 0);
  const struct holt_raft_message good = {
      .type = HOLT_RAFT_HEARTBEAT, .cluster = 1, .from = 2, .to = 1, .term = 1};
  struct holt_raft_message bad[8];
  for (size_t i = 0; i < 8; i++) bad[i] = good;
  bad[0].cluster = 2;
  bad[1].to = 3;
  bad[2].from = 0;
  bad[3].from = 1;
  bad[4].type = 0;
  bad[5].type = HOLT_RAFT_MESSAGE_TYPES;
  bad[6].type = HOLT_RAFT_APPEND;
  bad[6].count = 1; /* and no entries */
  bad[7].type = HOLT_RAFT_SNAPSHOT;
  for (size_t i = 0; i < 8; i++) {
    assert_int_equal(step(raft, (struct holt_raft_event){.type = HOLT_RAFT_EV_RECEIVE, .message = &bad[i]}),
                     0);
    holt_raft_status(raft, &s);
    assert_int_equal(s.refused_messages, i + 1);
    assert_int_equal(s.term, 0);
  }
  assert_int_equal(step(raft, (struct holt_raft_event){.type = HOLT_RAFT_EV_RECEIVE, .message = &good}), 0);
  holt_raft_status(raft, &s);
  assert_int_equal(s.refused_messages, 8);
  assert_int_equal(s.leader, 2);
  holt_raft_free(raft);
}

/* --- No memory --------------------------------------------------------------------------------------------
 */

/* Counts what is held and fails when told to. */
static struct {
  size_t held_bytes, held_blocks;
  uint64_t count, fail_at; /* fail_at: the allocation that fails; 0: none */
  uint64_t one_in;         /* or each with this chance */
  unsigned failed;
} memory;

static void *counting_alloc(void *arg, void *old, size_t size_bytes) {
  (void)arg;
  size_t *block = old ? (size_t *)old - 2 : NULL;
  if (size_bytes == 0) {
    if (!block) return NULL;
    memory.held_bytes -= block[0];
    memory.held_blocks--;
    free(block);
    return NULL;
  }
  memory.count++;
  if (memory.count == memory.fail_at || (memory.one_in && holt_rand_below(&chance, memory.one_in) == 0)) {
    memory.failed++;
    return NULL;
  }
  size_t before = block ? block[0] : 0;
  size_t *grown = malloc(size_bytes + 2 * sizeof(size_t)); /* always moves: stale pointers show */
  HOLT_ASSERT(grown);
  if (block) {
    memcpy(grown + 2, block + 2, before < size_bytes ? before : size_bytes);
    free(block);
  } else {
    memory.held_blocks++;
  }
  grown[0] = size_bytes;
  memory.held_bytes += size_bytes - before;
  return grown + 2;
}

static void start(struct lab_node *n) {
  while (lab_start(n) == HOLT_ENOMEM) lab.out_of_memory++;
}

static struct lab_node *leader(void) {
  struct lab_node *found = NULL;
  for (unsigned id = 1; id <= LAB_NODES; id++)
    if (lab.nodes[id].is_up && lab.nodes[id].role == HOLT_RAFT_LEADER &&
        (!found || lab.nodes[id].term > found->term))
      found = &lab.nodes[id];
  return found;
}

/* Time passes for all, and what was lost is found. */
static void pass(unsigned rounds) {
  for (unsigned i = 0; i < rounds; i++) {
    for (unsigned id = 1; id <= LAB_NODES; id++)
      if (lab.nodes[id].is_up) lab_tick(&lab.nodes[id], 10);
    assert_true(lab_stabilize(NULL));
  }
}

static struct lab_node *wait_for_leader(void) {
  for (unsigned i = 0; i < 200 && !leader(); i++) pass(1);
  assert_non_null(leader());
  return leader();
}

static bool have_all_applied(const char *text) {
  for (unsigned id = 1; id <= LAB_NODES; id++) {
    struct lab_node *n = &lab.nodes[id];
    bool is_member = n->is_up && leader() && !lab.is_cut[id][id == 1 ? 2 : 1];
    if (is_member && !strstr(n->state, text)) return false;
  }
  return true;
}

/* Proposed at whoever leads until every member that is not cut off has applied it. */
static void propose_until_applied(const char *text) {
  struct holt_raft_entry entry = {
      .type = HOLT_RAFT_COMMAND, .data = (const uint8_t *)text, .len = (uint32_t)strlen(text)};
  for (unsigned i = 0; i < 100 && !have_all_applied(text); i++) {
    struct lab_node *n = wait_for_leader();
    if (!strstr(n->state, text))
      lab_step(n, (struct holt_raft_event){
                      .type = HOLT_RAFT_EV_PROPOSE, .entries = &entry, .count = 1, .tag = ++lab.next_tag});
    for (unsigned k = 0; k < 20 && !have_all_applied(text); k++) pass(1);
  }
  assert_true(have_all_applied(text));
}

static void read_until_answered(struct lab_node *n) {
  unsigned before = lab.answered;
  for (unsigned i = 0; i < 100 && lab.answered == before; i++) {
    lab_step(n, (struct holt_raft_event){.type = HOLT_RAFT_EV_READ, .tag = ++lab.next_tag});
    pass(3);
  }
  assert_true(lab.answered > before);
}

static const struct holt_raft_member *member(struct lab_node *at, uint64_t id) {
  const struct holt_raft_conf *conf = holt_raft_conf(at->raft);
  for (uint32_t i = 0; i < conf->count; i++)
    if (conf->members[i].id == id) return &conf->members[i];
  return NULL;
}

static bool is_replaced(uint64_t id, uint64_t replaces) {
  struct lab_node *n = wait_for_leader();
  return member(n, id) && member(n, id)->role == HOLT_RAFT_VOTER && !member(n, replaces);
}

static void replace_until_done(uint64_t id, uint64_t replaces) {
  struct holt_raft_change change = {.type = HOLT_RAFT_ADD, .can_lead = true, .id = id, .replaces = replaces};
  for (unsigned i = 0; i < 100 && !is_replaced(id, replaces); i++) {
    if (!member(leader(), id))
      lab_step(leader(),
               (struct holt_raft_event){
                   .type = HOLT_RAFT_EV_CHANGE, .changes = &change, .count = 1, .tag = ++lab.next_tag});
    pass(10);
  }
  assert_true(is_replaced(id, replaces));
}

/* More at once than the log has room for. */
static void propose_many(void) {
  struct holt_raft_entry entries[100];
  for (size_t i = 0; i < 100; i++)
    entries[i] = (struct holt_raft_entry){.type = HOLT_RAFT_COMMAND, .data = (const uint8_t *)"z", .len = 1};
  lab_step(wait_for_leader(),
           (struct holt_raft_event){
               .type = HOLT_RAFT_EV_PROPOSE, .entries = entries, .count = 100, .tag = ++lab.next_tag});
  lab.next_tag += 100;
}

static void scenario(void) {
  struct holt_raft_options o = some_options();
  struct holt_raft_conf conf = voters(3);
  o.alloc = counting_alloc;
  lab_close();
  for (unsigned id = 1; id <= 4; id++) {
    start(lab_add(id, &o));
    if (id < 4)
      lab_step(&lab.nodes[id], (struct holt_raft_event){.type = HOLT_RAFT_EV_BOOTSTRAP, .conf = &conf});
  }
  struct lab_node *first = wait_for_leader();
  lab_crash(&lab.nodes[4]);
  propose_until_applied("a");
  propose_many();
  propose_until_applied("A");
  /* One falls behind and needs a snapshot. */
  unsigned away = first->id == 3 ? 2 : 3;
  for (unsigned id = 1; id <= LAB_NODES; id++) lab.is_cut[away][id] = lab.is_cut[id][away] = true;
  propose_until_applied("b");
  propose_until_applied("c");
  struct lab_node *n = wait_for_leader();
  lab_take_snapshot(n, n->applied);
  memset(lab.is_cut, 0, sizeof lab.is_cut);
  propose_until_applied("d");
  for (unsigned id = 1; id <= 3; id++) read_until_answered(&lab.nodes[id]);
  /* Another takes the place of one; leadership moves; one restarts. */
  start(&lab.nodes[4]);
  replace_until_done(4, away);
  lab_crash(&lab.nodes[away]);
  propose_until_applied("e");
  n = wait_for_leader();
  lab_step(n, (struct holt_raft_event){.type = HOLT_RAFT_EV_TRANSFER});
  pass(10);
  n = wait_for_leader();
  lab_crash(n);
  pass(5);
  start(n);
  propose_until_applied("f");
  pass(10);
  assert_int_equal(lab.broken, 0);
  for (unsigned id = 1; id <= 4; id++)
    if (lab.nodes[id].is_up) assert_string_equal(lab.nodes[id].state, wait_for_leader()->state);
  lab_close();
  assert_int_equal(memory.held_blocks, 0);
  assert_int_equal(memory.held_bytes, 0);
}

static void every_allocation_may_fail_once(void **state) {
  (void)state;
  uint64_t tried = 0;
  memset(&memory, 0, sizeof memory);
  do {
    memory.count = 0;
    memory.failed = 0;
    memory.fail_at = ++tried;
    scenario();
  } while (memory.failed > 0);
  printf("%u allocations, each failed once\n", (unsigned)tried - 1);
  assert_true(tried > 100);
}

static void allocations_may_fail_at_any_time(void **state) {
  (void)state;
  memset(&memory, 0, sizeof memory);
  unsigned failed = 0;
  for (uint64_t seed = 1; seed <= 200; seed++) {
    holt_rand_seed(&chance, seed);
    memory.one_in = 150 + seed % 300; /* one append has a hundred, all or nothing */
    memory.failed = 0;
    scenario();
    failed += memory.failed;
  }
  printf("%u allocations failed\n", failed);
  assert_true(failed > 300);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_message_comes_back_as_it_was),
      cmocka_unit_test(a_message_cut_anywhere_or_with_a_byte_more_is_refused),
      cmocka_unit_test(more_entries_than_there_is_room_for_are_too_large),
      cmocka_unit_test(a_membership_that_makes_no_sense_is_refused),
      cmocka_unit_test(options_that_make_no_sense_are_refused),
      cmocka_unit_test(a_log_with_gaps_or_terms_that_go_back_is_refused),
      cmocka_unit_test(a_cluster_begins_once_and_only_with_sense),
      cmocka_unit_test(events_that_make_no_sense_are_refused),
      cmocka_unit_test(messages_for_others_are_refused_and_counted),
      cmocka_unit_test(every_allocation_may_fail_once),
      cmocka_unit_test(allocations_may_fail_at_any_time),
  };
  return cmocka_run_group_tests_name("raft", tests, NULL, NULL);
}
