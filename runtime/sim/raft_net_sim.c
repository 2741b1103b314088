/* raft_net_sim.c - the network between hosts: delay, loss, copies, cuts, bursts, and old messages come back.
 */
#include <stdlib.h>

#include "sim/raft_sim_impl.h"

static int class_of(size_t len) {
  int class = 0;
  for (size_t cap = 128; cap < len && class < 7; cap *= 2) class ++;
  return class;
}

static struct rsim_blob *blob_new(struct rsim *w, size_t len) {
  int class = class_of(len);
  struct rsim_blob *blob = class < 7 ? w->free_blobs[class] : NULL;
  if (blob != NULL) {
    w->free_blobs[class] = blob->next;
  } else {
    size_t cap = class < 7 ? (size_t)128 << class : len;
    blob = holt_realloc(NULL, sizeof *blob + cap);
    blob->cap = (uint32_t)cap;
  }
  blob->len = (uint32_t)len;
  blob->references = 1;
  return blob;
}

void holt__rsim_blob_free(struct rsim *w, struct rsim_blob *blob) {
  if (--blob->references > 0) return;
  int class = class_of(blob->cap);
  if (class == 7) {
    free(blob);
    return;
  }
  blob->next = w->free_blobs[class];
  w->free_blobs[class] = blob;
}

void holt__rsim_net_close(struct rsim *w) {
  for (int i = 0; i < RSIM_STALE; i++)
    if (w->stale[i] != NULL) holt__rsim_blob_free(w, w->stale[i]);
  for (int i = 0; i < 8; i++) {
    while (w->free_blobs[i] != NULL) {
      struct rsim_blob *blob = w->free_blobs[i];
      w->free_blobs[i] = blob->next;
      free(blob);
    }
  }
}

static uint64_t delay_of(struct rsim *w, struct rsim_link *link) {
  uint64_t delay = w->delay_us / 2 + holt_rand_next(&w->net_rand) % (w->delay_us + 1);
  if (w->is_healing) return delay;
  if (holt__rsim_has(w, HOLT_RAFT_SIM_JITTER)) {
    uint64_t draw = holt_rand_next(&w->net_rand);
    if (draw % 16 == 0) delay += (draw >> 8) % (w->delay_us * 30);
    if (draw % 256 == 1) delay += (draw >> 8) % (w->config.election_ms * 2000u);
  }
  if (link->slow > 0)
    delay += w->config.election_ms * 300u + holt_rand_next(&w->net_rand) % (w->config.election_ms * 700u);
  if (link->burst_until_us > w->now_us) delay = link->burst_until_us - w->now_us + delay % 50;
  return delay;
}

static void deliver(struct rsim *w, struct rsim_blob *blob, uint64_t delay_us) {
  blob->references++;
  holt__rsim_at(w, delay_us, (struct rsim_event){.type = RSIM_MESSAGE, .host = blob->to, .blob = blob});
}

static void keep_for_later(struct rsim *w, struct rsim_blob *blob) {
  uint64_t at = holt_rand_next(&w->fault_rand[HOLT_RAFT_SIM_STALE]) % RSIM_STALE;
  if ((blob->type == HOLT_RAFT_APPEND_REPLY) != (at % 2 == 0))
    return; /* half the room for acknowledgements */
  if (w->stale[at] != NULL) holt__rsim_blob_free(w, w->stale[at]);
  w->stale[at] = blob;
  blob->references++;
}

void holt__rsim_net_send(struct rsim *w, struct rsim_host *from, const struct holt_raft_message *message,
                         struct holt_buf bytes) {
  const struct rsim_incarnation *to = holt_map_get(&w->by_id, message->to);
  w->result->messages++;
  if (to == NULL || to->host == from->place) return;
  struct rsim_link *link = &w->links[from->place][to->host];
  if (link->cut > 0) return;
  if (holt__rsim_chance(&w->net_rand, w->drop_ppm)) {
    holt__rsim_count(w, HOLT_RAFT_SIM_DROP);
    return;
  }
  struct rsim_blob *blob = blob_new(w, bytes.len);
  memcpy(blob->bytes, bytes.data, bytes.len);
  blob->to = to->host;
  blob->type = message->type;
  deliver(w, blob, delay_of(w, link));
  if (w->duplicate_ppm > 0 && holt__rsim_chance(&w->net_rand, w->duplicate_ppm)) {
    holt__rsim_count(w, HOLT_RAFT_SIM_DUPLICATE);
    deliver(w, blob, delay_of(w, link) * 3);
  }
  if (w->stale_ppm > 0 && holt__rsim_chance(&w->net_rand, w->stale_ppm)) keep_for_later(w, blob);
  holt__rsim_blob_free(w, blob);
}

void holt__rsim_net_replay(struct rsim *w) {
  struct holt_rand *r = &w->fault_rand[HOLT_RAFT_SIM_STALE];
  for (uint64_t i = holt__rsim_between(r, 1, 8); i > 0; i--) {
    struct rsim_blob *blob = w->stale[holt_rand_next(r) % RSIM_STALE];
    if (blob == NULL) continue;
    holt__rsim_count(w, HOLT_RAFT_SIM_STALE);
    deliver(w, blob, 1 + holt_rand_next(&w->net_rand) % 1000);
  }
}
