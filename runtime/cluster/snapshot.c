/* snapshot.c - snapshots in memory: taken and taken in a slice a turn.
 *
 * - The state is frozen in an instant, then written out a slice a turn; when it is whole the core is told and
 *   the log may go. The one before is kept until the next stands, for whoever is still receiving it.
 * - Pieces from the leader are collected and read in as they come; after the last one the machine they make
 *   takes the place of ours, on a later turn. */
#include <stdlib.h>
#include <string.h>

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

/* --- Taking -------------------------------------------------------------------------------------------- */

int holt__snapshot_take(void *arg, const struct holt_raft_snapshot *snapshot) {
  struct holt_cluster *c = arg;
  if (c->freezing.index != 0) return HOLT_EBUSY;
  c->freezing = *snapshot;
  holt__machine_freeze(&c->machine, &c->freeze);
  holt__cluster_stir(c);
  return 0;
}

static void freeze_slice(struct holt_cluster *c) {
  if (c->freezing.index == 0) return;
  uint8_t *out = holt_writer_grow(&c->freezing_bytes, SLICE_BYTES);
  size_t len = holt__freeze_read(&c->freeze, out, SLICE_BYTES);
  c->freezing_bytes.len -= SLICE_BYTES - len;
  if (len > 0) return;
  struct holt_raft_snapshot meta = c->freezing;
  c->freezing.index = 0;
  uint64_t size = c->freezing_bytes.len;
  holt__freeze_close(&c->freeze);
  keep(c, &meta, &c->freezing_bytes);
  holt_raft_driver_snapshot_taken(&c->driver, 0, size, holt__cluster_now(c));
  holt__cluster_tell(c, HOLT_CLUSTER_SNAPSHOT, "", "", meta.index);
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
    c->is_thawed = false;
  }
  if (c->thawing.index == 0) return HOLT_EPROTOCOL;
  holt_write_bytes(&c->thawing_bytes, part->data, part->len);
  if (c->thaw_code == 0) c->thaw_code = holt__thaw_feed(&c->thaw, holt_buf(part->data, part->len));
  if (part->is_last) {
    c->is_thawed = true;
    holt__cluster_stir(c);
  }
  return 0;
}

static void thaw_finish(struct holt_cluster *c) {
  if (!c->is_thawed) return;
  struct holt_raft_snapshot meta = c->thawing;
  struct holt__machine machine;
  c->is_thawed = false;
  c->thawing.index = 0;
  if (c->thaw_code == 0) c->thaw_code = holt__thaw_finish(&c->thaw, &machine);
  if (c->thaw_code == 0) {
    machine.conf = meta.conf;
    machine.applied = meta.index;
    machine.applied_term = meta.term;
    holt__machine_free(&c->machine);
    c->machine = machine;
    holt_collections_on_change(c->machine.collections, c->ops->on_change, c->arg);
    keep(c, &meta, &c->thawing_bytes);
  }
  holt_raft_driver_snapshot_stored(&c->driver, c->thaw_code, holt__cluster_now(c));
  if (c->thaw_code != 0) return;
  if (c->ops->on_replaced) c->ops->on_replaced(c->arg);
  holt__requests_replaced(c);
  holt__member_applied_conf(c);
  holt__cluster_tell(c, HOLT_CLUSTER_SNAPSHOT, "", "", meta.index);
}

/* --- Work ---------------------------------------------------------------------------------------------- */

void holt__snapshot_turn(struct holt_cluster *c) {
  freeze_slice(c);
  thaw_finish(c);
}

bool holt__snapshot_has_work(const struct holt_cluster *c) {
  return c->freezing.index != 0 || c->is_thawed;
}

void holt__snapshot_free(struct holt_cluster *c) {
  if (c->freezing.index != 0) holt__freeze_close(&c->freeze);
  c->freezing.index = c->thawing.index = 0;
  c->is_thawed = false;
  holt_writer_free(&c->freezing_bytes);
  holt_writer_free(&c->thawing_bytes);
  holt__thaw_close(&c->thaw);
  blob_free(&c->newest);
  blob_free(&c->before);
}
