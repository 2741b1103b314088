/* journal.c - one journal from its opening to its end; reading, cursors, what there is to see.
 *
 * A start loads the authors' records, not the entries. Work that the loop should do is put off to the end of
 * the turn (stir): then emits are sealed together, runs checked together, and chunks committed together. */
#include "journal/journal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "journal/journal_impl.h"

/* --- What others use --------------------------------------------------------------------------------------
 */

static void dag_hash(void *arg, struct holt_buf bytes, uint8_t out[HOLT_DAG_HASH]) {
  holt_crypto_hash(arg, bytes, out);
}

static bool dag_verify(void *arg, const uint8_t key[HOLT_DAG_KEY], struct holt_buf text,
                       const uint8_t signature[HOLT_DAG_SIGNATURE]) {
  (void)arg;
  return holt_crypto_verify(key, text, signature);
}

static int dag_sign(void *arg, const void *secret, struct holt_buf text, uint8_t out[HOLT_DAG_SIGNATURE]) {
  (void)arg;
  holt_signer_sign(secret, text, out);
  return 0;
}

struct holt_dag_ops holt__dag_ops(struct holt_crypto *crypto) {
  return (struct holt_dag_ops){.hash = dag_hash, .verify = dag_verify, .sign = dag_sign, .arg = crypto};
}

uint64_t holt__journal_wall_ms(const struct holt_journal *j) {
  double seconds = holt_env_wall_s(j->all->env);
  return seconds > 0 ? (uint64_t)(seconds * 1000) : 0;
}

static void tell(struct holt_journal *j, struct holt_journal_notice *notice) {
  notice->journal = j;
  if (!j->is_dead && j->opens > 0 && j->all->ops->on_event) j->all->ops->on_event(j->all->arg, notice);
}

void holt__journal_tell(struct holt_journal *j, enum holt_journal_event event, const char *text,
                        uint64_t number, const struct holt_err *err) {
  struct holt_journal_notice notice = {.event = event, .text = text, .number = number};
  if (err != NULL) notice.err = *err;
  tell(j, &notice);
}

void holt__hex(const uint8_t *bytes, size_t len, char *out) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < len; i++) {
    out[2 * i] = digits[bytes[i] >> 4];
    out[2 * i + 1] = digits[bytes[i] & 15];
  }
  out[2 * len] = '\0';
}

static void name_author(const struct holt_journal *j, uint32_t number, char text[2 * HOLT_DAG_KEY + 1]) {
  struct holt_dag_author author;
  holt_dag_author(j->dag, number, &author);
  holt__hex(author.key, HOLT_DAG_KEY, text);
}

bool holt__journal_fork_proof(struct holt_journal *j, uint32_t chain, uint8_t proof[2][32]) {
  struct holt_dag_ref one, other;
  if (holt_dag_fork(j->dag, chain, &one, &other) != 0) return false;
  bool is_in_order = memcmp(one.hash, other.hash, HOLT_DAG_HASH) < 0;
  memcpy(proof[!is_in_order], one.hash, HOLT_DAG_HASH);
  memcpy(proof[is_in_order], other.hash, HOLT_DAG_HASH);
  return true;
}

void holt__journal_tell_fork(struct holt_journal *j, uint32_t chain_number) {
  char text[2 * HOLT_DAG_KEY + 1];
  struct holt_dag_chain chain;
  holt_dag_chain(j->dag, chain_number, &chain);
  struct holt_journal_notice notice = {.event = HOLT_JOURNAL_FORKED, .text = text, .number = chain.first};
  notice.has_proof = holt__journal_fork_proof(j, chain_number, notice.proof);
  name_author(j, chain.author, text);
  j->counts.forks++;
  tell(j, &notice);
}

void holt__journal_tell_cut(struct holt_journal *j, uint32_t author_number) {
  struct holt_dag_author author;
  char text[2 * HOLT_DAG_KEY + 1];
  holt_dag_author(j->dag, author_number, &author);
  name_author(j, author_number, text);
  holt__journal_tell(j, HOLT_JOURNAL_TRUNCATED, text, author.horizon, NULL);
}

static void on_turn(void *arg) {
  struct holt_journal *j = arg;
  if (j->report.code != 0 && j->opens > 0) {
    struct holt_err report = j->report;
    j->report.code = 0;
    holt__journal_tell(j, HOLT_JOURNAL_DISK_ERROR, "", 0, &report);
  }
  holt__write_turn(j);
  holt__exchange_turn(j);
}

void holt__journal_stir(struct holt_journal *j) {
  if (!j->is_dead) holt_env_post(j->all->env, &j->turn);
}

int holt__journal_hash_at(void *arg, uint32_t chain, uint64_t number, uint8_t out[HOLT_DAG_HASH]) {
  struct holt_journal *j = arg;
  const struct holt__chunk *chunk = holt__chunk_find(j, chain, number);
  if (chunk != NULL) {
    memcpy(out, chunk->run.items[chunk->skip + (number - chunk->first)].hash, HOLT_DAG_HASH);
    return 0;
  }
  struct holt_writer bytes = {0};
  int rc = holt__journal_entry(j, chain, number, &bytes, NULL);
  if (rc == 0) holt_crypto_hash(j->loop_crypto, holt_buf(bytes.data, bytes.len), out);
  holt_writer_free(&bytes);
  return rc == HOLT_ECORRUPT ? holt__damage_hash(j, chain, number, out) : rc;
}

/* --- Opening ----------------------------------------------------------------------------------------------
 */

struct loading {
  struct holt_dag *dag;
  uint32_t next;
};

static int load_author(void *arg, struct holt_buf key, struct holt_buf record) {
  struct loading *l = arg;
  uint8_t wanted[4]; /* they come in order */
  struct holt_buf expected = holt_book_author_key(l->next++, wanted);
  bool is_next = key.len == expected.len && memcmp(key.data, expected.data, key.len) == 0;
  return record.data == NULL || !is_next ? HOLT_ECORRUPT : holt_dag_load(l->dag, record);
}

static int load_dag(struct holt_journal *j, struct holt_err *err) {
  j->dag = holt_dag_new(&j->options);
  struct loading loading = {.dag = j->dag};
  struct holt_kv_txn *txn;
  int rc = holt_kv_begin(j->all->kv, &txn);
  if (rc == 0) {
    rc = holt_book_records(j->book, txn, HOLT_BOOK_AUTHOR, load_author, &loading);
    holt_kv_end(txn);
  }
  if (rc == 0) rc = holt_dag_loaded(j->dag);
  if (rc != 0)
    return holt_err_set(
        err, rc,
        "journal '%s': what is kept about its authors is damaged; begin again (the store in '%s' is "
        "made anew from what can be read)",
        j->name, holt_kv_path(j->all->kv));
  return 0;
}

int holt__journal_reload(struct holt_journal *j, struct holt_err *err) {
  j->reloads++;
  HOLT_LIST_EACH(&j->exchanges, at, next) {
    struct holt__exchange *x = HOLT_CONTAINER(at, struct holt__exchange, node);
    holt_dag_link_free(x->link);
    x->link = NULL;
  }
  holt_dag_free(j->dag);
  int rc = load_dag(j, err);
  free(j->node_names); /* some of the numbers mean others now */
  j->node_names = NULL;
  j->node_names_cap = 0;
  HOLT_LIST_EACH(&j->exchanges, at, next) {
    struct holt__exchange *x = HOLT_CONTAINER(at, struct holt__exchange, node);
    x->link = holt_dag_link_new(j->dag, x->station->source);
    x->range_chain = HOLT_DAG_NO_CHAIN;
  }
  holt__exchange_restart(j);
  j->self = UINT32_MAX;
  j->tip = 0;
  memset(j->tip_hash, 0, sizeof j->tip_hash);
  uint32_t self;
  if (rc == 0 && holt_dag_author_find(j->dag, holt_signer_public(j->chain), &self) == 0) {
    struct holt_dag_author author;
    struct holt_dag_chain chain;
    holt_dag_author(j->dag, self, &author);
    holt_dag_chain(j->dag, author.chain, &chain);
    j->self = self;
    j->tip = chain.tip;
    memcpy(j->tip_hash, chain.tip_hash, sizeof j->tip_hash);
  }
  return rc;
}

static void on_save(void *arg) {
  struct holt_journal *j = arg;
  j->is_save_due = true;
  holt__journal_stir(j);
}

static void on_keep(void *arg) {
  holt__journal_stir(arg);
}

static struct holt_journal *find(struct holt_journals *all, const char *name) {
  HOLT_LIST_EACH(&all->journals, at, next) {
    struct holt_journal *j = HOLT_CONTAINER(at, struct holt_journal, node);
    if (strcmp(j->name, name) == 0) return j;
  }
  return NULL;
}

static void take_config(struct holt_journal *j, const struct holt_journal_config *config) {
  holt_dag_options_default(&j->options);
  if (config->entry_bytes_max > 0) j->options.limits.entry_bytes = config->entry_bytes_max;
  j->options.authors = config->authors;
  j->options.author_count = config->author_count;
  j->options.hash_at = holt__journal_hash_at;
  j->options.arg = j;
  j->keep_ms = config->keep_ms;
  j->keep_entries = config->keep_entries;
  j->keep_bytes = config->keep_bytes;
  if (config->author_count == 0) return;
  size_t bytes = config->author_count * sizeof *config->authors; /* the index is made anew now and then */
  j->authors = holt_alloc(bytes);
  memcpy(j->authors, config->authors, bytes);
  j->options.authors = (const uint8_t(*)[HOLT_DAG_KEY])j->authors;
}

static struct holt_journal *journal_new(struct holt_journals *all, const struct holt_journal_config *config) {
  struct holt_journal *j = holt_alloc(sizeof *j);
  struct holt_list *const lists[] = {&j->batches, &j->sealed,         &j->waiting,       &j->inbox,
                                     &j->pending, &j->checking.items, &j->commit.chunks, &j->cursors,
                                     &j->notes,   &j->exchanges,      &j->damages,       &j->commit.mends};
  for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) holt_list_init(lists[i]);
  j->all = all;
  j->self = UINT32_MAX;
  snprintf(j->name, sizeof j->name, "%s", config->name);
  take_config(j, config);
  j->seal_crypto = holt_crypto_new();
  j->check_crypto = holt_crypto_new();
  j->loop_crypto = holt_crypto_new();
  j->chain = holt__journals_new_chain(all);
  holt_timer_init(&j->save, all->env, on_save, j);
  holt_timer_init(&j->keep, all->env, on_keep, j);
  holt_timer_init(&j->again, all->env, holt__damages_ask_again, j);
  holt_post_init(&j->turn, on_turn, j);
  return j;
}

void holt__journal_free(struct holt_journal *j) {
  holt__write_free(j);
  HOLT_LIST_EACH(&j->cursors, at, next) free(HOLT_CONTAINER(at, struct holt__cursor, node));
  HOLT_LIST_EACH(&j->notes, at, next) {
    struct holt__note *note = HOLT_CONTAINER(at, struct holt__note, node);
    holt_writer_free(&note->value);
    free(note);
  }
  HOLT_LIST_EACH(&j->exchanges, at, next)
  holt__exchange_close(j, HOLT_CONTAINER(at, struct holt__exchange, node));
  holt__damages_free(j);
  holt_dag_free(j->dag);
  if (j->book != NULL) holt_book_close(j->book);
  holt_crypto_free(j->seal_crypto);
  holt_crypto_free(j->check_crypto);
  holt_crypto_free(j->loop_crypto);
  holt_signer_free(j->chain);
  holt_writer_free(&j->entry);
  holt_writer_free(&j->out);
  free(j->node_names);
  free(j->authors);
  free(j);
}

static int load(struct holt_journal *j, struct holt_err *err) {
  struct holt_book_options options = {
      .kv = j->all->kv, .name = j->name, .hash = dag_hash, .arg = j->loop_crypto};
  holt__keep_marks(j, &options);
  int rc = holt_book_open(&options, &j->book, err);
  if (rc == 0) rc = holt__repair_look(j, &options, err);
  if (rc == 0) rc = load_dag(j, err);
  if (j->is_repaired && j->book != NULL && (rc == 0 || rc == HOLT_ECORRUPT))
    rc = holt__repair(j, &options, rc, err);
  if (rc != 0) return rc;
  holt_list_push(&j->all->journals, &j->node);
  holt__damages_load(j);
  holt__keep_soon(j);
  return 0;
}

static int open_new(struct holt_journals *all, const struct holt_journal_config *config,
                    struct holt_journal **out, struct holt_err *err) {
  int rc = holt__journals_open_store(all, err);
  if (rc != 0) return rc;
  struct holt_journal *j = *out = journal_new(all, config);
  rc = load(j, err);
  if (rc == 0) return 0;
  holt_timer_stop(&j->save);
  holt_timer_stop(&j->keep);
  holt_timer_stop(&j->again);
  holt_post_cancel(&j->turn);
  holt__journal_free(j);
  return rc;
}

int holt_journal_open(struct holt_journals *all, const struct holt_journal_config *config,
                      struct holt_journal **out, struct holt_err *err) {
  size_t len = strlen(config->name);
  if (all->is_closing) return holt_err_set(err, HOLT_ECLOSED, "the node is closed");
  if (len == 0 || len > HOLT_BOOK_NAME_MAX)
    return holt_err_set(err, HOLT_EINVAL, "the name of a journal has 1 to %d bytes, this one has %zu",
                        HOLT_BOOK_NAME_MAX, len);
  if (config->entry_bytes_max > HOLT_JOURNAL_ENTRY_MAX)
    return holt_err_set(err, HOLT_EINVAL, "max_entry_bytes may be %u at most", HOLT_JOURNAL_ENTRY_MAX);
  struct holt_journal *j = find(all, config->name);
  if (j == NULL) {
    int rc = open_new(all, config, &j, err);
    if (rc == HOLT_ECORRUPT && holt__journals_close_damaged(all)) rc = open_new(all, config, &j, err);
    if (rc != 0) return rc;
  }
  if (j->opens++ == 0) HOLT_LIST_EACH(&all->stations, at, next) {
      struct holt__station *station = HOLT_CONTAINER(at, struct holt__station, node);
      if (station->link != NULL) holt__exchange_open(j, station, true);
    }
  *out = j;
  return 0;
}

void holt_journal_close(struct holt_journal *j) {
  if (--j->opens > 0) return;
  HOLT_LIST_EACH(&j->exchanges, at, next)
  holt__exchange_close(j, HOLT_CONTAINER(at, struct holt__exchange, node));
  j->is_save_due = true;
  holt__journal_stir(j);
}

bool holt__journal_is_idle(const struct holt_journal *j) {
  bool has_work = !holt_list_is_empty(&j->batches) || !holt_list_is_empty(&j->sealed) ||
                  !holt_list_is_empty(&j->pending) || holt__journal_wants_save(j);
  bool can_work = !j->is_full && !j->is_broken;
  return !j->sealing.is_busy && !j->commit.is_busy && !j->checking.is_busy && !(has_work && can_work);
}

/* From now on nobody hears of it; it goes when its workers have let go. */
void holt__journal_kill(struct holt_journal *j) {
  j->is_dead = true;
  holt_timer_stop(&j->save);
  holt_timer_stop(&j->keep);
  holt_timer_stop(&j->again);
  holt_post_cancel(&j->turn);
  holt__journal_bury(j);
}

void holt__journal_bury(struct holt_journal *j) {
  if (j->sealing.is_busy || j->checking.is_busy || j->commit.is_busy) return;
  struct holt_journals *all = j->all;
  holt_list_remove(&j->node);
  holt__journal_free(j);
  holt__journals_bury(all);
}

const char *holt_journal_name(const struct holt_journal *j) {
  return j->name;
}
