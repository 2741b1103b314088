/* Collections: the tree against a plain model, what each operation answers, snapshots, and bad bytes. */
#include <stdlib.h>

#include "base/rand.h"
#include "collections/collections.h"
#include "unit.h"

/* --- The tree ------------------------------------------------------------------------------------------ */

enum { KEYS = 3000 };

struct model {
  uint64_t values[KEYS]; /* 0: absent */
};

static struct holt_buf key_of(uint32_t n, char out[16]) {
  snprintf(out, 16, "k%u", n * 7919 % KEYS);
  return holt_buf_text(out);
}

static void assert_same(const struct holt_tree *tree, const struct model *model) {
  char text[16];
  size_t count = 0;
  for (uint32_t n = 0; n < KEYS; n++) {
    const struct holt_item *item = holt_tree_get(tree, key_of(n, text));
    assert_int_equal(item ? item->revision : 0, model->values[n]);
    count += item != NULL;
  }
  assert_int_equal(tree->count, count);
  struct holt_cursor cursor;
  holt_cursor_seek(&cursor, tree, holt_buf(NULL, 0));
  char last[16] = "";
  size_t seen = 0;
  for (const struct holt_item *item; (item = holt_cursor_next(&cursor)) != NULL; seen++) {
    char now[16] = "";
    memcpy(now, item->bytes, item->key_len);
    assert_true(strcmp(last, now) < 0);
    strcpy(last, now);
  }
  assert_int_equal(seen, count);
}

static void churn(struct holt_tree *tree, struct model *model, struct holt_rand *rand, int steps,
                  uint32_t bias) {
  for (int i = 0; i < steps; i++) {
    char text[16];
    uint32_t n = (uint32_t)holt_rand_below(rand, KEYS);
    struct holt_buf key = key_of(n, text);
    if (holt_rand_below(rand, 100) < bias) {
      uint64_t value = 1 + holt_rand_below(rand, 1000000);
      struct holt_item *old = holt_tree_put(tree, holt_item_new(key, key, value));
      assert_int_equal(old ? old->revision : 0, model->values[n]);
      holt_item_drop(old);
      model->values[n] = value;
    } else {
      struct holt_item *old = holt_tree_remove(tree, key);
      assert_int_equal(old ? old->revision : 0, model->values[n]);
      holt_item_drop(old);
      model->values[n] = 0;
    }
  }
}

static void a_tree_holds_what_a_plain_table_would(void **state) {
  (void)state;
  struct holt_rand rand;
  for (uint64_t seed = 1; seed <= 5; seed++) {
    holt_rand_seed(&rand, seed);
    struct holt_tree tree = {0};
    static struct model model;
    memset(&model, 0, sizeof model);
    uint32_t biases[] = {90, 50, 10, 70, 0};
    for (size_t i = 0; i < 5; i++) {
      churn(&tree, &model, &rand, 6000, biases[i]);
      assert_same(&tree, &model);
    }
    holt_tree_clear(&tree);
  }
}

static void a_shared_tree_does_not_see_later_changes(void **state) {
  (void)state;
  struct holt_rand rand;
  holt_rand_seed(&rand, 11);
  enum { SHARES = 8 };
  static struct model now, then[SHARES];
  struct holt_tree tree = {0}, shares[SHARES];
  memset(&now, 0, sizeof now);
  for (int i = 0; i < SHARES; i++) {
    churn(&tree, &now, &rand, 1500, 60);
    shares[i] = holt_tree_share(&tree);
    then[i] = now;
  }
  churn(&tree, &now, &rand, 8000, 30);
  churn(&shares[0], &then[0], &rand, 3000, 40); /* a share may be changed as well */
  for (int i = 0; i < SHARES; i++) {
    assert_same(&shares[i], &then[i]);
    holt_tree_clear(&shares[i]);
  }
  assert_same(&tree, &now);
  struct holt_grave grave = {0};
  holt_tree_bury(&tree, &grave);
  assert_int_equal(tree.count, 0);
  while (holt_grave_dig(&grave, 3)) continue;
  holt_grave_free(&grave);
}

static void a_walk_begins_at_the_key_sought(void **state) {
  (void)state;
  struct holt_tree tree = {0};
  for (uint32_t i = 0; i < 1000; i += 2) {
    char text[16];
    snprintf(text, sizeof text, "%06u", i);
    assert_null(holt_tree_put(&tree, holt_item_new(holt_buf_text(text), holt_buf(NULL, 0), i)));
  }
  for (uint32_t i = 0; i < 1000; i++) {
    char text[16];
    snprintf(text, sizeof text, "%06u", i);
    struct holt_cursor cursor;
    holt_cursor_seek(&cursor, &tree, holt_buf_text(text));
    for (uint32_t want = i + (i & 1); want < 1000; want += 2) {
      const struct holt_item *item = holt_cursor_next(&cursor);
      assert_non_null(item);
      assert_int_equal(item->revision, want);
      if (want > i + 100) break;
    }
  }
  holt_tree_clear(&tree);
}

/* --- Operations ---------------------------------------------------------------------------------------- */

struct bench {
  struct holt_collections *c;
  struct holt_writer answer;
  struct holt_answer read;
  uint64_t revision;
};

static struct holt_buf B(const char *text) {
  return text ? holt_buf_text(text) : holt_buf(NULL, 0);
}

static void
apply(struct bench *b, struct holt_writer *command) {
  b->answer.len = 0;
  holt_collections_apply(b->c, ++b->revision, holt_buf(command->data, command->len), &b->answer);
  assert_int_equal(holt_answer_read(&b->read, holt_buf(b->answer.data, b->answer.len)), 0);
  holt_writer_free(command);
}

/* One operation on one object; returns its result. */
static struct holt_result one(struct bench *b, uint8_t kind, const char *name, uint8_t op, const char *key,
                              const char *value, const char *expected) {
  struct holt_writer out = {0};
  struct holt_command command;
  holt_command_begin(&command, &out, false);
  uint8_t object = holt_command_object(&command, kind, name, B("o"));
  holt_command_op(&command, object, op, B(key), B(value), B(expected));
  holt_command_end(&command);
  apply(b, &out);
  assert_int_equal(b->read.type, HOLT_ANSWER_DONE);
  struct holt_result result;
  assert_int_equal(holt_answer_next(&b->read, &result), 0);
  struct holt_result none;
  assert_int_equal(holt_answer_next(&b->read, &none), HOLT_ENOTFOUND);
  return result;
}

static void assert_result(struct holt_result result, bool is_done, const char *value) {
  assert_int_equal(result.is_done, is_done);
  assert_int_equal(result.has_value, value != NULL);
  if (!value) return;
  assert_int_equal(result.value.len, strlen(value));
  assert_memory_equal(result.value.data, value, strlen(value));
}

static int set_up(void **state) {
  struct bench *b = calloc(1, sizeof *b);
  b->c = holt_collections_new();
  *state = b;
  return 0;
}

static int tear_down(void **state) {
  struct bench *b = *state;
  while (holt_collections_tidy(b->c)) continue;
  holt_collections_free(b->c);
  holt_writer_free(&b->answer);
  free(b);
  return 0;
}

static void each_operation_on_a_map_answers(void **state) {
  struct bench *b = *state;
#define MAP(op, key, value, expected) one(b, HOLT_KIND_MAP, "m", op, key, value, expected)
  assert_result(MAP(HOLT_OP_SET, "a", "1", NULL), true, NULL);
  assert_result(MAP(HOLT_OP_SET, "a", "2", NULL), true, "1");
  assert_result(MAP(HOLT_OP_INSERT, "a", "3", NULL), false, "2");
  assert_result(MAP(HOLT_OP_INSERT, "b", "3", NULL), true, NULL);
  assert_result(MAP(HOLT_OP_UPDATE, "c", "3", NULL), false, NULL);
  assert_result(MAP(HOLT_OP_UPDATE, "b", "4", NULL), true, "3");
  assert_result(MAP(HOLT_OP_UPDATE_IF, "b", "5", "3"), false, "4");
  assert_result(MAP(HOLT_OP_UPDATE_IF, "b", "5", "4"), true, "4");
  assert_result(MAP(HOLT_OP_UPDATE_IF, "c", "5", "4"), false, NULL);
  assert_result(MAP(HOLT_OP_REMOVE_IF, "b", NULL, "4"), false, "5");
  assert_result(MAP(HOLT_OP_REMOVE_IF, "b", NULL, "5"), true, "5");
  assert_result(MAP(HOLT_OP_REMOVE, "b", NULL, NULL), false, NULL);
  assert_result(MAP(HOLT_OP_REMOVE, "a", NULL, NULL), true, "2");
  assert_result(MAP(HOLT_OP_SET, "", "", NULL), true, NULL); /* empty keys and values are keys and values */
  assert_result(MAP(HOLT_OP_CLEAR, NULL, NULL, NULL), true, NULL);
  assert_int_equal(holt_collections_find(b->c, "m")->tree.count, 0);
#undef MAP
}

static void a_queue_gives_items_in_the_order_they_came(void **state) {
  struct bench *b = *state;
  char text[16];
  for (int i = 0; i < 300; i++) {
    snprintf(text, sizeof text, "%d", i);
    assert_result(one(b, HOLT_KIND_QUEUE, "q", HOLT_OP_PUSH, NULL, text, NULL), true, NULL);
  }
  for (int i = 0; i < 300; i++) {
    snprintf(text, sizeof text, "%d", i);
    struct holt_result result = one(b, HOLT_KIND_QUEUE, "q", HOLT_OP_POP, NULL, NULL, NULL);
    assert_result(result, true, text);
  }
  assert_result(one(b, HOLT_KIND_QUEUE, "q", HOLT_OP_POP, NULL, NULL, NULL), false, NULL);
  const struct holt_object *q = holt_collections_find(b->c, "q");
  assert_int_equal(q->head, 300);
  assert_int_equal(q->tail, 300);
  one(b, HOLT_KIND_QUEUE, "q", HOLT_OP_PUSH, NULL, "x", NULL);
  one(b, HOLT_KIND_QUEUE, "q", HOLT_OP_CLEAR, NULL, NULL, NULL);
  one(b, HOLT_KIND_QUEUE, "q", HOLT_OP_PUSH, NULL, "y", NULL);
  assert_result(one(b, HOLT_KIND_QUEUE, "q", HOLT_OP_POP, NULL, NULL, NULL), true, "y");
}

static void subscribe(struct bench *b, const char *event, uint64_t member, uint8_t op) {
  uint8_t key[64];
  size_t len = strlen(event);
  memcpy(key, event, len + 1);
  for (int i = 0; i < 8; i++) key[len + 1 + (size_t)i] = (uint8_t)(member >> (56 - 8 * i));
  struct holt_writer out = {0};
  struct holt_command command;
  holt_command_begin(&command, &out, false);
  uint8_t object = holt_command_object(&command, HOLT_KIND_EMITTER, "e", B("o"));
  holt_command_op(&command, object, op, holt_buf(key, len + 9), B("meta"), B(NULL));
  holt_command_end(&command);
  apply(b, &out);
  assert_int_equal(b->read.type, HOLT_ANSWER_DONE);
}

static void a_member_that_leaves_takes_its_subscriptions_along(void **state) {
  struct bench *b = *state;
  subscribe(b, "fire", 1, HOLT_OP_SET);
  subscribe(b, "fire", 2, HOLT_OP_SET);
  subscribe(b, "flood", 1, HOLT_OP_SET);
  subscribe(b, "flood", 0x0100, HOLT_OP_SET);
  const struct holt_object *e = holt_collections_find(b->c, "e");
  assert_int_equal(e->tree.count, 4);
  subscribe(b, "fire", 2, HOLT_OP_REMOVE);
  assert_int_equal(e->tree.count, 3);
  holt_collections_member_left(b->c, ++b->revision, 1);
  assert_int_equal(e->tree.count, 1);
  struct holt_item *left = holt_tree_first(&e->tree);
  assert_memory_equal(left->bytes, "flood", 6);
}

static void all_conditions_hold_or_nothing_is_done(void **state) {
  struct bench *b = *state;
  one(b, HOLT_KIND_MAP, "stock", HOLT_OP_SET, "apple", "3", NULL);
  uint64_t apple = b->revision;
  for (int round = 0; round < 2; round++) { /* the second one meets the first one's changes */
    struct holt_writer out = {0};
    struct holt_command command;
    holt_command_begin(&command, &out, false);
    uint8_t stock = holt_command_object(&command, HOLT_KIND_MAP, "stock", B("o"));
    uint8_t jobs = holt_command_object(&command, HOLT_KIND_QUEUE, "jobs", B("o"));
    holt_command_condition(&command, stock, HOLT_IF_EQUAL, B("apple"), B("3"), 0);
    holt_command_condition(&command, stock, HOLT_IF_REVISION, B("apple"), B(NULL), apple);
    holt_command_condition(&command, stock, HOLT_IF_ABSENT, B("pear"), B(NULL), 0);
    holt_command_condition(&command, jobs, HOLT_IF_UNCHANGED, B(NULL), B(NULL), 0);
    holt_command_op(&command, stock, HOLT_OP_SET, B("apple"), B("3"), B(NULL));
    holt_command_op(&command, jobs, HOLT_OP_PUSH, B(NULL), B("ship"), B(NULL));
    holt_command_end(&command);
    apply(b, &out);
    assert_int_equal(b->read.type, round == 0 ? HOLT_ANSWER_DONE : HOLT_ANSWER_CONFLICT);
    if (round == 1) assert_int_equal(b->read.at, 1); /* equal, but touched since */
    assert_int_equal(holt_collections_find(b->c, "jobs")->tree.count, 1);
  }
}

static void a_name_means_one_kind_and_one_set_of_options(void **state) {
  struct bench *b = *state;
  one(b, HOLT_KIND_MAP, "m", HOLT_OP_SET, "a", "1", NULL);
  uint64_t hash = holt_collections_hash(b->c);
  const struct {
    uint8_t kind;
    const char *options;
    int code;
  } cases[] = {
      {HOLT_KIND_RECORD, "o", HOLT_EWRONGKIND}, {HOLT_KIND_MAP, "p", HOLT_EOPTIONS}, {HOLT_KIND_MAP, "", 0}};
  for (size_t i = 0; i < 3; i++) {
    struct holt_writer out = {0};
    struct holt_command command;
    holt_command_begin(&command, &out, false);
    uint8_t fresh = holt_command_object(&command, HOLT_KIND_MAP, "fresh", B("o"));
    uint8_t object = holt_command_object(&command, cases[i].kind, "m", B(cases[i].options));
    holt_command_op(&command, fresh, HOLT_OP_SET, B("a"), B("1"), B(NULL));
    holt_command_op(&command, object, HOLT_OP_SET, B("a"), B("1"), B(NULL));
    holt_command_end(&command);
    apply(b, &out);
    if (cases[i].code == 0) {
      assert_int_equal(b->read.type, HOLT_ANSWER_DONE);
      continue;
    }
    assert_int_equal(b->read.type, HOLT_ANSWER_ERROR);
    assert_int_equal(b->read.code, cases[i].code);
    assert_int_equal(b->read.at, 1);
    assert_null(holt_collections_find(b->c, "fresh")); /* nothing at all was done */
    assert_int_equal(holt_collections_hash(b->c), hash);
  }
}

/* --- Changes told -------------------------------------------------------------------------------------- */

static void note(void *arg, struct holt_object *object, enum holt_change_type type, struct holt_item *old,
                 struct holt_item *now, uint64_t revision) {
  struct holt_writer *log = arg;
  char line[160];
  static const char *const NAMES[] = {"", "insert", "update", "remove", "clear"};
  const struct holt_item *any = now ? now : old;
  int len = snprintf(line, sizeof line, "%s %s %.*s %.*s>%.*s @%d\n", object->name, NAMES[type],
                     any ? (int)any->key_len : 0, any ? (const char *)any->bytes : "",
                     old ? (int)old->value_len : 0, old ? (const char *)holt_item_value(old).data : "",
                     now ? (int)now->value_len : 0, now ? (const char *)holt_item_value(now).data : "",
                     (int)revision);
  holt_write_bytes(log, line, (size_t)len);
}

static void watchers_are_told_of_changes_in_their_order(void **state) {
  struct bench *b = *state;
  struct holt_writer log = {0};
  holt_collections_on_change(b->c, note, &log);
  one(b, HOLT_KIND_MAP, "m", HOLT_OP_SET, "a", "0", NULL); /* nobody watches yet */
  holt_collections_find(b->c, "m")->watchers = 1;
  one(b, HOLT_KIND_MAP, "m", HOLT_OP_SET, "a", "1", NULL);
  one(b, HOLT_KIND_MAP, "m", HOLT_OP_INSERT, "b", "2", NULL);
  one(b, HOLT_KIND_MAP, "m", HOLT_OP_INSERT, "b", "3", NULL); /* refused: no change */
  one(b, HOLT_KIND_MAP, "m", HOLT_OP_REMOVE, "a", NULL, NULL);
  one(b, HOLT_KIND_MAP, "m", HOLT_OP_CLEAR, NULL, NULL, NULL);
  struct holt_writer out = {0};
  struct holt_command command;
  holt_command_begin(&command, &out, true);
  uint8_t object = holt_command_object(&command, HOLT_KIND_MAP, "m", B("o"));
  holt_command_op(&command, object, HOLT_OP_SET, B("z"), B("9"), B(NULL));
  holt_command_end(&command);
  apply(b, &out); /* silent */
  holt_write_u8(&log, 0);
  assert_string_equal((char *)log.data,
                      "m update a 0>1 @2\nm insert b >2 @3\nm remove a 1> @5\nm clear  > @6\n");
  holt_writer_free(&log);
}

/* --- Snapshots and hash -------------------------------------------------------------------------------- */

static void random_command(struct bench *b, struct holt_rand *rand) {
  char key[16], value[40];
  snprintf(key, sizeof key, "k%u", (unsigned)holt_rand_below(rand, 200));
  snprintf(value, sizeof value, "v%0*u", (int)holt_rand_below(rand, 30), (unsigned)holt_rand_below(rand, 10));
  static const uint8_t OPS[] = {HOLT_OP_SET, HOLT_OP_SET, HOLT_OP_INSERT, HOLT_OP_REMOVE, HOLT_OP_UPDATE_IF};
  uint64_t choice = holt_rand_below(rand, 100);
  if (choice < 60)
    one(b, HOLT_KIND_MAP, choice % 2 ? "m1" : "m2", OPS[holt_rand_below(rand, 5)], key, value, "v1");
  else if (choice < 75)
    one(b, HOLT_KIND_QUEUE, "q", HOLT_OP_PUSH, NULL, value, NULL);
  else if (choice < 88)
    one(b, HOLT_KIND_QUEUE, "q", HOLT_OP_POP, NULL, NULL, NULL);
  else if (choice < 90)
    one(b, HOLT_KIND_MAP, "m2", HOLT_OP_CLEAR, NULL, NULL, NULL);
  else
    subscribe(b, key, holt_rand_below(rand, 5), choice % 2 ? HOLT_OP_SET : HOLT_OP_REMOVE);
}

static void all_bytes(struct holt_frozen *frozen, struct holt_writer *out, struct holt_rand *rand) {
  uint64_t size = holt_frozen_size(frozen);
  for (;;) {
    uint8_t piece[700];
    size_t len = holt_frozen_read(frozen, piece, 1 + (size_t)holt_rand_below(rand, sizeof piece));
    if (len == 0) break;
    holt_write_bytes(out, piece, len);
  }
  assert_int_equal(out->len, size);
}

static int feed_all(struct holt_restore *restore, struct holt_buf bytes, struct holt_rand *rand) {
  for (size_t at = 0; at < bytes.len;) {
    size_t len = 1 + (size_t)holt_rand_below(rand, 900);
    if (len > bytes.len - at) len = bytes.len - at;
    int rc = holt_restore_feed(restore, holt_buf(bytes.data + at, len));
    if (rc != 0) return rc;
    at += len;
  }
  return 0;
}

static void a_snapshot_is_the_state_when_it_was_frozen_and_restores_to_it(void **state) {
  struct bench *b = *state;
  struct holt_rand rand;
  holt_rand_seed(&rand, 3);
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < 300; i++) random_command(b, &rand);
    struct holt_frozen *frozen = holt_collections_freeze(b->c);
    uint64_t hash = holt_collections_hash(b->c), revision = b->revision;
    struct holt_rand later = rand;
    for (int i = 0; i < 300; i++) random_command(b, &rand); /* the original goes on meanwhile */
    struct holt_writer bytes = {0};
    all_bytes(frozen, &bytes, &rand);
    holt_frozen_free(frozen);

    struct holt_restore *restore = holt_restore_new();
    struct bench twin = {.revision = revision};
    assert_int_equal(feed_all(restore, holt_buf(bytes.data, bytes.len), &rand), 0);
    assert_int_equal(holt_restore_finish(restore, &twin.c), 0);
    holt_restore_free(restore);
    assert_int_equal(holt_collections_hash(twin.c), hash);
    for (int i = 0; i < 300; i++)
      random_command(&twin, &later); /* the same commands lead to the same state */
    assert_int_equal(holt_collections_hash(twin.c), holt_collections_hash(b->c));
    while (holt_collections_tidy(twin.c)) continue;
    holt_collections_free(twin.c);
    holt_writer_free(&twin.answer);
    holt_writer_free(&bytes);
  }
}

static void a_damaged_snapshot_is_refused(void **state) {
  struct bench *b = *state;
  struct holt_rand rand;
  holt_rand_seed(&rand, 4);
  for (int i = 0; i < 60; i++) random_command(b, &rand);
  struct holt_frozen *frozen = holt_collections_freeze(b->c);
  struct holt_writer bytes = {0};
  all_bytes(frozen, &bytes, &rand);
  holt_frozen_free(frozen);
  for (size_t bit = 0; bit < bytes.len * 8; bit++) {
    bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    struct holt_restore *restore = holt_restore_new();
    struct holt_collections *out = NULL;
    int rc = feed_all(restore, holt_buf(bytes.data, bytes.len), &rand);
    if (rc == 0) rc = holt_restore_finish(restore, &out);
    assert_int_equal(rc, HOLT_EPROTOCOL);
    holt_restore_free(restore);
    bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  for (size_t len = 0; len < bytes.len; len++) {
    struct holt_restore *restore = holt_restore_new();
    struct holt_collections *out = NULL;
    int rc = feed_all(restore, holt_buf(bytes.data, len), &rand);
    if (rc == 0) rc = holt_restore_finish(restore, &out);
    assert_int_equal(rc, HOLT_EPROTOCOL);
    holt_restore_free(restore);
  }
  holt_writer_free(&bytes);
}

static void bytes_that_are_no_command_are_answered_and_change_nothing(void **state) {
  struct bench *b = *state;
  struct holt_rand rand;
  holt_rand_seed(&rand, 5);
  one(b, HOLT_KIND_MAP, "m", HOLT_OP_SET, "a", "1", NULL);
  struct holt_writer good = {0};
  struct holt_command command;
  holt_command_begin(&command, &good, false);
  uint8_t m = holt_command_object(&command, HOLT_KIND_MAP, "m", B("o"));
  uint8_t q = holt_command_object(&command, HOLT_KIND_QUEUE, "q", B("o"));
  holt_command_condition(&command, m, HOLT_IF_EQUAL, B("a"), B("1"), 0);
  holt_command_op(&command, m, HOLT_OP_UPDATE_IF, B("a"), B("1"), B("1"));
  holt_command_op(&command, q, HOLT_OP_PUSH, B(NULL), B("x"), B(NULL));
  holt_command_end(&command);
  unsigned refused = 0;
  for (int i = 0; i < 20000; i++) {
    struct holt_writer bytes = {0};
    holt_write_bytes(&bytes, good.data, good.len);
    for (uint64_t n = 1 + holt_rand_below(&rand, 3); n > 0; n--)
      bytes.data[holt_rand_below(&rand, bytes.len)] = (uint8_t)holt_rand_next(&rand);
    if (holt_rand_below(&rand, 3) == 0) bytes.len = (size_t)holt_rand_below(&rand, bytes.len);
    uint64_t hash = holt_collections_hash(b->c);
    apply(b, &bytes);
    if (b->read.type == HOLT_ANSWER_DONE) continue;
    assert_int_equal(holt_collections_hash(b->c), hash);
    refused++;
  }
  assert_true(refused > 10000);
  holt_writer_free(&good);
}

int main(void) {
#define STORY(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_tree_holds_what_a_plain_table_would),
      cmocka_unit_test(a_shared_tree_does_not_see_later_changes),
      cmocka_unit_test(a_walk_begins_at_the_key_sought),
      STORY(each_operation_on_a_map_answers),
      STORY(a_queue_gives_items_in_the_order_they_came),
      STORY(a_member_that_leaves_takes_its_subscriptions_along),
      STORY(all_conditions_hold_or_nothing_is_done),
      STORY(a_name_means_one_kind_and_one_set_of_options),
      STORY(watchers_are_told_of_changes_in_their_order),
      STORY(a_snapshot_is_the_state_when_it_was_frozen_and_restores_to_it),
      STORY(a_damaged_snapshot_is_refused),
      STORY(bytes_that_are_no_command_are_answered_and_change_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
