/* snapshot.c - snapshots: taken and taken in, so that no turn of the loop does more than a slice of the work.
 *
 * - To take one, the state is frozen in an instant. In memory that is all. With a directory it is written to
 *   a file, a block a turn, and the core is told once the file is durable.
 * - Pieces from the leader are read in as they come. After the last one the machine that they make is frozen
 *   and written to a file in the same way; then it takes the place of ours, on a later turn.
 * - What was replaced is freed a piece a turn (bury.c); pieces for others are written out of what is frozen
 *   as they are asked for (source.c). So no snapshot is ever in memory as bytes. */
#include <string.h>

#include "cluster/cluster_impl.h"

/* One file at a time, and none before the log names the last one: the one before that goes with the next. */
static bool may_write_file(const struct holt_cluster *c) {
  return !c->dir || (!c->file && c->snapshot_seq <= c->driver.durable);
}

/* --- Taking -------------------------------------------------------------------------------------------- */

int holt__snapshot_take(void *arg, const struct holt_raft_snapshot *snapshot) {
  struct holt_cluster *c = arg;
  if (c->freezing.index != 0 || c->is_thawed || c->made.is_there || !may_write_file(c)) return HOLT_EBUSY;
  holt__machine_freeze(&c->machine, &c->freeze);
  c->freezing = *snapshot;
  c->freezing.size_bytes = holt__freeze_size(&c->freeze);
  if (c->dir) holt__snapshot_file_begin(c, &c->freezing, &c->freeze);
  holt__cluster_stir(c);
  return 0;
}

/* It is whole and, with a directory, durable; or `code` says why not. */
static void freeze_done(struct holt_cluster *c, int code) {
  struct holt_raft_snapshot meta = c->freezing;
  c->freezing.index = 0;
  if (code == 0)
    holt__source_keep(c, &meta, &c->freeze);
  else
    holt__bury_freeze(c, &c->freeze);
  holt_raft_driver_snapshot_taken(&c->driver, code, meta.size_bytes, holt__cluster_now(c));
  if (code == 0) holt__cluster_tell(c, HOLT_CLUSTER_SNAPSHOT, "", "", meta.index);
}

/* --- Receiving ----------------------------------------------------------------------------------------- */

static void abandon_thaw(struct holt_cluster *c) {
  struct holt_collections *made = holt__thaw_close(&c->thaw);
  if (made) holt__bury_collections(c, made);
}

int holt__snapshot_part(void *arg, const struct holt_raft_part *part) {
  struct holt_cluster *c = arg;
  if (part->offset == 0) {
    abandon_thaw(c);
    holt__thaw_init(&c->thaw);
    c->thawing = *part->snapshot;
    c->thaw_code = 0;
    c->is_thawed = false;
  }
  if (c->thawing.index == 0) return HOLT_EPROTOCOL;
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
  holt__bury_machine(c, &c->machine);
  c->machine = *machine;
  holt_collections_on_change(c->machine.collections, c->ops->on_change, c->arg);
}

static void drop_made(struct holt_cluster *c) {
  if (!c->made.is_there) return;
  holt__bury_machine(c, &c->made.machine);
  holt__bury_freeze(c, &c->made.freeze);
  memset(&c->made, 0, sizeof c->made);
}

/* What was received is durable, or `code` says why not. */
static void thaw_done(struct holt_cluster *c, int code) {
  struct holt_raft_snapshot meta = c->thawing;
  c->thawing.index = 0;
  if (code == 0) {
    take_place(c, &meta, &c->made.machine);
    holt__source_keep(c, &meta, &c->made.freeze);
    memset(&c->made, 0, sizeof c->made);
  } else {
    drop_made(c);
  }
  holt_raft_driver_snapshot_stored(&c->driver, code, holt__cluster_now(c));
  if (code != 0) return;
  if (c->ops->on_replaced) c->ops->on_replaced(c->arg);
  holt__requests_replaced(c);
  holt__member_applied_conf(c);
  holt__cluster_tell(c, HOLT_CLUSTER_SNAPSHOT, "", "", meta.index);
}

/* The pieces are in: a machine of them, proven by the state's hash. Its own snapshot has the same bytes. */
static int make(struct holt_cluster *c) {
  int code = c->thaw_code == 0 ? holt__thaw_finish(&c->thaw, &c->made.machine) : c->thaw_code;
  abandon_thaw(c);
  if (code != 0) return code;
  c->made.is_there = true;
  holt__machine_freeze(&c->made.machine, &c->made.freeze);
  return holt__freeze_size(&c->made.freeze) == c->thawing.size_bytes ? 0 : HOLT_EPROTOCOL;
}

/* A snapshot that is being taken here is older than the one received: it makes room, if it still can. */
static void give_way(struct holt_cluster *c) {
  if (c->freezing.index != 0 && (!c->dir || holt__snapshot_file_cancel(c))) freeze_done(c, HOLT_ECANCELED);
}

static void thaw_finish(struct holt_cluster *c) {
  if (holt_env_is_held(c->env)) return; /* somebody looks at the state */
  if (c->is_made_written) {
    c->is_made_written = false;
    thaw_done(c, c->thaw_code);
    return;
  }
  if (!c->is_thawed) return;
  give_way(c);
  if (c->freezing.index != 0 || !may_write_file(c)) return;
  c->is_thawed = false;
  int code = make(c);
  if (code == 0 && c->dir)
    holt__snapshot_file_begin(c, &c->thawing, &c->made.freeze);
  else
    thaw_done(c, code);
}

void holt__snapshot_written(struct holt_cluster *c, int status) {
  if (!c->raft) return;
  if (c->made.is_there) { /* it takes its place on a later turn */
    c->is_made_written = true;
    c->thaw_code = status;
  } else {
    freeze_done(c, status);
  }
  holt__cluster_after(c);
  holt__cluster_stir(c);
}

void holt__snapshot_adopt(struct holt_cluster *c, const struct holt_raft_snapshot *meta,
                          struct holt__machine *machine) {
  struct holt__freeze freeze;
  holt__machine_freeze(machine, &freeze);
  take_place(c, meta, machine);
  holt__source_keep(c, meta, &freeze);
}

/* --- Work ---------------------------------------------------------------------------------------------- */

void holt__snapshot_turn(struct holt_cluster *c) {
  if (c->dir)
    holt__snapshot_file_turn(c);
  else if (c->freezing.index != 0)
    freeze_done(c, 0);
  thaw_finish(c);
  holt__source_turn(c);
  c->is_untidy = holt_collections_tidy(c->machine.collections);
}

bool holt__snapshot_has_work(struct holt_cluster *c) {
  if (c->is_untidy || (c->dir ? holt__snapshot_file_has_work(c) : c->freezing.index != 0)) return true;
  return c->is_made_written || (c->is_thawed && may_write_file(c)) || holt__source_has_work(c);
}

void holt__snapshot_free(struct holt_cluster *c) {
  if (c->dir) holt__snapshot_file_forget(c);
  holt__bury_freeze(c, &c->freeze);
  c->freezing.index = c->thawing.index = 0;
  c->is_thawed = c->is_made_written = false;
  abandon_thaw(c);
  drop_made(c);
  holt__source_free(c);
}
