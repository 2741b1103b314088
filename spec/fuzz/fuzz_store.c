/* The reader of the segment log on arbitrary files: no read past an end, and what is accepted can be
 * restored, written on and read again as the same. The input is up to four files, each a length (16 bits) and
 * its bytes; a file is made as long as its header says. Checks that would stop every mutation are mended
 * first when the input asks for it. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "env/sim_disk.h"
#include "store/wal_impl.h"

enum { FILES_MAX = 4, FILE_MAX = 16 * 1024 };

static size_t mend_records(uint8_t *bytes, size_t size, uint32_t *digest, uint32_t *count) {
  size_t at = WAL_BATCH_BYTES;
  *digest = *count = 0;
  while (at + WAL_RECORD_BYTES + WAL_END_BYTES <= size) {
    size_t len = wal_round(WAL_RECORD_BYTES + (size_t)holt_get_u32(bytes + at + 4));
    if (len > size - WAL_END_BYTES - at) break;
    holt_put_u32(bytes + at, holt_crc32c(0, bytes + at + 4, len - 4));
    *digest = holt_crc32c(*digest, bytes + at, 4);
    (*count)++;
    at += len;
  }
  return at + WAL_END_BYTES;
}

/* Make header, batches and records agree with what they hold. */
static void mend(uint8_t *bytes, size_t len, uint64_t number, uint32_t *chain, uint64_t *sequence) {
  uint32_t size = holt_get_u32(bytes + 12);
  if (size < WAL_HEADER_BYTES || size > len || size % 8 != 0) return;
  memcpy(bytes, WAL_MAGIC, 8);
  holt_put_u32(bytes + 8, WAL_VERSION);
  holt_put_u64(bytes + 32, number);
  holt_put_u64(bytes + 40, len);
  holt_put_u64(bytes + 48, *sequence + 1);
  holt_put_u32(bytes + 116, *chain);
  uint32_t crc = holt_crc32c(0, bytes, 124);
  holt_put_u32(bytes + 124, holt_crc32c(crc, bytes + WAL_HEADER_BYTES, size - WAL_HEADER_BYTES));
  for (size_t at = size; at + WAL_BATCH_BYTES + WAL_END_BYTES <= len;) {
    uint32_t batch = holt_get_u32(bytes + at + 4), digest, count;
    if (holt_get_u32(bytes + at) != WAL_BATCH_MAGIC || batch > len - at ||
        batch < WAL_BATCH_BYTES + WAL_END_BYTES)
      return;
    size_t end = mend_records(bytes + at, batch, &digest, &count);
    holt_put_u32(bytes + at + 4, (uint32_t)end);
    holt_put_u64(bytes + at + 8, ++*sequence);
    holt_put_u32(bytes + at + 16, (uint32_t)at);
    holt_put_u32(bytes + at + 20, (uint32_t)number);
    holt_put_u32(bytes + at + 24, *chain);
    holt_put_u32(bytes + at + 28, count);
    holt_put_u32(bytes + at + 32, digest);
    *chain = holt_crc32c(0, bytes + at, 36);
    holt_put_u32(bytes + at + 36, *chain);
    holt_put_u32(bytes + at + end - 8, (uint32_t)*sequence);
    holt_put_u32(bytes + at + end - 4, WAL_END_MAGIC);
    at += end;
  }
}

static void put_file(struct holt_sim_disk *disk, uint64_t number, const uint8_t *bytes, size_t len) {
  char name[HOLT_FILE_NAME_MAX + 1];
  holt__wal_name(name, number, false);
  const struct holt_file_op ops[] = {
      {.type = HOLT_FILE_CREATE, .name = name},
      {.type = HOLT_FILE_WRITE, .name = name, .data = bytes, .len = len},
      {.type = HOLT_FILE_SYNC, .name = name},
      {.type = HOLT_FILE_SYNC_DIR},
  };
  HOLT_ASSERT(holt_sim_disk_run(disk, ops, 4, NULL) == 0);
}

static void make_files(struct holt_sim_disk *disk, struct holt_reader *in, bool is_mended) {
  static uint8_t bytes[FILE_MAX];
  uint32_t chain = 0;
  uint64_t sequence = 0;
  for (uint64_t number = 1; number <= FILES_MAX && holt_reader_left(in) > 2; number++) {
    size_t given = holt_read_u16(in) % FILE_MAX, len = given;
    if (given > holt_reader_left(in)) given = len = holt_reader_left(in);
    struct holt_buf part = holt_read_bytes(in, given);
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, part.data, part.len);
    if (given >= WAL_HEADER_BYTES) {
      uint64_t capacity = holt_get_u64(bytes + 40);
      if (capacity > given && capacity <= FILE_MAX) len = (size_t)capacity;
    }
    if (is_mended && len >= WAL_HEADER_BYTES) mend(bytes, len, number, &chain, &sequence);
    put_file(disk, number, bytes, len);
  }
}

/* Everything that can be read, as one number. */
static uint64_t digest_of(const struct holt_wal *wal, const struct holt_wal_files *files) {
  const struct holt_wal_state *state = holt_wal_state(wal);
  struct holt_wal_restored restored;
  if (holt_wal_restore(wal, files, &restored, NULL) != 0) return 0;
  uint64_t hash = state->term * 31 + state->vote * 7 + state->last + state->snapshot.index * 13;
  for (size_t i = 0; i < restored.restore.count; i++) {
    const struct holt_raft_entry *entry = &restored.restore.entries[i];
    HOLT_ASSERT(entry->index == state->snapshot.index + 1 + i);
    hash = holt_hash_bytes(hash ^ entry->term ^ entry->client, entry->data, entry->len);
  }
  holt_wal_restored_free(&restored);
  return hash | 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct holt_reader in = holt_reader(holt_buf(data, size));
  struct holt_sim_disk *disk = holt_sim_disk_new();
  struct holt_wal_files files = holt_wal_on_sim_disk(disk);
  const struct holt_wal_config config = {.segment_bytes = 2048};
  make_files(disk, &in, holt_read_u8(&in) % 2 == 1);
  uint64_t before = holt_sim_disk_hash(disk);
  struct holt_wal *wal = holt_wal_new(&config);
  struct holt_err err = {0};
  int rc = holt_wal_open(wal, &files, &err);
  if (rc != 0) {
    HOLT_ASSERT(err.message[0] != '\0');
    if (rc == HOLT_ECORRUPT) HOLT_ASSERT(holt_sim_disk_hash(disk) == before);
  } else {
    uint64_t boot = holt_wal_state(wal)->boot, digest = digest_of(wal, &files);
    holt_wal_free(wal);
    wal = holt_wal_new(&config);
    HOLT_ASSERT(holt_wal_open(wal, &files, &err) == 0);
    HOLT_ASSERT(holt_wal_state(wal)->boot == boot + 1);
    HOLT_ASSERT(digest_of(wal, &files) == digest);
  }
  holt_wal_free(wal);
  holt_sim_disk_free(disk);
  return 0;
}
