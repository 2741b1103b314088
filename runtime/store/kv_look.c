/* kv_look.c - pages of an LMDB file are looked at before LMDB writes beside them.
 *
 * - Why: LMDB trusts what it reads. Reading, a damaged page can only lead it astray, which is noticed
 *   (kv_lmdb.c). Writing, it copies the page to memory and moves bytes about in it as its header says: beyond
 *   its end, over whatever lies there. So no page gets there that is not sound.
 * - Sound: the header and number are right, the nodes fill the place that they should, to the byte, keys are
 *   in order, and what it refers to lies in the file. Values are for their owner to check.
 * - In its place: its keys lie where the page above says.
 * - At the opening, a file of up to LOOK_BYTES: all pages of all tables, none of which may be used twice, or
 *   be free as well. Then nothing needs to be looked at any more.
 * - A larger one: LMDB's table of tables, its list of free pages, and tables of up to TABLE_PAGES pages. The
 *   rest when a transaction wants to write: the pages on the way to the key, and when one is removed those
 *   beside the way, which may be merged. A bit for each says that it was looked at. Pages that come later
 *   are of this process.
 * - What is committed is looked at, not what the transaction under way made of it: that comes from pages that
 *   were sound.
 *
 * The layout is that of LMDB 0.9 (mdb.c: struct MDB_page, MDB_node, MDB_db, MDB_meta) on machines with
 * addresses of 8 bytes, lowest byte first; elsewhere nothing is looked at. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "store/kv_lmdb.h"

enum {
  LOOK_BYTES = 32 << 20,
  TABLE_PAGES = 64,
  PAGE_MAX = 1 << 15, /* bytes; LMDB's */
  DEPTH_MAX = 32,     /* levels; LMDB's */
  KEY_MAX = 511,      /* bytes; LMDB's */
  HEADER = 16,        /* of a page: number (8), unused (2), flags (2), lower (2), upper (2) or pages (4) */
  FLAGS_AT = 10,
  LOWER_AT = 12,
  UPPER_AT = 14,
  PAGES_AT = 12,
  NODE = 8, /* header of a node: size (4), flags (2), length of the key (2); or number (6) */
  NODE_FLAGS_AT = 4,
  NODE_KEY_AT = 6,
  DB = 48, /* a table's record: unused (4), flags (2), depth (2), four counts (8 each), root (8) */
  DB_FLAGS_AT = 4,
  DB_DEPTH_AT = 6,
  DB_PAGES_AT = 8, /* branches, leaves, of large values */
  DB_ROOT_AT = 40,
  META_FREE_AT = 40, /* in a first page: the record of the table of free pages, that of all tables, */
  META_MAIN_AT = 88,
  META_LAST_AT = 136, /* the last page's number, the transaction's */
  META_TXN_AT = 144
};

enum page_flags { BRANCH = 1, LEAF = 2, OVERFLOW = 4, PAGE_KINDS = 0x6f };
enum node_flags { BIG_DATA = 1, SUB_DATA = 2 };
enum kind { A_TABLE, ALL_TABLES, FREE_PAGES };

#define NO_PAGE  UINT64_MAX
#define NO_TABLE ((struct root){.page = NO_PAGE})

/* A table, or the part of it below a page. */
struct root {
  uint64_t page; /* NO_PAGE: it is empty */
  unsigned depth;
  struct holt_buf low, high; /* its keys lie from here (no data: anywhere) to before here */
};

struct lmdb_look {
  const uint8_t *map; /* the file */
  size_t mapped;      /* bytes */
  uint32_t page;      /* bytes of one */
  uint64_t count;     /* pages that the file had at the opening */
  uint8_t *sound;     /* a bit each */
  uint8_t *used;      /* a bit each, at the opening, then NULL: it has its use */
  bool is_all;        /* all pages are looked at then */
  uint64_t last;      /* page, of what is committed */
  struct root free_pages, all_tables;
  struct {
    uint64_t txn; /* that writes; the root is of the one before */
    struct root root;
  } tables[HOLT_KV_TABLES_MAX];
  uint16_t sizes[PAGE_MAX / 2]; /* of the nodes of a page, by their place */
};

/* --- Numbers in pages ----------------------------------------------------------------------------- */

static bool has_bit(const uint8_t *bits, uint64_t n) {
  return (bits[n / 8] & 1U << n % 8) != 0;
}

static void set_bit(uint8_t *bits, uint64_t n) {
  bits[n / 8] |= (uint8_t)(1U << n % 8);
}

static const uint8_t *page_at(const struct lmdb_look *l, uint64_t page) {
  return l->map + page * l->page;
}

static unsigned node_count(const uint8_t *page) {
  return (holt_get_u16(page + LOWER_AT) - HEADER) / 2U;
}

static const uint8_t *node_at(const uint8_t *page, unsigned i) {
  return page + holt_get_u16(page + HEADER + (size_t)2 * i);
}

static struct holt_buf key_of(const uint8_t *node) {
  return holt_buf(node + NODE, holt_get_u16(node + NODE_KEY_AT));
}

static uint64_t child_of(const uint8_t *node) {
  return holt_get_u32(node) | (uint64_t)holt_get_u16(node + NODE_FLAGS_AT) << 32;
}

static bool is_big(const uint8_t *node) {
  return (holt_get_u16(node + NODE_FLAGS_AT) & BIG_DATA) != 0;
}

/* Where the value lies, or the number of its first page. */
static const uint8_t *data_of(const uint8_t *node) {
  return node + NODE + holt_get_u16(node + NODE_KEY_AT);
}

static uint64_t needed_pages(const struct lmdb_look *l, const uint8_t *node) {
  return (HEADER - 1 + (uint64_t)holt_get_u32(node)) / l->page + 1;
}

static bool is_in_file(const struct lmdb_look *l, uint64_t page, uint64_t pages) {
  return page >= 2 && page <= l->last && pages <= l->last - page + 1;
}

/* What is below the `i`th node of a branch. */
static struct root below(const uint8_t *page, struct root root, unsigned i) {
  struct root child = {
      .page = child_of(node_at(page, i)), .depth = root.depth - 1, .low = root.low, .high = root.high};
  if (i > 0) child.low = key_of(node_at(page, i));
  if (i + 1 < node_count(page)) child.high = key_of(node_at(page, i + 1));
  return child;
}

static struct root root_of(const uint8_t *db) {
  return (struct root){.page = holt_get_u64(db + DB_ROOT_AT), .depth = holt_get_u16(db + DB_DEPTH_AT)};
}

/* How many pages the record of a table says it has. */
static uint64_t pages_of(const uint8_t *db) {
  return holt_get_u64(db + DB_PAGES_AT) + holt_get_u64(db + DB_PAGES_AT + 8) +
         holt_get_u64(db + DB_PAGES_AT + 16);
}

static bool is_root_sound(const struct lmdb_look *l, const struct root *root) {
  return root->page == NO_PAGE ||
         (is_in_file(l, root->page, 1) && root->depth >= 1 && root->depth <= DEPTH_MAX);
}

/* As LMDB orders them. */
static int compare(enum kind kind, struct holt_buf a, struct holt_buf b) {
  if (kind == FREE_PAGES) {
    uint64_t m = holt_get_u64(a.data), n = holt_get_u64(b.data);
    return (m > n) - (m < n);
  }
  int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);
  return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* --- One page ------------------------------------------------------------------------------------- */

/* Whether a leaf's node is one, and ends before `end`; *size: its bytes. */
static bool is_leaf_node_sound(const struct lmdb_look *l, const uint8_t *node, const uint8_t *end,
                               enum kind kind, size_t *size) {
  size_t key = holt_get_u16(node + NODE_KEY_AT), data = holt_get_u32(node);
  unsigned flags = holt_get_u16(node + NODE_FLAGS_AT);
  if (key == 0 || key > KEY_MAX || (kind == FREE_PAGES && key != 8)) return false;
  if (kind == ALL_TABLES ? flags != SUB_DATA : (flags & ~(unsigned)BIG_DATA) != 0) return false;
  *size = NODE + key + (flags == BIG_DATA ? 8 : data);
  if (data > UINT32_MAX / 2 || *size > (size_t)(end - node)) return false;
  if (flags == BIG_DATA) return is_in_file(l, holt_get_u64(data_of(node)), needed_pages(l, node));
  if (kind != ALL_TABLES) return true;
  struct root root = root_of(data_of(node));
  return data == DB && holt_get_u16(data_of(node) + DB_FLAGS_AT) == 0 && is_root_sound(l, &root);
}

static bool is_branch_node_sound(const struct lmdb_look *l, const uint8_t *node, const uint8_t *end,
                                 bool is_first, size_t *size) {
  size_t key = holt_get_u16(node + NODE_KEY_AT);
  *size = NODE + key;
  return key <= KEY_MAX && (key > 0 || is_first) && *size <= (size_t)(end - node) &&
         is_in_file(l, child_of(node), 1);
}

/* Whether nodes lie one behind the other from `upper` to the page's end, as many as there should be. */
static bool is_filled(const struct lmdb_look *l, unsigned upper, unsigned count) {
  for (size_t at = upper; at < l->page; at += l->sizes[at / 2], count--)
    if (l->sizes[at / 2] == 0 || count == 0) return false;
  return count == 0;
}

static bool are_nodes_sound(struct lmdb_look *l, const uint8_t *page, bool is_leaf, enum kind kind) {
  const uint8_t *end = page + l->page;
  unsigned count = node_count(page), upper = holt_get_u16(page + UPPER_AT);
  memset(l->sizes, 0, l->page);
  for (unsigned i = 0; i < count; i++) {
    const uint8_t *node = node_at(page, i);
    size_t size, at = (size_t)(node - page);
    if (at < upper || at % 2 != 0 || at > l->page - NODE) return false;
    if (is_leaf ? !is_leaf_node_sound(l, node, end, kind, &size)
                : !is_branch_node_sound(l, node, end, i == 0, &size))
      return false;
    if (!is_leaf && kind == FREE_PAGES && i > 0 && holt_get_u16(node + NODE_KEY_AT) != 8) return false;
    if (i > (is_leaf ? 0 : 1) && compare(kind, key_of(node_at(page, i - 1)), key_of(node)) >= 0) return false;
    l->sizes[at / 2] = (uint16_t)(size + size % 2);
  }
  return is_filled(l, upper, count);
}

static bool look_at(struct lmdb_look *l, uint64_t number, bool is_leaf, enum kind kind) {
  const uint8_t *page = page_at(l, number);
  unsigned lower = holt_get_u16(page + LOWER_AT), upper = holt_get_u16(page + UPPER_AT);
  return holt_get_u64(page) == number &&
         (holt_get_u16(page + FLAGS_AT) & PAGE_KINDS) == (is_leaf ? LEAF : BRANCH) && lower % 2 == 0 &&
         lower > HEADER && lower <= upper && upper < l->page && upper % 2 == 0 &&
         are_nodes_sound(l, page, is_leaf, kind);
}

/* Whether the page's keys lie where they should. The first of a branch stands for all below the next. */
static bool is_in_place(const struct root *root, const uint8_t *page, enum kind kind) {
  unsigned first = root->depth == 1 ? 0 : 1, count = node_count(page);
  return count <= first ||
         ((root->low.data == NULL || compare(kind, root->low, key_of(node_at(page, first))) <= 0) &&
          (root->high.data == NULL || compare(kind, key_of(node_at(page, count - 1)), root->high) < 0));
}

/* The page, if it is sound and in its place, else NULL. Those behind the first `count` are of this process.
 */
static const uint8_t *sound_page(struct lmdb_look *l, struct root root, enum kind kind) {
  bool is_leaf = root.depth == 1;
  if (!is_in_file(l, root.page, 1)) return NULL;
  const uint8_t *page = page_at(l, root.page);
  if (root.page < l->count && !has_bit(l->sound, root.page)) {
    if (!look_at(l, root.page, is_leaf, kind)) return NULL;
    set_bit(l->sound, root.page);
  }
  bool is_kind = (holt_get_u16(page + FLAGS_AT) & PAGE_KINDS) == (is_leaf ? LEAF : BRANCH);
  return is_kind && is_in_place(&root, page, kind) ? page : NULL;
}

/* The pages of a value that is too large for its leaf: how many, or 0. There may be more than it needs, of a
 * longer value before it. */
static uint64_t big_pages(const struct lmdb_look *l, const uint8_t *node) {
  uint64_t number = holt_get_u64(data_of(node));
  const uint8_t *page = page_at(l, number);
  uint64_t pages = holt_get_u32(page + PAGES_AT);
  bool is_sound = holt_get_u64(page) == number && (holt_get_u16(page + FLAGS_AT) & PAGE_KINDS) == OVERFLOW &&
                  pages >= needed_pages(l, node) && is_in_file(l, number, pages);
  return is_sound ? pages : 0;
}

/* --- All pages of a table --------------------------------------------------------------------------- */

/* Pages that have one use, and no other. */
static bool take_pages(struct lmdb_look *l, uint64_t page, uint64_t pages) {
  if (!is_in_file(l, page, pages)) return false;
  for (uint64_t i = page; i < page + pages; i++) {
    if (has_bit(l->used, i)) return false;
    set_bit(l->used, i);
  }
  return true;
}

/* A list: how many, then their numbers, falling. */
static bool are_free_pages_sound(struct lmdb_look *l, const uint8_t *node) {
  const uint8_t *list = is_big(node) ? page_at(l, holt_get_u64(data_of(node))) + HEADER : data_of(node);
  size_t len = holt_get_u32(node);
  uint64_t count = len < 8 ? UINT64_MAX : holt_get_u64(list), above = l->last + 1;
  if (count > len / 8 - 1) return false;
  for (uint64_t i = 1; i <= count; i++) {
    uint64_t page = holt_get_u64(list + 8 * i);
    if (page < 2 || page >= above || !take_pages(l, page, 1)) return false;
    above = page;
  }
  return true;
}

static bool walk(struct lmdb_look *l, struct root root, enum kind kind);

static bool walk_leaf(struct lmdb_look *l, const uint8_t *page, enum kind kind) {
  for (unsigned i = 0; i < node_count(page); i++) {
    const uint8_t *node = node_at(page, i);
    uint64_t pages = is_big(node) ? big_pages(l, node) : 1;
    if (pages == 0 || (is_big(node) && !take_pages(l, holt_get_u64(data_of(node)), pages))) return false;
    if (kind == FREE_PAGES && !are_free_pages_sound(l, node)) return false;
    if (kind == ALL_TABLES && (l->is_all || pages_of(data_of(node)) <= TABLE_PAGES) &&
        !walk(l, root_of(data_of(node)), A_TABLE))
      return false;
  }
  return true;
}

static bool walk(struct lmdb_look *l, struct root root, enum kind kind) {
  if (root.page == NO_PAGE) return true;
  const uint8_t *page = take_pages(l, root.page, 1) ? sound_page(l, root, kind) : NULL;
  if (page == NULL) return false;
  if (root.depth == 1) return walk_leaf(l, page, kind);
  for (unsigned i = 0; i < node_count(page); i++)
    if (!walk(l, below(page, root, i), kind)) return false;
  return true;
}

/* --- The way to a key ------------------------------------------------------------------------------- */

/* The last node whose key is not above; of a leaf: count of nodes when there is none with this key. */
static unsigned find(const uint8_t *page, bool is_leaf, enum kind kind, struct holt_buf key) {
  unsigned low = is_leaf ? 0 : 1, count = node_count(page), high = count;
  while (low < high) {
    unsigned middle = (low + high) / 2;
    if (compare(kind, key_of(node_at(page, middle)), key) <= 0)
      low = middle + 1;
    else
      high = middle;
  }
  if (!is_leaf) return low - 1;
  return low > 0 && compare(kind, key_of(node_at(page, low - 1)), key) == 0 ? low - 1 : count;
}

/* The lowest page of each level. */
static bool look_low(struct lmdb_look *l, struct root root, enum kind kind) {
  for (;; root = below(page_at(l, root.page), root, 0)) {
    if (sound_page(l, root, kind) == NULL) return false;
    if (root.depth == 1) return true;
  }
}

/* Pages that LMDB may merge with the `i`th below this one, or look into for their lowest key. */
static bool look_beside(struct lmdb_look *l, const uint8_t *page, struct root root, unsigned i,
                        enum kind kind) {
  for (unsigned k = i > 0 ? i - 1 : 0; k <= i + 1 && k < node_count(page); k++)
    if (!look_low(l, below(page, root, k), kind)) return false;
  return true;
}

/* *found: the leaf's node with the key, or NULL. */
static bool look_down(struct lmdb_look *l, struct root root, enum kind kind, struct holt_buf key,
                      bool is_removed, const uint8_t **found) {
  *found = NULL;
  while (root.page != NO_PAGE) {
    const uint8_t *page = sound_page(l, root, kind);
    if (page == NULL) return false;
    unsigned i = find(page, root.depth == 1, kind, key);
    if (root.depth == 1) {
      if (i == node_count(page)) return true;
      *found = node_at(page, i);
      return !is_big(*found) || big_pages(l, *found) > 0;
    }
    if (is_removed && !look_beside(l, page, root, i, kind)) return false;
    root = below(page, root, i);
  }
  return true;
}

/* --- The file --------------------------------------------------------------------------------------- */

static int map_file(struct lmdb_kv *k, size_t bytes) {
  struct lmdb_look *l = k->look;
  mdb_filehandle_t fd;
  int rc = mdb_env_get_fd(k->mdb, &fd);
  if (rc != 0) return rc;
  if (l->map != NULL) munmap((void *)(uintptr_t)l->map, l->mapped);
  l->map = NULL;
  void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) return errno;
  l->map = map;
  l->mapped = bytes;
  return 0;
}

/* What transaction `txn` committed. */
static int read_meta(struct lmdb_kv *k, uint64_t txn) {
  struct lmdb_look *l = k->look;
  for (unsigned i = 0; i < 2; i++) {
    const uint8_t *meta = page_at(l, i);
    if (holt_get_u64(meta + META_TXN_AT) != txn) continue;
    l->last = holt_get_u64(meta + META_LAST_AT);
    l->free_pages = root_of(meta + META_FREE_AT);
    l->all_tables = root_of(meta + META_MAIN_AT);
    if (l->last >= k->map_bytes / l->page || !is_root_sound(l, &l->free_pages) ||
        !is_root_sound(l, &l->all_tables) || holt_get_u16(meta + META_MAIN_AT + DB_FLAGS_AT) != 0)
      return MDB_CORRUPTED;
    size_t needed = (size_t)(l->last + 1) * l->page;
    return needed <= l->mapped ? 0 : map_file(k, needed + needed / 2);
  }
  return MDB_CORRUPTED;
}

static int find_table(struct lmdb_look *l, const char *name, struct root *root) {
  const uint8_t *node;
  if (!look_down(l, l->all_tables, ALL_TABLES, holt_buf_text(name), false, &node)) return MDB_CORRUPTED;
  *root = node == NULL ? NO_TABLE : root_of(data_of(node));
  return 0;
}

static int look_at_opening(void *arg) {
  struct lmdb_kv *k = arg;
  struct lmdb_look *l = k->look;
  MDB_stat stat;
  MDB_envinfo info;
  int rc = mdb_env_stat(k->mdb, &stat);
  if (rc == 0) rc = mdb_env_info(k->mdb, &info);
  if (rc != 0) return rc;
  l->page = stat.ms_psize;
  if (l->page > PAGE_MAX || l->page < 256 || info.me_last_pgno >= k->map_bytes / l->page)
    return MDB_CORRUPTED;
  rc = map_file(k, (size_t)(info.me_last_pgno + 1) * l->page);
  if (rc == 0) rc = read_meta(k, info.me_last_txnid);
  if (rc != 0) return rc;
  l->count = l->last + 1;
  l->sound = holt_alloc(l->count / 8 + 1);
  l->used = holt_alloc(l->count / 8 + 1);
  l->is_all = l->count <= LOOK_BYTES / l->page;
  if (!walk(l, l->free_pages, FREE_PAGES) || !walk(l, l->all_tables, ALL_TABLES)) return MDB_CORRUPTED;
  return 0;
}

struct stamp_search {
  MDB_env *mdb;
  MDB_txn *txn;
  bool is_found;
};

static int find_stamp(void *arg) {
  struct stamp_search *search = arg;
  MDB_dbi dbi;
  int rc = mdb_txn_begin(search->mdb, NULL, MDB_RDONLY, &search->txn);
  if (rc == 0) rc = mdb_dbi_open(search->txn, HOLT__LMDB_STAMP, 0, &dbi);
  search->is_found = rc == 0;
  return rc == MDB_NOTFOUND || rc == MDB_INCOMPATIBLE ? 0 : rc;
}

int holt__lmdb_look(struct lmdb_kv *k) {
  const uint16_t one = 1;
  struct stamp_search search = {.mdb = k->mdb};
  holt__lmdb_look_end(k);
  if (sizeof(size_t) != 8 || *(const uint8_t *)&one != 1) return 0;
  int rc = holt__lmdb_guarded(find_stamp, &search);
  if (search.txn != NULL) mdb_txn_abort(search.txn);
  if (rc != 0 || !search.is_found) return rc; /* new, or not ours: who opens it says so */
  k->look = holt_alloc(sizeof *k->look);
  rc = holt__lmdb_guarded(look_at_opening, k);
  free(k->look->used);
  k->look->used = NULL;
  if (rc != 0 || k->look->is_all) holt__lmdb_look_end(k);
  return rc == ENOMEM ? 0 : rc; /* no addresses for a map: as LMDB would without us */
}

void holt__lmdb_look_end(struct lmdb_kv *k) {
  struct lmdb_look *l = k->look;
  if (l == NULL) return;
  if (l->map != NULL) munmap((void *)(uintptr_t)l->map, l->mapped);
  free(l->sound);
  free(l);
  k->look = NULL;
}

/* --- A change --------------------------------------------------------------------------------------- */

struct looking {
  struct lmdb_kv *k;
  uint64_t txn;
  const char *name;
  uint32_t table; /* its number, or HOLT_KV_TABLES_MAX */
  struct holt_buf key;
  bool is_removed;
};

static int look_for(void *arg) {
  const struct looking *looking = arg;
  struct lmdb_look *l = looking->k->look;
  struct root root = NO_TABLE;
  const uint8_t *node;
  bool is_kept = looking->table < HOLT_KV_TABLES_MAX;
  int rc = 0;
  if (is_kept && l->tables[looking->table].txn == looking->txn) {
    root = l->tables[looking->table].root;
  } else {
    rc = read_meta(looking->k, looking->txn - 1);
    if (rc == 0) rc = find_table(l, looking->name, &root);
    if (rc == 0 && is_kept) {
      l->tables[looking->table].txn = looking->txn;
      l->tables[looking->table].root = root;
    }
  }
  if (rc != 0) return rc;
  return look_down(l, root, A_TABLE, looking->key, looking->is_removed, &node) ? 0 : MDB_CORRUPTED;
}

int holt__lmdb_look_for(struct lmdb_kv *k, MDB_txn *txn, const char *name, uint32_t table,
                        struct holt_buf key, bool is_removed) {
  struct looking looking = {
      .k = k, .txn = mdb_txn_id(txn), .name = name, .table = table, .key = key, .is_removed = is_removed};
  int rc = k->look == NULL ? 0 : holt__lmdb_guarded(look_for, &looking);
  if (rc != ENOMEM) return rc;
  holt__lmdb_look_end(k);
  return 0;
}
