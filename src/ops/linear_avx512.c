/* SPDX-License-Identifier: Apache-2.0 */
/* linear with AVX-512 and VNNI */
#include "ops/linear_avx512.h"
#include "ops/linear_tmpl.h"

/* Integers: 8 tokens are 8 sums and 8 block sums of the 32 registers, and the dot product's latency is
 * hidden. Floats need only the sums: 12. */
#define TILE(name, mr, call)                                                                                 \
    static void name##_##mr(const tile *t) { call; }
#define FLOATS(name, type, mr) TILE(name, mr, tile_float(type, mr, t))
#define INTEGERS(name, type, expanded, mr) TILE(name, mr, tile_integer(type, mr, expanded, t))
#define SIZES(X, ...) X(__VA_ARGS__, 1) X(__VA_ARGS__, 2) X(__VA_ARGS__, 3) X(__VA_ARGS__, 4)
#define TO_4(name) NULL, name##_1, name##_2, name##_3, name##_4
#define TO_8(name) TO_4(name), NULL, name##_6, NULL, name##_8
#define KERNEL(name, ...)                                                                                    \
    void linear_##name##_avx512(const tk_args *a) {                                                          \
        static const scheme s = { __VA_ARGS__ };                                                             \
        multiply(a, &s);                                                                                     \
    }
#define FLOATING(name, type)                                                                                 \
    SIZES(FLOATS, name, type)                                                                                \
    FLOATS(name, type, 6)                                                                                    \
    FLOATS(name, type, 8) FLOATS(name, type, 12)                                                             \
        KERNEL(name, .tile = { TO_8(name), [12] = name##_12 }, .unit = 1, .chunk = 512)
#define INTEGER(name, type)                                                                                  \
    SIZES(INTEGERS, name, type, false)                                                                       \
    INTEGERS(name, type, false, 6)                                                                           \
    INTEGERS(name, type, false, 8) KERNEL(name, .tile = { TO_8(name) }, .unit = 32, .chunk = 64)
/* Formats of four blocks together: 4 tokens, and beyond `up_to` tokens 8 from an expanded chunk */
#define EXPANDING(name, type, up_to)                                                                         \
    SIZES(INTEGERS, name, type, false)                                                                       \
    SIZES(INTEGERS, name##_many, type, true)                                                                 \
    INTEGERS(name##_many, type, true, 6)                                                                     \
    INTEGERS(name##_many, type, true, 8) static void name##_expand(const tile *t, uint8_t *to) {             \
        expand(type, t, to);                                                                                 \
    }                                                                                                        \
    KERNEL(name, .tile = { TO_4(name) }, .many = { TO_8(name##_many) }, .unit = 32, .chunk = EXPANDED_CHUNK, \
           .direct = up_to, .expand = name##_expand)

FLOATING(f32, TK_P_F32)
FLOATING(f16, TK_P_F16)
FLOATING(bf16, TK_P_BF16)
FLOATING(f8, TK_P_F8)
INTEGER(q8_0, TK_P_Q8_0)
INTEGER(q4_0, TK_P_Q4_0)
INTEGER(q4_1, TK_P_Q4_1)
INTEGER(q4_z, TK_P_Q4_Z)
INTEGER(q4_k, TK_P_Q4_K)
EXPANDING(q6_k, TK_P_Q6_K, 16)
INTEGER(q5_0, TK_P_Q5_0)
INTEGER(q5_1, TK_P_Q5_1)
INTEGER(iq4_nl, TK_P_IQ4_NL)
INTEGER(mxfp4, TK_P_MXFP4)
INTEGER(iq4_xs, TK_P_IQ4_XS)
EXPANDING(q2_k, TK_P_Q2_K, 16)
EXPANDING(q3_k, TK_P_Q3_K, 16)
EXPANDING(q5_k, TK_P_Q5_K, 16)
