/* Schemas as the C side sees them: trees in, bytes out, nothing of Lua. */
#include "unit.h"

#include "schema/schema.h"

static const struct holt_schema_library *library;

static int open_library(void **state) {
  (void)state;
  struct holt_err err = {0};
  library = holt_schema_library(&err);
  if (library == NULL) print_error("%s\n", err.message);
  return library != NULL ? 0 : -1;
}

static struct holt_schema *built(const char *text) {
  struct holt_schema *schema = library->make();
  struct holt_schema_answer answer = {0};
  assert_int_equal(library->add(schema, "t.proto", text, strlen(text), &answer), HOLT_SCHEMA_OK);
  assert_int_equal(library->build(schema, "t.proto", &answer), HOLT_SCHEMA_OK);
  holt_arena_free(&answer.arena);
  return schema;
}

static int number_of(const struct holt_schema *schema, const char *name) {
  struct holt_schema_answer answer = {0};
  int number = library->find(schema, name, &answer);
  holt_arena_free(&answer.arena);
  return number;
}

static struct holt_value text_value(const char *text) {
  struct holt_value value = {.type = HOLT_VALUE_STRING};
  value.as.text.data = text;
  value.as.text.len = strlen(text);
  return value;
}

static struct holt_value integer_value(int64_t integer) {
  struct holt_value value = {.type = HOLT_VALUE_INTEGER};
  value.as.integer = integer;
  return value;
}

static struct holt_value pairs_value(struct holt_value *items, uint32_t count) {
  struct holt_value value = {.type = HOLT_VALUE_TABLE, .count = count};
  value.as.items = items;
  return value;
}

/* --- The arena ------------------------------------------------------------------------------------ */

static void test_arena_stays_below_its_limit(void **state) {
  (void)state;
  struct holt_arena arena = {.limit_bytes = 1000};
  size_t given = 0;
  void *room;
  while ((room = holt_arena_alloc(&arena, 48)) != NULL) {
    memset(room, 0xa5, 48);
    given += 48;
  }
  assert_int_equal(given, 48 * (1000 / 48));
  assert_true(arena.is_full);
  assert_null(holt_arena_alloc(&arena, SIZE_MAX));
  holt_arena_free(&arena);
  assert_false(arena.is_full);
  assert_int_equal(arena.limit_bytes, 1000);
  assert_non_null(holt_arena_alloc(&arena, 0)); /* nothing is something: NULL means failure only */
  holt_arena_free(&arena);
}

static void test_arena_gives_room_of_any_size(void **state) {
  (void)state;
  struct holt_arena arena = {0};
  for (size_t size = 1; size < 100000; size = size * 3 + 1) {
    char *room = holt_arena_alloc(&arena, size);
    assert_non_null(room);
    assert_int_equal((uintptr_t)room % 16, 0);
    memset(room, 1, size);
  }
  assert_string_equal(holt_arena_text(&arena, "abcdef", 3), "abc");
  holt_arena_free(&arena);
}

/* --- Encoding and decoding ------------------------------------------------------------------------ */

static void test_bytes_are_those_of_protoc(void **state) {
  (void)state;
  struct holt_schema *schema =
      built("syntax = 'proto3'; message M { sint32 d = 4; map<string, int64> k = 11; }");
  struct holt_value map[] = {text_value("b"),  integer_value(2), text_value(""),
                             integer_value(0), text_value("a"),  integer_value(1)};
  struct holt_value fields[] = {text_value("k"), pairs_value(map, 3), text_value("d"), integer_value(-5)};
  struct holt_value value = pairs_value(fields, 2);
  struct holt_schema_answer answer = {0};
  assert_int_equal(library->encode(schema, 0, &value, &answer), HOLT_SCHEMA_OK);
  /* echo 'd: -5 k { key: "b" value: 2 } k { key: "" value: 0 } k { key: "a" value: 1 }' |
   * protoc --deterministic_output --encode=M */
  static const char expected[] = "\x20\x09\x5a\x04\x0a\x00\x10\x00\x5a\x05\x0a\x01"
                                 "a\x10\x01\x5a\x05\x0a\x01"
                                 "b\x10\x02";
  assert_int_equal(answer.bytes_len, sizeof expected - 1);
  assert_memory_equal(answer.bytes, expected, sizeof expected - 1);

  struct holt_schema_answer back = {0};
  assert_int_equal(library->decode(schema, 0, answer.bytes, answer.bytes_len, true, &back), HOLT_SCHEMA_OK);
  assert_int_equal(back.value.type, HOLT_VALUE_TABLE);
  assert_int_equal(back.value.count, 2);
  assert_int_equal(back.value.as.items[1].as.integer, -5);
  assert_int_equal(back.value.as.items[3].count, 3);
  holt_arena_free(&back.arena);
  holt_arena_free(&answer.arena);
  library->destroy(schema);
}

static void test_every_cut_of_a_message_is_refused_or_read(void **state) {
  (void)state;
  struct holt_schema *schema =
      built("message M { required string a = 1; repeated M m = 2; required int32 z = 3; }");
  static const char bytes[] = "\x0a\x02hi\x12\x06\x0a\x01x\x18\xac\x02\x18\x07";
  size_t len = sizeof bytes - 1;
  for (size_t cut = 0; cut <= len; cut++) {
    char *copy = malloc(cut + 1); /* a read behind its end shows under the sanitizer */
    memcpy(copy, bytes, cut);
    struct holt_schema_answer answer = {0};
    int status = library->decode(schema, 0, copy, cut, true, &answer);
    assert_int_equal(status, cut == len ? HOLT_SCHEMA_OK : HOLT_SCHEMA_REFUSED);
    holt_arena_free(&answer.arena);
    free(copy);
  }
  library->destroy(schema);
}

static void test_depth_is_the_same_in_both_directions(void **state) {
  (void)state;
  struct holt_schema *schema = built("message M { optional M m = 1; }");
  enum { DEEPEST = HOLT_SCHEMA_DEPTH_MAX };
  struct holt_value level[DEEPEST + 2][2];
  struct holt_value value = {.type = HOLT_VALUE_LIST}; /* an empty table */
  struct holt_schema_answer answer = {0};
  for (int i = 0; i <= DEEPEST; i++) {
    holt_arena_free(&answer.arena);
    answer = (struct holt_schema_answer){0};
    int status = library->encode(schema, 0, &value, &answer);
    assert_int_equal(status, HOLT_SCHEMA_OK);
    struct holt_schema_answer back = {0};
    assert_int_equal(library->decode(schema, 0, answer.bytes, answer.bytes_len, true, &back), HOLT_SCHEMA_OK);
    holt_arena_free(&back.arena);
    level[i][0] = text_value("m");
    level[i][1] = value;
    value = pairs_value(level[i], 1);
  }
  /* One level more: neither is it written, nor would it be read. */
  char deeper[4096] = {0};
  size_t len = answer.bytes_len;
  assert_in_range(len, 128, 4000); /* so that its length takes two bytes */
  deeper[0] = 0x0a;
  deeper[1] = (char)(len & 0x7f) | (char)0x80;
  deeper[2] = (char)(len >> 7);
  memcpy(deeper + 3, answer.bytes, len);
  holt_arena_free(&answer.arena);
  answer = (struct holt_schema_answer){0};
  assert_int_equal(library->encode(schema, 0, &value, &answer), HOLT_SCHEMA_REFUSED);
  assert_non_null(strstr(answer.text, "more than 100 deep"));
  holt_arena_free(&answer.arena);
  answer = (struct holt_schema_answer){0};
  assert_int_equal(library->decode(schema, 0, deeper, len + 3, true, &answer), HOLT_SCHEMA_REFUSED);
  holt_arena_free(&answer.arena);
  library->destroy(schema);
}

static void test_values_stop_at_the_limit_of_the_arena(void **state) {
  (void)state;
  struct holt_schema *schema = built("message M { repeated bool b = 1 [packed = true]; }");
  size_t count = 100000;
  char *bytes = calloc(1, count + 4);
  memcpy(bytes, "\x0a\xa0\x8d\x06", 4); /* 100,000 as a varint */
  struct holt_schema_answer answer = {.arena = {.limit_bytes = 1000000}};
  assert_int_equal(library->decode(schema, 0, bytes, count + 4, true, &answer), HOLT_SCHEMA_TOO_LARGE);
  assert_string_equal(answer.text, "its values would take too much memory");
  holt_arena_free(&answer.arena);
  answer = (struct holt_schema_answer){0};
  assert_int_equal(library->decode(schema, 0, bytes, count + 4, true, &answer), HOLT_SCHEMA_OK);
  assert_int_equal(answer.value.as.items[1].count, count);
  holt_arena_free(&answer.arena);
  free(bytes);
  library->destroy(schema);
}

/* --- Schemas -------------------------------------------------------------------------------------- */

static void test_missing_imports_are_told_one_by_one(void **state) {
  (void)state;
  struct holt_schema *schema = library->make();
  static const char root[] =
      "import 'google/protobuf/timestamp.proto';\n import 'b.proto'; message A { optional B b = 1; }";
  static const char other[] = "message B {}";
  struct holt_schema_answer answer = {0};
  assert_int_equal(library->add(schema, "a.proto", root, sizeof root - 1, &answer), HOLT_SCHEMA_OK);
  assert_int_equal(library->missing(schema, &answer), HOLT_SCHEMA_OK);
  assert_string_equal(answer.bytes, "b.proto");
  assert_string_equal(answer.text, "a.proto:2:2");
  holt_arena_free(&answer.arena);
  answer = (struct holt_schema_answer){0};
  assert_int_equal(library->add(schema, "b.proto", other, sizeof other - 1, &answer), HOLT_SCHEMA_OK);
  assert_int_equal(library->missing(schema, &answer), HOLT_SCHEMA_OK);
  assert_null(answer.bytes);
  assert_int_equal(library->build(schema, "a.proto", &answer), HOLT_SCHEMA_OK);
  assert_int_equal(number_of(schema, "A"), 0); /* the root's own come first */
  assert_true(number_of(schema, "B") > 0);
  assert_true(number_of(schema, "google.protobuf.Timestamp") > 0);
  assert_int_equal(number_of(schema, "C"), -1);
  holt_arena_free(&answer.arena);
  library->destroy(schema);
}

static void test_brackets_too_deep_are_refused_before_the_parser_sees_them(void **state) {
  (void)state;
  struct holt_schema *schema = library->make();
  size_t count = 300000;
  char *text = malloc(count * 2 + 1);
  size_t len = 0;
  for (size_t i = 0; i < count; i++) text[len++] = '{';
  struct holt_schema_answer answer = {0};
  assert_int_equal(library->add(schema, "deep.proto", text, len, &answer), HOLT_SCHEMA_REFUSED);
  assert_string_equal(answer.text, "deep.proto:1:101: brackets lie more than 100 deep");
  holt_arena_free(&answer.arena);
  free(text);
  library->destroy(schema);
}

static void test_a_stored_schema_is_the_same_again(void **state) {
  (void)state;
  struct holt_schema *schema =
      built("syntax = 'proto3'; package p; message M { optional int32 a = 1; oneof o { M m = 2; } }");
  struct holt_schema_answer set = {0}, answer = {0}, again = {0};
  assert_int_equal(library->bytes(schema, &set), HOLT_SCHEMA_OK);
  struct holt_schema *copy = library->make();
  assert_int_equal(library->load(copy, set.bytes, set.bytes_len, &answer), HOLT_SCHEMA_OK);
  assert_string_equal(answer.bytes, "t.proto");
  assert_int_equal(library->build(copy, answer.bytes, &answer), HOLT_SCHEMA_OK);
  assert_int_equal(library->bytes(copy, &again), HOLT_SCHEMA_OK);
  assert_int_equal(set.bytes_len, again.bytes_len);
  assert_memory_equal(set.bytes, again.bytes, set.bytes_len);
  holt_arena_free(&set.arena);
  holt_arena_free(&answer.arena);
  holt_arena_free(&again.arena);
  library->destroy(copy);
  library->destroy(schema);
}

static void test_damaged_stored_schemas_never_crash(void **state) {
  (void)state;
  struct holt_schema *schema = built(
      "package p; enum E { A = 0; } message M { optional E a = 1 [default = A]; map<int32, M> m = 2; }");
  struct holt_schema_answer set = {0};
  assert_int_equal(library->bytes(schema, &set), HOLT_SCHEMA_OK);
  int refused = 0;
  for (size_t i = 0; i < set.bytes_len; i++) {
    char *copy = malloc(set.bytes_len);
    memcpy(copy, set.bytes, set.bytes_len);
    copy[i] ^= (char)(1 + i % 255);
    struct holt_schema *other = library->make();
    struct holt_schema_answer answer = {0};
    int status = library->load(other, copy, set.bytes_len, &answer);
    if (status == HOLT_SCHEMA_OK) status = library->build(other, answer.bytes, &answer);
    if (status != HOLT_SCHEMA_OK) {
      assert_true(answer.text_len > 0);
      refused++;
    }
    holt_arena_free(&answer.arena);
    library->destroy(other);
    free(copy);
  }
  assert_true(refused > 10);
  holt_arena_free(&set.arena);
  library->destroy(schema);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_arena_stays_below_its_limit),
      cmocka_unit_test(test_arena_gives_room_of_any_size),
      cmocka_unit_test(test_bytes_are_those_of_protoc),
      cmocka_unit_test(test_every_cut_of_a_message_is_refused_or_read),
      cmocka_unit_test(test_depth_is_the_same_in_both_directions),
      cmocka_unit_test(test_values_stop_at_the_limit_of_the_arena),
      cmocka_unit_test(test_missing_imports_are_told_one_by_one),
      cmocka_unit_test(test_brackets_too_deep_are_refused_before_the_parser_sees_them),
      cmocka_unit_test(test_a_stored_schema_is_the_same_again),
      cmocka_unit_test(test_damaged_stored_schemas_never_crash),
  };
  return cmocka_run_group_tests(tests, open_library, NULL);
}
