/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a compiled tokenizer, with size and checksum set right so that the checks behind them are met.
 * What is believed must encode and be asked about without harm. */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIZE_AT = 32, HEAD = 152 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    if (size < HEAD) return 0;
    uint8_t *copy = malloc(size);
    if (!copy) abort();
    memcpy(copy, data, size);
    uint64_t both[2] = { size, 0 };
    memcpy(copy + SIZE_AT, both, sizeof both);
    both[1] = XXH3_64bits_withSeed(copy + HEAD, size - HEAD, XXH3_64bits(copy, HEAD));
    memcpy(copy + SIZE_AT, both, sizeof both);
    snprintf(path, sizeof path, "/tmp/fuzz-token-cache.%ld", (long)getpid());
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(copy, 1, size, f) != size || fclose(f)) abort();
    free(copy);
    tk__image *image = tk__image_open(path, NULL);
    unlink(path);
    if (!image) return 0;
    tk_tokenizer *t;
    tk_ids ids = { 0 };
    if (tk__tokenizer_new(&t, 0) != TK_OK) abort();
    t->image = image;
    (void)tk__image_rest(image);
    if (tk__cache_adopt(t, image) != TK_OK) abort();
    if (tk__tokenizer_finish(t) == TK_OK && tk_encode(t, "ab abc \xC3\xA9 aab", 13, 0, &ids) == TK_OK)
        for (size_t i = 0; i < ids.n; i++)
            if (ids.id[i] < 0 || ids.id[i] >= tk_tokenizer_size(t)) abort();
    tk_ids_free(&ids);
    tk_tokenizer_free(t);
    return 0;
}
