/* buf.h - bytes: a view, a growing writer, a bounded reader. Numbers are little-endian. */
#ifndef HOLT_BASE_BUF_H
#define HOLT_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A view of bytes owned by somebody else. */
struct holt_buf {
  const uint8_t *data;
  size_t len;
};

static inline struct holt_buf holt_buf(const void *data, size_t len) {
  return (struct holt_buf){.data = data, .len = len};
}
static inline struct holt_buf holt_buf_text(const char *text) {
  return holt_buf(text, strlen(text));
}

static inline void holt_put_u16(uint8_t *at, uint16_t v) {
  at[0] = (uint8_t)v;
  at[1] = (uint8_t)(v >> 8);
}
static inline void holt_put_u32(uint8_t *at, uint32_t v) {
  at[0] = (uint8_t)v; /* written out, the compiler makes one store of it */
  at[1] = (uint8_t)(v >> 8);
  at[2] = (uint8_t)(v >> 16);
  at[3] = (uint8_t)(v >> 24);
}
static inline void holt_put_u64(uint8_t *at, uint64_t v) {
  at[0] = (uint8_t)v;
  at[1] = (uint8_t)(v >> 8);
  at[2] = (uint8_t)(v >> 16);
  at[3] = (uint8_t)(v >> 24);
  at[4] = (uint8_t)(v >> 32);
  at[5] = (uint8_t)(v >> 40);
  at[6] = (uint8_t)(v >> 48);
  at[7] = (uint8_t)(v >> 56);
}
static inline uint16_t holt_get_u16(const uint8_t *at) {
  return (uint16_t)(at[0] | at[1] << 8);
}
static inline uint32_t holt_get_u32(const uint8_t *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}
static inline uint64_t holt_get_u64(const uint8_t *at) {
  return (uint64_t)holt_get_u32(at) | (uint64_t)holt_get_u32(at + 4) << 32;
}

/* A buffer that grows. Zero-initialised is empty; free with holt_writer_free.
 * Memory running out ends the process: bound what a peer can make you write. */
struct holt_writer {
  uint8_t *data;
  size_t len;
  size_t cap;
};

void holt_writer_free(struct holt_writer *w);
/* Make room for `len` more bytes and return where they go; w->len is moved behind them. */
uint8_t *holt_writer_grow(struct holt_writer *w, size_t len);
void holt_write_bytes(struct holt_writer *w, const void *data, size_t len);
void holt_write_u8(struct holt_writer *w, uint8_t v);
void holt_write_u16(struct holt_writer *w, uint16_t v);
void holt_write_u32(struct holt_writer *w, uint32_t v);
void holt_write_u64(struct holt_writer *w, uint64_t v);
/* A text of at most 255 bytes (longer is cut): length in one byte, then the bytes. */
void holt_write_text8(struct holt_writer *w, const char *text);

/* A reader that never passes its end: after the first read too far `failed` stays true
 * and every further read gives zero. Look at `failed` once, at the end. */
struct holt_reader {
  const uint8_t *at;
  const uint8_t *end;
  bool failed;
};

static inline struct holt_reader holt_reader(struct holt_buf bytes) {
  return (struct holt_reader){
      .at = bytes.data, .end = bytes.len > 0 ? bytes.data + bytes.len : bytes.data, .failed = false};
}
static inline size_t holt_reader_left(const struct holt_reader *r) {
  return (size_t)(r->end - r->at);
}
uint8_t holt_read_u8(struct holt_reader *r);
uint16_t holt_read_u16(struct holt_reader *r);
uint32_t holt_read_u32(struct holt_reader *r);
uint64_t holt_read_u64(struct holt_reader *r);
/* The next `len` bytes, borrowed from the reader's source; empty when there are fewer. */
struct holt_buf holt_read_bytes(struct holt_reader *r, size_t len);
/* A text written by holt_write_text8, copied and NUL-terminated; one with a NUL inside fails. */
void holt_read_text8(struct holt_reader *r, char out[256]);

#endif /* HOLT_BASE_BUF_H */
