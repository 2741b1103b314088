/* raft_host.c - one machine: a process with its core, driver, log and state machine; its clock; its deaths.
 */
#include <stdlib.h>

#include "base/err.h"
#include "sim/raft_sim_impl.h"

typedef unsigned long long ull;

/* --- Clocks -------------------------------------------------------------------------------------------- */

uint64_t holt__rsim_host_now(const struct rsim *w, const struct rsim_host *h) {
  return (h->clock_base_us + ((w->now_us - h->clock_since_us) * h->clock_rate >> 20)) / 1000;
}

static uint64_t world_time_of(const struct rsim_host *h, uint64_t local_ms) {
  uint64_t local_us = local_ms * 1000;
  if (local_us <= h->clock_base_us) return h->clock_since_us;
  return h->clock_since_us + ((local_us - h->clock_base_us) << 20) / h->clock_rate + 1;
}

static void arm(struct rsim *w, struct rsim_host *h) {
  uint64_t at = world_time_of(h, h->driver.deadline_ms);
  if (at < w->now_us + 20) at = w->now_us + 20;
  if (h->timer_us != 0 && h->timer_us <= at) return;
  h->timer_us = at;
  holt__rsim_at(w, at - w->now_us,
                (struct rsim_event){.type = RSIM_TIMER, .host = h->place, .life = h->life, .value = at});
}

/* --- What the driver asks for ----------------------------------------------------------------------------
 */

static int io_persist(void *arg, const struct holt_raft_persist *persist) {
  struct rsim_host *h = arg;
  struct rsim *w = h->world;
  struct rsim_disk *d = &h->self->disk;
  if (w->has_failed) return 0;
  if (w->config.messages)
    RSIM_SAY(w, "  n%u writes #%llu: %s%zu entries from %llu, truncated from %llu%s", h->place,
             (ull)persist->seq, persist->has_vote ? "term and vote, " : "", persist->count,
             persist->count == 0 ? 0 : (ull)persist->entries[0].index, (ull)persist->truncate_from,
             persist->snapshot != NULL ? persist->is_reset ? ", reset to a snapshot" : ", a snapshot" : "");
  if (d->is_broken || d->is_full) {
    if (HOLT_BUG(33)) { /* tried again, and the second time it "works": the pages are gone */
      struct holt_raft_persist empty = {.seq = persist->seq};
      d->is_broken = d->is_full = false;
      return holt__rsim_disk_write(w, h, &empty, h->records);
    }
    RSIM_SAY(w, "n%u cannot write: %s", h->place, d->is_broken ? "the disk is broken" : "no space");
    return HOLT_EIO;
  }
  return holt__rsim_disk_write(w, h, persist, h->records);
}

static void say_message(struct rsim *w, struct rsim_host *h, const struct holt_raft_message *m) {
  static const char *const words[] = {
      "",     "append",     "append reply", "heartbeat",      "heartbeat reply",
      "vote", "vote reply", "snapshot",     "snapshot reply", "timeout now",
      "read", "read reply", "forward",      "forward reply"};
  holt__rsim_say(w,
                 "  n%u -> %llx %s%s%s: term %llu, index %llu (term %llu), commit %llu, %u entries, round "
                 "%llu, offset %llu, epoch %llu",
                 h->place, (ull)m->to, m->flags & HOLT_RAFT_PRE ? "pre-" : "", words[m->type],
                 m->flags & HOLT_RAFT_REJECT ? " refused" : "", (ull)m->term, (ull)m->index, (ull)m->log_term,
                 (ull)m->commit, m->count, (ull)m->round, (ull)m->offset, (ull)m->epoch);
}

static void io_send(void *arg, const struct holt_raft_message *message, struct holt_buf bytes) {
  struct rsim_host *h = arg;
  struct rsim *w = h->world;
  if (w->has_failed) return;
  holt__rsim_watch_send(w, h, message);
  holt__rsim_mix(w, (uint64_t)message->type << 56 ^ message->to << 32 ^ message->index ^ bytes.len << 20);
  if (message->type == HOLT_RAFT_SNAPSHOT) w->snapshots_at++;
  if (w->config.messages && w->config.line != NULL) say_message(w, h, message);
  holt__rsim_net_send(w, h, message, bytes);
}

static void io_apply(void *arg, const struct holt_raft_entry *entry) {
  struct rsim_host *h = arg;
  struct rsim *w = h->world;
  if (w->has_failed) return;
  if (entry->index != h->fsm.index + 1)
    holt__rsim_fail(w, "apply_order", "n%u applied %llu after %llu", h->place, (ull)entry->index,
                    (ull)h->fsm.index);
  struct rsim_result result = holt__rsim_fsm_apply(w, &h->fsm, entry);
  w->result->applied++;
  holt__rsim_watch_applied(w, h);
  if (h->wait_count > 0) holt__rsim_client_applied(w, h, entry, result);
}

static void io_done(void *arg, const struct holt_raft_done *done) {
  struct rsim_host *h = arg;
  if (!h->world->has_failed) holt__rsim_client_done(h->world, h, done);
}

static void freeze(struct rsim_host *h) {
  struct holt_writer out = {0};
  holt__rsim_fsm_save(&h->fsm, h->self->id + h->life, &out);
  free(h->taking.bytes);
  h->taking.bytes = out.data;
  h->taking.len = out.len;
}

static int io_snapshot_take(void *arg, const struct holt_raft_snapshot *snapshot) {
  struct rsim_host *h = arg;
  struct rsim *w = h->world;
  h->taking.meta = *snapshot;
  if (!HOLT_BUG(37)) freeze(h);
  holt__rsim_at(w, holt__rsim_between(&w->disk_rand, 100, 5000),
                (struct rsim_event){.type = RSIM_TAKEN, .host = h->place, .life = h->life});
  return 0;
}

static bool snapshot_fails(struct rsim *w, uint32_t ppm) {
  if (w->is_healing || !holt__rsim_has(w, HOLT_RAFT_SIM_SNAPSHOT_FAIL)) return false;
  if (!holt__rsim_chance(&w->fault_rand[HOLT_RAFT_SIM_SNAPSHOT_FAIL], ppm)) return false;
  holt__rsim_count(w, HOLT_RAFT_SIM_SNAPSHOT_FAIL);
  return true;
}

static int io_snapshot_read(void *arg, const struct holt_raft_snapshot *snapshot, uint64_t offset,
                            uint8_t *out, uint32_t *len) {
  struct rsim_host *h = arg;
  struct rsim_file *file = holt__rsim_disk_file(&h->self->disk, snapshot->index);
  if (file == NULL) return HOLT_ENOTFOUND;
  if (snapshot_fails(h->world, 20000)) return offset / 16 % 2 == 1 ? HOLT_EBUSY : HOLT_ENOTFOUND;
  if (offset > file->len) return HOLT_EINVAL;
  if (*len > file->len - offset) *len = (uint32_t)(file->len - offset);
  memcpy(out, file->bytes + offset, *len);
  return 0;
}

static int io_snapshot_part(void *arg, const struct holt_raft_part *part) {
  struct rsim_host *h = arg;
  struct rsim *w = h->world;
  if (part->offset == 0) h->incoming_len = 0;
  if (part->offset != h->incoming_len)
    holt__rsim_fail(w, "snapshot_pieces", "n%u got a piece at %llu, has %zu bytes", h->place,
                    (ull)part->offset, h->incoming_len);
  if (h->incoming_len + part->len > h->incoming_cap) {
    h->incoming_cap = (h->incoming_len + part->len) * 2;
    h->incoming = holt_realloc(h->incoming, h->incoming_cap);
  }
  if (part->len > 0) memcpy(h->incoming + h->incoming_len, part->data, part->len);
  h->incoming_len += part->len;
  if (!part->is_last) return 0;
  h->incoming_meta = *part->snapshot;
  holt__rsim_at(w, holt__rsim_between(&w->disk_rand, 100, 8000),
                (struct rsim_event){.type = RSIM_STORED, .host = h->place, .life = h->life});
  return 0;
}

static void io_observe(void *arg, const struct holt_raft_event *event, const struct holt_raft_update *update,
                       int rc) {
  struct rsim_host *h = arg;
  if ((rc == 0 || rc == HOLT_EINVAL) && !h->world->has_failed)
    holt__rsim_watch_step(h->world, h, event, update);
}

static const struct holt_raft_driver_io host_io = {
    .persist = io_persist,
    .send = io_send,
    .apply = io_apply,
    .done = io_done,
    .snapshot_take = io_snapshot_take,
    .snapshot_read = io_snapshot_read,
    .snapshot_part = io_snapshot_part,
    .observe = io_observe,
};

/* --- Life and death ----------------------------------------------------------------------------------------
 */

static struct rsim_incarnation *incarnation_new(struct rsim *w, struct rsim_host *h) {
  struct rsim_incarnation *self = holt_alloc(sizeof *self);
  self->id = ++w->next_id << 4 | h->place;
  self->host = h->place;
  if (w->incarnation_count == w->incarnation_cap) {
    w->incarnation_cap = w->incarnation_cap == 0 ? 32 : w->incarnation_cap * 2;
    w->incarnations = holt_realloc(w->incarnations, w->incarnation_cap * sizeof(struct rsim_incarnation *));
  }
  w->incarnations[w->incarnation_count++] = self;
  holt_map_set(&w->by_id, self->id, self);
  return self;
}

void holt__rsim_host_new(struct rsim *w, struct rsim_host *h) {
  h->self = incarnation_new(w, h);
}

/* The entries of the disk as the core takes them. Freed by the caller. */
static struct holt_raft_entry *restore_entries(const struct rsim_log *log) {
  struct holt_raft_entry *entries = holt_alloc((log->count + 1) * sizeof *entries);
  for (size_t i = 0; i < log->count; i++) {
    const struct rsim_record *r = log->records[log->head + i];
    entries[i] = (struct holt_raft_entry){.index = r->index,
                                          .term = r->term,
                                          .client = r->client,
                                          .seq = r->seq,
                                          .low = r->low,
                                          .stamp_ms = r->stamp_ms,
                                          .data = r->data,
                                          .len = r->len,
                                          .type = r->type};
  }
  return entries;
}

static void options_of(struct rsim *w, struct rsim_host *h, struct holt_raft_options *o) {
  const struct holt_raft_sim_config *c = &w->config;
  holt_raft_options_default(o);
  o->self = h->self->id;
  o->cluster = RSIM_CLUSTER;
  o->seed = holt_rand_next(&w->rand);
  o->election_ms = c->election_ms;
  o->heartbeat_ms = c->heartbeat_ms;
  o->append_bytes = c->append_bytes;
  o->chunk_bytes = c->chunk_bytes;
  o->inflight_messages = c->inflight_messages;
  o->inflight_bytes = c->inflight_bytes;
  o->uncommitted_bytes = c->uncommitted_bytes;
  o->keep_entries = c->keep_entries;
  o->lease_reads = c->lease_reads;
}

static bool load_state(struct rsim *w, struct rsim_host *h, struct holt_raft_restore *restore) {
  struct rsim_disk *d = &h->self->disk;
  holt__rsim_fsm_free(&h->fsm);
  for (int i = 0; i < RSIM_FILES; i++) { /* what the log never came to refer to */
    if (d->file[i].meta.index <= d->snapshot_index) continue;
    free(d->file[i].bytes);
    d->file[i] = (struct rsim_file){0};
  }
  if (d->snapshot_index == 0) return true;
  struct rsim_file *file = holt__rsim_disk_file(d, d->snapshot_index);
  if (file == NULL) {
    holt__rsim_fail(w, "snapshot_missing", "n%u finds no snapshot of %llu on its disk", h->place,
                    (ull)d->snapshot_index);
    return false;
  }
  if (holt__rsim_fsm_load(&h->fsm, holt_buf(file->bytes, file->len)) != 0 ||
      h->fsm.index != file->meta.index) {
    holt__rsim_fail(w, "snapshot_content", "n%u: the snapshot of %llu holds the state at %llu", h->place,
                    (ull)file->meta.index, (ull)h->fsm.index);
    return false;
  }
  restore->snapshot = &file->meta;
  return true;
}

/* 39: a member that finds nothing begins a cluster by itself. */
static void begin_alone(struct rsim_host *h) {
  struct holt_raft_conf conf = {.count = 1,
                                .members = {{.id = h->self->id, .role = HOLT_RAFT_VOTER, .can_lead = true}}};
  struct holt_raft_event event = {
      .type = HOLT_RAFT_EV_BOOTSTRAP, .now_ms = holt__rsim_host_now(h->world, h), .conf = &conf};
  holt_raft_driver_step(&h->driver, &event);
}

void holt__rsim_host_start(struct rsim *w, struct rsim_host *h) {
  struct rsim_disk *d = &h->self->disk;
  struct holt_raft_options options;
  struct holt_raft_restore restore = {.term = d->term, .vote = d->vote, .count = d->log.count};
  HOLT_ASSERT(!h->is_up);
  if (w->config.real_log && !w->config.is_memory) {
    if (d->wal == NULL) d->wal = holt__rsim_wal_new();
    holt__rsim_wal_open(w, h, d->wal);
    if (w->has_failed) return;
    restore = (struct holt_raft_restore){.term = d->term, .vote = d->vote, .count = d->log.count};
  }
  if (!load_state(w, h, &restore)) return;
  options_of(w, h, &options);
  struct holt_raft_entry *entries = restore_entries(&d->log);
  restore.entries = entries;
  int rc = holt_raft_new(&options, &restore, holt__rsim_host_now(w, h), &h->raft);
  free(entries);
  if (rc != 0) {
    holt__rsim_fail(w, "restore", "n%u cannot start from what its disk holds: %s", h->place,
                    holt_err_text(rc));
    return;
  }
  struct holt_raft_driver_options driver = {.snapshot_entries = w->config.snapshot_entries,
                                            .held_bytes_max = 1 << 20,
                                            .apply_max = w->config.apply_max};
  holt_raft_driver_init(&h->driver, h->raft, &host_io, h, &driver,
                        HOLT_BUG(38) ? holt__rsim_log_last(&d->log) : d->snapshot_index);
  holt__rsim_log_copy(&h->log, &d->log);
  h->is_up = true;
  h->life++;
  h->timer_us = h->paused_until_us = h->starved_until_us = 0;
  h->wait_count = 0;
  h->apply_is_due = false;
  holt__rsim_watch_start(w, h);
  if (HOLT_BUG(39) && w->event_count > 0 && h->conf.count == 0) begin_alone(h);
  holt__rsim_host_after(w, h, holt_raft_driver_time(&h->driver, holt__rsim_host_now(w, h)));
}

/* End the process: its memory is gone. */
static void end(struct rsim_host *h) {
  holt_raft_driver_close(&h->driver);
  holt_raft_free(h->raft);
  h->raft = NULL;
  h->is_up = false;
  h->life++;
  h->role = HOLT_RAFT_FOLLOWER;
  h->incoming_len = 0;
  h->wait_count = 0;
  free(h->taking.bytes);
  h->taking = (struct rsim_file){0};
}

void holt__rsim_host_lose(struct rsim *w, struct rsim_host *h) {
  if (!h->self->is_lost) RSIM_SAY(w, "n%u(%llx) has lost its log for good", h->place, (ull)h->self->id);
  h->self->is_lost = true;
}

/* Called from inside the driver too, at a write: so the process ends only once its step is over. */
void holt__rsim_host_crash(struct rsim *w, struct rsim_host *h, const char *why) {
  if (!h->is_up) return;
  RSIM_SAY(w, "n%u(%llx) is killed, %s", h->place, (ull)h->self->id, why);
  holt__rsim_disk_crash(w, h);
  if (w->config.is_memory && !HOLT_BUG(4)) holt__rsim_host_lose(w, h);
  if (HOLT_BUG(4) && w->config.is_memory) { /* 4: the same id comes back with nothing */
    holt__rsim_disk_free(&h->self->disk);
  }
  end(h);
  w->result->restarts++;
  uint64_t after = holt__rsim_between(&w->rand, 100, w->config.election_ms * 6000u);
  holt__rsim_at(w, w->is_healing ? 1000 : after,
                (struct rsim_event){.type = RSIM_START, .host = h->place, .life = h->life});
}

void holt__rsim_host_close(struct rsim *w, struct rsim_host *h) {
  (void)w;
  if (h->is_up) end(h);
  holt__rsim_fsm_free(&h->fsm);
  holt__rsim_log_free(&h->log);
  free(h->incoming);
  free(h->records);
  free(h->taking.bytes);
}

/* --- Events
 * -------------------------------------------------------------------------------------------------- */

void holt__rsim_host_after(struct rsim *w, struct rsim_host *h, int rc) {
  if (w->has_failed || !h->is_up) return;
  if (rc == HOLT_EINTERNAL) {
    holt__rsim_fail(w, "fatal", "n%u(%llx): %s", h->place, (ull)h->self->id,
                    h->driver.fatal == NULL ? "internal error" : h->driver.fatal);
    return;
  }
  if (h->wait_count > 0) holt__rsim_client_reads(w, h);
  if (holt_raft_driver_has_work(&h->driver) && !h->apply_is_due) {
    h->apply_is_due = true;
    holt__rsim_at(w, holt__rsim_between(&w->rand, 10, 3000),
                  (struct rsim_event){.type = RSIM_APPLY, .host = h->place, .life = h->life});
  }
  arm(w, h);
}

static void on_timer(struct rsim *w, struct rsim_host *h, const struct rsim_event *e) {
  if (e->value != h->timer_us) return; /* an earlier one took its place */
  h->timer_us = 0;
  if (h->starved_until_us > w->now_us) {
    h->timer_us = h->starved_until_us;
    holt__rsim_at(
        w, h->starved_until_us - w->now_us,
        (struct rsim_event){.type = RSIM_TIMER, .host = h->place, .life = h->life, .value = h->timer_us});
    return;
  }
  if (holt__rsim_host_now(w, h) < h->driver.deadline_ms) {
    arm(w, h);
    return;
  }
  holt__rsim_host_after(w, h, holt_raft_driver_time(&h->driver, holt__rsim_host_now(w, h)));
}

static void on_message(struct rsim *w, struct rsim_host *h, const struct rsim_event *e) {
  int rc =
      holt_raft_driver_receive(&h->driver, holt_buf(e->blob->bytes, e->blob->len), holt__rsim_host_now(w, h));
  if (rc == HOLT_EPROTOCOL || rc == HOLT_ETOOLARGE)
    holt__rsim_fail(w, "codec", "n%u cannot read a message of type %u", h->place, e->blob->type);
  holt__rsim_host_after(w, h, rc);
}

static void on_taken(struct rsim *w, struct rsim_host *h) {
  if (HOLT_BUG(37)) freeze(h); /* 37: the state as it is now, under the index of then */
  int code = snapshot_fails(w, 100000) ? HOLT_EIO : 0;
  uint64_t size = h->taking.len;
  h->taking.meta.size_bytes = size;
  if (code == 0) code = holt__rsim_disk_keep(h, &h->taking);
  if (code == 0) w->result->snapshots_taken++;
  free(h->taking.bytes);
  h->taking = (struct rsim_file){0};
  holt__rsim_host_after(w, h,
                        holt_raft_driver_snapshot_taken(&h->driver, code, size, holt__rsim_host_now(w, h)));
}

static void on_stored(struct rsim *w, struct rsim_host *h) {
  int code = snapshot_fails(w, 100000) ? HOLT_EIO : 0;
  if (code == 0) {
    struct rsim_file file = {
        .meta = h->incoming_meta, .bytes = holt_alloc(h->incoming_len + 1), .len = h->incoming_len};
    memcpy(file.bytes, h->incoming, h->incoming_len);
    code = holt__rsim_disk_keep(h, &file);
    free(file.bytes); /* not taken */
  }
  if (code == 0) {
    if (holt__rsim_fsm_load(&h->fsm, holt_buf(h->incoming, h->incoming_len)) != 0 ||
        h->fsm.index != h->incoming_meta.index) {
      holt__rsim_fail(w, "snapshot_content", "n%u received a snapshot of %llu that holds the state at %llu",
                      h->place, (ull)h->incoming_meta.index, (ull)h->fsm.index);
      return;
    }
    RSIM_SAY(w, "n%u installs a snapshot of %llu", h->place, (ull)h->fsm.index);
    holt__rsim_watch_applied(w, h);
    w->result->snapshots_installed++;
  }
  h->incoming_len = 0;
  holt__rsim_host_after(w, h, holt_raft_driver_snapshot_stored(&h->driver, code, holt__rsim_host_now(w, h)));
}

static void restart(struct rsim *w, struct rsim_host *h) {
  if (h->is_up) return;
  if (h->self->is_lost) holt__rsim_host_new(w, h);
  holt__rsim_host_start(w, h);
}

static void stop(struct rsim *w, struct rsim_host *h) {
  h->self->disk.is_full = false;
  holt__rsim_host_crash(w, h, "to start again");
}

void holt__rsim_host_event(struct rsim *w, struct rsim_host *h, const struct rsim_event *e) {
  switch (e->type) {
  case RSIM_MESSAGE:
    on_message(w, h, e);
    break;
  case RSIM_TIMER:
    on_timer(w, h, e);
    break;
  case RSIM_DISK:
    holt__rsim_disk_done(w, h);
    break;
  case RSIM_APPLY:
    h->apply_is_due = false;
    holt__rsim_host_after(w, h, holt_raft_driver_turn(&h->driver, holt__rsim_host_now(w, h)));
    break;
  case RSIM_TAKEN:
    on_taken(w, h);
    break;
  case RSIM_STORED:
    on_stored(w, h);
    break;
  case RSIM_START:
    restart(w, h);
    break;
  case RSIM_STOP:
    stop(w, h);
    break;
  default:
    HOLT_ASSERT(false);
  }
}
