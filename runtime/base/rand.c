#include "base/rand.h"

#include <string.h>

uint64_t holt_hash_u64(uint64_t v) {
  v += 0x9e3779b97f4a7c15u;
  v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9u;
  v = (v ^ (v >> 27)) * 0x94d049bb133111ebu;
  return v ^ (v >> 31);
}

uint64_t holt_hash_bytes(uint64_t seed, const void *data, size_t len) {
  const uint8_t *at = data;
  uint64_t hash = 0xcbf29ce484222325u ^ seed;
  for (; len >= 8;
       at += 8, len -= 8) { /* FNV-1a in steps of eight bytes, folded so that high bits count too */
    uint64_t word;
    memcpy(&word, at, 8);
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 32;
  }
  for (size_t i = 0; i < len; i++) hash = (hash ^ at[i]) * 0x100000001b3u;
  return holt_hash_u64(hash);
}

void holt_rand_seed(struct holt_rand *r, uint64_t seed) {
  for (int i = 0; i < 4; i++) {
    seed += 0x9e3779b97f4a7c15u;
    r->state[i] = holt_hash_u64(seed);
  }
}

static uint64_t rotate_left(uint64_t v, int bits) {
  return (v << bits) | (v >> (64 - bits));
}

uint64_t holt_rand_next(struct holt_rand *r) {
  uint64_t *s = r->state;
  uint64_t result = rotate_left(s[1] * 5, 7) * 9;
  uint64_t t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = rotate_left(s[3], 45);
  return result;
}

uint64_t holt_rand_below(struct holt_rand *r, uint64_t bound) {
  if (bound == 0) return 0;
  uint64_t limit = UINT64_MAX - UINT64_MAX % bound; /* numbers from here on would favour small results */
  uint64_t v;
  do v = holt_rand_next(r);
  while (v >= limit);
  return v % bound;
}

double holt_rand_unit(struct holt_rand *r) {
  return (double)(holt_rand_next(r) >> 11) * 0x1.0p-53;
}
