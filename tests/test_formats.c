/* SPDX-License-Identifier: Apache-2.0 */
/* Number formats against numpy and PyPI's gguf (vectors of tools/make_format_vectors.py), and what packing
 * loses against the plainest quantizer that one could write. */
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/base.h"

static tk_buf load(const char *name, const char *suffix) {
    char path[128];
    tk_buf b = { 0 };
    snprintf(path, sizeof path, "tests/data/formats/%s%s", name, suffix);
    if (tk_file_read(&b, path, 1 << 20) != TK_OK) fail_msg("%s", tk_error());
    return b;
}

static const tk_dtype quantized[] = { TK_Q8_0, TK_Q4_0, TK_Q4_1, TK_Q5_0, TK_Q5_1, TK_IQ4_NL, TK_MXFP4,
                                      TK_Q2_K, TK_Q3_K, TK_Q4_K, TK_Q5_K, TK_Q6_K, TK_IQ4_XS };

static void unpack_equals_gguf(void **state) {
    (void)state;
    for (size_t k = 0; k < TK_COUNT(quantized); k++) {
        const tk_format *f = &tk_formats[quantized[k]];
        tk_buf q = load(f->name, ".q"), want = load(f->name, ".f32");
        const int64_t cols = 3 * f->block;
        size_t bytes;
        assert_true(tk_format_size(quantized[k], 2, cols, &bytes));
        assert_int_equal(bytes, q.len);
        assert_int_equal(want.len, (size_t)(2 * cols * 4));
        uint8_t *odd =
            malloc(q.len + 1); /* exact end and odd address: over-reads and alignment show under ASan */
        memcpy(odd + 1, q.data, q.len);
        float *got = malloc((size_t)cols * 4);
        for (int64_t row = 0; row < 2; row++) {
            f->unpack(got, odd + 1, 2, cols, row);
            if (memcmp(got, want.data + row * cols * 4, (size_t)cols * 4))
                fail_msg("%s row %d differs", f->name, (int)row);
        }
        free(got), free(odd), tk_buf_free(&q), tk_buf_free(&want);
    }
}

/* The same bytes, but for codes under a scale of zero: then the same values. */
static void pack_equals_ggml(void **state) {
    (void)state;
    enum { N = 256 };
    tk_buf src = load("source", ".f32");
    for (size_t k = 0; k < TK_COUNT(quantized); k++) {
        const tk_format *f = &tk_formats[quantized[k]];
        tk_buf want = load(f->name, ".packed");
        uint8_t *got = malloc(want.len);
        float ours[N], theirs[N];
        for (int64_t row = 0; row < 2; row++) {
            f->pack(got, (const float *)src.data + row * N, 2, N, row);
            f->unpack(ours, got, 2, N, row), f->unpack(theirs, want.data, 2, N, row);
            for (int i = 0; i < N; i++)
                if (ours[i] != theirs[i]) fail_msg("%s [%d][%d]", f->name, (int)row, i);
        }
        if (f->block == 32 && memcmp(got, want.data, want.len)) fail_msg("%s", f->name);
        free(got), tk_buf_free(&want);
    }
    tk_buf_free(&src);
}

static void all_halves(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        int exponent = h >> 10 & 31, fraction = h & 1023;
        double sign = h & 0x8000 ? -1 : 1, want;
        float got = tk_f16_f32((uint16_t)h);
        if (exponent == 31 && fraction) {
            assert_true(isnan(got) && isnan(tk_f16_f32(tk_f32_f16(got))));
            assert_int_equal(tk_f32_f16(got), h | 0x200);
            continue;
        }
        want = exponent == 31 ? INFINITY
               : exponent     ? ldexp(1024 + fraction, exponent - 25)
                              : ldexp(fraction, -24);
        assert_true(got == (float)(sign * want) && !!signbit(got) == (h >= 0x8000));
        assert_int_equal(tk_f32_f16(got), h);
    }
}

static void halves_round_to_nearest_even(void **state) {
    (void)state;
    tk_buf b = load("halves", ".bin");
    size_t n = b.len / 8;
    const char *f16 = b.data + n * 4, *bf16 = f16 + n * 2;
    assert_true(n > 1000 && n * 8 == b.len);
    for (size_t i = 0; i < n; i++) {
        float x = tk_bits_f32(tk_le32(b.data + i * 4));
        if (tk_f32_f16(x) != tk_le16(f16 + i * 2)) fail_msg("f16 of %a", (double)x);
        if (tk_f32_bf16(x) != tk_le16(bf16 + i * 2)) fail_msg("bf16 of %a", (double)x);
    }
    assert_true(
        isnan(tk_bf16_f32(tk_f32_bf16(tk_bits_f32(0x7f800001))))); /* a payload that truncation would lose */
    assert_true(isnan(tk_f16_f32(tk_f32_f16(tk_bits_f32(0xff800001)))));
    tk_buf_free(&b);
}

static void random_row(float *x, int n, uint64_t seed, float scale) {
    for (int i = 0; i < n; i++) {
        uint32_t r[4], counter[4] = { (uint32_t)i };
        tk_philox(r, seed, counter);
        x[i] = scale * sqrtf(-2 * logf(tk_uniform(r[0]) + 0x1p-25f)) * cosf(6.2831853f * tk_uniform(r[1]));
    }
}

/* sum of squared errors of the plainest grid: min..max of `block` values in `levels` steps */
static double plain_error(const float *x, int n, int block, int levels) {
    double sum = 0;
    for (int i = 0; i < n; i += block) {
        float low = x[i], high = x[i];
        for (int j = 1; j < block; j++) low = fminf(low, x[i + j]), high = fmaxf(high, x[i + j]);
        float d = (high - low) / (float)levels;
        for (int j = 0; j < block; j++) {
            float y = low + d * roundf((x[i + j] - low) / d);
            sum += (double)(y - x[i + j]) * (y - x[i + j]);
        }
    }
    return sum;
}

static void pack_then_unpack_is_close(void **state) {
    (void)state;
    enum { N = 1024 };
    static const struct {
        tk_dtype type;
        int block, levels;
        double factor;
    } rows[] = {
        { TK_Q8_0, 32, 254, 1.8 }, /* symmetric: its step is up to twice the plain one's */
        { TK_Q4_0, 32, 15, 1.7 },   { TK_Q4_1, 32, 15, 1.01 },
        { TK_Q4_K, 32, 15, 1.0 }, /* 6-bit scales, and yet no worse than exact ones: the search pays */
        { TK_Q6_K, 16, 63, 1.5 },   { TK_Q5_0, 32, 31, 1.7 },
        { TK_Q5_1, 32, 31, 1.01 },  { TK_Q5_K, 32, 31, 1.0 },
        { TK_Q3_K, 16, 7, 1.5 },    { TK_Q2_K, 16, 3, 1.5 }, /* 4-bit scales */
        { TK_IQ4_NL, 32, 15, 1.1 }, { TK_IQ4_XS, 32, 15, 1.1 },
        { TK_MXFP4, 32, 15, 2.6 }, /* scales are powers of two */
    };
    float x[N], y[N];
    uint8_t packed[N * 2];
    for (size_t k = 0; k < TK_COUNT(rows); k++) {
        const tk_format *f = &tk_formats[rows[k].type];
        for (uint64_t seed = 1; seed <= 4; seed++) {
            random_row(x, N, seed, 0.03f);
            f->pack(packed, x, 1, N, 0);
            f->unpack(y, packed, 1, N, 0);
            double error = 0, plain = plain_error(x, N, rows[k].block, rows[k].levels);
            for (int i = 0; i < N; i++) error += (double)(y[i] - x[i]) * (y[i] - x[i]);
            if (!(error <= plain * rows[k].factor))
                fail_msg("%s: %g times the plain error", f->name, error / plain);
        }
    }
}

static void pack_edge_rows(void **state) {
    (void)state;
    enum { N = 256 };
    float x[N] = { 0 }, y[N];
    uint8_t packed[N * 2];
    for (size_t k = 0; k < TK_COUNT(quantized); k++) {
        const tk_format *f = &tk_formats[quantized[k]];
        for (int i = 0; i < N; i++) x[i] = 0;
        f->pack(packed, x, 1, N, 0), f->unpack(y, packed, 1, N, 0);
        for (int i = 0; i < N; i++) assert_true(y[i] == 0);
        for (int i = 0; i < N; i++) x[i] = -2;
        f->pack(packed, x, 1, N, 0), f->unpack(y, packed, 1, N, 0);
        for (int i = 0; i < N; i++) assert_true(fabsf(y[i] + 2) < 0.03f);
        for (int i = 0; i < N; i++) x[i] = i == 7 ? NAN : i == 40 ? INFINITY : i == 70 ? 3e38f : 1e-30f;
        f->pack(packed, x, 1, N, 0),
            f->unpack(y, packed, 1, N, 0); /* any numbers, but no undefined behaviour */
    }
}

static void plain_formats(void **state) {
    (void)state;
    static const tk_dtype plain[] = { TK_F32, TK_F16, TK_BF16, TK_F64 };
    float x[14], y[7];
    random_row(x, 14, 9, 1);
    for (size_t k = 0; k < TK_COUNT(plain); k++) {
        const tk_format *f = &tk_formats[plain[k]];
        uint8_t *m = malloc((size_t)(14 * f->bytes) + 1);
        for (int row = 1; row >= 0; row--) f->pack(m + 1, x + row * 7, 2, 7, row);
        for (int row = 0; row < 2; row++) {
            f->unpack(y, m + 1, 2, 7, row);
            for (int i = 0; i < 7; i++) {
                float want = x[row * 7 + i];
                float tolerance = plain[k] == TK_F16 ? 0x1p-11f : plain[k] == TK_BF16 ? 0x1p-8f : 0;
                assert_true(fabsf(y[i] - want) <= tolerance * fabsf(want));
            }
        }
        free(m);
    }
}

static void sizes(void **state) {
    (void)state;
    size_t n;
    assert_true(tk_format_size(TK_Q4_K, 3, 512, &n) && n == 3 * 2 * 144);
    assert_true(tk_format_size(TK_F32, 0, 5, &n) && n == 0);
    assert_false(tk_format_size(TK_Q8_0, 3, 33, &n));
    assert_false(tk_format_size(TK_F32, -1, 5, &n));
    assert_false(tk_format_size(TK_F32, INT64_MAX, INT64_MAX, &n));
    assert_false(tk_format_size(TK_F32, (int64_t)1 << 61, 4, &n));
    assert_false(tk_format_size(TK_NODTYPE, 1, 1, &n));
    assert_int_equal(tk_format_by_name("q6_k"), TK_Q6_K);
    assert_int_equal(tk_format_by_name("Q6"), TK_NODTYPE);
    assert_null(tk_formats[TK_I64].unpack);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unpack_equals_gguf), cmocka_unit_test(pack_equals_ggml),
        cmocka_unit_test(all_halves),         cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(pack_edge_rows),     cmocka_unit_test(pack_then_unpack_is_close),
        cmocka_unit_test(plain_formats),      cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
