/* SPDX-License-Identifier: Apache-2.0 */
/* Products on Hopper, every row of linear, linear3, linear_add and linear2_glu_quant: a token has the same
 * bits in a step of hundreds, of up to 64 and alone, whichever kernels these take and wherever tiles end; and
 * the numbers are right.
 *
 *     build/bin/test_gemm [part of "op weight rowsxcols"] */
#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "cuda/cuda.h"
#include "gpu_case.h"

#pragma weak tk__gemm_e4m3 /* a build without CUDA has none */

enum { MOST = 333 }; /* tokens */

static const char *filter = "";

static void *on_device(const void *from, size_t bytes) {
    void *p;
    must(gpu->take(gpu, bytes + 64, &p));
    if (from) must(gpu->put(gpu, p, from, bytes));
    return p;
}

static const tk_kernel_row *pack_row(tk_dtype to) {
    const tk_kernel_row *best = NULL;
    for (int i = 0; i < tk_nkernels; i++) {
        const tk_kernel_row *r = &tk_kernels[i];
        if (r->op == TK_OP_pack && r->out == to && r->needs & TK_ON_CUDA && tk_formats[r->act].pack) best = r;
    }
    return best;
}

/* rows x cols numbers in format `to` on the device; `plain` gets what they are */
static void *weight(tk_dtype to, int64_t rows, int64_t cols, float *plain) {
    const tk_kernel_row *pack = pack_row(to);
    const tk_dtype from = pack ? pack->act : to;
    size_t bytes, packed_bytes;
    assert_true(tk_format_size(from, rows, cols, &bytes));
    uint8_t *file = calloc(bytes + 1, 1);
    float *line = malloc((size_t)cols * sizeof *line);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++) line[j] = number() / sqrtf((float)cols);
        tk_formats[from].pack(file, line, rows, cols, i);
    }
    for (int64_t i = 0; i < rows; i++) tk_formats[from].unpack(plain + i * cols, file, rows, cols, i);
    void *there = on_device(file, bytes);
    free(file), free(line);
    if (!pack) return there;
    assert_true(tk_format_size(to, rows, cols, &packed_bytes));
    tk_args a = { .p = { there, on_device(NULL, packed_bytes) },
                  .type = { from, to },
                  .stream = gpu->stream };
    a.dim['n' - 'a'] = (tk_dim){ rows, 0, rows }, a.dim['k' - 'a'] = (tk_dim){ cols, 0, cols };
    pack->fn[0](&a);
    must(gpu->wait(gpu));
    gpu->give(gpu, there);
    return a.p[1];
}

typedef struct product {
    const tk_kernel_row *row;
    int weights, outs;
    int64_t rows[3], cols;
    float *plain[3], *x;
    char *xs;       /* bf16 or float32, on the device */
    void *w[3], *h; /* h: of linear_add */
    size_t xsize, ysize;
} product;

static char *run(const product *p, int64_t first, int64_t tokens, size_t *bytes) {
    tk_args a = { .nth = 1, .stream = gpu->stream };
    int n = 0;
    size_t size[3];
    const int op = p->row->op;
    a.type[n] = (uint8_t)p->row->act, a.p[n++] = p->xs + (size_t)(first * p->cols) * p->xsize;
    for (int i = 0; i < p->weights; i++) a.type[n] = (uint8_t)p->row->weight, a.p[n++] = p->w[i];
    if (op == TK_OP_linear_add)
        a.type[n] = TK_F32, a.p[n++] = (char *)p->h + (size_t)(first * p->rows[0]) * 4;
    *bytes = 0;
    for (int i = 0; i < p->outs; i++) {
        size[i] = (size_t)(tokens * p->rows[i]) * p->ysize, *bytes += size[i];
        a.type[n + i] = (uint8_t)p->row->out, a.p[n + i] = on_device(NULL, size[i]);
    }
    a.dim['t' - 'a'] = (tk_dim){ tokens, 0, tokens }, a.dim['k' - 'a'] = (tk_dim){ p->cols, 0, p->cols };
    for (int i = 0; i < 3; i++) {
        const tk_dim d = { p->rows[i], 0, p->rows[i] };
        a.dim[(op == TK_OP_linear3 ? "abc"[i] : 'n') - 'a'] = d;
        if (op != TK_OP_linear3) break;
    }
    if (p->row->scratch) a.scratch = on_device(NULL, p->row->scratch(a.dim, 1));
    p->row->fn[0](&a);
    must(gpu->wait(gpu));
    char *y = malloc(*bytes), *to = y;
    for (int i = 0; i < p->outs; i++) {
        must(gpu->get(gpu, to, a.p[n + i], size[i]));
        to += size[i], gpu->give(gpu, a.p[n + i]);
    }
    if (a.scratch) gpu->give(gpu, a.scratch);
    return y;
}

/* Tokens first .. first + n of all outputs of a step of `tokens` against those of a step of their own */
static void same_alone(const product *p, const char *all, int64_t tokens, int64_t first, int64_t n) {
    size_t bytes;
    char *part = run(p, first, n, &bytes), *at = part;
    for (int i = 0; i < p->outs; i++) {
        const size_t line = (size_t)p->rows[i] * p->ysize;
        if (memcmp(at, all + (size_t)first * line, (size_t)n * line))
            fail_msg("%s, weight %s, %d x %d: tokens %d .. %d of %d alone differ in output %d", p->row->name,
                     tk_formats[p->row->weight].name, (int)p->rows[i], (int)p->cols, (int)first,
                     (int)(first + n - 1), (int)tokens, i);
        at += (size_t)n * line, all += (size_t)tokens * line;
    }
    free(part);
}

/* A few results of `linear` against double sums */
static void right_numbers(const product *p, const char *y, int64_t tokens) {
    if (p->row->op != TK_OP_linear) return;
    for (int i = 0; i < 200; i++) {
        const int64_t t = (int64_t)(fabsf(number()) * 1e4f) % tokens,
                      n = (int64_t)(fabsf(number()) * 1e4f) % p->rows[0];
        double sum = 0, size = 0;
        for (int64_t k = 0; k < p->cols; k++) {
            const double term = (double)p->x[t * p->cols + k] * (double)p->plain[0][n * p->cols + k];
            sum += term, size += fabs(term);
        }
        const double got = (double)((const float *)(const void *)y)[t * p->rows[0] + n];
        if (fabs(got - sum) > size / 256) /* operands are rounded to 8 bits */
            fail_msg("%s, weight %s: [%d][%d] is %g, should be %g", p->row->name,
                     tk_formats[p->row->weight].name, (int)t, (int)n, got, sum);
    }
}

/* Every way of doing it gives the same bits. */
static void same_in_all_ways(const product *p) {
    static const int steps[] = { 9, 40, 100 };
    tk_device_ways *w = gpu->ways;
    if (!w) return;
    for (size_t s = 0; s < TK_COUNT(steps); s++) {
        size_t bytes;
        char *own = run(p, 0, steps[s], &bytes);
        for (w->trying = 0; w->trying <= w->count; w->trying++) {
            char *other = run(p, 0, steps[s], &bytes);
            if (memcmp(own, other, bytes))
                fail_msg("%s, weight %s, %d x %d, %d tokens: way %d has other bits", p->row->name,
                         tk_formats[p->row->weight].name, (int)p->rows[0], (int)p->cols, steps[s], w->trying);
            free(other);
        }
        w->trying = -1;
        free(own);
    }
}

static void try_product(const tk_kernel_row *r, int64_t rows, int64_t cols) {
    static const int steps[] = { 65, 130, MOST };
    product p = {
        .row = r, .cols = cols, .xsize = r->act == TK_BF16 ? 2 : 4, .ysize = r->out == TK_BF16 ? 2 : 4
    };
    p.weights = r->op == TK_OP_linear3 ? 3 : r->op == TK_OP_linear2_glu_quant ? 2 : 1;
    p.outs = r->op == TK_OP_linear3 ? 3 : 1;
    for (int i = 0; i < p.weights; i++) {
        p.rows[i] = i && p.outs == 3 ? rows / 2 / 8 * 8 : rows;
        p.plain[i] = malloc((size_t)(p.rows[i] * cols) * sizeof(float));
        p.w[i] = weight(r->weight, p.rows[i], cols, p.plain[i]);
    }
    p.x = malloc((size_t)(MOST * cols) * sizeof(float));
    uint16_t *half = malloc((size_t)(MOST * cols) * sizeof *half);
    for (int64_t i = 0; i < MOST * cols; i++) {
        uint32_t u;
        p.x[i] = number();
        memcpy(&u, &p.x[i], 4);
        half[i] = (uint16_t)(u >> 16), p.x[i] = p.xsize == 2 ? tk_bits_f32(u & 0xffff0000u) : p.x[i];
    }
    p.xs = on_device(p.xsize == 2 ? (void *)half : (void *)p.x, (size_t)(MOST * cols) * p.xsize);
    float *other = malloc((size_t)(MOST * rows) * sizeof *other);
    for (int64_t i = 0; i < MOST * rows; i++) other[i] = number();
    p.h = on_device(other, (size_t)(MOST * rows) * sizeof *other);
    for (size_t s = 0; s < TK_COUNT(steps); s++) {
        const int64_t tokens = steps[s];
        size_t bytes;
        char *all = run(&p, 0, tokens, &bytes);
        right_numbers(&p, all, tokens);
        for (int64_t first = 0; first < tokens; first += 64)
            same_alone(&p, all, tokens, first, TK_MIN(tokens - first, 64));
        same_alone(&p, all, tokens, tokens - 1, 1);
        same_alone(&p, all, tokens, tokens / 3, 1);
        same_alone(&p, all, tokens, 1, tokens - 1);
        free(all);
    }
    same_in_all_ways(&p);
    for (int i = 0; i < p.weights; i++) free(p.plain[i]), gpu->give(gpu, p.w[i]);
    gpu->give(gpu, p.xs), gpu->give(gpu, p.h);
    free(p.x), free(half), free(other);
}

static void many_tokens_have_the_bits_of_few(void **unused) {
    static const int64_t shapes[][2] = { { 128, 256 }, { 208, 512 }, { 1024, 768 } };
    int tried = 0;
    (void)unused;
    for (int i = 0; i < tk_nkernels && gpu; i++) {
        const tk_kernel_row *r = &tk_kernels[i];
        const bool one = r->op == TK_OP_linear || r->op == TK_OP_linear3 || r->op == TK_OP_linear_add ||
                         r->op == TK_OP_linear2_glu_quant;
        if (!one || !(r->needs & TK_CUDA_SM90) || r->needs & ~gpu->features) continue;
        for (size_t s = 0; s < TK_COUNT(shapes); s++) {
            char name[64];
            snprintf(name, sizeof name, "%s %s %dx%d", tk_op_info(r->op)->name, tk_formats[r->weight].name,
                     (int)shapes[s][0], (int)shapes[s][1]);
            if (!strstr(name, filter)) continue;
            try_product(r, shapes[s][0], shapes[s][1]);
            tried++;
        }
    }
    if (gpu && gpu->features & TK_CUDA_SM90 && !tried && !strstr("e4m3", filter))
        fail_msg("no product is named like '%s'", filter);
}

/* ---- e4m3 ---- */

static float e4m3(uint8_t b) {
    const int e = b >> 3 & 15, m = b & 7;
    const float v = e ? ldexpf(1 + (float)m / 8, e - 7) : ldexpf((float)m, -9);
    return b & 128 ? -v : v;
}
static uint8_t *codes(size_t n) { /* of small numbers */
    uint8_t *p = malloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)((number() < 0 ? 128 : 0) | (40 + (int)(fabsf(number()) * 12) % 24));
    return p;
}
static void *in_panels(const uint8_t *w, int64_t rows, int64_t cols) {
    const int64_t slabs = tk_ceil_div(cols, 128), bytes = tk_ceil_div(rows, 16) * slabs * 2048;
    uint8_t *p = calloc((size_t)bytes, 1);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < cols; k++)
            p[(r / 16 * slabs + k / 128) * 2048 + r % 16 * 128 + ((k % 128 / 16) ^ r % 8) * 16 + k % 16] =
                w[r * cols + k];
    void *there = on_device(p, (size_t)bytes);
    free(p);
    return there;
}

static void e4m3_products_are_right(void **unused) {
    const int64_t rows = 200, cols = 400, tokens = 300;
    (void)unused;
    if (!gpu || !(gpu->features & TK_CUDA_SM90) || !strstr("e4m3", filter)) return;
    uint8_t *w = codes((size_t)(rows * cols)), *x = codes((size_t)(tokens * cols));
    float *w_scale = malloc((size_t)rows * 4), *x_scale = malloc((size_t)tokens * 4),
          *y = malloc((size_t)(tokens * rows) * 4);
    for (int i = 0; i < rows; i++) w_scale[i] = 1 + fabsf(number());
    for (int i = 0; i < tokens; i++) x_scale[i] = 1 + fabsf(number());
    tk_gemm_e4m3 g = { .y = on_device(NULL, (size_t)(tokens * rows) * 4),
                       .stream = gpu->stream,
                       .x = on_device(x, (size_t)(tokens * cols)),
                       .w = in_panels(w, rows, cols),
                       .w_scale = on_device(w_scale, (size_t)rows * 4),
                       .x_scale = on_device(x_scale, (size_t)tokens * 4),
                       .tokens = tokens,
                       .rows = rows,
                       .width = cols };
    assert_true(tk__gemm_e4m3(&g));
    must(gpu->get(gpu, y, g.y, (size_t)(tokens * rows) * 4));
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t n = 0; n < rows; n++) {
            double sum = 0, size = 0;
            for (int64_t k = 0; k < cols; k++) {
                const double term = (double)(e4m3(w[n * cols + k]) * e4m3(x[t * cols + k]));
                sum += term, size += fabs(term);
            }
            const double scale = (double)(w_scale[n] * x_scale[t]), got = (double)y[t * rows + n];
            if (fabs(got - sum * scale) > size * scale * 1e-3)
                fail_msg("[%d][%d] is %g, should be %g", (int)t, (int)n, got, sum * scale);
        }
    g.width = 392;
    assert_false(tk__gemm_e4m3(&g));
    void *const taken[] = { g.y, (void *)(uintptr_t)g.x, (void *)(uintptr_t)g.w, (void *)(uintptr_t)g.w_scale,
                            (void *)(uintptr_t)g.x_scale };
    for (size_t i = 0; i < TK_COUNT(taken); i++) gpu->give(gpu, taken[i]);
    free(w), free(x), free(w_scale), free(x_scale), free(y);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(many_tokens_have_the_bits_of_few),
                                        cmocka_unit_test(e4m3_products_are_right) };
    if (argc > 1) filter = argv[1];
    if (tk_device_open(&gpu, "cuda", false) != TK_OK) print_message("skipped: no CUDA device\n");
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tk_device_close(gpu);
    return failed;
}
