/* crypto.h - what the journal takes from libraries: SHA-256 (FIPS 180-4) and Ed25519 (RFC 8032).
 *
 * A context for hashing belongs to one thread at a time: the loop and the worker each have their own. Keys
 * are raw: 32 bytes of seed, 32 bytes public, 64 bytes of signature. */
#ifndef HOLT_JOURNAL_CRYPTO_H
#define HOLT_JOURNAL_CRYPTO_H

#include "base/buf.h"

enum { HOLT_HASH_BYTES = 32, HOLT_KEY_BYTES = 32, HOLT_SIGNATURE_BYTES = 64 };

struct holt_crypto;

/* Ends the process when a library lacks what is needed. */
struct holt_crypto *holt_crypto_new(void);
void holt_crypto_free(struct holt_crypto *crypto);

void holt_crypto_hash(struct holt_crypto *crypto, struct holt_buf bytes, uint8_t out[HOLT_HASH_BYTES]);
/* `bytes` signed by `public_key`? Any thread. */
bool holt_crypto_verify(const uint8_t public_key[HOLT_KEY_BYTES], struct holt_buf bytes,
                        const uint8_t signature[HOLT_SIGNATURE_BYTES]);

/* A key that signs, from its 32 secret bytes. */
struct holt_signer;
struct holt_signer *holt_signer_new(const uint8_t seed[HOLT_KEY_BYTES]);
/* Forgets the secret. NULL is allowed. */
void holt_signer_free(struct holt_signer *signer);
const uint8_t *holt_signer_public(const struct holt_signer *signer); /* HOLT_KEY_BYTES, borrowed */
/* Any thread. */
void holt_signer_sign(const struct holt_signer *signer, struct holt_buf bytes,
                      uint8_t out[HOLT_SIGNATURE_BYTES]);

#endif /* HOLT_JOURNAL_CRYPTO_H */
