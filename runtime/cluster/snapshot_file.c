/* snapshot_file.c - snapshots as files: written block by block off the loop, read block by block at the
 * start.
 *
 *   snapshot            the one being written
 *   snapshot-ID-INDEX   a whole one: the state's bytes, then a foot: magic, version, what it stands for, the
 *                       checksum of the bytes, the checksum of the foot
 *
 * - Room is reserved; blocks are filled from the frozen state, one a turn, and written as their jobs come up;
 *   every so often a sync, so that the last one is not long. At the end foot, sync, rename, sync of the
 *   folder; then the log may name it.
 * - The file before the one that the log names goes when the next is begun.
 * - A failure: what was written is removed, the status is told.
 * - It is given up (a newer one was received, the member ends): jobs under way run out, nobody is told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "cluster/cluster_impl.h"

enum { MAGIC = 0x4e534c48, VERSION = 1 };
enum { BLOCKS = 4, BLOCK_BYTES = 256 << 10, SYNC_BLOCKS = 128, READ_BYTES = 1 << 20 };

static const char *const ASIDE = "snapshot";

struct block {
  struct holt__snapshot_file *file;
  struct holt_file_job job;
  struct holt_file_op ops[2]; /* write, sync */
  bool is_busy;
  uint8_t *bytes; /* ours */
};

struct holt__snapshot_file {
  struct holt_cluster *cluster; /* NULL: nobody wants to know any more */
  struct holt_raft_snapshot meta;
  struct holt__freeze freeze; /* the rest of it is to be written */
  struct block blocks[BLOCKS];
  size_t block_bytes;
  uint64_t offset, block_count;
  uint32_t crc;
  int jobs; /* submitted, not ended */
  int status;
  bool is_read;              /* every block is on its way */
  bool is_whole;             /* the last job is submitted */
  bool is_removed;           /* … the one that takes it away */
  struct holt_file_job edge; /* the first, the last, or the one after a failure */
  struct holt_file_op ops[5];
  char name[64], old[64];
  struct holt_writer foot;
};

static void file_name(const struct holt_cluster *c, uint64_t index, char out[64]) {
  snprintf(out, 64, "snapshot-%016llx-%016llx", (unsigned long long)c->self, (unsigned long long)index);
}

static void write_foot(struct holt_writer *foot, const struct holt_raft_snapshot *meta, uint32_t crc) {
  holt_write_u32(foot, MAGIC);
  holt_write_u32(foot, VERSION);
  holt_raft_snapshot_encode(foot, meta);
  holt_write_u32(foot, crc);
  holt_write_u32(foot, holt_crc32c(0, foot->data, foot->len));
}

/* --- Its end ------------------------------------------------------------------------------------------- */

static void file_free(struct holt__snapshot_file *f) {
  for (int i = 0; i < BLOCKS; i++) free(f->blocks[i].bytes);
  holt__freeze_close(&f->freeze);
  holt_writer_free(&f->foot);
  free(f);
}

static void on_edge(struct holt_file_job *job, int status);

static void submit_edge(struct holt__snapshot_file *f, size_t count) {
  f->edge = (struct holt_file_job){.ops = f->ops, .count = count, .cb = on_edge, .arg = f};
  f->jobs++;
  holt_dir_submit(f->cluster->dir, &f->edge);
}

static void tell(struct holt__snapshot_file *f) {
  struct holt_cluster *c = f->cluster;
  int status = f->status;
  c->file = NULL;
  if (status == 0) {
    c->snapshot_before = c->snapshot_now;
    c->snapshot_now = f->meta.index;
  }
  holt__bury_freeze(c, &f->freeze);
  file_free(f);
  holt__snapshot_written(c, status);
}

static void remove_torn(struct holt__snapshot_file *f) {
  f->is_removed = true;
  f->ops[0] = (struct holt_file_op){.type = HOLT_FILE_UNLINK, .name = ASIDE};
  f->ops[1] =
      (struct holt_file_op){.type = HOLT_FILE_UNLINK, .name = f->name}; /* renamed, but not for sure */
  submit_edge(f, 2);
}

static void finish(struct holt__snapshot_file *f);

/* One of its jobs has ended. */
static void job_ended(struct holt__snapshot_file *f, int status) {
  f->jobs--;
  if (f->status == 0 && !f->is_removed) f->status = status;
  if (f->jobs > 0) return;
  if (!f->cluster)
    file_free(f);
  else if (f->status != 0 && !f->is_removed)
    remove_torn(f);
  else if (f->status != 0 || f->is_whole)
    tell(f);
  else if (f->is_read)
    finish(f);
}

static void on_edge(struct holt_file_job *job, int status) {
  struct holt__snapshot_file *f = job->arg;
  if (f->cluster) holt__cluster_stir(f->cluster);
  job_ended(f, status);
}

static void on_block(struct holt_file_job *job, int status) {
  struct block *block = job->arg;
  struct holt__snapshot_file *f = block->file;
  block->is_busy = false;
  if (f->cluster) holt__cluster_stir(f->cluster);
  job_ended(f, status);
}

void holt__snapshot_file_forget(struct holt_cluster *c) {
  struct holt__snapshot_file *f = c->file;
  if (!f) return;
  c->file = NULL;
  f->cluster = NULL;
  holt__bury_freeze(c, &f->freeze);
  if (f->jobs == 0) file_free(f);
}

bool holt__snapshot_file_cancel(struct holt_cluster *c) {
  if (!c->file) return true;
  if (c->file->is_whole || c->file->is_removed) return false;
  holt__snapshot_file_forget(c);
  return true;
}

/* --- Writing ------------------------------------------------------------------------------------------- */

void holt__snapshot_file_begin(struct holt_cluster *c, const struct holt_raft_snapshot *meta,
                               const struct holt__freeze *freeze) {
  HOLT_ASSERT(!c->file);
  struct holt__snapshot_file *f = c->file = holt_alloc(sizeof *f);
  f->cluster = c;
  f->meta = *meta;
  f->block_bytes = c->config.block_bytes ? c->config.block_bytes : BLOCK_BYTES;
  holt__freeze_share(freeze, &f->freeze);
  for (int i = 0; i < BLOCKS; i++) f->blocks[i].file = f;
  file_name(c, meta->index, f->name);
  file_name(c, c->snapshot_before, f->old);
  size_t count = 0;
  if (c->snapshot_before) f->ops[count++] = (struct holt_file_op){.type = HOLT_FILE_UNLINK, .name = f->old};
  f->ops[count++] = (struct holt_file_op){.type = HOLT_FILE_CREATE, .name = ASIDE};
  f->ops[count++] =
      (struct holt_file_op){.type = HOLT_FILE_ALLOCATE, .name = ASIDE, .len = (size_t)meta->size_bytes};
  submit_edge(f, count);
}

static void finish(struct holt__snapshot_file *f) {
  f->is_whole = true;
  write_foot(&f->foot, &f->meta, f->crc);
  struct holt_file_op ops[] = {
      {.type = HOLT_FILE_WRITE, .name = ASIDE, .offset = f->offset, .data = f->foot.data, .len = f->foot.len},
      {.type = HOLT_FILE_SYNC, .name = ASIDE},
      {.type = HOLT_FILE_RENAME, .name = ASIDE, .to = f->name},
      {.type = HOLT_FILE_SYNC_DIR},
  };
  memcpy(f->ops, ops, sizeof ops);
  submit_edge(f, sizeof ops / sizeof ops[0]);
}

static void write_block(struct holt__snapshot_file *f, struct block *block, size_t len) {
  f->crc = holt_crc32c(f->crc, block->bytes, len);
  block->ops[0] = (struct holt_file_op){
      .type = HOLT_FILE_WRITE, .name = ASIDE, .offset = f->offset, .data = block->bytes, .len = len};
  block->ops[1] = (struct holt_file_op){.type = HOLT_FILE_SYNC, .name = ASIDE};
  f->offset += len;
  bool is_sync_due = ++f->block_count % SYNC_BLOCKS == 0;
  block->job =
      (struct holt_file_job){.ops = block->ops, .count = is_sync_due ? 2 : 1, .cb = on_block, .arg = block};
  block->is_busy = true;
  f->jobs++;
  holt_dir_submit(f->cluster->dir, &block->job);
}

static struct block *free_block(struct holt__snapshot_file *f) {
  for (int i = 0; i < BLOCKS; i++)
    if (!f->blocks[i].is_busy) return &f->blocks[i];
  return NULL;
}

bool holt__snapshot_file_has_work(const struct holt_cluster *c) {
  struct holt__snapshot_file *f = c->file;
  return f && !f->is_read && f->status == 0 && free_block(f);
}

void holt__snapshot_file_turn(struct holt_cluster *c) {
  if (!holt__snapshot_file_has_work(c)) return;
  struct holt__snapshot_file *f = c->file;
  struct block *block = free_block(f);
  if (!block->bytes) block->bytes = holt_alloc(f->block_bytes);
  size_t done = 0, got = 1;
  for (; done < f->block_bytes && got > 0; done += got)
    got = holt__freeze_read(&f->freeze, block->bytes + done, f->block_bytes - done);
  if (done > 0) write_block(f, block, done);
  if (f->offset < f->meta.size_bytes) return;
  HOLT_ASSERT(f->offset == f->meta.size_bytes);
  f->is_read = true;
  if (f->jobs == 0) finish(f);
}

/* --- Reading ------------------------------------------------------------------------------------------- */

static int read_at(struct holt_cluster *c, const char *name, uint64_t offset, uint8_t *into, size_t len,
                   struct holt_err *err) {
  struct holt_file_op op = {.type = HOLT_FILE_READ, .name = name, .offset = offset, .len = len, .into = into};
  return holt_dir_run(c->dir, &op, 1, err);
}

/* The state's bytes into `thaw`; their checksum. */
static int feed(struct holt_cluster *c, const char *name, uint64_t size, struct holt__thaw *thaw,
                uint32_t *crc, struct holt_err *err) {
  uint8_t *bytes = holt_alloc(READ_BYTES);
  int rc = 0;
  *crc = 0;
  for (uint64_t at = 0; at < size && rc == 0;) {
    size_t len = size - at < READ_BYTES ? (size_t)(size - at) : READ_BYTES;
    rc = read_at(c, name, at, bytes, len, err);
    if (rc == 0) {
      *crc = holt_crc32c(*crc, bytes, len);
      rc = holt__thaw_feed(thaw, holt_buf(bytes, len));
    }
    at += len;
  }
  free(bytes);
  return rc;
}

/* Whether its end is the foot that belongs to these bytes, and nothing follows. */
static int check_foot(struct holt_cluster *c, const char *name, const struct holt_raft_snapshot *meta,
                      uint32_t crc, struct holt_err *err) {
  struct holt_writer foot = {0};
  uint64_t size;
  write_foot(&foot, meta, crc);
  uint8_t *bytes = holt_alloc(foot.len);
  int rc = holt_dir_size(c->dir, name, &size, err);
  if (rc == 0 && size != meta->size_bytes + foot.len) rc = HOLT_ECORRUPT;
  if (rc == 0) rc = read_at(c, name, meta->size_bytes, bytes, foot.len, err);
  if (rc == 0 && memcmp(bytes, foot.data, foot.len) != 0) rc = HOLT_ECORRUPT;
  free(bytes);
  holt_writer_free(&foot);
  return rc;
}

int holt__snapshot_file_load(struct holt_cluster *c, const struct holt_raft_snapshot *meta,
                             struct holt__machine *out, struct holt_err *err) {
  char name[64];
  uint32_t crc;
  struct holt__thaw thaw;
  file_name(c, meta->index, name);
  holt__thaw_init(&thaw);
  int rc = feed(c, name, meta->size_bytes, &thaw, &crc, err);
  if (rc == 0) rc = check_foot(c, name, meta, crc, err);
  if (rc == 0) rc = holt__thaw_finish(&thaw, out);
  holt_collections_free(holt__thaw_close(&thaw));
  if (rc != 0)
    return holt_err_set(err, HOLT_ECORRUPT, "%s/%s is missing or damaged", holt_dir_path(c->dir), name);
  c->snapshot_now = meta->index;
  return 0;
}

/* Ours, whole, but not the one that the log names; or torn, whosever. */
static bool is_leftover(const struct holt_cluster *c, const char *name) {
  char prefix[64], kept[64];
  int len = snprintf(prefix, sizeof prefix, "snapshot-%016llx-", (unsigned long long)c->self);
  file_name(c, c->snapshot_now, kept);
  if (strcmp(name, ASIDE) == 0 || strcmp(name, "aside") == 0) return true;
  return strncmp(name, prefix, (size_t)len) == 0 && strcmp(name, kept) != 0;
}

int holt__snapshot_file_clean(struct holt_cluster *c, struct holt_err *err) {
  char **names;
  size_t count;
  int rc = holt_dir_list(c->dir, &names, &count, err);
  if (rc != 0) return rc;
  for (size_t i = 0; i < count && rc == 0; i++) {
    struct holt_file_op op = {.type = HOLT_FILE_UNLINK, .name = names[i]};
    if (is_leftover(c, names[i])) rc = holt_dir_run(c->dir, &op, 1, err);
  }
  free(names);
  return rc;
}
