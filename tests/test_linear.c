/* SPDX-License-Identifier: Apache-2.0 */
/* pack, quant, embed and every linear row of kernels.def, tier by tier, against products in double of what
 * the formats' own unpack gives: odd shapes, sentinels around outputs, buffers of the exact size (ASan sees
 * a read past one), and bitwise: a token alone, in any batch, in any order, for any number of threads. */
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/packed.h"
#include "core/core.h"

typedef tk_kernel_row row;
tk_kernel pack_panels, pack_bands, embed_lookup;

/* A file format and its panels */
static const tk_dtype pairs[][2] = {
    { TK_F32, TK_P_F32 },       { TK_F16, TK_P_F16 },   { TK_BF16, TK_P_BF16 }, { TK_Q8_0, TK_P_Q8_0 },
    { TK_BF16, TK_T_BF16 },     { TK_Q4_0, TK_P_Q4_0 }, { TK_Q4_1, TK_P_Q4_1 }, { TK_Q4_K, TK_P_Q4_K },
    { TK_Q6_K, TK_P_Q6_K },     { TK_Q5_0, TK_P_Q5_0 }, { TK_Q5_1, TK_P_Q5_1 }, { TK_IQ4_NL, TK_P_IQ4_NL },
    { TK_MXFP4, TK_P_MXFP4 },   { TK_Q2_K, TK_P_Q2_K }, { TK_Q3_K, TK_P_Q3_K }, { TK_Q5_K, TK_P_Q5_K },
    { TK_IQ4_XS, TK_P_IQ4_XS }, { TK_Q4_Z, TK_P_Q4_Z }, { TK_F8, TK_P_F8 },
};

static uint32_t counter;
static uint32_t word(void) {
    uint32_t out[4], c[4] = { counter++, 0, 0, 0 };
    tk_philox(out, 17, c);
    return out[0];
}
static float number(void) { return 2 * tk_uniform(word()) - 1; }

/* Exactly n bytes at a 64-byte boundary */
static void *block_of(size_t n) {
    void *p;
    if (posix_memalign(&p, 64, n ? n : 1)) abort();
    return p;
}

static size_t size_of(tk_dtype t, int64_t r, int64_t c) {
    size_t n;
    assert_true(tk_format_size(t, r, c, &n));
    return n;
}

/* A weight as a file may hold it: any bytes, but scales of sensible size (also zero and negative) */
static uint8_t *make_file(tk_dtype t, int64_t n, int64_t k) {
    const size_t bytes = size_of(t, n, k);
    uint8_t *m = block_of(bytes);
    const tk_format *f = &tk_formats[t];
    if (f->block == 1) {
        float *src = malloc((size_t)k * 4);
        for (int64_t r = 0; r < n; r++) {
            for (int64_t i = 0; i < k; i++) src[i] = number();
            f->pack(m, src, n, k, r);
        }
        free(src);
        return m;
    }
    for (size_t i = 0; i < bytes; i++) m[i] = (uint8_t)word();
    for (size_t b = 0; b < bytes; b += (size_t)f->bytes) {
        uint16_t d = tk_f32_f16(word() % 16 ? number() / 64 : 0), low = tk_f32_f16(number() / 16);
        if (t == TK_MXFP4) {
            /* also float32's subnormals, but not alone in a row, where a product has few bits left */
            m[b] = (uint8_t)(word() % 16 || b / 17 % (size_t)(k / 32) == 0 ? 117 + word() % 3 : word() % 2);
            continue;
        }
        if (t == TK_F8) { /* any e4m3 but NaN */
            const float scale = word() % 16 ? number() / 64 : 0;
            for (size_t i = b + 4; i < b + 36; i++) m[i] = (m[i] & 0x7f) == 0x7f ? 0 : m[i];
            memcpy(m + b, &scale, 4);
            continue;
        }
        if (t == TK_Q4_Z) low = tk_f32_f16((float)(word() % 17));
        memcpy(m + b + (t == TK_Q6_K ? 208 : t == TK_Q3_K ? 108 : t == TK_Q2_K ? 80 : 0), &d, 2);
        if (t == TK_Q4_1 || t == TK_Q4_Z || t == TK_Q5_1 || t == TK_Q4_K || t == TK_Q5_K)
            memcpy(m + b + 2, &low, 2);
        if (t == TK_Q2_K) memcpy(m + b + 82, &low, 2);
    }
    return m;
}

static void run(tk_kernel *fn, tk_args a, int nth) {
    a.nth = nth;
    for (a.ith = 0; a.ith < nth; a.ith++) fn(&a);
}

static uint8_t *pack(tk_dtype from, tk_dtype to, const void *file, int64_t n, int64_t k, int nth) {
    uint8_t *m = block_of(size_of(to, n, k));
    tk_args a = { .p = { (void *)(uintptr_t)file, m }, .type = { (uint8_t)from, (uint8_t)to } };
    a.dim['n' - 'a'].n = n, a.dim['k' - 'a'].n = k;
    memset(m, 0xa5, size_of(to, n, k));
    run(to == TK_T_BF16 ? pack_bands : pack_panels, a, nth);
    return m;
}

static void packed_rows_equal_the_files(void **state) {
    (void)state;
    static const int64_t n[] = { 1, 15, 16, 17, 48 }, k[] = { 1, 7, 32, 64, 96, 256, 576, 768 };
    for (size_t p = 0; p < TK_COUNT(pairs); p++)
        for (size_t i = 0; i < TK_COUNT(n); i++)
            for (size_t j = 0; j < TK_COUNT(k); j++) {
                const tk_dtype from = pairs[p][0], to = pairs[p][1];
                if (k[j] % tk_formats[from].block) continue;
                uint8_t *file = make_file(from, n[i], k[j]);
                uint8_t *one = pack(from, to, file, n[i], k[j], 1),
                        *three = pack(from, to, file, n[i], k[j], 3);
                assert_memory_equal(one, three, size_of(to, n[i], k[j]));
                float *want = block_of((size_t)k[j] * 4), *got = block_of((size_t)k[j] * 4);
                for (int64_t r = 0; r < n[i]; r++) {
                    tk_formats[from].unpack(want, file, n[i], k[j], r);
                    tk_formats[to].unpack(got, one, n[i], k[j], r);
                    for (int64_t c = 0; c < k[j]; c++)
                        if (got[c] != want[c])
                            fail_msg("%s n%d k%d [%d][%d]: %g is not %g", tk_formats[to].name, (int)n[i],
                                     (int)k[j], (int)r, (int)c, (double)got[c], (double)want[c]);
                }
                free(file), free(one), free(three), free(want), free(got);
            }
}

static void packed_sizes(void **state) {
    (void)state;
    for (size_t p = 0; p < TK_COUNT(pairs); p++) /* at most 3 % more than the file, where nothing is ragged */
        assert_true((double)size_of(pairs[p][1], 64, 512) <= 1.03 * (double)size_of(pairs[p][0], 64, 512));
}

static void embed_looks_up(void **state) {
    (void)state;
    enum { V = 20, K = 256, FIRST = 100 };
    static int32_t ids[] = {
        FIRST, FIRST + 19, -1, FIRST - 1, FIRST + 17, FIRST + 20, FIRST + 18, 0x7fffffff
    };
    for (size_t p = 0; p < 2 * TK_COUNT(pairs); p++) {
        const tk_dtype from = pairs[p / 2][0], to = pairs[p / 2][p % 2];
        uint8_t *file = make_file(from, V, K), *w = p % 2 ? pack(from, to, file, V, K, 1) : file;
        float *x = block_of(sizeof(float) * TK_COUNT(ids) * K), want[K];
        tk_args a = { .p = { ids, w, x }, .type = { TK_I32, (uint8_t)to, TK_F32 } };
        a.dim['t' - 'a'].n = TK_COUNT(ids), a.dim['k' - 'a'].n = K;
        a.dim['v' - 'a'] = (tk_dim){ V, FIRST, FIRST + 18 }; /* the last two rows are padding */
        memset(x, 0xff, sizeof(float) * TK_COUNT(ids) * K);
        run(embed_lookup, a, 3);
        for (size_t t = 0; t < TK_COUNT(ids); t++) {
            memset(want, 0, sizeof want);
            if (ids[t] >= FIRST && ids[t] < FIRST + 18)
                tk_formats[from].unpack(want, file, V, K, ids[t] - FIRST);
            for (int c = 0; c < K; c++) assert_true(x[t * K + (size_t)c] == want[c]);
        }
        if (w != file) free(w);
        free(file), free(x);
    }
}

static void quant_is_nearest(void **state) {
    (void)state;
    enum { T = 12, K = 608, BLOCKS = T * K / 32 }; /* a group of tokens and a half; 16 blocks and 3 */
    float x[T * K], back[K];
    for (int i = 0; i < T * K; i++) x[i] = number() * powf(10, (float)(i / 32 % 7) - 3);
    for (int i = 0; i < 32; i++) x[i] = 0, x[32 + i] = 1e-39f * (float)i, x[64 + i] = (float)(i - 16) + 0.5f;
    x[64] = 127; /* scale 1: the others are ties, to be rounded to even */
    tk_a8 want[BLOCKS];
    for (int t = 0; t < T; t++) tk_formats[TK_A8].pack(want, x + t * K, T, K, t);
    for (int t = 0; t < T; t++) {
        int64_t step;
        const tk_a8 *a = tk__a8_row(want, T, K, t, &step);
        tk_formats[TK_A8].unpack(back, want, T, K, t);
        for (int b = 0; b < K / 32; b++, a += step) {
            const float *from = x + t * K + b * 32;
            float top = 0;
            int sum[2] = { 0, 0 };
            for (int i = 0; i < 32; i++) top = fmaxf(top, fabsf(from[i])), sum[i / 16] += a->q[i];
            for (int i = 0; i < 32; i++) {
                assert_true(a->q[i] >= -127);
                assert_true(back[b * 32 + i] == a->d * (float)a->q[i]);
                assert_true(fabsf(back[b * 32 + i] - from[i]) <= top / 127 * 0.5001f + 1e-30f);
                assert_true(t > 0 || b != 2 || i == 0 || a->q[i] % 2 == 0);
            }
            assert_int_equal(a->c128, -128 * (sum[0] + sum[1]));
            assert_int_equal(a->c8, -8 * (sum[0] + sum[1]));
            assert_int_equal(a->c32[0], -32 * sum[0]);
            assert_int_equal(a->c32[1], -32 * sum[1]);
            assert_true(a->s == a->d * (float)(sum[0] + sum[1]));
            for (int h = 0; h < 2; h++) assert_true(a->half[h] == a->d * (float)sum[h]);
        }
    }
    for (size_t i = 0; (int)i < 2 * tk_nkernels; i++) {
        const row *r = &tk_kernels[i % (size_t)tk_nkernels];
        if ((int)i == tk_nkernels) { /* again with what is no number */
            x[40] = NAN, x[5 * 32 + 3] = INFINITY, x[K + 17 * 32] = -INFINITY, x[K + 17 * 32 + 1] = NAN;
            for (int t = 0; t < T; t++) tk_formats[TK_A8].pack(want, x + t * K, T, K, t);
        }
        if (r->op != TK_OP_quant || r->out != TK_A8 || (tk_cpu_features() & r->needs) != r->needs) continue;
        for (int nth = 1; nth < 4; nth++) {
            tk_a8 *got = block_of(sizeof want);
            tk_args a = { .p = { x, got }, .type = { TK_F32, TK_A8 } };
            a.dim['t' - 'a'].n = T, a.dim['k' - 'a'].n = K;
            run(r->fn[0], a, nth);
            if (memcmp(got, want, sizeof want)) fail_msg("%s", r->name);
            free(got);
        }
    }
}

/* A16: the nearest bfloat16 of every number, subnormals zero, NaN kept; quant rows give the format's bytes
 * for any number of tokens and threads, and zeros where k is padded */
static void quant_to_tiles(void **state) {
    static const int64_t shape[][2] = {
        { 1, 32 }, { 2, 96 }, { 15, 64 }, { 16, 576 }, { 17, 33 }, { 40, 300 }
    };
    (void)state;
    for (size_t s = 0; s < TK_COUNT(shape); s++) {
        const int64_t t = shape[s][0], k = shape[s][1];
        float *x = block_of((size_t)(t * k) * 4), *back = block_of((size_t)k * 4);
        for (int64_t i = 0; i < t * k; i++) x[i] = number() * powf(10, (float)(i % 9) - 4);
        x[0] = 1e-39f, x[1] = -1e-39f, x[2] = NAN, x[3] = INFINITY, x[4] = 1 + 0x1p-8f, x[5] = 1 + 0x1.8p-7f;
        const size_t bytes = size_of(TK_A16, t, k);
        uint8_t *want = block_of(bytes), *got = block_of(bytes);
        memset(want, 0xa5, bytes);
        for (int64_t i = 0; i < t; i++) tk_formats[TK_A16].pack(want, x + i * k, t, k, i);
        for (int64_t i = 0; i < t; i++) {
            tk_formats[TK_A16].unpack(back, want, t, k, i);
            for (int64_t c = 0; c < k; c++) {
                const float v = x[i * k + c];
                const float nearest = fabsf(v) < 0x1p-126f ? 0 : tk_bf16_f32(tk_f32_bf16(v));
                if (isnan(v) ? !isnan(back[c]) : back[c] != nearest)
                    fail_msg("t%d k%d [%d][%d]: %g is not %g", (int)t, (int)k, (int)i, (int)c,
                             (double)back[c], (double)nearest);
            }
        }
        for (size_t i = 0; (int)i < tk_nkernels; i++) {
            const row *r = &tk_kernels[i];
            if (r->op != TK_OP_quant || r->out != TK_A16) continue;
            if ((tk_cpu_features() & r->needs) != r->needs) {
                if (!s) print_message("%s: skipped, this CPU lacks it\n", r->name);
                continue;
            }
            for (int nth = 1; nth < 4; nth++) {
                tk_args a = { .p = { x, got }, .type = { TK_F32, TK_A16 } };
                a.dim['t' - 'a'].n = t, a.dim['k' - 'a'].n = k;
                memset(got, 0xa5, bytes);
                run(r->fn[0], a, nth);
                if (memcmp(got, want, bytes)) fail_msg("%s t%d k%d", r->name, (int)t, (int)k);
            }
        }
        free(x), free(back), free(want), free(got);
    }
}

/* ---- linear ---- */

typedef struct problem {
    const row *r;
    int64_t n, k, t;
    uint8_t *w;   /* packed */
    float *plain; /* w unpacked, [n][k] */
    float *x;     /* what the kernel sees of the activations, [t][k] */
    float *src;   /* what they were before the row's format, [t][k] */
} problem;

enum { GUARD = 64 };

/* y of tokens order[0..t), in the order's order; guarded on both sides */
static float *product(const problem *p, const int *order, int64_t t, int nth) {
    const size_t count = (size_t)(t * p->n);
    uint8_t *act = block_of(size_of((tk_dtype)p->r->act, t, p->k));
    for (int64_t i = 0; i < t; i++) tk_formats[p->r->act].pack(act, p->src + order[i] * p->k, t, p->k, i);
    float *buffer = block_of((count + 2 * GUARD) * 4), *y = malloc(count * 4);
    memset(buffer, 0xff, (count + 2 * GUARD) * 4);
    tk_args a = { .p = { act, p->w, buffer + GUARD },
                  .type = { (uint8_t)p->r->act, (uint8_t)p->r->weight, TK_F32 } };
    a.dim['t' - 'a'].n = t, a.dim['n' - 'a'].n = p->n, a.dim['k' - 'a'].n = p->k;
    a.scratch = block_of(p->r->scratch(a.dim, nth));
    run(p->r->fn[0], a, nth);
    free(a.scratch);
    for (int i = 0; i < GUARD; i++)
        if (tk_f32_bits(buffer[i]) != ~0u || tk_f32_bits(buffer[GUARD + count + (size_t)i]) != ~0u)
            fail_msg("%s n%d k%d t%d wrote outside its output", p->r->name, (int)p->n, (int)p->k, (int)t);
    memcpy(y, buffer + GUARD, count * 4);
    free(act), free(buffer);
    return y;
}

static void check_values(const problem *p, const float *y) {
    for (int64_t t = 0; t < p->t; t++)
        for (int64_t n = 0; n < p->n; n++) {
            double want = 0, size = 0;
            for (int64_t k = 0; k < p->k; k++) {
                double v = (double)p->plain[n * p->k + k] * (double)p->x[t * p->k + k];
                want += v, size += fabs(v);
            }
            double got = (double)y[t * p->n + n];
            if (!(fabs(got - want) <= 1e-6 * size))
                fail_msg("%s n%d k%d t%d [%d][%d]: %.9g is not %.9g", p->r->name, (int)p->n, (int)p->k,
                         (int)p->t, (int)t, (int)n, got, want);
        }
}

static void check_bits(const problem *p, const float *y) {
    int order[64];
    for (int i = 0; i < 64; i++) order[i] = (int)p->t - 1 - i;
    float *back = product(p, order, p->t, 2); /* reversed, and two threads */
    for (int i = 0; i < p->t; i++) {
        const size_t bytes = (size_t)p->n * 4;
        const float *mine = y + i * p->n;
        float *alone = product(p, &i, 1, 1 + i % 4);
        if (memcmp(back + order[i] * p->n, mine, bytes) || memcmp(alone, mine, bytes))
            fail_msg("%s n%d k%d t%d: token %d depends on its company", p->r->name, (int)p->n, (int)p->k,
                     (int)p->t, i);
        free(alone);
    }
    free(back);
}

/* A token with a NaN and one with an infinity give no finite output, and leave the others as they are */
static void check_not_finite(const problem *p, const float *y) {
    if (p->t < 3) return;
    const size_t bytes = (size_t)(p->t * p->k) * 4;
    problem q = *p;
    q.src = malloc(bytes);
    memcpy(q.src, p->src, bytes);
    q.src[p->k / 2] = NAN;
    q.src[2 * p->k + p->k / 2] = INFINITY;
    int order[64];
    for (int i = 0; i < 64; i++) order[i] = i;
    float *z = product(&q, order, p->t, 1);
    for (int64_t n = 0; n < p->n; n++) assert_true(isnan(z[n]));
    for (int64_t i = 0; i < p->t; i++)
        if (i != 0 && i != 2) assert_memory_equal(z + i * p->n, y + i * p->n, (size_t)p->n * 4);
    free(z), free(q.src);
}

static void check_row(const row *r, tk_dtype file_type, int64_t n, int64_t k, int64_t t) {
    problem p = { .r = r, .n = n, .k = k, .t = t };
    uint8_t *file = make_file(file_type, n, k);
    p.w = pack(file_type, (tk_dtype)r->weight, file, n, k, 1);
    p.plain = malloc((size_t)(n * k) * 4), p.x = malloc((size_t)(t * k) * 4);
    p.src = malloc((size_t)(t * k) * 4);
    uint8_t *act = block_of(size_of((tk_dtype)r->act, t, k));
    for (int64_t i = 0; i < n; i++) tk_formats[file_type].unpack(p.plain + i * k, file, n, k, i);
    for (int64_t i = 0; i < t * k; i++) p.src[i] = number() * (i % 29 ? 1 : 10);
    for (int64_t i = 0; i < t; i++) {
        tk_formats[r->act].pack(act, p.src + i * k, t, k, i);
        tk_formats[r->act].unpack(p.x + i * k, act, t, k, i);
    }
    int order[64];
    for (int i = 0; i < 64; i++) order[i] = i;
    float *y = product(&p, order, t, 1);
    check_values(&p, y), check_bits(&p, y), check_not_finite(&p, y);
    free(file), free(p.w), free(p.plain), free(p.x), free(p.src), free(act), free(y);
}

static void linear_rows(void **state) {
    (void)state;
    static const int64_t shape[][2] = { { 1, 32 },    { 15, 64 },  { 16, 96 }, { 17, 576 },  { 100, 32 },
                                        { 192, 96 },  { 33, 256 }, { 1, 512 }, { 100, 768 }, { 64, 2304 },
                                        { 40, 4352 }, { 17, 1 },   { 16, 7 },  { 31, 63 },   { 100, 513 } };
    for (size_t i = 0; (int)i < tk_nkernels; i++) {
        const row *r = &tk_kernels[i];
        if (r->op != TK_OP_linear) continue;
        if ((tk_cpu_features() & r->needs) != r->needs) {
            print_message("%s: skipped, this CPU lacks it\n", r->name);
            continue;
        }
        tk_dtype file = TK_NODTYPE;
        for (size_t p = 0; p < TK_COUNT(pairs); p++)
            if (pairs[p][1] == r->weight) file = pairs[p][0];
        assert_true(file != TK_NODTYPE);
        for (size_t s = 0; s < TK_COUNT(shape); s++) {
            if (shape[s][1] % tk_formats[file].block) continue;
            for (int64_t t = 1; t <= 17; t += 1 + (s % 4 != 0) * 3)
                check_row(r, file, shape[s][0], shape[s][1], t);
            if (s % 4 == 0) check_row(r, file, shape[s][0], shape[s][1], 64);
        }
        check_row(r, file, 48, 256, 33);
        check_row(r, file, 70, 2304, 50); /* more than one chunk of k, and a group of tokens in part */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_rows_equal_the_files),
        cmocka_unit_test(packed_sizes),
        cmocka_unit_test(embed_looks_up),
        cmocka_unit_test(quant_is_nearest),
        cmocka_unit_test(quant_to_tiles),
        cmocka_unit_test(linear_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
