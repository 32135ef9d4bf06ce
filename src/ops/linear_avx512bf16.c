/* SPDX-License-Identifier: Apache-2.0 */
/* linear with AVX512-BF16: bfloat16 weights times activations rounded to bfloat16, two products of a row in
 * one instruction, which on Zen is twice the rate of float32. The rounding costs what it costs every program
 * that runs such a model as it was trained. One arithmetic for any number of tokens. */
#include "ops/linear_avx512.h"

#define vf_dot_bf16(sum, w, pair) _mm512_dpbf16_ps(sum, (__m512bh)(w), (__m512bh)vi_set1(pair))

#include "ops/linear_tmpl.h"

#define TILE(mr)                                                                                             \
    static void tile_##mr(const tile *t) { tile_pairs(mr, t); }
TILE(1) TILE(2) TILE(3) TILE(4) TILE(6) TILE(8) TILE(12) void linear_bf16_avx512bf16(const tk_args *a) {
    static const scheme s = {
        .tile = { NULL, tile_1, tile_2, tile_3, tile_4, NULL, tile_6, NULL, tile_8, [12] = tile_12 },
        .unit = 1,
        .chunk = 1024,
    };
    multiply(a, &s);
}
