/* conn.c - one connection: bytes to frames and back, pings, silence.
 *
 * - out: control frames first, then the numbered lanes in the order call, bus, journal, gathered into batches
 * of 128 KiB; while the stream is full nothing is taken from the lanes.
 * - in: frames are handled straight from the bytes read; one that has come in part is put together first.
 * - silence: no byte for `timeout` closes it; when we have said nothing for a quarter of the limit (ours or
 *   theirs, the smaller) we ping.
 * - malformed bytes: a refusal with the reason goes out, and the connection is closed. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "link/link_impl.h"

static const enum holt_lane sending_order[] = {HOLT_LANE_CALL, HOLT_LANE_BUS, HOLT_LANE_JOURNAL};

/* --- Out ------------------------------------------------------------------------------------------ */

void holt__conn_dirty(struct holt_conn *conn) {
  if (!holt_list_is_empty(&conn->dirty) || conn->state == HOLT_CONN_CLOSED) return;
  holt_list_push(&conn->links->dirty, &conn->dirty);
  holt_env_post(conn->links->env, &conn->links->flush);
}

static void put_frame(struct holt_writer *out, enum holt_wire_type type, enum holt_lane lane, uint64_t age_ms,
                      const void *body, size_t len) {
  struct holt_frame frame = {.len = (uint32_t)len,
                             .type = (uint8_t)type,
                             .lane = (uint8_t)lane,
                             .age_ms = age_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)age_ms};
  uint8_t *at = holt_writer_grow(out, HOLT_WIRE_HEADER + len);
  holt_frame_write(at, &frame);
  if (len > 0) memcpy(at + HOLT_WIRE_HEADER, body, len);
}

void holt__conn_control(struct holt_conn *conn, enum holt_wire_type type, const struct holt_writer *body) {
  put_frame(&conn->control, type, HOLT_LANE_CONTROL, 0, body == NULL ? NULL : body->data,
            body == NULL ? 0 : body->len);
  holt__conn_dirty(conn);
}

void holt__conn_ping(struct holt_conn *conn) {
  holt__conn_control(conn, HOLT_WIRE_PING, NULL);
}

int holt_link_post(struct holt_link *link, enum holt_wire_type type, struct holt_buf body) {
  struct holt_conn *conn = link->conn;
  if (conn == NULL || conn->state != HOLT_CONN_UP) return HOLT_EUNREACHABLE;
  if (body.len > conn->links->config.frame_max || body.len > conn->hello.frame_max) return HOLT_ETOOLARGE;
  if (conn->control.len + body.len > HOLT_POST_MAX) return HOLT_EFULL;
  put_frame(&conn->control, type, HOLT_LANE_RAFT, 0, body.data, body.len);
  holt__conn_dirty(conn);
  return 0;
}

static void put_acks(struct holt_conn *conn, struct holt_writer *out) {
  for (size_t i = 0; i < sizeof sending_order / sizeof sending_order[0]; i++) {
    struct holt_lane_in *in = &conn->link->in[sending_order[i]];
    if (!in->is_ack_due) continue;
    in->is_ack_due = false;
    holt__lane_in_acked(in);
    uint8_t body[9];
    body[0] = (uint8_t)sending_order[i];
    holt_put_u64(body + 1, in->done);
    put_frame(out, HOLT_WIRE_ACK, HOLT_LANE_CONTROL, 0, body, sizeof body);
  }
}

static void put_messages(struct holt_conn *conn, struct holt_writer *out) {
  uint64_t now = holt_env_now_ms(conn->links->env);
  for (size_t i = 0; i < sizeof sending_order / sizeof sending_order[0]; i++) {
    enum holt_lane lane = sending_order[i];
    while (out->len < HOLT_OUT_BATCH) {
      struct holt_msg *msg = holt__link_next_msg(conn->link, lane);
      if (msg == NULL) break;
      put_frame(out, (enum holt_wire_type)msg->type, lane, now - msg->born_ms, msg->data, msg->len);
    }
  }
}

void holt__conn_flush(struct holt_conn *conn) {
  struct holt_writer *out = &conn->links->out;
  while (!conn->is_blocked && conn->state != HOLT_CONN_CLOSED) {
    out->len = 0;
    holt_write_bytes(out, conn->control.data, conn->control.len);
    conn->control.len = 0;
    if (conn->state == HOLT_CONN_UP) {
      put_acks(conn, out);
      put_messages(conn, out);
    }
    if (out->len == 0) return;
    conn->said_ms = holt_env_now_ms(conn->links->env);
    int rc = holt_stream_write(conn->stream, out->data, out->len);
    if (rc < 0) { /* on_end follows on a later turn */
      conn->is_blocked = true;
      return;
    }
    conn->is_blocked = rc == 1;
  }
}

static void on_writable(void *arg) {
  struct holt_conn *conn = arg;
  conn->is_blocked = false;
  holt__conn_dirty(conn);
}

/* --- In ------------------------------------------------------------------------------------------- */

static void fail(struct holt_conn *conn, const struct holt_err *err) {
  struct holt_reason reason = {0};
  struct holt_writer body = {0};
  snprintf(reason.word, sizeof reason.word, "%s", holt_err_word(err->code));
  snprintf(reason.text, sizeof reason.text, "%.255s", err->message);
  holt_reason_write(&body, &reason);
  holt__conn_control(conn, conn->state == HOLT_CONN_UP ? HOLT_WIRE_BYE : HOLT_WIRE_REFUSE, &body);
  holt_writer_free(&body);
  holt__conn_close(conn, err, true);
}

static void on_numbered(struct holt_conn *conn, const struct holt_frame *frame, struct holt_buf body) {
  struct holt_links *links = conn->links;
  struct holt_link *link = conn->link;
  enum holt_lane lane = (enum holt_lane)frame->lane;
  struct holt_link_message message = {
      .type = frame->type, .flags = frame->flags, .lane = lane, .age_ms = frame->age_ms, .body = body};
  struct holt_err err;
  if (holt__link_receive(link, lane, frame->len, &message.number, &err) != 0) {
    fail(conn, &err);
    return;
  }
  if (frame->len == 0 || links->ops->on_message == NULL)
    holt_link_consume(link, lane, message.number); /* an empty one stands for a message that was dropped */
  else
    links->ops->on_message(links->arg, link, &message);
}

static void on_frame(struct holt_conn *conn, const struct holt_frame *frame, struct holt_buf body) {
  if (frame->lane == HOLT_LANE_CONTROL) {
    holt__conn_on_control(conn, frame, body);
  } else if (conn->state == HOLT_CONN_UP && holt_lane_is_numbered((enum holt_lane)frame->lane)) {
    on_numbered(conn, frame, body);
  } else if (conn->state == HOLT_CONN_UP && frame->lane == HOLT_LANE_RAFT) {
    struct holt_link_message message = {.type = frame->type, .lane = HOLT_LANE_RAFT, .body = body};
    if (conn->links->ops->on_message != NULL)
      conn->links->ops->on_message(conn->links->arg, conn->link, &message);
  } else {
    struct holt_err err;
    holt_err_set(&err, HOLT_EPROTOCOL, "a message came in lane %u before the handshake was finished",
                 frame->lane);
    fail(conn, &err);
  }
}

static uint32_t body_max(const struct holt_conn *conn) {
  return conn->state == HOLT_CONN_UP ? conn->links->config.frame_max : HOLT_WIRE_HELLO_MAX;
}

/* Handle the first frame of `bytes`. Returns its size, or 0 when it is not whole or the connection has ended.
 */
static size_t take_frame(struct holt_conn *conn, const uint8_t *data, size_t len) {
  struct holt_frame frame;
  struct holt_err err;
  if (len < HOLT_WIRE_HEADER) return 0;
  if (holt_frame_read(data, body_max(conn), &frame, &err) != 0) {
    fail(conn, &err);
    return 0;
  }
  if (len - HOLT_WIRE_HEADER < frame.len) return 0;
  on_frame(conn, &frame, holt_buf(data + HOLT_WIRE_HEADER, frame.len));
  return conn->state == HOLT_CONN_CLOSED ? 0 : HOLT_WIRE_HEADER + frame.len;
}

/* Add to the frame that has come in part, as much as it still lacks. Returns how much was taken. */
static size_t complete_partial(struct holt_conn *conn, const uint8_t *data, size_t len) {
  struct holt_writer *in = &conn->in;
  size_t whole = in->len < HOLT_WIRE_HEADER ? HOLT_WIRE_HEADER : HOLT_WIRE_HEADER + holt_get_u32(in->data);
  size_t taken = whole - in->len < len ? whole - in->len : len;
  holt_write_bytes(in, data, taken);
  if (in->len < whole) return taken;
  struct holt_writer frame = *in; /* handling it may close the connection */
  *in = (struct holt_writer){0};
  if (take_frame(conn, frame.data, frame.len) == 0 && conn->state != HOLT_CONN_CLOSED)
    *in = frame; /* the header is whole now, and valid; the body is still to come */
  else
    holt_writer_free(&frame);
  return taken;
}

static void on_data(void *arg, const uint8_t *data, size_t len) {
  struct holt_conn *conn = arg;
  conn->heard_ms = holt_env_now_ms(conn->links->env);
  if (conn->probe_ms != 0 && conn->link != NULL) {
    conn->probe_ms = 0;
    holt__link_judge_again(conn->link, true);
  }
  while (len > 0 && conn->state != HOLT_CONN_CLOSED) {
    size_t taken = conn->in.len > 0 ? complete_partial(conn, data, len) : take_frame(conn, data, len);
    if (taken == 0 && conn->state != HOLT_CONN_CLOSED) {
      holt_write_bytes(&conn->in, data, len);
      break;
    }
    data += taken;
    len -= taken;
  }
}

static void on_end(void *arg, int status) {
  struct holt_conn *conn = arg;
  struct holt_err err;
  if (status == HOLT_EEOF)
    holt_err_set(&err, HOLT_ERESET, "the other side closed the connection");
  else
    holt_err_set(&err, status, "%s", conn->stream->why != NULL ? conn->stream->why : holt_err_text(status));
  holt__conn_close(conn, &err, false);
}

void holt__conn_free(struct holt_conn *conn) {
  HOLT_ASSERT(conn->state == HOLT_CONN_CLOSED);
  holt_list_remove(&conn->node);
  holt_writer_free(&conn->in);
  holt_writer_free(&conn->control);
  free(conn);
}

/* --- Silence -------------------------------------------------------------------------------------- */

uint64_t holt__conn_limit_ms(const struct holt_conn *conn) {
  uint64_t limit = conn->links->config.timeout_ms;
  uint64_t paced = conn->state == HOLT_CONN_UP && conn->link != NULL ? conn->link->silence_ms : 0;
  return paced != 0 && paced < limit ? paced : limit;
}

static uint64_t quarter_ms(const struct holt_conn *conn) {
  uint64_t limit = holt__conn_limit_ms(conn);
  if (conn->has_hello && conn->hello.timeout_ms < limit) limit = conn->hello.timeout_ms;
  return limit < 4 ? 1 : limit / 4;
}

void holt__conn_watch(struct holt_conn *conn) {
  uint64_t now = holt_env_now_ms(conn->links->env);
  uint64_t due = conn->heard_ms + holt__conn_limit_ms(conn);
  if (conn->state == HOLT_CONN_UP && conn->said_ms + quarter_ms(conn) < due)
    due = conn->said_ms + quarter_ms(conn);
  conn->watch_ms = due > now ? due : now;
  holt_timer_start(&conn->timer, conn->watch_ms - now);
}

/* Called late, we stood still ourselves: what came meanwhile has yet to be read. */
static void forgive_own_delay(struct holt_conn *conn, uint64_t now) {
  uint64_t limit = holt__conn_limit_ms(conn), quarter = quarter_ms(conn);
  if (now - conn->watch_ms < quarter || now - conn->heard_ms + quarter < limit) return;
  conn->heard_ms = now - limit + quarter;
}

static void on_timer(void *arg) {
  struct holt_conn *conn = arg;
  uint64_t now = holt_env_now_ms(conn->links->env);
  uint64_t timeout_ms = holt__conn_limit_ms(conn);
  if (conn->state == HOLT_CONN_JUDGING) {
    holt__conn_probe_over(conn);
    return;
  }
  forgive_own_delay(conn, now);
  if (now - conn->heard_ms >= timeout_ms) {
    struct holt_err err;
    holt_err_set(&err, HOLT_ETIMEOUT,
                 conn->state == HOLT_CONN_UP ? "nothing was heard for %.3g s (timeout)"
                                             : "the handshake was not finished within %.3g s (timeout)",
                 (double)timeout_ms / 1000);
    holt__conn_close(conn, &err, false);
    return;
  }
  if (conn->state == HOLT_CONN_UP && now - conn->said_ms >= quarter_ms(conn)) {
    conn->said_ms = now;
    if (conn->control.len < HOLT_CONTROL_MAX / 8) holt__conn_ping(conn);
  }
  holt__conn_watch(conn);
}

/* --- Life ----------------------------------------------------------------------------------------- */

struct holt_conn *holt__conn_new(struct holt_links *links, struct holt_stream *stream,
                                 struct holt_peer *peer) {
  struct holt_conn *conn = holt_alloc(sizeof *conn);
  conn->links = links;
  conn->stream = stream;
  conn->peer = peer;
  holt_list_init(&conn->dirty);
  holt_list_push(&links->conns, &conn->node);
  conn->heard_ms = conn->said_ms = holt_env_now_ms(links->env);
  holt_timer_init(&conn->timer, links->env, on_timer, conn);
  stream->on_data = on_data;
  stream->on_end = on_end;
  stream->on_writable = on_writable;
  stream->arg = conn;
  holt__conn_watch(conn);
  return conn;
}

/* The last words, when the stream can take them now; what it does not take at once it sends itself. */
static void send_last_words(struct holt_conn *conn) {
  if (!conn->is_blocked && conn->control.len > 0)
    (void)holt_stream_write(conn->stream, conn->control.data, conn->control.len);
}

void holt__conn_close(struct holt_conn *conn, const struct holt_err *err, bool is_polite) {
  if (conn->state == HOLT_CONN_CLOSED) return;
  struct holt_links *links = conn->links;
  struct holt_link *link = conn->link;
  struct holt_peer *peer = conn->peer;
  enum holt_conn_state state = conn->state;
  char where[128];
  memcpy(where, conn->stream->peer, sizeof where);
  if (is_polite) send_last_words(conn);
  holt_stream_close(conn->stream, !is_polite);
  holt_timer_stop(&conn->timer);
  holt_list_remove(&conn->dirty);
  holt_list_remove(&conn->node);
  conn->link = NULL;
  conn->peer = NULL;
  if (peer != NULL && peer->conn == conn) peer->conn = NULL;
  bool is_present = link != NULL && link->conn == conn;
  if (is_present) holt__link_down(link, err); /* looks at conn->state: was it up? */
  conn->state = HOLT_CONN_CLOSED;
  if (peer != NULL && peer->state == HOLT_PEER_SHAKING) holt__peer_retry(peer, err);
  bool is_ours = err != NULL && err->code == HOLT_ESELF; /* the end of it that dialled tells */
  if (peer == NULL && state != HOLT_CONN_UP && err != NULL && !is_ours && !links->is_closed &&
      links->ops->on_refused != NULL)
    links->ops->on_refused(links->arg, where, err);
  if (is_present) holt__link_judge_again(link, false);
  /* Somebody below us on the stack may still look at it. */
  holt_list_push(&links->dead, &conn->node);
  holt_env_post(links->env, &links->bury);
}
