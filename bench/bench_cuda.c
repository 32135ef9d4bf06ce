/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel rows of a GPU at the shapes of an 8B model, one after the other in one recording, so that launches
 * cost what they cost in a step. Each turn reads another copy of the weights: together they are several times
 * the cache. Shown beside what the GPU reads at most, measured in the same run.
 *
 *     build/bin/bench_cuda [part of "op type"]      e.g. bench_cuda "linear bf16" */
#include <stdio.h>
#include <stdlib.h>

#include "gpu.h"

enum { COPIES_BYTES = 400 << 20, TURNS = 24, REPLAYS = 5 };

static double read_rate;

/* A matrix of random numbers on the device, `copies` times; *bytes: of one. */
static char *matrix(tk_dtype type, int64_t rows, int64_t cols, int *copies, size_t *bytes) {
    enum { SOME = 32 };
    size_t part;
    if (!tk_format_size(type, rows, cols, bytes) || !tk_format_size(type, SOME, cols, &part)) exit(1);
    *copies = (int)TK_MAX(1, TK_MIN(TURNS, COPIES_BYTES / *bytes));
    char *m = take(*bytes * (size_t)*copies + part), *host = calloc(1, part);
    float *row = malloc((size_t)cols * sizeof *row);
    for (int64_t r = 0; r < SOME; r++) {
        for (int64_t c = 0; c < cols; c++) {
            uint32_t word[4], counter[4] = { (uint32_t)c, (uint32_t)r };
            tk_philox(word, 7, counter);
            row[c] = tk_uniform(word[0]) * 0.1f - 0.05f;
        }
        tk_formats[type].pack(host, row, SOME, cols, r);
    }
    for (size_t at = 0; at < *bytes * (size_t)*copies; at += part) must(gpu->put(gpu, m + at, host, part));
    free(row), free(host);
    return m;
}

/* The row that a program would get for this op and weight */
static const tk_kernel_row *row_for(tk_op op, tk_dtype weight) {
    for (int i = tk_nkernels - 1; i >= 0; i--) {
        const tk_kernel_row *r = &tk_kernels[i];
        if (r->op == op && tk__able(r->needs, gpu->features) &&
            (r->weight == weight || r->weight == TK_NODTYPE))
            return r;
    }
    return NULL;
}

/* Seconds of one call: TURNS of them recorded, operand `turned` (-1: none) going from copy to copy. */
static double time_calls(const tk_kernel_row *row, tk_args a, int turned, int copies, size_t step) {
    void *graph, *first = turned < 0 ? NULL : a.p[turned];
    double best = 1e9;
    a.stream = gpu->stream;
    must(gpu->record(gpu));
    for (int i = 0; i < TURNS; i++) {
        if (turned >= 0) a.p[turned] = (char *)first + (size_t)(i % copies) * step;
        row->fn[0](&a);
    }
    must(gpu->recorded(gpu, &graph));
    for (int i = 0; i < REPLAYS; i++) {
        must(gpu->wait(gpu));
        double began = tk_now();
        must(gpu->replay(gpu, graph));
        must(gpu->replay(gpu, graph));
        must(gpu->wait(gpu));
        double seconds = (tk_now() - began) / (2 * TURNS);
        if (i) best = TK_MIN(best, seconds);
    }
    gpu->forget(gpu, graph);
    return best;
}

static void show(const char *what, const char *type, int64_t tokens, double seconds, double bytes,
                 double flops) {
    printf("%-22s %-6s %6lld %10.2f %9.1f %9.2f %6.0f %%\n", what, type, (long long)tokens, seconds * 1e6,
           bytes / seconds / 1e9, flops / seconds / 1e12, 100 * bytes / read_rate / seconds);
}

static void set(tk_args *a, char letter, int64_t n) { a->dim[letter - 'a'] = (tk_dim){ n, 0, n }; }

static void bench_linear(tk_dtype type, int64_t rows, int64_t cols) {
    static const int tokens[] = { 1, 4, 16, 64, 512 };
    const tk_kernel_row *row = row_for(TK_OP_linear, type);
    size_t bytes;
    int copies, one;
    if (!row) return;
    char *w = matrix(type, rows, cols, &copies, &bytes), *x = matrix(TK_F32, 512, cols, &one, &(size_t){ 0 });
    float *y = take((size_t)(512 * rows) * sizeof *y);
    for (size_t i = 0; i < TK_COUNT(tokens); i++) {
        char name[32];
        tk_args a = { .p = { x, w, y }, .type = { TK_F32, (uint8_t)type, TK_F32 }, .nth = 1 };
        set(&a, 't', tokens[i]), set(&a, 'n', rows), set(&a, 'k', cols);
        double s = time_calls(row, a, 1, copies, bytes), t = tokens[i];
        snprintf(name, sizeof name, "linear %lldx%lld", (long long)rows, (long long)cols);
        show(name, tk_formats[type].name, tokens[i], s, (double)bytes + 4 * t * (double)(rows + cols),
             2 * t * (double)rows * (double)cols);
    }
    gpu->give(gpu, w), gpu->give(gpu, x), gpu->give(gpu, y);
}

static void bench_norm(int64_t tokens, int64_t width) {
    size_t bytes;
    int copies, one;
    char *x = matrix(TK_F32, tokens, width, &copies, &bytes),
         *w = matrix(TK_F32, 32, width, &one, &(size_t){ 0 });
    float *y = take(bytes);
    tk_args a = {
        .p = { x, w, y }, .type = { TK_F32, TK_F32, TK_F32 }, .nth = 1, .attr = { { 1e-5f }, { 0 } }
    };
    set(&a, 'h', tokens), set(&a, 'k', width);
    show("norm", "f32", tokens, time_calls(row_for(TK_OP_norm, TK_F32), a, 0, copies, bytes),
         2 * (double)bytes, 4 * (double)(tokens * width));
    gpu->give(gpu, x), gpu->give(gpu, y), gpu->give(gpu, w);
}

/* One new token of each of `seqs` sequences over `depth` keys; 32 query heads, 8 KV heads of 128 */
static void bench_attention(tk_dtype type, int seqs, int depth) {
    enum { G = 8, R = 4, D = 128, S = 64 };
    const int64_t per = tk_ceil_div(depth, S), pages = per * seqs;
    int32_t *start = calloc((size_t)seqs + 1, 4), *past = calloc((size_t)seqs, 4),
            *table = calloc((size_t)pages, 4);
    size_t bytes;
    int copies, one;
    for (int s = 0; s < seqs; s++) start[s + 1] = s + 1, past[s] = depth - 1;
    for (int64_t i = 0; i < pages; i++) table[i] = (int32_t)(pages - 1 - i);
    tk_batch b = { .tokens = seqs,
                   .seqs = seqs,
                   .start = start,
                   .past = past,
                   .pages = table,
                   .max_pages = (int32_t)per,
                   .page_size = S };
    char *k = matrix(type, pages * G * S, D, &copies, &bytes),
         *v = matrix(type, pages * G * S, D, &copies, &bytes),
         *q = matrix(TK_F32, seqs * G * R, D, &one, &(size_t){ 0 });
    float *o = take((size_t)(seqs * G * R * D) * sizeof *o);
    tk_args a = { .p = { q, NULL, k, v, o },
                  .type = { TK_F32, TK_I32, (uint8_t)type, (uint8_t)type, TK_F32, TK_F32 },
                  .nth = 1,
                  .attr = { { 0.088f }, { 0 } } };
    set(&a, 't', seqs), set(&a, 'g', G), set(&a, 'r', R), set(&a, 'd', D), set(&a, 'p', pages),
        set(&a, 's', S);
    void *image = malloc(tk_batch_bytes(&b)), *batch = take(tk_batch_bytes(&b));
    tk_batch_image(&b, image, batch);
    ((tk_batch *)image)->zeros = gpu->zeros;
    must(gpu->put(gpu, batch, image, tk_batch_bytes(&b)));
    free(image);
    a.batch = batch;
    const tk_kernel_row *row = row_for(TK_OP_attn_paged, type);
    a.scratch = take(row->scratch(a.dim, 1) + 1);
    char name[40];
    snprintf(name, sizeof name, "attn_paged %d x %d", seqs, depth);
    double keys = (double)seqs * depth;
    show(name, tk_formats[type].name, seqs, time_calls(row, a, 2, copies, bytes),
         2.0 * (double)bytes, 4 * keys * G * R * D);
    gpu->give(gpu, k), gpu->give(gpu, v), gpu->give(gpu, q), gpu->give(gpu, o), gpu->give(gpu, a.scratch);
    free(start), free(past), free(table);
}

int main(int argc, char **argv) {
    static const int64_t shapes[][2] = {
        { 28672, 4096 }, { 6144, 4096 }, { 4096, 4096 }, { 4096, 14336 }, { 2048, 8192 }
    };
    static const tk_dtype types[] = { TK_BF16, TK_Q8_0, TK_Q4_0, TK_Q4_K, TK_Q6_K };
    const char *filter = argc > 1 ? argv[1] : "";
    if (tk_device_open(&gpu, "cuda", false) != TK_OK) {
        printf("skipped: no CUDA device\n");
        return 0;
    }
    double ops;
    must(gpu->limits(gpu, &read_rate, &ops));
    printf("%s: reads %.0f GB/s, mma.sync bf16 %.0f TFLOP/s\n", gpu->label, read_rate / 1e9, ops / 1e12);
    printf("%-22s %-6s %6s %10s %9s %9s %8s\n", "KERNEL", "TYPE", "TOKENS", "us", "GB/s", "TFLOP/s",
           "OF READ");
    for (size_t t = 0; t < TK_COUNT(types); t++) {
        char name[40];
        snprintf(name, sizeof name, "linear %s", tk_formats[types[t]].name);
        for (size_t i = 0; i < TK_COUNT(shapes) && strstr(name, filter); i++)
            bench_linear(types[t], shapes[i][0], shapes[i][1]);
    }
    if (strstr("norm f32", filter)) bench_norm(1, 4096), bench_norm(512, 4096);
    for (int bf16 = 0; bf16 < 2; bf16++)
        if (strstr(bf16 ? "attn_paged bf16" : "attn_paged f16", filter)) {
            const tk_dtype t = bf16 ? TK_BF16 : TK_F16;
            bench_attention(t, 1, 512), bench_attention(t, 32, 2048), bench_attention(t, 1, 32768);
        }
    gpu->close(gpu);
    return 0;
}
