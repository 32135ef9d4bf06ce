/* SPDX-License-Identifier: Apache-2.0 */
/* linear, plain C: y[t][n] = sum over k of w[n][k] x[t][k], for any machine. A panel's weights are expanded
 * to float32 a few hundred k at a time, in the panel's own order [k][16], and each token adds them in the
 * order of k; so one loop serves all formats, activations stay float32, and the sum of a row does not depend
 * on what else is in the batch. The compiler vectorizes over the 16 rows. */
#include "base/packed.h"
#include "ops/ops.h"

enum { CHUNK = 256 }; /* k expanded at a time: 16 KiB, which the first-level cache keeps */

static void expand_quantized(float (*w)[16], tk_dtype t, const uint8_t *panel, int64_t from, int64_t end) {
    for (int64_t b = from / TK_K32; b < end / TK_K32; b++) {
        const tk_pblock v = tk__pblock(t, panel, b);
        for (int half = 0; half < 2; half++) {
            float scale[16], add[16];
            for (int r = 0; r < 16; r++) tk__pscale(t, panel, b, half, r, &scale[r], &add[r]);
            for (int k = half * 16; k < half * 16 + 16; k++, w++)
                for (int r = 0; r < 16; r++)
                    (*w)[r] = scale[r] * (float)tk__pvalue(&v, k / 4, r * 4 + k % 4) + add[r];
        }
    }
}

static void expand(float (*w)[16], tk_dtype t, const uint8_t *panel, int64_t from, int64_t end) {
    switch (t) {
    case TK_P_F32: memcpy(w, panel + from * 64, (size_t)(end - from) * 64); break;
    case TK_P_F16:
        for (int64_t k = from; k < end; k++)
            for (int r = 0; r < 16; r++) w[k - from][r] = tk_f16_f32(tk_le16(panel + k * 32 + r * 2));
        break;
    case TK_P_F8:
        for (int64_t k = from; k < end; k++)
            for (int r = 0; r < 16; r++) {
                const uint8_t *block = panel + k / 32 * 576;
                w[k - from][r] =
                    tk__e4m3_f32(block[64 + k % 32 * 16 + r]) * tk_bits_f32(tk_le32(block + r * 4));
            }
        break;
    case TK_P_BF16:
        for (int64_t k = from; k < end; k++)
            for (int r = 0; r < 16; r++)
                w[k - from][r] = tk_bf16_f32(tk_le16(panel + k / 2 * 64 + k % 2 * 2 + r * 4));
        break;
    default: expand_quantized(w, t, panel, from, end);
    }
}

void linear_plain(const tk_args *a) {
    const tk_dtype type = a->type[1];
    const int64_t tokens = TK_DIM(a, 't'), n = TK_DIM(a, 'n'), k = TK_DIM(a, 'k');
    const float *x = a->p[0];
    const uint8_t *w = a->p[1];
    float *y = a->p[2];
    const size_t panel_bytes = tk__panel_bytes(type, k);
    float chunk[CHUNK][16];
    int64_t first, last;
    tk_split(n, TK_PANEL, a->ith, a->nth, &first, &last);
    for (int64_t row = first; row < last; row += TK_PANEL) {
        const size_t live = (size_t)TK_MIN(n - row, (int64_t)TK_PANEL) * sizeof(float);
        for (int64_t from = 0; from < k; from += CHUNK) {
            const int64_t end = TK_MIN(from + CHUNK, k);
            expand(chunk, type, w + (size_t)(row / TK_PANEL) * panel_bytes, from, end);
            for (int64_t t = 0; t < tokens; t++) {
                float sum[16] = { 0 };
                if (from > 0) memcpy(sum, y + t * n + row, live);
                for (int64_t i = 0; i < end - from; i++)
                    for (int r = 0; r < 16; r++) sum[r] += chunk[i][r] * x[t * k + from + i];
                memcpy(y + t * n + row, sum, live);
            }
        }
    }
}
