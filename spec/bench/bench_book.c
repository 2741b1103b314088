/* What the book of a journal costs: entries of 160 bytes, as an event with 64 bytes of payload has, appended
 * by one caller who waits for each commit to be on the disk; then opening, reading in order, looking up.
 *
 *   bench_book FOLDER [ENTRIES]      FOLDER is made, and must be empty; ENTRIES: 10,000,000 at most are
 * sensible */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/rand.h"
#include "env/uv.h"
#include "journal/book.h"

enum { ENTRY_BYTES = 160, BATCH_MAX = 1024, LOOKUPS = 20000 };

static struct holt_env *env;
static struct holt_kv *kv;
static struct holt_book *book;
static char data_file[300];

static void die(const char *what, int rc, const struct holt_err *err) {
  fprintf(stderr, "%s: %s\n", what, err != NULL && err->code != 0 ? err->message : holt_err_text(rc));
  exit(1);
}

static double now_s(void) {
  return (double)holt_env_clock_ns(env) / 1e9;
}

/* Stands for SHA-256, which the journal's caller pays: uniform is all that matters here. */
static void hash_of(void *arg, struct holt_buf bytes, uint8_t out[HOLT_BOOK_HASH]) {
  (void)arg;
  memcpy(out, bytes.data + 32, HOLT_BOOK_HASH);
}

static void fill(uint8_t bytes[ENTRY_BYTES], uint64_t number) {
  memset(bytes, 'x', ENTRY_BYTES);
  holt_put_u64(bytes, number);
  for (uint64_t i = 0; i < 4; i++) holt_put_u64(bytes + 32 + 8 * i, holt_hash_u64(number * 4 + i + 1));
}

static void open_all(const char *path) {
  struct holt_err err = {0};
  struct holt_kv_options options = {.path = path, .kind = "journal", .version = HOLT_BOOK_VERSION};
  int rc = holt_kv_open(env, &options, &kv, &err);
  if (rc != 0) die("open", rc, &err);
  struct holt_book_options how = {.kv = kv, .name = "bench", .hash = hash_of};
  rc = holt_book_open(&how, &book, &err);
  if (rc != 0) die("open", rc, &err);
}

static void on_closed(void *arg) {
  *(bool *)arg = true;
}

static void close_all(void) {
  bool is_closed = false;
  holt_book_close(book);
  holt_kv_close(kv, on_closed, &is_closed);
  while (!is_closed) holt_env_turn(env, true);
}

/* --- Appending ------------------------------------------------------------------------------------ */

struct commit {
  struct holt_kv_job job;
  size_t count;
  uint64_t next;
  bool is_done;
};

static int write_commit(void *arg, struct holt_kv_txn *txn) {
  static uint8_t bytes[BATCH_MAX][ENTRY_BYTES];
  static uint8_t signature[HOLT_BOOK_SIGNATURE];
  static struct holt_book_entry entries[BATCH_MAX];
  const struct commit *c = arg;
  uint8_t key[4];
  for (size_t i = 0; i < c->count; i++) {
    fill(bytes[i], c->next + i);
    entries[i] = (struct holt_book_entry){.number = c->next + i, .bytes = holt_buf(bytes[i], ENTRY_BYTES)};
    entries[i].hash = bytes[i] + 32;
  }
  entries[c->count - 1].signature = signature; /* one a commit, and the author's record */
  holt_book_begin(book, txn);
  int rc = holt_book_append(book, entries, c->count, 1000, NULL);
  if (rc == 0)
    rc = holt_book_put(book, HOLT_BOOK_AUTHOR, holt_book_author_key(0, key), holt_buf(bytes[0], 120));
  return rc == 0 ? holt_book_end(book) : rc;
}

static void on_done(void *arg, int status, const struct holt_err *err) {
  struct commit *c = arg;
  if (status != 0) die("commit", status, err);
  holt_book_settle(book, status);
  c->is_done = true;
}

static double commit(size_t count) {
  struct commit c = {.count = count, .next = holt_book_next(book)};
  double began = now_s();
  c.job = (struct holt_kv_job){.write = write_commit, .done = on_done, .arg = &c};
  holt_kv_submit(kv, &c.job);
  while (!c.is_done) holt_env_turn(env, true);
  return now_s() - began;
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static double on_disk(void) {
  struct stat info;
  if (stat(data_file, &info) != 0) return 0;
  return (double)info.st_blocks * 512;
}

static void append(size_t batch, double seconds) {
  enum { SAMPLES = 1 << 18 };
  static double samples[SAMPLES];
  size_t count = 0;
  double began = now_s(), bytes = on_disk();
  uint64_t first = holt_book_next(book);
  while (now_s() < began + seconds && count < SAMPLES) samples[count++] = commit(batch);
  double took = now_s() - began, entries = (double)(holt_book_next(book) - first);
  qsort(samples, count, sizeof *samples, by_size);
  printf("%4zu a commit: %9.0f entries/s, commit p50 %6.0f us p99 %6.0f us max %6.0f us, %4.0f bytes on the "
         "disk an entry\n",
         batch, entries / took, samples[count / 2] * 1e6, samples[count * 99 / 100] * 1e6,
         samples[count - 1] * 1e6, (on_disk() - bytes) / entries);
  fflush(stdout);
}

static void grow(uint64_t entries) {
  double began = now_s(), longest = 0, bytes = on_disk();
  uint64_t first = holt_book_next(book);
  while (holt_book_next(book) <= entries) {
    double took = commit(BATCH_MAX);
    if (took > longest) longest = took;
  }
  double took = now_s() - began, count = (double)(holt_book_next(book) - first);
  if (count == 0) return;
  printf("grown to %" PRIu64 ": %.0f entries/s, longest commit %.0f ms, %.0f bytes on the disk an entry\n",
         holt_book_next(book) - 1, count / took, longest * 1e3, (on_disk() - bytes) / count);
}

/* --- Asking --------------------------------------------------------------------------------------- */

static void read_all(void) {
  struct holt_book_scan scan;
  struct holt_book_entry entry;
  double began = now_s();
  uint64_t count = 0, sum = 0, next = 1;
  int rc = 0;
  while (rc == 0) { /* a bounded slice for each transaction, as the journal does */
    holt_book_scan(&scan, book, next);
    for (int i = 0; i < 4096 && (rc = holt_book_scan_next(&scan, &entry)) == 0; i++) {
      sum += entry.bytes.data[0] + entry.number;
      count++;
    }
    next = scan.next;
    holt_book_scan_close(&scan);
  }
  if (rc != HOLT_ENOTFOUND || sum == 0) die("read", rc, NULL);
  printf("read in order: %.2f million entries/s, checksums verified\n",
         (double)count / (now_s() - began) / 1e6);
}

static void look_up(void) {
  struct holt_kv_txn *txn;
  struct holt_book_entry entry;
  uint8_t bytes[ENTRY_BYTES];
  uint64_t arrival, top = holt_book_next(book) - 1;
  struct holt_rand rand;
  holt_rand_seed(&rand, 1);
  double began = now_s();
  for (int i = 0; i < LOOKUPS; i++) {
    fill(bytes, 1 + holt_rand_below(&rand, top));
    if (holt_kv_begin(kv, &txn) != 0 || holt_book_find(book, txn, bytes + 32, &arrival) != 0) exit(1);
    holt_kv_end(txn);
  }
  double by_hash = (now_s() - began) / LOOKUPS;
  began = now_s();
  for (int i = 0; i < LOOKUPS; i++) {
    if (holt_kv_begin(kv, &txn) != 0) exit(1);
    if (holt_book_get_number(book, txn, 0, 1 + holt_rand_below(&rand, top), &entry) != 0) exit(1);
    holt_kv_end(txn);
  }
  printf("one of them by hash: %.1f us; by number: %.1f us\n", by_hash * 1e6,
         (now_s() - began) / LOOKUPS * 1e6);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: bench_book FOLDER [ENTRIES]\n");
    return 2;
  }
  uint64_t entries = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;
  snprintf(data_file, sizeof data_file, "%s/data.mdb", argv[1]);
  env = holt_env_uv_new();
  open_all(argv[1]);
  append(1, 3);
  append(64, 3);
  append(BATCH_MAX, 3);
  grow(entries);
  close_all();
  double began = now_s();
  open_all(argv[1]);
  printf("opened with %" PRIu64 " entries in %.1f ms\n", holt_book_next(book) - 1, (now_s() - began) * 1e3);
  read_all();
  look_up();
  close_all();
  holt_env_free(env);
  return 0;
}
