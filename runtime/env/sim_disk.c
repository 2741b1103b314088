/* sim_disk.c - the simulated directory: for each file what programs read and what is on the disk, and between
 * the two, in order, the changes that no sync has carried over yet. */
#include "env/sim_disk.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

/* The bytes of a file, whatever its names. */
struct inode {
  struct holt_writer now, kept; /* read by programs; on the disk */
  unsigned refs;                /* names, kept names and changes that hold it */
  unsigned number;              /* for cloning */
};

struct name {
  char text[HOLT_FILE_NAME_MAX + 1];
  struct inode *inode;
};

struct names { /* sorted */
  struct name *items;
  size_t count, cap;
};

enum change_type { CHANGE_WRITE, CHANGE_LENGTH, CHANGE_LINK, CHANGE_UNLINK, CHANGE_RENAME };

struct change {
  enum change_type type;
  struct inode *inode;
  size_t offset, len; /* LENGTH: `len` */
  size_t bytes;       /* WRITE: place in disk->bytes */
  char name[HOLT_FILE_NAME_MAX + 1], to[HOLT_FILE_NAME_MAX + 1];
};

struct holt_sim_disk {
  struct names now, kept;
  struct change *changes; /* un-synced, oldest first */
  size_t change_count, change_cap;
  struct holt_writer bytes; /* of the WRITEs among them; emptied when there are none */
  struct {
    enum holt_file_op_type type;
    unsigned after;
    int code;
    size_t keep;
  } fault;
  uint64_t limit;
  struct holt_sim_disk_stats stats;
};

/* --- Files and names ------------------------------------------------------------------------------ */

static struct inode *hold(struct inode *inode) {
  inode->refs++;
  return inode;
}

static void let_go(struct inode *inode) {
  if (--inode->refs > 0) return;
  holt_writer_free(&inode->now);
  holt_writer_free(&inode->kept);
  free(inode);
}

/* Make it at least `len` long, with zeros. */
static void extend(struct holt_writer *w, size_t len) {
  if (len > w->len) {
    size_t more = len - w->len;
    memset(holt_writer_grow(w, more), 0, more);
  }
}

static void put_bytes(struct holt_writer *w, size_t offset, const void *data, size_t len) {
  extend(w, offset + len);
  if (len > 0) memcpy(w->data + offset, data, len);
}

/* Where `text` is, or would be. */
static size_t name_place(const struct names *names, const char *text, bool *is_there) {
  size_t low = 0, high = names->count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    int order = strcmp(names->items[middle].text, text);
    if (order == 0) {
      *is_there = true;
      return middle;
    }
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  *is_there = false;
  return low;
}

static struct inode *name_find(const struct names *names, const char *text) {
  bool is_there;
  size_t at = name_place(names, text, &is_there);
  return is_there ? names->items[at].inode : NULL;
}

static void name_remove(struct names *names, const char *text) {
  bool is_there;
  size_t at = name_place(names, text, &is_there);
  if (!is_there) return;
  let_go(names->items[at].inode);
  names->count--;
  memmove(names->items + at, names->items + at + 1, (names->count - at) * sizeof *names->items);
}

static void name_set(struct names *names, const char *text, struct inode *inode) {
  hold(inode);
  name_remove(names, text);
  bool is_there;
  size_t at = name_place(names, text, &is_there);
  if (names->count == names->cap) {
    names->cap = names->cap == 0 ? 8 : names->cap * 2;
    names->items = holt_realloc(names->items, names->cap * sizeof *names->items);
  }
  memmove(names->items + at + 1, names->items + at, (names->count - at) * sizeof *names->items);
  names->count++;
  snprintf(names->items[at].text, sizeof names->items[at].text, "%s", text);
  names->items[at].inode = inode;
}

static void names_free(struct names *names) {
  for (size_t i = 0; i < names->count; i++) let_go(names->items[i].inode);
  free(names->items);
  *names = (struct names){0};
}

/* --- Changes -------------------------------------------------------------------------------------- */

static struct change *add_change(struct holt_sim_disk *disk, enum change_type type, struct inode *inode) {
  if (disk->change_count == disk->change_cap) {
    disk->change_cap = disk->change_cap == 0 ? 8 : disk->change_cap * 2;
    disk->changes = holt_realloc(disk->changes, disk->change_cap * sizeof *disk->changes);
  }
  struct change *change = &disk->changes[disk->change_count++];
  change->type = type;
  change->inode = hold(inode);
  change->offset = change->len = change->bytes = 0;
  change->name[0] = change->to[0] = '\0';
  return change;
}

static bool is_of_names(const struct change *change) {
  return change->type >= CHANGE_LINK;
}

static void keep_part(struct holt_sim_disk *disk, const struct change *change, size_t from, size_t to) {
  put_bytes(&change->inode->kept, from, disk->bytes.data + change->bytes + (from - change->offset),
            to - from);
}

static void keep_change(struct holt_sim_disk *disk, const struct change *change) {
  switch (change->type) {
  case CHANGE_WRITE:
    keep_part(disk, change, change->offset, change->offset + change->len);
    break;
  case CHANGE_LENGTH:
    extend(&change->inode->kept, change->len);
    break;
  case CHANGE_LINK:
    name_set(&disk->kept, change->name, change->inode);
    break;
  case CHANGE_UNLINK:
    if (name_find(&disk->kept, change->name) == change->inode) name_remove(&disk->kept, change->name);
    break;
  case CHANGE_RENAME:
    name_set(&disk->kept, change->to, change->inode);
    if (name_find(&disk->kept, change->name) == change->inode) name_remove(&disk->kept, change->name);
    break;
  }
}

/* Carry over, or forget, the changes of one file (or, with NULL, of the names). */
static void settle(struct holt_sim_disk *disk, const struct inode *inode, bool is_kept) {
  size_t left = 0;
  for (size_t i = 0; i < disk->change_count; i++) {
    struct change *change = &disk->changes[i];
    bool is_meant = inode == NULL ? is_of_names(change) : change->inode == inode && !is_of_names(change);
    if (!is_meant) {
      if (left != i) disk->changes[left] = *change;
      left++;
      continue;
    }
    if (is_kept) keep_change(disk, change);
    let_go(change->inode);
  }
  disk->change_count = left;
  if (left == 0) disk->bytes.len = 0;
}

/* --- Operations ----------------------------------------------------------------------------------- */

uint64_t holt_sim_disk_used(const struct holt_sim_disk *disk) {
  uint64_t used = 0;
  for (size_t i = 0; i < disk->now.count; i++) used += disk->now.items[i].inode->now.len;
  return used;
}

/* How long a file of `len` bytes may become when somebody wants `wanted`. */
static size_t room_for(const struct holt_sim_disk *disk, size_t len, size_t wanted) {
  if (disk->limit == 0 || wanted <= len) return wanted;
  uint64_t used = holt_sim_disk_used(disk);
  uint64_t left = disk->limit > used ? disk->limit - used : 0;
  return wanted - len <= left ? wanted : len + (size_t)left;
}

static int op_create(struct holt_sim_disk *disk, const struct holt_file_op *op) {
  struct inode *inode = holt_alloc(sizeof *inode);
  name_set(&disk->now, op->name, inode);
  struct change *change = add_change(disk, CHANGE_LINK, inode);
  snprintf(change->name, sizeof change->name, "%s", op->name);
  return 0;
}

static int op_allocate(struct holt_sim_disk *disk, struct inode *inode, size_t len) {
  if (len <= inode->now.len) return 0;
  if (room_for(disk, inode->now.len, len) < len) return HOLT_ENOSPC;
  extend(&inode->now, len);
  add_change(disk, CHANGE_LENGTH, inode)->len = len;
  return 0;
}

static int op_write(struct holt_sim_disk *disk, struct inode *inode, const struct holt_file_op *op,
                    size_t keep) {
  size_t len = op->len < keep ? op->len : keep, offset = (size_t)op->offset;
  size_t end = room_for(disk, inode->now.len, offset + len);
  size_t fits = end > offset ? end - offset : 0;
  bool is_full = fits < len;
  if (is_full) len = fits;
  if (len > 0) {
    put_bytes(&inode->now, offset, op->data, len);
    struct change *change = add_change(disk, CHANGE_WRITE, inode);
    change->offset = offset;
    change->len = len;
    change->bytes = disk->bytes.len;
    holt_write_bytes(&disk->bytes, op->data, len);
    disk->stats.bytes_written += len;
  }
  return is_full ? HOLT_ENOSPC : 0;
}

static int op_rename(struct holt_sim_disk *disk, struct inode *inode, const struct holt_file_op *op) {
  struct change *change = add_change(disk, CHANGE_RENAME, inode);
  snprintf(change->name, sizeof change->name, "%s", op->name);
  snprintf(change->to, sizeof change->to, "%s", op->to);
  name_set(&disk->now, op->to, inode);
  if (strcmp(op->to, op->name) != 0) name_remove(&disk->now, op->name);
  return 0;
}

/* `fault`: 0, or what it must fail with. */
static int run_op(struct holt_sim_disk *disk, const struct holt_file_op *op, int fault, size_t keep) {
  disk->stats.ops++;
  struct inode *inode = op->name == NULL ? NULL : name_find(&disk->now, op->name);
  if (fault != 0) {
    if (inode != NULL && op->type == HOLT_FILE_WRITE) op_write(disk, inode, op, keep);
    if (inode != NULL && op->type == HOLT_FILE_SYNC) settle(disk, inode, false);
    return fault;
  }
  if (op->type == HOLT_FILE_SYNC_DIR) {
    disk->stats.syncs++;
    settle(disk, NULL, true);
    return 0;
  }
  HOLT_ASSERT(op->name != NULL);
  HOLT_ASSERT(strlen(op->name) <= HOLT_FILE_NAME_MAX);
  if (op->type == HOLT_FILE_CREATE) return op_create(disk, op);
  if (inode == NULL) return op->type == HOLT_FILE_UNLINK ? 0 : HOLT_ENOTFOUND;
  switch (op->type) {
  case HOLT_FILE_ALLOCATE:
    return op_allocate(disk, inode, op->len);
  case HOLT_FILE_WRITE:
    return op_write(disk, inode, op, SIZE_MAX);
  case HOLT_FILE_READ:
    if (op->offset > inode->now.len || op->len > inode->now.len - op->offset) return HOLT_EEOF;
    if (op->len > 0) memcpy(op->into, inode->now.data + op->offset, op->len);
    return 0;
  case HOLT_FILE_SYNC:
    disk->stats.syncs++;
    settle(disk, inode, true);
    return 0;
  case HOLT_FILE_RENAME:
    return op_rename(disk, inode, op);
  case HOLT_FILE_UNLINK: {
    struct change *change = add_change(disk, CHANGE_UNLINK, inode);
    snprintf(change->name, sizeof change->name, "%s", op->name);
    name_remove(&disk->now, op->name);
    return 0;
  }
  default:
    return HOLT_EINVAL;
  }
}

int holt_sim_disk_run(struct holt_sim_disk *disk, const struct holt_file_op *ops, size_t count,
                      size_t *failed) {
  for (size_t i = 0; i < count; i++) {
    int fault = 0;
    if (disk->fault.code != 0 && (disk->fault.type == 0 || disk->fault.type == ops[i].type) &&
        disk->fault.after-- == 0) {
      fault = disk->fault.code;
      disk->fault.code = 0;
    }
    int rc = run_op(disk, &ops[i], fault, disk->fault.keep);
    if (rc != 0) {
      if (failed != NULL) *failed = i;
      return rc;
    }
  }
  if (failed != NULL) *failed = count;
  return 0;
}

const char *holt_sim_disk_name(const struct holt_sim_disk *disk, size_t i) {
  return i < disk->now.count ? disk->now.items[i].text : NULL;
}

int holt_sim_disk_list(const struct holt_sim_disk *disk, char ***names, size_t *count) {
  size_t size = 0;
  *count = disk->now.count;
  for (size_t i = 0; i < *count; i++) size += strlen(disk->now.items[i].text) + 1;
  char **list = holt_alloc((*count + 1) * sizeof *list + size);
  char *at = (char *)(list + *count + 1);
  for (size_t i = 0; i < *count; i++) {
    size_t len = strlen(disk->now.items[i].text) + 1;
    list[i] = memcpy(at, disk->now.items[i].text, len);
    at += len;
  }
  *names = list;
  return 0;
}

int holt_sim_disk_view(const struct holt_sim_disk *disk, const char *name, struct holt_buf *bytes) {
  struct inode *inode = name_find(&disk->now, name);
  if (inode == NULL) return HOLT_ENOTFOUND;
  *bytes = holt_buf(inode->now.data, inode->now.len);
  return 0;
}

/* --- Crashes -------------------------------------------------------------------------------------- */

/* The sector in which `at` lies ends here, or the write does. */
static size_t sector_end(size_t at, size_t end) {
  size_t next = (at / HOLT_SIM_SECTOR + 1) * HOLT_SIM_SECTOR;
  return next < end ? next : end;
}

/* A sector reached the disk as it was after change number `last`: with what earlier writes had put there. */
static void keep_sector(struct holt_sim_disk *disk, size_t last, size_t at) {
  size_t begin = at / HOLT_SIM_SECTOR * HOLT_SIM_SECTOR, end = begin + HOLT_SIM_SECTOR;
  for (size_t i = 0; i <= last; i++) {
    const struct change *change = &disk->changes[i];
    if (change->type != CHANGE_WRITE || change->inode != disk->changes[last].inode) continue;
    size_t from = change->offset > begin ? change->offset : begin;
    size_t to = change->offset + change->len < end ? change->offset + change->len : end;
    if (from < to) keep_part(disk, change, from, to);
  }
}

static void lose_to_prefix(struct holt_sim_disk *disk, struct holt_rand *rand) {
  size_t whole = (size_t)holt_rand_below(rand, disk->change_count + 1);
  for (size_t i = 0; i < whole; i++) keep_change(disk, &disk->changes[i]);
  if (whole == disk->change_count || disk->changes[whole].type != CHANGE_WRITE) return;
  const struct change *torn = &disk->changes[whole];
  size_t end = torn->offset + torn->len;
  size_t sectors = (end - 1) / HOLT_SIM_SECTOR - torn->offset / HOLT_SIM_SECTOR + 1;
  size_t at = torn->offset;
  for (uint64_t left = holt_rand_below(rand, sectors); left > 0; left--, at = sector_end(at, end))
    keep_part(disk, torn, at, sector_end(at, end));
}

static void lose_sectors(struct holt_sim_disk *disk, struct holt_rand *rand) {
  static const double chances[] = {0.1, 0.5, 0.9};
  double chance = chances[holt_rand_below(rand, 3)];
  for (size_t i = 0; i < disk->change_count; i++) {
    const struct change *change = &disk->changes[i];
    if (change->type != CHANGE_WRITE) {
      if (holt_rand_unit(rand) < chance) keep_change(disk, change);
      continue;
    }
    size_t end = change->offset + change->len;
    for (size_t at = change->offset; at < end; at = sector_end(at, end))
      if (holt_rand_unit(rand) < chance) keep_sector(disk, i, at);
  }
}

static void forget_changes(struct holt_sim_disk *disk) {
  for (size_t i = 0; i < disk->change_count; i++) let_go(disk->changes[i].inode);
  disk->change_count = 0;
  disk->bytes.len = 0;
}

void holt_sim_disk_crash(struct holt_sim_disk *disk, struct holt_rand *rand, enum holt_sim_loss loss) {
  disk->stats.crashes++;
  if (loss == HOLT_SIM_LOSS_NONE) return;
  if (loss == HOLT_SIM_LOSS_PREFIX) lose_to_prefix(disk, rand);
  if (loss == HOLT_SIM_LOSS_SECTORS) lose_sectors(disk, rand);
  forget_changes(disk);
  names_free(&disk->now);
  for (size_t i = 0; i < disk->kept.count; i++) {
    struct inode *inode = disk->kept.items[i].inode;
    inode->now.len = 0;
    put_bytes(&inode->now, 0, inode->kept.data, inode->kept.len);
    name_set(&disk->now, disk->kept.items[i].text, inode);
  }
}

size_t holt_sim_disk_unsynced(const struct holt_sim_disk *disk) {
  return disk->change_count;
}

/* --- Faults --------------------------------------------------------------------------------------- */

void holt_sim_disk_fail(struct holt_sim_disk *disk, enum holt_file_op_type type, unsigned after, int code,
                        size_t keep) {
  disk->fault.type = type;
  disk->fault.after = after;
  disk->fault.code = code;
  disk->fault.keep = keep;
}

void holt_sim_disk_limit(struct holt_sim_disk *disk, uint64_t size_bytes) {
  disk->limit = size_bytes;
}

int holt_sim_disk_flip(struct holt_sim_disk *disk, const char *name, uint64_t bit) {
  struct inode *inode = name_find(&disk->now, name);
  if (inode == NULL) return HOLT_ENOTFOUND;
  if (bit / 8 >= inode->now.len) return HOLT_EINVAL;
  inode->now.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
  if (bit / 8 < inode->kept.len) inode->kept.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
  return 0;
}

int holt_sim_disk_truncate(struct holt_sim_disk *disk, const char *name, uint64_t size_bytes) {
  struct inode *inode = name_find(&disk->now, name);
  if (inode == NULL) return HOLT_ENOTFOUND;
  if (size_bytes > inode->now.len) return HOLT_EINVAL;
  inode->now.len = (size_t)size_bytes;
  if (inode->kept.len > size_bytes) inode->kept.len = (size_t)size_bytes;
  return 0;
}

int holt_sim_disk_lose(struct holt_sim_disk *disk, const char *name) {
  if (name_find(&disk->now, name) == NULL) return HOLT_ENOTFOUND;
  name_remove(&disk->now, name);
  name_remove(&disk->kept, name);
  return 0;
}

/* --- Life and questions --------------------------------------------------------------------------- */

struct holt_sim_disk *holt_sim_disk_new(void) {
  return holt_alloc(sizeof(struct holt_sim_disk));
}

void holt_sim_disk_free(struct holt_sim_disk *disk) {
  if (disk == NULL) return;
  forget_changes(disk);
  names_free(&disk->now);
  names_free(&disk->kept);
  free(disk->changes);
  holt_writer_free(&disk->bytes);
  free(disk);
}

/* The clone's inode for one of the original: `copies` grows as they are met. */
static struct inode *clone_inode(struct inode *inode, struct inode ***copies, unsigned *count) {
  /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): what was grown is where *copies points */
  if (inode->number < *count && (*copies)[inode->number] != NULL) return (*copies)[inode->number];
  struct inode *copy = holt_alloc(sizeof *copy);
  put_bytes(&copy->now, 0, inode->now.data, inode->now.len);
  put_bytes(&copy->kept, 0, inode->kept.data, inode->kept.len);
  inode->number = (*count)++;
  *copies = holt_realloc(*copies, *count * sizeof **copies);
  (*copies)[inode->number] = copy;
  return copy;
}

static void clone_names(struct names *to, const struct names *from, struct inode ***copies, unsigned *count) {
  for (size_t i = 0; i < from->count; i++)
    name_set(to, from->items[i].text, clone_inode(from->items[i].inode, copies, count));
}

static void unnumber(const struct holt_sim_disk *disk) {
  for (size_t i = 0; i < disk->now.count; i++) disk->now.items[i].inode->number = UINT32_MAX;
  for (size_t i = 0; i < disk->kept.count; i++) disk->kept.items[i].inode->number = UINT32_MAX;
  for (size_t i = 0; i < disk->change_count; i++) disk->changes[i].inode->number = UINT32_MAX;
}

struct holt_sim_disk *holt_sim_disk_clone(const struct holt_sim_disk *disk) {
  struct holt_sim_disk *copy = holt_sim_disk_new();
  struct inode **copies = NULL;
  unsigned count = 0;
  unnumber(disk);
  clone_names(&copy->now, &disk->now, &copies, &count);
  clone_names(&copy->kept, &disk->kept, &copies, &count);
  for (size_t i = 0; i < disk->change_count; i++) {
    struct inode *inode = clone_inode(disk->changes[i].inode, &copies, &count);
    struct change *change = add_change(copy, disk->changes[i].type, inode);
    *change = disk->changes[i];
    change->inode = inode;
  }
  if (disk->bytes.len > 0) holt_write_bytes(&copy->bytes, disk->bytes.data, disk->bytes.len);
  copy->fault = disk->fault;
  copy->limit = disk->limit;
  copy->stats = disk->stats;
  free(copies);
  return copy;
}

struct holt_sim_disk_stats holt_sim_disk_stats(const struct holt_sim_disk *disk) {
  return disk->stats;
}

uint64_t holt_sim_disk_hash(const struct holt_sim_disk *disk) {
  uint64_t hash = 0;
  for (size_t i = 0; i < disk->now.count; i++) {
    const struct name *name = &disk->now.items[i];
    hash = holt_hash_bytes(hash, name->text, strlen(name->text));
    hash = holt_hash_bytes(hash, name->inode->now.data, name->inode->now.len);
  }
  return hash;
}
