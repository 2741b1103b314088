/* peer.c - the handle a person holds: an address that is dialled, or a node that dialled us.
 *
 * - dial; a failure, a refusal or a lost link leads to a wait, then to the next attempt.
 * - the wait is drawn from [0, min(backoff_max, backoff_min * 2^attempts)]: "full jitter" (Brooker,
 * "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). A finished handshake resets it, a bare
 * connect does not.
 * - a refusal that will not change by itself (channel, version, name) waits at least half of backoff_max.
 * - a link with a pace of its own (holt_link_pace): the wait has that ceiling, and an attempt and its
 * handshake each end after as much.
 * - the link is up, by whatever connection: rest until it falls.
 * - an address known by hearsay: no next attempt once it was not heard of for HOLT_MEET_MS, and nobody there.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "link/link_impl.h"

/* The attempt, or its handshake, took too long. */
static void give_up(struct holt_peer *peer) {
  struct holt_err err;
  holt_err_set(&err, HOLT_ETIMEOUT, "no link within %.3g s", (double)peer->link->redial_ms / 1000);
  if (peer->state == HOLT_PEER_SHAKING && peer->conn != NULL)
    holt__conn_close(peer->conn, &err, false); /* which leads to the next attempt */
  else
    holt__peer_retry(peer, &err);
}

static void on_timer(void *arg) {
  struct holt_peer *peer = arg;
  if (peer->state == HOLT_PEER_DIALLING || peer->state == HOLT_PEER_SHAKING) {
    give_up(peer);
    return;
  }
  holt__links_tell(peer, &(struct holt_peer_notice){.event = HOLT_PEER_RECONNECT,
                                                    .attempt = peer->attempts,
                                                    .delay_ms = peer->delay_ms});
  if (peer->state == HOLT_PEER_WAITING) holt__peer_dial(peer);
}

struct holt_peer *holt__peer_new(struct holt_links *links, struct holt_link *link, const char *address) {
  static uint64_t peers_made;
  struct holt_peer *peer = holt_alloc(sizeof *peer);
  *peer =
      (struct holt_peer){.links = links, .link = link, .number = ++peers_made, .state = HOLT_PEER_RESTING};
  peer->address = holt_strdup(address);
  holt_timer_init(&peer->timer, links->env, on_timer, peer);
  holt_list_push(&links->peers, &peer->node);
  holt_list_push(&link->peers, &peer->link_node);
  return peer;
}

static void limit_stage(struct holt_peer *peer) {
  if (peer->link != NULL && peer->link->redial_ms != 0) holt_timer_start(&peer->timer, peer->link->redial_ms);
}

static void on_dialled(void *arg, struct holt_stream *stream, const struct holt_err *err) {
  struct holt_peer *peer = arg;
  peer->dial = NULL;
  if (stream == NULL) {
    holt__peer_retry(peer, err);
    return;
  }
  peer->state = HOLT_PEER_SHAKING;
  peer->conn = holt__conn_new(peer->links, stream, peer);
  holt__conn_say_hello(peer->conn);
  limit_stage(peer);
  holt__links_tell(peer, &(struct holt_peer_notice){.event = HOLT_PEER_CONNECT});
}

void holt__peer_dial(struct holt_peer *peer) {
  HOLT_ASSERT(peer->dial == NULL);
  HOLT_ASSERT(peer->conn == NULL);
  peer->state = HOLT_PEER_DIALLING;
  limit_stage(peer);
  peer->dial = peer->links->transport->ops->dial(peer->links->transport, peer->address, on_dialled, peer);
}

static void stop_attempt(struct holt_peer *peer) {
  holt_timer_stop(&peer->timer);
  if (peer->dial != NULL) peer->dial->close(peer->dial);
  peer->dial = NULL;
}

void holt__peer_rest(struct holt_peer *peer) {
  if (peer->state == HOLT_PEER_ENDED) return;
  struct holt_conn *conn = peer->conn;
  stop_attempt(peer);
  peer->attempts = 0;
  peer->state = HOLT_PEER_RESTING;
  if (conn != NULL && conn != peer->link->conn) { /* it was still shaking hands over another connection */
    struct holt_err err;
    holt_err_set(&err, HOLT_EDUPLICATE, "these two nodes have a link already");
    holt__conn_close(conn, &err, false);
  }
}

static bool is_lasting(int code) {
  return code == HOLT_ECHANNEL || code == HOLT_EVERSION || code == HOLT_ENAMEINUSE || code == HOLT_ESELF ||
         code == HOLT_EMAXPEERS || code == HOLT_EPROTOCOL;
}

static uint64_t draw_delay_ms(struct holt_peer *peer, int code) {
  const struct holt_links_config *config = &peer->links->config;
  uint64_t cap = config->backoff_max_ms;
  uint64_t draw = holt_env_random(peer->links->env);
  const struct holt_link *link = peer->link;
  uint64_t paced = link == NULL ? 0 : link->redial_ms;
  if (paced != 0 && link->silence_ms == 0 &&
      is_lasting(code)) /* a name is free again once its owner is missed */
    paced = code == HOLT_ENAMEINUSE ? 4 * paced : 0;
  if (paced != 0 && paced < cap) cap = paced;
  if (is_lasting(code)) return cap / 2 + draw % (cap - cap / 2 + 1);
  uint32_t doublings = peer->attempts - 1;
  if (doublings < 32 && config->backoff_min_ms << doublings < cap) cap = config->backoff_min_ms << doublings;
  return draw % (cap + 1);
}

static bool is_given_up(const struct holt_peer *peer) {
  uint64_t since = peer->met_ms, now = holt_env_now_ms(peer->links->env);
  if (peer->link->absent_since_ms > since) since = peer->link->absent_since_ms;
  return peer->is_met && !holt_link_is_up(peer->link) && now - since > HOLT_MEET_MS;
}

/* A link whose node is known by name lives on, in case that dials; else the peer is all there is of it. */
static void leave_to_others(struct holt_peer *peer) {
  if (peer->link->name[0] == '\0') {
    peer->state = HOLT_PEER_RESTING;
    holt_peer_close(peer);
    return;
  }
  holt_list_remove(&peer->link_node);
  peer->link = NULL;
  holt__peer_end(peer);
}

void holt__peer_retry(struct holt_peer *peer, const struct holt_err *err) {
  if (peer->state == HOLT_PEER_ENDED || peer->links->is_closed) return;
  stop_attempt(peer);
  if (is_given_up(peer)) {
    leave_to_others(peer);
    return;
  }
  int code = err == NULL ? 0 : err->code;
  if (code == HOLT_EDUPLICATE && holt_link_is_up(peer->link)) {
    peer->attempts = 0;
    peer->state = HOLT_PEER_RESTING;
    return;
  }
  peer->attempts++;
  peer->state = HOLT_PEER_WAITING;
  peer->delay_ms = draw_delay_ms(peer, code);
  holt_timer_start(&peer->timer, peer->delay_ms);
  struct holt_peer_notice notice = {
      .event = HOLT_PEER_BACKOFF, .attempt = peer->attempts, .delay_ms = peer->delay_ms};
  if (err != NULL) notice.err = *err;
  holt__links_tell(peer, &notice);
}

void holt__peer_pace(struct holt_peer *peer) {
  uint64_t redial_ms = peer->link->redial_ms;
  if (redial_ms == 0) return;
  bool is_trying = peer->state == HOLT_PEER_DIALLING || peer->state == HOLT_PEER_SHAKING;
  if (is_trying && !holt_timer_is_active(&peer->timer)) limit_stage(peer);
  if (peer->state != HOLT_PEER_WAITING || peer->delay_ms <= redial_ms) return;
  peer->delay_ms = holt_env_random(peer->links->env) % (redial_ms + 1);
  holt_timer_start(&peer->timer, peer->delay_ms);
}

void holt__peer_end(struct holt_peer *peer) {
  if (peer->state == HOLT_PEER_ENDED) return;
  stop_attempt(peer);
  peer->state = HOLT_PEER_ENDED;
  struct holt_conn *conn = peer->conn;
  peer->conn = NULL;
  if (conn != NULL) {
    conn->peer = NULL;
    if (conn->link == NULL) holt__conn_close(conn, NULL, false);
  }
  holt_env_post(peer->links->env, &peer->links->farewell);
}

uint64_t holt_peer_number(const struct holt_peer *peer) {
  return peer->number;
}
const char *holt_peer_address(const struct holt_peer *peer) {
  return peer->address;
}
struct holt_link *holt_peer_link(const struct holt_peer *peer) {
  return peer->link != NULL && !peer->link->is_doomed ? peer->link : NULL;
}

void holt_peer_close(struct holt_peer *peer) {
  struct holt_link *link = peer->link;
  if (peer->state == HOLT_PEER_ENDED || link->is_doomed) return;
  if (link->conn != NULL && link->conn->state == HOLT_CONN_UP) {
    struct holt_reason reason = {.word = "closed", .text = "the peer was closed"};
    struct holt_writer body = {0};
    holt_reason_write(&body, &reason);
    holt__conn_flush(link->conn);
    holt__conn_control(link->conn, HOLT_WIRE_BYE, &body);
    holt_writer_free(&body);
  }
  stop_attempt(peer);
  link->is_doomed = true; /* somebody below us on the stack may stand on it */
  holt_env_post(peer->links->env, &peer->links->doom);
}
