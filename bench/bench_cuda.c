/* SPDX-License-Identifier: Apache-2.0 */
/* Products of few tokens on a GPU at the shapes of docs/FACTS.md's tables: rows of the kernel table, one call
 * behind the other in one recording, so that launches cost what they cost in a step; medians of its replays.
 * Each call reads another copy of the weights: together they are several times what the GPU's cache holds.
 * One line a case, `name value unit`, for tools/bench_gpu.py.
 *
 *     build/bin/bench_cuda [part of a name]      e.g. bench_cuda linear_4096x4096_bf16 */
#include <stdio.h>
#include <stdlib.h>

#include "gpu.h"

enum { COPIES_BYTES = 400 << 20, CALLS = 24, REPLAYS = 5, TURNS = 7 };

static const char *filter = "";

/* Random numbers in rows of a format, again and again */
static char *numbers(tk_dtype type, int64_t cols, size_t bytes) {
    enum { SOME = 32 };
    size_t part;
    if (!tk_format_size(type, SOME, cols, &part)) exit(1);
    char *m = take(bytes), *host = calloc(1, part);
    float *row = malloc((size_t)cols * sizeof *row);
    for (int64_t r = 0; r < SOME; r++) {
        for (int64_t c = 0; c < cols; c++) {
            uint32_t word[4], counter[4] = { (uint32_t)c, (uint32_t)r };
            tk_philox(word, 7, counter);
            row[c] = tk_uniform(word[0]) + tk_uniform(word[1]) + tk_uniform(word[2]) - 1.5f;
        }
        tk_formats[type].pack(host, row, SOME, cols, r);
    }
    for (size_t at = 0; at < bytes; at += part) must(gpu->put(gpu, m + at, host, TK_MIN(part, bytes - at)));
    free(row), free(host);
    return m;
}

/* The row that a program gets: the last that fits; TK_NODTYPE: any */
static const tk_kernel_row *row_of(tk_op op, tk_dtype act, tk_dtype weight, tk_dtype out) {
    for (int i = tk_nkernels - 1; i >= 0; i--) {
        const tk_kernel_row *r = &tk_kernels[i];
        if (r->op == op && tk__able(r->needs, gpu->features) && (act == TK_NODTYPE || r->act == act) &&
            (weight == TK_NODTYPE || r->weight == weight) && (out == TK_NODTYPE || r->out == out))
            return r;
    }
    return NULL;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of one call; operand 1 goes from copy to copy. */
static double time_calls(const tk_kernel_row *row, tk_args a, int copies, size_t step) {
    void *graph, *first = a.p[1];
    double seconds[TURNS];
    a.stream = gpu->stream, a.nth = 1;
    must(gpu->record(gpu));
    for (int i = 0; i < CALLS; i++) {
        a.p[1] = (char *)first + (size_t)(i % copies) * step;
        row->fn[0](&a);
    }
    must(gpu->recorded(gpu, &graph));
    must(gpu->replay(gpu, graph));
    for (int i = 0; i < TURNS; i++) {
        must(gpu->wait(gpu));
        const double began = tk_now();
        for (int k = 0; k < REPLAYS; k++) must(gpu->replay(gpu, graph));
        must(gpu->wait(gpu));
        seconds[i] = (tk_now() - began) / (REPLAYS * CALLS);
    }
    gpu->forget(gpu, graph);
    qsort(seconds, TURNS, sizeof *seconds, by_size);
    return seconds[TURNS / 2];
}

static void set(tk_args *a, char letter, int64_t n) { a->dim[letter - 'a'] = (tk_dim){ n, 0, n }; }

/* y = x w^T as a serving program has it: weights in the layout that the GPU's products want */
static void bench_linear(tk_dtype type, int64_t rows, int64_t cols, const int *tokens) {
    enum { MOST = 256 };
    char name[64];
    const tk_kernel_row *pack = row_of(TK_OP_pack, type, TK_NODTYPE, TK_NODTYPE);
    const tk_dtype packed = pack ? pack->out : type;
    const tk_kernel_row *row = row_of(TK_OP_linear, TK_NODTYPE, packed, TK_NODTYPE);
    size_t bytes, file;
    bool wanted = false;
    for (int i = 0; tokens[i]; i++) {
        snprintf(name, sizeof name, "linear_%lldx%lld_%s_%d.us", (long long)rows, (long long)cols,
                 tk_formats[type].name, tokens[i]);
        wanted |= strstr(name, filter) != NULL;
    }
    if (!row || !wanted || !tk_format_size(packed, rows, cols, &bytes) ||
        !tk_format_size(type, rows, cols, &file))
        return;
    const int copies = (int)TK_MAX(2, TK_MIN(CALLS, COPIES_BYTES / bytes));
    char *w = take(bytes * (size_t)copies), *plain = numbers(type, cols, file),
         *x = numbers(row->act, cols, (size_t)(MOST * cols) * (size_t)tk_formats[row->act].bytes);
    for (int i = 0; i < copies; i++) {
        tk_args a = { .p = { plain, w + (size_t)i * bytes },
                      .type = { (uint8_t)type, (uint8_t)packed },
                      .stream = gpu->stream,
                      .nth = 1 };
        set(&a, 'n', rows), set(&a, 'k', cols);
        if (pack)
            pack->fn[0](&a);
        else
            must(gpu->move(gpu, a.p[1], plain, bytes));
    }
    must(gpu->wait(gpu));
    tk_args a = { .p = { x, w, take((size_t)(MOST * rows) * 4) },
                  .type = { (uint8_t)row->act, (uint8_t)packed, (uint8_t)row->out } };
    set(&a, 't', MOST), set(&a, 'n', rows), set(&a, 'k', cols);
    if (row->scratch) a.scratch = take(row->scratch(a.dim, 1) + 1);
    for (int i = 0; tokens[i]; i++) {
        snprintf(name, sizeof name, "linear_%lldx%lld_%s_%d.us", (long long)rows, (long long)cols,
                 tk_formats[type].name, tokens[i]);
        if (!strstr(name, filter)) continue;
        set(&a, 't', tokens[i]);
        printf("%s %.3f us\n", name, time_calls(row, a, copies, bytes) * 1e6);
        fflush(stdout);
    }
    gpu->give(gpu, w), gpu->give(gpu, plain), gpu->give(gpu, x), gpu->give(gpu, a.p[2]);
    if (a.scratch) gpu->give(gpu, a.scratch);
}

int main(int argc, char **argv) {
    static const int64_t shapes[][2] = { { 28672, 4096 }, { 6144, 4096 }, { 4096, 4096 },
                                         { 4096, 14336 }, { 2048, 8192 }, { 128256, 4096 } };
    static const tk_dtype types[] = { TK_BF16, TK_Q8_0, TK_F8, TK_Q4_0, TK_Q4_Z, TK_Q4_K, TK_Q6_K };
    static const int all[] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 0 }, some[] = { 1, 16, 64, 0 };
    if (argc > 1) filter = argv[1];
    if (!gpu_ready()) return 0;
    for (size_t t = 0; t < TK_COUNT(types); t++)
        for (size_t i = 0; i < TK_COUNT(shapes); i++)
            bench_linear(types[t], shapes[i][0], shapes[i][1], types[t] == TK_BF16 ? all : some);
    gpu->close(gpu);
    return 0;
}
