/* The journal's entries: one encoding each, signed statements, runs and their messages; nothing altered gets
 * through. */
#include "dag_shelf.h"

/* --- One encoding -----------------------------------------------------------------------------------------
 */

static void an_entry_comes_back_as_it_was(void **state) {
  (void)state;
  struct lab_writer a = lab_writer(1), b = lab_writer(2);
  struct holt_dag_entry e;
  struct holt_dag_ref back;
  opens(&b);
  opens(&a);
  struct holt_dag_ref parent = lab_ref(&b);
  struct holt_dag_run *run = fresh();
  lab_write(&a, run, 2, "hello", &parent, 1);
  assert_int_equal(holt_dag_entry_decode(holt_dag_run_entry(run, 0), &limits, &e), 0);
  assert_int_equal(e.kind, HOLT_DAG_EVENT);
  assert_int_equal(e.number, 2);
  assert_int_equal(e.time_ms, 1000);
  assert_int_equal(e.parent_count, 1);
  assert_memory_equal(e.author, a.key.public, HOLT_DAG_KEY);
  holt_dag_entry_parent(&e, 0, &back);
  assert_memory_equal(&back, &parent, sizeof back);
  assert_int_equal(e.name.len, 5);
  assert_memory_equal(e.name.data, "event", 5);
  assert_int_equal(e.payload.len, 5);
  assert_memory_equal(e.payload.data, "hello", 5);
}

/* Whatever one byte is changed to: the decoder refuses it, or it is another entry whose encoding this is. */
static void each_entry_has_one_encoding(void **state) {
  (void)state;
  struct lab_writer a = lab_writer(1), b = lab_writer(2), c = lab_writer(3);
  struct holt_dag_ref refs[2];
  struct holt_dag_entry e;
  opens(&a);
  opens(&b);
  opens(&c);
  bool is_before = memcmp(b.key.public, c.key.public, HOLT_DAG_KEY) < 0;
  refs[!is_before] = lab_ref(&b);
  refs[is_before] = lab_ref(&c);
  struct holt_dag_run *run = fresh();
  lab_write(&a, run, 1, "hello", refs, 2);
  struct holt_buf good = holt_dag_run_entry(run, 0);
  uint8_t *bytes = holt_alloc(good.len + 1);
  size_t refused = 0, other = 0;
  for (size_t at = 0; at < good.len; at++)
    for (int value = 0; value < 256; value++) {
      memcpy(bytes, good.data, good.len);
      bytes[at] = (uint8_t)value;
      if (holt_dag_entry_decode(holt_buf(bytes, good.len), &limits, &e) != 0) {
        refused++;
        continue;
      }
      struct holt_writer again = {0};
      assert_int_equal(holt_dag_entry_encode(&again, &e, &limits), 0);
      assert_int_equal(again.len, good.len);
      assert_memory_equal(again.data, bytes, good.len);
      holt_writer_free(&again);
      other++;
    }
  assert_true(refused > 2000 && other > 20000);
  for (size_t len = 0; len < good.len; len++)
    assert_int_equal(holt_dag_entry_decode(holt_buf(good.data, len), &limits, &e), HOLT_EPROTOCOL);
  memcpy(bytes, good.data, good.len);
  assert_int_equal(holt_dag_entry_decode(holt_buf(bytes, good.len + 1), &limits, &e), HOLT_EPROTOCOL);
  free(bytes);
}

static void what_a_decoder_would_refuse_is_not_encoded(void **state) {
  (void)state;
  struct lab_key key = lab_key(1), other = lab_key(2);
  uint8_t zeros[HOLT_DAG_HASH] = {0}, some[HOLT_DAG_HASH] = {1}, parents[65 * HOLT_DAG_REF] = {0};
  char name[257];
  memset(name, 'n', sizeof name);
  for (int i = 0; i < 65; i++) { /* ascending */
    parents[i * HOLT_DAG_REF] = (uint8_t)(i + 1);
    parents[i * HOLT_DAG_REF + HOLT_DAG_KEY] = 1;
  }
  const struct holt_dag_entry good = {.kind = HOLT_DAG_EVENT,
                                      .author = key.public,
                                      .number = 2,
                                      .prev = some,
                                      .parents = parents,
                                      .parent_count = 64,
                                      .name = holt_buf(name, 255)};
  struct holt_dag_limits small = limits;
  struct holt_writer w = {0};
  struct holt_dag_entry e = good;
  assert_int_equal(holt_dag_entry_encode(&w, &e, &limits), 0);
  small.entry_bytes = (uint32_t)w.len;
  assert_int_equal(holt_dag_entry_encode(&w, &e, &small), 0);
  size_t len = w.len;
  small.entry_bytes--;
  assert_int_equal(holt_dag_entry_encode(&w, &e, &small), HOLT_ETOOLARGE);
  e.payload = holt_buf(some, SIZE_MAX / 2);
  assert_int_equal(holt_dag_entry_encode(&w, &e, &limits), HOLT_ETOOLARGE);
#define REFUSED(change)                                                                                      \
  e = good;                                                                                                  \
  change;                                                                                                    \
  assert_int_equal(holt_dag_entry_encode(&w, &e, &limits), HOLT_EINVAL)
  REFUSED(e.kind = 0);
  REFUSED(e.kind = 4);
  REFUSED(e.number = 0);
  REFUSED(e.number = UINT64_MAX);
  REFUSED(e.number = 1);
  REFUSED(e.kind = HOLT_DAG_OPENING);
  REFUSED((e.kind = HOLT_DAG_OPENING, e.number = 1)); /* follows something */
  REFUSED(e.name.len = 0);
  REFUSED(e.name.len = 256);
  REFUSED(e.parent_count = 65);
  REFUSED((e.parents = parents + HOLT_DAG_REF, e.parent_count = 1, e.author = parents + HOLT_DAG_REF));
  memcpy(parents, other.public, HOLT_DAG_KEY); /* no longer ascending */
  parents[0] = 9;
  REFUSED(e.parent_count = 3);
  memcpy(parents + HOLT_DAG_REF, parents, HOLT_DAG_KEY); /* twice the same */
  REFUSED(e.parent_count = 2);
  memset(parents + HOLT_DAG_KEY, 0, 8); /* number 0 */
  REFUSED(e.parent_count = 1);
#undef REFUSED
  e = good;
  e.kind = HOLT_DAG_OPENING;
  e.number = 1;
  e.prev = zeros;
  e.parent_count = 0;
  assert_int_equal(w.len, len); /* on error nothing is written */
  assert_int_equal(holt_dag_entry_encode(&w, &e, &limits), 0);
  holt_writer_free(&w);
}

/* --- Signed statements ------------------------------------------------------------------------------------
 */

static void a_certificate_is_of_one_journal_and_one_chain(void **state) {
  (void)state;
  struct lab_key chain = lab_key(1), other = lab_key(2), directory = lab_key(3);
  struct holt_dag_certificate c = {.node = "ada"}, back;
  struct holt_writer w = {0};
  memcpy(c.directory, directory.public, HOLT_DAG_KEY);
  assert_int_equal(holt_dag_certificate_make(&w, &c, "", chain.public, &lab_ops, directory.secret),
                   HOLT_EINVAL);
  assert_int_equal(holt_dag_certificate_make(&w, &c, "log", chain.public, &lab_ops, directory.secret), 0);
  struct holt_buf bytes = holt_buf(w.data, w.len);
  assert_int_equal(holt_dag_certificate_read(bytes, "log", chain.public, &lab_ops, &back), 0);
  assert_string_equal(back.node, "ada");
  assert_memory_equal(back.directory, directory.public, HOLT_DAG_KEY);
  assert_int_equal(holt_dag_certificate_read(bytes, "log2", chain.public, &lab_ops, &back), HOLT_EPROTOCOL);
  assert_int_equal(holt_dag_certificate_read(bytes, "log", other.public, &lab_ops, &back), HOLT_EPROTOCOL);
  for (size_t i = 0; i < w.len; i++) {
    w.data[i] ^= 4;
    assert_int_equal(holt_dag_certificate_read(bytes, "log", chain.public, &lab_ops, &back), HOLT_EPROTOCOL);
    w.data[i] ^= 4;
    assert_int_equal(holt_dag_certificate_read(holt_buf(w.data, i), "log", chain.public, &lab_ops, &back),
                     HOLT_EPROTOCOL);
  }
  holt_writer_free(&w);
}

static void a_horizon_is_signed_and_ordered(void **state) {
  (void)state;
  struct lab_key directory = lab_key(3);
  uint8_t refs[2 * HOLT_DAG_REF];
  struct holt_dag_ref first = {.author = {1}, .number = 9, .hash = {7}},
                      second = {.author = {2}, .number = 1};
  struct holt_dag_horizon h = {.refs = refs, .ref_count = 2}, back;
  struct holt_writer w = {0};
  memcpy(h.directory, directory.public, HOLT_DAG_KEY);
  holt_dag_ref_write(refs, &second);
  holt_dag_ref_write(refs + HOLT_DAG_REF, &first);
  assert_int_equal(holt_dag_horizon_make(&w, &h, "log", &lab_ops, directory.secret), HOLT_EINVAL);
  holt_dag_ref_write(refs, &first);
  holt_dag_ref_write(refs + HOLT_DAG_REF, &second);
  assert_int_equal(holt_dag_horizon_make(&w, &h, "log", &lab_ops, directory.secret), 0);
  assert_int_equal(holt_dag_horizon_read(holt_buf(w.data, w.len), "log", &lab_ops, &back), 0);
  assert_int_equal(back.ref_count, 2);
  assert_memory_equal(back.refs, refs, sizeof refs);
  assert_int_equal(holt_dag_horizon_read(holt_buf(w.data, w.len), "log2", &lab_ops, &back), HOLT_EPROTOCOL);
  for (size_t i = 0; i < w.len; i++) {
    w.data[i] ^= 1;
    assert_int_equal(holt_dag_horizon_read(holt_buf(w.data, w.len), "log", &lab_ops, &back), HOLT_EPROTOCOL);
    w.data[i] ^= 1;
  }
  h.ref_count = 0;
  assert_int_equal(holt_dag_horizon_make(&w, &h, "log", &lab_ops, directory.secret), HOLT_EINVAL);
  holt_writer_free(&w);
}

/* --- Runs
 * --------------------------------------------------------------------------------------------------- */

static enum holt_dag_reason read_with(struct holt_writer *w, const struct holt_dag_limits *l) {
  struct holt_dag_run back = {0};
  enum holt_dag_reason reason = holt_dag_run_read(&back, holt_buf(w->data, w->len), LAB_JOURNAL, &lab_ops, l);
  assert_int_equal(back.count == 0, reason != HOLT_DAG_NONE);
  holt_dag_run_free(&back);
  return reason;
}

static void a_run_comes_back_from_its_message(void **state) {
  (void)state;
  struct lab_writer a = lab_writer(1), b = lab_writer(2);
  struct holt_dag_run back = {0};
  struct holt_dag_run *runs[] = {opens(&a), writes(&a, 5), (opens(&b), names(&a, &b))};
  for (int i = 0; i < 3; i++) {
    struct holt_writer w = message_of(runs[i]);
    assert_int_equal(holt_dag_run_read(&back, holt_buf(w.data, w.len), LAB_JOURNAL, &lab_ops, &limits), 0);
    assert_int_equal(back.first, runs[i]->first);
    assert_int_equal(back.count, runs[i]->count);
    assert_int_equal(back.bytes.len, runs[i]->bytes.len);
    assert_memory_equal(back.bytes.data, runs[i]->bytes.data, back.bytes.len);
    assert_memory_equal(holt_dag_run_tip(&back), holt_dag_run_tip(runs[i]), HOLT_DAG_HASH);
    assert_memory_equal(back.signature, runs[i]->signature, HOLT_DAG_SIGNATURE);
    assert_int_equal(back.certificate != NULL, i == 0);
    holt_writer_free(&w);
  }
  holt_dag_run_free(&back);
}

static void no_bit_of_a_run_can_be_changed(void **state) {
  (void)state;
  struct lab_writer a = lab_writer(1), b = lab_writer(2);
  struct holt_dag_run *runs[] = {opens(&a), writes(&a, 3), (opens(&b), names(&a, &b))};
  for (int i = 0; i < 3; i++) {
    struct holt_writer w = message_of(runs[i]);
    size_t len = w.len;
    for (size_t bit = 0; bit < len * 8; bit++) {
      w.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
      assert_int_not_equal(read_with(&w, &limits), HOLT_DAG_NONE);
      w.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (w.len = 0; w.len < len; w.len++) assert_int_not_equal(read_with(&w, &limits), HOLT_DAG_NONE);
    holt_write_u8(&w, 0);
    assert_int_equal(read_with(&w, &limits), HOLT_DAG_MALFORMED);
    holt_writer_free(&w);
  }
}

static void a_run_that_is_too_long_is_refused(void **state) {
  (void)state;
  struct lab_writer a = lab_writer(1);
  opens(&a);
  struct holt_dag_run *run = writes(&a, 3);
  struct holt_writer w = message_of(run);
  struct holt_dag_limits small = limits;
  small.run_entries = 2;
  assert_int_equal(read_with(&w, &small), HOLT_DAG_TOO_LARGE);
  small.run_entries = 3;
  assert_int_equal(read_with(&w, &small), HOLT_DAG_NONE);
  small.run_bytes = (uint32_t)run->bytes.len;
  assert_int_equal(read_with(&w, &small), HOLT_DAG_NONE);
  small.run_bytes--;
  assert_int_equal(read_with(&w, &small), HOLT_DAG_TOO_LARGE);
  small = limits;
  small.entry_bytes = run->items[0].len - 1;
  assert_int_equal(read_with(&w, &small), HOLT_DAG_TOO_LARGE);
  holt_writer_free(&w);
}

static void a_writer_cannot_make_what_a_reader_refuses(void **state) {
  (void)state;
  struct lab_writer a = lab_writer(1);
  struct holt_dag_limits small = limits;
  struct holt_dag_run *opening = opens(&a), *run = fresh();
  struct holt_dag_entry e = {
      .kind = HOLT_DAG_EVENT, .name = holt_buf_text("n"), .payload = holt_buf_text("p")};
  assert_int_equal(holt_dag_run_add(opening, &e, &lab_ops, &limits), HOLT_EFULL); /* a run of its own */
  assert_int_equal(opening->count, 1);
  small.run_entries = 2;
  holt_dag_run_begin(run, a.key.public, 2, a.tip);
  assert_int_equal(holt_dag_run_add(run, &e, &lab_ops, &small), 0);
  size_t one = run->bytes.len;
  assert_int_equal(holt_dag_run_add(run, &e, &lab_ops, &small), 0);
  assert_int_equal(holt_dag_run_add(run, &e, &lab_ops, &small), HOLT_EFULL);
  small.run_entries = 10;
  small.run_bytes = (uint32_t)(3 * one - 1);
  assert_int_equal(holt_dag_run_add(run, &e, &lab_ops, &small), HOLT_EFULL);
  assert_int_equal(run->bytes.len, 2 * one);
  small.run_bytes++;
  assert_int_equal(holt_dag_run_add(run, &e, &lab_ops, &small), 0);
  e.name.len = 0;
  assert_int_equal(holt_dag_run_add(run, &e, &lab_ops, &limits), HOLT_EINVAL);
  assert_int_equal(run->count, 3);
  assert_int_equal(holt_dag_run_sign(run, LAB_JOURNAL, &lab_ops, a.key.secret), 0);
}

static void a_pack_ends_at_the_last_signature(void **state) {
  (void)state;
  struct lab_writer a = lab_writer(1), b = lab_writer(2);
  struct holt_writer w = {0};
  struct holt_dag_pack pack;
  struct holt_dag_run back = {0}, *opening = opens(&a), *run = writes(&a, 3), *more = writes(&a, 2);
  struct holt_dag_run *other = opens(&b);
  holt_write_u8(&w, 77); /* what lies before it stays */
  holt_dag_pack_begin(&pack, &w);
  assert_int_equal(holt_dag_pack_add(&pack, holt_dag_run_entry(run, 0), NULL, &limits), 0);
  assert_int_equal(holt_dag_pack_end(&pack), 0);
  assert_int_equal(w.len, 1);
  holt_dag_pack_begin(&pack, &w);
  assert_int_equal(holt_dag_pack_add(&pack, holt_dag_run_entry(run, 0), NULL, &limits), 0);
  assert_int_equal(holt_dag_pack_add(&pack, holt_dag_run_entry(run, 2), NULL, &limits), HOLT_EFULL);
  assert_int_equal(holt_dag_pack_add(&pack, holt_dag_run_entry(other, 0), NULL, &limits), HOLT_EFULL);
  assert_int_equal(holt_dag_pack_add(&pack, holt_buf("abc", 3), NULL, &limits), HOLT_ECORRUPT);
  assert_int_equal(holt_dag_pack_add(&pack, holt_dag_run_entry(run, 1), NULL, &limits), 0);
  assert_int_equal(holt_dag_pack_add(&pack, holt_dag_run_entry(run, 2), run->signature, &limits), 0);
  assert_int_equal(holt_dag_pack_add(&pack, holt_dag_run_entry(more, 0), NULL, &limits), 0);
  assert_int_equal(holt_dag_pack_end(&pack), 3);
  struct holt_buf message = holt_buf(w.data + 1, w.len - 1);
  assert_int_equal(holt_dag_run_read(&back, message, LAB_JOURNAL, &lab_ops, &limits), HOLT_DAG_NONE);
  assert_int_equal(back.count, 3);
  holt_dag_pack_begin(&pack, &w);
  assert_int_equal(holt_dag_pack_add(&pack, holt_dag_run_entry(opening, 0), opening->signature, &limits), 0);
  assert_int_equal(holt_dag_pack_add(&pack, holt_dag_run_entry(run, 0), NULL, &limits), HOLT_EFULL);
  assert_int_equal(holt_dag_pack_end(&pack), 1);
  holt_dag_run_free(&back);
  holt_writer_free(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(an_entry_comes_back_as_it_was),
      TEST(each_entry_has_one_encoding),
      TEST(what_a_decoder_would_refuse_is_not_encoded),
      TEST(a_certificate_is_of_one_journal_and_one_chain),
      TEST(a_horizon_is_signed_and_ordered),
      TEST(a_run_comes_back_from_its_message),
      TEST(no_bit_of_a_run_can_be_changed),
      TEST(a_run_that_is_too_long_is_refused),
      TEST(a_writer_cannot_make_what_a_reader_refuses),
      TEST(a_pack_ends_at_the_last_signature),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
