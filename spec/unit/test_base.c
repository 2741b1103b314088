/* The base library: map, heap, buffers, chance, errors. */
#include "base/buf.h"
#include "base/err.h"
#include "base/heap.h"
#include "base/map.h"
#include "base/rand.h"
#include "unit.h"

static void a_map_agrees_with_an_array_under_random_operations(void **state) {
  (void)state;
  struct holt_rand rand;
  struct holt_map map = {0};
  void *expected[257] = {0};
  size_t count = 0;
  holt_rand_seed(&rand, 7);
  for (int i = 0; i < 100000; i++) {
    uint64_t key = holt_rand_below(&rand, 257);
    void *value = (void *)(uintptr_t)(1 + holt_rand_below(&rand, 1000));
    if (holt_rand_below(&rand, 2) == 0) {
      assert_ptr_equal(holt_map_set(&map, key, value), expected[key]);
      count += expected[key] == NULL;
      expected[key] = value;
    } else {
      assert_ptr_equal(holt_map_remove(&map, key), expected[key]);
      count -= expected[key] != NULL;
      expected[key] = NULL;
    }
    assert_int_equal(map.count, count);
  }
  for (uint64_t key = 0; key < 257; key++) assert_ptr_equal(holt_map_get(&map, key), expected[key]);
  holt_map_free(&map);
}

static void a_heap_gives_back_in_order_and_equals_in_the_order_they_came(void **state) {
  (void)state;
  struct holt_rand rand;
  struct holt_heap heap = {0};
  struct holt_heap_node nodes[500] = {0};
  holt_rand_seed(&rand, 3);
  for (int i = 0; i < 500; i++) holt_heap_push(&heap, &nodes[i], holt_rand_below(&rand, 50));
  for (int i = 0; i < 500; i += 3) holt_heap_remove(&heap, &nodes[i]);
  uint64_t key = 0, order = 0;
  size_t left = heap.count;
  for (; left > 0; left--) {
    struct holt_heap_node *first = holt_heap_first(&heap);
    assert_true(first->key > key || (first->key == key && first->order >= order));
    key = first->key;
    order = first->order;
    holt_heap_remove(&heap, first);
    assert_false(holt_heap_holds(first));
  }
  assert_null(holt_heap_first(&heap));
  holt_heap_free(&heap);
}

static void a_reader_stops_at_its_end_and_stays_failed(void **state) {
  (void)state;
  struct holt_writer w = {0};
  char text[256];
  holt_write_u16(&w, 0x1234);
  holt_write_u64(&w, 0x0102030405060708);
  holt_write_text8(&w, "otter");
  struct holt_reader r = holt_reader(holt_buf(w.data, w.len));
  assert_int_equal(holt_read_u16(&r), 0x1234);
  assert_int_equal(holt_read_u64(&r), 0x0102030405060708);
  holt_read_text8(&r, text);
  assert_string_equal(text, "otter");
  assert_false(r.failed);
  assert_int_equal(holt_read_u8(&r), 0);
  assert_true(r.failed);
  r = holt_reader(holt_buf(w.data, 5));
  assert_int_equal(holt_read_u64(&r), 0);
  assert_int_equal(holt_read_u8(&r), 0); /* though a byte would be there */
  assert_true(r.failed);
  holt_writer_free(&w);
}

static void numbers_are_little_endian(void **state) {
  (void)state;
  uint8_t bytes[4];
  const uint8_t expected[4] = {0x78, 0x56, 0x34, 0x12};
  holt_put_u32(bytes, 0x12345678);
  assert_memory_equal(bytes, expected, 4);
  assert_int_equal(holt_get_u32(expected), 0x12345678);
}

static void chance_below_a_bound_reaches_every_number_and_no_other(void **state) {
  (void)state;
  struct holt_rand rand;
  unsigned seen[7] = {0};
  holt_rand_seed(&rand, 1);
  for (int i = 0; i < 7000; i++) seen[holt_rand_below(&rand, 7)]++;
  for (int i = 0; i < 7; i++) assert_in_range(seen[i], 800, 1200);
}

static void every_error_has_a_word_of_its_own(void **state) {
  (void)state;
#define X(name, number, word, text)                                                                          \
  assert_string_equal(holt_err_word(HOLT_##name), word);                                                     \
  assert_int_equal(holt_err_from_word(word), HOLT_##name);
  HOLT_ERRORS(X)
#undef X
  assert_int_equal(holt_err_from_word("no such word"), 0);
}

static void an_error_gets_its_prefix_on_the_way_up(void **state) {
  (void)state;
  struct holt_err err;
  assert_int_equal(holt_err_set(&err, HOLT_EIO, "no space left on %s", "/dev/x"), HOLT_EIO);
  assert_int_equal(holt_err_prefix(&err, "log %d", 3), HOLT_EIO);
  assert_string_equal(err.message, "log 3: no space left on /dev/x");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_map_agrees_with_an_array_under_random_operations),
      cmocka_unit_test(a_heap_gives_back_in_order_and_equals_in_the_order_they_came),
      cmocka_unit_test(a_reader_stops_at_its_end_and_stays_failed),
      cmocka_unit_test(numbers_are_little_endian),
      cmocka_unit_test(chance_below_a_bound_reaches_every_number_and_no_other),
      cmocka_unit_test(every_error_has_a_word_of_its_own),
      cmocka_unit_test(an_error_gets_its_prefix_on_the_way_up),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
