// SPDX-License-Identifier: Apache-2.0
//
// A security key in software: OpenSSH's middleware interface (PROTOCOL.u2f, "sk-api", version 10)
// without hardware, so that the real ssh-keygen makes real FIDO signatures in tests.
//
// The key handle is the private key itself.  A touch and a PIN are whatever the caller asks for:
// the flags of a signature are the flags of the request.  The counter is 7 for ever, which real
// keys that do not count do with 0.
//
// The few functions of OpenSSL 3 are declared here, so that no header needs to be installed.

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ECDSA = 0, ED25519 = 1, TOUCHED = 0x01, VERIFIED = 0x04 };
enum { FAILED = -1, UNSUPPORTED = -2 };
enum { NUMBER_BYTES = 32, COUNTER = 7 };

struct sk_option;
struct sk_resident_key;

struct sk_enroll_response {
    uint8_t flags;
    uint8_t *public_key;
    size_t public_key_len;
    uint8_t *key_handle;
    size_t key_handle_len;
    uint8_t *signature;
    size_t signature_len;
    uint8_t *attestation_cert;
    size_t attestation_cert_len;
    uint8_t *authdata;
    size_t authdata_len;
};

struct sk_sign_response {
    uint8_t flags;
    uint32_t counter;
    uint8_t *sig_r;
    size_t sig_r_len;
    uint8_t *sig_s;
    size_t sig_s_len;
};

typedef struct evp_pkey_st EVP_PKEY;
typedef struct evp_md_ctx_st EVP_MD_CTX;
typedef struct evp_md_st EVP_MD;
typedef struct ECDSA_SIG_st ECDSA_SIG;
typedef struct bignum_st BIGNUM;
EVP_PKEY *EVP_PKEY_Q_keygen(void *context, const char *properties, const char *type, ...);
void EVP_PKEY_free(EVP_PKEY *key);
int i2d_PrivateKey(const EVP_PKEY *key, unsigned char **out);
EVP_PKEY *d2i_AutoPrivateKey(EVP_PKEY **key, const unsigned char **in, long length);
int EVP_PKEY_get_raw_public_key(const EVP_PKEY *key, unsigned char *out, size_t *length);
size_t EVP_PKEY_get1_encoded_public_key(EVP_PKEY *key, unsigned char **out);
EVP_MD_CTX *EVP_MD_CTX_new(void);
void EVP_MD_CTX_free(EVP_MD_CTX *context);
const EVP_MD *EVP_sha256(void);
int EVP_DigestSignInit(EVP_MD_CTX *context, void *, const EVP_MD *md, void *, EVP_PKEY *key);
int EVP_DigestSign(EVP_MD_CTX *context, unsigned char *signature, size_t *length,
                   const unsigned char *data, size_t data_length);
ECDSA_SIG *d2i_ECDSA_SIG(ECDSA_SIG **signature, const unsigned char **in, long length);
void ECDSA_SIG_free(ECDSA_SIG *signature);
const BIGNUM *ECDSA_SIG_get0_r(const ECDSA_SIG *signature);
const BIGNUM *ECDSA_SIG_get0_s(const ECDSA_SIG *signature);
int BN_bn2binpad(const BIGNUM *number, unsigned char *out, int length);
unsigned char *SHA256(const unsigned char *data, size_t length, unsigned char *out);

uint32_t sk_api_version(void) { return 0x000a0000; }

int sk_enroll(uint32_t algorithm, const uint8_t *challenge, size_t challenge_len,
              const char *application, uint8_t flags, const char *pin,
              struct sk_option **options, struct sk_enroll_response **response)
{
    (void)challenge, (void)challenge_len, (void)application, (void)pin, (void)options;
    EVP_PKEY *key = NULL;
    if (algorithm == ED25519)
        key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    else if (algorithm == ECDSA)
        key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    else
        return UNSUPPORTED;
    struct sk_enroll_response *made = calloc(1, sizeof *made);
    if (!key || !made)
        return FAILED;
    made->flags = flags;
    made->signature = calloc(1, 1);  // nobody looks at the attestation, but it must be there
    unsigned char *handle = NULL;
    made->key_handle_len = (size_t)i2d_PrivateKey(key, &handle);
    made->key_handle = handle;
    if (algorithm == ED25519) {
        made->public_key_len = NUMBER_BYTES;
        made->public_key = calloc(1, NUMBER_BYTES);
        EVP_PKEY_get_raw_public_key(key, made->public_key, &made->public_key_len);
    } else {
        made->public_key_len = EVP_PKEY_get1_encoded_public_key(key, &made->public_key);
    }
    EVP_PKEY_free(key);
    *response = made;
    return 0;
}

// Return the signature over SHA256(application) | flags | counter | SHA256(data).
static unsigned char *assert_by(EVP_PKEY *key, uint32_t algorithm, const char *application,
                                uint8_t flags, const uint8_t *data, size_t data_len, size_t *length)
{
    unsigned char said[32 + 1 + 4 + 32] = {0};
    SHA256((const unsigned char *)application, strlen(application), said);
    said[32] = flags;
    said[36] = COUNTER;
    SHA256(data, data_len, said + 37);
    unsigned char *signature = calloc(1, *length);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const EVP_MD *md = algorithm == ECDSA ? EVP_sha256() : NULL;
    int done = signature && context && EVP_DigestSignInit(context, NULL, md, NULL, key) == 1 &&
               EVP_DigestSign(context, signature, length, said, sizeof said) == 1;
    EVP_MD_CTX_free(context);
    if (done)
        return signature;
    free(signature);
    return NULL;
}

int sk_sign(uint32_t algorithm, const uint8_t *data, size_t data_len, const char *application,
            const uint8_t *key_handle, size_t key_handle_len, uint8_t flags, const char *pin,
            struct sk_option **options, struct sk_sign_response **response)
{
    (void)pin, (void)options;
    const unsigned char *handle = key_handle;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &handle, (long)key_handle_len);
    struct sk_sign_response *made = calloc(1, sizeof *made);
    if (!key || !made)
        return FAILED;
    made->flags = flags & (TOUCHED | VERIFIED);
    made->counter = COUNTER;
    size_t length = 128;
    unsigned char *signature =
        assert_by(key, algorithm, application, made->flags, data, data_len, &length);
    EVP_PKEY_free(key);
    if (!signature)
        return FAILED;
    if (algorithm == ED25519) {
        made->sig_r = signature;
        made->sig_r_len = length;
    } else {
        const unsigned char *coded = signature;
        ECDSA_SIG *numbers = d2i_ECDSA_SIG(NULL, &coded, (long)length);
        made->sig_r = calloc(1, NUMBER_BYTES);
        made->sig_s = calloc(1, NUMBER_BYTES);
        made->sig_r_len = made->sig_s_len = NUMBER_BYTES;
        BN_bn2binpad(ECDSA_SIG_get0_r(numbers), made->sig_r, NUMBER_BYTES);
        BN_bn2binpad(ECDSA_SIG_get0_s(numbers), made->sig_s, NUMBER_BYTES);
        ECDSA_SIG_free(numbers);
        free(signature);
    }
    *response = made;
    return 0;
}

int sk_load_resident_keys(const char *pin, struct sk_option **options,
                          struct sk_resident_key ***keys, size_t *count)
{
    (void)pin, (void)options, (void)keys, (void)count;
    return UNSUPPORTED;
}
