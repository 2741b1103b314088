/* snapshot.c - snapshots: made and taken in, a slice a turn; with a directory, written to a file first.
 *
 * - The state is frozen in an instant, then written out a slice a turn; when it is whole the core is told and
 *   the log may go. The one before is kept until the next stands, for whoever is still receiving it.
 * - Pieces from the leader are collected and read in as they come; after the last one the machine they make
 *   takes the place of ours, on a later turn. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "cluster/cluster_impl.h"

enum { SLICE_BYTES = 512 << 10 };

static void blob_free(struct holt__blob *blob) {
  holt_writer_free(&blob->bytes);
  memset(blob, 0, sizeof *blob);
}

static void keep(struct holt_cluster *c, const struct holt_raft_snapshot *meta, struct holt_writer *bytes) {
  blob_free(&c->before);
  c->before = c->newest;
  c->newest = (struct holt__blob){.meta = *meta, .bytes = *bytes};
  c->newest.meta.size_bytes = bytes->len;
  memset(bytes, 0, sizeof *bytes);
}

/* One file at a time, and none before the log names the last one: the one before that goes with the next. */
static bool may_write_file(const struct holt_cluster *c) {
  return !c->disk_job && (!c->dir || c->snapshot_seq <= c->driver.durable);
}

/* --- Taking -------------------------------------------------------------------------------------------- */

int holt__snapshot_take(void *arg, const struct holt_raft_snapshot *snapshot) {
  struct holt_cluster *c = arg;
  if (c->freezing.index != 0 || !may_write_file(c)) return HOLT_EBUSY;
  c->freezing = *snapshot;
  c->crc = 0;
  holt__machine_freeze(&c->machine, &c->freeze);
  holt__cluster_stir(c);
  return 0;
}

/* `bytes` are whole and, with a directory, durable. */
static void freeze_done(struct holt_cluster *c, int code, struct holt_writer *bytes) {
  struct holt_raft_snapshot meta = c->freezing;
  uint64_t size = bytes->len;
  c->freezing.index = 0;
  if (code == 0) keep(c, &meta, bytes);
  holt_raft_driver_snapshot_taken(&c->driver, code, size, holt__cluster_now(c));
  if (code == 0) holt__cluster_tell(c, HOLT_CLUSTER_SNAPSHOT, "", "", meta.index);
}

static void freeze_slice(struct holt_cluster *c) {
  if (c->freezing.index == 0 || !c->freeze.frozen) return;
  uint8_t *out = holt_writer_grow(&c->freezing_bytes, SLICE_BYTES);
  size_t len = holt__freeze_read(&c->freeze, out, SLICE_BYTES);
  c->freezing_bytes.len -= SLICE_BYTES - len;
  c->crc = holt_crc32c(c->crc, out, len);
  if (len > 0) return;
  holt__freeze_close(&c->freeze);
  c->freezing.size_bytes = c->freezing_bytes.len;
  if (c->dir)
    holt__disk_write_snapshot(c, &c->freezing, c->crc, &c->freezing_bytes);
  else
    freeze_done(c, 0, &c->freezing_bytes);
}

/* --- Sending ------------------------------------------------------------------------------------------- */

int holt__snapshot_read(void *arg, const struct holt_raft_snapshot *snapshot, uint64_t offset, uint8_t *out,
                        uint32_t *len) {
  struct holt_cluster *c = arg;
  const struct holt__blob *blob = c->newest.meta.index == snapshot->index ? &c->newest : &c->before;
  if (blob->meta.index != snapshot->index || blob->meta.term != snapshot->term) return HOLT_ENOTFOUND;
  if (offset > blob->bytes.len) return HOLT_ENOTFOUND;
  if (*len > blob->bytes.len - offset) *len = (uint32_t)(blob->bytes.len - offset);
  if (*len > 0) memcpy(out, blob->bytes.data + offset, *len);
  return 0;
}

/* --- Receiving ----------------------------------------------------------------------------------------- */

int holt__snapshot_part(void *arg, const struct holt_raft_part *part) {
  struct holt_cluster *c = arg;
  if (part->offset == 0) {
    holt__thaw_close(&c->thaw);
    c->thawing_bytes.len = 0;
    holt__thaw_init(&c->thaw);
    c->thawing = *part->snapshot;
    c->thaw_code = 0;
    c->thaw_crc = 0;
    c->is_thawed = c->is_thaw_durable = false;
  }
  if (c->thawing.index == 0) return HOLT_EPROTOCOL;
  holt_write_bytes(&c->thawing_bytes, part->data, part->len);
  c->thaw_crc = holt_crc32c(c->thaw_crc, part->data, part->len);
  if (c->thaw_code == 0) c->thaw_code = holt__thaw_feed(&c->thaw, holt_buf(part->data, part->len));
  if (part->is_last) {
    c->is_thawed = true;
    holt__cluster_stir(c);
  }
  return 0;
}

/* The machine that `meta` stands for takes the place of ours. */
static void take_place(struct holt_cluster *c, const struct holt_raft_snapshot *meta,
                       struct holt__machine *machine) {
  machine->conf = meta->conf;
  machine->applied = meta->index;
  machine->applied_term = meta->term;
  holt__machine_free(&c->machine);
  c->machine = *machine;
  holt_collections_on_change(c->machine.collections, c->ops->on_change, c->arg);
}

static void thaw_done(struct holt_cluster *c, int code, struct holt_writer *bytes) {
  struct holt_raft_snapshot meta = c->thawing;
  struct holt__machine machine;
  c->thawing.index = 0;
  if (code == 0) code = holt__thaw_finish(&c->thaw, &machine);
  if (code == 0) {
    take_place(c, &meta, &machine);
    keep(c, &meta, bytes);
  }
  holt_raft_driver_snapshot_stored(&c->driver, code, holt__cluster_now(c));
  if (code != 0) return;
  if (c->ops->on_replaced) c->ops->on_replaced(c->arg);
  holt__requests_replaced(c);
  holt__member_applied_conf(c);
  holt__cluster_tell(c, HOLT_CLUSTER_SNAPSHOT, "", "", meta.index);
}

static void thaw_finish(struct holt_cluster *c) {
  if (holt_env_is_held(c->env)) return; /* somebody looks at the state */
  if (c->is_thaw_durable) {
    c->is_thaw_durable = false;
    thaw_done(c, c->thaw_code, &c->thawing_bytes);
    return;
  }
  if (!c->is_thawed || !may_write_file(c)) return;
  c->is_thawed = false;
  if (c->thaw_code == 0 && c->dir) {
    c->is_thaw_written = true;
    holt__disk_write_snapshot(c, &c->thawing, c->thaw_crc, &c->thawing_bytes);
  } else {
    thaw_done(c, c->thaw_code, &c->thawing_bytes);
  }
}

void holt__snapshot_written(struct holt_cluster *c, int status, struct holt_writer *bytes) {
  if (!c->raft) return;
  if (c->is_thaw_written) { /* it takes its place on a later turn */
    c->thaw_code = status;
    holt_writer_free(&c->thawing_bytes);
    c->thawing_bytes = *bytes;
    memset(bytes, 0, sizeof *bytes);
    c->is_thaw_durable = true;
  } else {
    freeze_done(c, status, bytes);
  }
  c->is_thaw_written = false;
  holt__cluster_after(c);
  holt__cluster_stir(c);
}

int holt__snapshot_adopt(struct holt_cluster *c, const struct holt_raft_snapshot *meta,
                         struct holt_buf bytes) {
  struct holt__machine machine;
  holt__thaw_init(&c->thaw);
  int rc = holt__thaw_feed(&c->thaw, bytes);
  if (rc != 0) {
    holt__thaw_close(&c->thaw);
    return rc;
  }
  rc = holt__thaw_finish(&c->thaw, &machine);
  if (rc != 0) return rc;
  take_place(c, meta, &machine);
  struct holt_writer copy = {0};
  holt_write_bytes(&copy, bytes.data, bytes.len);
  keep(c, meta, &copy);
  return 0;
}

/* --- Work ---------------------------------------------------------------------------------------------- */

void holt__snapshot_turn(struct holt_cluster *c) {
  freeze_slice(c);
  thaw_finish(c);
}

bool holt__snapshot_has_work(const struct holt_cluster *c) {
  return (c->freezing.index != 0 && c->freeze.frozen) || c->is_thaw_durable ||
         (c->is_thawed && may_write_file(c));
}

void holt__snapshot_free(struct holt_cluster *c) {
  c->is_thaw_written = false;
  if (c->freeze.frozen) holt__freeze_close(&c->freeze);
  c->freezing.index = c->thawing.index = 0;
  c->is_thawed = c->is_thaw_durable = false;
  holt_writer_free(&c->freezing_bytes);
  holt_writer_free(&c->thawing_bytes);
  holt__thaw_close(&c->thaw);
  blob_free(&c->newest);
  blob_free(&c->before);
}
