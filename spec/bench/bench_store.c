/* What the segment log costs: one caller who waits for each batch to be durable, on real files; and the pure
 * part alone, on a simulated disk.
 *
 *   bench_store FOLDER [SECONDS]      FOLDER is made; the log stays in it */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "env/sim_disk.h"
#include "env/uv.h"
#include "store/store.h"

enum { ENTRY_BYTES = 64, BATCH_MAX = 128, SAMPLES_MAX = 1 << 20 };

static uint8_t data[ENTRY_BYTES];
static uint64_t told;
static uint64_t samples[SAMPLES_MAX];

static void on_saved(void *arg, uint64_t seq, int status) {
  (void)arg;
  if (status != 0) {
    fprintf(stderr, "write failed: %s\n", holt_err_text(status));
    exit(1);
  }
  told = seq;
}

static struct holt_raft_persist next_batch(struct holt_raft_entry *entries, uint64_t seq, uint64_t last,
                                           size_t count) {
  for (size_t i = 0; i < count; i++)
    entries[i] = (struct holt_raft_entry){.index = last + 1 + i,
                                          .term = 1,
                                          .client = 1,
                                          .seq = last + 1 + i,
                                          .data = data,
                                          .len = ENTRY_BYTES,
                                          .type = HOLT_RAFT_COMMAND};
  return (struct holt_raft_persist){.seq = seq, .entries = entries, .count = count};
}

static int by_value(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static void report(const char *what, size_t batch, uint64_t batches, uint64_t ns) {
  size_t count = batches < SAMPLES_MAX ? (size_t)batches : SAMPLES_MAX;
  qsort(samples, count, sizeof *samples, by_value);
  printf("%-12s %4zu entries a batch: %10.0f entries/s %9.0f batches/s   p50 %6.1f us  p99 %6.1f us\n", what,
         batch, (double)(batches * batch) * 1e9 / (double)ns, (double)batches * 1e9 / (double)ns,
         (double)samples[count / 2] / 1e3, (double)samples[count * 99 / 100] / 1e3);
}

/* Keep the log small, as a member with snapshots does. */
static void snapshot_and_drop(struct holt_store *store, struct holt_env *env, uint64_t *seq) {
  const struct holt_wal_state *state = holt_store_state(store);
  const struct holt_raft_snapshot snapshot = {.index = state->last, .term = 1};
  const struct holt_raft_persist persist = {.seq = ++*seq, .snapshot = &snapshot};
  if (holt_store_write(store, &persist) != 0) exit(1);
  while (told < *seq) holt_env_turn(env, true);
  holt_store_drop(store, holt_store_state(store)->snapshot.index);
}

static void on_disk(struct holt_env *env, const char *folder, size_t batch, double seconds) {
  struct holt_store *store;
  struct holt_err err;
  struct holt_raft_entry entries[BATCH_MAX];
  const struct holt_store_options options = {.path = folder, .cluster = 1, .self = 1, .saved = on_saved};
  if (holt_store_open_disk(env, &options, &store, &err) != 0) {
    fprintf(stderr, "%s\n", err.message);
    exit(1);
  }
  uint64_t seq = 0, batches = 0, begin = holt_env_clock_ns(env), now = begin,
           last = holt_store_state(store)->last;
  told = 0;
  while (now - begin < (uint64_t)(seconds * 1e9)) {
    struct holt_raft_persist persist = next_batch(entries, ++seq, last, batch);
    uint64_t started = now;
    last += batch;
    if (holt_store_write(store, &persist) != 0) exit(1);
    while (told < seq) holt_env_turn(env, true);
    now = holt_env_clock_ns(env);
    samples[batches++ % SAMPLES_MAX] = now - started;
    if (last % (1 << 18) < batch) snapshot_and_drop(store, env, &seq);
  }
  report("disk", batch, batches, now - begin);
  snapshot_and_drop(store, env, &seq);
  holt_store_close(store, NULL, NULL);
  while (holt_env_uv_open(env).dirs > 0) holt_env_turn(env, true);
}

static void pure(struct holt_env *env, size_t batch, double seconds) {
  struct holt_sim_disk *disk = holt_sim_disk_new();
  struct holt_wal_files files = holt_wal_on_sim_disk(disk);
  const struct holt_wal_config config = {.cluster = 1, .self = 1, .segment_bytes = 64 * 1024};
  struct holt_wal *wal = holt_wal_new(&config);
  struct holt_raft_entry entries[BATCH_MAX];
  if (holt_wal_open(wal, &files, NULL) != 0) exit(1);
  uint64_t batches = 0, last = 0, begin = holt_env_clock_ns(env), now = begin;
  while (now - begin < (uint64_t)(seconds * 1e9)) {
    struct holt_raft_persist persist = next_batch(entries, 0, last, batch);
    uint64_t started = now;
    last += batch;
    if (holt_wal_add(wal, &persist) != 0 || holt_wal_save(wal, &files, NULL) != 0) exit(1);
    if (last % 8192 < batch) {
      const struct holt_raft_snapshot snapshot = {.index = last - 100, .term = 1};
      if (holt_wal_add(wal, &(struct holt_raft_persist){.snapshot = &snapshot}) != 0) exit(1);
      if (holt_wal_save(wal, &files, NULL) != 0 || holt_wal_drop(wal, last - 100) != 0) exit(1);
    }
    now = holt_env_clock_ns(env);
    samples[batches++ % SAMPLES_MAX] = now - started;
  }
  report("simulated", batch, batches, now - begin);
  holt_wal_free(wal);
  holt_sim_disk_free(disk);
}

static void checksum(struct holt_env *env) {
  static uint8_t bytes[1 << 20];
  uint32_t sum = 0;
  uint64_t begin = holt_env_clock_ns(env);
  for (int i = 0; i < 256; i++) sum += holt_crc32c(sum, bytes, sizeof bytes);
  uint64_t middle = holt_env_clock_ns(env);
  for (int i = 0; i < 64; i++) sum += holt_crc32c_portable(sum, bytes, sizeof bytes);
  uint64_t end = holt_env_clock_ns(env);
  printf("crc32c       %.2f GB/s, without the instruction %.2f GB/s (%08x)\n",
         256.0 * sizeof bytes / (double)(middle - begin), 64.0 * sizeof bytes / (double)(end - middle), sum);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: bench_store FOLDER [SECONDS]\n");
    return 2;
  }
  double seconds = argc > 2 ? atof(argv[2]) : 2;
  struct holt_env *env = holt_env_uv_new();
  static const size_t batches[] = {1, 16, 128};
  memset(data, 'x', sizeof data);
  for (int i = 0; i < 3; i++) on_disk(env, argv[1], batches[i], seconds);
  for (int i = 0; i < 3; i++) pure(env, batches[i], seconds / 2);
  checksum(env);
  holt_env_free(env);
  return 0;
}
