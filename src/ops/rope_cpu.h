/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary position embedding. For each token and each VW pairs the angles' sines and cosines are computed once
 * and then used for all heads. Both pairings do the same arithmetic on a pair, so permuting a weight's rows
 * from one to the other changes no bit. y may be x. Included by the tier files. */

/* (a, b) -> (a cos - b sin, b cos + a sin) */
V_INLINE vf rope_low(vf a, vf b, vf c, vf s) { return v_fma(a, c, -(b * s)); }
V_INLINE vf rope_high(vf a, vf b, vf c, vf s) { return v_fma(b, c, a * s); }

/* Pairs (z, z + Z) from z on, n of them */
V_INLINE void rope_half(const float *x, float *y, int64_t z, int64_t pairs, int64_t n, vf c, vf s) {
    if (n >= VW) {
        vf lo = v_load(x + z), hi = v_load(x + pairs + z);
        v_store(y + z, rope_low(lo, hi, c, s)), v_store(y + pairs + z, rope_high(lo, hi, c, s));
    } else {
        vf lo = v_load_n(x + z, n), hi = v_load_n(x + pairs + z, n);
        v_store_n(y + z, rope_low(lo, hi, c, s), n), v_store_n(y + pairs + z, rope_high(lo, hi, c, s), n);
    }
}

/* A vector of pairs (a, b): the same products and sums, c and s standing twice, s with a minus for the a's */
V_INLINE vf rope_turn(vf x, vf c, vf s) { return v_fma(x, c, v_swap(x) * s); }

/* Pairs (2z, 2z + 1) from z on, n of them; c and s in two halves, as rope_turn wants them */
V_INLINE void rope_pairs(const float *x, float *y, int64_t z, int64_t n, const vf c[2], const vf s[2]) {
    x += 2 * z, y += 2 * z;
    if (n >= VW) {
        vf lo = v_load(x), hi = v_load(x + VW);
        v_store(y, rope_turn(lo, c[0], s[0])), v_store(y + VW, rope_turn(hi, c[1], s[1]));
        return;
    }
    v_store_n(y, rope_turn(v_load_n(x, TK_MIN(2 * n, VW)), c[0], s[0]), TK_MIN(2 * n, VW));
    if (2 * n > VW) v_store_n(y + VW, rope_turn(v_load_n(x + VW, 2 * n - VW), c[1], s[1]), 2 * n - VW);
}

void KERNEL_NAME(rope)(const tk_args *a) {
    const int64_t heads = TK_DIM(a, 'h'), d = TK_DIM(a, 'd'), pairs = TK_DIM(a, 'z');
    const int32_t *position = a->p[1];
    const float *f = a->p[2];
    const vf scale = v_set1(a->attr.f[0]);
    const bool half = a->attr.i[0] == TK_ROPE_HALF;
    int64_t t, to;
    tk_split(TK_DIM(a, 't'), 1, a->ith, a->nth, &t, &to);
    for (; t < to; t++) {
        const float *x = (const float *)a->p[0] + t * heads * d;
        float *y = (float *)a->p[3] + t * heads * d;
        for (int64_t z = 0; z < pairs; z += VW) {
            const int64_t n = TK_MIN(pairs - z, VW);
            vf s, c, angle = v_set1((float)position[t]) * v_load_n(f + z, n);
            v_sincos(angle, &s, &c);
            s *= scale, c *= scale;
            if (half) {
                for (int64_t h = 0; h < heads; h++) rope_half(x + h * d, y + h * d, z, pairs, n, c, s);
            } else {
                const vu minus = (vu)((v_iota() & v_seti(1)) - v_seti(1)) << 31; /* on even lanes */
                const vf c2[2] = { v_twice_lo(c), v_twice_hi(c) };
                const vf s2[2] = { (vf)((vu)v_twice_lo(s) ^ minus), (vf)((vu)v_twice_hi(s) ^ minus) };
                for (int64_t h = 0; h < heads; h++) rope_pairs(x + h * d, y + h * d, z, n, c2, s2);
            }
        }
        if (2 * pairs < d && x != y)
            for (int64_t h = 0; h < heads; h++)
                memcpy(y + h * d + 2 * pairs, x + h * d + 2 * pairs, (size_t)(d - 2 * pairs) * sizeof(float));
    }
}
