/* write.c - entries on their way to the disk: own ones sealed, foreign ones checked, both offered and
 * committed.
 *
 * - Emits gather in a batch until the sealing before has ended; then the batch is sealed as a whole.
 * - What the index admits becomes a chunk; all chunks that wait are one commit.
 * - A full disk: nothing of the commit happened. Its emits are told so, the index is made anew from what is
 * durable, and once there is room everything begins with a full exchange. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "journal/journal_impl.h"

/* --- Emitting ---------------------------------------------------------------------------------------------
 */

static struct holt__batch *open_batch(struct holt_journal *j, size_t bytes) {
  if (!holt_list_is_empty(&j->batches)) {
    struct holt__batch *last = HOLT_CONTAINER(j->batches.prev, struct holt__batch, node);
    if (last->count < HOLT__SEAL_ENTRIES && last->bytes.len + bytes <= HOLT__SEAL_BYTES) return last;
  }
  struct holt__batch *batch = holt_alloc(sizeof *batch);
  holt_list_push(&j->batches, &batch->node);
  return batch;
}

static void batch_free(struct holt__batch *batch) {
  holt_writer_free(&batch->bytes);
  free(batch->items);
  free(batch);
}

/* Of an entry besides name and payload, at most: whatever its parents will be. */
uint32_t holt__entry_overhead(void) {
  return sizeof(struct holt_dag_ref) * (HOLT_DAG_PARENTS_MAX + 2);
}

static void append(struct holt_journal *j, struct holt_journal_emit *emit, uint8_t kind, struct holt_buf name,
                   struct holt_buf payload) {
  struct holt__batch *batch = open_batch(j, name.len + payload.len);
  if (batch->count == batch->cap) {
    batch->cap = batch->cap ? batch->cap * 2 : 16;
    batch->items = holt_realloc(batch->items, batch->cap * sizeof *batch->items);
  }
  if (emit != NULL) {
    emit->batch = batch;
    emit->index = batch->count;
  }
  batch->items[batch->count++] = (struct holt__item){.emit = emit,
                                                     .kind = kind,
                                                     .offset = (uint32_t)batch->bytes.len,
                                                     .name_len = (uint32_t)name.len,
                                                     .payload_len = (uint32_t)payload.len,
                                                     .time_ms = holt__journal_wall_ms(j)};
  holt_write_bytes(&batch->bytes, name.data, name.len);
  holt_write_bytes(&batch->bytes, payload.data, payload.len);
  j->waiting_bytes += payload.len;
  holt__journal_stir(j);
}

int holt_journal_emit(struct holt_journal *j, struct holt_journal_emit *emit, struct holt_buf name,
                      struct holt_buf payload) {
  if (j->is_closing || j->opens == 0) return HOLT_ECLOSED;
  if (j->is_broken) return HOLT_EIO;
  if (j->is_full) return HOLT_ENOSPC;
  if (name.len == 0 || name.len > 255) return HOLT_EINVAL;
  if (payload.len + name.len + holt__entry_overhead() > j->options.limits.entry_bytes) return HOLT_ETOOLARGE;
  if (j->waiting_bytes + payload.len > HOLT__WAITING_BYTES) return HOLT_EBUSY;
  emit->number = 0;
  emit->have = 0;
  holt_list_init(&emit->node);
  append(j, emit, HOLT_DAG_EVENT, name, payload);
  return 0;
}

void holt__write_own(struct holt_journal *j, uint8_t kind, const char *name, struct holt_buf payload) {
  append(j, NULL, kind, holt_buf_text(name), payload);
}

bool holt_journal_emit_is_durable(const struct holt_journal_emit *emit) {
  return emit->batch == NULL && emit->number > 0;
}

void holt_journal_emit_cancel(struct holt_journal *j, struct holt_journal_emit *emit) {
  (void)j;
  if (emit->batch != NULL) emit->batch->items[emit->index].emit = NULL;
  emit->batch = NULL;
  holt_list_remove(&emit->node);
}

static void answer(struct holt_journal_emit *emit, int code) {
  holt_list_remove(&emit->node);
  emit->batch = NULL;
  emit->cb(emit->arg, code, emit->hash);
}

/* Nothing of it is or will be durable. */
static void fail_batch(struct holt_journal *j, struct holt__batch *batch, int code) {
  for (uint32_t i = 0; i < batch->count; i++) {
    struct holt_journal_emit *emit = batch->items[i].emit;
    j->waiting_bytes -= batch->items[i].payload_len;
    if (emit != NULL) answer(emit, code);
  }
  batch_free(batch);
}

void holt__emits_look(struct holt_journal *j) {
  if (holt_list_is_empty(&j->waiting) || j->self == UINT32_MAX) return;
  struct holt_dag_author author;
  holt_dag_author(j->dag, j->self, &author);
  HOLT_LIST_EACH(&j->waiting, at, next) {
    struct holt_journal_emit *emit = HOLT_CONTAINER(at, struct holt_journal_emit, node);
    emit->have = 0;
    HOLT_LIST_EACH(&j->exchanges, other, following) {
      struct holt__exchange *exchange = HOLT_CONTAINER(other, struct holt__exchange, node);
      emit->have += holt_dag_link_holds(exchange->link, author.chain, emit->number);
    }
    if (emit->have >= emit->holders) answer(emit, 0);
  }
}

static void batch_durable(struct holt_journal *j, struct holt__batch *batch) {
  for (uint32_t i = 0; i < batch->count; i++) {
    struct holt_journal_emit *emit = batch->items[i].emit;
    j->waiting_bytes -= batch->items[i].payload_len;
    if (emit == NULL) continue;
    if (emit->holders == 0) {
      answer(emit, 0);
      continue;
    }
    emit->batch = NULL;
    holt_list_push(&j->waiting, &emit->node);
  }
  j->counts.emitted += batch->count;
  batch_free(batch);
}

/* --- Sealing ----------------------------------------------------------------------------------------------
 */

static struct holt_dag_run *next_run(struct holt__sealing *s, uint64_t first, const uint8_t *prev) {
  HOLT_ASSERT(s->run_count < sizeof s->runs / sizeof s->runs[0]);
  struct holt_dag_run *run = &s->runs[s->run_count++];
  holt_dag_run_begin(run, holt_signer_public(s->journal->chain), first, prev);
  return run;
}

static int seal_opening(struct holt__sealing *s, const struct holt_dag_ops *ops) {
  struct holt_journal *j = s->journal;
  struct holt_dag_certificate certificate = {0};
  struct holt_writer payload = {0};
  struct holt_dag_run *run = next_run(s, 1, NULL);
  memcpy(certificate.directory, holt_signer_public(j->all->directory_key), HOLT_DAG_KEY);
  snprintf(certificate.node, sizeof certificate.node, "%s", j->all->node_name);
  int rc = holt_dag_certificate_make(&payload, &certificate, j->name, holt_signer_public(j->chain), ops,
                                     j->all->directory_key);
  struct holt_dag_entry entry = {.kind = HOLT_DAG_OPENING,
                                 .time_ms = s->opening_ms,
                                 .name = holt_buf_text("opening"),
                                 .payload = holt_buf(payload.data, payload.len)};
  if (rc == 0) rc = holt_dag_run_add(run, &entry, ops, &j->options.limits);
  if (rc == 0) rc = holt_dag_run_sign(run, j->name, ops, j->chain);
  holt_writer_free(&payload);
  if (rc == 0) memcpy(s->prev, holt_dag_run_tip(run), HOLT_DAG_HASH);
  return rc;
}

static int seal_entries(struct holt__sealing *s, const struct holt_dag_ops *ops) {
  struct holt_journal *j = s->journal;
  const struct holt__batch *batch = s->batch;
  uint8_t parents[HOLT_DAG_PARENTS_MAX * HOLT_DAG_REF];
  for (size_t i = 0; i < s->head_count; i++) holt_dag_ref_write(parents + i * HOLT_DAG_REF, &s->heads[i]);
  struct holt_dag_run *run = NULL;
  uint64_t number = s->first;
  for (uint32_t i = 0; i < batch->count;) {
    const struct holt__item *item = &batch->items[i];
    const uint8_t *name = batch->bytes.data + item->offset;
    struct holt_dag_entry entry = {.kind = item->kind,
                                   .parents = parents,
                                   .parent_count = i == 0 ? (uint32_t)s->head_count : 0,
                                   .time_ms = item->time_ms,
                                   .name = holt_buf(name, item->name_len),
                                   .payload = holt_buf(name + item->name_len, item->payload_len)};
    if (run == NULL) run = next_run(s, number, s->prev);
    int rc = holt_dag_run_add(run, &entry, ops, &j->options.limits);
    if (rc == HOLT_EFULL && run->count > 0) {
      rc = holt_dag_run_sign(run, j->name, ops, j->chain);
      memcpy(s->prev, holt_dag_run_tip(run), HOLT_DAG_HASH);
      run = NULL;
      if (rc == 0) continue;
    }
    if (rc != 0) return rc;
    i++;
    number++;
  }
  return holt_dag_run_sign(run, j->name, ops, j->chain);
}

static void seal(void *arg) {
  struct holt__sealing *s = arg;
  struct holt_dag_ops ops = holt__dag_ops(s->journal->seal_crypto);
  s->code = 0;
  s->run_count = 0;
  if (s->first == 1) {
    s->code = seal_opening(s, &ops);
    s->first = 2;
  }
  if (s->code == 0) s->code = seal_entries(s, &ops);
}

static void sealed(void *arg);

static void begin_sealing(struct holt_journal *j) {
  struct holt__sealing *s = &j->sealing;
  struct holt_list *at = s->is_busy || j->is_full || j->is_broken ? NULL : holt_list_shift(&j->batches);
  if (at == NULL) return;
  s->batch = HOLT_CONTAINER(at, struct holt__batch, node);
  s->is_busy = true;
  s->reloads = j->reloads;
  s->journal = j;
  s->opening_ms = s->batch->items[0].time_ms;
  s->first = j->tip + 1;
  memcpy(s->prev, j->tip_hash, sizeof s->prev);
  s->head_count = holt_dag_heads(j->dag, holt_signer_public(j->chain), s->heads);
  s->work = (struct holt_work){.run = seal, .done = sealed, .arg = s};
  holt_env_work(j->all->env, &s->work);
}

/* --- What the index takes ---------------------------------------------------------------------------------
 */

/* `own` is the run that was offered: its memory is taken over when it is among the admitted. */
void holt__journal_take(struct holt_journal *j, const struct holt_dag_result *result,
                        const struct holt_dag_run *own, struct holt__inbound *inbound) {
  struct holt__chunk *first = NULL;
  for (size_t i = 0; i < result->admitted_count; i++) {
    const struct holt_dag_admitted *admitted = &result->admitted[i];
    struct holt__chunk *chunk = holt_alloc(sizeof *chunk);
    holt_dag_run_copy(&chunk->run, admitted->run);
    chunk->skip = admitted->skip;
    chunk->count = admitted->count;
    chunk->first = admitted->first;
    chunk->author = admitted->author;
    chunk->chain = admitted->chain;
    chunk->bytes = chunk->run.bytes.len;
    if (admitted->run == own) {
      first = chunk;
      chunk->inbound = inbound;
    }
    holt_list_push(&j->pending, &chunk->node);
    j->pending_bytes += chunk->bytes;
    if (admitted->source != 0) j->counts.received += admitted->count;
    holt__exchange_admitted(j, admitted);
    if (admitted->is_fork) holt__journal_tell_fork(j, admitted->chain);
    if (admitted->is_cut) holt__journal_tell_cut(j, admitted->author);
  }
  if (result->is_horizon_moved) holt__exchange_horizons(j);
  if (first == NULL && inbound != NULL) holt__inbound_done(inbound);
}

struct holt__chunk *holt__chunk_find(struct holt_journal *j, uint32_t chain, uint64_t number) {
  struct holt_list *const lists[] = {&j->pending, &j->commit.chunks};
  for (size_t i = 0; i < 2; i++) HOLT_LIST_EACH(lists[i], at, next) {
      struct holt__chunk *chunk = HOLT_CONTAINER(at, struct holt__chunk, node);
      if (chunk->chain == chain && number >= chunk->first && number - chunk->first < chunk->count)
        return chunk;
    }
  return NULL;
}

static void chunk_free(struct holt__chunk *chunk) {
  holt_dag_run_free(&chunk->run);
  free(chunk);
}

static void name_emits(struct holt__batch *batch, const struct holt_dag_run *runs, uint32_t count) {
  uint32_t i = 0;
  for (uint32_t r = 0; r < count; r++)
    for (uint32_t k = 0; k < runs[r].count && i < batch->count; k++, i++) {
      struct holt_journal_emit *emit = batch->items[i].emit;
      if (emit == NULL) continue;
      emit->number = runs[r].first + k;
      memcpy(emit->hash, runs[r].items[k].hash, sizeof emit->hash);
    }
}

static void sealed(void *arg) {
  struct holt__sealing *s = arg;
  struct holt_journal *j = s->journal;
  struct holt__batch *batch = s->batch;
  s->is_busy = false;
  s->batch = NULL;
  if (j->is_dead) {
    holt__journal_bury(j);
    return;
  }
  bool was_opened = s->run_count > 0 && s->runs[0].first == 1;
  bool is_outdated = j->is_full || s->reloads != j->reloads; /* it follows what is gone */
  int code = s->code != 0 ? s->code : j->is_broken ? HOLT_EIO : is_outdated ? HOLT_ENOSPC : 0;
  for (uint32_t i = 0; code == 0 && i < s->run_count; i++) {
    struct holt_dag_result result;
    holt_dag_offer(j->dag, &s->runs[i], 0, &result);
    HOLT_ASSERT(result.outcome == HOLT_DAG_ADMITTED);
    j->self = result.admitted[0].author;
    j->tip = s->runs[i].first + s->runs[i].count - 1;
    memcpy(j->tip_hash, holt_dag_run_tip(&s->runs[i]), sizeof j->tip_hash);
    holt__journal_take(j, &result, &s->runs[i], NULL);
  }
  if (code == 0) {
    name_emits(batch, s->runs + was_opened, s->run_count - was_opened);
    batch->last = j->tip;
    holt_list_push(&j->sealed, &batch->node);
  } else {
    fail_batch(j, batch, code);
  }
  for (uint32_t i = 0; i < s->run_count; i++) holt_dag_run_clear(&s->runs[i]);
  holt__write_turn(j);
}

/* --- Checking ---------------------------------------------------------------------------------------------
 */

static void check(void *arg) {
  struct holt__checking *c = arg;
  struct holt_journal *j = c->journal;
  struct holt_dag_ops ops = holt__dag_ops(j->check_crypto);
  HOLT_LIST_EACH(&c->items, at, next) {
    struct holt__inbound *inbound = HOLT_CONTAINER(at, struct holt__inbound, node);
    inbound->reason = holt_dag_run_read(&inbound->run, holt_buf(inbound->message, inbound->len), j->name,
                                        &ops, &j->options.limits);
  }
}

void holt__inbound_done(struct holt__inbound *inbound) {
  inbound->is_done = true;
  holt__station_consume(inbound->station); /* frees it when its turn has come */
}

static void offer(struct holt_journal *j, struct holt__inbound *inbound) {
  struct holt_dag_result result = {.outcome = HOLT_DAG_REFUSED, .reason = inbound->reason};
  struct holt__station *station = inbound->station;
  uint64_t source = station->source;
  if (inbound->reason == HOLT_DAG_NONE) holt_dag_offer(j->dag, &inbound->run, source, &result);
  struct holt__exchange *exchange = holt__exchange_of(j, station);
  if (result.outcome == HOLT_DAG_REFUSED && result.reason == HOLT_DAG_STORE) {
    holt__damages_look(j, &inbound->run); /* not its fault: what is damaged here stood in the way */
    holt__journals_look_damage(j);
  } else if (result.outcome == HOLT_DAG_REFUSED && !result.is_again) {
    struct holt_err err;
    j->counts.refused++;
    holt_err_set(&err, HOLT_EPROTOCOL, "journal '%s': entries that %s sent were refused: %s", j->name,
                 station->name, holt_dag_reason_text(result.reason));
    holt__journal_tell(j, HOLT_JOURNAL_REFUSED, station->name, 0, &err);
  } else if (result.outcome == HOLT_DAG_DUPLICATE) {
    j->counts.duplicates++;
    if (exchange != NULL) holt_dag_link_duplicate(exchange->link, &inbound->run);
    holt__damages_look(j, &inbound->run);
  }
  for (size_t i = 0; i < result.evicted_count; i++) holt__exchange_again(j, result.evicted[i]);
  holt__journal_take(j, &result, &inbound->run,
                     inbound); /* also when refused: others may have waited for that */
}

static void checked(void *arg) {
  struct holt__checking *c = arg;
  struct holt_journal *j = c->journal;
  c->is_busy = false;
  if (j->is_dead) {
    holt__journal_bury(j);
    return;
  }
  struct holt_list *at;
  while ((at = holt_list_shift(&c->items)) != NULL) {
    struct holt__inbound *inbound = HOLT_CONTAINER(at, struct holt__inbound, node);
    if (j->is_full || j->is_broken)
      holt__inbound_done(inbound); /* it comes again with the next full exchange */
    else
      offer(j, inbound);
  }
  holt__write_turn(j);
  holt__journal_stir(j); /* the links have things to say */
}

static void begin_checking(struct holt_journal *j) {
  struct holt__checking *c = &j->checking;
  if (c->is_busy || holt_list_is_empty(&j->inbox) || j->pending_bytes > HOLT__COMMIT_BYTES) return;
  size_t bytes = 0;
  while (!holt_list_is_empty(&j->inbox) && bytes < HOLT__CHECK_BYTES) {
    struct holt__inbound *inbound = HOLT_CONTAINER(holt_list_shift(&j->inbox), struct holt__inbound, node);
    bytes += inbound->len;
    holt_list_push(&c->items, &inbound->node);
  }
  c->is_busy = true;
  c->journal = j;
  c->work = (struct holt_work){.run = check, .done = checked, .arg = c};
  holt_env_work(j->all->env, &c->work);
}

/* --- Committing -------------------------------------------------------------------------------------------
 */

static int append_chunk(struct holt__commit *c, const struct holt__chunk *chunk) {
  if (c->entry_cap < chunk->count) {
    c->entry_cap = chunk->count;
    c->entries = holt_realloc(c->entries, c->entry_cap * sizeof *c->entries);
  }
  for (uint32_t i = 0; i < chunk->count; i++) {
    uint32_t place = chunk->skip + i;
    c->entries[i] = (struct holt_book_entry){
        .chain = chunk->chain,
        .number = chunk->first + i,
        .time_ms = holt_dag_entry_time(holt_dag_run_entry(&chunk->run, place)),
        .bytes = holt_dag_run_entry(&chunk->run, place),
        .hash = chunk->run.items[place].hash,
        .signature = place + 1 == chunk->run.count ? chunk->run.signature : NULL,
        .is_kept = chunk->first + i == 1}; /* openings: who comes later needs the certificate */
  }
  return holt_book_append(c->journal->book, c->entries, chunk->count, c->now_ms, NULL);
}

static int commit_write(void *arg, struct holt_kv_txn *txn) {
  struct holt__commit *c = arg;
  struct holt_book *book = c->journal->book;
  int rc = 0;
  holt_book_begin(book, txn);
  HOLT_LIST_EACH(&c->chunks, at, next)
  if (rc == 0) rc = append_chunk(c, HOLT_CONTAINER(at, struct holt__chunk, node));
  struct holt_reader in = holt_reader(holt_buf(c->authors.data, c->authors.len));
  while (rc == 0 && holt_reader_left(&in) > 0) {
    uint8_t key[4];
    uint32_t author = holt_read_u32(&in);
    struct holt_buf record = holt_read_bytes(&in, holt_read_u32(&in));
    rc = holt_book_put(book, HOLT_BOOK_AUTHOR, holt_book_author_key(author, key), record);
  }
  if (rc == 0) rc = holt__kept_write(c);
  if (rc == 0) rc = holt__damages_write(c);
  if (rc == 0 && c->cut_to > 0) rc = holt_book_drop(book, c->cut_to, SIZE_MAX);
  return rc == 0 ? holt_book_end(book) : rc;
}

static void mark_durable(struct holt_journal *j, const struct holt__commit *c) {
  HOLT_LIST_EACH(&c->chunks, at, next) {
    const struct holt__chunk *chunk = HOLT_CONTAINER(at, struct holt__chunk, node);
    if (chunk->author == j->self) j->durable = chunk->first + chunk->count - 1;
  }
  while (!holt_list_is_empty(&j->sealed)) {
    struct holt__batch *batch = HOLT_CONTAINER(j->sealed.next, struct holt__batch, node);
    /* The analyser does not see that a removed node is out of the ring.
     * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    if (batch->last > j->durable) break;
    holt_list_remove(&batch->node);
    batch_durable(j, batch);
  }
}

/* The last entry of each chunk, for the neighbours; one of the same chain counts for those before it. */
static void tell_news(struct holt_journal *j, const struct holt__commit *c) {
  struct holt_dag_ref refs[64];
  size_t count = 0;
  HOLT_LIST_EACH(&c->chunks, at, next) {
    const struct holt__chunk *chunk = HOLT_CONTAINER(at, struct holt__chunk, node);
    const struct holt__chunk *later = HOLT_CONTAINER(next, struct holt__chunk, node);
    if (next != &c->chunks && later->chain == chunk->chain) continue;
    struct holt_dag_ref *ref = &refs[count++];
    memcpy(ref->author, chunk->run.author, sizeof ref->author);
    ref->number = chunk->first + chunk->count - 1;
    memcpy(ref->hash, holt_dag_run_tip(&chunk->run), sizeof ref->hash);
    if (count == sizeof refs / sizeof refs[0]) {
      holt__exchange_news(j, refs, count);
      count = 0;
    }
  }
  holt__exchange_news(j, refs, count);
}

static void drop_chunks(struct holt_journal *j, struct holt_list *chunks) {
  struct holt_list *at;
  while ((at = holt_list_shift(chunks)) != NULL) {
    struct holt__chunk *chunk = HOLT_CONTAINER(at, struct holt__chunk, node);
    if (chunk->inbound != NULL) holt__inbound_done(chunk->inbound);
    j->pending_bytes -= chunk->bytes;
    chunk_free(chunk);
  }
}

static void fail_all(struct holt_journal *j, int code) {
  struct holt_list *at;
  while ((at = holt_list_shift(&j->sealed)) != NULL)
    fail_batch(j, HOLT_CONTAINER(at, struct holt__batch, node), code);
  while ((at = holt_list_shift(&j->batches)) != NULL)
    fail_batch(j, HOLT_CONTAINER(at, struct holt__batch, node), code);
}

/* Nothing of the commit is on the disk: what was admitted since then never was. */
static void commit_failed(struct holt_journal *j, int status, const struct holt_err *why) {
  struct holt_err err = *why;
  bool was_full = j->is_full;
  j->is_full = status == HOLT_ENOSPC;
  j->is_broken = !j->is_full;
  drop_chunks(j, &j->commit.chunks);
  drop_chunks(j, &j->pending);
  fail_all(j, status);
  if (status == HOLT_ECORRUPT) { /* which the next start puts right */
    holt_kv_suspect(j->all->kv);
    holt__journals_look_damage(j);
  } else if (!was_full)
    holt__journal_tell(j, HOLT_JOURNAL_DISK_ERROR, "", 0, &err);
  struct holt_err reload;
  if (j->is_full && holt__journal_reload(j, &reload) != 0) j->is_broken = true;
  if (j->is_full) holt_timer_start(&j->save, HOLT__SAVE_MS);
}

static void committed(void *arg, int status, const struct holt_err *err) {
  struct holt__commit *c = arg;
  struct holt_journal *j = c->journal;
  c->is_busy = false;
  if (j->is_dead) {
    holt__journal_bury(j);
    return;
  }
  holt_book_settle(j->book, status);
  holt__damages_settle(j, status);
  c->cut_to = 0;
  if (status == 0) {
    bool is_news = !holt_list_is_empty(&c->chunks);
    if (j->is_full) holt__exchange_restart(j);
    j->is_full = false;
    j->counts.commits++;
    holt__kept_written(j);
    mark_durable(j, c);
    tell_news(j, c);
    drop_chunks(j, &c->chunks);
    if (is_news) holt__keep_soon(j);
    if (is_news) holt__journal_tell(j, HOLT_JOURNAL_ENTRIES, "", holt_book_next(j->book) - 1, NULL);
  } else {
    holt__kept_unwritten(j);
    commit_failed(j, status, err);
  }
  holt__write_turn(j);
  holt__journal_stir(j);
}

static void save_authors(struct holt_journal *j, struct holt_writer *w) {
  uint32_t author;
  struct holt_writer record = {0};
  w->len = 0;
  while (holt_dag_next_changed(j->dag, &author)) {
    record.len = 0;
    holt_dag_save(j->dag, author, &record);
    holt_write_u32(w, author);
    holt_write_u32(w, (uint32_t)record.len);
    holt_write_bytes(w, record.data, record.len);
  }
  holt_writer_free(&record);
}

static void begin_commit(struct holt_journal *j) {
  struct holt__commit *c = &j->commit;
  bool has_entries = !holt_list_is_empty(&j->pending) && !j->is_full;
  if (c->is_busy || j->is_broken) return;
  bool is_cut = !j->is_full && !j->sealing.is_busy && holt_list_is_empty(&j->pending) && holt__keep_look(j);
  if (!has_entries && !j->is_save_due && !is_cut) return;
  holt_timer_stop(&j->save);
  j->is_save_due = false;
  holt_list_move(&c->chunks, &j->pending); /* bounded: see begin_checking, and one sealing */
  save_authors(j, &c->authors);
  holt__kept_collect(j);
  holt__damages_collect(j);
  holt_book_will_drop(j->book, c->cut_to);
  c->is_busy = true;
  c->journal = j;
  c->now_ms = holt__journal_wall_ms(j);
  c->job = (struct holt_kv_job){.write = commit_write, .done = committed, .arg = c};
  holt_kv_submit(j->all->kv, &c->job);
}

/* --- Every turn -------------------------------------------------------------------------------------------
 */

void holt__write_turn(struct holt_journal *j) {
  if (j->is_dead) return;
  if (!holt__exchange_wants_quiet(j) || j->is_closing) { /* else the commits end first */
    begin_sealing(j);
    begin_checking(j);
  }
  begin_commit(j);
}

/* Nobody is told: the node is gone. */
void holt__write_free(struct holt_journal *j) {
  struct holt_list *const lists[] = {&j->batches, &j->sealed};
  for (size_t i = 0; i < 2; i++)
    HOLT_LIST_EACH(lists[i], at, next) batch_free(HOLT_CONTAINER(at, struct holt__batch, node));
  if (j->sealing.batch != NULL) batch_free(j->sealing.batch);
  for (size_t i = 0; i < sizeof j->sealing.runs / sizeof j->sealing.runs[0]; i++)
    holt_dag_run_free(&j->sealing.runs[i]);
  HOLT_LIST_EACH(&j->pending, at, next) chunk_free(HOLT_CONTAINER(at, struct holt__chunk, node));
  HOLT_LIST_EACH(&j->commit.chunks, at, next) chunk_free(HOLT_CONTAINER(at, struct holt__chunk, node));
  holt_writer_free(&j->commit.authors);
  holt_writer_free(&j->commit.cursors);
  holt_writer_free(&j->commit.notes);
  free(j->commit.entries);
}
