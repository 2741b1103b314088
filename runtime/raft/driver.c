/* driver.c - one event and all that follows from it.
 *
 * - The raft takes one event and says what to do.
 * - The persist goes to the log writer; messages that need none leave at once, the others wait for theirs.
 * - Pieces of snapshots are read and stored; answers are handed up.
 * - What is committed is applied; what is durable and applied is told to the raft, which may ask for more:
 * round and round until it has nothing more to say.
 *
 * When the raft has no memory for an event of our own, the event stays due and is repeated at the next call.
 * When a persist fails, everything that waits is thrown away and the raft is told. */
#include "raft/driver.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "raft/bug.h"

enum { ENTRIES_MAX = 65536 }; /* in one message; more is malformed */

void holt_raft_driver_init(struct holt_raft_driver *driver, struct holt_raft *raft,
                           const struct holt_raft_driver_io *io, void *arg,
                           const struct holt_raft_driver_options *options, uint64_t applied) {
  *driver = (struct holt_raft_driver){.raft = raft, .io = *io, .arg = arg, .options = *options};
  driver->applied = driver->apply_to = driver->applied_told = applied;
  driver->snapshot_index = applied;
  driver->apply_left = options->apply_max;
}

static void drop_held(struct holt_raft_driver *d) {
  for (size_t i = 0; i < d->held_count; i++) free(d->held[d->held_head + i].bytes);
  d->held_head = d->held_count = d->held_bytes = 0;
}

void holt_raft_driver_close(struct holt_raft_driver *driver) {
  drop_held(driver);
  free(driver->held);
  holt_writer_free(&driver->scratch);
  holt_writer_free(&driver->chunk);
  *driver = (struct holt_raft_driver){0};
}

/* --- Sending ------------------------------------------------------------------------------------------ */

static void hold(struct holt_raft_driver *d, const struct holt_raft_output *out, struct holt_buf bytes) {
  if (d->has_failed) return;
  if (d->held_bytes + bytes.len > d->options.held_bytes_max) {
    d->lost_messages++;
    return;
  }
  if (d->held_head + d->held_count == d->held_cap) {
    if (d->held_head > 0) {
      memmove(d->held, d->held + d->held_head, d->held_count * sizeof *d->held);
      d->held_head = 0;
    } else {
      d->held_cap = d->held_cap == 0 ? 16 : d->held_cap * 2;
      d->held = holt_realloc(d->held, d->held_cap * sizeof *d->held);
    }
  }
  size_t at = d->held_head + d->held_count++;
  while (at > d->held_head && d->held[at - 1].after_seq > out->after_seq) {
    d->held[at] = d->held[at - 1];
    at--;
  }
  struct holt__raft_held *held = &d->held[at];
  *held = (struct holt__raft_held){.message = out->message, .after_seq = out->after_seq, .len = bytes.len};
  held->message.entries = NULL;
  held->message.snapshot = NULL;
  held->message.data = NULL;
  held->bytes = holt_realloc(NULL, bytes.len);
  memcpy(held->bytes, bytes.data, bytes.len);
  d->held_bytes += bytes.len;
}

static void release(struct holt_raft_driver *d) {
  while (d->held_count > 0 && d->held[d->held_head].after_seq <= d->durable) {
    struct holt__raft_held *first = &d->held[d->held_head++];
    d->held_count--;
    d->held_bytes -= first->len;
    d->io.send(d->arg, &first->message, holt_buf(first->bytes, first->len));
    free(first->bytes);
  }
  if (d->held_count == 0) d->held_head = 0;
}

/* A piece of a snapshot leaves empty from the raft: read it in. False when it is not there, or not now. */
static bool fill(struct holt_raft_driver *d, struct holt_raft_message *message) {
  uint32_t len = message->len;
  d->chunk.len = 0;
  uint8_t *out = holt_writer_grow(&d->chunk, len == 0 ? 1 : len);
  int rc = d->io.snapshot_read(d->arg, message->snapshot, message->offset, out, &len);
  if (rc == 0) {
    HOLT_ASSERT(len <= message->len);
    message->data = out;
    message->len = len;
    return true;
  }
  if (rc == HOLT_EBUSY) return false; /* as if it were lost: the next heartbeat finds that out */
  if (d->gone_count < HOLT_RAFT_MEMBERS_MAX) d->gone[d->gone_count++] = message->to;
  return false;
}

static void send(struct holt_raft_driver *d, const struct holt_raft_output *out) {
  struct holt_raft_message message = out->message;
  if (message.type == HOLT_RAFT_SNAPSHOT && message.data == NULL && !fill(d, &message)) return;
  d->scratch.len = 0;
  holt_raft_message_encode(&d->scratch, &message);
  struct holt_buf bytes = holt_buf(d->scratch.data, d->scratch.len);
  if (out->after_seq <= d->durable || HOLT_BUG(203))
    d->io.send(d->arg, &message, bytes);
  else
    hold(d, out, bytes);
}

/* --- One step ------------------------------------------------------------------------------------------ */

static void fail_disk(struct holt_raft_driver *d) {
  d->has_failed = true;
  drop_held(d);
}

static void take_part(struct holt_raft_driver *d, const struct holt_raft_part *part) {
  if (part->snapshot == NULL) return;
  int rc = d->io.snapshot_part(d->arg, part);
  if (part->is_last) {
    d->is_storing = true;
    d->storing = *part->snapshot;
  }
  if (rc == 0) return;
  d->stored_due = true;
  d->stored_code = rc;
}

static void perform(struct holt_raft_driver *d, const struct holt_raft_update *update) {
  d->deadline_ms = update->deadline_ms;
  if (update->persist.seq != 0 && !d->has_failed) {
    int rc = d->io.persist(d->arg, &update->persist);
    if (rc == 1) d->durable = update->persist.seq;
    if (rc < 0) fail_disk(d);
  }
  for (size_t i = 0; i < update->out_count; i++) send(d, &update->out[i]);
  take_part(d, &update->part);
  if (update->apply_to > d->apply_to) d->apply_to = update->apply_to;
  for (size_t i = 0; i < update->done_count; i++) d->io.done(d->arg, &update->done[i]);
}

static int step(struct holt_raft_driver *d, const struct holt_raft_event *event) {
  struct holt_raft_update update = {0};
  int rc = holt_raft_step(d->raft, event, &update);
  if (d->io.observe != NULL) d->io.observe(d->arg, event, &update, rc);
  if (rc == HOLT_EINTERNAL) d->fatal = update.fatal == NULL ? "internal error" : update.fatal;
  if (rc == 0 || rc == HOLT_EINVAL)
    perform(d, &update); /* the event was refused, what time brought was not */
  return rc;
}

/* --- What follows -------------------------------------------------------------------------------------- */

enum { HOLT__APPLY_BYTES = 512 };

static void apply(struct holt_raft_driver *d) {
  bool is_bounded = d->options.apply_max != 0;
  if (d->applied < d->apply_to && d->io.may_apply != NULL && !d->io.may_apply(d->arg)) return;
  while (d->applied < d->apply_to && !(is_bounded && d->apply_left == 0)) {
    const struct holt_raft_entry *entry = holt_raft_entry_at(d->raft, d->applied + 1);
    if (entry == NULL) {
      d->fatal = "an entry to be applied is not in memory";
      return;
    }
    d->io.apply(d->arg, entry);
    d->applied++;
    d->bytes_since += entry->len;
    uint32_t cost = 1 + entry->len / HOLT__APPLY_BYTES; /* a large one is work for several */
    if (is_bounded) d->apply_left -= cost < d->apply_left ? cost : d->apply_left;
  }
}

static bool wants_snapshot(const struct holt_raft_driver *d) {
  uint64_t last = d->snapshot_index > d->tried_index ? d->snapshot_index : d->tried_index;
  if (d->taking.index != 0 || d->is_storing || d->has_failed || d->applied <= last) return false;
  if (d->options.snapshot_entries != 0 && d->applied - last >= d->options.snapshot_entries) return true;
  return d->options.snapshot_bytes != 0 && d->bytes_since >= d->options.snapshot_bytes;
}

static void begin_snapshot(struct holt_raft_driver *d) {
  d->tried_index = d->applied;
  if (holt_raft_snapshot_at(d->raft, d->applied, &d->taking) != 0 ||
      d->io.snapshot_take(d->arg, &d->taking) != 0)
    d->taking.index = 0;
  d->bytes_since = 0;
}

static int finish_taken(struct holt_raft_driver *d, uint64_t now_ms) {
  struct holt_raft_event event = {
      .type = HOLT_RAFT_EV_SNAPSHOT_TAKEN, .now_ms = now_ms, .snapshot = &d->taking};
  int rc = 0;
  if (d->taken_code == 0 && d->taking.index > d->snapshot_index) { /* a received one may be newer by now */
    rc = step(d, &event);
    if (rc == HOLT_ENOMEM) return rc;
    if (rc == 0) {
      d->snapshot_index = d->taking.index;
      d->snapshots_taken++;
    }
  }
  d->taken_due = false;
  d->taking.index = 0;
  return rc == HOLT_EINVAL ? 0 : rc;
}

static int finish_stored(struct holt_raft_driver *d, uint64_t now_ms) {
  struct holt_raft_event event = {
      .type = HOLT_RAFT_EV_SNAPSHOT_STORED, .now_ms = now_ms, .code = d->stored_code};
  int rc = step(d, &event);
  if (rc == HOLT_ENOMEM) return rc;
  d->stored_due = d->is_storing = false;
  if (rc != 0 || d->stored_code != 0) return rc == HOLT_EINVAL ? 0 : rc;
  d->snapshots_stored++;
  d->snapshot_index = d->storing.index;
  d->bytes_since = 0;
  d->applied = d->applied_told = d->storing.index;
  if (d->apply_to < d->applied) d->apply_to = d->applied;
  return 0;
}

/* Tell one thing that is due. 1: nothing is. */
static int tell(struct holt_raft_driver *d, uint64_t now_ms) {
  struct holt_raft_event event = {.now_ms = now_ms};
  int rc;
  if (d->has_failed && !d->failed_told) {
    event.type = HOLT_RAFT_EV_DISK_FAILED;
    if ((rc = step(d, &event)) == 0) d->failed_told = true;
    return rc;
  }
  if (d->durable > d->durable_told) {
    event.type = HOLT_RAFT_EV_PERSISTED;
    event.seq = d->durable;
    if ((rc = step(d, &event)) == 0) d->durable_told = event.seq;
    return rc;
  }
  if (d->stored_due) return finish_stored(d, now_ms);
  if (d->taken_due) return finish_taken(d, now_ms);
  if (d->gone_count > 0) {
    event.type = HOLT_RAFT_EV_SNAPSHOT_GONE;
    event.id = d->gone[--d->gone_count];
    return step(d, &event);
  }
  if (d->applied > d->applied_told) {
    event.type = HOLT_RAFT_EV_APPLIED;
    event.index = d->applied;
    if ((rc = step(d, &event)) == 0) d->applied_told = event.index;
    return rc;
  }
  return 1;
}

/* Round and round, until the raft has nothing more to say. */
static int settle(struct holt_raft_driver *d, uint64_t now_ms) {
  for (;;) {
    if (d->fatal != NULL) return HOLT_EINTERNAL;
    if (!d->is_storing) apply(d);
    if (d->fatal != NULL) return HOLT_EINTERNAL;
    int rc = tell(d, now_ms);
    if (rc == HOLT_ENOMEM) return 0; /* still due: repeated at the next call */
    if (rc < 0) return rc;
    if (rc == 0) continue;
    if (!wants_snapshot(d)) return 0;
    begin_snapshot(d);
    return 0;
  }
}

int holt_raft_driver_step(struct holt_raft_driver *driver, const struct holt_raft_event *event) {
  if (driver->fatal != NULL) return HOLT_EINTERNAL;
  int rc = step(driver, event);
  int settled = settle(driver, event->now_ms);
  return rc != 0 ? rc : settled;
}

int holt_raft_driver_time(struct holt_raft_driver *driver, uint64_t now_ms) {
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_TIME, .now_ms = now_ms};
  return holt_raft_driver_step(driver, &event);
}

int holt_raft_driver_receive(struct holt_raft_driver *driver, struct holt_buf bytes, uint64_t now_ms) {
  struct holt_raft_entry few[64], *entries = few;
  struct holt_raft_snapshot snapshot;
  struct holt_raft_message message;
  int rc = holt_raft_message_decode(bytes, &message, few, 64, &snapshot);
  if (rc == HOLT_ETOOLARGE) { /* an entry takes more than one byte */
    size_t most = bytes.len < ENTRIES_MAX ? bytes.len : ENTRIES_MAX;
    entries = malloc(most * sizeof *entries);
    if (entries == NULL) return HOLT_ENOMEM;
    rc = holt_raft_message_decode(bytes, &message, entries, (uint32_t)most, &snapshot);
  }
  if (rc == 0) {
    struct holt_raft_event event = {.type = HOLT_RAFT_EV_RECEIVE, .now_ms = now_ms, .message = &message};
    rc = holt_raft_driver_step(driver, &event);
  }
  if (entries != few) free(entries);
  return rc;
}

int holt_raft_driver_persisted(struct holt_raft_driver *driver, uint64_t seq, uint64_t now_ms) {
  if (driver->fatal != NULL) return HOLT_EINTERNAL;
  if (driver->has_failed || seq <= driver->durable) return 0;
  driver->durable = seq;
  release(driver);
  return settle(driver, now_ms);
}

int holt_raft_driver_disk_failed(struct holt_raft_driver *driver, uint64_t now_ms) {
  fail_disk(driver);
  return settle(driver, now_ms);
}

int holt_raft_driver_snapshot_taken(struct holt_raft_driver *driver, int code, uint64_t size_bytes,
                                    uint64_t now_ms) {
  if (driver->taking.index == 0 || driver->taken_due) return HOLT_EINVAL;
  driver->taken_due = true;
  driver->taken_code = code;
  driver->taking.size_bytes = size_bytes;
  return settle(driver, now_ms);
}

int holt_raft_driver_snapshot_stored(struct holt_raft_driver *driver, int code, uint64_t now_ms) {
  if (!driver->is_storing || driver->stored_due) return HOLT_EINVAL;
  driver->stored_due = true;
  driver->stored_code = code;
  return settle(driver, now_ms);
}

int holt_raft_driver_turn(struct holt_raft_driver *driver, uint64_t now_ms) {
  driver->apply_left = driver->options.apply_max;
  return settle(driver, now_ms);
}

bool holt_raft_driver_has_work(const struct holt_raft_driver *driver) {
  return !driver->is_storing && driver->applied < driver->apply_to;
}
