/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the file of what `tune` found. What is believed must be written and read back the same. */
#include <stdint.h>
#include <stdlib.h>

#include "ops/ways.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char device[] = "NVIDIA H200, CUDA 13.0";
    tk_ways w, again;
    tk_buf a = { 0 }, b = { 0 };
    if (tk_ways_read(&w, device, (const char *)data, size) != TK_OK) return 0;
    if (tk_ways_write(&w, device, &a) != TK_OK || tk_ways_read(&again, device, a.data, a.len) != TK_OK ||
        again.n != w.n || tk_ways_write(&again, device, &b) != TK_OK)
        abort();
    for (int i = 0; i < w.n; i++)
        if (tk_ways_find(&again, &w.list[i].key) != w.list[i].way) abort();
    tk_ways_free(&w), tk_ways_free(&again);
    tk_buf_free(&a), tk_buf_free(&b);
    return 0;
}
