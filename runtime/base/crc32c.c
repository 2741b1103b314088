/* crc32c.c - CRC-32C by the SSE 4.2 instruction, else eight bytes a step from tables (Kounavis and Berry, "A
 * systematic approach to building high performance software-based CRC generators", 2005). */
#include "base/crc32c.h"

#include <string.h>

#include "base/buf.h"

#define POLYNOMIAL 0x82f63b78u /* 0x1edc6f41, bits reversed */

static uint32_t tables[8][256];
static uint32_t (*fastest)(uint32_t crc, const void *data, size_t len) = holt_crc32c_portable;

uint32_t holt_crc32c_portable(uint32_t crc, const void *data, size_t len) {
  const uint8_t *at = data;
  crc = ~crc;
  for (; len >= 8; at += 8, len -= 8) {
    uint32_t low = crc ^ holt_get_u32(at), high = holt_get_u32(at + 4);
    crc = tables[7][low & 255] ^ tables[6][low >> 8 & 255] ^ tables[5][low >> 16 & 255] ^
          tables[4][low >> 24] ^ tables[3][high & 255] ^ tables[2][high >> 8 & 255] ^
          tables[1][high >> 16 & 255] ^ tables[0][high >> 24];
  }
  for (; len > 0; at++, len--) crc = crc >> 8 ^ tables[0][(crc ^ *at) & 255];
  return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const void *data, size_t len) {
  const uint8_t *at = data;
  uint64_t state = (uint32_t)~crc;
  for (; len >= 8; at += 8, len -= 8) {
    uint64_t word;
    memcpy(&word, at, 8);
    state = __builtin_ia32_crc32di(state, word);
  }
  for (; len > 0; at++, len--) state = __builtin_ia32_crc32qi((uint32_t)state, *at);
  return ~(uint32_t)state;
}
#endif

/* Before main, so that threads need not agree on who fills the tables. */
__attribute__((constructor)) static void prepare(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
    tables[0][i] = crc;
  }
  for (int k = 1; k < 8; k++)
    for (int i = 0; i < 256; i++) tables[k][i] = tables[k - 1][i] >> 8 ^ tables[0][tables[k - 1][i] & 255];
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("sse4.2")) fastest = by_instruction;
#endif
}

uint32_t holt_crc32c(uint32_t crc, const void *data, size_t len) {
  return fastest(crc, data, len);
}
