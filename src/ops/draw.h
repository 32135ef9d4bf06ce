/* SPDX-License-Identifier: Apache-2.0 */
/* What all who draw a token share: the sampler of infer, the op draw and its kernels. Weights are integers,
 * 2^40 times the probability relative to the likeliest token's, from IEEE operations alone: so sums are exact
 * in any order, and a seed draws the same token on every machine. */
#ifndef TK_DRAW_H
#define TK_DRAW_H
#include <float.h>

#include "base/base.h"

#ifdef __CUDACC__
#define TK_DRAW_FN static inline __host__ __device__
#else
#define TK_DRAW_FN static inline
#endif

#define TK_DRAW_ONE 0x1p40f     /* the weight of the likeliest token */
#define TK_DRAW_DEPTH 27.75f    /* exp(-DEPTH) * ONE < 1: weights below are 0 */
#define TK_DRAW_SITE 0x53414d50 /* the last counter word of Philox tells this use from all others */

/* How a row of op draw is drawn: twelve words. The fields mean what they mean in tk_sampling; temp 0 takes
 * the likeliest */
typedef struct tk_draw {
    float temp, top_p, min_p;
    int32_t top_k;
    uint32_t seed[2], position[2]; /* low word first */
    float repeat_penalty, presence_penalty, frequency_penalty;
    int32_t line; /* of the biases and the tokens seen; -1: the logits stay as they are */
} tk_draw;

/* exp for x <= 0; relative error below 2e-7; x under -87 (and NaN) gives exp(-87). Cephes' split of ln 2 and
 * polynomial. */
TK_DRAW_FN float tk__exp_negative(float x) {
    x = x > -87.0f ? x : -87.0f;
    int n = (int)(x * 1.44269504f - 0.5f);
    float f = (float)n, r = (x - f * 0.693359375f) + f * 2.12194440e-4f, power;
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    const uint32_t bits = (uint32_t)(n + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    return y * power;
}
TK_DRAW_FN float tk__draw_clamped(float logit) { return logit > FLT_MAX ? FLT_MAX : logit; }
TK_DRAW_FN uint64_t tk__draw_fixed(float e) { return (uint64_t)(int64_t)(e * TK_DRAW_ONE); }
/* A logit with its bias and the penalties; seen: 0 never, else 1 + the times in the answer */
TK_DRAW_FN float tk__draw_changed(float logit, const tk_draw *how, float bias, int32_t seen) {
    logit += bias;
    if (!seen) return logit;
    if (how->repeat_penalty != 1)
        logit = logit < 0 ? logit * how->repeat_penalty : logit / how->repeat_penalty;
    if (seen > 1) logit -= how->presence_penalty;
    return logit - how->frequency_penalty * (float)(seen - 1);
}
/* The weight of a token z = (its logit - the largest) / temperature below the likeliest */
TK_DRAW_FN uint64_t tk__draw_weight(float z) {
    return z > -TK_DRAW_DEPTH ? tk__draw_fixed(tk__exp_negative(z)) : 0;
}
#endif
