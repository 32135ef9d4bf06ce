/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs that measure a GPU share: the device, its memory, and the end at the first error. */
#ifndef TK_BENCH_GPU_H
#define TK_BENCH_GPU_H
#include <stdio.h>
#include <stdlib.h>

#include "core/core.h"

static tk_device *gpu;

static inline void must(tk_status s) {
    if (s == TK_OK) return;
    fprintf(stderr, "error: %s\n", tk_error());
    exit(tk__exit_code(s));
}

/* Opens the device and prints what it reads; false where there is none */
static inline bool gpu_ready(void) {
    double read, ops;
    if (tk_device_open(&gpu, "cuda", false) != TK_OK) {
        printf("skipped: no CUDA device\n");
        return false;
    }
    must(gpu->limits(gpu, &read, &ops));
    printf("read_stream %.1f GB/s\n", read / 1e9);
    return true;
}

static inline void *take(size_t bytes) {
    void *m;
    must(gpu->take(gpu, bytes, &m));
    return m;
}
#endif
