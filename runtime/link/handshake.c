/* handshake.c - who takes whom, and from which number on.
 *
 * - the dialling side says hello; the other side answers hello, and with it resume (it takes the connection)
 * or refuse; the dialling side answers resume or refuse. Both have taken each other: the link is up.
 * - resume tells what has been received; whoever remembers nothing of the other says so and both number anew.
 * - two connections of the same two nodes: one that names the present connection replaces it (it was half
 * open); of two that are both being made, the one dialled by the smaller id stays; any other newcomer waits
 * while the present connection is pinged, and is refused if that answers.
 * - a refusal carries a word and a sentence, and is told on both sides. */
#include <stdio.h>

#include "base/assert.h"
#include "link/link_impl.h"

#define PROBE_MS_MAX 2000

void holt__conn_say_hello(struct holt_conn *conn) {
  struct holt_links *links = conn->links;
  struct holt_hello hello = {.version = HOLT_WIRE_VERSION,
                             .id = links->config.id,
                             .boot = links->config.boot,
                             .timeout_ms = (uint32_t)links->config.timeout_ms,
                             .frame_max = links->config.frame_max,
                             .window = (uint32_t)links->config.window_bytes};
  struct holt_link *link = conn->peer != NULL ? conn->peer->link : holt__links_find(links, conn->hello.name);
  if (link != NULL) hello.last = link->last_connection;
  if (conn->peer != NULL) hello.connection = conn->number = holt_env_random(links->env) | 1;
  snprintf(hello.name, sizeof hello.name, "%s", links->config.name);
  snprintf(hello.channel, sizeof hello.channel, "%s", links->config.channel);
  struct holt_writer body = {0};
  holt_hello_write(&body, &hello);
  holt__conn_control(conn, HOLT_WIRE_HELLO, &body);
  holt_writer_free(&body);
  conn->has_sent_hello = true;
}

/* The peer's link is `link` from now on. */
static void attach(struct holt_peer *peer, struct holt_link *link) {
  struct holt_link *old = peer->link;
  if (old == link) return;
  if (old->name[0] == '\0') { /* what was emitted before its name was known goes to whoever answered */
    holt__link_merge(link, old);
    return;
  }
  holt_list_remove(&peer->link_node);
  peer->link = link;
  holt_list_push(&link->peers, &peer->link_node);
}

/* The two nodes have a link already: then the peer that dialled leads to that one. */
static void attach_duplicate(struct holt_conn *conn) {
  struct holt_link *link = conn->has_hello ? holt__links_find(conn->links, conn->hello.name) : NULL;
  if (conn->peer != NULL && link != NULL) attach(conn->peer, link);
}

static void refuse(struct holt_conn *conn, const struct holt_err *err) {
  struct holt_reason reason = {0};
  if (err->code == HOLT_EDUPLICATE) attach_duplicate(conn);
  struct holt_writer body = {0};
  snprintf(reason.word, sizeof reason.word, "%s", holt_err_word(err->code));
  snprintf(reason.text, sizeof reason.text, "%.255s", err->message);
  holt_reason_write(&body, &reason);
  holt__conn_control(conn, HOLT_WIRE_REFUSE, &body);
  holt_writer_free(&body);
  holt__conn_close(conn, err, true);
}

static void finish(struct holt_conn *conn) {
  conn->state = HOLT_CONN_UP;
  holt__link_up(conn->link);
  if (conn->state == HOLT_CONN_UP) holt__conn_watch(conn);
}

static void accept(struct holt_conn *conn) {
  struct holt_links *links = conn->links;
  struct holt_link *link = holt__links_find(links, conn->hello.name);
  if (link == NULL)
    link = conn->peer != NULL && conn->peer->link->name[0] == '\0' ? conn->peer->link : holt__link_new(links);
  if (conn->peer != NULL) attach(conn->peer, link);
  HOLT_ASSERT(link->conn == NULL);
  snprintf(link->name, sizeof link->name, "%s", conn->hello.name);
  link->boot = conn->hello.boot;
  link->id = conn->hello.id;
  link->conn = conn;
  conn->link = link;
  conn->state = HOLT_CONN_RESUME;
  struct holt_resume resume = {.session = link->in_session, .own = link->out_session};
  for (int lane = 0; lane < HOLT_LANE_COUNT; lane++) resume.received[lane] = link->in[lane].received;
  struct holt_writer body = {0};
  holt_resume_write(&body, &resume);
  holt__conn_control(conn, HOLT_WIRE_RESUME, &body);
  holt_writer_free(&body);
  holt__conn_watch(conn);
  if (conn->has_resume) finish(conn);
}

static void refuse_newcomer(struct holt_conn *conn, const struct holt_link *link) {
  struct holt_err err;
  if (conn->hello.boot == link->boot)
    holt_err_set(&err, HOLT_EDUPLICATE, "these two nodes have a link already");
  else
    holt_err_set(&err, HOLT_ENAMEINUSE,
                 "a node named '%s' is alive and has a link here; give each node a name of its own",
                 link->name);
  refuse(conn, &err);
}

/* Refuse whoever else waits for the name of `link`. */
static void refuse_waiting(struct holt_link *link, const struct holt_conn *except) {
  HOLT_LIST_EACH(&link->links->conns, node, next) {
    struct holt_conn *conn = HOLT_CONTAINER(node, struct holt_conn, node);
    if (conn != except && conn->state == HOLT_CONN_JUDGING && strcmp(conn->hello.name, link->name) == 0)
      refuse_newcomer(conn, link);
  }
}

/* Close the present connection of `link` in favour of `conn`, and take that. */
static void replace(struct holt_link *link, struct holt_conn *conn, int code, const char *why) {
  struct holt_err err;
  holt_err_set(&err, code, "%s", why);
  refuse_waiting(link, conn); /* so that closing the present one lets nobody else in */
  conn->state = HOLT_CONN_HELLO;
  holt__conn_close(link->conn, &err, false);
  accept(conn);
}

static void probe(struct holt_conn *present, struct holt_conn *newcomer) {
  uint64_t limit_ms = holt__conn_limit_ms(present) / 4;
  newcomer->state = HOLT_CONN_JUDGING;
  holt_timer_start(&newcomer->timer, limit_ms > PROBE_MS_MAX ? PROBE_MS_MAX : limit_ms + 1);
  if (present->probe_ms != 0) return;
  present->probe_ms = holt_env_now_ms(present->links->env) | 1;
  holt__conn_ping(present);
}

/* Two connections are being made at once: does the newer one win? */
static bool wins(const struct holt_conn *newcomer, const struct holt_conn *present) {
  if ((newcomer->peer != NULL) == (present->peer != NULL)) return true; /* same side dialled again */
  bool is_ours = newcomer->peer != NULL;
  return is_ours == (newcomer->links->config.id < newcomer->hello.id);
}

static void judge(struct holt_conn *conn) {
  struct holt_link *link = holt__links_find(conn->links, conn->hello.name);
  struct holt_conn *present = link == NULL ? NULL : link->conn;
  if (present == NULL) {
    accept(conn);
  } else if (present->state == HOLT_CONN_UP) {
    bool is_ours = conn->peer != NULL; /* the listening side names what is present, half open or not */
    if (!is_ours && conn->hello.boot == link->boot && conn->hello.last == present->number)
      replace(link, conn, HOLT_EREPLACED, "the other side made a new connection");
    else
      probe(present, conn);
  } else if (conn->hello.boot != link->boot || wins(conn, present)) {
    replace(link, conn, HOLT_EDUPLICATE, "both nodes dialled each other; the other connection stays");
  } else {
    struct holt_err err;
    holt_err_set(&err, HOLT_EDUPLICATE, "both nodes dialled each other; the other connection stays");
    refuse(conn, &err);
  }
}

void holt__link_judge_again(struct holt_link *link, bool is_present_alive) {
  if (link == NULL) return;
  HOLT_LIST_EACH(&link->links->conns, node, next) {
    struct holt_conn *conn = HOLT_CONTAINER(node, struct holt_conn, node);
    if (conn->state != HOLT_CONN_JUDGING || strcmp(conn->hello.name, link->name) != 0) continue;
    if (is_present_alive || link->conn != NULL)
      refuse_newcomer(conn, link);
    else
      accept(conn); /* the first one waiting; the others find it present */
  }
}

void holt__conn_probe_over(struct holt_conn *newcomer) {
  struct holt_link *link = holt__links_find(newcomer->links, newcomer->hello.name);
  if (link == NULL || link->conn == NULL) {
    judge(newcomer);
    return;
  }
  struct holt_err err;
  holt_err_set(&err, HOLT_ETIMEOUT, "it did not answer while a new connection of '%s' waited", link->name);
  holt__conn_close(link->conn, &err, false); /* judges again those who wait */
}

/* What speaks against the other side whatever else is there. */
static int check_hello(const struct holt_conn *conn, struct holt_err *err) {
  const struct holt_links_config *config = &conn->links->config;
  const struct holt_hello *hello = &conn->hello;
  if (hello->boot == config->boot)
    return holt_err_set(err, HOLT_ESELF,
                        "node '%s' would be linked to itself; take its own address out of 'connect'",
                        config->name);
  if (strcmp(hello->channel, config->channel) != 0)
    return holt_err_set(
        err, HOLT_ECHANNEL,
        "node '%s' is on channel '%s' and node '%s' on channel '%s'; give both the same channel",
        config->name, config->channel, hello->name, hello->channel);
  if (strcmp(hello->name, config->name) == 0)
    return holt_err_set(err, HOLT_ENAMEINUSE, "both nodes are named '%s'; give each node a name of its own",
                        config->name);
  if (conn->peer == NULL && conn->links->link_count >= config->max_peers &&
      holt__links_find(conn->links, hello->name) == NULL)
    return holt_err_set(err, HOLT_EMAXPEERS, "node '%s' has all the %u peers it may have (max_peers)",
                        config->name, config->max_peers);
  return 0;
}

static void on_hello(struct holt_conn *conn, struct holt_buf body) {
  struct holt_err err;
  if (holt_hello_read(body, &conn->hello, &err) != 0) {
    refuse(conn, &err);
    return;
  }
  conn->has_hello = true;
  if (conn->peer == NULL) {
    conn->number = conn->hello.connection;
    holt__conn_say_hello(conn);
  }
  if (check_hello(conn, &err) != 0)
    refuse(conn, &err);
  else
    judge(conn);
}

static void on_resume(struct holt_conn *conn, struct holt_buf body) {
  struct holt_err err;
  if (holt_resume_read(body, &conn->resume, &err) != 0) {
    refuse(conn, &err);
    return;
  }
  conn->has_resume = true;
  if (conn->state == HOLT_CONN_RESUME) finish(conn);
}

static void on_refuse(struct holt_conn *conn, struct holt_buf body) {
  struct holt_reason reason;
  struct holt_err err;
  if (holt_reason_read(body, &reason, &err) == 0) {
    int code = holt_err_from_word(reason.word);
    holt_err_set(&err, code == 0 ? HOLT_EREFUSED : code, "refused: %s", reason.text);
  }
  if (err.code == HOLT_EDUPLICATE) attach_duplicate(conn);
  holt__conn_close(conn, &err, false);
}

static void on_bye(struct holt_conn *conn, struct holt_buf body) {
  struct holt_reason reason;
  struct holt_err err;
  if (holt_reason_read(body, &reason, &err) == 0) {
    int code = holt_err_from_word(reason.word);
    holt_err_set(&err, code == 0 ? HOLT_ECLOSED : code, "the other side ended the link: %s", reason.text);
  }
  holt__conn_close(conn, &err, false);
}

static bool fits_state(const struct holt_conn *conn, uint8_t type) {
  switch (type) {
  case HOLT_WIRE_HELLO:
    return conn->state == HOLT_CONN_HELLO && !conn->has_hello;
  case HOLT_WIRE_RESUME:
    return (conn->state == HOLT_CONN_JUDGING || conn->state == HOLT_CONN_RESUME) && !conn->has_resume;
  case HOLT_WIRE_REFUSE:
    return conn->state != HOLT_CONN_UP;
  default:
    return conn->state == HOLT_CONN_UP;
  }
}

void holt__conn_on_control(struct holt_conn *conn, const struct holt_frame *frame, struct holt_buf body) {
  struct holt_err err;
  struct holt_ack ack;
  uint64_t session;
  if (!fits_state(conn, frame->type)) {
    holt_err_set(&err, HOLT_EPROTOCOL, "a control message of type %u came out of place", frame->type);
    refuse(conn, &err);
    return;
  }
  switch (frame->type) {
  case HOLT_WIRE_HELLO:
    on_hello(conn, body);
    break;
  case HOLT_WIRE_RESUME:
    on_resume(conn, body);
    break;
  case HOLT_WIRE_REFUSE:
    on_refuse(conn, body);
    break;
  case HOLT_WIRE_PING:
    if (conn->control.len < HOLT_CONTROL_MAX / 8) holt__conn_control(conn, HOLT_WIRE_PONG, NULL);
    holt__link_ack_now(conn->link);
    break;
  case HOLT_WIRE_START:
    if (holt_start_read(body, &session, &err) == 0)
      holt__link_on_start(conn->link, session);
    else
      refuse(conn, &err);
    break;
  case HOLT_WIRE_PONG:
    break; /* any byte heard is the answer */
  case HOLT_WIRE_BYE:
    on_bye(conn, body);
    break;
  case HOLT_WIRE_ACK:
    if (holt_ack_read(body, &ack, &err) == 0)
      holt__link_on_ack(conn->link, &ack);
    else
      refuse(conn, &err);
    break;
  }
}
