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

/* Pairs (2z, 2z + 1) from z on, n of them: split into evens and odds, and joined again */
V_INLINE void rope_pairs(const float *x, float *y, int64_t z, int64_t n, vf c, vf s) {
    float in[2 * VW] = { 0 }, out[2 * VW];
    vf lo, hi;
    memcpy(in, x + 2 * z, (size_t)TK_MIN(n, VW) * 2 * sizeof(float));
    for (int i = 0; i < VW; i++) lo[i] = in[2 * i], hi[i] = in[2 * i + 1];
    vf a = rope_low(lo, hi, c, s), b = rope_high(lo, hi, c, s);
    for (int i = 0; i < VW; i++) out[2 * i] = a[i], out[2 * i + 1] = b[i];
    memcpy(y + 2 * z, out, (size_t)TK_MIN(n, VW) * 2 * sizeof(float));
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
            if (half)
                for (int64_t h = 0; h < heads; h++) rope_half(x + h * d, y + h * d, z, pairs, n, c, s);
            else
                for (int64_t h = 0; h < heads; h++) rope_pairs(x + h * d, y + h * d, z, n, c, s);
        }
        if (2 * pairs < d && x != y)
            for (int64_t h = 0; h < heads; h++)
                memcpy(y + h * d + 2 * pairs, x + h * d + 2 * pairs, (size_t)(d - 2 * pairs) * sizeof(float));
    }
}
