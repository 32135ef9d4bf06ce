/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of tokenizers share: a status that must be TK_OK, and decoding token by token. */
#ifndef TEST_TOKENS_H
#define TEST_TOKENS_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "text/tokenizer.h"

static inline void ok(tk_status s) {
    if (s != TK_OK) print_error("%s\n", tk_error());
    assert_int_equal(s, TK_OK);
}

/* The text of ids, pushed one by one; valid UTF-8 after each */
static inline void stream(const tk_tokenizer *t, const int32_t *ids, size_t n, unsigned flags, tk_buf *out) {
    tk_detok *d;
    ok(tk_detok_new(&d, t, flags));
    for (size_t i = 0; i < n; i++) {
        ok(tk_detok_push(d, ids[i], out));
        assert_true(tk__utf8_valid(out->data ? out->data : "", out->len));
    }
    ok(tk_detok_flush(d, out));
    tk_detok_free(d);
}
#endif
