/* journals.c - all journals of a node: their store, the directory's key, and the neighbours' messages.
 *
 * - The store is opened with the first journal. Its table "node" and a file beside it hold the directory's
 * secret key.
 * - A message names its journal; one that is not open here is acknowledged and forgotten: whoever opens it
 * later asks for everything.
 * - The credit of a message goes back when it is dealt with and all before it are: a neighbour cannot have
 * more under way than the lane's window, however slow the disk is. */
#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/mem.h"
#include "journal/journal_impl.h"

struct holt_journals *holt_journals_new(struct holt_env *env, struct holt_links *links, const char *node_name,
                                        const char *directory, const struct holt_journals_ops *ops,
                                        void *arg) {
  struct holt_journals *all = holt_alloc(sizeof *all);
  all->env = env;
  all->links = links;
  all->node_name = holt_strdup(node_name);
  all->directory = holt_strdup(directory);
  all->ops = ops;
  all->arg = arg;
  holt_list_init(&all->journals);
  holt_list_init(&all->stations);
  holt_list_init(&all->compactions);
  return all;
}

/* --- The store --------------------------------------------------------------------------------------------
 */

struct key_job {
  uint32_t table;
  uint8_t seed[HOLT_KEY_BYTES];
};

static int write_key(void *arg, struct holt_kv_txn *txn) {
  const struct key_job *job = arg;
  return holt_kv_put(txn, job->table, holt_buf_text("secret key"), holt_buf(job->seed, sizeof job->seed));
}

static void draw(struct holt_env *env, uint8_t out[HOLT_KEY_BYTES]) {
  for (size_t i = 0; i < HOLT_KEY_BYTES; i += 8) holt_put_u64(out + i, holt_env_random(env));
}

/* The key lies in the table and, with its checksum, in a file beside the tables, which outlives them. */
static int kept_key(struct holt_kv *kv, uint8_t seed[HOLT_KEY_BYTES]) {
  struct holt_writer w = {0};
  int rc = holt_kv_kept(kv, &w);
  bool is_good = rc == 0 && w.len == HOLT_KEY_BYTES + 4 &&
                 holt_crc32c(0, w.data, HOLT_KEY_BYTES) == holt_get_u32(w.data + HOLT_KEY_BYTES);
  if (is_good) memcpy(seed, w.data, HOLT_KEY_BYTES);
  if (w.len > 0) memset(w.data, 0, w.len);
  holt_writer_free(&w);
  return is_good ? 0 : HOLT_ENOTFOUND;
}

static int keep_key(struct holt_kv *kv, const uint8_t seed[HOLT_KEY_BYTES], struct holt_err *err) {
  uint8_t bytes[HOLT_KEY_BYTES + 4];
  memcpy(bytes, seed, HOLT_KEY_BYTES);
  holt_put_u32(bytes + HOLT_KEY_BYTES, holt_crc32c(0, seed, HOLT_KEY_BYTES));
  int rc = holt_kv_keep(kv, holt_buf(bytes, sizeof bytes), err);
  memset(bytes, 0, sizeof bytes);
  return rc == HOLT_EUNSUPPORTED ? 0 : rc;
}

static int stored_key(struct holt_kv *kv, uint32_t table, uint8_t seed[HOLT_KEY_BYTES]) {
  struct holt_kv_txn *txn;
  struct holt_buf found;
  int rc = holt_kv_begin(kv, &txn);
  if (rc != 0) return rc;
  rc = holt_kv_get(txn, table, holt_buf_text("secret key"), &found);
  if (rc == 0 && found.len != HOLT_KEY_BYTES) rc = HOLT_ECORRUPT;
  if (rc == 0) memcpy(seed, found.data, HOLT_KEY_BYTES);
  holt_kv_end(txn);
  return rc;
}

static int load_key(struct holt_journals *all, struct holt_err *err) {
  struct key_job job;
  uint8_t seed[HOLT_KEY_BYTES];
  int rc = holt_kv_table(all->kv, "node", &job.table, err);
  if (rc != 0) return rc;
  rc = stored_key(all->kv, job.table, job.seed);
  bool has_file = kept_key(all->kv, seed) == 0,
       is_same = has_file && memcmp(seed, job.seed, sizeof seed) == 0;
  if (has_file && !(rc == 0 && is_same)) {
    memcpy(job.seed, seed, sizeof seed);
    rc = holt_kv_run(all->kv, write_key, &job, err);
  } else if (rc == HOLT_ENOTFOUND) {
    draw(all->env, job.seed);
    rc = holt_kv_run(all->kv, write_key, &job, err);
  } else if (rc != 0) {
    rc =
        holt_err_set(err, rc, "%s: the key of this directory cannot be read; move it away to begin a new one",
                     holt_kv_path(all->kv));
  }
  if (rc == 0 && !has_file && keep_key(all->kv, job.seed, err) != 0)
    holt_log(HOLT_LOG_WARN, "%s: the key has no second copy: %s", holt_kv_path(all->kv), err->message);
  if (rc == 0) all->directory_key = holt_signer_new(job.seed);
  memset(&job, 0, sizeof job);
  memset(seed, 0, sizeof seed);
  return rc;
}

/* Tables of books, and the key's. */
static bool is_whole(const char *table, struct holt_buf key, struct holt_buf value) {
  if (strcmp(table, "node") != 0) return holt_book_is_whole(table, key, value);
  return value.len == HOLT_KEY_BYTES && key.len == 10 && memcmp(key.data, "secret key", 10) == 0;
}

int holt__journals_open_store(struct holt_journals *all, struct holt_err *err) {
  if (all->kv != NULL) return 0;
  struct holt_kv_options options = {
      .path = all->directory, .kind = "journal", .version = HOLT_BOOK_VERSION, .is_whole = is_whole};
  int rc = holt_kv_open(all->env, &options, &all->kv, err);
  if (rc != 0) return rc;
  rc = load_key(all, err);
  if (rc == HOLT_ECORRUPT && holt__journals_close_damaged(all)) {
    rc = holt_kv_open(all->env, &options, &all->kv, err);
    if (rc == 0) rc = load_key(all, err);
  }
  if (rc == 0 || all->kv == NULL) return rc;
  holt_kv_close(all->kv, NULL, NULL);
  all->kv = NULL;
  return rc;
}

bool holt__journals_close_damaged(struct holt_journals *all) {
  if (all->kv == NULL || !holt_list_is_empty(&all->journals)) return false;
  bool is_damaged = holt_kv_is_damaged(all->kv); /* it is marked now */
  if (!is_damaged || !holt_kv_drop(all->kv)) return false;
  holt_signer_free(all->directory_key);
  all->directory_key = NULL;
  all->kv = NULL;
  return true;
}

struct names {
  void (*each)(void *arg, const char *name);
  void *arg;
};

/* A journal NAME has a table "NAME/log" (book.c). */
static void on_table(void *arg, const char *table) {
  const struct names *names = arg;
  char name[HOLT_BOOK_NAME_MAX + 1];
  size_t len = strlen(table);
  if (len <= 4 || len - 4 >= sizeof name || strcmp(table + len - 4, "/log") != 0) return;
  memcpy(name, table, len - 4);
  name[len - 4] = '\0';
  names->each(names->arg, name);
}

int holt_journals_each(struct holt_journals *all, void (*each)(void *arg, const char *name), void *arg,
                       struct holt_err *err) {
  struct names names = {.each = each, .arg = arg};
  int rc = holt__journals_open_store(all, err);
  if (rc != 0) return rc;
  rc = holt_kv_each_table(all->kv, on_table, &names);
  return rc == 0 ? 0 : holt_err_set(err, rc, "%s: %s", holt_kv_path(all->kv), holt_err_text(rc));
}

struct holt_signer *holt__journals_new_chain(struct holt_journals *all) {
  uint8_t seed[HOLT_KEY_BYTES];
  draw(all->env, seed);
  struct holt_signer *chain = holt_signer_new(seed);
  memset(seed, 0, sizeof seed);
  return chain;
}

/* --- Neighbours -------------------------------------------------------------------------------------------
 */

static struct holt__station *station_of(struct holt_journals *all, const struct holt_link *link) {
  /* The analyser does not see that a removed node is out of the ring.
   * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
  HOLT_LIST_EACH(&all->stations, at, next) {
    struct holt__station *station = HOLT_CONTAINER(at, struct holt__station, node);
    if (station->link == link) return station;
  }
  return NULL;
}

static void station_look_free(struct holt__station *station) {
  if (station->link != NULL || !holt_list_is_empty(&station->runs)) return;
  holt_list_remove(&station->node);
  free(station);
}

void holt__station_consume(struct holt__station *station) {
  uint64_t upto = 0;
  while (!holt_list_is_empty(&station->runs)) {
    struct holt__inbound *oldest = HOLT_CONTAINER(station->runs.next, struct holt__inbound, of_station);
    if (!oldest->is_done) break; /* NOLINT(clang-analyzer-unix.Malloc): the same */
    upto = oldest->number;
    holt_list_remove(&oldest->of_station);
    holt_dag_run_free(&oldest->run);
    free(oldest);
  }
  if (holt_list_is_empty(&station->runs)) upto = station->received;
  if (station->link != NULL && holt_link_is_up(station->link))
    while (station->consumed < upto) /* each by itself: one that is left out keeps its credit for ever */
      holt_link_consume(station->link, HOLT_LANE_JOURNAL, ++station->consumed);
  station_look_free(station);
}

void holt_journals_link_up(struct holt_journals *all, struct holt_link *link) {
  if (all->is_closing || station_of(all, link) != NULL) return;
  struct holt__station *station = holt_alloc(sizeof *station);
  station->link = link;
  station->source = ++all->last_source;
  holt_list_init(&station->runs);
  snprintf(station->name, sizeof station->name, "%s", holt_link_name(link));
  holt_list_push(&all->stations, &station->node);
  HOLT_LIST_EACH(&all->journals, at, next)
  holt__exchange_open(HOLT_CONTAINER(at, struct holt_journal, node), station, false);
}

void holt_journals_link_down(struct holt_journals *all, struct holt_link *link) {
  struct holt__station *station = station_of(all, link);
  if (station == NULL) return;
  HOLT_LIST_EACH(&all->journals, at, next) {
    struct holt_journal *j = HOLT_CONTAINER(at, struct holt_journal, node);
    struct holt__exchange *x = holt__exchange_of(j, station);
    if (x != NULL) holt__exchange_close(j, x);
  }
  /* What it sent is still dealt with. Its credit is given back now: the link may go on with its numbers, and
   * the next connection begins with what each side has, whatever was acknowledged. */
  while (station->consumed < station->received)
    holt_link_consume(link, HOLT_LANE_JOURNAL, ++station->consumed);
  station->link = NULL;
  station_look_free(station);
}

void holt_journals_message(struct holt_journals *all, struct holt_link *link,
                           const struct holt_link_message *message) {
  struct holt__station *station = station_of(all, link);
  if (station == NULL) { /* we are closing */
    holt_link_consume(link, message->lane, message->number);
    return;
  }
  char name[256];
  struct holt_reader in = holt_reader(message->body);
  holt_read_text8(&in, name);
  uint8_t flags = holt_read_u8(&in);
  station->received = message->number;
  if (station->consumed == 0) station->consumed = message->number - 1; /* the first of this connection */
  if (!in.failed && message->type == HOLT_WIRE_JOURNAL) HOLT_LIST_EACH(&all->journals, at, next) {
      struct holt_journal *j = HOLT_CONTAINER(at, struct holt_journal, node);
      if (strcmp(j->name, name) == 0)
        holt__exchange_message(j, station, flags, holt_read_bytes(&in, holt_reader_left(&in)),
                               message->number);
    }
  holt__station_consume(station);
}

void holt_journals_room(struct holt_journals *all) {
  HOLT_LIST_EACH(&all->journals, at, next) {
    struct holt_journal *j = HOLT_CONTAINER(at, struct holt_journal, node);
    if (!holt_list_is_empty(&j->exchanges)) holt__journal_stir(j);
  }
}

/* --- The end ----------------------------------------------------------------------------------------------
 */

void holt_journals_close(struct holt_journals *all) {
  all->is_closing = true;
  holt__journals_compact_stop(all);
  HOLT_LIST_EACH(&all->journals, at, next) {
    struct holt_journal *j = HOLT_CONTAINER(at, struct holt_journal, node);
    j->is_closing = true;
    holt__journal_stir(j);
  }
}

bool holt_journals_are_idle(const struct holt_journals *all) {
  HOLT_LIST_EACH(&all->journals, at, next)
  if (!holt__journal_is_idle(HOLT_CONTAINER(at, struct holt_journal, node))) return false;
  return true;
}

static void free_all(struct holt_journals *all) {
  HOLT_LIST_EACH(&all->stations, at, next) {
    struct holt__station *station = HOLT_CONTAINER(at, struct holt__station, node);
    struct holt_list *run;
    while ((run = holt_list_shift(&station->runs)) != NULL) {
      struct holt__inbound *inbound = HOLT_CONTAINER(run, struct holt__inbound, of_station);
      holt_dag_run_free(&inbound->run);
      free(inbound);
    }
    free(station);
  }
  holt_signer_free(all->directory_key);
  free(all->node_name);
  free(all->directory);
  free(all);
}

static void on_closed(void *arg) {
  struct holt_journals *all = arg;
  holt_env_end_cancel(&all->end);
  free_all(all);
}

/* The env went before workers or store had told that they have ended. */
static void on_end(void *arg) {
  struct holt_journals *all = arg;
  HOLT_LIST_EACH(&all->journals, at, next) holt__journal_free(HOLT_CONTAINER(at, struct holt_journal, node));
  if (all->kv != NULL) holt_kv_forget(all->kv);
  free_all(all);
}

void holt_journals_free(struct holt_journals *all) {
  if (all == NULL) return;
  holt__journals_compact_stop(all);
  HOLT_LIST_EACH(&all->stations, at, next) {
    struct holt__station *station = HOLT_CONTAINER(at, struct holt__station, node);
    if (station->link != NULL) holt_journals_link_down(all, station->link);
  }
  all->end = (struct holt_env_end){.cb = on_end, .arg = all};
  holt_env_at_end(all->env, &all->end);
  HOLT_LIST_EACH(&all->journals, at, next) holt__journal_kill(HOLT_CONTAINER(at, struct holt_journal, node));
  all->is_dead = true;
  holt__journals_bury(all);
}

/* Once the last worker has let go. */
void holt__journals_bury(struct holt_journals *all) {
  if (!all->is_dead || !holt_list_is_empty(&all->journals)) return;
  if (all->kv != NULL) {
    holt_kv_close(all->kv, on_closed, all);
    return;
  }
  holt_env_end_cancel(&all->end);
  free_all(all);
}
