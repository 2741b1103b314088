/* SHA-256 and Ed25519 against the examples of FIPS 180-4 and RFC 8032, section 7.1. */
#include <stdio.h>

#include "journal/crypto.h"
#include "unit.h"

static struct holt_buf from_hex(const char *text, uint8_t *out) {
  size_t len = strlen(text) / 2;
  for (size_t i = 0; i < len; i++) {
    unsigned byte;
    assert_int_equal(sscanf(text + 2 * i, "%2x", &byte), 1);
    out[i] = (uint8_t)byte;
  }
  return holt_buf(out, len);
}

static void hashes_are_those_of_the_standard(void **state) {
  (void)state;
  static const char *const examples[][2] = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
  };
  struct holt_crypto *crypto = holt_crypto_new();
  for (int round = 0; round < 2; round++) /* the context is used again */
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
      uint8_t got[HOLT_HASH_BYTES], want[HOLT_HASH_BYTES];
      holt_crypto_hash(crypto, holt_buf_text(examples[i][0]), got);
      from_hex(examples[i][1], want);
      assert_memory_equal(got, want, sizeof want);
    }
  holt_crypto_free(crypto);
}

static const struct {
  const char *seed, *public_key, *message, *signature;
} signed_ones[] = {
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f"
     "0595b"
     "be24655141438e7a100b"},
    {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2ea"
     "eb430"
     "2aeeb00d291612bb0c00"},
};

static void signatures_are_those_of_the_standard(void **state) {
  (void)state;
  struct holt_crypto *crypto = holt_crypto_new();
  for (size_t i = 0; i < sizeof signed_ones / sizeof signed_ones[0]; i++) {
    uint8_t seed[HOLT_KEY_BYTES], key[HOLT_KEY_BYTES], bytes[8], want[HOLT_SIGNATURE_BYTES],
        got[HOLT_SIGNATURE_BYTES];
    from_hex(signed_ones[i].seed, seed);
    from_hex(signed_ones[i].public_key, key);
    from_hex(signed_ones[i].signature, want);
    struct holt_buf message = from_hex(signed_ones[i].message, bytes);
    struct holt_signer *signer = holt_signer_new(seed);
    assert_memory_equal(holt_signer_public(signer), key, sizeof key);
    holt_signer_sign(signer, message, got);
    assert_memory_equal(got, want, sizeof want);
    assert_true(holt_crypto_verify(key, message, want));
    holt_signer_free(signer);
  }
  holt_crypto_free(crypto);
}

static void what_was_altered_is_not_vouched_for(void **state) {
  (void)state;
  uint8_t seed[HOLT_KEY_BYTES] = {7}, other[HOLT_KEY_BYTES] = {8}, signature[HOLT_SIGNATURE_BYTES];
  char text[] = "the whole truth";
  struct holt_crypto *crypto = holt_crypto_new();
  struct holt_signer *signer = holt_signer_new(seed), *stranger = holt_signer_new(other);
  const uint8_t *key = holt_signer_public(signer);
  holt_signer_sign(signer, holt_buf_text(text), signature);
  assert_true(holt_crypto_verify(key, holt_buf_text(text), signature));
  assert_false(holt_crypto_verify(holt_signer_public(stranger), holt_buf_text(text), signature));
  assert_true(holt_crypto_verify(key, holt_buf_text(text), signature)); /* the key kept is the right one */
  text[4] ^= 1;
  assert_false(holt_crypto_verify(key, holt_buf_text(text), signature));
  text[4] ^= 1;
  for (size_t i = 0; i < sizeof signature; i++) {
    signature[i] ^= 0x10;
    assert_false(holt_crypto_verify(key, holt_buf_text(text), signature));
    signature[i] ^= 0x10;
  }
  holt_signer_free(signer);
  holt_signer_free(stranger);
  holt_crypto_free(crypto);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(hashes_are_those_of_the_standard),
      cmocka_unit_test(signatures_are_those_of_the_standard),
      cmocka_unit_test(what_was_altered_is_not_vouched_for),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
