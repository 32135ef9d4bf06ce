/* SPDX-License-Identifier: Apache-2.0 */
/* RMSNorm and LayerNorm: a thread takes whole rows. A row's sums go over four vectors side by side, then one,
 * then the tail, and are added in a fixed tree, so they depend on the row's length only. y may be x.
 * Included by the tier files. */

/* The sum over i < k of term(x[i]); lanes behind k must give 0, so the tail passes through v_first */
#define ROW_SUM(sum, k, x, term)                                                                             \
    do {                                                                                                     \
        vf s0_ = { 0 }, s1_ = { 0 }, s2_ = { 0 }, s3_ = { 0 };                                               \
        int64_t i_ = 0;                                                                                      \
        for (; i_ + 4 * VW <= (k); i_ += 4 * VW) {                                                           \
            s0_ = term(v_load((x) + i_), s0_), s1_ = term(v_load((x) + i_ + VW), s1_);                       \
            s2_ = term(v_load((x) + i_ + 2 * VW), s2_), s3_ = term(v_load((x) + i_ + 3 * VW), s3_);          \
        }                                                                                                    \
        for (; i_ + VW <= (k); i_ += VW) s0_ = term(v_load((x) + i_), s0_);                                  \
        if (i_ < (k)) s1_ = v_first(term(v_load_n((x) + i_, (k)-i_), s1_), s1_, (k)-i_);                     \
        (sum) = v_sum((s0_ + s1_) + (s2_ + s3_));                                                            \
    } while (0)

/* y = (x r) w, r = (mean(x^2) + eps)^-1/2 */
void KERNEL_NAME(norm)(const tk_args *a) {
    const int64_t k = TK_DIM(a, 'k');
    const float *w = a->p[1], eps = a->attr.f[0];
    float *r_out = a->p[3];
    int64_t row, to;
    tk_split(TK_DIM(a, 'h'), 1, a->ith, a->nth, &row, &to);
    for (; row < to; row++) {
        const float *x = (const float *)a->p[0] + row * k;
        float sum;
#define SQUARE(v, s) v_fma(v, v, s)
        ROW_SUM(sum, k, x, SQUARE);
#undef SQUARE
        float r = 1 / sqrtf(sum / (float)k + eps);
        if (r_out) r_out[row] = r;
        if (!a->p[2]) continue;
        float *y = (float *)a->p[2] + row * k;
        const vf rv = v_set1(r);
        int64_t i = 0;
        for (; i + VW <= k; i += VW) v_store(y + i, v_load(x + i) * rv * v_load(w + i));
        if (i < k) v_store_n(y + i, v_load_n(x + i, k - i) * rv * v_load_n(w + i, k - i), k - i);
    }
}

/* y = ((x - m) r) w + b; the variance in a second pass, never by E[x^2] - m^2 */
void KERNEL_NAME(lnorm)(const tk_args *a) {
    const int64_t k = TK_DIM(a, 'k');
    const float *w = a->p[1], *b = a->p[2], eps = a->attr.f[0];
    float *m_out = a->p[4], *r_out = a->p[5];
    int64_t row, to;
    tk_split(TK_DIM(a, 'h'), 1, a->ith, a->nth, &row, &to);
    for (; row < to; row++) {
        const float *x = (const float *)a->p[0] + row * k;
        float sum, squares;
#define PLAIN(v, s) ((s) + (v))
        ROW_SUM(sum, k, x, PLAIN);
#undef PLAIN
        float m = sum / (float)k;
        const vf mv = v_set1(m);
#define SQUARE(v, s) v_fma((v)-mv, (v)-mv, s)
        ROW_SUM(squares, k, x, SQUARE);
#undef SQUARE
        float r = 1 / sqrtf(squares / (float)k + eps);
        if (m_out) m_out[row] = m;
        if (r_out) r_out[row] = r;
        if (!a->p[3]) continue;
        float *y = (float *)a->p[3] + row * k;
        const vf rv = v_set1(r);
        int64_t i = 0;
        for (; i + VW <= k; i += VW)
            v_store(y + i, v_fma((v_load(x + i) - mv) * rv, v_load(w + i), v_load(b + i)));
        if (i < k) {
            vf h = (v_load_n(x + i, k - i) - mv) * rv;
            v_store_n(y + i, v_fma(h, v_load_n(w + i, k - i), v_load_n(b + i, k - i)), k - i);
        }
    }
}
