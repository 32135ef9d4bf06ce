/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a tokenizer.json. One that opens must encode and decode without harm, whatever it says. */
#include <stdint.h>
#include <stdlib.h>

#include "text/text.h"
#include "fuzz_tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] =
        "It's  the 12345 <s>x</s>\r\n\xC3\xA9 a\xCC\xA7\xCC\x81 \xE6\xBC\xA2 \xFF<|end|> aabbab";
    tk_tokenizer *t = NULL;
    tk_str json = { (const char *)data, size };
    if (tk_tokenizer_from_json(&t, json, &json) != TK_OK) return 0;
    fuzz_encode(t, text, sizeof text - 1);
    for (int32_t id = 0; id < tk_tokenizer_size(t) && id < 4096; id++) {
        tk_str piece = tk_tokenizer_piece(t, id);
        if (piece.s && tk_tokenizer_find(t, piece) < 0) abort();
    }
    tk_tokenizer_free(t);
    return 0;
}
