/* request.c - operations and reads of this node, from the call to a definite answer.
 *
 * - An operation gets the next number of this node's session, which an entry of the log has opened, and is
 *   proposed at the end of the turn together with all others. A follower's core passes it on to the leader.
 * - Refused: not appended; it waits and is proposed again. No answer for an election time-out, or another
 *   leader: proposed again under the same number, which is applied once however often it is in the log.
 * - It is answered when it is applied here: whoever called sees it in local reads from then on.
 * - At the deadline: nothing that might have been appended is open: definitely not done. Else the outcome is
 *   unknown, and the node goes on asking for 4,096 such operations at most.
 * - Barriers of one turn share one read index, and are answered once that much is applied here. */
#include <stdlib.h>
#include <string.h>

#include "cluster/cluster_impl.h"

/* What has ended is out of its list before it is freed; the analyser does not see that through the list's
 * ring. NOLINTBEGIN(clang-analyzer-unix.Malloc,clang-analyzer-core.NullDereference) */

enum { BATCH_ENTRIES = 1024, BATCH_BYTES = 1 << 20, ORPHANS_MAX = 4096, WINDOW = 32768, ASKED_AGAIN = 4 };

void holt__requests_init(struct holt_cluster *c) {
  holt_list_init(&c->ops_open);
  holt_list_init(&c->unsent);
  holt_list_init(&c->reads);
  holt_list_init(&c->ready);
  holt_list_init(&c->outcomes);
  c->next_seq = 1;
}

void holt__cluster_request_end(struct holt_cluster_request *request, int code, struct holt_buf answer,
                               uint64_t number) {
  holt_list_remove(&request->node);
  request->cb(request->arg, code, answer, number);
}

static void begin(struct holt_cluster *c, struct holt_cluster_request *request, uint64_t timeout_ms) {
  holt_list_init(&request->node);
  request->deadline_ms = holt__cluster_now(c) + timeout_ms;
  request->number = 0;
}

/* --- Operations ---------------------------------------------------------------------------------------- */

static void op_free(struct holt_cluster *c, struct holt__op *op) {
  holt_map_remove(&c->op_by_seq, op->seq);
  holt_list_remove(&op->node);
  holt_list_remove(&op->queue);
  c->op_count--;
  free(op->command);
  free((void *)(uintptr_t)op->answer.data);
  free(op);
}

static void op_queue(struct holt_cluster *c, struct holt__op *op) {
  if (op->is_answered || !holt_list_is_empty(&op->queue)) return;
  holt_list_push(&c->unsent, &op->queue);
}

void holt_cluster_submit(struct holt_cluster *c, struct holt_cluster_request *request,
                         struct holt_buf command, uint64_t timeout_ms) {
  begin(c, request, timeout_ms);
  struct holt__op *op = holt_alloc(sizeof *op);
  op->request = request;
  op->since_ms = holt__cluster_now(c);
  op->len = command.len + 1;
  op->command = holt_realloc(NULL, op->len);
  op->command[0] = HOLT__ENTRY_OPERATION;
  memcpy(op->command + 1, command.data, command.len);
  op->seq = c->next_seq++;
  holt_list_init(&op->queue);
  holt_list_push(&c->ops_open, &op->node);
  holt_map_set(&c->op_by_seq, op->seq, op);
  c->op_count++;
  request->number = op->seq;
  if (op->len > c->config.entry_bytes_max) op->code = HOLT_ETOOLARGE; /* told on the next turn */
  op_queue(c, op);
  holt__cluster_stir(c);
}

/* Tell the caller, if there still is one; with `is_kept` the answer stays for who asks later. */
static void op_end(struct holt_cluster *c, struct holt__op *op, int code, struct holt_buf answer) {
  struct holt_cluster_request *request = op->request;
  uint64_t seq = op->seq;
  op->request = NULL;
  bool was_orphan = request == NULL;
  if (was_orphan) {
    op->is_answered = true;
    op->code = code;
    uint8_t *copy = holt_alloc(answer.len + 1);
    if (answer.len > 0) memcpy(copy, answer.data, answer.len);
    op->answer = holt_buf(copy, answer.len);
    holt_list_remove(&op->queue);
    struct holt_list *at = c->outcomes.next;
    while (at != &c->outcomes) {
      struct holt_cluster_request *waiting = HOLT_CONTAINER(at, struct holt_cluster_request, node);
      at = at->next;
      if (waiting->number != seq) continue;
      holt__cluster_request_end(waiting, code, op->answer, seq);
      at = c->outcomes.next; /* the callback may have changed the list */
    }
    return;
  }
  op_free(c, op);
  holt__cluster_request_end(request, code, answer, seq);
}

/* The oldest operation that may still be asked about. */
static uint64_t lowest(const struct holt_cluster *c) {
  for (const struct holt_list *at = c->ops_open.next; at != &c->ops_open; at = at->next) {
    const struct holt__op *op = HOLT_CONTAINER(at, struct holt__op, node);
    if (!op->is_answered) return op->seq;
  }
  return c->next_seq;
}

static void propose(struct holt_cluster *c, struct holt_raft_entry *entries, size_t count, uint64_t tag) {
  struct holt_raft_event event = {
      .type = HOLT_RAFT_EV_PROPOSE, .entries = entries, .count = count, .tag = tag};
  holt__cluster_step(c, &event);
}

static void propose_own(struct holt_cluster *c, const struct holt_writer *data) {
  struct holt_raft_entry entry = {.type = HOLT_RAFT_COMMAND, .data = data->data, .len = (uint32_t)data->len};
  propose(c, &entry, 1, 0);
}

/* Nobody answers these proposals, and one done twice does no harm: asked again until the log says so. */
static bool is_due(uint64_t *asked_ms, const struct holt_cluster *c) {
  uint64_t now = holt__cluster_now(c);
  if (*asked_ms != 0 && now < *asked_ms + c->config.election_ms / ASKED_AGAIN) return false;
  *asked_ms = now;
  return true;
}

static void ask_session(struct holt_cluster *c) {
  if (!is_due(&c->session_asked_ms, c)) return;
  struct holt_writer data = {0};
  holt_write_u8(&data, HOLT__ENTRY_OPEN);
  holt_write_u64(&data, c->client);
  holt_write_u64(&data, c->self);
  holt_write_u64(&data, c->store ? holt_store_state(c->store)->boot : 1);
  propose_own(c, &data);
  holt_writer_free(&data);
}

/* Say how this member is called and reached, until the log has it so. */
static void ask_label(struct holt_cluster *c) {
  const struct holt__label *label = holt__machine_label(&c->machine, c->self);
  if (label && strcmp(label->name, c->node_name) == 0 && strcmp(label->address, c->address) == 0) return;
  if (!is_due(&c->label_asked_ms, c)) return;
  struct holt_writer data = {0};
  holt_write_u8(&data, HOLT__ENTRY_LABEL);
  holt_write_u64(&data, c->self);
  holt_write_text8(&data, c->node_name);
  holt_write_text8(&data, c->address);
  propose_own(c, &data);
  holt_writer_free(&data);
}

static void end_too_large(struct holt_cluster *c) {
  struct holt_list *at = c->unsent.next;
  while (at != &c->unsent) {
    struct holt__op *op = HOLT_CONTAINER(at, struct holt__op, queue);
    at = at->next;
    if (op->code != HOLT_ETOOLARGE) continue;
    op_end(c, op, HOLT_ETOOLARGE, holt_buf(NULL, 0));
    at = c->unsent.next;
  }
}

/* Propose a run of operations with consecutive numbers. Returns false when nothing could be sent. */
static bool propose_run(struct holt_cluster *c) {
  struct holt_raft_entry entries[BATCH_ENTRIES];
  uint64_t low = lowest(c), first = 0, now = holt__cluster_now(c);
  size_t count = 0, bytes = 0;
  while (count < BATCH_ENTRIES && bytes < BATCH_BYTES && !holt_list_is_empty(&c->unsent)) {
    struct holt__op *op = HOLT_CONTAINER(c->unsent.next, struct holt__op, queue);
    if (count == 0) first = op->seq;
    if (op->seq != first + count || op->seq >= low + WINDOW) break;
    holt_list_remove(&op->queue);
    entries[count++] = (struct holt_raft_entry){.type = HOLT_RAFT_COMMAND,
                                                .client = c->client,
                                                .seq = op->seq,
                                                .low = low,
                                                .data = op->command,
                                                .len = (uint32_t)op->len};
    bytes += op->len;
    op->is_refused = false;
    op->tries_open++;
    op->sent_ms = now;
  }
  if (count > 0) propose(c, entries, count, first);
  return count > 0;
}

static bool may_propose(const struct holt_cluster *c) {
  return c->raft && c->state == STATE_MEMBER && c->leader != 0;
}

/* --- Reads --------------------------------------------------------------------------------------------- */

void holt_cluster_barrier(struct holt_cluster *c, struct holt_cluster_request *request, uint64_t timeout_ms) {
  begin(c, request, timeout_ms);
  struct holt__read *last =
      holt_list_is_empty(&c->reads) ? NULL : HOLT_CONTAINER(c->reads.prev, struct holt__read, node);
  if (!last || last->is_sent) {
    last = holt_alloc(sizeof *last);
    holt_list_init(&last->requests);
    holt_list_push(&c->reads, &last->node);
  }
  holt_list_push(&last->requests, &request->node);
  holt__cluster_stir(c);
}

/* A read whose index is known already. */
void holt_cluster_applied(struct holt_cluster *c, struct holt_cluster_request *request, uint64_t timeout_ms) {
  begin(c, request, timeout_ms);
  struct holt__read *read = holt_alloc(sizeof *read);
  holt_list_init(&read->requests);
  read->is_sent = read->is_indexed = true;
  read->index = c->raft ? c->driver.apply_to : 0;
  holt_list_push(&c->reads, &read->node);
  holt_list_push(&read->requests, &request->node);
  holt__cluster_stir(c);
}

static void send_read(struct holt_cluster *c, struct holt__read *read) {
  read->tag = ++c->next_tag;
  read->is_sent = true;
  read->sent_ms = holt__cluster_now(c);
  struct holt_raft_event event = {.type = HOLT_RAFT_EV_READ, .tag = read->tag};
  holt__cluster_step(c, &event);
}

static void send_reads(struct holt_cluster *c) {
  struct holt_list *at = c->reads.next;
  for (; at != &c->reads; at = at->next) {
    struct holt__read *read = HOLT_CONTAINER(at, struct holt__read, node);
    if (!read->is_sent) send_read(c, read);
  }
}

static void read_end(struct holt__read *read, int code) {
  holt_list_remove(&read->node);
  while (!holt_list_is_empty(&read->requests)) {
    struct holt_cluster_request *request =
        HOLT_CONTAINER(read->requests.next, struct holt_cluster_request, node);
    holt__cluster_request_end(request, code, holt_buf(NULL, 0), 0);
  }
  free(read);
}

static void read_done(struct holt_cluster *c, const struct holt_raft_done *done) {
  for (struct holt_list *at = c->reads.next; at != &c->reads; at = at->next) {
    struct holt__read *read = HOLT_CONTAINER(at, struct holt__read, node);
    if (read->tag != done->tag || !read->is_sent || read->is_indexed) continue;
    if (done->code == 0) {
      read->is_indexed = true;
      read->index = done->index;
      holt__cluster_stir(c);
    } else {
      read->is_sent = false; /* refused: the next tick asks again */
      read->sent_ms = holt__cluster_now(c);
    }
    return;
  }
}

void holt__requests_reached(struct holt_cluster *c) {
  struct holt_list *at = c->reads.next;
  while (at != &c->reads) {
    struct holt__read *read = HOLT_CONTAINER(at, struct holt__read, node);
    at = at->next;
    if (!read->is_indexed || read->index > c->machine.applied) continue;
    read_end(read, 0);
    at = c->reads.next;
  }
  if (!holt__cluster_is_ready(c)) return;
  while (!holt_list_is_empty(&c->ready))
    holt__cluster_request_end(HOLT_CONTAINER(c->ready.next, struct holt_cluster_request, node), 0,
                              holt_buf(NULL, 0), 0);
}

/* --- Ready, outcome ------------------------------------------------------------------------------------ */

void holt_cluster_ready(struct holt_cluster *c, struct holt_cluster_request *request, uint64_t timeout_ms) {
  begin(c, request, timeout_ms);
  holt_list_push(&c->ready, &request->node);
  holt__cluster_stir(c);
}

void holt_cluster_outcome(struct holt_cluster *c, struct holt_cluster_request *request, uint64_t number,
                          uint64_t timeout_ms) {
  begin(c, request, timeout_ms);
  request->number = number;
  holt_list_push(&c->outcomes, &request->node);
  holt__cluster_stir(c);
}

static void answer_outcomes(struct holt_cluster *c) {
  struct holt_list *at = c->outcomes.next;
  while (at != &c->outcomes) {
    struct holt_cluster_request *request = HOLT_CONTAINER(at, struct holt_cluster_request, node);
    at = at->next;
    const struct holt__op *op = holt_map_get(&c->op_by_seq, request->number);
    if (op && !op->is_answered) continue;
    holt__cluster_request_end(request, op ? op->code : HOLT_ENOTFOUND, op ? op->answer : holt_buf(NULL, 0),
                              request->number);
    at = c->outcomes.next;
  }
}

void holt_cluster_cancel(struct holt_cluster *c, struct holt_cluster_request *request) {
  holt_list_remove(&request->node);
  struct holt__op *op = holt_map_get(&c->op_by_seq, request->number);
  if (op && op->request == request) op->request = NULL;
  if (c->leaving == request) c->leaving = NULL;
  if (c->transferring == request) c->transferring = NULL;
  if (c->removing == request) c->removing = NULL;
}

/* --- What the core says -------------------------------------------------------------------------------- */

void holt__requests_done(struct holt_cluster *c, const struct holt_raft_done *done) {
  if (done->type == HOLT_RAFT_DONE_READ) {
    read_done(c, done);
    return;
  }
  if (done->type != HOLT_RAFT_DONE_PROPOSE || done->code == 0) return;
  struct holt__op *op = holt_map_get(&c->op_by_seq, done->tag);
  if (!op || op->is_answered) return;
  if (done->code != HOLT_EUNKNOWN && op->tries_open > 0) op->tries_open--; /* definitely not appended */
  op->is_refused = true; /* not now: the next tick, or another leader */
}

/* The log does not know this client any more: begin another session. What was under way may have been done.
 */
static void renew_session(struct holt_cluster *c) {
  c->client = holt_env_random(c->env) | 1;
  c->is_session_open = false;
  c->session_asked_ms = 0;
  struct holt_list *at = c->ops_open.next;
  while (at != &c->ops_open) {
    struct holt__op *op = HOLT_CONTAINER(at, struct holt__op, node);
    at = at->next;
    if (op->is_answered || op->tries_open == 0) continue;
    struct holt_cluster_request *request = op->request;
    uint64_t seq = op->seq;
    op_free(c, op);
    if (request) holt__cluster_request_end(request, HOLT_EUNKNOWN, holt_buf(NULL, 0), seq);
    at = c->ops_open.next;
  }
  holt__cluster_stir(c);
}

void holt__requests_applied(struct holt_cluster *c, const struct holt_raft_entry *entry,
                            const struct holt__applied *applied) {
  if (!c->is_session_open && holt_sessions_has(&c->machine.sessions, c->client)) {
    c->is_session_open = true;
    holt__cluster_stir(c);
  }
  if (!applied->is_operation || entry->client != c->client) return;
  if (applied->code == HOLT_ECLOSED) {
    renew_session(c);
    return;
  }
  struct holt__op *op = holt_map_get(&c->op_by_seq, entry->seq);
  if (!op || op->is_answered) return;
  op_end(c, op, applied->code, applied->answer);
}

void holt__requests_retry(struct holt_cluster *c) {
  for (struct holt_list *at = c->ops_open.next; at != &c->ops_open; at = at->next)
    op_queue(c, HOLT_CONTAINER(at, struct holt__op, node));
  for (struct holt_list *at = c->reads.next; at != &c->reads; at = at->next) {
    struct holt__read *read = HOLT_CONTAINER(at, struct holt__read, node);
    if (!read->is_indexed) read->is_sent = false;
  }
  c->session_asked_ms = c->label_asked_ms = 0;
  holt__cluster_stir(c);
}

/* Some of ours may have been applied within the snapshot: asking again tells, for the session remembers. */
void holt__requests_replaced(struct holt_cluster *c) {
  c->is_session_open = holt_sessions_has(&c->machine.sessions, c->client);
  holt__requests_retry(c);
  holt__requests_reached(c);
}

/* --- Turns and ticks ----------------------------------------------------------------------------------- */

void holt__requests_turn(struct holt_cluster *c) {
  answer_outcomes(c);
  holt__requests_reached(c);
  end_too_large(c);
  if (!may_propose(c)) return;
  ask_label(c);
  if (!holt_list_is_empty(&c->unsent)) {
    if (!c->is_session_open)
      ask_session(c);
    else
      while (!holt_list_is_empty(&c->unsent) && propose_run(c)) continue;
  }
  send_reads(c);
}

static void expire_op(struct holt_cluster *c, struct holt__op *op) {
  struct holt_cluster_request *request = op->request;
  if (op->tries_open == 0) { /* nothing of it is anywhere */
    op_end(c, op, c->leader ? HOLT_EBUSY : HOLT_ENOLEADER, holt_buf(NULL, 0));
    return;
  }
  op->request = NULL;
  holt__cluster_request_end(request, HOLT_EUNKNOWN, holt_buf(NULL, 0), op->seq);
}

static bool expire_list(struct holt_list *list, uint64_t now, int code) {
  for (struct holt_list *at = list->next; at != list; at = at->next) {
    struct holt_cluster_request *request = HOLT_CONTAINER(at, struct holt_cluster_request, node);
    if (now < request->deadline_ms) continue;
    holt__cluster_request_end(request, code, holt_buf(NULL, 0), request->number);
    return true; /* the list may be another one now */
  }
  return false;
}

static void expire(struct holt_cluster *c, uint64_t now) {
  int code = c->leader ? HOLT_ETIMEOUT : HOLT_ENOLEADER;
  while (expire_list(&c->ready, now, code)) continue;
  while (expire_list(&c->outcomes, now, HOLT_EUNKNOWN)) continue;
  for (struct holt_list *at = c->reads.next; at != &c->reads;) {
    struct holt__read *read = HOLT_CONTAINER(at, struct holt__read, node);
    while (expire_list(&read->requests, now, code)) continue;
    at = at->next;
    if (!holt_list_is_empty(&read->requests)) continue;
    holt_list_remove(&read->node);
    free(read);
  }
}

/* Forget the oldest operations nobody waits for: those answered, and beyond a bound the others too. */
static void bury_orphans(struct holt_cluster *c) {
  size_t orphans = 0;
  for (struct holt_list *at = c->ops_open.prev; at != &c->ops_open;) {
    struct holt__op *op = HOLT_CONTAINER(at, struct holt__op, node);
    at = at->prev;
    if (!op->request && ++orphans > ORPHANS_MAX) op_free(c, op);
  }
}

void holt__requests_tick(struct holt_cluster *c) {
  uint64_t now = holt__cluster_now(c);
  expire(c, now);
  struct holt_list *at = c->ops_open.next;
  while (at != &c->ops_open) {
    struct holt__op *op = HOLT_CONTAINER(at, struct holt__op, node);
    at = at->next;
    if (op->request && now >= op->request->deadline_ms) {
      expire_op(c, op);
      at = c->ops_open.next;
      continue;
    }
    bool is_overdue = op->sent_ms != 0 && now >= op->sent_ms + 2 * c->config.election_ms;
    if (op->is_refused || is_overdue) op_queue(c, op);
  }
  for (at = c->reads.next; at != &c->reads; at = at->next) {
    struct holt__read *read = HOLT_CONTAINER(at, struct holt__read, node);
    if (read->is_sent && !read->is_indexed && now >= read->sent_ms + c->config.election_ms)
      read->is_sent = false;
  }
  bury_orphans(c);
  holt__cluster_stir(c);
}

void holt__requests_fail(struct holt_cluster *c, int code) {
  while (!holt_list_is_empty(&c->ops_open)) {
    struct holt__op *op = HOLT_CONTAINER(c->ops_open.next, struct holt__op, node);
    struct holt_cluster_request *request = op->request;
    int how = op->tries_open > 0 ? HOLT_EUNKNOWN : code;
    uint64_t seq = op->seq;
    op_free(c, op);
    if (request) holt__cluster_request_end(request, how, holt_buf(NULL, 0), seq);
  }
  while (!holt_list_is_empty(&c->reads))
    read_end(HOLT_CONTAINER(c->reads.next, struct holt__read, node), code);
  while (!holt_list_is_empty(&c->ready))
    holt__cluster_request_end(HOLT_CONTAINER(c->ready.next, struct holt_cluster_request, node), code,
                              holt_buf(NULL, 0), 0);
  while (!holt_list_is_empty(&c->outcomes)) {
    struct holt_cluster_request *request =
        HOLT_CONTAINER(c->outcomes.next, struct holt_cluster_request, node);
    holt__cluster_request_end(request, HOLT_EUNKNOWN, holt_buf(NULL, 0), request->number);
  }
}
/* NOLINTEND(clang-analyzer-unix.Malloc,clang-analyzer-core.NullDereference) */
