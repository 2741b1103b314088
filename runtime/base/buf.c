#include "base/buf.h"

#include <stdlib.h>

#include "base/mem.h"

void holt_writer_free(struct holt_writer *w) {
  free(w->data);
  *w = (struct holt_writer){0};
}

uint8_t *holt_writer_grow(struct holt_writer *w, size_t len) {
  if (w->cap - w->len < len) {
    size_t cap = w->cap < 64 ? 64 : w->cap;
    while (cap - w->len < len) cap *= 2;
    w->data = holt_realloc(w->data, cap);
    w->cap = cap;
  }
  uint8_t *at = w->data + w->len;
  w->len += len;
  return at;
}

void holt_write_bytes(struct holt_writer *w, const void *data, size_t len) {
  if (len > 0) memcpy(holt_writer_grow(w, len), data, len);
}

void holt_write_u8(struct holt_writer *w, uint8_t v) {
  *holt_writer_grow(w, 1) = v;
}
void holt_write_u16(struct holt_writer *w, uint16_t v) {
  holt_put_u16(holt_writer_grow(w, 2), v);
}
void holt_write_u32(struct holt_writer *w, uint32_t v) {
  holt_put_u32(holt_writer_grow(w, 4), v);
}
void holt_write_u64(struct holt_writer *w, uint64_t v) {
  holt_put_u64(holt_writer_grow(w, 8), v);
}

void holt_write_text8(struct holt_writer *w, const char *text) {
  size_t len = strlen(text);
  if (len > 255) len = 255;
  holt_write_u8(w, (uint8_t)len);
  holt_write_bytes(w, text, len);
}

/* Whether `len` more bytes are there; the reader fails for good when they are not. */
static bool has(struct holt_reader *r, size_t len) {
  if (!r->failed && holt_reader_left(r) >= len) return true;
  r->failed = true;
  return false;
}

uint8_t holt_read_u8(struct holt_reader *r) {
  return has(r, 1) ? *r->at++ : 0;
}

uint16_t holt_read_u16(struct holt_reader *r) {
  if (!has(r, 2)) return 0;
  r->at += 2;
  return holt_get_u16(r->at - 2);
}

uint32_t holt_read_u32(struct holt_reader *r) {
  if (!has(r, 4)) return 0;
  r->at += 4;
  return holt_get_u32(r->at - 4);
}

uint64_t holt_read_u64(struct holt_reader *r) {
  if (!has(r, 8)) return 0;
  r->at += 8;
  return holt_get_u64(r->at - 8);
}

struct holt_buf holt_read_bytes(struct holt_reader *r, size_t len) {
  if (!has(r, len)) return holt_buf(NULL, 0);
  r->at += len;
  return holt_buf(r->at - len, len);
}

void holt_read_text8(struct holt_reader *r, char out[256]) {
  size_t len = holt_read_u8(r);
  struct holt_buf text = holt_read_bytes(r, len);
  if (text.len > 0) memcpy(out, text.data, text.len);
  out[text.len] = '\0';
  if (text.len > 0 && memchr(text.data, '\0', text.len) != NULL) r->failed = true;
}
