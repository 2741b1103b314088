/* crypto.c - SHA-256 by OpenSSL 3, which uses the processor's instructions; Ed25519 by libsodium, which signs
 * and verifies in less than half of OpenSSL's time, and refuses keys of small order.
 *
 * - The digest is fetched once and its context used again: four times as fast as asking for it each time. */
#include "journal/crypto.h"

#include <openssl/evp.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

struct holt_crypto {
  EVP_MD *sha256;
  EVP_MD_CTX *digest;
};

struct holt_signer {
  uint8_t secret[crypto_sign_SECRETKEYBYTES];
  uint8_t public_key[HOLT_KEY_BYTES];
};

static void prepare(void) {
  int rc = sodium_init(); /* 1: it was called before */
  HOLT_ASSERT(rc >= 0);
}

struct holt_crypto *holt_crypto_new(void) {
  struct holt_crypto *crypto = holt_alloc(sizeof *crypto);
  prepare();
  crypto->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
  crypto->digest = EVP_MD_CTX_new();
  HOLT_ASSERT(crypto->sha256 != NULL && crypto->digest != NULL);
  int rc = EVP_DigestInit_ex2(crypto->digest, crypto->sha256, NULL);
  HOLT_ASSERT(rc == 1);
  return crypto;
}

void holt_crypto_free(struct holt_crypto *crypto) {
  if (crypto == NULL) return;
  EVP_MD_CTX_free(crypto->digest);
  EVP_MD_free(crypto->sha256);
  free(crypto);
}

void holt_crypto_hash(struct holt_crypto *crypto, struct holt_buf bytes, uint8_t out[HOLT_HASH_BYTES]) {
  int rc = EVP_DigestInit_ex2(crypto->digest, NULL, NULL);
  rc &= EVP_DigestUpdate(crypto->digest, bytes.data, bytes.len);
  rc &= EVP_DigestFinal_ex(crypto->digest, out, NULL);
  HOLT_ASSERT(rc == 1);
}

bool holt_crypto_verify(const uint8_t public_key[HOLT_KEY_BYTES], struct holt_buf bytes,
                        const uint8_t signature[HOLT_SIGNATURE_BYTES]) {
  return crypto_sign_verify_detached(signature, bytes.data, bytes.len, public_key) == 0;
}

struct holt_signer *holt_signer_new(const uint8_t seed[HOLT_KEY_BYTES]) {
  struct holt_signer *signer = holt_alloc(sizeof *signer);
  prepare();
  int rc = crypto_sign_seed_keypair(signer->public_key, signer->secret, seed);
  HOLT_ASSERT(rc == 0);
  return signer;
}

void holt_signer_free(struct holt_signer *signer) {
  if (signer == NULL) return;
  sodium_memzero(signer, sizeof *signer);
  free(signer);
}

const uint8_t *holt_signer_public(const struct holt_signer *signer) {
  return signer->public_key;
}

void holt_signer_sign(const struct holt_signer *signer, struct holt_buf bytes,
                      uint8_t out[HOLT_SIGNATURE_BYTES]) {
  crypto_sign_detached(out, NULL, bytes.data, bytes.len, signer->secret);
}
