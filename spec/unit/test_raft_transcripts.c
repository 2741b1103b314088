/* Transcripts of raft/: every file of spec/raft is a story in commands, and what the members did at each.
 *
 * A line that begins with "> " is a command, one that begins with two spaces is what must have happened, any
 * other is prose. HOLT_REWRITE=1 writes what did happen into the files, to be read as a diff. The commands
 * are in COMMANDS below. "quietly" at the end of one leaves its lines out. */
#include <dirent.h>

#include "raft_lab.h"

enum { WORDS_MAX = 40 };

struct command {
  unsigned count; /* words, the name included */
  char *word[WORDS_MAX];
};

static struct words trace;

#define COMMAND_FAILS(...) fail_msg(__VA_ARGS__)

/* --- Words of a command --------------------------------------------------------------------------------- */

static unsigned node_id(const char *word) {
  unsigned id = 0;
  if (sscanf(word, "n%u", &id) != 1 || id == 0 || id > LAB_NODES) return 0;
  return id;
}

static struct lab_node *node(const struct command *c, unsigned at) {
  unsigned id = at < c->count ? node_id(c->word[at]) : 0;
  if (!id || !lab.nodes[id].exists) COMMAND_FAILS("%s: no such member: %s", c->word[0], c->word[at]);
  return &lab.nodes[id];
}

static struct lab_node *live_node(const struct command *c, unsigned at) {
  struct lab_node *n = node(c, at);
  if (!n->is_up) COMMAND_FAILS("%s: %s is not up", c->word[0], c->word[at]);
  return n;
}

/* The members named from `at` on, all when none is. Returns where the names end. */
static unsigned nodes_named(const struct command *c, unsigned at, bool who[LAB_NODES + 1]) {
  memset(who, 0, (LAB_NODES + 1) * sizeof who[0]);
  unsigned begin = at;
  for (; at < c->count && node_id(c->word[at]); at++) who[node_id(c->word[at])] = true;
  if (at == begin && at < c->count && strcmp(c->word[at], "all") == 0) at++, begin = at;
  for (unsigned id = 1; at == begin && id <= LAB_NODES; id++) who[id] = lab.nodes[id].exists;
  return at;
}

/* The number after `key=` somewhere in the command. */
static uint64_t number_of(const struct command *c, const char *key, uint64_t otherwise) {
  size_t len = strlen(key);
  for (unsigned i = 1; i < c->count; i++)
    if (strncmp(c->word[i], key, len) == 0 && c->word[i][len] == '=')
      return strtoull(c->word[i] + len + 1 + (c->word[i][len + 1] == 'n'), NULL, 10);
  return otherwise;
}

static bool has_word(const struct command *c, const char *word) {
  for (unsigned i = 1; i < c->count; i++)
    if (strcmp(c->word[i], word) == 0) return true;
  return false;
}

/* --- A room of members -----------------------------------------------------------------------------------
 */

static struct holt_raft_options options_of(const struct command *c) {
  struct holt_raft_options o;
  holt_raft_options_default(&o);
  o.cluster = 1;
  o.election_ms = (uint32_t)number_of(c, "election", 100);
  o.heartbeat_ms = (uint32_t)number_of(c, "heartbeat", 20);
  o.keep_entries = (uint32_t)number_of(c, "keep", 0);
  o.chunk_bytes = (uint32_t)number_of(c, "chunk", 10);
  o.append_bytes = (uint32_t)number_of(c, "append", 1000);
  o.inflight_messages = (uint32_t)number_of(c, "inflight", 8);
  o.uncommitted_bytes = (uint32_t)number_of(c, "uncommitted", 1000);
  o.reads_max = (uint32_t)number_of(c, "reads", 100);
  o.lease_reads = has_word(c, "lease");
  return o;
}

static void first_conf(struct holt_raft_conf *conf, unsigned count) {
  memset(conf, 0, sizeof *conf);
  conf->count = count;
  for (unsigned i = 0; i < count; i++)
    conf->members[i] =
        (struct holt_raft_member){.id = i + 1, .since = 1, .role = HOLT_RAFT_VOTER, .can_lead = true};
}

/* nodes COUNT [election= heartbeat= keep= chunk= append= inflight= uncommitted= reads=] [lease]
 *       [learner=n3] [follower=n3] [first=n1]: members of one new cluster; entry 1 is on their disks. */
static void do_nodes(const struct command *c) {
  unsigned count = (unsigned)strtoul(c->word[1], NULL, 10);
  struct holt_raft_options o = options_of(c);
  struct holt_raft_conf conf;
  first_conf(&conf, count);
  uint64_t learner = number_of(c, "learner", 0), follower = number_of(c, "follower", 0);
  uint64_t first = number_of(c, "first", 0);
  if (learner) conf.members[learner - 1].role = HOLT_RAFT_LEARNER;
  if (follower) conf.members[follower - 1].can_lead = false;
  if (first) conf.members[first - 1].priority = 2;
  for (unsigned id = 1; id <= count; id++) {
    struct lab_node *n = lab_add(id, &o);
    HOLT_ASSERT(lab_start(n) == 0);
    lab_step(n, (struct holt_raft_event){.type = HOLT_RAFT_EV_BOOTSTRAP, .conf = &conf});
    lab_persist(n, n->pending_count);
  }
}

/* node n4 [options]: a member with nothing. */
static void do_node(const struct command *c) {
  struct holt_raft_options o = options_of(c);
  HOLT_ASSERT(lab_start(lab_add(node_id(c->word[1]), &o)) == 0);
}

/* log-of n1 T8 1 1 1 4 4: as after a restart with these terms in the log; entry 1 names members n1 to nN,
 * N as many as there are. */
static void do_log_of(const struct command *c) {
  struct lab_node *n = live_node(c, 1);
  struct holt_raft_conf conf;
  uint8_t bytes[HOLT_RAFT_CONF_BYTES];
  unsigned members = 0;
  for (unsigned id = 1; id <= LAB_NODES; id++) members += lab.nodes[id].exists;
  first_conf(&conf, members);
  lab_crash(n);
  lab_disk_free(&n->disk);
  n->disk.term = strtoull(c->word[2] + 1, NULL, 10);
  for (unsigned i = 3; i < c->count; i++) {
    char name[32];
    uint64_t index = i - 2, term = strtoull(c->word[i], NULL, 10);
    int len = snprintf(name, sizeof name, "x%u.%u", (unsigned)index, (unsigned)term);
    struct holt_raft_entry e = {.index = index,
                                .term = term,
                                .type = HOLT_RAFT_COMMAND,
                                .data = (uint8_t *)name,
                                .len = (uint32_t)len};
    if (index == 1) {
      e.type = HOLT_RAFT_CONF;
      e.data = bytes;
      e.len = (uint32_t)holt_raft_conf_encode(bytes, &conf);
    }
    lab_disk_add(&n->disk, &e, 1);
  }
  HOLT_ASSERT(lab_start(n) == 0);
}

static void do_crash(const struct command *c) {
  struct lab_node *n = node(c, 1);
  size_t after = (size_t)number_of(c, "after", 0); /* these persists reached the disk, unknown to it */
  if (after > n->pending_count)
    COMMAND_FAILS("crash: only %u writes are pending", (unsigned)n->pending_count);
  lab_persist_silently(n, after);
  lab_crash(n);
}

static void do_restart(const struct command *c) {
  struct lab_node *n = node(c, 1);
  if (n->is_up) COMMAND_FAILS("restart: it is up");
  int rc = lab_start(n);
  if (rc != 0) lab_tell("n%u says %s", (unsigned)n->id, holt_err_word(rc));
}

/* --- Time ------------------------------------------------------------------------------------------------
 */

/* campaign n1: its election time-out passes. */
static void do_campaign(const struct command *c) {
  struct lab_node *n = live_node(c, 1);
  if (n->deadline_ms > n->now_ms) n->now_ms = n->deadline_ms;
  lab_step(n, (struct holt_raft_event){.type = HOLT_RAFT_EV_TIME});
}

/* tick n1 n2 50: time passes and they act on it; sleep: time passes, nothing runs. */
static void do_tick(const struct command *c) {
  bool who[LAB_NODES + 1];
  unsigned at = nodes_named(c, 1, who);
  uint64_t ms = strtoull(c->word[at], NULL, 10);
  bool is_sleep = strcmp(c->word[0], "sleep") == 0;
  for (unsigned id = 1; id <= LAB_NODES; id++) {
    if (!who[id]) continue;
    if (is_sleep || !lab.nodes[id].is_up)
      lab.nodes[id].now_ms += ms;
    else
      lab_tick(&lab.nodes[id], ms);
  }
}

/* --- Callers ---------------------------------------------------------------------------------------------
 */

static void do_propose(const struct command *c) {
  struct lab_node *n = live_node(c, 1);
  struct holt_raft_entry entries[WORDS_MAX] = {0};
  size_t count = 0;
  for (unsigned i = 2; i < c->count; i++, count++)
    entries[count] = (struct holt_raft_entry){.type = HOLT_RAFT_COMMAND,
                                              .client = 1,
                                              .seq = lab.next_tag + count + 1,
                                              .data = (const uint8_t *)c->word[i],
                                              .len = (uint32_t)strlen(c->word[i])};
  lab_step(n, (struct holt_raft_event){
                  .type = HOLT_RAFT_EV_PROPOSE, .entries = entries, .count = count, .tag = lab.next_tag + 1});
  lab.next_tag += count;
}

static void do_read(const struct command *c) {
  lab_step(live_node(c, 1), (struct holt_raft_event){.type = HOLT_RAFT_EV_READ, .tag = ++lab.next_tag});
}

/* change n1 add n4 [for n3] | learner n4 | remove n3 | demote n3 | set n3 [priority=2] [follower], "and" */
static void do_change(const struct command *c) {
  static const char *TYPES[] = {"", "add", "learner", "remove", "demote", "set"};
  struct holt_raft_change changes[8];
  size_t count = 0;
  for (unsigned i = 2; i < c->count; i++) {
    struct holt_raft_change *change = &changes[count];
    memset(change, 0, sizeof *change);
    for (uint8_t t = HOLT_RAFT_ADD; t <= HOLT_RAFT_SET; t++)
      if (strcmp(c->word[i], TYPES[t]) == 0) change->type = t;
    if (!change->type || i + 1 >= c->count) COMMAND_FAILS("change: what is %s?", c->word[i]);
    change->id = node_id(c->word[++i]);
    change->can_lead = true;
    for (i++; i < c->count && strcmp(c->word[i], "and") != 0; i++) {
      if (strcmp(c->word[i], "for") == 0) change->replaces = node_id(c->word[++i]);
      if (strcmp(c->word[i], "follower") == 0) change->can_lead = false;
      if (strncmp(c->word[i], "priority=", 9) == 0) change->priority = (uint8_t)atoi(c->word[i] + 9);
    }
    count++;
  }
  lab_step(live_node(c, 1),
           (struct holt_raft_event){
               .type = HOLT_RAFT_EV_CHANGE, .changes = changes, .count = count, .tag = ++lab.next_tag});
}

static void do_event(const struct command *c) {
  static const struct {
    const char *name;
    enum holt_raft_event_type type;
  } EVENTS[] = {{"transfer", HOLT_RAFT_EV_TRANSFER},
                {"step-down", HOLT_RAFT_EV_STEP_DOWN},
                {"fail-disk", HOLT_RAFT_EV_DISK_FAILED},
                {"unreachable", HOLT_RAFT_EV_UNREACHABLE},
                {"gone", HOLT_RAFT_EV_SNAPSHOT_GONE}};
  for (size_t i = 0; i < sizeof EVENTS / sizeof EVENTS[0]; i++)
    if (strcmp(EVENTS[i].name, c->word[0]) == 0)
      lab_step(live_node(c, 1), (struct holt_raft_event){.type = EVENTS[i].type,
                                                         .id = c->count > 2 ? node_id(c->word[2]) : 0});
}

/* --- Disk ------------------------------------------------------------------------------------------------
 */

static void do_persist(const struct command *c) {
  bool who[LAB_NODES + 1];
  unsigned at = nodes_named(c, 1, who);
  size_t most = at < c->count ? strtoul(c->word[at], NULL, 10) : 64;
  for (unsigned id = 1; id <= LAB_NODES; id++)
    if (who[id] && lab.nodes[id].is_up) lab_persist(&lab.nodes[id], most);
}

static void do_apply(const struct command *c) {
  bool who[LAB_NODES + 1];
  nodes_named(c, 1, who);
  for (unsigned id = 1; id <= LAB_NODES; id++)
    if (who[id]) lab_apply(&lab.nodes[id]);
}

/* snapshot n1 5 [bytes=30]: taken there of everything up to 5, and durable. */
static void do_snapshot(const struct command *c) {
  lab.snapshot_bytes = (uint32_t)number_of(c, "bytes", 20);
  lab_take_snapshot(live_node(c, 1), strtoull(c->word[2], NULL, 10));
}

static void do_store(const struct command *c) {
  if (!lab_store(live_node(c, 1), has_word(c, "fails") ? HOLT_EIO : 0))
    COMMAND_FAILS("store: nothing to store");
}

/* --- Network ---------------------------------------------------------------------------------------------
 */

static bool is_wanted(const struct command *c, const struct lab_message *m, bool is_parked_wanted) {
  if (m->is_parked != is_parked_wanted) return false;
  struct holt_raft_message message = lab_decode(m);
  for (unsigned i = 1; i < c->count; i++) {
    unsigned from, to;
    const char *word = c->word[i];
    if (strcmp(word, "first") == 0 || strcmp(word, "last") == 0) continue;
    if (sscanf(word, "n%u>n%u", &from, &to) == 2) {
      if (m->from != from || m->to != to) return false;
    } else if (sscanf(word, ">n%u", &to) == 1) {
      if (m->to != to) return false;
    } else if (sscanf(word, "n%u>", &from) == 1) {
      if (m->from != from) return false;
    } else if (strcmp(word, words_type(&message)) != 0) {
      return false;
    }
  }
  return true;
}

/* deliver | drop | double | park | unpark [n1>n2] [n1>] [>n2] [type] [first | last]: of the messages that
 * wait now, in order. */
static void do_messages(const struct command *c) {
  const char *verb = c->word[0];
  size_t chosen[LAB_QUEUE], count = 0;
  for (size_t i = 0; i < lab.net_count; i++)
    if (is_wanted(c, &lab.net[i], strcmp(verb, "unpark") == 0)) chosen[count++] = i;
  if (count == 0 && strcmp(verb, "drop") != 0)
    COMMAND_FAILS("%s: no such message waits (behind: %s)", verb,
                  trace.len > 200 ? trace.text + trace.len - 200 : "");
  if (has_word(c, "first")) count = 1;
  if (has_word(c, "last")) {
    chosen[0] = chosen[count - 1];
    count = 1;
  }
  size_t gone = 0;
  for (size_t i = 0; i < count; i++) {
    size_t at = chosen[i] - gone;
    struct lab_message *m = &lab.net[at];
    if (strcmp(verb, "deliver") == 0) {
      lab_deliver(at);
      gone++;
    } else if (strcmp(verb, "drop") == 0) {
      lab_message_free(m);
      lab_queue_remove(lab.net, &lab.net_count, at);
      gone++;
    } else if (strcmp(verb, "double") == 0) {
      struct holt_raft_message message = lab_decode(m);
      lab_send(lab_encode(&message));
    } else {
      m->is_parked = strcmp(verb, "park") == 0;
    }
  }
}

/* cut n1 | cut n1>n2: what is sent there is lost; heal: nothing is any more. */
static void do_cut(const struct command *c) {
  for (unsigned i = 1; i < c->count; i++) {
    unsigned from, to;
    if (sscanf(c->word[i], "n%u>n%u", &from, &to) == 2) {
      lab.is_cut[from][to] = true;
      continue;
    }
    unsigned id = node_id(c->word[i]);
    for (unsigned other = 1; other <= LAB_NODES; other++)
      lab.is_cut[id][other] = lab.is_cut[other][id] = true;
  }
}

static void do_heal(const struct command *c) {
  (void)c;
  memset(lab.is_cut, 0, sizeof lab.is_cut);
}

static void do_stabilize(const struct command *c) {
  bool who[LAB_NODES + 1];
  nodes_named(c, 1, who);
  if (!lab_stabilize(who)) lab_broken("it never comes to rest");
}

/* send n1>n2 TYPE T5 [index= term= commit= round= epoch= hint= hint_term= tag= offset= code=] [no] [pre]
 *      [transfer] [entry=4 …: terms of entries]: a message that nobody sent. */
static void do_send(const struct command *c) {
  static const char *TYPES[] = {"",     "append",   "append-ok", "heartbeat",     "heartbeat-ok",
                                "vote", "vote-yes", "snapshot",  "snapshot-want", "timeout-now",
                                "read", "read-ok",  "forward",   "forward-ok"};
  struct holt_raft_message m = {.cluster = number_of(c, "cluster", 1)};
  struct holt_raft_entry entries[WORDS_MAX] = {0};
  struct holt_raft_snapshot snapshot = {.index = number_of(c, "index", 0), .term = number_of(c, "term", 0)};
  unsigned from, to;
  if (sscanf(c->word[1], "n%u>n%u", &from, &to) != 2) COMMAND_FAILS("send: from and to?");
  for (uint8_t t = 1; t < HOLT_RAFT_MESSAGE_TYPES; t++)
    if (strcmp(c->word[2], TYPES[t]) == 0) m.type = t;
  if (!m.type) COMMAND_FAILS("send: what is %s?", c->word[2]);
  m.from = from;
  m.to = to;
  m.term = strtoull(c->word[3] + 1, NULL, 10);
  m.index = number_of(c, "index", 0);
  m.log_term = number_of(c, "term", 0);
  m.commit = number_of(c, "commit", 0);
  m.round = number_of(c, "round", 0);
  m.epoch = number_of(c, "epoch", 1);
  m.hint = number_of(c, "hint", 0);
  m.hint_term = number_of(c, "hint_term", 0);
  m.tag = number_of(c, "tag", 0);
  m.offset = number_of(c, "offset", 0);
  m.code = -(int32_t)number_of(c, "code", 0);
  m.flags = (uint8_t)((has_word(c, "pre") ? HOLT_RAFT_PRE : 0) | (has_word(c, "no") ? HOLT_RAFT_REJECT : 0) |
                      (has_word(c, "transfer") ? HOLT_RAFT_TRANSFER : 0));
  for (unsigned i = 4; i < c->count; i++) {
    if (strncmp(c->word[i], "entry=", 6) != 0) continue;
    entries[m.count] = (struct holt_raft_entry){.index = m.index + 1 + m.count,
                                                .term = strtoull(c->word[i] + 6, NULL, 10),
                                                .type = HOLT_RAFT_COMMAND,
                                                .data = (const uint8_t *)"x",
                                                .len = 1};
    m.count++;
  }
  m.entries = entries;
  snapshot.size_bytes = number_of(c, "size", 10);
  first_conf(&snapshot.conf, (unsigned)number_of(c, "members", 3));
  snapshot.conf_index = 1;
  m.snapshot = &snapshot;
  if (m.type == HOLT_RAFT_SNAPSHOT) m.len = (uint32_t)number_of(c, "len", snapshot.size_bytes);
  struct lab_message sent = lab_encode(&m);
  lab.net[lab.net_count++] = sent;
}

/* --- Questions -------------------------------------------------------------------------------------------
 */

static void tell_status(struct lab_node *n) {
  static const char *ROLES[] = {"follower", "pre-candidate", "candidate", "leader"};
  struct holt_raft_status s;
  if (!n->is_up) {
    lab_tell("n%u is down", (unsigned)n->id);
    return;
  }
  holt_raft_status(n->raft, &s);
  words_add(lab.trace, "  n%u %s T%u", (unsigned)n->id, ROLES[s.role], (unsigned)s.term);
  if (s.role == HOLT_RAFT_FOLLOWER && s.leader) words_add(lab.trace, " of n%u", (unsigned)s.leader);
  if (s.vote) words_add(lab.trace, " vote n%u", (unsigned)s.vote);
  words_add(lab.trace, ", last %u stable %u commit %u applied %u", (unsigned)s.last, (unsigned)s.stable,
            (unsigned)s.commit, (unsigned)s.applied);
  if (s.snapshot_index) words_add(lab.trace, " snapshot %u", (unsigned)s.snapshot_index);
  if (s.sending_index) words_add(lab.trace, " sending %u", (unsigned)s.sending_index);
  if (s.is_installing) words_add(lab.trace, " installing");
  if (s.is_failed) words_add(lab.trace, " failed");
  words_add(lab.trace, ": \"%s\"\n", n->state);
}

static void tell_log(struct lab_node *n) {
  struct holt_raft_status s;
  if (!n->is_up) return;
  holt_raft_status(n->raft, &s);
  words_add(lab.trace, "  n%u", (unsigned)n->id);
  if (s.first > 1) words_add(lab.trace, " (behind %u)", (unsigned)(s.first - 1));
  words_entries(lab.trace, holt_raft_entry_at(n->raft, s.first), (size_t)(s.last - s.first + 1));
  words_add(lab.trace, "\n");
}

static void tell_members(struct lab_node *n) {
  if (!n->is_up) return;
  words_add(lab.trace, "  n%u ", (unsigned)n->id);
  words_conf(lab.trace, holt_raft_conf(n->raft));
  words_add(lab.trace, "\n");
}

static void tell_progress(struct lab_node *n) {
  static const char *STATES[] = {"probe", "replicate", "snapshot"};
  struct holt_raft_status s;
  if (!n->is_up) return;
  holt_raft_status(n->raft, &s);
  for (size_t i = 0; i < s.peer_count; i++)
    lab_tell("n%u sees n%u: match %u next %u %s", (unsigned)n->id, (unsigned)s.peers[i].id,
             (unsigned)s.peers[i].match, (unsigned)s.peers[i].next, STATES[s.peers[i].state]);
}

static void do_tell(const struct command *c) {
  bool who[LAB_NODES + 1];
  nodes_named(c, 1, who);
  for (unsigned id = 1; id <= LAB_NODES; id++) {
    if (!who[id]) continue;
    struct lab_node *n = &lab.nodes[id];
    if (strcmp(c->word[0], "status") == 0) tell_status(n);
    if (strcmp(c->word[0], "log") == 0) tell_log(n);
    if (strcmp(c->word[0], "members") == 0) tell_members(n);
    if (strcmp(c->word[0], "progress") == 0) tell_progress(n);
  }
}

static void do_waiting(const struct command *c) {
  (void)c;
  for (size_t i = 0; i < lab.net_count; i++) {
    struct holt_raft_message m = lab_decode(&lab.net[i]);
    words_add(lab.trace, "  ");
    words_message(lab.trace, &m);
    words_add(lab.trace, "%s\n", lab.net[i].is_parked ? " (parked)" : "");
  }
  for (unsigned id = 1; id <= LAB_NODES; id++)
    for (size_t i = 0; i < lab.nodes[id].held_count; i++) {
      struct holt_raft_message m = lab_decode(&lab.nodes[id].held[i]);
      words_add(lab.trace, "  ");
      words_message(lab.trace, &m);
      words_add(lab.trace, " (after p%u)\n", (unsigned)lab.nodes[id].held[i].after_seq);
    }
}

/* --- Files -----------------------------------------------------------------------------------------------
 */

static const struct {
  const char *name;
  unsigned words_min;
  void (*run)(const struct command *c);
} COMMANDS[] = {
    {"nodes", 2, do_nodes},       {"node", 2, do_node},
    {"log-of", 4, do_log_of},     {"crash", 2, do_crash},
    {"restart", 2, do_restart},   {"campaign", 2, do_campaign},
    {"tick", 2, do_tick},         {"sleep", 2, do_tick},
    {"propose", 3, do_propose},   {"read", 2, do_read},
    {"change", 4, do_change},     {"transfer", 2, do_event},
    {"step-down", 2, do_event},   {"fail-disk", 2, do_event},
    {"unreachable", 3, do_event}, {"gone", 3, do_event},
    {"persist", 1, do_persist},   {"apply", 1, do_apply},
    {"snapshot", 3, do_snapshot}, {"store", 2, do_store},
    {"deliver", 1, do_messages},  {"drop", 1, do_messages},
    {"double", 1, do_messages},   {"park", 1, do_messages},
    {"unpark", 1, do_messages},   {"cut", 2, do_cut},
    {"heal", 1, do_heal},         {"stabilize", 1, do_stabilize},
    {"send", 4, do_send},         {"status", 1, do_tell},
    {"log", 1, do_tell},          {"members", 1, do_tell},
    {"progress", 1, do_tell},     {"waiting", 1, do_waiting},
};

static void run_command(char *line) {
  struct command c = {0};
  for (char *word = strtok(line, " "); word; word = strtok(NULL, " ")) {
    assert_true(c.count < WORDS_MAX);
    c.word[c.count++] = word;
  }
  size_t before = trace.len;
  unsigned broken = lab.broken;
  bool is_quiet = c.count > 1 && strcmp(c.word[c.count - 1], "quietly") == 0;
  if (is_quiet) c.count--;
  size_t which = 0;
  while (which < sizeof COMMANDS / sizeof COMMANDS[0] && strcmp(COMMANDS[which].name, c.word[0]) != 0)
    which++;
  if (which == sizeof COMMANDS / sizeof COMMANDS[0]) COMMAND_FAILS("no such command: %s", c.word[0]);
  if (c.count < COMMANDS[which].words_min) COMMAND_FAILS("%s: too few words", c.word[0]);
  COMMANDS[which].run(&c);
  lab_check_logs();
  if ((is_quiet || strcmp(c.word[0], "nodes") == 0) && lab.broken == broken) trace.len = before;
}

static char *read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) fail_msg("%s cannot be opened", path);
  char *text = calloc(1, 1 << 18);
  assert_non_null(text);
  size_t len = fread(text, 1, (1 << 18) - 1, file);
  assert_true(len < (1 << 18) - 1);
  fclose(file);
  return text;
}

/* The story again, with what happened this time. */
static void tell_again(char *text) {
  lab_close();
  lab.trace = &trace;
  trace.len = 0;
  words_add(&trace, "%s", "");
  for (char *line = text, *next; line && *line; line = next) {
    next = strchr(line, '\n');
    if (next) *next++ = 0;
    if (strncmp(line, "  ", 2) == 0) continue;
    words_add(&trace, "%s\n", line);
    if (strncmp(line, "> ", 2) == 0) run_command(line + 2);
  }
  lab_close();
}

static size_t lines_of(char *text, const char **lines, size_t max) {
  size_t count = 0;
  for (char *line = text, *next; line && *line && count < max; line = next) {
    next = strchr(line, '\n');
    if (next) *next++ = 0;
    lines[count++] = line;
  }
  return count;
}

/* The lines that differ, by the longest common subsequence, with a little of what stands around them. */
static void show_difference(char *expected, char *actual) {
  enum { LINES = 2000 };
  static const char *a[LINES], *b[LINES];
  static uint16_t common[LINES + 1][LINES + 1];
  size_t n = lines_of(expected, a, LINES), m = lines_of(actual, b, LINES);
  for (size_t i = 0; i <= n; i++) common[i][m] = 0;
  for (size_t j = 0; j <= m; j++) common[n][j] = 0;
  for (size_t i = n; i-- > 0;)
    for (size_t j = m; j-- > 0;) {
      uint16_t skip = common[i + 1][j] > common[i][j + 1] ? common[i + 1][j] : common[i][j + 1];
      common[i][j] = strcmp(a[i], b[j]) == 0 ? (uint16_t)(common[i + 1][j + 1] + 1) : skip;
    }
  const char *command = "";
  bool is_told = false;
  for (size_t i = 0, j = 0; i < n || j < m;) {
    if (i < n && j < m && strcmp(a[i], b[j]) == 0) {
      if (strncmp(a[i], "> ", 2) == 0) command = a[i], is_told = false;
      i++, j++;
      continue;
    }
    if (!is_told) print_message("  %s\n", command);
    is_told = true;
    if (j >= m || (i < n && common[i + 1][j] >= common[i][j + 1]))
      print_message("- %s\n", a[i++]);
    else
      print_message("+ %s\n", b[j++]);
  }
}

static void a_transcript_holds(void **state) {
  const char *path = *state;
  char *expected = read_file(path), *text = read_file(path);
  tell_again(text);
  free(text);
  bool is_same = strcmp(expected, trace.text) == 0;
  bool is_broken = strstr(trace.text, "BROKEN") != NULL;
  if (!is_same && getenv("HOLT_REWRITE")) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs(trace.text, file);
    fclose(file);
    is_same = true;
  }
  if (!is_same) show_difference(expected, trace.text);
  free(expected);
  if (is_broken) fail_msg("%s: an invariant is broken", path);
  if (!is_same) fail_msg("%s: something else happened (HOLT_REWRITE=1 takes it over)", path);
}

static int by_name(const void *a, const void *b) {
  const struct CMUnitTest *x = a, *y = b;
  return strcmp(x->name, y->name);
}

int main(int argc, char **argv) {
  const char *folder = argc > 1 ? argv[1] : HOLT_SPEC_FOLDER "/raft";
  static struct CMUnitTest tests[200];
  size_t count = 0;
  DIR *dir = opendir(folder);
  if (!dir) {
    fprintf(stderr, "%s cannot be opened\n", folder);
    return 1;
  }
  for (struct dirent *entry; (entry = readdir(dir)) != NULL && count < 200;) {
    const char *dot = strrchr(entry->d_name, '.');
    if (!dot || strcmp(dot, ".txt") != 0) continue;
    if (argc > 2 && !strstr(entry->d_name, argv[2])) continue;
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    tests[count++] = (struct CMUnitTest){
        .name = strdup(entry->d_name), .test_func = a_transcript_holds, .initial_state = strdup(path)};
  }
  closedir(dir);
  qsort(tests, count, sizeof tests[0], by_name);
  int failed = _cmocka_run_group_tests("transcripts of raft", tests, count, NULL, NULL);
  for (size_t i = 0; i < count; i++) {
    free((void *)(uintptr_t)tests[i].name);
    free(tests[i].initial_state);
  }
  words_free(&trace);
  return failed || count == 0;
}
