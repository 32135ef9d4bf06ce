/* SPDX-License-Identifier: Apache-2.0 */
/* Damaged, hostile and unsupported model files: each refused with its own status and words, none a crash
 * (this runs under ASan and UBSan in `make asan`). Most cases are one change to a good file of
 * tests/data/models. */
#include <jansson.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "model/model.h"

#define DATA "tests/data/models/"

static char dir[64];

static int make_dir(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/tokamak-bad-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}
static int remove_dir(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

/* A path in the scratch folder; several live at a time */
static const char *scratch(const char *name) {
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

/* not tk_file_write, which waits for the disk each time */
static void put(const char *name, const void *data, size_t n) {
    FILE *f = fopen(scratch(name), "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) fail_msg("cannot write %s", name);
}

static tk_buf load(const char *path) {
    tk_buf b = { 0 };
    if (tk_file_read(&b, path, 1 << 20) != TK_OK) fail_msg("%s", tk_error());
    return b;
}

static void refused(const char *what, const char *path, tk_status want, const char *words) {
    tk_modelfile *f;
    tk_status s = tk_modelfile_open(&f, path, NULL);
    if (s == TK_OK) {
        tk_modelfile_free(f);
        fail_msg("%s: opened", what);
    }
    if (f) fail_msg("%s: a handle came with the failure", what);
    if (s != want || !strstr(tk_error(), words))
        fail_msg("%s: status %d, wanted %d and \"%s\"; got:\n%s", what, s, want, words, tk_error());
}

/* ---- one patch to a good file ---- */

/* `at` bytes behind the first occurrence of `find` (NULL: the file's start) `width` bytes become `value`, or
 * the text. Tensor info: name, u32 n_dims, u64 dims, u32 type, u64 offset. Key: name, u32 type, value. */
typedef struct patch {
    const char *what, *file, *find;
    int at, width;
    uint64_t value;
    const char *text;
    tk_status want;
    const char *words;
} patch;

static const char *const f32 = "gguf-f32.gguf", *const q8 = "gguf-q8_0.gguf", *const f16 = "gguf-f16.gguf";
#define E_FORMAT TK_E_FORMAT
#define E_UNSUP TK_E_UNSUPPORTED

static tk_buf patched(const patch *p) {
    char path[128];
    snprintf(path, sizeof path, DATA "%s", p->file);
    tk_buf b = load(path);
    char *start = p->find ? memmem(b.data, b.len, p->find, strlen(p->find)) : b.data;
    if (!start) fail_msg("%s: \"%s\" is not in %s", p->what, p->find, p->file);
    char *at = start + p->at;
    size_t n = p->text ? strlen(p->text) : (size_t)p->width;
    if (at < b.data || at + n > b.data + b.len) fail_msg("%s: patch outside the file", p->what);
    memcpy(at, p->text ? p->text : (const char *)&p->value, n);
    return b;
}

static void run_patches(const patch *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        tk_buf b = patched(&p[i]);
        put("bad", b.data, b.len);
        refused(p[i].what, scratch("bad"), p[i].want, p[i].words);
        tk_buf_free(&b);
    }
}

static void bad_gguf(void **state) {
    (void)state;
    /* clang-format off */
    const patch rows[] = {
        { "version 1", f32, NULL, 4, 4, 1, NULL, E_UNSUP, "version 1" },
        { "version 9", f32, NULL, 4, 4, 9, NULL, E_UNSUP, "version 9" },
        { "big-endian version", f32, NULL, 4, 4, 0x03000000, NULL, E_UNSUP, "big-endian" },
        { "big-endian magic", f32, NULL, 0, 4, 0, "FUGG", E_UNSUP, "big-endian" },
        { "ggjt", f32, NULL, 0, 4, 0, "tjgg", E_UNSUP, "before GGUF" },
        { "tensor count", f32, NULL, 8, 8, UINT64_MAX, NULL, E_FORMAT, "count does not fit" },
        { "tensor count + 1", f32, NULL, 8, 8, 24, NULL, E_FORMAT, "" },
        { "tensor count 0", f32, NULL, 8, 8, 0, NULL, E_FORMAT, "no weights" },
        { "key count", f32, NULL, 16, 8, (uint64_t)1 << 60, NULL, E_FORMAT, "count does not fit" },
        { "key count + 1", f32, NULL, 16, 8, 18, NULL, E_FORMAT, "" },
        { "key length", f32, NULL, 24, 8, UINT64_MAX, NULL, E_FORMAT, "truncated" },
        { "key length 2^31", f32, NULL, 24, 8, (uint64_t)1 << 31, NULL, E_FORMAT, "truncated" },
        { "key length 0", f32, NULL, 24, 8, 0, NULL, E_FORMAT, "bad name" },
        { "NUL in a key", f32, "general.name", 3, 1, 0, NULL, E_FORMAT, "bad name" },
        { "value type", f32, "llama.block_count", 17, 4, 13, NULL, E_FORMAT, "value type 13" },
        { "array of arrays", "gguf-text.gguf", "tokenizer.ggml.tokens", 25, 4, 9, NULL, E_UNSUP, "array of arrays" },
        { "array type", "gguf-text.gguf", "tokenizer.ggml.tokens", 25, 4, 99, NULL, E_FORMAT, "value type 99" },
        { "array count", "gguf-text.gguf", "tokenizer.ggml.tokens", 29, 8, UINT64_MAX, NULL, E_FORMAT, "truncated" },
        { "array count 2^30", "gguf-text.gguf", "tokenizer.ggml.token_type", 33, 8, 1 << 30, NULL, E_FORMAT, "truncated" },
        { "string length", f32, "general.name", 16, 8, (uint64_t)1 << 63, NULL, E_FORMAT, "truncated" },
        { "key twice", f32, "llama.attention.key_length", 0, 0, 0, "llama.attention.head_count", E_FORMAT, "there twice" },
        { "architecture", f32, "general.architecture", 32, 0, 0, "lmama", E_UNSUP, "\"lmama\"" },
        { "architecture missing", f32, "general.architecture", 0, 0, 0, "general.architectura", E_FORMAT, "general.architecture is missing" },
        { "architecture not a string", f32, "general.architecture", 20, 4, 10, NULL, E_FORMAT, "truncated" },
        { "block_count missing", f32, "llama.block_count", 0, 0, 0, "llama.block_kount", E_FORMAT, "block_count is missing" },
        { "block_count 0", f32, "llama.block_count", 21, 4, 0, NULL, E_FORMAT, "out of range" },
        { "block_count 3", f32, "llama.block_count", 21, 4, 3, NULL, E_FORMAT, "blk.2.attn_norm.weight is missing" },
        { "block_count 1", f32, "llama.block_count", 21, 4, 1, NULL, E_UNSUP, "has no place" },
        { "block_count 2^31", f32, "llama.block_count", 21, 4, (uint64_t)1 << 31, NULL, E_FORMAT, "out of range" },
        { "block_count float", f32, "llama.block_count", 17, 4, 6, NULL, E_FORMAT, "must be an integer" },
        { "embedding_length", f32, "llama.embedding_length", 26, 4, 17, NULL, E_FORMAT, "shape" },
        { "head_count 0", f32, "llama.attention.head_count", 30, 4, 0, NULL, E_FORMAT, "out of range" },
        { "head_count_kv 3", f32, "llama.attention.head_count_kv", 33, 4, 3, NULL, E_FORMAT, "cannot share" },
        { "heads of two sizes", f32, "llama.attention.value_length", 32, 4, 8, NULL, E_UNSUP, "two sizes" },
        { "rope dims odd", f32, "llama.rope.dimension_count", 30, 4, 3, NULL, E_FORMAT, "rotating" },
        { "rope dims large", f32, "llama.rope.dimension_count", 30, 4, 8, NULL, E_FORMAT, "rotating" },
        { "rope base NaN", f32, "llama.rope.freq_base", 24, 4, 0x7fc00000, NULL, E_FORMAT, "out of range" },
        { "eps negative", f32, "layer_norm_rms_epsilon", 26, 4, 0xbf800000, NULL, E_FORMAT, "out of range" },
        { "vocab_size", f32, "llama.vocab_size", 20, 4, 21, NULL, E_FORMAT, "token_embd.weight has the shape [20, 16]" },
        { "vocab_size 2^32 - 1", f32, "llama.vocab_size", 20, 4, UINT32_MAX, NULL, E_FORMAT, "out of range" },
        { "dimensions", f32, "token_embd.weight", 17, 4, 5, NULL, E_FORMAT, "dimensions" },
        { "3 dimensions", f32, "token_embd.weight", 17, 4, 3, NULL, E_FORMAT, "" },
        { "negative dimension", f32, "token_embd.weight", 21, 8, UINT64_MAX, NULL, E_FORMAT, "overflows" },
        { "product of dimensions", f32, "token_embd.weight", 21, 8, (uint64_t)1 << 62, NULL, E_FORMAT, "overflows" },
        { "bytes of a tensor", f32, "token_embd.weight", 29, 8, (uint64_t)1 << 59, NULL, E_FORMAT, "overflows" },
        { "size past the end", f32, "blk.1.ffn_down.weight", 33, 8, 1 << 20, NULL, E_FORMAT, "" },
        { "shape", f32, "output_norm.weight", 22, 8, 15, NULL, E_FORMAT, "[16]" },
        { "tensor type 99", f32, "token_embd.weight", 37, 4, 99, NULL, E_UNSUP, "type number 99" },
        { "tensor type of a fork", f32, "token_embd.weight", 37, 4, 139, NULL, E_UNSUP, "type IQ4_K (type number 139)" },
        { "tensor type retired", f32, "token_embd.weight", 37, 4, 31, NULL, E_UNSUP, "type Q4_0_4_4 (type number 31)" },
        { "type without kernels", f32, "token_embd.weight", 37, 4, 26, NULL, E_UNSUP, "type I32" },
        { "blocks of 32 in rows of 16", f32, "token_embd.weight", 37, 4, 8, NULL, E_FORMAT, "cannot be of type Q8_0" },
        { "type of another size", q8, "token_embd.weight", 37, 4, 2, NULL, E_FORMAT, "a hole or an overlap" },
        { "offset", f32, "token_embd.weight", 41, 8, 32, NULL, E_FORMAT, "a hole or an overlap" },
        { "offset unaligned", f32, "blk.0.ffn_norm.weight", 37, 8, 1, NULL, E_FORMAT, "a hole or an overlap" },
        { "offset 2^64 - 32", f32, "blk.0.ffn_norm.weight", 37, 8, UINT64_MAX - 31, NULL, E_FORMAT, "a hole or an overlap" },
        { "tensor twice", f32, "blk.1.ffn_up.weight", 0, 0, 0, "blk.0", E_FORMAT, "there twice" },
        { "tensor missing", f32, "blk.1.ffn_up.weight", 0, 0, 0, "blk.9", E_FORMAT, "blk.1.ffn_up.weight is missing" },
        { "tensor of another family", f32, "output.weight", 0, 0, 0, "outpat.weight", E_UNSUP, "outpat.weight has no place" },
        { "NUL in a tensor's name", f32, "token_embd.weight", 5, 1, 0, NULL, E_FORMAT, "bad name" },
        { "rope_freqs shape", f16, "rope_freqs.weight", 21, 8, 3, NULL, E_FORMAT, "rope_freqs.weight must be" },
        { "rope_freqs type", f16, "rope_freqs.weight", 29, 4, 26, NULL, E_FORMAT, "rope_freqs.weight must be" },
        { "bos id negative", "gguf-text.gguf", "tokenizer.ggml.bos_token_id", 31, 4, 0x80000000u, NULL, E_FORMAT, "no token id" },
        { "template with NUL", "gguf-text.gguf", "{{ messages", 4, 1, 0, NULL, E_FORMAT, "NUL" },
    };
    /* clang-format on */
    run_patches(rows, TK_COUNT(rows));
}

static void bad_alignment(void **state) {
    (void)state;
    /* the files have no such key: llama.block_count, of the same length, gives its place; a bad alignment is
     * refused before the count is missed */
    static const uint64_t values[] = { 0, 3, 48, (uint64_t)1 << 31 };
    for (size_t i = 0; i < TK_COUNT(values); i++) {
        patch p = { "alignment", f32, "llama.block_count", 21, 4, values[i], NULL, E_FORMAT, "" };
        tk_buf b = patched(&p);
        memcpy(memmem(b.data, b.len, "llama.block_count", 17), "general.alignment", 17);
        put("bad", b.data, b.len);
        refused("alignment", scratch("bad"), E_FORMAT, "general.alignment");
        tk_buf_free(&b);
    }
}

/* Every prefix of a good file is refused, whatever it is cut in. */
static void truncated_files(void **state) {
    (void)state;
    static const char *const files[] = { "gguf-q8_0.gguf", "gguf-text.gguf", "vocab.gguf", "llama2c-v0.bin",
                                         "llama2c-v1.bin" };
    for (size_t k = 0; k < TK_COUNT(files); k++) {
        char path[128];
        snprintf(path, sizeof path, DATA "%s", files[k]);
        tk_buf b = load(path);
        for (size_t i = 0; i < 256; i++) {
            put("cut", b.data, b.len * i / 256);
            tk_modelfile *f;
            if (tk_modelfile_open(&f, scratch("cut"), NULL) == TK_OK)
                fail_msg("%s cut at %zu/256", files[k], i);
        }
        tk_buf_free(&b);
    }
}

/* Random damage: any answer but a crash. */
static void flipped_bits(void **state) {
    (void)state;
    static const char *const files[] = { "gguf-q8_0.gguf", "gguf-text.gguf", "llama2c-v0.bin" };
    for (size_t k = 0; k < TK_COUNT(files); k++) {
        char path[128];
        snprintf(path, sizeof path, DATA "%s", files[k]);
        tk_buf b = load(path);
        for (uint32_t i = 0; i < 400; i++) {
            uint32_t r[4], counter[4] = { i, (uint32_t)k };
            tk_philox(r, 5, counter);
            size_t at = r[0] % TK_MIN(b.len, (size_t)3000);
            char keep = b.data[at];
            b.data[at] = (char)(r[1] % 3 ? keep ^ (1 << r[2] % 8) : (int)r[2]);
            put("flip", b.data, b.len);
            tk_modelfile *f = NULL;
            if (tk_modelfile_open(&f, scratch("flip"), &(tk_modelfile_options){ .vocab_only = i % 4 == 0 }) ==
                TK_OK) {
                tk_tokenizer *t;
                tk_modelfile_tokenizer(f, &t);
            }
            tk_modelfile_free(f);
            b.data[at] = keep;
        }
        tk_buf_free(&b);
    }
}

static void bad_llama2c(void **state) {
    (void)state;
    static const char *const v0 = "llama2c-v0.bin", *const v1 = "llama2c-v1.bin";
    /* clang-format off */
    const patch rows[] = {
        { "dim 0", v0, NULL, 0, 4, 0, NULL, E_UNSUP, "no model file" },
        { "negative layers", v0, NULL, 8, 4, UINT32_MAX, NULL, E_UNSUP, "no model file" },
        { "heads 3", v0, NULL, 12, 4, 3, NULL, E_UNSUP, "no model file" },
        { "vocab INT_MIN", v0, NULL, 20, 4, 0x80000000u, NULL, E_UNSUP, "no model file" },
        { "more layers", v0, NULL, 8, 4, 1000, NULL, E_FORMAT, "truncated" },
        { "wider", v0, NULL, 0, 4, 1 << 16, NULL, E_FORMAT, "truncated" },
        { "fewer layers", v0, NULL, 8, 4, 1, NULL, E_FORMAT, "too many" },
        { "untied", v0, NULL, 20, 4, (uint32_t)-20, NULL, E_FORMAT, "truncated" },
        { "version 2", v1, NULL, 4, 4, 2, NULL, E_UNSUP, "version 2" },
        { "v1 dim", v1, NULL, 8, 4, 0, NULL, E_FORMAT, "dim = 0 is out of range" },
        { "v1 KV heads", v1, NULL, 24, 4, 3, NULL, E_FORMAT, "do not divide" },
        { "pickle", v0, NULL, 0, 0, 0, "\x80\x02", E_UNSUP, "pickle" },
        { "zip", v0, NULL, 0, 0, 0, "PK\3\4", E_UNSUP, "PyTorch" },
        { "gzip", v0, NULL, 0, 0, 0, "\x1f\x8b", E_UNSUP, "unpack" },
        { "llm.c", v0, NULL, 0, 4, 20240328, NULL, E_UNSUP, "no model file" },
        { "llm.c weights", v0, NULL, 0, 4, 20240326, NULL, E_UNSUP, "llm.c" },
    };
    /* clang-format on */
    run_patches(rows, TK_COUNT(rows));
    tk_buf b = load(DATA "llama2c-v1.bin");
    put("short", b.data, 100);
    refused("v1 header cut", scratch("short"), E_FORMAT, "ends inside it");
    tk_buf_free(&b);
}

/* ---- safetensors: a header and so many bytes ---- */

static void copy_into_scratch(const char *from, const char *to) {
    tk_buf b = load(from);
    put(to, b.data, b.len);
    tk_buf_free(&b);
}

static void put_safetensors(const char *name, const char *header, size_t data) {
    tk_buf b = { 0 };
    uint64_t n = strlen(header);
    tk_buf_put(&b, &n, 8);
    tk_buf_puts(&b, header);
    for (size_t i = 0; i < data; i++) tk_buf_put(&b, "", 1);
    put(name, b.data, b.len);
    tk_buf_free(&b);
}

#define T(name, dtype, shape, from, to)                                                                      \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"

static void bad_safetensors(void **state) {
    (void)state;
    /* clang-format off */
    static const struct { const char *what, *header; size_t data; tk_status want; const char *words; } rows[] = {
        { "empty object", "{}", 0, E_FORMAT, "is missing" },
        { "no object", "[]", 0, E_FORMAT, "does not start with {" },
        { "broken JSON", "{\"a\":", 0, E_FORMAT, "JSON is damaged" },
        { "trailing JSON", "{} {}", 0, E_FORMAT, "JSON is damaged" },
        { "key twice", "{" T("a", "F32", "[1]", "0", "4") "," T("a", "F32", "[1]", "4", "8") "}", 8, E_FORMAT, "uplicate" },
        { "inner key twice", "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, E_FORMAT, "uplicate" },
        { "hole", "{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "8", "12") "}", 12, E_FORMAT, "tensor b leaves a hole" },
        { "hole at the start", "{" T("a", "F32", "[1]", "4", "8") "}", 8, E_FORMAT, "a hole" },
        { "overlap", "{" T("a", "F32", "[2]", "0", "8") "," T("b", "F32", "[1]", "4", "8") "}", 8, E_FORMAT, "overlaps" },
        { "same span", "{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "0", "4") "}", 4, E_FORMAT, "overlaps" },
        { "bytes behind", "{" T("a", "F32", "[1]", "0", "4") "}", 5, E_FORMAT, "1 bytes at its end" },
        { "all bytes behind", "{}", 7, E_FORMAT, "7 bytes at its end" },
        { "backwards", "{" T("a", "F32", "[1]", "4", "0") "}", 4, E_FORMAT, "not [begin, end]" },
        { "negative", "{" T("a", "F32", "[1]", "-4", "0") "}", 4, E_FORMAT, "not [begin, end]" },
        { "past the end", "{" T("a", "F32", "[2]", "0", "8") "}", 4, E_FORMAT, "truncated" },
        { "far past the end", "{" T("a", "U8", "[9223372036854775807]", "0", "9223372036854775807") "}", 4, E_FORMAT, "overflows" },
        { "size", "{" T("a", "F32", "[2]", "0", "4") "}", 4, E_FORMAT, "not shape times type" },
        { "size 0", "{" T("a", "F32", "[0]", "0", "4") "}", 4, E_FORMAT, "not shape times type" },
        { "scalar", "{" T("a", "F32", "[]", "0", "8") "}", 8, E_FORMAT, "not shape times type" },
        { "type", "{" T("a", "F33", "[1]", "0", "4") "}", 4, E_UNSUP, "unknown type \"F33\"" },
        { "overflow", "{" T("a", "F32", "[4294967296,4294967296]", "0", "0") "}", 0, E_FORMAT, "overflows" },
        { "overflow by type", "{" T("a", "F64", "[4611686018427387904]", "0", "0") "}", 0, E_FORMAT, "overflows" },
        { "half a byte", "{" T("a", "F4", "[3]", "0", "1") "}", 1, E_FORMAT, "does not fill bytes" },
        { "negative size", "{" T("a", "F32", "[-1]", "0", "4") "}", 4, E_FORMAT, "whole numbers" },
        { "real size", "{" T("a", "F32", "[1.0]", "0", "4") "}", 4, E_FORMAT, "whole numbers" },
        { "text size", "{" T("a", "F32", "[\"1\"]", "0", "4") "}", 4, E_FORMAT, "whole numbers" },
        { "real offset", "{" T("a", "F32", "[1]", "0.0", "4") "}", 4, E_FORMAT, "not [begin, end]" },
        { "huge offset", "{" T("a", "F32", "[1]", "0", "99999999999999999999") "}", 4, E_FORMAT, "JSON is damaged" },
        { "three offsets", "{" T("a", "F32", "[1]", "0", "4,8") "}", 8, E_FORMAT, "not [begin, end]" },
        { "no dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, E_FORMAT, "has no dtype" },
        { "more fields", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, E_FORMAT, "has no dtype" },
        { "no entry", "{\"a\":3}", 0, E_FORMAT, "has no dtype" },
        { "metadata", "{\"__metadata__\":3}", 0, E_FORMAT, "__metadata__" },
        { "metadata value", "{\"__metadata__\":{\"a\":3}}", 0, E_FORMAT, "__metadata__" },
        { "five dimensions", "{" T("a", "F32", "[1,1,1,1,1]", "0", "4") "}", 4, E_FORMAT, "more than 4" },
        { "bad UTF-8", "{\"\xff\":3}", 0, E_FORMAT, "JSON is damaged" },
        { "NUL in a name", "{\"a\\u0000b\":3}", 0, E_FORMAT, "JSON is damaged" },
        { "unexpected width", "{" T("model.embed_tokens.weight", "F32", "[1]", "0", "4") "}", 4, E_FORMAT, "has the shape [1]" },
    };
    /* clang-format on */
    mkdir(scratch("st"), 0755);
    copy_into_scratch(DATA "hf-llama/config.json", "st/config.json");
    for (size_t i = 0; i < TK_COUNT(rows); i++) {
        put_safetensors("st/model.safetensors", rows[i].header, rows[i].data);
        refused(rows[i].what, scratch("st"), rows[i].want, rows[i].words);
    }
    enum { DEEP = 100000 };
    char *deep = malloc(DEEP + 1);
    memset(deep, '[', DEEP);
    deep[DEEP] = 0, memcpy(deep, "{\"a\":", 5);
    put_safetensors("st/model.safetensors", deep, 0);
    refused("deep JSON", scratch("st"), E_FORMAT, "JSON is damaged");
    free(deep);
    put("st/model.safetensors", "", 0);
    refused("empty file", scratch("st"), E_FORMAT, "0 bytes");
    put("st/model.safetensors", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    refused("header of 2^64 - 1", scratch("st"), E_FORMAT, "the limit is");
    put("st/model.safetensors", "\x20\0\0\0\0\0\0\0{}", 10);
    refused("header longer than the file", scratch("st"), E_FORMAT, "truncated");
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n";
    put("st/model.safetensors", lfs, sizeof lfs - 1);
    refused("LFS pointer", scratch("st"), E_FORMAT, "Git-LFS");
    tk_buf b = load(DATA "hf-llama/model.safetensors");
    for (size_t i = 0; i < 128; i++) {
        put("st/model.safetensors", b.data, b.len * i / 128);
        refused("truncated safetensors", scratch("st"), E_FORMAT, "truncated");
    }
    tk_buf_free(&b);
    unlink(scratch("st/model.safetensors"));
    refused("no weights", scratch("st"), TK_E_NOTFOUND, "holds no weights");
    put("st/pytorch_model.bin", "x", 1);
    refused("pickle only", scratch("st"), E_UNSUP, "pickle");
    refused("a shard alone", DATA "hf-llama/model.safetensors", TK_E_USAGE, "give the folder");
}

static void bad_index(void **state) {
    (void)state;
    static const struct {
        const char *index;
        tk_status want;
        const char *words;
    } rows[] = {
        { "{}", E_FORMAT, "no weight_map" },
        { "[]", E_FORMAT, "no weight_map" },
        { "{\"weight_map\":{}}", E_FORMAT, "no weight_map" },
        { "{\"weight_map\":{\"a\":\"../x.safetensors\"}}", E_FORMAT, "leaves the folder" },
        { "{\"weight_map\":{\"a\":\"/etc/passwd\"}}", E_FORMAT, "leaves the folder" },
        { "{\"weight_map\":{\"a\":\"sub/x.safetensors\"}}", E_FORMAT, "leaves the folder" },
        { "{\"weight_map\":{\"a\":\"..\"}}", E_FORMAT, "leaves the folder" },
        { "{\"weight_map\":{\"a\":\"\"}}", E_FORMAT, "leaves the folder" },
        { "{\"weight_map\":{\"a\":7}}", E_FORMAT, "names no file" },
        { "{\"weight_map\":{\"a\":\"gone.safetensors\"}}", TK_E_NOTFOUND, "gone.safetensors is missing" },
        { "{\"weight_map\":{\"a\":\"one.st\",\"b\":\"one.st\"}}", E_FORMAT, "tensor b is not in one.st" },
        { "{\"weight_map\":{\"a\":\"one.st\",\"c\":\"two.st\",\"a2\":\"one.st\"}}", E_FORMAT, "there twice" },
        { "{\"weight_map\":{\"a\":\"one.st\",\"a\":\"two.st\"}}", E_FORMAT, "uplicate" },
        { "version https://git-lfs.github.com/spec/v1\n", E_FORMAT, "Git-LFS" },
        { "{\"weight_map\":{\"c\":\"three.st\",\"a\":\"one.st\",\"d\":\"one.st\"}}", E_FORMAT,
          "tensor d is not in one.st" },
        { "{\"weight_map\":{\"c\":\"one.st\",\"a\":\"three.st\"}}", E_FORMAT, "tensor c is not in one.st" },
    };
    mkdir(scratch("ix"), 0755);
    copy_into_scratch(DATA "hf-llama/config.json", "ix/config.json");
    put_safetensors("ix/one.st", "{" T("a", "F32", "[1]", "0", "4") "}", 4);
    put_safetensors("ix/two.st", "{" T("a", "F32", "[1]", "0", "4") "," T("c", "F32", "[0]", "4", "4") "}",
                    4);
    put_safetensors("ix/three.st", "{" T("c", "F32", "[1]", "0", "4") "}", 4);
    for (size_t i = 0; i < TK_COUNT(rows); i++) {
        put("ix/model.safetensors.index.json", rows[i].index, strlen(rows[i].index));
        refused(rows[i].index, scratch("ix"), rows[i].want, rows[i].words);
    }
}

/* ---- config.json: one key of a good one changed ---- */

static void bad_config(void **state) {
    (void)state;
    /* clang-format off */
    static const struct { const char *key, *value; tk_status want; const char *words; } rows[] = {
        { "model_type", NULL, E_FORMAT, "model_type is missing" },
        { "model_type", "7", E_FORMAT, "model_type is missing" },
        { "model_type", "\"mamba\"", E_UNSUP, "unknown architecture \"mamba\"" },
        { "quantization_config", "{\"quant_method\":\"bitnet\",\"bits\":4}", E_UNSUP, "\"bitnet\" is not known" },
        { "quantization_config", "{\"quant_method\":\"gptq\",\"bits\":7}", E_UNSUP, "bits of" },
        { "quantization_config", "{\"quant_method\":\"gptq\",\"bits\":4,\"checkpoint_format\":\"marlin\"}", E_UNSUP, "marlin" },
        { "quantization_config", "{\"quant_method\":\"awq\",\"bits\":4,\"version\":\"gemv\"}", E_UNSUP, "gemv" },
        { "quantization_config", "{\"quant_method\":\"compressed-tensors\",\"format\":\"marlin-24\"}", E_UNSUP, "marlin-24" },
        { "quantization_config", "{}", E_UNSUP, "(none)" },
        { "hidden_size", NULL, E_FORMAT, "hidden_size is missing" },
        { "hidden_size", "null", E_FORMAT, "hidden_size is null" },
        { "hidden_size", "\"16\"", E_FORMAT, "must be an integer\nit is a string" },
        { "hidden_size", "16.0", E_FORMAT, "must be an integer\nit is a number" },
        { "hidden_size", "[16]", E_FORMAT, "it is a list or object" },
        { "hidden_size", "true", E_FORMAT, "it is a boolean" },
        { "hidden_size", "0", E_FORMAT, "out of range" },
        { "hidden_size", "-16", E_FORMAT, "out of range" },
        { "hidden_size", "9223372036854775807", E_FORMAT, "out of range" },
        { "hidden_size", "99999999999999999999", E_FORMAT, "JSON is damaged" },
        { "hidden_size", "32", E_FORMAT, "has the shape" },
        { "num_hidden_layers", "3", E_FORMAT, "is missing" },
        { "num_hidden_layers", "1000000000", E_FORMAT, "out of range" },
        { "num_attention_heads", "5", E_FORMAT, "cannot share" },
        { "num_key_value_heads", "3", E_FORMAT, "cannot share" },
        { "head_dim", "5", E_FORMAT, "rotating" },
        { "head_dim", "65536", E_FORMAT, "shape" },
        { "vocab_size", "19", E_FORMAT, "embed_tokens.weight has the shape [20, 16]" },
        { "vocab_size", NULL, E_FORMAT, "vocab_size" },
        { "rms_norm_eps", NULL, E_FORMAT, "rms_norm_eps is missing" },
        { "rms_norm_eps", "null", E_FORMAT, "rms_norm_eps is null" },
        { "rms_norm_eps", "-1", E_FORMAT, "out of range" },
        { "rms_norm_eps", "1e999", E_FORMAT, "JSON is damaged" },
        { "hidden_act", "\"mish\"", E_UNSUP, "activation \"mish\"" },
        { "hidden_act", "3", E_FORMAT, "must be a string" },
        { "attention_bias", "\"yes\"", E_FORMAT, "must be true or false" },
        { "tie_word_embeddings", "1", E_FORMAT, "must be true or false" },
        { "rope_theta", "0", E_FORMAT, "out of range" },
        { "rope_theta", "\"big\"", E_FORMAT, "must be a number" },
        { "rope_scaling", "\"linear\"", E_FORMAT, "must be an object" },
        { "rope_scaling", "{\"type\":\"proportional\",\"factor\":2}", E_UNSUP, "\"proportional\"" },
        { "rope_scaling", "{\"rope_type\":\"longrope\",\"short_factor\":[1]}", E_FORMAT, "short_factor must list 2" },
        { "rope_scaling", "{\"rope_type\":3}", E_FORMAT, "must be a string" },
        { "rope_scaling", "{\"rope_type\":\"linear\"}", E_FORMAT, "no factor" },
        { "rope_scaling", "{\"rope_type\":\"linear\",\"factor\":0}", E_FORMAT, "out of range" },
        { "rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":8}", E_FORMAT, "low_freq_factor" },
        { "rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4}", E_FORMAT, "low_freq_factor" },
        { "rope_scaling", "{\"rope_type\":\"yarn\",\"factor\":4,\"beta_fast\":\"x\"}", E_FORMAT, "must be a number" },
        { "rope_parameters", "{\"full_attention\":{\"rope_type\":\"default\"}}", E_UNSUP, "kind of layer" },
        { "rope_parameters", "{\"rope_type\":\"default\",\"partial_rotary_factor\":0.5}", E_UNSUP, "partial" },
        { "partial_rotary_factor", "0.5", E_UNSUP, "partial" },
        { "eos_token_id", "\"</s>\"", E_FORMAT, "eos_token_id must be" },
        { "eos_token_id", "[2,\"x\"]", E_FORMAT, "eos_token_id must be" },
        { "bos_token_id", "{}", E_FORMAT, "bos_token_id must be" },
    };
    /* clang-format on */
    mkdir(scratch("cf"), 0755);
    copy_into_scratch(DATA "hf-llama/model.safetensors", "cf/model.safetensors");
    for (size_t i = 0; i < TK_COUNT(rows); i++) {
        json_t *good = json_load_file(DATA "hf-llama/config.json", 0, NULL);
        json_object_del(good, rows[i].key);
        char *text = json_dumps(good, 0);
        tk_buf b = { 0 };
        tk_buf_puts(&b, text);
        if (rows[i].value) {
            b.len -= 1; /* the last } */
            tk_buf_printf(&b, ", \"%s\": %s}", rows[i].key, rows[i].value);
        }
        put("cf/config.json", b.data, b.len);
        char what[160];
        snprintf(what, sizeof what, "%s = %.100s", rows[i].key, rows[i].value ? rows[i].value : "(missing)");
        refused(what, scratch("cf"), rows[i].want, rows[i].words);
        free(text), tk_buf_free(&b), json_decref(good);
    }
    put("cf/config.json", "[1]", 3);
    refused("config is a list", scratch("cf"), E_FORMAT, "not a JSON object");
    put("cf/config.json", "{\"model_type\":\"llama\",\"model_type\":\"gpt2\"}", 43);
    refused("config with a key twice", scratch("cf"), E_FORMAT, "uplicate");
    put("cf/config.json", "{\"model_type\":\"lla", 18);
    refused("config cut", scratch("cf"), E_FORMAT, "JSON is damaged");
    copy_into_scratch(DATA "hf-llama/config.json", "cf/config.json");
    put("cf/generation_config.json", "{\"temperature\":\"hot\"}", 21);
    refused("temperature", scratch("cf"), E_FORMAT, "temperature must be a number");
    put("cf/generation_config.json", "{", 1);
    refused("generation config cut", scratch("cf"), E_FORMAT, "generation_config.json: the JSON is damaged");
    unlink(scratch("cf/generation_config.json"));
    put("cf/chat_template.jinja", "a\0b", 3);
    refused("template with NUL", scratch("cf"), E_FORMAT, "NUL");
    unlink(scratch("cf/chat_template.jinja"));
    tk_modelfile *f; /* and the unchanged one is fine, so that it was the changes that were refused */
    if (tk_modelfile_open(&f, scratch("cf"), NULL) != TK_OK) fail_msg("%s", tk_error());
    tk_modelfile_free(f);
}

/* What a family's key can say that its builder does not know */
static void granite_without_rotation(void **state) {
    (void)state;
    tk_buf b = load("tests/data/families_gguf/granite/model.gguf"), with = { 0 };
    for (int on = 0; on < 2; on++) {
        static const char key[] = "granite.rope.scaling.finetuned";
        uint64_t keys, n = sizeof key - 1;
        uint32_t type = 7;
        char value = (char)on;
        memcpy(&keys, b.data + 16, 8), keys += 2;
        with.len = 0;
        tk_buf_put(&with, b.data, 16), tk_buf_put(&with, &keys, 8);
        tk_buf_put(&with, &n, 8), tk_buf_put(&with, key, n), tk_buf_put(&with, &type, 4),
            tk_buf_put(&with, &value, 1);
        n = 1, type = 8; /* and an empty text, so that both keys are 64 bytes and all data stays aligned */
        tk_buf_put(&with, &n, 8), tk_buf_put(&with, "x", 1), tk_buf_put(&with, &type, 4),
            n = 0, tk_buf_put(&with, &n, 8);
        tk_buf_put(&with, b.data + 24, b.len - 24);
        put("granite", with.data, with.len);
        tk_modelfile *f;
        if (!on)
            refused("no rotation", scratch("granite"), E_UNSUP,
                    "rope.scaling.finetuned is set\na model without rotation");
        else if (tk_modelfile_open(&f, scratch("granite"), NULL) == TK_OK)
            tk_modelfile_free(f);
        else
            fail_msg("%s", tk_error());
    }
    tk_buf_free(&with), tk_buf_free(&b);
}

/* Zeros, but for g_idx, which lets the columns of two groups alternate where `mixed` */
typedef struct folder {
    tk_buf header, data;
    bool mixed;
} folder;
static void add_tensor(folder *f, const char *name, const char *dtype, int rows, int cols, size_t each) {
    const size_t from = f->data.len, bytes = (size_t)rows * (size_t)(cols ? cols : 1) * each;
    for (size_t i = 0; i < bytes; i++) tk_buf_put(&f->data, "", 1);
    if (strstr(name, "g_idx"))
        for (int i = 0; i < rows; i++)
            f->data.data[from + 4 * (size_t)i] = (char)(f->mixed ? i % 2 : i / (rows / 2));
    tk_buf_printf(&f->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%d", from ? "," : "{", name, dtype,
                  rows);
    if (cols) tk_buf_printf(&f->header, ",%d", cols);
    tk_buf_printf(&f->header, "],\"data_offsets\":[%zu,%zu]}", from, f->data.len);
}

/* Each expert of a GPTQ model with act-order has its own order of columns; their activations have one. */
static void experts_in_their_own_order(void **state) {
    (void)state;
    static const char config[] =
        "{\"model_type\":\"mixtral\",\"hidden_size\":32,\"intermediate_size\":32,\"num_attention_heads\":1,"
        "\"num_key_value_heads\":1,\"num_hidden_layers\":1,\"num_local_experts\":2,\"num_experts_per_tok\":1,"
        "\"vocab_size\":4,\"max_position_embeddings\":8,\"rms_norm_eps\":1e-5,\"rope_theta\":1e4,\"hidden_"
        "act\":\"silu\","
        "\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":16,\"desc_act\":true}}";
    static const char *const plain[] = { "input_layernorm",  "post_attention_layernorm", "self_attn.q_proj",
                                         "self_attn.k_proj", "self_attn.v_proj",         "self_attn.o_proj" };
    mkdir(scratch("moe"), 0755);
    put("moe/config.json", config, sizeof config - 1);
    for (int mixed = 0; mixed < 2; mixed++) {
        folder f = { .mixed = mixed };
        char name[120];
        add_tensor(&f, "model.embed_tokens.weight", "F32", 4, 32, 4),
            add_tensor(&f, "lm_head.weight", "F32", 4, 32, 4);
        add_tensor(&f, "model.norm.weight", "F32", 32, 0, 4);
        add_tensor(&f, "model.layers.0.block_sparse_moe.gate.weight", "F32", 2, 32, 4);
        for (size_t i = 0; i < TK_COUNT(plain); i++) {
            snprintf(name, sizeof name, "model.layers.0.%s.weight", plain[i]);
            add_tensor(&f, name, "F32", 32, i < 2 ? 0 : 32, 4);
        }
        for (int w = 0; w < 6; w++) {
            int n = snprintf(name, sizeof name, "model.layers.0.block_sparse_moe.experts.%d.w%d.", w / 3,
                             w % 3 + 1);
            strcpy(name + n, "qweight"), add_tensor(&f, name, "I32", 4, 32, 4);
            strcpy(name + n, "qzeros"), add_tensor(&f, name, "I32", 2, 4, 4);
            strcpy(name + n, "scales"), add_tensor(&f, name, "F16", 2, 32, 2);
            strcpy(name + n, "g_idx"), add_tensor(&f, name, "I32", 32, 0, 4);
        }
        tk_buf_puts(&f.header, "}");
        tk_buf all = { 0 };
        uint64_t n = f.header.len;
        tk_buf_put(&all, &n, 8), tk_buf_put(&all, f.header.data, f.header.len),
            tk_buf_put(&all, f.data.data, f.data.len);
        put("moe/model.safetensors", all.data, all.len);
        tk_modelfile *m;
        if (mixed)
            refused("act-order", scratch("moe"), E_UNSUP,
                    "experts.0.w1.weight has columns in another order (act-order)");
        else if (tk_modelfile_open(&m, scratch("moe"), NULL) == TK_OK)
            tk_modelfile_free(m);
        else
            fail_msg("%s", tk_error());
        tk_buf_free(&all), tk_buf_free(&f.header), tk_buf_free(&f.data);
    }
}

static void not_models(void **state) {
    (void)state;
    refused("no such file", scratch("nowhere"), TK_E_NOTFOUND, "No such file");
    mkdir(scratch("empty"), 0755);
    refused("empty folder", scratch("empty"), TK_E_NOTFOUND, "holds no model");
    copy_into_scratch(DATA "vocab.gguf", "empty/some.gguf");
    refused("folder with a GGUF", scratch("empty"), TK_E_NOTFOUND, "some.gguf");
    refused("vocabulary", DATA "vocab.gguf", E_FORMAT, "no weights");
    put("zero", "", 0);
    refused("empty file", scratch("zero"), E_FORMAT, "is empty");
    assert_int_equal(mkfifo(scratch("pipe"), 0600), 0);
    refused("pipe", scratch("pipe"), TK_E_USAGE, "a device or pipe");
    refused("JSON", DATA "hf-llama/config.json", TK_E_USAGE, "JSON file");
    put("text", "Once upon a time there was a file of words.", 43);
    refused("text", scratch("text"), E_UNSUP, "no model file");
    put("three", "GGU", 3);
    refused("three bytes", scratch("three"), E_UNSUP, "no model file");
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n";
    put("lfs.gguf", lfs, sizeof lfs - 1);
    refused("LFS pointer", scratch("lfs.gguf"), E_FORMAT, "Git-LFS");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_gguf),
        cmocka_unit_test(bad_alignment),
        cmocka_unit_test(truncated_files),
        cmocka_unit_test(flipped_bits),
        cmocka_unit_test(bad_llama2c),
        cmocka_unit_test(bad_safetensors),
        cmocka_unit_test(bad_index),
        cmocka_unit_test(bad_config),
        cmocka_unit_test(not_models),
        cmocka_unit_test(granite_without_rotation),
        cmocka_unit_test(experts_in_their_own_order),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
