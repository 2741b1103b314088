/* exchange.c - one journal and its neighbours: telling what is here, sending what they lack.
 *
 * - A connection begins with what each side has. Then one cursor a neighbour walks the arrival log and sends
 * what that one lacks, as far as there is credit: catching up and being live are the same.
 * - What is told is durable: a full "have" waits until no commit is under way, later news are made from the
 * entries of the commit.
 * - Message: name of the journal, a byte of flags, then one message of dag/exchange.h. */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "journal/journal_impl.h"

enum { ASKS = 1 /* answer with all that you have */ };

/* --- Sending ----------------------------------------------------------------------------------------------
 */

static void begin_message(struct holt_journal *j, uint8_t flags) {
  j->out.len = 0;
  holt_write_text8(&j->out, j->name);
  holt_write_u8(&j->out, flags);
}

static void post(struct holt_journal *j, const struct holt__exchange *x) {
  struct holt_msg *msg = holt_msg_new(HOLT_WIRE_JOURNAL, j->out.len);
  if (msg == NULL) return;
  memcpy(msg->data, j->out.data, j->out.len);
  msg->is_quiet = true;
  msg->born_ms = holt_env_now_ms(j->all->env); /* 0 would be very old, and dropped as expired */
  holt_link_send(x->station->link, HOLT_LANE_JOURNAL, msg);
  holt_msg_release(msg);
}

static void tell_horizons(struct holt_journal *j, struct holt__exchange *x) {
  uint32_t author = 0;
  begin_message(j, 0);
  while (holt__keep_horizon(j, &author, &j->out)) {
    post(j, x);
    begin_message(j, 0);
  }
  x->owes_horizons = false;
}

static void tell_all(struct holt_journal *j, struct holt__exchange *x) {
  uint32_t chain = 0;
  tell_horizons(j, x);
  begin_message(j, 0);
  if (holt_dag_takes_encode(j->dag, &j->out)) post(j, x);
  begin_message(j, x->asks ? ASKS : 0);
  while (holt_dag_have_all(j->dag, &chain, &j->out)) {
    post(j, x);
    begin_message(j, x->asks ? ASKS : 0);
  }
  x->owes_have = x->asks = false;
}

static void ask(struct holt_journal *j, const struct holt__exchange *x, const struct holt_dag_ref *ref) {
  begin_message(j, 0);
  if (holt_dag_want_encode(j->dag, ref, &j->out) == 0) post(j, x);
}

/* For one entry that should be here: with only the one before it, so that it is sent although its successors
 * are here. */
void holt__exchange_ask_again(struct holt_journal *j, const struct holt__exchange *x,
                              const struct holt_dag_ref *ref, const struct holt_dag_ref *before) {
  if (x->station->link == NULL) return;
  begin_message(j, 0);
  holt_write_u8(&j->out, HOLT_DAG_WANT);
  holt_dag_ref_write(holt_writer_grow(&j->out, HOLT_DAG_REF), ref);
  holt_write_u8(&j->out, before->number > 0);
  if (before->number > 0) {
    holt_write_u64(&j->out, before->number);
    holt_write_bytes(&j->out, before->hash, sizeof before->hash);
  }
  post(j, x);
}

/* --- Neighbours -------------------------------------------------------------------------------------------
 */

struct holt__exchange *holt__exchange_of(struct holt_journal *j, const struct holt__station *station) {
  HOLT_LIST_EACH(&j->exchanges, at, next) {
    struct holt__exchange *x = HOLT_CONTAINER(at, struct holt__exchange, node);
    if (x->station == station) return x;
  }
  return NULL;
}

void holt__exchange_open(struct holt_journal *j, struct holt__station *station, bool asks) {
  struct holt__exchange *x = holt__exchange_of(j, station);
  if (x == NULL) {
    x = holt_alloc(sizeof *x);
    x->station = station;
    x->link = holt_dag_link_new(j->dag, station->source);
    x->range_chain = HOLT_DAG_NO_CHAIN;
    holt_list_push(&j->exchanges, &x->node);
  }
  x->owes_have = true;
  x->asks = x->asks || asks;
  holt__journal_stir(j);
}

void holt__exchange_close(struct holt_journal *j, struct holt__exchange *x) {
  holt_dag_source_gone(j->dag, x->station->source);
  holt_dag_link_free(x->link);
  holt_list_remove(&x->node);
  free(x);
}

void holt__exchange_restart(struct holt_journal *j) {
  HOLT_LIST_EACH(&j->exchanges, at, next) {
    struct holt__exchange *x = HOLT_CONTAINER(at, struct holt__exchange, node);
    x->owes_have = x->asks = true;
  }
}

void holt__exchange_again(struct holt_journal *j, uint64_t source) {
  HOLT_LIST_EACH(&j->exchanges, at, next) {
    struct holt__exchange *x = HOLT_CONTAINER(at, struct holt__exchange, node);
    if (x->station->source == source) x->owes_have = true;
  }
}

void holt__exchange_horizons(struct holt_journal *j) {
  HOLT_LIST_EACH(&j->exchanges, at, next)
  HOLT_CONTAINER(at, struct holt__exchange, node)->owes_horizons = true;
}

void holt__exchange_admitted(struct holt_journal *j, const struct holt_dag_admitted *admitted) {
  HOLT_LIST_EACH(&j->exchanges, at, next)
  holt_dag_link_admitted(HOLT_CONTAINER(at, struct holt__exchange, node)->link, admitted);
}

static bool is_forked(struct holt_journal *j, const struct holt_dag_ref *ref) {
  struct holt_dag_author author;
  uint32_t number;
  if (holt_dag_author_find(j->dag, ref->author, &number) != 0) return false;
  holt_dag_author(j->dag, number, &author);
  return author.is_forked;
}

/* A "have" of these tips; of an author that forked all tips must be told: everything, then. */
void holt__exchange_news(struct holt_journal *j, const struct holt_dag_ref *refs, size_t count) {
  bool has_fork = false;
  if (count == 0) return;
  for (size_t i = 0; i < count; i++) has_fork = has_fork || is_forked(j, &refs[i]);
  HOLT_LIST_EACH(&j->exchanges, at, next) {
    struct holt__exchange *x = HOLT_CONTAINER(at, struct holt__exchange, node);
    if (has_fork) x->owes_have = true;
    if (x->owes_have || x->station->link == NULL) continue;
    begin_message(j, 0);
    holt_write_u8(&j->out, HOLT_DAG_HAVE);
    holt_write_u8(&j->out, 0);
    holt_write_u16(&j->out, (uint16_t)count);
    for (size_t i = 0; i < count; i++) {
      holt_dag_ref_write(holt_writer_grow(&j->out, HOLT_DAG_REF), &refs[i]);
      holt_write_u8(&j->out, 0);
    }
    post(j, x);
  }
}

/* --- What they lack ---------------------------------------------------------------------------------------
 */

/* The position of `number` of `chain`, or of the first entry of it that is kept behind that. */
static uint64_t place_of(struct holt_journal *j, uint32_t chain_number, uint64_t number) {
  uint64_t position = 0;
  struct holt_dag_chain chain;
  struct holt_dag_author author;
  holt_dag_chain(j->dag, chain_number, &chain);
  holt_dag_author(j->dag, chain.author, &author);
  if (number <= author.horizon) number = author.horizon + 1;
  int rc =
      number > chain.tip ? HOLT_ENOTFOUND : holt__journal_entry(j, chain_number, number, NULL, &position);
  return rc == 0 && position > 0 ? position : holt_book_next(j->book);
}

/* Whether entries of the chain's author are gone: its opening is kept, but lies apart, or before them in the
 * log. */
static bool is_cut(const struct holt_journal *j, uint32_t chain_number) {
  struct holt_dag_chain chain;
  struct holt_dag_author author;
  holt_dag_chain(j->dag, chain_number, &chain);
  holt_dag_author(j->dag, chain.author, &author);
  return author.horizon > 0;
}

/* What who knows nothing of the author needs first. */
static void send_opening(struct holt_journal *j, struct holt__exchange *x, uint32_t chain) {
  struct holt_kv_txn *txn;
  struct holt_book_entry entry;
  struct holt_dag_pack pack = {0};
  if (holt_kv_begin(j->all->kv, &txn) != 0) return;
  begin_message(j, 0);
  holt_dag_pack_begin(&pack, &j->out);
  int rc = holt_book_get_number(j->book, txn, chain, 1, &entry);
  if (rc == 0) holt_dag_pack_add(&pack, entry.bytes, entry.signature, &j->options.limits);
  holt_kv_end(txn);
  if (holt_dag_pack_end(&pack) == 0) return;
  holt_dag_link_sent(x->link, chain, 1);
  post(j, x);
}

static void put_cursor(struct holt_journal *j, struct holt__exchange *x) {
  uint32_t chains = holt_dag_chain_count(j->dag);
  x->cursor = holt_book_next(j->book);
  for (uint32_t chain = 0; chain < chains; chain++) {
    uint64_t from = holt_dag_link_lacks_from(x->link, chain);
    if (from == 1 && is_cut(j, chain)) send_opening(j, x, chain);
    uint64_t position = from > 0 ? place_of(j, chain, from) : x->cursor;
    if (position < x->cursor) x->cursor = position;
  }
}

/* No signature lies beside the entries in the pack: the last of them was mended, by a run that went on behind
 * it. So does this one, wherever what follows lies. */
static void pack_on(struct holt_journal *j, struct holt_dag_pack *pack, uint32_t chain, uint64_t number) {
  struct holt_kv_txn *txn;
  struct holt_book_entry entry;
  if (holt_kv_begin(j->all->kv, &txn) != 0) return;
  while (pack->cut_count == 0 && holt_book_get_number(j->book, txn, chain, number, &entry) == 0 &&
         holt_dag_pack_add(pack, entry.bytes, entry.signature, &j->options.limits) == 0)
    number++;
  holt_kv_end(txn);
}

/* Pack entries from `position` on that lie beside each other, are of one chain and lacked; with `to` not 0
 * all of them up to the first signature at or behind that number. Returns how many entries went out;
 * *position is moved behind what was looked at. */
static uint32_t send_run(struct holt_journal *j, struct holt__exchange *x, uint64_t *position, uint64_t to,
                         unsigned *looks) {
  struct holt_dag_pack pack = {0};
  struct holt_book_scan scan;
  struct holt_book_entry entry;
  uint64_t at = *position, began = at, first = 0;
  uint32_t chain = HOLT_DAG_NO_CHAIN;
  begin_message(j, 0);
  holt_dag_pack_begin(&pack, &j->out);
  holt_book_scan(&scan, j->book, at);
  while (*looks > 0) {
    int rc = holt_book_scan_next(&scan, &entry);
    if (rc != 0 && rc != HOLT_ECORRUPT) break;
    at = entry.arrival;
    bool is_wanted = rc == 0 && (to > 0 || holt_dag_link_lacks(x->link, entry.chain, entry.number));
    if (pack.count > 0 && (!is_wanted || entry.chain != chain || at != began + pack.count)) break;
    if (pack.cut_count > 0 && pack.cut >= HOLT__SEND_BYTES) break;
    if (to > 0 && pack.cut_count > 0 && first + pack.cut_count > to) break;
    --*looks;
    if (!is_wanted) {
      if (to > 0) break;
      *position = at + 1;
      continue;
    }
    if (pack.count == 0) {
      began = at;
      chain = entry.chain;
      first = entry.number;
    }
    if (holt_dag_pack_add(&pack, entry.bytes, entry.signature, &j->options.limits) != 0) break;
    *position = at + 1;
    if (pack.count > 0 && *looks == 0 && pack.cut_count < pack.count) ++*looks; /* up to its signature */
  }
  holt_book_scan_close(&scan);
  uint32_t beside = pack.count;
  if (pack.count > 0 && pack.cut_count == 0) pack_on(j, &pack, chain, first + pack.count);
  uint32_t count = holt_dag_pack_end(&pack);
  if (count == 0) return 0;
  *position = began + (count < beside ? count : beside);
  holt_dag_link_sent(x->link, chain, first + count - 1);
  post(j, x);
  return count;
}

static bool send_range(struct holt_journal *j, struct holt__exchange *x) {
  struct holt_dag_range range;
  unsigned looks = HOLT__LOOK_ENTRIES;
  if (x->range_chain == HOLT_DAG_NO_CHAIN) {
    if (!holt_dag_link_next_range(x->link, &range)) return false;
    if (range.to == 1 && is_cut(j, range.chain)) {
      send_opening(j, x, range.chain);
      return true;
    }
    x->range_chain = range.chain;
    x->range_next = range.from;
    x->range_to = range.to;
  }
  uint64_t position = place_of(j, x->range_chain, x->range_next);
  uint32_t count = send_run(j, x, &position, x->range_to, &looks);
  x->range_next += count;
  if (count == 0 || x->range_next > x->range_to) x->range_chain = HOLT_DAG_NO_CHAIN;
  return true;
}

/* Whether there is more to send than the loop should wait for. */
static bool pump(struct holt_journal *j, struct holt__exchange *x) {
  unsigned looks = HOLT__LOOK_ENTRIES;
  struct holt_link *link = x->station->link;
  while (link != NULL && holt_link_is_up(link) && holt_dag_link_is_ready(x->link)) {
    if (holt_link_room(link, HOLT_LANE_JOURNAL, HOLT__SEND_BYTES) != 0) return false; /* on_room follows */
    if (send_range(j, x)) continue;
    if (x->cursor >= holt_book_next(j->book)) return false;
    if (looks == 0) return true;
    send_run(j, x, &x->cursor, 0, &looks);
  }
  return false;
}

/* --- Hearing ----------------------------------------------------------------------------------------------
 */

static void take_run(struct holt_journal *j, struct holt__station *station, struct holt_buf body,
                     uint64_t number) {
  struct holt__inbound *inbound = holt_alloc(sizeof *inbound + body.len);
  inbound->station = station;
  inbound->number = number;
  inbound->len = body.len;
  memcpy(inbound->message, body.data, body.len);
  holt_list_init(&inbound->node);
  holt_list_push(&station->runs, &inbound->of_station);
  holt_list_push(&j->inbox, &inbound->node);
}

void holt__exchange_message(struct holt_journal *j, struct holt__station *station, uint8_t flags,
                            struct holt_buf body, uint64_t number) {
  struct holt__exchange *x = holt__exchange_of(j, station);
  struct holt_dag_message message;
  bool is_begun = false;
  int rc = x == NULL ? HOLT_EPROTOCOL : holt_dag_message_decode(body, &message);
  if (rc == 0 && message.type == HOLT_DAG_HAVE) {
    rc = holt_dag_link_have(x->link, &message, &is_begun);
    if (is_begun) put_cursor(j, x);
    if (is_begun) holt__damages_ask(j, x);
    if (is_begun && (flags & ASKS)) x->owes_have = true;
    holt__emits_look(j);
  } else if (rc == 0 && message.type == HOLT_DAG_WANT) {
    rc = holt_dag_link_asked(x->link, &message);
    if (rc == HOLT_ENOTFOUND || rc == HOLT_EFULL) rc = 0; /* it asks again, or another */
  } else if (rc == 0 && message.type == HOLT_DAG_TAKES) {
    holt_dag_link_takes(x->link, &message);
  } else if (rc == 0 && message.type == HOLT_DAG_RUN) {
    take_run(j, station, body, number);
  } else if (rc == 0) {
    rc = holt__journal_horizon_told(j, station, &message);
  }
  if (rc != 0 && x != NULL) {
    struct holt_err err;
    holt_err_set(&err, HOLT_EPROTOCOL, "journal '%s': a message of %s was refused: %s", j->name,
                 station->name, holt_err_text(rc));
    j->counts.refused++;
    holt__journal_tell(j, HOLT_JOURNAL_REFUSED, station->name, 0, &err);
  }
  holt__journal_stir(j);
}

/* --- Every turn -------------------------------------------------------------------------------------------
 */

bool holt__exchange_wants_quiet(const struct holt_journal *j) {
  HOLT_LIST_EACH(&j->exchanges, at, next) {
    const struct holt__exchange *x = HOLT_CONTAINER(at, struct holt__exchange, node);
    if (x->owes_have) return true;
  }
  return false;
}

static void ask_for_missing(struct holt_journal *j) {
  struct holt_dag_want want;
  while (holt_dag_next_want(j->dag, &want)) HOLT_LIST_EACH(&j->exchanges, at, next) {
      struct holt__exchange *x = HOLT_CONTAINER(at, struct holt__exchange, node);
      if (x->station->source == want.source && x->station->link != NULL) ask(j, x, &want.ref);
    }
}

/* Once a connection: all that the other told us of is durable here. */
static void look_caught_up(struct holt_journal *j, struct holt__exchange *x) {
  if (x->was_caught_up || !holt_dag_link_is_caught_up(x->link)) return;
  x->was_caught_up = true;
  holt__journal_tell(j, HOLT_JOURNAL_SYNCED, x->station->name, 0, NULL);
}

void holt__exchange_turn(struct holt_journal *j) {
  bool is_quiet = !j->commit.is_busy && holt_list_is_empty(&j->pending), is_more = false;
  ask_for_missing(j);
  HOLT_LIST_EACH(&j->exchanges, at, next) {
    struct holt__exchange *x = HOLT_CONTAINER(at, struct holt__exchange, node);
    struct holt_dag_ref ref;
    if (x->station->link == NULL || !holt_link_is_up(x->station->link)) continue;
    if (x->owes_horizons) tell_horizons(j, x); /* before what rests on them */
    if (x->owes_have && is_quiet) {
      tell_all(j, x);
      is_more = true; /* what was put off for it goes on, whether or not anything comes in */
    }
    if (is_quiet) look_caught_up(j, x);
    while (holt_dag_link_next_want(x->link, &ref)) ask(j, x, &ref);
    is_more = pump(j, x) || is_more;
  }
  if (is_more) holt__journal_stir(j);
}
