/* disk.c - a member's folder: who it is, and its log. Its snapshots: snapshot_file.c.
 *
 *   identity    id, flags, pledge: written aside and renamed, before anything is said that depends on it
 *   log-ID/     the segment log of that incarnation (store/)
 *
 * - At start: the identity names the log; the log names the snapshot; both are read and checked.
 * - A log or snapshot that cannot be vouched for stays where it is; the node takes a new identity and joins
 *   its cluster anew. It never begins a cluster again.
 * - The disk is full: nothing more is written or acknowledged, leadership goes to another; once a second what
 *   is missing is written again as one piece.
 * - Any other failure of a write ends this member's part in the cluster. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "cluster/cluster_impl.h"
#include "env/file.h"

enum { IDENTITY_MAGIC = 0x44494c48, VERSION = 2, WAS_MEMBER = 1, RETRY_MS = 1000 };

/* --- The pledge ------------------------------------------------------------------------------------------
 */

static void write_pledge(const struct holt_cluster *c, struct holt_writer *out) {
  uint32_t count = c->pledge.set ? c->pledge.conf.count : 0;
  holt_write_u32(out, count);
  for (uint32_t i = 0; i < count; i++) {
    const struct holt_raft_member *member = &c->pledge.conf.members[i];
    holt_write_u64(out, member->id);
    holt_write_u8(out, member->can_lead);
    holt_write_u8(out, member->priority);
    holt_write_text8(out, c->founders[i].name);
    holt_write_text8(out, c->founders[i].address);
  }
  holt_write_u32(out, c->pledge.round);
  holt_write_u64(out, c->pledge.set);
}

/* Layout 1 had the ids only: who pledged then waits for somebody who began. */
static void read_pledge(struct holt_cluster *c, struct holt_reader *in, uint32_t version) {
  uint32_t count = holt_read_u32(in);
  if (count > HOLT_RAFT_MEMBERS_MAX) in->failed = true;
  if (in->failed) return;
  for (uint32_t i = 0; i < count && version == 1; i++) (void)holt_read_u64(in);
  if (version == 1) count = 0;
  c->pledge.conf.count = c->founder_count = count;
  for (uint32_t i = 0; i < count; i++) {
    struct holt_raft_member *member = &c->pledge.conf.members[i];
    struct holt__label *label = &c->founders[i];
    char text[256];
    member->role = HOLT_RAFT_VOTER;
    member->id = label->id = holt_read_u64(in);
    member->can_lead = holt_read_u8(in);
    member->priority = holt_read_u8(in);
    holt_read_text8(in, text);
    snprintf(label->name, sizeof label->name, "%.64s", text);
    holt_read_text8(in, text);
    snprintf(label->address, sizeof label->address, "%.127s", text);
  }
  c->pledge.round = holt_read_u32(in);
  c->pledge.set = holt_read_u64(in);
  c->pledge.since_ms = holt__cluster_now(c);
}

/* --- Small files --------------------------------------------------------------------------------------- */

static int write_small(struct holt_cluster *c, const char *name, const struct holt_writer *bytes,
                       struct holt_err *err) {
  struct holt_file_op ops[] = {
      {.type = HOLT_FILE_CREATE, .name = "aside"},
      {.type = HOLT_FILE_WRITE, .name = "aside", .data = bytes->data, .len = bytes->len},
      {.type = HOLT_FILE_SYNC, .name = "aside"},
      {.type = HOLT_FILE_RENAME, .name = "aside", .to = name},
      {.type = HOLT_FILE_SYNC_DIR},
  };
  return holt_dir_run(c->dir, ops, sizeof ops / sizeof ops[0], err);
}

int holt__disk_save_identity(struct holt_cluster *c, struct holt_err *err) {
  if (!c->dir) return 0;
  struct holt_writer bytes = {0};
  holt_write_u32(&bytes, IDENTITY_MAGIC);
  holt_write_u32(&bytes, VERSION);
  holt_write_text8(&bytes, c->name);
  holt_write_u64(&bytes, c->self);
  holt_write_u8(&bytes, c->was_member ? WAS_MEMBER : 0);
  holt_write_u32(&bytes, c->voided_round);
  write_pledge(c, &bytes);
  holt_write_text8(&bytes, c->config.is_node_named ? c->node_name : c->owner);
  holt_write_u32(&bytes, c->voided_count);
  for (uint32_t i = 0; i < c->voided_count; i++) holt_write_u64(&bytes, c->voided_sets[i]);
  holt_write_u32(&bytes, holt_crc32c(0, bytes.data, bytes.len));
  int rc = write_small(c, "identity", &bytes, err);
  holt_writer_free(&bytes);
  return rc;
}

/* Each node has a folder of its own; one whose name was drawn takes what it finds. */
static int check_owner(struct holt_cluster *c, struct holt_reader *in, struct holt_err *err) {
  char owner[256] = "";
  if (holt_reader_left(in) > 4) holt_read_text8(in, owner); /* the first ones did not say */
  if (in->failed) return 0;
  snprintf(c->owner, sizeof c->owner, "%.64s", owner);
  if (!c->config.is_node_named || owner[0] == '\0' || strcmp(owner, c->node_name) == 0) return 0;
  return holt_err_set(err, HOLT_EFOREIGN,
                      "the data directory %s is that of the node '%s', this one is '%s'; give this node "
                      "another directory, or start it as --name=%s",
                      holt_dir_path(c->dir), owner, c->node_name, owner);
}

static int parse_identity(struct holt_cluster *c, struct holt_buf bytes, struct holt_err *err) {
  char name[256];
  struct holt_reader in = holt_reader(bytes);
  uint32_t magic = holt_read_u32(&in), version = holt_read_u32(&in);
  const char *path = holt_dir_path(c->dir);
  /* of every version, the last four bytes are the check of all before them */
  if (bytes.len < 12 || magic != IDENTITY_MAGIC ||
      holt_get_u32(bytes.data + bytes.len - 4) != holt_crc32c(0, bytes.data, bytes.len - 4))
    return holt_err_set(err, HOLT_ECORRUPT, "%s/identity is damaged", path);
  if (version > VERSION)
    return holt_err_set(
        err, HOLT_EVERSION,
        "the data directory %s was written by a newer holt (layout %u, this one knows up to %d); "
        "start it with that one, or give this node another directory",
        path, version, VERSION);
  holt_read_text8(&in, name);
  if (strcmp(name, c->name) != 0)
    return holt_err_set(
        err, HOLT_EFOREIGN,
        "the data directory %s is that of a member of the cluster '%s', this node is of '%s'; give it "
        "another directory, or that cluster.name",
        path, name, c->name);
  c->self = holt_read_u64(&in);
  c->was_member = holt_read_u8(&in) & WAS_MEMBER;
  c->voided_round = holt_read_u32(&in);
  read_pledge(c, &in, version);
  c->round = c->pledge.round > c->voided_round ? c->pledge.round : c->voided_round + 1;
  int rc = check_owner(c, &in, err);
  if (rc != 0) return rc;
  if (holt_reader_left(&in) > 4) c->voided_count = holt_read_u32(&in);
  if (c->voided_count > HOLT__VOIDED_SETS) in.failed = true;
  for (uint32_t i = 0; i < c->voided_count && !in.failed; i++) c->voided_sets[i] = holt_read_u64(&in);
  return in.failed || c->self == 0 ? holt_err_set(err, HOLT_ECORRUPT, "%s/identity is damaged", path) : 0;
}

static int load_identity(struct holt_cluster *c, struct holt_err *err) {
  struct holt_writer bytes = {0};
  char **names;
  size_t count;
  bool is_there = false, has_others = false;
  int rc = holt_dir_list(c->dir, &names, &count, err);
  if (rc != 0) return rc;
  for (size_t i = 0; i < count; i++) {
    is_there = is_there || strcmp(names[i], "identity") == 0;
    has_others = has_others || strncmp(names[i], "log-", 4) == 0 || strncmp(names[i], "snapshot-", 9) == 0;
  }
  free(names);
  if (!is_there && has_others)
    return holt_err_set(err, HOLT_ECORRUPT, "%s/identity is missing", holt_dir_path(c->dir));
  if (!is_there) return holt__disk_save_identity(c, err);
  rc = holt_dir_read(c->dir, "identity", 65536, &bytes, err);
  if (rc == 0) rc = parse_identity(c, holt_buf(bytes.data, bytes.len), err);
  holt_writer_free(&bytes);
  return rc;
}

/* --- The log ------------------------------------------------------------------------------------------- */

/* The store counts its writes without a gap; the core's numbers run ahead of it by `shift` once several of
 * its persists were written as one. */
static void on_full(struct holt_cluster *c, uint64_t seq) {
  bool is_first = c->full_seq == 0;
  c->full_seq = seq;
  holt_timer_start(&c->full_timer, RETRY_MS);
  if (!is_first) return;
  struct holt_err err;
  holt_err_set(
      &err, HOLT_ENOSPC,
      "%s: no space left on the disk: this member writes and acknowledges nothing until there is some",
      holt_dir_path(c->dir));
  holt__cluster_tell_error(c, HOLT_CLUSTER_DISK_ERROR, &err);
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_STEP_DOWN};
  holt__cluster_step(c, &event);
}

static void tell_failed(struct holt_cluster *c, int status) {
  struct holt_err err;
  holt_err_set(&err, status,
               "%s: writing the log failed (%s): this member takes no part any more; restart the node",
               holt_dir_path(c->dir), holt_err_text(status));
  holt__cluster_tell_error(c, HOLT_CLUSTER_DISK_ERROR, &err);
  c->is_disk_failed = true;
}

static void on_failed(struct holt_cluster *c, int status) {
  tell_failed(c, status);
  holt_raft_driver_disk_failed(&c->driver, holt__cluster_now(c));
}

static void retry_full(void *arg);

/* What lies behind the durable snapshot is not needed any more. */
static void drop_old(struct holt_cluster *c) {
  (void)holt_store_drop(c->store, holt_store_state(c->store)->snapshot.index);
}

static void on_saved(void *arg, uint64_t seq, int status) {
  struct holt_cluster *c = arg;
  if (!c->raft) return;
  if (status == HOLT_ENOSPC) {
    on_full(c, seq);
  } else if (status != 0) {
    on_failed(c, status);
  } else if (c->full_seq == 0) {
    drop_old(c);
    holt_raft_driver_persisted(&c->driver, seq + c->shift, holt__cluster_now(c));
  } else { /* there is room again */
    uint64_t covers = c->full_covers;
    c->shift = covers - seq;
    c->full_seq = c->last_seq > covers ? seq + 1 : 0;
    drop_old(c);
    holt_raft_driver_persisted(&c->driver, covers, holt__cluster_now(c));
    if (c->full_seq) retry_full(c);
  }
  holt__cluster_after(c);
}

int holt__disk_persist(struct holt_cluster *c, const struct holt_raft_persist *persist) {
  c->last_seq = persist->seq;
  if (persist->snapshot) c->snapshot_seq = persist->seq;
  if (persist->is_reset) c->reset_seq = persist->seq;
  if (c->full_seq) return 0; /* part of what is written once there is room */
  struct holt_raft_persist shifted = *persist;
  shifted.seq -= c->shift;
  int rc = holt_store_write(c->store, &shifted);
  if (rc != 0) tell_failed(c, rc);
  return rc;
}

/* The log on disk may hold other entries than ours below the snapshot, or not reach it: then the snapshot
 * takes its place, and what follows it is written anew. */
static void cover_snapshot(struct holt_cluster *c, const struct holt_raft_status *status,
                           struct holt_raft_persist *persist) {
  const struct holt_raft_snapshot *snapshot = holt_raft_newest_snapshot(c->raft);
  const struct holt_wal_state *disk = holt_store_state(c->store);
  if (snapshot->index <= disk->snapshot.index) return;
  persist->snapshot = snapshot;
  persist->is_reset = c->reset_seq >= c->full_seq + c->shift || status->stable < snapshot->index ||
                      disk->last < snapshot->index;
}

/* Everything that is not durable, as one piece. */
static void retry_full(void *arg) {
  struct holt_cluster *c = arg;
  struct holt_raft_status status;
  if (!c->raft || !c->full_seq) return;
  holt_raft_status(c->raft, &status);
  struct holt_raft_persist persist = {
      .seq = c->full_seq, .has_vote = true, .term = status.term, .vote = status.vote};
  cover_snapshot(c, &status, &persist);
  uint64_t from = status.stable + 1 > status.first ? status.stable + 1 : status.first;
  if (persist.is_reset)
    from = persist.snapshot->index + 1;
  else if (holt_store_state(c->store)->last >= from)
    persist.truncate_from = from;
  if (status.last >= from) {
    persist.entries = holt_raft_entry_at(c->raft, from);
    persist.count = (size_t)(status.last - from + 1);
  }
  c->full_covers = c->last_seq;
  int rc = holt_store_write(c->store, &persist);
  if (rc != 0) on_failed(c, rc);
}

static int open_log(struct holt_cluster *c, uint64_t cluster_id, struct holt_err *err) {
  char path[600];
  snprintf(path, sizeof path, "%.500s/log-%016llx", holt_dir_path(c->dir), (unsigned long long)c->self);
  struct holt_store_options options = {.path = path,
                                       .cluster = cluster_id,
                                       .self = c->self,
                                       .segment_bytes = c->config.segment_bytes,
                                       .saved = on_saved,
                                       .arg = c};
  c->shift = c->full_seq = c->last_seq = c->snapshot_seq = c->reset_seq = 0;
  c->is_disk_failed = false;
  return holt_store_open_disk(c->env, &options, &c->store, err);
}

int holt__disk_begin(struct holt_cluster *c, uint64_t cluster_id, struct holt_err *err) {
  return c->dir ? open_log(c, cluster_id, err) : 0;
}

/* --- Opening ------------------------------------------------------------------------------------------- */

static int load_snapshot(struct holt_cluster *c, const struct holt_raft_snapshot *meta,
                         struct holt_err *err) {
  struct holt__machine machine;
  int rc = holt__snapshot_file_load(c, meta, &machine, err);
  if (rc == 0) holt__snapshot_adopt(c, meta, &machine);
  return rc;
}

static int restore(struct holt_cluster *c, struct holt_err *err) {
  struct holt_wal_restored restored;
  int rc = holt_store_restore(c->store, &restored, err);
  if (rc != 0) return rc;
  if (restored.restore.snapshot) rc = load_snapshot(c, restored.restore.snapshot, err);
  if (rc == 0) rc = holt__snapshot_file_clean(c, err);
  if (rc == 0) {
    rc = holt__cluster_resume(c, holt_store_state(c->store)->cluster, &restored.restore);
    if (rc != 0) holt_err_set(err, HOLT_ECORRUPT, "%s: the log makes no sense", holt_dir_path(c->dir));
  }
  holt_wal_restored_free(&restored);
  return rc == HOLT_EINVAL ? HOLT_ECORRUPT : rc;
}

static void close_store(struct holt_cluster *c) {
  if (c->store) holt_store_close(c->store, NULL, NULL);
  c->store = NULL;
}

/* What was promised was promised under the old id. */
int holt__disk_renew(struct holt_cluster *c, struct holt_err *err) {
  close_store(c);
  c->snapshot_now = c->snapshot_before = 0;
  c->pledge.set = 0;
  c->voided_count = 0;
  c->self = holt_env_random(c->env) | 1;
  return holt__disk_save_identity(c, err);
}

int holt__disk_open(struct holt_cluster *c, struct holt_err *err) {
  int rc = holt_dir_open(c->env, c->config.directory, &c->dir, err);
  if (rc != 0) return rc;
  holt_timer_init(&c->full_timer, c->env, retry_full, c);
  rc = load_identity(c, err);
  if (rc == 0) {
    if (c->pledge.set) c->state = STATE_PLEDGED;
    rc = open_log(c, 0, err);
    if (rc == HOLT_EINVAL && !c->was_member) return 0; /* it belonged to no cluster yet */
    if (rc == HOLT_EINVAL)
      rc = holt_err_set(err, HOLT_ECORRUPT, "the log in %s is missing", holt_dir_path(c->dir));
    if (rc == 0) rc = restore(c, err);
  }
  if (rc != HOLT_ECORRUPT) return rc;
  /* told once the caller can hear it */
  holt_err_set(&c->damage, HOLT_ECORRUPT,
               "%s. This node goes on as a new member and gets its data from the others; what was here "
               "stays in its folder and can be removed",
               err->message);
  holt__cluster_discard(c);
  c->was_member = true; /* as far as anybody can tell */
  return holt__disk_renew(c, err);
}

const char *holt__disk_state(const struct holt_cluster *c) {
  if (!c->dir) return "none";
  if (c->is_disk_failed) return "failed";
  return c->full_seq != 0 || c->is_begin_full ? "full" : "ok";
}

void holt__disk_close(struct holt_cluster *c) {
  if (!c->dir) return;
  holt_timer_stop(&c->full_timer);
  holt__snapshot_file_forget(c);
  close_store(c);
  holt_dir_close(c->dir, NULL, NULL);
  c->dir = NULL;
}
