/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a SentencePiece model. One that opens must encode and decode without harm, whatever it says.
 */
#include <stdint.h>
#include <stdlib.h>

#include "text/text.h"
#include "fuzz_tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] = "It's  the <mask> 12345 <s>x</s>\t\xC3\xA9 a\xCC\xA7 \xE6\xBC\xA2 "
                               "\xE2\x96\x81\xE2\x96\x81 \xFF ab\xEF\xAC\x81 ";
    tk_tokenizer *t = NULL;
    if (tk_tokenizer_from_sentencepiece(&t, data, size) != TK_OK) return 0;
    fuzz_encode(t, text, sizeof text - 1);
    tk_tokenizer_free(t);
    return 0;
}
