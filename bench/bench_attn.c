/* SPDX-License-Identifier: Apache-2.0 */
/* Attention on a GPU at the shapes of tools/bench_gpu.py, which measures cuDNN beside it: many queries
 * (`flash_...`, TFLOP/s, half the score matrix counted where it is causal) and one query a sequence
 * (`paged_...`, GB/s of keys and values, each turn from another copy, together several times the cache).
 * bfloat16, random normal numbers, pages in falling order, calls recorded and replayed, medians.
 *
 *     build/bin/bench_attn [part of a name] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuda/cuda.h"
#include "gpu.h"

#pragma weak tk__attention /* a build without CUDA has none */
#pragma weak tk__attention_room

enum { TURNS = 9, SOME = 1 << 21 /* different numbers */, SIZE = 128 /* keys a page */ };

static int compare(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/* n random normal numbers of bfloat16, SOME of them over and over */
static char *numbers(size_t n, uint32_t seed) {
    static uint16_t host[SOME];
    char *there = take(2 * n);
    for (uint32_t i = 0; i < SOME; i++) {
        uint32_t word[4], counter[4] = { i, seed }, bits;
        tk_philox(word, 11, counter);
        const float v =
            sqrtf(-2 * logf(tk_uniform(word[0]) + 1e-7f)) * cosf(6.2831853f * tk_uniform(word[1]));
        memcpy(&bits, &v, 4);
        host[i] = (uint16_t)((bits + 0x8000) >> 16);
    }
    for (size_t at = 0; at < n; at += SOME)
        must(gpu->put(gpu, there + 2 * at, host, 2 * TK_MIN(n - at, (size_t)SOME)));
    return there;
}

/* A step of `seqs` sequences, `tokens` new ones of each after `past`; on the device */
static tk_batch *batch_of(int seqs, int tokens, int past) {
    const int per = (past + tokens + SIZE - 1) / SIZE;
    int32_t *start = calloc((size_t)seqs + 1, 4), *before = calloc((size_t)seqs, 4),
            *table = calloc((size_t)(per * seqs), 4);
    for (int s = 0; s < seqs; s++) start[s + 1] = (s + 1) * tokens, before[s] = past;
    for (int i = 0; i < per * seqs; i++) table[i] = per * seqs - 1 - i;
    tk_batch b = { .tokens = seqs * tokens,
                   .seqs = seqs,
                   .start = start,
                   .past = before,
                   .pages = table,
                   .max_pages = per,
                   .page_size = SIZE };
    void *image = malloc(tk_batch_bytes(&b)), *there = take(tk_batch_bytes(&b));
    tk_batch_image(&b, image, there);
    ((tk_batch *)image)->zeros = gpu->zeros;
    must(gpu->put(gpu, there, image, tk_batch_bytes(&b)));
    free(image), free(start), free(before), free(table);
    return there;
}

/* The median of one call's seconds; turn i of `copies` has the i-th part of keys and values. */
static double seconds(tk_attention a, int copies, size_t step) {
    const int calls = TK_MAX(copies, 8);
    const char *k = a.k, *v = a.v;
    void *graph;
    double times[TURNS];
    a.stream = gpu->stream;
    must(gpu->record(gpu));
    for (int i = 0; i < calls; i++) {
        a.k = k + (size_t)(i % copies) * step, a.v = v + (size_t)(i % copies) * step;
        if (!tk__attention(&a)) exit(1);
    }
    must(gpu->recorded(gpu, &graph));
    for (int i = -1; i < TURNS; i++) {
        must(gpu->wait(gpu));
        const double began = tk_now();
        must(gpu->replay(gpu, graph));
        must(gpu->replay(gpu, graph));
        must(gpu->wait(gpu));
        if (i >= 0) times[i] = (tk_now() - began) / (2 * calls);
    }
    gpu->forget(gpu, graph);
    qsort(times, TURNS, sizeof *times, compare);
    return times[TURNS / 2];
}

static void flash(const char *name, int seqs, int heads, int tokens, int width, bool full) {
    const size_t n = (size_t)seqs * (size_t)heads * (size_t)tokens * (size_t)width;
    tk_attention a = { .o = take(2 * n),
                       .q = numbers(n, 1),
                       .k = numbers(n, 2),
                       .v = numbers(n, 3),
                       .batch = batch_of(seqs, tokens, 0),
                       .groups = heads,
                       .shared = 1,
                       .page_size = SIZE,
                       .tokens = seqs * tokens,
                       .width = width,
                       .scale = 1 / sqrtf((float)width),
                       .type = TK_BF16,
                       .full = full,
                       .narrow = true };
    const double s = seconds(a, 1, 0), flops = 4.0 * (double)n * tokens / (full ? 1 : 2);
    printf("flash_%s %.1f TFLOP/s\n", name, flops / s * 1e-12);
    gpu->give(gpu, a.o), gpu->give(gpu, (void *)a.q), gpu->give(gpu, (void *)a.k),
        gpu->give(gpu, (void *)a.v), gpu->give(gpu, (void *)a.batch);
}

/* 32 query heads, 8 of keys and values, of 128 */
static void paged(const char *name, int seqs, int depth) {
    enum { G = 8, R = 4, D = 128 };
    const size_t n = (size_t)seqs * G * (size_t)depth * D, rows = (size_t)seqs * G * R * D;
    const int copies = (int)TK_MAX(1, TK_MIN(24, ((size_t)3 << 30) / (4 * n)));
    tk_attention a = { .o = take(2 * rows),
                       .q = numbers(2 * rows, 1),
                       .k = numbers(n * (size_t)copies, 2),
                       .v = numbers(n * (size_t)copies, 3),
                       .batch = batch_of(seqs, 1, depth - 1),
                       .groups = G,
                       .shared = R,
                       .page_size = SIZE,
                       .tokens = seqs,
                       .width = D,
                       .keys = (int64_t)seqs * depth,
                       .scale = 0.088f,
                       .type = TK_BF16,
                       .narrow = true };
    a.room = take(tk__attention_room(&a));
    const double s = seconds(a, copies, 2 * n);
    printf("paged_%s %.1f GB/s\npaged_%s.us %.2f us\n", name, 4.0 * (double)n / s * 1e-9, name, s * 1e6);
    gpu->give(gpu, a.o), gpu->give(gpu, (void *)a.q), gpu->give(gpu, (void *)a.k),
        gpu->give(gpu, (void *)a.v), gpu->give(gpu, (void *)a.batch), gpu->give(gpu, a.room);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int seqs, heads, tokens, width;
        bool full;
    } many[] = { { "128_causal_4k", 1, 16, 4096, 128, false },
                 { "128_causal_16k", 1, 16, 16384, 128, false },
                 { "128_full_4k", 1, 16, 4096, 128, true },
                 { "64_causal_4k", 1, 16, 4096, 64, false },
                 { "64_causal_16x12x1k", 16, 12, 1024, 64, false } };
    static const struct {
        const char *name;
        int seqs, depth;
    } few[] = { { "32x2k", 32, 2048 }, { "64x4k", 64, 4096 }, { "1x32k", 1, 32768 }, { "1x512", 1, 512 } };
    char name[64];
    if (tk_device_open(&gpu, "cuda", false) != TK_OK || !tk__attention) {
        printf("skipped: no CUDA device\n");
        return 0;
    }
    for (size_t i = 0; i < TK_COUNT(many); i++) {
        snprintf(name, sizeof name, "flash_%s", many[i].name);
        if (argc < 2 || strstr(name, argv[1]))
            flash(many[i].name, many[i].seqs, many[i].heads, many[i].tokens, many[i].width, many[i].full);
    }
    for (size_t i = 0; i < TK_COUNT(few); i++) {
        snprintf(name, sizeof name, "paged_%s", few[i].name);
        if (argc < 2 || strstr(name, argv[1])) paged(few[i].name, few[i].seqs, few[i].depth);
    }
    gpu->close(gpu);
    return 0;
}
