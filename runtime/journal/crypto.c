/* crypto.c - SHA-256 and Ed25519 by OpenSSL 3.
 *
 * - The digest is fetched once and its context used again: four times as fast as asking for it each time.
 * - A public key is unpacked once and kept while runs of one author follow each other. */
#include "journal/crypto.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

struct holt_crypto {
  EVP_MD *sha256;
  EVP_MD_CTX *digest, *verifier;
  EVP_PKEY *key; /* NULL: none yet */
  uint8_t key_bytes[HOLT_KEY_BYTES];
};

struct holt_signer {
  EVP_PKEY *key;
  EVP_MD_CTX *context;
  uint8_t public_key[HOLT_KEY_BYTES];
};

struct holt_crypto *holt_crypto_new(void) {
  struct holt_crypto *crypto = holt_alloc(sizeof *crypto);
  crypto->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
  crypto->digest = EVP_MD_CTX_new();
  crypto->verifier = EVP_MD_CTX_new();
  HOLT_ASSERT(crypto->sha256 != NULL && crypto->digest != NULL && crypto->verifier != NULL);
  int rc = EVP_DigestInit_ex2(crypto->digest, crypto->sha256, NULL);
  HOLT_ASSERT(rc == 1);
  return crypto;
}

void holt_crypto_free(struct holt_crypto *crypto) {
  if (crypto == NULL) return;
  EVP_PKEY_free(crypto->key);
  EVP_MD_CTX_free(crypto->verifier);
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

static bool take_key(struct holt_crypto *crypto, const uint8_t public_key[HOLT_KEY_BYTES]) {
  if (crypto->key != NULL && memcmp(crypto->key_bytes, public_key, HOLT_KEY_BYTES) == 0) return true;
  EVP_PKEY_free(crypto->key);
  crypto->key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, HOLT_KEY_BYTES);
  memcpy(crypto->key_bytes, public_key, HOLT_KEY_BYTES);
  return crypto->key != NULL;
}

bool holt_crypto_verify(struct holt_crypto *crypto, const uint8_t public_key[HOLT_KEY_BYTES],
                        struct holt_buf bytes, const uint8_t signature[HOLT_SIGNATURE_BYTES]) {
  if (!take_key(crypto, public_key)) return false;
  EVP_MD_CTX_reset(crypto->verifier);
  return EVP_DigestVerifyInit(crypto->verifier, NULL, NULL, NULL, crypto->key) == 1 &&
         EVP_DigestVerify(crypto->verifier, signature, HOLT_SIGNATURE_BYTES, bytes.data, bytes.len) == 1;
}

struct holt_signer *holt_signer_new(const uint8_t seed[HOLT_KEY_BYTES]) {
  struct holt_signer *signer = holt_alloc(sizeof *signer);
  size_t len = HOLT_KEY_BYTES;
  signer->key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, HOLT_KEY_BYTES);
  signer->context = EVP_MD_CTX_new();
  HOLT_ASSERT(signer->key != NULL && signer->context != NULL);
  int rc = EVP_PKEY_get_raw_public_key(signer->key, signer->public_key, &len);
  HOLT_ASSERT(rc == 1 && len == HOLT_KEY_BYTES);
  return signer;
}

void holt_signer_free(struct holt_signer *signer) {
  if (signer == NULL) return;
  EVP_MD_CTX_free(signer->context);
  EVP_PKEY_free(signer->key);
  free(signer);
}

const uint8_t *holt_signer_public(const struct holt_signer *signer) {
  return signer->public_key;
}

void holt_signer_sign(struct holt_signer *signer, struct holt_buf bytes, uint8_t out[HOLT_SIGNATURE_BYTES]) {
  size_t len = HOLT_SIGNATURE_BYTES;
  EVP_MD_CTX_reset(signer->context);
  int rc = EVP_DigestSignInit(signer->context, NULL, NULL, NULL, signer->key);
  rc &= EVP_DigestSign(signer->context, out, &len, bytes.data, bytes.len);
  HOLT_ASSERT(rc == 1 && len == HOLT_SIGNATURE_BYTES);
}
