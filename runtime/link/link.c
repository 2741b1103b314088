/* link.c - one remote node: what it has not acknowledged, whether it is there, and what grows old meanwhile.
 *
 * - send: the message goes into `pending`; at the next flush it gets its number, moves to `unacked` and is
 * written, as long as the unacknowledged bytes of its lane fit into the window.
 * - acknowledgement: everything up to its number is let go.
 * - link lost: `unacked` is kept and sent again; `pending` is bounded by buffer_max and buffer_bytes, the
 * oldest goes first and a notice takes its place.
 * - too old: while absent the age timer drops it, otherwise the sending does; a notice takes its place. A
 * message that already has a number leaves an empty one behind, so that the numbers stay whole.
 * - nobody dials it and it stays away for buffer_timeout: the link is forgotten. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "link/link_impl.h"

static const enum holt_lane numbered[] = {HOLT_LANE_CALL, HOLT_LANE_BUS, HOLT_LANE_JOURNAL};
#define NUMBERED_COUNT (sizeof numbered / sizeof numbered[0])

/* Messages acknowledged at once after so many, or after so many bytes of the window. */
#define ACK_EVERY 256

void holt__link_tell(struct holt_link *link, const struct holt_peer_notice *notice) {
  HOLT_LIST_EACH(&link->peers, node, next)
  holt__links_tell(HOLT_CONTAINER(node, struct holt_peer, link_node), notice);
}

/* --- Dropping ------------------------------------------------------------------------------------- */

/* `msg` (reference taken) leaves the buffer unsent. */
static void drop(struct holt_link *link, enum holt_lane lane, struct holt_msg *msg, int why, bool was_sent) {
  struct holt_links *links = link->links;
  if (msg->is_quiet) {
    if (links->ops->on_dropped != NULL) links->ops->on_dropped(links->arg, link, msg, was_sent);
    holt_msg_release(msg);
    return;
  }
  if (lane == HOLT_LANE_BUS) holt__lane_out_note_drop(&link->out[lane], why == HOLT_ESTALLED);
  link->dropped++;
  if (links->ops->on_dropped != NULL) links->ops->on_dropped(links->arg, link, msg, was_sent);
  link->dropped_untold++;
  link->dropped_why = why;
  holt_env_post(links->env, &links->drops);
  holt_msg_release(msg);
}

void holt__link_tell_drops(struct holt_link *link) {
  if (link->dropped_untold == 0) return;
  struct holt_peer_notice notice = {.event = HOLT_PEER_DROPPED, .number = link->dropped_untold};
  link->dropped_untold = 0;
  int why = link->dropped_why;
  if (why == HOLT_EFULL)
    holt_err_set(&notice.err, why, "the buffer for this peer is full (buffer_max, buffer_bytes)");
  else if (why == HOLT_ETIMEOUT)
    holt_err_set(&notice.err, why, "older than buffer_timeout");
  else if (why == HOLT_ESTALLED)
    holt_err_set(&notice.err, why, "it has taken nothing for a second; what is slow there?");
  else
    holt_err_set(&notice.err, why, "larger than the peer accepts");
  holt__link_tell(link, &notice);
}

static uint64_t age_of(struct holt_link *link, const struct holt_msg *msg) {
  uint64_t now = holt_env_now_ms(link->links->env);
  return now > msg->born_ms ? now - msg->born_ms : 0;
}

static bool is_expired(struct holt_link *link, const struct holt_msg *msg) {
  return age_of(link, msg) > link->links->config.buffer_timeout_ms;
}

static void drop_old(struct holt_link *link, enum holt_lane lane) {
  struct holt_lane_out *out = &link->out[lane];
  for (size_t i = 0; i < out->unacked.count; i++) {
    struct holt_msg *msg = holt__ring_at(&out->unacked, i);
    if (!is_expired(link, msg)) break;
    if (msg->len == 0) continue; /* already an empty one */
    msg = holt__lane_out_blank(out, i);
    if (msg == NULL) break;
    drop(link, lane, msg, HOLT_ETIMEOUT, true);
  }
  while (out->pending.count > 0 && is_expired(link, holt__ring_at(&out->pending, 0)))
    drop(link, lane, holt__lane_out_shift(out), HOLT_ETIMEOUT, false);
}

static void on_age(void *arg) {
  struct holt_link *link = arg;
  struct holt_links *links = link->links;
  for (size_t i = 0; i < NUMBERED_COUNT; i++) drop_old(link, numbered[i]);
  holt__link_room_changed(link);
  uint64_t absent_ms = holt_env_now_ms(links->env) - link->absent_since_ms;
  bool is_dialled = false;
  HOLT_LIST_EACH(&link->peers, node, next)
  if (*HOLT_CONTAINER(node, struct holt_peer, link_node)->address != '\0') is_dialled = true;
  if (!is_dialled && absent_ms >= links->config.buffer_timeout_ms) {
    holt__link_free(link);
    return;
  }
  uint64_t wait_ms = links->config.buffer_timeout_ms / 8;
  holt_timer_start(&link->age_timer, wait_ms < 50 ? 50 : wait_ms > 10000 ? 10000 : wait_ms);
}

/* --- Life ----------------------------------------------------------------------------------------- */

void holt__link_ack_now(struct holt_link *link) {
  for (size_t i = 0; i < NUMBERED_COUNT; i++)
    if (link->in[numbered[i]].done > link->in[numbered[i]].acked) link->in[numbered[i]].is_ack_due = true;
  if (link->conn != NULL) holt__conn_dirty(link->conn);
}

static void on_ack_timer(void *arg) {
  holt__link_ack_now(arg);
}

static void on_stalled(void *arg) {
  struct holt_link *link = arg;
  uint64_t now = holt_env_now_ms(link->links->env);
  link->has_waiter = false;
  holt_env_post(link->links->env, &link->links->room); /* whoever waits goes on without this link */
  for (size_t i = 0; i < NUMBERED_COUNT; i++) {        /* another lane may have been choked later */
    uint64_t due = link->choked_since_ms[numbered[i]] + HOLT_STALLED_MS;
    if (link->choked_since_ms[numbered[i]] != 0 && due > now && !holt_timer_is_active(&link->stall_timer))
      holt_timer_start(&link->stall_timer, due - now);
  }
}

struct holt_link *holt__link_new(struct holt_links *links) {
  struct holt_link *link = holt_alloc(sizeof *link);
  link->links = links;
  holt_list_init(&link->peers);
  holt_timer_init(&link->ack_timer, links->env, on_ack_timer, link);
  holt_timer_init(&link->age_timer, links->env, on_age, link);
  holt_timer_init(&link->stall_timer, links->env, on_stalled, link);
  link->absent_since_ms = holt_env_now_ms(links->env);
  link->window = links->config.window_bytes;
  holt_list_push(&links->links, &link->node);
  links->link_count++;
  holt_timer_start(&link->age_timer, 50);
  return link;
}

void holt__link_free(struct holt_link *link) {
  struct holt_links *links = link->links;
  if (link->conn != NULL) {
    struct holt_conn *conn = link->conn;
    link->conn = NULL;
    conn->link = NULL;
    holt__conn_close(conn, NULL, true);
  }
  if (links->ops->on_link_gone != NULL) links->ops->on_link_gone(links->arg, link);
  HOLT_LIST_EACH(&link->peers, node, next) {
    struct holt_peer *peer = HOLT_CONTAINER(node, struct holt_peer, link_node);
    holt_list_remove(&peer->link_node);
    peer->link = NULL;
    holt__peer_end(peer);
  }
  holt_timer_stop(&link->ack_timer);
  holt_timer_stop(&link->age_timer);
  holt_timer_stop(&link->stall_timer);
  for (int lane = 0; lane < HOLT_LANE_COUNT; lane++) {
    holt__lane_out_free(&link->out[lane]);
    holt__lane_in_free(&link->in[lane]);
  }
  holt_list_remove(&link->node);
  links->link_count--;
  if (link->has_waiter && !links->is_closed) holt_env_post(links->env, &links->room);
  free(link);
}

void holt__link_merge(struct holt_link *to, struct holt_link *from) {
  HOLT_LIST_EACH(&from->peers, node, next) {
    struct holt_peer *peer = HOLT_CONTAINER(node, struct holt_peer, link_node);
    holt_list_remove(&peer->link_node);
    peer->link = to;
    holt_list_push(&to->peers, &peer->link_node);
  }
  for (size_t i = 0; i < NUMBERED_COUNT; i++) {
    struct holt_ring *ring = &from->out[numbered[i]].pending;
    for (struct holt_msg *msg = holt__ring_shift(ring); msg != NULL; msg = holt__ring_shift(ring)) {
      holt_link_send(to, numbered[i], msg);
      holt_msg_release(msg);
    }
  }
  to->has_waiter |= from->has_waiter;
  holt__link_free(from);
}

/* What may have arrived at another boot is not to arrive at this one too. */
static void forget_sent(struct holt_link *link, enum holt_lane lane) {
  struct holt_links *links = link->links;
  struct holt_ring *unacked = &link->out[lane].unacked;
  for (struct holt_msg *msg = holt__ring_shift(unacked); msg != NULL; msg = holt__ring_shift(unacked)) {
    if (links->ops->on_dropped != NULL) links->ops->on_dropped(links->arg, link, msg, true);
    holt_msg_release(msg);
  }
}

/* The remote does not know the session we are in: number everything anew, and say so first. */
static void start_session(struct holt_link *link) {
  struct holt_writer body = {0};
  link->out_session = holt_env_random(link->links->env) | 1;
  holt_start_write(&body, link->out_session);
  holt__conn_control(link->conn, HOLT_WIRE_START, &body);
  holt_writer_free(&body);
  forget_sent(link, HOLT_LANE_CALL);
  for (size_t i = 0; i < NUMBERED_COUNT; i++) holt__lane_out_restart(&link->out[numbered[i]]);
}

/* Go on behind what the remote has received. False when that cannot be: then the connection is closed. */
static bool resume_session(struct holt_link *link) {
  const struct holt_resume *resume = &link->conn->resume;
  for (size_t i = 0; i < NUMBERED_COUNT; i++) {
    enum holt_lane lane = numbered[i];
    if (holt__lane_out_resume(&link->out[lane], resume->received[lane]) == 0) continue;
    struct holt_err err;
    holt_err_set(&err, HOLT_EPROTOCOL, "%s says it has received message %llu of lane %u, which cannot be",
                 link->name, (unsigned long long)resume->received[lane], lane);
    link->out_session = 0; /* the next handshake starts anew */
    holt__conn_close(link->conn, &err, false);
    return false;
  }
  return true;
}

void holt__link_on_start(struct holt_link *link, uint64_t session) {
  link->in_session = session;
  for (size_t i = 0; i < NUMBERED_COUNT; i++) holt__lane_in_restart(&link->in[numbered[i]]);
}

void holt__link_up(struct holt_link *link) {
  struct holt_links *links = link->links;
  struct holt_conn *conn = link->conn;
  holt_timer_stop(&link->age_timer);
  link->last_connection = conn->number;
  link->window =
      links->config.window_bytes < conn->hello.window ? links->config.window_bytes : conn->hello.window;
  link->connects++;
  if (link->in_session == 0 || conn->resume.own != link->in_session)
    holt__link_on_start(link, 0); /* START follows */
  link->is_resumed = link->out_session != 0 && conn->resume.session == link->out_session;
  if (!link->is_resumed)
    start_session(link);
  else if (!resume_session(link))
    return;
  for (size_t i = 0; i < NUMBERED_COUNT; i++) {
    struct holt_lane_in *in = &link->in[numbered[i]];
    in->acked = 0; /* what the last connection was told may have been lost with it */
    in->is_ack_due = in->done > 0;
  }
  if (holt_list_is_empty(&link->peers)) holt__peer_new(links, link, "");
  holt__link_tell(link, &(struct holt_peer_notice){.event = HOLT_PEER_PEERID});
  HOLT_LIST_EACH(&link->peers, node, next) holt__peer_rest(HOLT_CONTAINER(node, struct holt_peer, link_node));
  holt__link_tell(link, &(struct holt_peer_notice){.event = HOLT_PEER_INITIALIZED});
  if (links->ops->on_link_up != NULL) links->ops->on_link_up(links->arg, link);
  holt__link_room_changed(link);
  holt__conn_dirty(conn);
}

#define NOTICE_MAX (16 * 1024) /* bytes in one notice; the next tells the rest */

/* When a notice is due next: let its owner write it, and put it in front of what waits to be sent. */
static void put_notice(struct holt_link *link, struct holt_lane_out *out) {
  if (!out->has_notice || out->notice_at > 0) return;
  struct holt_links *links = link->links;
  struct holt_writer body = {0};
  size_t len_max = link->conn != NULL && link->conn->hello.frame_max < NOTICE_MAX
                       ? link->conn->hello.frame_max
                       : NOTICE_MAX;
  out->has_notice = links->ops->on_notice != NULL && links->ops->on_notice(links->arg, link, len_max, &body);
  struct holt_msg *msg = body.len == 0 ? NULL : holt_msg_new(HOLT_WIRE_DROPPED, body.len);
  if (msg != NULL) {
    memcpy(msg->data, body.data, body.len);
    msg->born_ms = holt_env_now_ms(links->env);
    holt__ring_unshift(&out->pending, msg);
    out->notice_at = 1; /* for the rest */
  }
  holt_writer_free(&body);
}

/* What a present peer's window had taken is kept besides what its buffer may hold while it is away: it gets
 * its numbers now. (Not in the call lane: what was surely not sent may be tried elsewhere.) */
static void keep_accepted(struct holt_link *link, enum holt_lane lane) {
  struct holt_lane_out *out = &link->out[lane];
  uint64_t cost = out->unacked.bytes + out->unacked.count * HOLT_WIRE_HEADER;
  for (;;) {
    put_notice(link, out);
    if (out->pending.count == 0) return;
    cost += holt__cost(holt__ring_at(&out->pending, 0)->len);
    if (out->unacked.count > 0 && cost > link->window) return;
    holt__ring_push(&out->unacked, holt__lane_out_shift(out));
  }
}

void holt__link_down(struct holt_link *link, const struct holt_err *err) {
  struct holt_links *links = link->links;
  bool was_up = link->conn->state == HOLT_CONN_UP;
  link->conn = NULL;
  keep_accepted(link, HOLT_LANE_BUS);
  keep_accepted(link, HOLT_LANE_JOURNAL);
  link->absent_since_ms = holt_env_now_ms(links->env);
  holt_timer_stop(&link->ack_timer);
  holt_timer_start(&link->age_timer, 50);
  struct holt_peer_notice notice = {.event = HOLT_PEER_DISCONNECT};
  if (err != NULL) notice.err = *err;
  if (was_up) holt__link_tell(link, &notice);
  if (was_up && links->ops->on_link_down != NULL) links->ops->on_link_down(links->arg, link);
  HOLT_LIST_EACH(&link->peers, node, next) {
    struct holt_peer *peer = HOLT_CONTAINER(node, struct holt_peer, link_node);
    if (peer->state == HOLT_PEER_RESTING && *peer->address != '\0') holt__peer_retry(peer, err);
  }
  if (was_up) holt__link_room_changed(link);
}

void holt_link_pace(struct holt_link *link, uint64_t redial_ms, uint64_t silence_ms) {
  if (link->redial_ms == redial_ms && link->silence_ms == silence_ms) return;
  link->redial_ms = redial_ms;
  link->silence_ms = silence_ms;
  if (link->conn != NULL && link->conn->state == HOLT_CONN_UP) {
    link->conn->heard_ms =
        holt_env_now_ms(link->links->env); /* idle so far: the new limit counts from here */
    holt__conn_watch(link->conn);
  }
  HOLT_LIST_EACH(&link->peers, node, next) {
    struct holt_peer *peer = HOLT_CONTAINER(node, struct holt_peer, link_node);
    holt__peer_pace(peer);
  }
}

/* --- Sending -------------------------------------------------------------------------------------- */

bool holt_link_is_up(const struct holt_link *link) {
  return link->conn != NULL && link->conn->state == HOLT_CONN_UP;
}

static bool is_absent_buffer_full(const struct holt_link *link, enum holt_lane lane, size_t len) {
  const struct holt_links_config *config = &link->links->config;
  const struct holt_ring *pending = &link->out[lane].pending;
  return pending->count >= config->buffer_max ||
         (pending->count > 0 && pending->bytes + len > config->buffer_bytes);
}

static bool has_credit(const struct holt_link *link, enum holt_lane lane, size_t len) {
  uint64_t used = holt__lane_out_cost(&link->out[lane]);
  return used == 0 || used + holt__cost(len) <= link->window;
}

/* The lane of a present peer has no credit: note since when. */
static void choke(struct holt_link *link, enum holt_lane lane) {
  link->has_waiter = true;
  if (link->choked_since_ms[lane] != 0) return;
  link->choked_since_ms[lane] = holt_env_now_ms(link->links->env) + 1; /* 0 means: not choked */
  if (!holt_timer_is_active(&link->stall_timer)) holt_timer_start(&link->stall_timer, HOLT_STALLED_MS + 1);
}

static void unchoke(struct holt_link *link) {
  for (size_t i = 0; i < NUMBERED_COUNT; i++)
    if (!holt_link_is_up(link) || has_credit(link, numbered[i], 1)) link->choked_since_ms[numbered[i]] = 0;
}

bool holt_link_is_stalled(const struct holt_link *link, enum holt_lane lane) {
  uint64_t since = link->choked_since_ms[lane];
  uint64_t now = holt_env_now_ms(link->links->env);
  return since != 0 && holt_link_is_up(link) && now >= since + HOLT_STALLED_MS;
}

int holt_link_room(struct holt_link *link, enum holt_lane lane, size_t len) {
  if (holt_link_is_up(link)) {
    if (has_credit(link, lane, len)) return 0;
    choke(link, lane);
    return holt_link_is_stalled(link, lane) ? HOLT_ESTALLED : HOLT_EAGAIN;
  }
  if (!is_absent_buffer_full(link, lane, len)) return 0;
  if (link->links->config.overflow == HOLT_OVERFLOW_ERROR) return HOLT_EFULL;
  if (link->links->config.overflow == HOLT_OVERFLOW_DROP_OLDEST) return 0;
  link->has_waiter = true;
  return HOLT_EAGAIN;
}

/* Tell those who wait as soon as there is any room: an acknowledgement covers many messages, so this is not
 * done for each single one. Waiting for more room than that could wait for ever, when the other side waits
 * for us. */
void holt__link_room_changed(struct holt_link *link) {
  unchoke(link);
  if (!link->has_waiter) return;
  bool waits = link->links->config.overflow == HOLT_OVERFLOW_WAIT;
  if (holt_link_is_up(link) && !has_credit(link, HOLT_LANE_BUS, 1)) {
    choke(link, HOLT_LANE_BUS); /* it may have come up with more than a window for it */
    return;
  }
  if (!holt_link_is_up(link) && waits && is_absent_buffer_full(link, HOLT_LANE_BUS, 1)) return;
  link->has_waiter = false;
  holt_env_post(link->links->env, &link->links->room);
}

void holt_link_send(struct holt_link *link, enum holt_lane lane, struct holt_msg *msg) {
  HOLT_ASSERT(holt_lane_is_numbered(lane));
  struct holt_lane_out *out = &link->out[lane];
  if (holt_link_is_up(link)) {
    holt__ring_push(&out->pending, holt_msg_retain(msg));
    holt__conn_dirty(link->conn);
    return;
  }
  while (out->pending.count > 0 && is_absent_buffer_full(link, lane, msg->len))
    drop(link, lane, holt__lane_out_shift(out), HOLT_EFULL, false);
  if (link->links->config.buffer_max == 0)
    drop(link, lane, holt_msg_retain(msg), HOLT_EFULL, false);
  else
    holt__ring_push(&out->pending, holt_msg_retain(msg));
}

bool holt_link_is_choked(struct holt_link *link, enum holt_lane lane) {
  if (!holt_link_is_up(link) || holt__lane_out_cost(&link->out[lane]) <= link->window) return false;
  choke(link, lane);
  return true;
}

void holt_link_drop(struct holt_link *link, enum holt_lane lane, struct holt_msg *msg) {
  drop(link, lane, holt_msg_retain(msg), HOLT_ESTALLED, false);
}

/* The next message gets its number. Those that are not to be sent any more are dropped. False: none is left.
 */
static bool number_next(struct holt_link *link, enum holt_lane lane) {
  struct holt_lane_out *out = &link->out[lane];
  for (;;) {
    put_notice(link, out);
    if (out->pending.count == 0) return false;
    struct holt_msg *msg = holt__ring_at(&out->pending, 0);
    bool is_too_large = msg->len > link->conn->hello.frame_max;
    if (is_too_large || is_expired(link, msg)) {
      drop(link, lane, holt__lane_out_shift(out), is_too_large ? HOLT_ETOOLARGE : HOLT_ETIMEOUT, false);
      continue;
    }
    if (!holt__lane_out_may_write(out, msg->len, link->window)) return false; /* no credit */
    holt__ring_push(&out->unacked, holt__lane_out_shift(out));
    return true;
  }
}

struct holt_msg *holt__link_next_msg(struct holt_link *link, enum holt_lane lane) {
  struct holt_lane_out *out = &link->out[lane];
  if (out->written == out->unacked.count) return number_next(link, lane) ? holt__lane_out_write(out) : NULL;
  struct holt_msg *again = holt__ring_at(&out->unacked, out->written);
  if (again->len > link->conn->hello.frame_max) { /* of another boot, which takes less than the last one */
    struct holt_msg *old = holt__lane_out_blank(out, out->written);
    if (old == NULL) return NULL;
    again = holt__ring_at(&out->unacked, out->written);
    again->tag[0] = 0; /* this one was not sent to the remote as it is now */
    drop(link, lane, old, HOLT_ETOOLARGE, true);
  }
  return holt__lane_out_may_write(out, again->len, link->window) ? holt__lane_out_write(out) : NULL;
}

/* --- Acknowledging -------------------------------------------------------------------------------- */

void holt__link_on_ack(struct holt_link *link, const struct holt_ack *ack) {
  uint64_t before = link->out[ack->lane].unacked.bytes;
  int64_t count = holt__lane_out_ack(&link->out[ack->lane], ack->number);
  if (count < 0) {
    struct holt_err err;
    holt_err_set(&err, HOLT_EPROTOCOL, "%s acknowledged message %llu of lane %u, which cannot be", link->name,
                 (unsigned long long)ack->number, ack->lane);
    link->out_session = 0;
    holt__conn_close(link->conn, &err, false);
    return;
  }
  if (count == 0) return;
  link->choked_since_ms[ack->lane] = 0; /* it takes something */
  if (ack->lane == HOLT_LANE_BUS && link->links->ops->on_credit != NULL)
    link->links->ops->on_credit(link->links->arg, link, before - link->out[ack->lane].unacked.bytes);
  if (ack->lane == HOLT_LANE_BUS)
    holt__link_tell(link, &(struct holt_peer_notice){.event = HOLT_PEER_ACKNOWLEDGE, .number = ack->number});
  holt__link_room_changed(link);
  const struct holt_lane_out *out = &link->out[ack->lane];
  if (link->conn != NULL && (out->pending.count > 0 || out->written < out->unacked.count))
    holt__conn_dirty(link->conn);
}

/* Above the number of a message lies the epoch of its session. */
#define NUMBER_BITS 48

int holt__link_receive(struct holt_link *link, enum holt_lane lane, size_t len, uint64_t *number,
                       struct holt_err *err) {
  struct holt_lane_in *in = &link->in[lane];
  if (!holt__lane_in_may_receive(in, len, link->window))
    return holt_err_set(
        err, HOLT_EPROTOCOL,
        "%s sent more in lane %u than its window of %llu bytes allows before an acknowledgement", link->name,
        lane, (unsigned long long)link->window);
  *number = holt__lane_in_receive(in, len) | (uint64_t)in->epoch << NUMBER_BITS;
  return 0;
}

void holt_link_consume(struct holt_link *link, enum holt_lane lane, uint64_t number) {
  struct holt_lane_in *in = &link->in[lane];
  if (number >> NUMBER_BITS != in->epoch) return; /* of a session that is over */
  holt__lane_in_consume(in, number & (((uint64_t)1 << NUMBER_BITS) - 1));
  if (!holt_link_is_up(link)) return;
  if (in->done - in->acked >= ACK_EVERY || holt__lane_in_cost(in) >= link->window / 4) {
    in->is_ack_due = in->done > in->acked;
    if (in->is_ack_due) holt__conn_dirty(link->conn);
  }
  if (!holt_timer_is_active(&link->ack_timer))
    holt_timer_start(&link->ack_timer, link->links->config.ack_interval_ms);
}

/* --- For the owner -------------------------------------------------------------------------------- */

const char *holt_link_name(const struct holt_link *link) {
  return link->name;
}
const char *holt_link_label(const struct holt_link *link) {
  if (link->name[0] != '\0' || holt_list_is_empty(&link->peers)) return link->name;
  return HOLT_CONTAINER(link->peers.next, struct holt_peer, link_node)->address;
}
uint64_t holt_link_boot(const struct holt_link *link) {
  return link->boot;
}
bool holt_link_is_resumed(const struct holt_link *link) {
  return link->is_resumed;
}
uint32_t holt_link_frame_max(const struct holt_link *link) {
  return holt_link_is_up(link) ? link->conn->hello.frame_max : 0;
}
void holt_link_set_data(struct holt_link *link, void *data) {
  link->data = data;
}
void *holt_link_data(const struct holt_link *link) {
  return link->data;
}

void holt_link_reset(struct holt_link *link) {
  struct holt_err err;
  if (link->conn == NULL) return;
  holt_err_set(&err, HOLT_ERESET, "the connection was cut on purpose");
  holt__conn_close(link->conn, &err, false);
}

void holt_link_status(const struct holt_link *link, struct holt_link_status *out) {
  *out = (struct holt_link_status){.name = link->name,
                                   .id = link->id,
                                   .boot = link->boot,
                                   .is_up = holt_link_is_up(link),
                                   .acknowledged = link->out[HOLT_LANE_BUS].base,
                                   .received = link->in[HOLT_LANE_BUS].received,
                                   .dropped = link->dropped,
                                   .connects = link->connects};
  for (size_t i = 0; i < NUMBERED_COUNT; i++) {
    out->buffered += holt__lane_out_count(&link->out[numbered[i]]);
    out->buffered_bytes += holt__lane_out_bytes(&link->out[numbered[i]]);
  }
  HOLT_LIST_EACH(&link->peers, node, next) {
    uint32_t attempts = HOLT_CONTAINER(node, struct holt_peer, link_node)->attempts;
    if (attempts > out->attempts) out->attempts = attempts;
  }
}
