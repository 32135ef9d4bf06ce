/* SPDX-License-Identifier: Apache-2.0 */
/* Products of many tokens on a GPU beside cuBLASLt in one run: bfloat16 operands, random normal numbers,
 * calls recorded and replayed in turns, medians. The library is loaded where it is found (CUBLASLT names its
 * file), with row-major weights of its own; only its algorithms that do not split k take part, since the
 * others have other bits. Of the rest both the first that its heuristic offers (what torch gets) and the best
 * of 16 are shown. One line a candidate, `gemm_SHAPE.NAME value unit`, for tools/bench_gpu.py.
 *
 *     CUBLASLT=.../libcublasLt.so.13 build/bin/bench_gemm [part of a shape's name | rows tokens width] */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "gpu.h"
#include "cuda/cuda.h"

#pragma weak tk__gemm_e4m3 /* a build without CUDA has none */

enum { TURNS = 9, OFFERS = 16, CANDIDATES = 8 };

static uint64_t state = 88172645463325252u;

static uint32_t word(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static double normal(void) {
    const double r = sqrt(-2 * log((word() + 1.0) / 4294967296.0));
    return r * cos(word() * 1.4629180792671596e-9);
}
static uint16_t to_bf16(double v) {
    const float f = (float)v;
    uint32_t u;
    memcpy(&u, &f, 4);
    return (uint16_t)((u + 0x8000) >> 16);
}
static uint8_t to_e4m3(double v) { /* |v| far below 448 */
    int e = (int)floor(log2(fabs(v) + 1e-9));
    e = TK_MAX(e, -6);
    const int m = (int)lrint(ldexp(fabs(v), 3 - e)); /* 0 .. 16 */
    return (uint8_t)((v < 0 ? 128 : 0) + (e + 6) * 8 + m);
}

/* n random normal numbers of bfloat16 or (deviation 0) e4m3; a few megabytes of them over and over */
static char *normal_numbers(size_t n, double deviation) {
    enum { SOME = 1 << 22 };
    const size_t each = deviation > 0 ? 2 : 1;
    uint8_t *host = malloc(SOME * each);
    char *there = take(n * each);
    for (size_t i = 0; i < SOME; i++) {
        const double v = normal();
        const uint16_t half = to_bf16(deviation * v);
        if (each == 2)
            memcpy(host + 2 * i, &half, 2);
        else
            host[i] = to_e4m3(v);
    }
    for (size_t at = 0; at < n; at += SOME)
        must(gpu->put(gpu, there + each * at, host, each * TK_MIN(n - at, (size_t)SOME)));
    free(host);
    return there;
}

/* ---- cuBLASLt, what of it is needed ---- */

typedef struct lt_offer {
    uint64_t algo[8];
    size_t room;
    int state;
    float waves;
    int reserved[4];
} lt_offer;

enum { LT_BF16 = 14, LT_F32 = 0, LT_E4M3 = 28, LT_SUM_F32 = 68 }; /* types */
enum { LT_TRANSPOSE_A = 3, LT_SCALE_A = 17, LT_SCALE_B = 18, LT_FAST = 25, LT_MOST_ROOM = 1, LT_SPLIT_K = 2 };

static struct {
    int (*create)(void **);
    int (*desc)(void **, int, int);
    int (*set)(void *, int, const void *, size_t);
    int (*layout)(void **, int, uint64_t, uint64_t, int64_t);
    int (*preference)(void **);
    int (*prefer)(void *, int, const void *, size_t);
    int (*offers)(void *, void *, void *, void *, void *, void *, void *, int, lt_offer *, int *);
    int (*ask)(const uint64_t *, int, void *, size_t, size_t *);
    int (*multiply)(void *, void *, const void *, const void *, void *, const void *, void *, const void *,
                    const void *, void *, void *, void *, const uint64_t *, void *, size_t, void *);
    size_t (*version)(void);
    void *handle, *room;
} lt;

static bool open_library(void) {
    const struct {
        void *to;
        const char *name;
    } all[] = { { &lt.create, "Create" },
                { &lt.desc, "MatmulDescCreate" },
                { &lt.set, "MatmulDescSetAttribute" },
                { &lt.layout, "MatrixLayoutCreate" },
                { &lt.preference, "MatmulPreferenceCreate" },
                { &lt.prefer, "MatmulPreferenceSetAttribute" },
                { &lt.offers, "MatmulAlgoGetHeuristic" },
                { &lt.ask, "MatmulAlgoConfigGetAttribute" },
                { &lt.multiply, "Matmul" },
                { &lt.version, "GetVersion" } };
    const char *file = getenv("CUBLASLT");
    void *so = dlopen(file ? file : "libcublasLt.so.13", RTLD_NOW);
    for (size_t i = 0; i < TK_COUNT(all) && so; i++) {
        char name[64];
        snprintf(name, sizeof name, "cublasLt%s", all[i].name);
        void *f = dlsym(so, name);
        if (!f) return false;
        memcpy(all[i].to, &f, sizeof f);
    }
    return so && !lt.create(&lt.handle);
}

/* ---- candidates ---- */

typedef struct product {
    const char *name;
    int64_t rows, tokens, cols;
    char *x, *y, *other, *packed, *plain; /* weights: `copies` of them, in turns */
    size_t bytes, packed_bytes;
    int copies, calls;
} product;

typedef struct candidate {
    char name[48];
    void *graph;
    double seconds[TURNS];
} candidate;

static candidate *record(candidate *c, const char *name, const product *p,
                         void (*call)(const product *, int, const void *), const void *how) {
    snprintf(c->name, sizeof c->name, "%s", name);
    must(gpu->record(gpu));
    for (int i = 0; i < p->calls; i++) call(p, i % p->copies, how);
    must(gpu->recorded(gpu, &c->graph));
    return c + 1;
}
static double replayed(const candidate *c, const product *p) {
    must(gpu->wait(gpu));
    const double began = tk_now();
    must(gpu->replay(gpu, c->graph));
    must(gpu->wait(gpu));
    return (tk_now() - began) / p->calls;
}

static void set(tk_args *a, char letter, int64_t n) { a->dim[letter - 'a'] = (tk_dim){ n, 0, n }; }

static const tk_kernel_row *row_of(int op, tk_dtype act, tk_dtype weight) {
    const tk_kernel_row *best = NULL;
    for (int i = 0; i < tk_nkernels; i++) {
        const tk_kernel_row *r = &tk_kernels[i];
        if (r->op == op && r->act == act && (r->weight == weight || r->out == weight) &&
            tk__able(r->needs, gpu->features))
            best = r;
    }
    return best;
}

static void call_own(const product *p, int copy, const void *row) {
    const tk_kernel_row *r = row;
    char *w = p->packed + (size_t)copy * p->packed_bytes;
    const bool two = r->op == TK_OP_linear2_glu_quant;
    tk_args a = { .p = { p->x, w }, .type = { TK_BF16, TK_H_BF16 }, .stream = gpu->stream, .nth = 1 };
    int n = 2;
    if (two) a.type[n] = TK_H_BF16, a.p[n++] = w + p->packed_bytes / 2;
    if (r->op == TK_OP_linear_add) a.type[n] = TK_F32, a.p[n++] = p->other;
    a.type[n] = (uint8_t)r->out, a.p[n] = p->y;
    set(&a, 't', p->tokens), set(&a, 'n', two ? p->rows / 2 : p->rows), set(&a, 'k', p->cols);
    r->fn[0](&a);
}

typedef struct lt_call {
    void *desc, *a, *b, *c;
    lt_offer offer;
} lt_call;

static void call_library(const product *p, int copy, const void *how) {
    const lt_call *c = how;
    const float one = 1, zero = 0;
    if (lt.multiply(lt.handle, c->desc, &one, p->plain + (size_t)copy * p->bytes, c->a, p->x, c->b, &zero,
                    p->y, c->c, p->y, c->c, c->offer.algo, lt.room, 64 << 20, gpu->stream))
        exit(1);
}

/* in: LT_BF16 or LT_E4M3; fast: e4m3 sums that are never added in float32 */
static candidate *library(candidate *c, const product *p, int in, int out, bool fast) {
    lt_call call;
    lt_offer offer[OFFERS];
    void *preference;
    const int32_t transposed = 1;
    const size_t room = 64 << 20;
    int n = 0, first = -1, best = -1;
    double least = 1e9;
    if (!lt.room) lt.room = take(room);
    lt.desc(&call.desc, LT_SUM_F32, LT_F32), lt.set(call.desc, LT_TRANSPOSE_A, &transposed, 4);
    const int8_t quick = fast;
    if (in == LT_E4M3) {
        lt.set(call.desc, LT_SCALE_A, &p->other, sizeof p->other),
            lt.set(call.desc, LT_SCALE_B, &p->other, sizeof p->other);
        lt.set(call.desc, LT_FAST, &quick, sizeof quick);
    }
    lt.layout(&call.a, in, (uint64_t)p->cols, (uint64_t)p->rows, p->cols);
    lt.layout(&call.b, in, (uint64_t)p->cols, (uint64_t)p->tokens, p->cols);
    lt.layout(&call.c, out, (uint64_t)p->rows, (uint64_t)p->tokens, p->rows);
    lt.preference(&preference), lt.prefer(preference, LT_MOST_ROOM, &room, sizeof room);
    lt.offers(lt.handle, call.desc, call.a, call.b, call.c, call.c, preference, OFFERS, offer, &n);
    for (int i = 0; i < n; i++) {
        int split = 0;
        candidate try;
        lt.ask(offer[i].algo, LT_SPLIT_K, &split, sizeof split, NULL);
        if (split > 1) continue;
        call.offer = offer[i];
        record(&try, "", p, call_library, &call);
        replayed(&try, p);
        const double seconds = TK_MIN(replayed(&try, p), replayed(&try, p));
        gpu->forget(gpu, try.graph);
        if (first < 0) first = i;
        if (seconds < least) least = seconds, best = i;
    }
    if (first < 0) return c;
    for (int i = 0; i < 2; i++) {
        char name[48];
        snprintf(name, sizeof name, "cublaslt_%s%s_%s", out ? "bf16" : "f32", fast ? "_fast" : "",
                 i ? "best" : "first");
        call.offer = offer[i ? best : first];
        c = record(c, name, p, call_library, &call);
    }
    return c;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Replays all in turns, shows the medians and forgets them. */
static void compare(const product *p, candidate *all, const candidate *end) {
    const double operations = 2.0 * (double)p->rows * (double)p->tokens * (double)p->cols;
    for (candidate *c = all; c < end; c++) replayed(c, p);
    for (int i = 0; i < TURNS; i++)
        for (candidate *c = all; c < end; c++) c->seconds[i] = replayed(c, p);
    for (candidate *c = all; c < end; c++) {
        qsort(c->seconds, TURNS, sizeof *c->seconds, by_value);
        printf("gemm_%s.%s.us %.2f us\ngemm_%s.%s %.1f TFLOP/s\n", p->name, c->name,
               c->seconds[TURNS / 2] * 1e6, p->name, c->name, operations / c->seconds[TURNS / 2] / 1e12);
        fflush(stdout);
        gpu->forget(gpu, c->graph);
    }
}

static void shape(const char *name, int64_t rows, int64_t tokens, int64_t cols, bool with_library) {
    const double operations = 2.0 * (double)rows * (double)tokens * (double)cols;
    const tk_kernel_row *pack = row_of(TK_OP_pack, TK_BF16, TK_H_BF16),
                        *linear = row_of(TK_OP_linear, TK_BF16, TK_H_BF16),
                        *add = row_of(TK_OP_linear_add, TK_BF16, TK_H_BF16),
                        *glu = row_of(TK_OP_linear2_glu_quant, TK_BF16, TK_H_BF16);
    product p = {
        .name = name, .rows = rows, .tokens = tokens, .cols = cols, .bytes = (size_t)(rows * cols) * 2
    };
    candidate all[CANDIDATES] = { 0 }, *end = all;
    if (!pack || !linear || !tk_format_size(TK_H_BF16, rows, cols, &p.packed_bytes)) exit(1);
    p.copies = (int)TK_MAX(1, TK_MIN(8, (int64_t)(400000000 / p.bytes)));
    p.calls = (int)TK_MAX(p.copies, TK_MIN(8, (int64_t)(2e12 / operations)));
    p.x = normal_numbers((size_t)(tokens * cols), 1),
    p.plain = normal_numbers((size_t)(rows * cols) * (size_t)p.copies, 0.05);
    p.y = take((size_t)(tokens * rows) * 4), p.other = take((size_t)(tokens * rows) * 4);
    p.packed = take(p.packed_bytes * (size_t)p.copies);
    for (int i = 0; i < p.copies; i++) {
        tk_args a = { .p = { p.plain + (size_t)i * p.bytes, p.packed + (size_t)i * p.packed_bytes },
                      .type = { TK_BF16, TK_H_BF16 },
                      .stream = gpu->stream };
        set(&a, 'n', rows), set(&a, 'k', cols);
        pack->fn[0](&a);
    }
    end = record(end, "linear_f32", &p, call_own, linear);
    if (add) end = record(end, "linear_add_f32", &p, call_own, add);
    if (glu) end = record(end, "linear2_glu_bf16", &p, call_own, glu);
    if (with_library)
        end = library(end, &p, LT_BF16, LT_BF16, false), end = library(end, &p, LT_BF16, LT_F32, false);
    compare(&p, all, end);
    gpu->give(gpu, p.x), gpu->give(gpu, p.plain), gpu->give(gpu, p.y), gpu->give(gpu, p.other),
        gpu->give(gpu, p.packed);
}

static void call_e4m3(const product *p, int copy, const void *unused) {
    (void)unused;
    const tk_gemm_e4m3 g = { .y = p->y,
                             .stream = gpu->stream,
                             .x = p->x,
                             .w = p->plain + (size_t)copy * p->bytes,
                             .w_scale = (const float *)(const void *)p->other,
                             .x_scale = (const float *)(const void *)p->other,
                             .tokens = p->tokens,
                             .rows = p->rows,
                             .width = p->cols,
                             .half = true };
    if (!tk__gemm_e4m3(&g)) exit(1);
}
/* n x n x n of e4m3, results bf16. Panels of random numbers are random numbers in panels. */
static void cube_e4m3(const char *name, int64_t n, bool with_library) {
    product p = {
        .name = name, .rows = n, .tokens = n, .cols = n, .bytes = (size_t)(n * n), .copies = 2, .calls = 4
    };
    candidate all[CANDIDATES] = { 0 }, *end = all;
    p.x = normal_numbers((size_t)(n * n), 0), p.plain = normal_numbers((size_t)(n * n) * 2, 0);
    float *ones = malloc((size_t)n * sizeof *ones);
    for (int64_t i = 0; i < n; i++) ones[i] = 1;
    p.y = take((size_t)(n * n) * 2), p.other = take((size_t)n * 4);
    must(gpu->put(gpu, p.other, ones, (size_t)n * 4));
    free(ones);
    end = record(end, "e4m3_bf16", &p, call_e4m3, NULL);
    if (with_library)
        end = library(end, &p, LT_E4M3, LT_BF16, false), end = library(end, &p, LT_E4M3, LT_BF16, true);
    compare(&p, all, end);
    gpu->give(gpu, p.x), gpu->give(gpu, p.plain), gpu->give(gpu, p.y), gpu->give(gpu, p.other);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int64_t rows, tokens, cols;
    } shapes[] = { { "8192", 8192, 8192, 8192 },          { "4096", 4096, 4096, 4096 },
                   { "8b_qkv", 6144, 2048, 4096 },        { "8b_o", 4096, 2048, 4096 },
                   { "8b_up", 28672, 2048, 4096 },        { "8b_down", 4096, 2048, 14336 },
                   { "fp8_8192", 8192, 0 /* e4m3 */, 0 }, { "fp8_4096", 4096, 0, 0 } };
    must(tk_device_open(&gpu, "cuda", false));
    const bool library_there = open_library();
    if (library_there)
        printf("cublaslt %zu version\n", lt.version());
    else
        printf("no cuBLASLt here: CUBLASLT=file names it\n");
    if (argc == 4) shape("own", atoll(argv[1]), atoll(argv[2]), atoll(argv[3]), library_there);
    for (size_t i = 0; i < TK_COUNT(shapes) && argc < 4; i++) {
        if (argc > 1 && !strstr(shapes[i].name, argv[1])) continue;
        if (shapes[i].tokens)
            shape(shapes[i].name, shapes[i].rows, shapes[i].tokens, shapes[i].cols, library_there);
        else
            cube_e4m3(shapes[i].name, shapes[i].rows, library_there);
    }
    tk_device_close(gpu);
    return 0;
}
