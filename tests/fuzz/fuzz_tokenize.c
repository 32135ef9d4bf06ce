/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as text, by tokenizers of each kind: first byte: which one, second: flags, the rest: the text;
 * and the same bytes as ids. Byte-level tokenizers must give the text back; streaming must equal decoding at
 * once. */
#include <stdint.h>
#include <stdlib.h>

#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = { "gpt2", "llama3", "smollm", "qwen2", "llama2", "odd1", "odd2" };
enum { FAITHFUL = 2 }; /* the first two neither normalize nor add a space */
static tk_tokenizer *opened[TK_COUNT(names)];

static void decode_both_ways(const tk_tokenizer *t, const tk_ids *ids, unsigned flags, tk_buf *whole) {
    tk_buf parts = { 0 };
    tk_detok *d;
    if (tk_decode(t, ids->id, ids->n, flags, whole) != TK_OK || tk_detok_new(&d, t, flags) != TK_OK) abort();
    for (size_t i = 0; i < ids->n; i++)
        if (tk_detok_push(d, ids->id[i], &parts) != TK_OK) abort();
    if (tk_detok_flush(d, &parts) != TK_OK) abort();
    tk_detok_free(d);
    if (whole->len && !tk__utf8_valid(whole->data, whole->len)) abort();
    if (ids->n < TK_DETOK_HOLD &&
        (parts.len != whole->len || (parts.len && memcmp(parts.data, whole->data, parts.len))))
        abort();
    tk_buf_free(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    size_t which = data[0] % TK_COUNT(names);
    unsigned flags = data[1] & 3;
    const char *text = (const char *)data + 2;
    size_t n = size - 2;
    if (!opened[which]) {
        char path[128];
        snprintf(path, sizeof path, "tests/data/tokenizers/%s.json", names[which]);
        if (tk_tokenizer_open(&opened[which], path) != TK_OK) abort();
    }
    const tk_tokenizer *t = opened[which];
    tk_ids ids = { 0 };
    tk_buf whole = { 0 }, clean = { 0 };
    if (tk_encode(t, text, n, flags, &ids) != TK_OK) abort();
    decode_both_ways(t, &ids, 0, &whole);
    tk__utf8_clean(&clean, text, n);
    if (which < FAITHFUL && !flags &&
        (whole.len != clean.len || (n && memcmp(whole.data, clean.data, clean.len))))
        abort();
    ids.n = whole.len = 0;
    for (size_t i = 0; i + 1 < n; i += 2)
        if (tk_ids_push(&ids, (data[i + 2] << 8 | data[i + 3]) % tk_tokenizer_size(t)) != TK_OK) abort();
    decode_both_ways(t, &ids, flags & TK_DECODE_SKIP_SPECIAL, &whole);
    tk_buf_free(&whole);
    tk_buf_free(&clean);
    tk_ids_free(&ids);
    return 0;
}
