/* rand.h - a seeded source of chance, and a 64-bit hash for tables and traces. Neither is for secrets. */
#ifndef HOLT_BASE_RAND_H
#define HOLT_BASE_RAND_H

#include <stddef.h>
#include <stdint.h>

/* xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2018). */
struct holt_rand {
  uint64_t state[4];
};

void holt_rand_seed(struct holt_rand *r, uint64_t seed);
uint64_t holt_rand_next(struct holt_rand *r);
/* A number in [0, bound), without bias; 0 when bound is 0. */
uint64_t holt_rand_below(struct holt_rand *r, uint64_t bound);
/* A number in [0, 1). */
double holt_rand_unit(struct holt_rand *r);

/* Mixes the bits of one number (the finaliser of SplitMix64, Steele et al., 2014). */
uint64_t holt_hash_u64(uint64_t v);
/* FNV-1a with a final mix; chain by passing the last result as `seed`. */
uint64_t holt_hash_bytes(uint64_t seed, const void *data, size_t len);

#endif /* HOLT_BASE_RAND_H */
