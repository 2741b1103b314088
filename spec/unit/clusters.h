/* clusters.h - whole nodes with a cluster on the virtual machine room: start, kill, ask, look. */
#ifndef HOLT_SPEC_CLUSTERS_H
#define HOLT_SPEC_CLUSTERS_H

#include "cluster/cluster.h"
#include "env/sim.h"
#include "node/node.h"
#include "unit.h"

enum { NODES_MAX = 7 };

struct station {
  struct room *room;
  char name[16];
  struct holt_env *env;
  struct holt_node *node;
  uint32_t members;
  bool follows; /* never leads */
  uint8_t priority;
  int wiped;       /* how often: then its folder is another one */
  bool is_durable; /* as it was started */
};

struct room {
  struct holt_sim *sim;
  uint64_t seed;
  bool is_durable;
  uint64_t snapshot_entries;
  uint32_t segment_bytes, keep_entries;                                    /* of logs; 0: as usual */
  void (*on_cluster)(void *arg, const struct holt_cluster_notice *notice); /* NULL: only printed */
  uint32_t block_bytes;
  struct station stations[NODES_MAX];
  int count;
};

struct waiting {
  struct holt_cluster_request request;
  bool is_done;
  int code;
  struct holt_writer answer;
  uint64_t number;
};

static inline void on_end(void *arg, int code, struct holt_buf answer, uint64_t number) {
  struct waiting *w = arg;
  assert_false(w->is_done);
  w->is_done = true;
  w->code = code;
  w->number = number;
  w->answer.len = 0;
  holt_write_bytes(&w->answer, answer.data, answer.len);
}

static inline void prepare(struct waiting *w) {
  w->is_done = false;
  w->request.cb = on_end;
  w->request.arg = w;
}

static inline void quiet_closed(void *arg) {
  (void)arg;
}

static inline void on_cluster(void *arg, const struct holt_cluster_notice *notice) {
  const struct station *s = arg;
  if (getenv("HOLT_VERBOSE") != NULL)
    printf("%6d %s: event %d '%s' '%s' %llu %s\n", (int)holt_sim_now_ms(s->room->sim), s->name, notice->event,
           notice->text, notice->old, (unsigned long long)notice->number,
           notice->err.code ? notice->err.message : "");
}

static inline void on_notice(void *arg, const struct holt_cluster_notice *notice) {
  const struct station *s = arg;
  on_cluster(arg, notice);
  if (s->room->on_cluster != NULL) s->room->on_cluster(arg, notice);
}

static const struct holt_node_ops node_ops = {.on_closed = quiet_closed, .on_cluster = on_notice};

static inline void start(struct room *room, int i, uint32_t members) {
  struct station *s = &room->stations[i];
  s->room = room;
  s->members = members;
  snprintf(s->name, sizeof s->name, "n%d", i + 1);
  s->env = holt_sim_host(room->sim, s->name);
  struct holt_node_config config = holt_node_defaults();
  config.link.name = s->name;
  config.insecure = true;
  config.cluster.name = "shop";
  config.cluster.members = members;
  char folder[16];
  snprintf(folder, sizeof folder, s->wiped ? "data%d" : "data", s->wiped);
  s->is_durable = room->is_durable;
  if (s->is_durable) config.cluster.directory = folder;
  config.cluster.can_lead = !s->follows;
  config.cluster.priority = s->priority;
  config.cluster.segment_bytes = room->segment_bytes;
  config.cluster.keep_entries = room->keep_entries;
  config.cluster.block_bytes = room->block_bytes;
  if (room->snapshot_entries) config.cluster.snapshot_entries = room->snapshot_entries;
  struct holt_err err;
  char address[32];
  if (holt_node_new(s->env, &config, &node_ops, s, &s->node, &err) != 0) fail_msg("%s", err.message);
  snprintf(address, sizeof address, "%s:7001", s->name);
  assert_int_equal(holt_node_listen(s->node, address, NULL, &err), 0);
  for (int k = 0; k < i; k++) { /* a newcomer knows one node at least */
    if (room->stations[k].node == NULL) continue;
    struct holt_peer *peer;
    snprintf(address, sizeof address, "n%d:7001", k + 1);
    assert_int_equal(holt_node_connect(s->node, address, &peer, &err), 0);
    break;
  }
}

/* Its process ends without a word. */
static inline void kill_one(struct room *room, int i) {
  struct station *s = &room->stations[i];
  holt_sim_pause(room->sim, s->name, false);
  holt_node_free(s->node);
  s->node = NULL;
  if (s->is_durable) holt_sim_run(room->sim, 20); /* its files are let go behind the job under way */
  holt_env_free(s->env);
}

static inline struct room *room_new(uint64_t seed) {
  struct room *room = calloc(1, sizeof *room);
  struct holt_sim_config config = {.seed = seed, .delay_min_us = 100, .delay_max_us = 3000};
  room->sim = holt_sim_new(&config);
  room->seed = seed;
  return room;
}

static inline void room_free(struct room *room) {
  for (int i = 0; i < NODES_MAX; i++)
    if (room->stations[i].node != NULL) kill_one(room, i);
  holt_sim_free(room->sim);
  free(room);
}

static inline struct holt_cluster *cluster_of(struct room *room, int i) {
  return holt_node_cluster(room->stations[i].node);
}

/* Let time pass until it is done; at most `ms`. */
static inline bool wait(struct room *room, struct waiting *w, uint64_t ms) {
  for (uint64_t t = 0; t < ms && !w->is_done; t += 5) holt_sim_run(room->sim, 5);
  return w->is_done;
}

static inline void ready(struct room *room, int i, uint64_t ms) {
  struct waiting w = {0};
  prepare(&w);
  holt_cluster_ready(cluster_of(room, i), &w.request, ms);
  assert_true(wait(room, &w, ms + 100));
  if (w.code != 0) {
    struct holt_cluster_status status;
    holt_cluster_status(cluster_of(room, i), &status);
    fail_msg("seed %llu: %s is not ready (%s): %s, %s of '%s', term %llu, commit %llu, applied %llu, last "
             "%llu, %u members",
             (unsigned long long)room->seed, room->stations[i].name, holt_err_word(w.code), status.state,
             status.role, status.leader, (unsigned long long)status.term, (unsigned long long)status.commit,
             (unsigned long long)status.applied, (unsigned long long)status.last, status.member_count);
  }
  holt_writer_free(&w.answer);
}

static inline void command(struct holt_writer *out, uint8_t kind, uint8_t op, const char *key,
                           const char *value) {
  struct holt_command c;
  holt_command_begin(&c, out, false);
  uint8_t object = holt_command_object(&c, kind, kind == HOLT_KIND_MAP ? "m" : "q", holt_buf_text("o"));
  holt_command_op(&c, object, op, holt_buf_text(key), holt_buf_text(value), holt_buf(NULL, 0));
  holt_command_end(&c);
}

static inline void begin_set(struct room *room, int i, struct waiting *w, const char *key, const char *value,
                             uint64_t ms) {
  struct holt_writer out = {0};
  command(&out, HOLT_KIND_MAP, HOLT_OP_SET, key, value);
  prepare(w);
  holt_cluster_submit(cluster_of(room, i), &w->request, holt_buf(out.data, out.len), ms);
  holt_writer_free(&out);
}

static inline int set(struct room *room, int i, const char *key, const char *value, uint64_t ms) {
  struct waiting w = {0};
  begin_set(room, i, &w, key, value, ms);
  assert_true(wait(room, &w, ms + 200));
  holt_writer_free(&w.answer);
  return w.code;
}

static inline const char *get(struct room *room, int i, const char *key) {
  static char text[64];
  struct holt_object *m = holt_collections_find(holt_cluster_collections(cluster_of(room, i)), "m");
  struct holt_item *item = m ? holt_tree_get(&m->tree, holt_buf_text(key)) : NULL;
  if (!item) return "(nothing)";
  snprintf(text, sizeof text, "%.*s", (int)item->value_len, (const char *)holt_item_value(item).data);
  return text;
}

static inline int leader_of(struct room *room) {
  for (int i = 0; i < NODES_MAX; i++)
    if (room->stations[i].node && holt_cluster_is_leader(cluster_of(room, i))) return i;
  return -1;
}

static inline void assert_same_state(struct room *room, int count) {
  struct holt_cluster_status first, other;
  holt_sim_run(room->sim, 1000);
  bool has_first = false;
  for (int i = 0; i < count; i++) {
    if (!room->stations[i].node) continue;
    holt_cluster_status(cluster_of(room, i), has_first ? &other : &first);
    if (has_first) {
      assert_int_equal(other.cluster_id, first.cluster_id);
      assert_int_equal(other.applied, first.applied);
      assert_int_equal(other.state_hash, first.state_hash);
    }
    has_first = true;
  }
}

#endif /* HOLT_SPEC_CLUSTERS_H */
