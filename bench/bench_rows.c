/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the kernel table on a GPU that are no products and no attention, at the sizes of docs/FACTS.md's
 * table: norms and elementwise ops on numbers in bfloat16, far larger than the cache, and the draw of tokens.
 * Operands are random; times are medians of replayed graphs. One line a case, `name value unit`, for
 * tools/bench_gpu.py: microseconds, and the bytes that must move over the time.
 *
 *     build/bin/bench_rows [part of a name] */
#include <stdio.h>
#include <stdlib.h>

#include "gpu.h"
#include "ops/draw.h"

enum { CALLS = 4, TURNS = 9, MOST_OPERANDS = 5 };

static const char *filter = "";

/* Random numbers on the device */
static void *fill(tk_dtype type, int64_t n) {
    enum { SOME = 1 << 20 };
    const size_t each = (size_t)tk_formats[type].bytes;
    char *host = malloc(SOME * each), *m;
    float one[1];
    char *there = take((size_t)n * each);
    for (int i = 0; i < SOME; i++) {
        uint32_t word[4], counter[4] = { (uint32_t)i };
        tk_philox(word, 7, counter);
        one[0] = (tk_uniform(word[0]) + tk_uniform(word[1]) + tk_uniform(word[2]) - 1.5f) *
                 4; /* bell-shaped, deviation 2 */
        tk_formats[type].pack(host + (size_t)i * each, one, 1, 1, 0);
    }
    m = there;
    for (int64_t at = 0; at < n; at += SOME)
        must(gpu->put(gpu, m + (size_t)at * each, host, (size_t)TK_MIN((int64_t)SOME, n - at) * each));
    free(host);
    return there;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median seconds of one call */
static double time_call(const tk_kernel_row *row, tk_args *a) {
    void *graph;
    double seconds[TURNS];
    a->stream = gpu->stream, a->nth = 1;
    must(gpu->record(gpu));
    for (int i = 0; i < CALLS; i++) row->fn[0](a);
    must(gpu->recorded(gpu, &graph));
    must(gpu->replay(gpu, graph));
    for (int i = 0; i < TURNS; i++) {
        must(gpu->wait(gpu));
        const double began = tk_now();
        for (int k = 0; k < 5; k++) must(gpu->replay(gpu, graph));
        must(gpu->wait(gpu));
        seconds[i] = (tk_now() - began) / (5 * CALLS);
    }
    gpu->forget(gpu, graph);
    qsort(seconds, TURNS, sizeof *seconds, by_size);
    return seconds[TURNS / 2];
}

static void show(const char *name, double seconds, double bytes) {
    printf("%s.us %.3f us\n%s %.1f GB/s\n", name, seconds * 1e6, name, bytes / seconds / 1e9);
    fflush(stdout);
}

/* The row of this op with these activations */
static const tk_kernel_row *row_of(tk_op op, tk_dtype act, tk_dtype out) {
    for (int i = tk_nkernels - 1; i >= 0; i--)
        if (tk_kernels[i].op == op && tk__able(tk_kernels[i].needs, gpu->features) &&
            tk_kernels[i].act == act && tk_kernels[i].out == out)
            return &tk_kernels[i];
    return NULL;
}

/* Operands of a case: b numbers of the act's dtype (rows x cols), f float32 (cols), then results likewise as
 * B */
typedef struct bench {
    const char *name;
    tk_op op;
    const char *operands;
    tk_dtype act, out;
    int64_t rows, cols;
    tk_attr attr;
} bench;

static void run(const bench *b) {
    tk_args a = { .attr = b->attr };
    const int64_t n = b->rows * b->cols;
    double bytes = 0;
    const tk_kernel_row *row = row_of(b->op, b->act, b->out);
    if (!strstr(b->name, filter) || !row) return;
    for (int i = 0; b->operands[i]; i++) {
        const bool rows = b->operands[i] != 'f', result = b->operands[i] == 'B';
        const tk_dtype type = !rows ? TK_F32 : result ? b->out : b->act;
        if (b->operands[i] == '-') continue;
        a.p[i] = fill(type, rows ? n : b->cols), a.type[i] = (uint8_t)type;
        bytes += rows ? (double)n * (double)tk_formats[type].bytes : 0;
    }
    /* whatever the op calls its rows and columns; whole operands are one letter n */
    for (const char *l = "thkn"; *l; l++)
        a.dim[*l - 'a'] = (tk_dim){ *l == 't' || *l == 'h' ? b->rows : b->cols, 0, b->cols };
    if (b->op == TK_OP_glu) a.dim['n' - 'a'].n = n;
    show(b->name, time_call(row, &a), bytes);
    for (int i = 0; i < MOST_OPERANDS; i++)
        if (a.p[i]) gpu->give(gpu, a.p[i]);
}

static void bench_norms(void) {
    static const int64_t widths[] = { 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072 };
    for (size_t i = 0; i < TK_COUNT(widths); i++) {
        char name[32];
        const int64_t rows = ((int64_t)1 << 28) / widths[i];
        const tk_attr eps = { { 1e-5f }, { 0 } };
        snprintf(name, sizeof name, "norm_%lld", (long long)widths[i]);
        run(&(bench){ name, TK_OP_norm, "bfB", TK_BF16, TK_BF16, rows, widths[i], eps });
        snprintf(name, sizeof name, "lnorm_%lld", (long long)widths[i]);
        run(&(bench){ name, TK_OP_lnorm, "bffB", TK_BF16, TK_BF16, rows, widths[i], eps });
    }
}

static void bench_draw(int rows, int vocab, const char *name, tk_draw how) {
    tk_args a = { 0 };
    const tk_kernel_row *row = row_of(TK_OP_draw, TK_F32, TK_I32);
    tk_draw *each = calloc((size_t)rows, sizeof *each);
    if (!strstr(name, filter) || !row) return;
    for (int i = 0; i < rows; i++) each[i] = how, each[i].seed[0] = (uint32_t)i;
    a.dim['o' - 'a'] = (tk_dim){ rows, 0, rows }, a.dim['v' - 'a'] = (tk_dim){ vocab, 0, vocab };
    a.p[0] = fill(TK_F32, (int64_t)rows * vocab), a.p[1] = take((size_t)rows * sizeof *each);
    must(gpu->put(gpu, a.p[1], each, (size_t)rows * sizeof *each));
    a.p[2] = take((size_t)vocab * 4), a.p[3] = take((size_t)vocab * 4),
    a.p[4] = take((size_t)rows * 4); /* one line */
    a.scratch = take(row->scratch(a.dim, 1) + 1);
    show(name, time_call(row, &a), (double)rows * vocab * 4);
    for (int i = 0; i < 5; i++) gpu->give(gpu, a.p[i]);
    gpu->give(gpu, a.scratch), free(each);
}

/* Rotation of 32 heads of 128, by itself and with the append of 8 heads to a cache in float16 */
static void bench_rope(int64_t tokens, const char *name, bool append) {
    enum { HEADS = 32, KEYS = 8, WIDTH = 128, PAGE = 64 };
    tk_args a = { .attr = { { 1 }, { TK_ROPE_HALF } } };
    const tk_kernel_row *row = row_of(append ? TK_OP_rope_kvput : TK_OP_rope, TK_F32, TK_F32);
    const struct {
        char letter;
        int64_t n;
    } sizes[] = { { 't', tokens }, { 'h', HEADS },        { 'd', WIDTH }, { 'z', WIDTH / 2 },
                  { 'g', KEYS },   { 'r', HEADS / KEYS }, { 's', PAGE },  { 'p', tokens / PAGE + 1 } };
    int32_t *position = calloc((size_t)tokens, sizeof *position);
    float frequency[WIDTH / 2];
    if (!strstr(name, filter) || !row) return;
    for (int64_t i = 0; i < tokens; i++) position[i] = (int32_t)i;
    for (int i = 0; i < WIDTH / 2; i++) frequency[i] = exp2f(-20.0f * (float)i / WIDTH);
    for (size_t i = 0; i < TK_COUNT(sizes); i++)
        a.dim[sizes[i].letter - 'a'] = (tk_dim){ sizes[i].n, 0, sizes[i].n };
    const size_t q = (size_t)tokens * HEADS * WIDTH * 4, k = (size_t)tokens * KEYS * WIDTH * 4,
                 ints = (size_t)tokens * 4;
    char *places = take(2 * ints + sizeof frequency);
    must(gpu->put(gpu, places, position, ints)),
        must(gpu->put(gpu, places + ints, position, ints)); /* slots: one page after another */
    must(gpu->put(gpu, places + 2 * ints, frequency, sizeof frequency));
    void *x = fill(TK_F32, tokens * HEADS * WIDTH), *y = take(q),
         *keys = fill(TK_F32, 2 * tokens * KEYS * WIDTH), *cache = take(2 * k);
    if (append) {
        void *const operands[] = {
            x, keys,  (char *)keys + k, places, places + 2 * ints, places + ints, cache, (char *)cache + k,
            y, cache, (char *)cache + k
        };
        memcpy(a.p, operands, sizeof operands), a.type[6] = a.type[7] = TK_F16;
    } else {
        void *const operands[] = { x, places, places + 2 * ints, y };
        memcpy(a.p, operands, sizeof operands);
    }
    show(name, time_call(row, &a),
         2.0 * (double)q + (append ? 3.0 * (double)k : 0)); /* keys and values: 4 bytes in, 2 out */
    gpu->give(gpu, x), gpu->give(gpu, y), gpu->give(gpu, keys), gpu->give(gpu, cache), gpu->give(gpu, places),
        free(position);
}

int main(int argc, char **argv) {
    static const tk_attr silu = { { 0 }, { TK_ACT_SILU } }, tanh_gelu = { { 0 }, { TK_ACT_GELU_TANH } },
                         erf_gelu = { { 0 }, { TK_ACT_GELU_ERF } }, eps = { { 1e-5f }, { 0 } };
    static const bench cases[] = {
        { "add_norm_8192", TK_OP_add_norm, "bbfBB", TK_BF16, TK_BF16, 32768, 8192, eps },
        { "swiglu", TK_OP_glu, "bbB", TK_BF16, TK_BF16, 16384, 14336, silu },
        { "bias_gelu_tanh", TK_OP_bias_act, "bfB", TK_BF16, TK_BF16, 16384, 16384, tanh_gelu },
        { "bias_gelu_erf", TK_OP_bias_act, "bfB", TK_BF16, TK_BF16, 16384, 16384, erf_gelu },
        { "softmax_8192x32768", TK_OP_softmax, "bB", TK_BF16, TK_BF16, 8192, 32768, { { 0 }, { 0 } } },
        /* as programs have them: a float32 residual stream */
        { "norm_quant_f32_4096x4096", TK_OP_norm_quant, "bfB", TK_F32, TK_BF16, 4096, 4096, eps },
        { "norm_quant_f32_1x4096", TK_OP_norm_quant, "bfB", TK_F32, TK_BF16, 1, 4096, eps },
        { "norm_quant_f32_64x4096", TK_OP_norm_quant, "bfB", TK_F32, TK_BF16, 64, 4096, eps },
        { "quant_65536x4096", TK_OP_quant, "bB", TK_F32, TK_BF16, 65536, 4096, { { 0 }, { 0 } } },
        { "glu_quant_f32_1x14336", TK_OP_glu_quant, "bbB", TK_F32, TK_BF16, 1, 14336, silu },
    };
    if (argc > 1) filter = argv[1];
    if (!gpu_ready()) return 0;
    bench_norms();
    for (size_t i = 0; i < TK_COUNT(cases); i++) run(&cases[i]);
    bench_rope(16384, "rope", false);
    bench_rope(2048, "rope_kvput_2048", true);
    bench_rope(1, "rope_kvput_1", true);
    bench_draw(64, 131072, "draw_top_p_64", (tk_draw){ .temp = 1, .top_p = 0.9f, .line = -1 });
    bench_draw(1, 131072, "draw_top_p_1", (tk_draw){ .temp = 1, .top_p = 0.9f, .line = -1 });
    bench_draw(1, 131072, "draw_greedy_1", (tk_draw){ .temp = 0, .top_p = 1, .line = -1 });
    bench_draw(64, 131072, "draw_top_k_p_64",
               (tk_draw){ .temp = 0.8f, .top_p = 0.95f, .top_k = 40, .line = -1 });
    bench_draw(1, 131072, "draw_penalties_1",
               (tk_draw){ .temp = 0.8f, .top_p = 0.95f, .top_k = 40, .repeat_penalty = 1.1f });
    gpu->close(gpu);
    return 0;
}
