/* Messages to bytes and back; what is cut short, too long or out of range is refused. */
#include "unit.h"
#include "wire/wire.h"

static struct holt_hello sample_hello(void) {
  struct holt_hello hello = {.version = HOLT_WIRE_VERSION,
                             .id = 11,
                             .boot = 22,
                             .connection = 33,
                             .last = 44,
                             .timeout_ms = 5000,
                             .frame_max = 1 << 20,
                             .window = 1 << 22};
  strcpy(hello.name, "n1");
  strcpy(hello.channel, "holt");
  return hello;
}

static void a_hello_comes_back_as_it_was(void **state) {
  (void)state;
  struct holt_hello hello = sample_hello(), back;
  struct holt_writer w = {0};
  holt_hello_write(&w, &hello);
  assert_int_equal(holt_hello_read(holt_buf(w.data, w.len), &back, NULL), 0);
  assert_memory_equal(&back, &hello, sizeof back);
  holt_writer_free(&w);
}

static void a_hello_cut_anywhere_or_with_a_byte_more_is_refused(void **state) {
  (void)state;
  struct holt_hello hello = sample_hello(), back;
  struct holt_writer w = {0};
  holt_hello_write(&w, &hello);
  for (size_t len = 0; len < w.len; len++)
    assert_int_not_equal(holt_hello_read(holt_buf(w.data, len), &back, NULL), 0);
  holt_write_u8(&w, 0);
  assert_int_equal(holt_hello_read(holt_buf(w.data, w.len), &back, NULL), HOLT_EPROTOCOL);
  holt_writer_free(&w);
}

static void another_version_is_told_by_number(void **state) {
  (void)state;
  struct holt_hello hello = sample_hello(), back;
  struct holt_writer w = {0};
  struct holt_err err;
  hello.version = 77;
  holt_hello_write(&w, &hello);
  assert_int_equal(holt_hello_read(holt_buf(w.data, w.len), &back, &err), HOLT_EVERSION);
  assert_non_null(strstr(err.message, "77"));
  holt_writer_free(&w);
}

static void a_header_with_an_impossible_field_is_refused(void **state) {
  (void)state;
  const struct holt_frame good = {.len = 10, .type = HOLT_WIRE_EVENT, .lane = HOLT_LANE_BUS, .age_ms = 5};
  struct holt_frame back;
  uint8_t header[HOLT_WIRE_HEADER];
  holt_frame_write(header, &good);
  assert_int_equal(holt_frame_read(header, 10, &back, NULL), 0);
  assert_int_equal(back.age_ms, 5);
  assert_int_equal(holt_frame_read(header, 9, &back, NULL), HOLT_EPROTOCOL); /* longer than allowed */
  for (int at = 4; at < 8; at++) {
    holt_frame_write(header, &good);
    header[at] = 200;
    assert_int_equal(holt_frame_read(header, 10, &back, NULL), HOLT_EPROTOCOL);
  }
}

static void an_event_comes_back_as_it_was(void **state) {
  (void)state;
  const struct holt_wire_event event = {.boot = 1,
                                        .sequence = 2,
                                        .hops = 3,
                                        .codec = 4,
                                        .origin = holt_buf_text("n1"),
                                        .subject = holt_buf_text("order.new"),
                                        .payload = holt_buf("\0\1\2", 3)};
  uint8_t bytes[100];
  struct holt_wire_event back;
  size_t size = holt_wire_event_size(&event);
  holt_wire_event_write(bytes, &event);
  assert_int_equal(holt_wire_event_read(holt_buf(bytes, size), &back, NULL), 0);
  assert_int_equal(back.sequence, 2);
  assert_int_equal(back.hops, 3);
  assert_int_equal(bytes[HOLT_WIRE_EVENT_HOPS], 3);
  assert_int_equal(back.subject.len, 9);
  assert_memory_equal(back.subject.data, "order.new", 9);
  assert_int_equal(back.payload.len, 3);
  for (size_t len = 0; len < size - 3; len++) /* below, only the payload is shorter */
    assert_int_equal(holt_wire_event_read(holt_buf(bytes, len), &back, NULL), HOLT_EPROTOCOL);
}

static void an_event_without_number_or_subject_is_refused(void **state) {
  (void)state;
  struct holt_wire_event event = {
      .boot = 1, .sequence = 0, .origin = holt_buf_text("n1"), .subject = holt_buf_text("s"), .payload = {0}};
  uint8_t bytes[100];
  struct holt_wire_event back;
  holt_wire_event_write(bytes, &event);
  assert_int_equal(holt_wire_event_read(holt_buf(bytes, holt_wire_event_size(&event)), &back, NULL),
                   HOLT_EPROTOCOL);
  event.sequence = 1;
  event.subject = holt_buf_text("");
  holt_wire_event_write(bytes, &event);
  assert_int_equal(holt_wire_event_read(holt_buf(bytes, holt_wire_event_size(&event)), &back, NULL),
                   HOLT_EPROTOCOL);
}

static void ranges_come_back_one_by_one(void **state) {
  (void)state;
  struct holt_writer w = {0};
  struct holt_wire_range range = {.boot = 9, .from = 4, .to = 7}, back;
  strcpy(range.origin, "n2");
  holt_wire_range_write(&w, &range);
  range.from = range.to = 12;
  holt_wire_range_write(&w, &range);
  struct holt_reader in = holt_reader(holt_buf(w.data, w.len));
  assert_int_equal(holt_wire_range_read(&in, &back, NULL), 1);
  assert_int_equal(back.to, 7);
  assert_string_equal(back.origin, "n2");
  assert_int_equal(holt_wire_range_read(&in, &back, NULL), 1);
  assert_int_equal(back.from, 12);
  assert_int_equal(holt_wire_range_read(&in, &back, NULL), 0);
  in = holt_reader(holt_buf(w.data, w.len - 1));
  assert_int_equal(holt_wire_range_read(&in, &back, NULL), 1);
  assert_int_equal(holt_wire_range_read(&in, &back, NULL), HOLT_EPROTOCOL);
  holt_writer_free(&w);
}

static void a_range_that_runs_backwards_is_refused(void **state) {
  (void)state;
  struct holt_writer w = {0};
  struct holt_wire_range range = {.boot = 9, .from = 8, .to = 7, .origin = "n"}, back;
  holt_wire_range_write(&w, &range);
  struct holt_reader in = holt_reader(holt_buf(w.data, w.len));
  assert_int_equal(holt_wire_range_read(&in, &back, NULL), HOLT_EPROTOCOL);
  holt_writer_free(&w);
}

static void resume_acknowledge_and_reason_come_back(void **state) {
  (void)state;
  struct holt_writer w = {0};
  struct holt_resume resume = {.session = 99, .own = 98}, resume_back;
  resume.received[HOLT_LANE_BUS] = 77;
  holt_resume_write(&w, &resume);
  assert_int_equal(holt_resume_read(holt_buf(w.data, w.len), &resume_back, NULL), 0);
  assert_int_equal(resume_back.session, 99);
  assert_int_equal(resume_back.own, 98);
  assert_int_equal(resume_back.received[HOLT_LANE_BUS], 77);
  assert_int_equal(holt_resume_read(holt_buf(w.data, w.len - 1), &resume_back, NULL), HOLT_EPROTOCOL);
  w.len = 0;
  uint64_t session;
  holt_start_write(&w, 7);
  assert_int_equal(holt_start_read(holt_buf(w.data, w.len), &session, NULL), 0);
  assert_int_equal(session, 7);
  w.data[0] = 0; /* no session is 0 */
  assert_int_equal(holt_start_read(holt_buf(w.data, w.len), &session, NULL), HOLT_EPROTOCOL);
  w.len = 0;
  struct holt_ack ack = {.lane = HOLT_LANE_BUS, .number = 5}, ack_back;
  holt_ack_write(&w, &ack);
  assert_int_equal(holt_ack_read(holt_buf(w.data, w.len), &ack_back, NULL), 0);
  assert_int_equal(ack_back.number, 5);
  w.data[0] = HOLT_LANE_RAFT; /* has no numbers */
  assert_int_equal(holt_ack_read(holt_buf(w.data, w.len), &ack_back, NULL), HOLT_EPROTOCOL);
  w.len = 0;
  struct holt_reason reason = {.word = "wrong_channel", .text = "a and b"}, reason_back;
  holt_reason_write(&w, &reason);
  assert_int_equal(holt_reason_read(holt_buf(w.data, w.len), &reason_back, NULL), 0);
  assert_string_equal(reason_back.text, "a and b");
  holt_writer_free(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_hello_comes_back_as_it_was),
      cmocka_unit_test(a_hello_cut_anywhere_or_with_a_byte_more_is_refused),
      cmocka_unit_test(another_version_is_told_by_number),
      cmocka_unit_test(a_header_with_an_impossible_field_is_refused),
      cmocka_unit_test(an_event_comes_back_as_it_was),
      cmocka_unit_test(an_event_without_number_or_subject_is_refused),
      cmocka_unit_test(ranges_come_back_one_by_one),
      cmocka_unit_test(a_range_that_runs_backwards_is_refused),
      cmocka_unit_test(resume_acknowledge_and_reason_come_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
