/* SPDX-License-Identifier: Apache-2.0 */
/* What fuzz targets of tokenizer files do with a tokenizer that opened: encode a text in all modes, and back.
 */
#ifndef FUZZ_TOKENS_H
#define FUZZ_TOKENS_H
#include <stdlib.h>

#include "text/text.h"

static inline void fuzz_encode(tk_tokenizer *t, const char *text, size_t n) {
    for (unsigned flags = 0; flags < 4; flags++) {
        tk_ids ids = { 0 };
        tk_buf out = { 0 };
        tk_status s = tk_encode(t, text, n, flags, &ids);
        for (size_t i = 0; i < ids.n; i++)
            if (ids.id[i] < 0 || ids.id[i] >= tk_tokenizer_size(t)) abort();
        if (s == TK_OK && tk_decode(t, ids.id, ids.n, flags & 1, &out) != TK_OK) abort();
        tk_buf_free(&out);
        tk_ids_free(&ids);
    }
}
#endif
