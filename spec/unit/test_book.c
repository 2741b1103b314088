/* The book of a journal: entries by arrival, by chain and number, by hash; crashes, damage, a full disk,
 * retention. In a folder, in memory, and on a simulated host. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rand.h"
#include "env/sim.h"
#include "env/uv.h"
#include "folder.h"
#include "journal/book.h"
#include "store/kv_disk.h"
#include "unit.h"

/* --- Three machines ------------------------------------------------------------------------------- */

enum kind { IN_FOLDER, IN_MEMORY, ON_HOST };

struct machine {
  enum kind kind;
  struct holt_env *env;
  struct holt_sim *sim;
  char path[200];
  struct holt_kv *kv;
  struct holt_book *book;
  uint32_t flush;
  unsigned closed;
  struct holt_err err;
};

/* Not a hash for anything but tests: uniform is all it needs to be. */
static void hash_of(void *arg, struct holt_buf bytes, uint8_t out[HOLT_BOOK_HASH]) {
  (void)arg;
  for (uint64_t i = 0; i < 4; i++) holt_put_u64(out + 8 * i, holt_hash_bytes(i + 1, bytes.data, bytes.len));
}

static void new_env(struct machine *m) {
  m->env = m->kind == ON_HOST ? holt_sim_host(m->sim, "n1") : holt_env_uv_new();
  assert_non_null(m->env);
}

static void open_book(struct machine *m) {
  struct holt_kv_options options = {
      .path = m->kind == IN_MEMORY ? NULL : m->path, .kind = "journal", .version = HOLT_BOOK_VERSION};
  struct holt_book_options how = {.name = "shop", .hash = hash_of, .flush = m->flush};
  if (m->kv == NULL && holt_kv_open(m->env, &options, &m->kv, &m->err) != 0) fail_msg("%s", m->err.message);
  how.kv = m->kv;
  if (holt_book_open(&how, &m->book, &m->err) != 0) fail_msg("%s", m->err.message);
}

static void begin_as(struct machine *m, enum kind kind, uint32_t flush) {
  *m = (struct machine){.kind = kind, .flush = flush};
  if (kind == ON_HOST) {
    struct holt_sim_config config = {.seed = 9, .disk_min_us = 100, .disk_max_us = 900};
    m->sim = holt_sim_new(&config);
    snprintf(m->path, sizeof m->path, "data");
  } else {
    folder_new(m->path);
  }
  new_env(m);
  open_book(m);
}

static void on_closed(void *arg) {
  ((struct machine *)arg)->closed++;
}

static void close_store(struct machine *m) {
  holt_book_close(m->book);
  m->closed = 0;
  holt_kv_close(m->kv, on_closed, m);
  for (int i = 0; i < 100000 && m->closed == 0; i++) holt_env_turn(m->env, true);
  assert_int_equal(m->closed, 1);
  m->kv = NULL;
}

static void reopen(struct machine *m) {
  if (m->kind == IN_MEMORY)
    holt_book_close(m->book);
  else
    close_store(m);
  open_book(m);
}

static void end(struct machine *m) {
  close_store(m);
  holt_env_free(m->env);
  if (m->sim != NULL)
    holt_sim_free(m->sim);
  else
    folder_remove(m->path);
}

/* --- Entries -------------------------------------------------------------------------------------- */

enum { ENTRY_BYTES = 48 };

/* What entry `number` of `chain` looks like. */
struct made {
  uint8_t bytes[ENTRY_BYTES], hash[HOLT_BOOK_HASH], signature[HOLT_BOOK_SIGNATURE];
  struct holt_book_entry entry;
};

static void make(struct made *made, uint32_t chain, uint64_t number) {
  memset(made->bytes, (int)(number % 256), sizeof made->bytes);
  holt_put_u32(made->bytes, chain);
  holt_put_u64(made->bytes + 4, number);
  memset(made->signature, (int)(chain + number), sizeof made->signature);
  made->entry = (struct holt_book_entry){
      .chain = chain, .number = number, .bytes = holt_buf(made->bytes, ENTRY_BYTES - number % 7)};
  hash_of(NULL, made->entry.bytes, made->hash);
  made->entry.hash = made->hash;
  made->entry.is_kept = number == 1;
  if (number % 5 == 0) made->entry.signature = made->signature;
}

static void assert_is(const struct holt_book_entry *found, uint32_t chain, uint64_t number) {
  static struct made made;
  make(&made, chain, number);
  assert_int_equal(found->chain, chain);
  assert_int_equal(found->number, number);
  assert_int_equal(found->bytes.len, made.entry.bytes.len);
  assert_memory_equal(found->bytes.data, made.bytes, found->bytes.len);
  assert_int_equal(found->is_kept, made.entry.is_kept);
  assert_int_equal(found->signature != NULL, made.entry.signature != NULL);
  if (found->signature != NULL) assert_memory_equal(found->signature, made.signature, HOLT_BOOK_SIGNATURE);
}

/* --- Transactions --------------------------------------------------------------------------------- */

enum { BATCH_MAX = 1024 };

struct batch {
  struct machine *m;
  struct made made[BATCH_MAX];
  size_t count;
  uint64_t time_ms, up_to, first;
  size_t drop_max;
  int refuse; /* the code it ends with though all went well */
  const char *key, *value;
  enum holt_book_kind kind;
  struct holt_book_entry mend;
  int dropped;
};

static int write_batch(void *arg, struct holt_kv_txn *txn) {
  struct batch *b = arg;
  struct holt_book *book = b->m->book;
  struct holt_book_entry entries[BATCH_MAX];
  for (size_t i = 0; i < b->count; i++) entries[i] = b->made[i].entry;
  holt_book_begin(book, txn);
  int rc = holt_book_append(book, entries, b->count, b->time_ms, &b->first);
  if (rc == 0 && b->key != NULL)
    rc = holt_book_put(book, b->kind, holt_buf_text(b->key), holt_buf_text(b->value));
  if (rc == 0 && b->mend.arrival != 0) rc = holt_book_mend(book, &b->mend);
  if (rc == 0 && b->up_to != 0) {
    b->dropped = rc = holt_book_drop(book, b->up_to, b->drop_max == 0 ? SIZE_MAX : b->drop_max);
    if (rc == HOLT_EAGAIN) rc = 0;
  }
  if (rc == 0) rc = holt_book_end(book);
  return rc == 0 ? b->refuse : rc;
}

static int commit(struct batch *b) {
  int rc = holt_kv_run(b->m->kv, write_batch, b, &b->m->err);
  holt_book_settle(b->m->book, rc);
  return rc;
}

static void append(struct machine *m, uint32_t chain, uint64_t from, uint64_t to) {
  static struct batch b;
  while (from <= to) {
    b = (struct batch){.m = m, .time_ms = 1000};
    for (; from <= to && b.count < BATCH_MAX; from++) make(&b.made[b.count++], chain, from);
    assert_int_equal(commit(&b), 0);
  }
}

static int drop(struct machine *m, uint64_t up_to, size_t max) {
  static struct batch b;
  b = (struct batch){.m = m, .up_to = up_to, .drop_max = max};
  assert_int_equal(commit(&b), 0);
  return b.dropped;
}

/* --- Asking, in one transaction each -------------------------------------------------------------- */

static uint64_t find(struct machine *m, uint32_t chain, uint64_t number) {
  static struct made made;
  struct holt_kv_txn *txn;
  uint64_t arrival = 0;
  make(&made, chain, number);
  assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
  int rc = holt_book_find(m->book, txn, made.hash, &arrival);
  holt_kv_end(txn);
  assert_int_equal(rc, arrival == 0 ? HOLT_ENOTFOUND : 0);
  return arrival;
}

/* Checks the entry, and gives its arrival; 0: not there; UINT64_MAX: beside the log. */
static uint64_t by_number(struct machine *m, uint32_t chain, uint64_t number) {
  struct holt_kv_txn *txn;
  struct holt_book_entry entry;
  assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
  int rc = holt_book_get_number(m->book, txn, chain, number, &entry);
  if (rc == 0) assert_is(&entry, chain, number);
  holt_kv_end(txn);
  assert_true(rc == 0 || rc == HOLT_ENOTFOUND);
  return rc != 0 ? 0 : entry.arrival == 0 ? UINT64_MAX : entry.arrival;
}

/* --- Stories told everywhere ---------------------------------------------------------------------- */

static void finds_entries_in_every_way(struct machine *m) {
  struct holt_book_scan scan;
  struct holt_book_entry entry;
  struct holt_kv_txn *txn;
  assert_int_equal(holt_book_first(m->book), 1);
  assert_int_equal(holt_book_next(m->book), 1);
  append(m, 0, 1, 10);
  append(m, 7, 1, 5);
  append(m, 0, 11, 20);
  append(m, 7, 6, 6);
  for (int round = 0; round < 2; round++) {
    assert_int_equal(holt_book_next(m->book), 27);
    holt_book_scan(&scan, m->book, 9);
    for (uint64_t arrival = 9; arrival < 27; arrival++) {
      assert_int_equal(holt_book_scan_next(&scan, &entry), 0);
      assert_int_equal(entry.arrival, arrival);
      if (arrival <= 10) assert_is(&entry, 0, arrival);
      if (arrival > 10 && arrival <= 15) assert_is(&entry, 7, arrival - 10);
      if (arrival > 15 && arrival < 26) assert_is(&entry, 0, arrival - 5);
    }
    assert_int_equal(holt_book_scan_next(&scan, &entry), HOLT_ENOTFOUND);
    holt_book_scan_close(&scan);
    assert_int_equal(by_number(m, 0, 1), 1);
    assert_int_equal(by_number(m, 0, 15), 20);
    assert_int_equal(by_number(m, 7, 5), 15);
    assert_int_equal(by_number(m, 7, 6), 26);
    assert_int_equal(by_number(m, 7, 7), 0);
    assert_int_equal(by_number(m, 3, 1), 0);
    assert_int_equal(find(m, 7, 3), 13);
    assert_int_equal(find(m, 7, 9), 0);
    assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
    assert_int_equal(holt_book_get(m->book, txn, 13, &entry), 0);
    assert_is(&entry, 7, 3);
    assert_int_equal(holt_book_get(m->book, txn, 0, &entry), HOLT_ENOTFOUND);
    assert_int_equal(holt_book_get(m->book, txn, 27, &entry), HOLT_ENOTFOUND);
    holt_kv_end(txn);
    reopen(m);
  }
}

static void a_refused_transaction_leaves_nothing(struct machine *m) {
  static struct batch b;
  append(m, 0, 1, 3);
  b = (struct batch){
      .m = m, .refuse = HOLT_EREFUSED, .key = "k", .value = "v", .kind = HOLT_BOOK_NOTE, .up_to = 3};
  make(&b.made[b.count++], 0, 4);
  assert_int_equal(commit(&b), HOLT_EREFUSED);
  assert_int_equal(b.first, 4);
  assert_int_equal(holt_book_first(m->book), 1);
  assert_int_equal(holt_book_next(m->book), 4);
  assert_int_equal(find(m, 0, 4), 0);
  assert_int_equal(by_number(m, 0, 4), 0);
  append(m, 0, 4, 6);
  assert_int_equal(by_number(m, 0, 4), 4);
  assert_int_equal(find(m, 0, 6), 6);
}

static int collect(void *arg, struct holt_buf key, struct holt_buf value) {
  char *text = arg;
  size_t len = strlen(text);
  snprintf(text + len, 200 - len, "%.*s=%.*s ", (int)key.len, (const char *)key.data, (int)value.len,
           value.data == NULL ? "?" : (const char *)value.data);
  return 0;
}

static void put_record(struct machine *m, enum holt_book_kind kind, const char *key, const char *value) {
  static struct batch b;
  b = (struct batch){.m = m, .kind = kind, .key = key, .value = value};
  assert_int_equal(commit(&b), 0);
}

static void keeps_records(struct machine *m) {
  struct holt_kv_txn *txn;
  struct holt_buf value;
  char text[200] = "";
  append(m, 0, 1, 2); /* marks and state lie in the same table */
  put_record(m, HOLT_BOOK_CURSOR, "audit", "17");
  put_record(m, HOLT_BOOK_CURSOR, "mail", "3");
  put_record(m, HOLT_BOOK_CURSOR, "gone", "3");
  put_record(m, HOLT_BOOK_CURSOR, "audit", "18");
  put_record(m, HOLT_BOOK_NOTE, "schema", "message A {}");
  put_record(m, HOLT_BOOK_CURSOR, "gone", "");
  put_record(m, HOLT_BOOK_CURSOR, "gone", "");
  reopen(m);
  assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
  assert_int_equal(holt_book_record(m->book, txn, HOLT_BOOK_NOTE, holt_buf_text("schema"), &value), 0);
  assert_int_equal(value.len, 12);
  assert_int_equal(holt_book_record(m->book, txn, HOLT_BOOK_NOTE, holt_buf_text("audit"), &value),
                   HOLT_ENOTFOUND);
  assert_int_equal(holt_book_records(m->book, txn, HOLT_BOOK_CURSOR, collect, text), 0);
  holt_kv_end(txn);
  assert_string_equal(text, "audit=18 mail=3 ");
}

static void drops_the_oldest(struct machine *m) {
  struct holt_book_entry entry;
  struct holt_book_scan scan;
  append(m, 0, 1, 10);
  append(m, 1, 1, 10);
  append(m, 0, 11, 20);
  uint64_t all = holt_book_bytes(m->book);
  assert_int_equal(drop(m, 16, 4), HOLT_EAGAIN);
  assert_int_equal(holt_book_first(m->book), 5);
  assert_int_equal(by_number(m, 0, 1), UINT64_MAX); /* an opening is kept */
  assert_int_equal(by_number(m, 0, 4), 0);
  assert_int_equal(by_number(m, 0, 5), 5);
  assert_int_equal(drop(m, 16, 100), 0);
  assert_int_equal(holt_book_first(m->book), 16);
  assert_true(holt_book_bytes(m->book) < all * 6 / 10);
  reopen(m);
  assert_int_equal(holt_book_first(m->book), 16);
  holt_book_scan(&scan, m->book, 1);
  assert_int_equal(holt_book_scan_next(&scan, &entry), 0);
  assert_is(&entry, 1, 6);
  holt_book_scan_close(&scan);
  assert_int_equal(by_number(m, 1, 1), UINT64_MAX);
  assert_int_equal(by_number(m, 1, 5), 0);
  assert_int_equal(by_number(m, 1, 6), 16);
  assert_int_equal(find(m, 1, 5), 0);
  assert_int_equal(find(m, 1, 6), 16);
  assert_int_equal(drop(m, 1000, 100), 0); /* everything */
  assert_int_equal(holt_book_first(m->book), 31);
  assert_int_equal(holt_book_bytes(m->book), 0);
  append(m, 0, 21, 22);
  assert_int_equal(by_number(m, 0, 21), 31);
  assert_int_equal(by_number(m, 0, 20), 0);
}

static uint64_t cut(struct machine *m, uint64_t keep_ms, uint64_t keep_entries, uint64_t keep_bytes,
                    uint64_t now_ms) {
  struct holt_kv_txn *txn;
  uint64_t up_to = 0;
  assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
  assert_int_equal(holt_book_cut(m->book, txn, keep_ms, keep_entries, keep_bytes, now_ms, &up_to), 0);
  holt_kv_end(txn);
  return up_to;
}

/* 100 entries in each of ten batches, a minute apart: each batch has a mark. */
static void knows_what_is_too_old_and_too_much(struct machine *m) {
  static struct batch b;
  const uint64_t minute = 60000;
  for (uint64_t i = 0; i < 10; i++) {
    b = (struct batch){.m = m, .time_ms = (i + 1) * minute};
    for (uint64_t k = 1; k <= 100; k++) make(&b.made[b.count++], 0, i * 100 + k);
    assert_int_equal(commit(&b), 0);
  }
  uint64_t bytes = holt_book_bytes(m->book);
  assert_int_equal(cut(m, 0, 0, 0, 99 * minute), 1);
  assert_int_equal(cut(m, 0, 1000, 0, 0), 1);
  assert_int_equal(cut(m, 0, 30, 0, 0), 971);
  assert_int_equal(cut(m, 5 * minute, 0, 0, 10 * minute), 401); /* of minute 5 and later */
  assert_int_equal(cut(m, 50 * minute, 0, 0, 10 * minute), 1);
  assert_int_equal(cut(m, 0, 0, bytes, 0), 1);
  assert_int_equal(cut(m, 0, 0, bytes * 11 / 20, 0), 501);
  assert_int_equal(cut(m, 5 * minute, 30, bytes * 11 / 20, 10 * minute), 971); /* the strictest counts */
  assert_int_equal(drop(m, 401, SIZE_MAX), 0);
  assert_int_equal(cut(m, 5 * minute, 0, 0, 10 * minute), 401);
  assert_int_equal(cut(m, 3 * minute, 0, 0, 10 * minute), 601);
  assert_int_equal(cut(m, 0, 0, bytes * 11 / 20, 0), 501);
}

static void append_at(struct machine *m, uint64_t from, uint64_t to, uint64_t minute) {
  static struct batch b;
  b = (struct batch){.m = m, .time_ms = minute * 60000};
  for (; from <= to; from++) make(&b.made[b.count++], 0, from);
  assert_int_equal(commit(&b), 0);
}

static void survives_clocks_that_jump(struct machine *m) {
  const uint64_t minute = 60000;
  append_at(m, 1, 10, 1);
  append_at(m, 11, 20, 500); /* it was ahead */
  append_at(m, 21, 30, 3);
  append_at(m, 31, 40, 8);
  append_at(m, 41, 50, 0); /* it was set back */
  append_at(m, 51, 60, 9);
  assert_int_equal(cut(m, 9 * minute, 0, 0, 10 * minute), 1);
  assert_int_equal(cut(m, 7 * minute, 0, 0, 10 * minute), 21);
  assert_int_equal(cut(m, 5 * minute, 0, 0, 10 * minute),
                   31); /* of minute 3: else a mark would stand there */
  assert_int_equal(cut(m, 2 * minute, 0, 0, 10 * minute), 41);
  assert_int_equal(cut(m, minute, 0, 0, 10 * minute), 51);
}

/* Authors whose clocks differ, stand still, and jump a day ahead or back: the first entry of a time or a
 * later one is never before the place that is told, and at most one mark's distance behind it. */
static void finds_times_whatever_clocks_do(struct machine *m) {
  enum { COUNT = 20000, MARK = 4096, DAY = 86400000 };
  static uint64_t times[COUNT + 1];
  static struct batch b;
  struct holt_rand rand;
  holt_rand_seed(&rand, 21);
  uint64_t clock = (uint64_t)10 * DAY;
  for (uint64_t number = 1; number <= COUNT;) {
    b = (struct batch){.m = m, .time_ms = clock};
    for (; number <= COUNT && b.count < BATCH_MAX; number++) {
      clock += holt_rand_below(&rand, 3);
      times[number] = clock + holt_rand_below(&rand, 200) - 100;
      if (number > 9000 && number < 9004) times[number] += DAY;
      if (number > 5000 && number < 5300) times[number] -= DAY;
      struct made *made = &b.made[b.count++];
      make(made, 0, number);
      made->entry.time_ms = times[number];
    }
    assert_int_equal(commit(&b), 0);
  }
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 300; i++) {
      struct holt_kv_txn *txn;
      uint64_t time_ms = times[1 + holt_rand_below(&rand, COUNT)] + holt_rand_below(&rand, 3) - 1;
      uint64_t first = 1, from;
      if (i == 0) time_ms = 0;
      if (i == 1) time_ms = UINT64_MAX;
      while (first <= COUNT && times[first] < time_ms) first++;
      assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
      assert_int_equal(holt_book_find_time(m->book, txn, time_ms, &from), 0);
      holt_kv_end(txn);
      assert_true(from <= first);
      assert_true(first - from <= MARK);
    }
    reopen(m);
  }
}

static uint64_t keys_of(struct machine *m, const char *name) {
  struct holt_kv_txn *txn;
  uint32_t table;
  uint64_t count;
  assert_int_equal(holt_kv_table(m->kv, name, &table, &m->err), 0);
  assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
  assert_int_equal(holt_kv_count(txn, table, &count), 0);
  holt_kv_end(txn);
  return count;
}

/* Transactions that change nothing but give the index time to tidy up. */
static void rest(struct machine *m, unsigned commits) {
  static struct batch b;
  for (unsigned i = 0; i < commits; i++) {
    b = (struct batch){.m = m};
    assert_int_equal(commit(&b), 0);
  }
}

/* At most seven runs of each level, of 8, 64, 512 and 4,096 hashes: 7 + 7 + 14 + 13 pages. */
static void the_index_keeps_nothing_that_is_of_no_use(struct machine *m) {
  m->flush = 8;
  reopen(m);
  for (uint64_t i = 0; i < 50; i++) append(m, 0, i * 100 + 1, i * 100 + 100);
  reopen(m); /* a merge under way leaves pages that no run owns */
  rest(m, 1000);
  assert_in_range(keys_of(m, "shop/hash"), 13, 41);
  uint64_t state = keys_of(m, "shop/state");
  assert_int_equal(keys_of(m, "shop/runs"), 1);
  drop(m, 4000, SIZE_MAX);
  append(m, 0, 5001, 9000); /* merges leave out what was dropped */
  rest(m, 1000);
  assert_in_range(keys_of(m, "shop/hash"), 14, 45);
  assert_int_equal(keys_of(m, "shop/log"), 5001);
  drop(m, 9001, SIZE_MAX);
  rest(m, 1000);
  assert_in_range(keys_of(m, "shop/hash"), 0, 7);
  assert_int_equal(keys_of(m, "shop/runs"), 0);
  assert_int_equal(keys_of(m, "shop/log"), 0);
  assert_in_range(keys_of(m, "shop/state"), 2, state + 2); /* the newest mark stays, and the opening */
}

static void marks_go_with_their_entries(struct machine *m) {
  for (uint64_t i = 0; i < 20; i++) append_at(m, i * 10 + 1, i * 10 + 10, i + 1);
  uint64_t before = keys_of(m, "shop/state");
  drop(m, 105, SIZE_MAX); /* ten batches and a half: ten marks; the opening is kept */
  assert_int_equal(keys_of(m, "shop/state"), before - 10 + 1);
}

/* --- The model: plain lists, and chance ----------------------------------------------------------- */

enum { MODEL_CHAINS = 4, MODEL_MAX = 40000 };

struct model {
  uint32_t chain[MODEL_MAX]; /* by arrival */
  uint64_t number[MODEL_MAX];
  uint64_t tip[MODEL_CHAINS];
  uint64_t first, next;
};

static void check_model(struct machine *m, const struct model *model, struct holt_rand *rand,
                        unsigned count) {
  struct holt_book_scan scan;
  struct holt_book_entry entry;
  assert_int_equal(holt_book_first(m->book), model->first);
  assert_int_equal(holt_book_next(m->book), model->next);
  uint64_t from = model->first + holt_rand_below(rand, model->next - model->first + 1);
  holt_book_scan(&scan, m->book, from);
  for (uint64_t i = from; i < model->next && i < from + 100; i++) {
    assert_int_equal(holt_book_scan_next(&scan, &entry), 0);
    assert_is(&entry, model->chain[i], model->number[i]);
  }
  holt_book_scan_close(&scan);
  for (unsigned i = 0; i < count && model->next > 1; i++) {
    uint64_t arrival = 1 + holt_rand_below(rand, model->next - 1);
    uint32_t chain = model->chain[arrival];
    uint64_t number = model->number[arrival], there = arrival < model->first ? 0 : arrival;
    assert_int_equal(find(m, chain, number), there);
    assert_int_equal(by_number(m, chain, number), there == 0 && number == 1 ? UINT64_MAX : there);
    assert_int_equal(by_number(m, chain, model->tip[chain] + 1), 0);
  }
}

static void is_as_plain_lists(struct machine *m) {
  static struct model model;
  static struct batch b;
  struct holt_rand rand;
  model = (struct model){.first = 1, .next = 1};
  holt_rand_seed(&rand, 4711);
  for (int round = 0; round < 1500 && model.next + 200 < MODEL_MAX; round++) {
    struct model before = model;
    b = (struct batch){.m = m, .time_ms = 1000 + (uint64_t)round};
    b.refuse = holt_rand_below(&rand, 10) == 0 ? HOLT_EREFUSED : 0;
    uint32_t chain = (uint32_t)holt_rand_below(&rand, MODEL_CHAINS);
    for (uint64_t n = holt_rand_below(&rand, 60); n > 0; n--) {
      if (holt_rand_below(&rand, 8) == 0) chain = (uint32_t)holt_rand_below(&rand, MODEL_CHAINS);
      make(&b.made[b.count++], chain, ++model.tip[chain]);
      model.chain[model.next] = chain;
      model.number[model.next++] = model.tip[chain];
    }
    if (holt_rand_below(&rand, 6) == 0) {
      b.up_to = model.first + holt_rand_below(&rand, (model.next - model.first) / 4 + 1);
      b.drop_max = SIZE_MAX;
      if (b.up_to > model.first) model.first = b.up_to;
    }
    assert_int_equal(commit(&b), b.refuse);
    if (b.refuse != 0) model = before;
    if (round % 10 == 0) check_model(m, &model, &rand, 5);
    if (round % 200 == 199) {
      reopen(m);
      check_model(m, &model, &rand, 100);
    }
  }
  check_model(m, &model, &rand, 1000);
}

static void everywhere(void (*story)(struct machine *m), uint32_t flush) {
  for (int kind = IN_FOLDER; kind <= ON_HOST; kind++) {
    struct machine m;
    begin_as(&m, (enum kind)kind, flush);
    story(&m);
    end(&m);
  }
}

/* With 8 hashes in memory there are runs and merges from the beginning on. */
#define EVERYWHERE(story)                                                                                    \
  static void test_##story(void **state) {                                                                   \
    (void)state;                                                                                             \
    everywhere(story, 0);                                                                                    \
    everywhere(story, 8);                                                                                    \
  }
EVERYWHERE(finds_entries_in_every_way)
EVERYWHERE(a_refused_transaction_leaves_nothing)
EVERYWHERE(keeps_records)
EVERYWHERE(drops_the_oldest)
EVERYWHERE(knows_what_is_too_old_and_too_much)
EVERYWHERE(survives_clocks_that_jump)
EVERYWHERE(finds_times_whatever_clocks_do)
EVERYWHERE(the_index_keeps_nothing_that_is_of_no_use)
EVERYWHERE(marks_go_with_their_entries)
EVERYWHERE(is_as_plain_lists)

/* --- Crashes -------------------------------------------------------------------------------------- */

struct job {
  struct batch batch;
  struct holt_kv_job kv;
  unsigned told;
  int status;
};

static int write_job(void *arg, struct holt_kv_txn *txn) {
  return write_batch(&((struct job *)arg)->batch, txn);
}

static void on_written(void *arg, int status, const struct holt_err *err) {
  struct job *job = arg;
  (void)err;
  holt_book_settle(job->batch.m->book, status);
  job->told++;
  job->status = status;
}

static void submit(struct machine *m, struct job *job, uint32_t chain, uint64_t from, uint64_t to) {
  *job = (struct job){.batch = {.m = m}};
  for (; from <= to; from++) make(&job->batch.made[job->batch.count++], chain, from);
  job->kv = (struct holt_kv_job){.write = write_job, .done = on_written, .arg = job};
  holt_kv_submit(m->kv, &job->kv);
}

/* All of a chain that is there is there without a gap, and found in every way; returns its tip. */
static uint64_t check_chain(struct machine *m, uint32_t chain) {
  struct holt_book_scan scan;
  struct holt_book_entry entry;
  uint64_t tip = 0;
  int rc;
  holt_book_scan(&scan, m->book, 1);
  while ((rc = holt_book_scan_next(&scan, &entry)) == 0) assert_is(&entry, chain, ++tip);
  assert_int_equal(rc, HOLT_ENOTFOUND);
  holt_book_scan_close(&scan);
  for (uint64_t i = 1; i <= tip; i += 1 + tip / 200) {
    assert_int_equal(by_number(m, chain, i), i);
    assert_int_equal(find(m, chain, i), i);
  }
  assert_int_equal(by_number(m, chain, tip + 1), 0);
  assert_int_equal(find(m, chain, tip + 1), 0);
  return tip;
}

static void test_a_dying_host_keeps_whole_transactions(void **state) {
  static struct job job;
  unsigned kept = 0, lost = 0;
  (void)state;
  for (uint64_t seed = 1; seed <= 30; seed++) {
    struct holt_sim_config config = {.seed = seed, .disk_min_us = 100, .disk_max_us = 900};
    struct machine m = {.kind = ON_HOST, .sim = holt_sim_new(&config), .path = "data", .flush = 8};
    uint64_t tip = 0;
    new_env(&m);
    for (int life = 0; life < 10; life++) {
      open_book(&m);
      append(&m, 0, tip + 1, tip + 5);
      submit(&m, &job, 0, tip + 6, tip + 25);
      holt_env_free(m.env);
      holt_book_close(m.book);
      holt_kv_forget(m.kv);
      m.kv = NULL;
      assert_int_equal(job.told, 0);
      new_env(&m);
      open_book(&m);
      uint64_t now = check_chain(&m, 0);
      assert_true(now == tip + 5 || now == tip + 25);
      if (now == tip + 25)
        kept++;
      else
        lost++;
      tip = now;
      close_store(&m);
    }
    open_book(&m);
    end(&m);
  }
  assert_true(kept > 50);
  assert_true(lost > 50);
}

static void write_for_ever(struct machine *m, int out) {
  static struct job job;
  new_env(m);
  open_book(m);
  for (;;) {
    uint64_t tip = holt_book_next(m->book) - 1;
    submit(m, &job, 3, tip + 1, tip + 1 + tip % 40);
    while (job.told == 0) holt_env_turn(m->env, true);
    tip = holt_book_next(m->book) - 1;
    if (job.status != 0 || write(out, &tip, sizeof tip) != sizeof tip) _exit(1);
  }
}

static void test_sigkill_loses_nothing_that_was_told(void **state) {
  struct machine m;
  struct holt_rand rand;
  uint64_t tip = 0;
  (void)state;
  holt_rand_seed(&rand, 5);
  begin_as(&m, IN_FOLDER, 50); /* flushes and merges are under way when it dies */
  close_store(&m);
  holt_env_free(m.env);
  for (int round = 0; round < 15; round++) {
    int pipes[2];
    uint64_t heard = tip, number;
    assert_int_equal(pipe(pipes), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      close(pipes[0]);
      write_for_ever(&m, pipes[1]);
    }
    close(pipes[1]);
    for (uint64_t wanted = tip + 1 + holt_rand_below(&rand, 800); heard < wanted; heard = number)
      assert_int_equal(read(pipes[0], &number, sizeof number), sizeof number);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    while (read(pipes[0], &number, sizeof number) == sizeof number) heard = number;
    close(pipes[0]);
    new_env(&m);
    open_book(&m);
    tip = check_chain(&m, 3);
    assert_true(tip >= heard);
    close_store(&m);
    holt_env_free(m.env);
  }
  new_env(&m);
  open_book(&m);
  end(&m);
}

static void test_a_full_disk_refuses_and_goes_on(void **state) {
  static struct batch b;
  struct machine m;
  (void)state;
  begin_as(&m, ON_HOST, 8);
  struct holt_kv_disk *disk = holt_kv_disk_of(m.sim, "n1", m.path);
  append(&m, 0, 1, 100);
  holt_kv_disk_limit(disk, holt_kv_disk_stats(disk).bytes + 1);
  b = (struct batch){.m = &m};
  make(&b.made[b.count++], 0, 101);
  assert_int_equal(commit(&b), HOLT_ENOSPC);
  assert_int_equal(commit(&b), HOLT_ENOSPC);
  assert_int_equal(check_chain(&m, 0), 100);
  holt_kv_disk_limit(disk, 0);
  append(&m, 0, 101, 200);
  assert_int_equal(check_chain(&m, 0), 200);
  end(&m);
}

/* --- Damage --------------------------------------------------------------------------------------- */

/* Chain 0 has numbers 1 to 60 but arrival 21 to 30 is chain 1; then record `arrival - 1` of the log breaks.
 */
static void break_and_mend(struct machine *m, struct holt_kv_disk *disk, uint64_t arrival, bool is_lost) {
  static struct batch b;
  static struct made made;
  struct holt_book_scan scan;
  struct holt_book_entry entry;
  struct holt_kv_txn *txn;
  unsigned damaged = 0, good = 0;
  uint32_t chain = 99;
  uint64_t number = 0;
  int rc = is_lost ? holt_kv_disk_lose(disk, "shop/log", arrival - 1)
                   : holt_kv_disk_flip(disk, "shop/log", arrival - 1, arrival * 3);
  assert_int_equal(rc, 0);
  holt_book_scan(&scan, m->book, 1);
  while ((rc = holt_book_scan_next(&scan, &entry)) != HOLT_ENOTFOUND) {
    if (rc == 0)
      good++;
    else {
      assert_int_equal(rc, HOLT_ECORRUPT);
      assert_int_equal(entry.arrival, arrival);
      damaged++;
    }
  }
  holt_book_scan_close(&scan);
  assert_int_equal(damaged, 1);
  assert_int_equal(good, 69);
  assert_int_equal(holt_kv_begin(m->kv, &txn), 0);
  assert_int_equal(holt_book_get(m->book, txn, arrival, &entry), HOLT_ECORRUPT);
  assert_int_equal(holt_book_identify(m->book, txn, arrival, &chain, &number), 0);
  assert_int_equal(holt_book_get_number(m->book, txn, chain, number, &entry), HOLT_ECORRUPT);
  holt_kv_end(txn);
  make(&made, chain, number);
  b = (struct batch){.m = m, .mend = made.entry};
  b.mend.arrival = arrival;
  assert_int_equal(commit(&b), 0);
  assert_int_equal(by_number(m, chain, number), arrival);
  assert_int_equal(find(m, chain, number), arrival);
}

static void test_a_damaged_entry_is_named_and_can_be_mended(void **state) {
  struct machine m;
  (void)state;
  begin_as(&m, ON_HOST, 8);
  struct holt_kv_disk *disk = holt_kv_disk_of(m.sim, "n1", m.path);
  append(&m, 0, 1, 20);
  append(&m, 1, 1, 10);
  append(&m, 0, 21, 60);
  for (uint64_t arrival = 1; arrival <= 70; arrival++) {
    break_and_mend(&m, disk, arrival, false);
    break_and_mend(&m, disk, arrival, true);
  }
  assert_int_equal(by_number(&m, 1, 10), 30);
  end(&m);
}

/* One bit of any value of any table over: what is answered is right or an error; after a start as well. */
static void test_no_flipped_bit_makes_a_wrong_answer(void **state) {
  static const char *const tables[] = {"shop/log", "shop/runs", "shop/hash", "shop/state"};
  const char *seeds = getenv("HOLT_SEEDS");
  uint64_t rounds = seeds != NULL ? strtoull(seeds, NULL, 10) : 300;
  struct holt_rand rand;
  unsigned noticed = 0;
  (void)state;
  holt_rand_seed(&rand, 23);
  for (uint64_t round = 0; round < rounds; round++) {
    struct machine m;
    begin_as(&m, ON_HOST, 8);
    struct holt_kv_disk *disk = holt_kv_disk_of(m.sim, "n1", m.path);
    append(&m, 0, 1, 60);
    append(&m, 1, 1, 60);
    while (holt_kv_disk_flip(disk, tables[round % 4], holt_rand_below(&rand, 120),
                             holt_rand_below(&rand, 400)) != 0) {
    }
    if (round % 8 >= 4) reopen(&m);
    bool was_noticed = false;
    for (uint32_t chain = 0; chain < 2; chain++)
      for (uint64_t number = 1; number <= 61; number++) {
        struct holt_kv_txn *txn;
        struct holt_book_entry entry;
        struct made made;
        uint64_t arrival = 0;
        make(&made, chain, number);
        assert_int_equal(holt_kv_begin(m.kv, &txn), 0);
        int rc = holt_book_get_number(m.book, txn, chain, number, &entry);
        if (rc == 0) assert_is(&entry, chain, number);
        if (rc == HOLT_ECORRUPT) was_noticed = true;
        if (number == 61) assert_int_not_equal(rc, 0);
        assert_true(rc == 0 || rc == HOLT_ECORRUPT || number == 61);
        rc = holt_book_find(m.book, txn, made.hash, &arrival);
        if (rc == 0) assert_int_equal(arrival, number + 60 * chain);
        if (rc == HOLT_ECORRUPT) was_noticed = true;
        holt_kv_end(txn);
      }
    noticed += was_noticed;
    append(&m, 2, 1, 200); /* and life goes on, merges included */
    assert_int_equal(by_number(&m, 2, 150), 270);
    end(&m);
  }
  assert_true(noticed > rounds / 4);
}

/* --- Damage to the file itself -------------------------------------------------------------------- */

enum { FILE_ENTRIES = 4000, SAID_RIGHT = 0, SAID_DAMAGED = 3, SAID_WRONG = 9 };

static bool is_right(const struct holt_book_entry *entry, uint64_t number) {
  static struct made made;
  make(&made, 0, number);
  return entry->chain == 0 && entry->number == number && entry->bytes.len == made.entry.bytes.len &&
         memcmp(entry->bytes.data, made.bytes, entry->bytes.len) == 0;
}

/* In a program of its own (cmocka handles the signals of this one). Nothing wrong may be said: an entry comes
 * as it was, or as damaged, and its arrival is named. Ends with one of SAID_*. */
static int read_damaged(const char *path) {
  struct machine m = {.kind = IN_FOLDER};
  struct holt_kv_options options = {.kind = "journal", .version = HOLT_BOOK_VERSION};
  struct holt_book_options how = {.name = "shop", .hash = hash_of};
  struct holt_book_scan scan;
  struct holt_book_entry entry;
  struct holt_kv_txn *txn;
  unsigned damaged = 0;
  uint64_t arrival = 1;
  int rc;
  holt_log_set_level(HOLT_LOG_SILENT);
  alarm(60); /* going round in circles is no answer either */
  new_env(&m);
  options.path = path;
  if (holt_kv_open(m.env, &options, &m.kv, &m.err) != 0) return SAID_DAMAGED;
  how.kv = m.kv;
  if (holt_book_open(&how, &m.book, &m.err) != 0) return SAID_DAMAGED;
  if (holt_book_next(m.book) != FILE_ENTRIES + 1) return SAID_WRONG;
  holt_book_scan(&scan, m.book, 1);
  for (; (rc = holt_book_scan_next(&scan, &entry)) != HOLT_ENOTFOUND; arrival++) {
    if (entry.arrival != arrival || (rc != 0 && rc != HOLT_ECORRUPT)) return SAID_WRONG;
    if (rc == 0 && !is_right(&entry, arrival)) return SAID_WRONG;
    damaged += rc != 0;
  }
  holt_book_scan_close(&scan);
  if (arrival != FILE_ENTRIES + 1) return SAID_WRONG;
  for (uint64_t number = 1; number <= FILE_ENTRIES; number += 13) {
    if (holt_kv_begin(m.kv, &txn) != 0) return SAID_WRONG;
    rc = holt_book_get_number(m.book, txn, 0, number, &entry);
    if (rc == 0 && !is_right(&entry, number)) return SAID_WRONG;
    damaged += rc != 0;
    holt_kv_end(txn);
  }
  close_store(&m);
  return damaged > 0 ? SAID_DAMAGED : SAID_RIGHT;
}

static int read_elsewhere(const struct machine *m) {
  int status;
  fflush(NULL);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    execl("/proc/self/exe", "test_book", "--read", m->path, (char *)NULL);
    _exit(127);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void test_a_damaged_file_never_says_anything_wrong(void **state) {
  const char *seeds = getenv("HOLT_SEEDS");
  unsigned rounds = seeds != NULL ? (unsigned)strtoul(seeds, NULL, 10) : 150, noticed = 0;
  struct machine m;
  struct holt_rand rand;
  char file[250];
  (void)state;
  holt_rand_seed(&rand, 31);
  begin_as(&m, IN_FOLDER, 0);
  snprintf(file, sizeof file, "%s/data.mdb", m.path);
  append(&m, 0, 1, FILE_ENTRIES);
  uint64_t pages = holt_kv_size_bytes(m.kv) / 4096;
  close_store(&m);
  assert_int_equal(read_elsewhere(&m), SAID_RIGHT);
  int fd = open(file, O_RDWR);
  assert_true(fd >= 0);
  for (unsigned i = 0; i < rounds; i++) {
    /* Anywhere in the pages behind the two roots; every third time in a page's head, where it hurts most. */
    off_t at = (off_t)(2 + holt_rand_below(&rand, pages - 2)) * 4096 +
               (off_t)holt_rand_below(&rand, i % 3 == 0 ? 80 : 4096);
    uint8_t byte, bad;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    bad = byte ^ (uint8_t)(1U << holt_rand_below(&rand, 8));
    assert_int_equal(pwrite(fd, &bad, 1, at), 1);
    int said = read_elsewhere(&m);
    if (said != SAID_RIGHT && said != SAID_DAMAGED)
      fail_msg("bit of byte %lld: the reader ended with %d", (long long)at, said);
    noticed += said == SAID_DAMAGED;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
  }
  close(fd);
  assert_true(noticed > rounds / 2); /* the rest fell on free room */
  open_book(&m);
  end(&m);
}

/* --- Many ----------------------------------------------------------------------------------------- */

static void test_many_entries_open_and_are_found(void **state) {
  const char *wanted = getenv("HOLT_BOOK_ENTRIES");
  uint64_t count = wanted != NULL ? strtoull(wanted, NULL, 10) : 300000;
  struct machine m;
  struct holt_rand rand;
  (void)state;
  holt_rand_seed(&rand, 99);
  begin_as(&m, IN_FOLDER, 0);
  append(&m, 0, 1, count);
  for (int round = 0; round < 2; round++) {
    assert_int_equal(holt_book_next(m.book), count + 1);
    for (int i = 0; i < 1000; i++) {
      uint64_t number = 1 + holt_rand_below(&rand, count);
      assert_int_equal(find(&m, 0, number), number);
      assert_int_equal(by_number(&m, 0, number), number);
    }
    assert_int_equal(find(&m, 0, count + 1), 0);
    uint64_t began = holt_env_clock_ns(m.env);
    reopen(&m);
    print_message("%llu entries, opened in %.1f ms\n", (unsigned long long)count,
                  (double)(holt_env_clock_ns(m.env) - began) / 1e6);
  }
  end(&m);
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "--read") == 0)
    _exit(read_damaged(argv[2])); /* what damage leaves open is not the question here */
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_finds_entries_in_every_way),
      cmocka_unit_test(test_a_refused_transaction_leaves_nothing),
      cmocka_unit_test(test_keeps_records),
      cmocka_unit_test(test_drops_the_oldest),
      cmocka_unit_test(test_knows_what_is_too_old_and_too_much),
      cmocka_unit_test(test_survives_clocks_that_jump),
      cmocka_unit_test(test_finds_times_whatever_clocks_do),
      cmocka_unit_test(test_the_index_keeps_nothing_that_is_of_no_use),
      cmocka_unit_test(test_marks_go_with_their_entries),
      cmocka_unit_test(test_is_as_plain_lists),
      cmocka_unit_test(test_a_dying_host_keeps_whole_transactions),
      cmocka_unit_test(test_sigkill_loses_nothing_that_was_told),
      cmocka_unit_test(test_a_full_disk_refuses_and_goes_on),
      cmocka_unit_test(test_a_damaged_entry_is_named_and_can_be_mended),
      cmocka_unit_test(test_no_flipped_bit_makes_a_wrong_answer),
      cmocka_unit_test(test_a_damaged_file_never_says_anything_wrong),
      cmocka_unit_test(test_many_entries_open_and_are_found),
  };
  return cmocka_run_group_tests_name("book", tests, NULL, NULL);
}
