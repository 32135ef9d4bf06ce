/* SPDX-License-Identifier: Apache-2.0 */
/* The KV cache: writing a step's keys and values (kvput), and showing a block of keys of one head to
 * attention as float32 in one form, wherever they come from. Included by the tier files.
 *
 * A group is 16 keys of one head: D x 16 numbers for keys ([D][16]) and 16 rows of D for values, so a group
 * has one offset for both. Q8_0, in as many bytes: [D/32]{ 16 scales (float16), 512 int8 }, the integers
 * being [32][16] of keys and [16][32] of values. An integer times its scale is exact in float32, so it makes
 * no difference where they are multiplied. */

#include "ops/attn_sizes.h"

enum { KV_GROUP = 16, KV_Q8 = 32, KV_Q8_SCALES = 2 * KV_GROUP, KV_Q8_BYTES = KV_GROUP * (2 + KV_Q8) };

/* ---- writing ---- */

/* 32 numbers -> a scale and bytes. An infinity or NaN among them makes the scale NaN, so it is not lost. */
V_INLINE uint16_t kv_quantize(const float *x, int8_t q[KV_Q8]) {
    vf top = { 0 }, poison = { 0 };
    for (int i = 0; i < KV_Q8; i += VW)
        top = v_max(top, v_abs(v_load(x + i))), poison += v_load(x + i) * v_set1(0);
    float amax = v_max_lane(top), inverse = amax > 1e-30f ? 127 / amax : 0;
    for (int i = 0; i < KV_Q8; i += VW) v_store_i8(q + i, v_load(x + i) * v_set1(inverse));
    return tk_f32_f16(amax / 127 + v_sum(poison));
}

/* 32 numbers of rows row - row % 16 .. from column e on, in a Q8_0 cache */
V_INLINE uint8_t *kv_q8_block(const void *cache, int64_t row, int64_t d, int64_t e) {
    return (uint8_t *)cache + (row / KV_GROUP * (d / KV_Q8) + e / KV_Q8) * KV_Q8_BYTES;
}

/* Key or value x[d] of a cache of dtype `type`; `row`: (page G + head) S + offset */
static void kv_put_key(void *cache, int type, int64_t row, int64_t d, const float *x) {
    const int64_t lane = row % KV_GROUP, at = (row - lane) * d + lane;
    if (type == TK_Q8_0) {
        for (int64_t e = 0; e < d; e += KV_Q8) {
            uint8_t *b = kv_q8_block(cache, row, d, e);
            int8_t q[KV_Q8];
            uint16_t scale = kv_quantize(x + e, q);
            memcpy(b + 2 * lane, &scale, 2);
            for (int i = 0; i < KV_Q8; i++) b[KV_Q8_SCALES + i * KV_GROUP + lane] = (uint8_t)q[i];
        }
    } else if (type == TK_F32) {
        float *k = (float *)cache + at;
        for (int64_t e = 0; e < d; e++) k[e * KV_GROUP] = x[e];
    } else {
        uint16_t *k = (uint16_t *)cache + at, h[2 * VW];
        for (int64_t e = 0; e < d; e += VW) {
            const int64_t n = TK_MIN(d - e, VW);
            store_as(h, type, 0, n == VW ? v_load(x + e) : v_load_n(x + e, n));
            for (int64_t i = 0; i < n; i++) k[(e + i) * KV_GROUP] = h[i];
        }
    }
}
static void kv_put_value(void *cache, int type, int64_t row, int64_t d, const float *x) {
    if (type == TK_Q8_0) {
        for (int64_t e = 0; e < d; e += KV_Q8) {
            uint8_t *b = kv_q8_block(cache, row, d, e);
            uint16_t scale = kv_quantize(x + e, (int8_t *)b + KV_Q8_SCALES + row % KV_GROUP * KV_Q8);
            memcpy(b + 2 * (row % KV_GROUP), &scale, 2);
        }
    } else if (type == TK_F32) {
        memcpy((float *)cache + row * d, x, (size_t)d * sizeof *x);
    } else {
        cast_run(x, TK_F32, (uint16_t *)cache + row * d, type, 0, d);
    }
}

/* k v i(int32 slots) ck cv -> nk nv, in the storage of ck and cv */
void KERNEL_NAME(kvput)(const tk_args *a) {
    const float *k = a->p[0], *v = a->p[1];
    const int32_t *slot = a->p[2];
    const int64_t heads = TK_DIM(a, 'g'), d = TK_DIM(a, 'd'), size = TK_DIM(a, 's');
    int64_t i, to;
    tk_split(TK_DIM(a, 't') * heads, TK_MAX(1, 256 / TK_MAX(d, 1)), a->ith, a->nth, &i, &to);
    for (; i < to; i++) {
        const int64_t s = slot[i / heads], row = (s / size * heads + i % heads) * size + s % size;
        if (s < 0) continue;
        kv_put_key(a->p[5], a->type[3], row, d, k + i * d);
        kv_put_value(a->p[6], a->type[4], row, d, v + i * d);
    }
}

/* ---- reading ---- */

/* Where attention finds its keys: rows of the step (page == NULL) or pages of the cache */
typedef struct kv_source {
    const void *k, *v;
    int type_k, type_v;
    int64_t heads, d;    /* KV heads */
    const int32_t *page; /* of the sequence at hand, or NULL */
    int64_t page_size;
    int64_t first; /* packed token of key 0, without pages */
} kv_source;

/* Up to ATTN_KEYS keys of `type`: groups of [D][16] keys, groups of 16 value rows `stride` apart, or
 * Q8_0's blocks of both. Lanes and rows behind the last key hold anything. Groups that nobody looks at repeat
 * another one. */
typedef struct kv_block {
    const void *k[ATTN_KEYS / KV_GROUP], *v[ATTN_KEYS / KV_GROUP];
    int64_t stride;
    int type;
} kv_block;

/* Keys from .. from + count - 1 (from: a multiple of ATTN_KEYS, count up to it) of KV head `head`; nobody
 * looks at the first `skip` of them (multiples of 16 are left out). widen: smaller types as float32, which
 * pays when more than a few queries read them. */
typedef struct kv_span {
    int64_t head, from, skip, count;
    bool widen;
} kv_span;

/* A group of keys or values as float32 */
static void kv_dequantize(const uint8_t *b, int64_t d, bool key, float *x) {
    for (int64_t e = 0; e < d; e += KV_Q8, b += KV_Q8_BYTES) {
        const int8_t *q = (const int8_t *)b + KV_Q8_SCALES;
        float scale[KV_GROUP];
        for (int j = 0; j < KV_GROUP; j += VW)
            v_store(scale + j, v_load_f16((const uint16_t *)(const void *)b + j));
        if (key)
            for (int i = 0; i < KV_Q8; i++)
                for (int j = 0; j < KV_GROUP; j += VW)
                    v_store(x + (e + i) * KV_GROUP + j, v_load_i8(q + i * KV_GROUP + j) * v_load(scale + j));
        else
            for (int j = 0; j < KV_GROUP; j++)
                for (int i = 0; i < KV_Q8; i += VW)
                    v_store(x + j * d + e + i, v_load_i8(q + j * KV_Q8 + i) * v_set1(scale[j]));
    }
}

/* n rows `stride` apart, d numbers each -> [d][16] */
static void kv_transpose(const float *src, int64_t stride, int64_t n, int64_t d, float *dst) {
    for (int64_t j = 0; j < n; j += VW) {
        int64_t e = 0;
        for (; e + VW <= d && j + VW <= n; e += VW) {
            vf r[VW];
            V_FOR(i, VW) r[i] = v_load(src + (j + i) * stride + e);
            v_transpose(r);
            V_FOR(i, VW) v_store(dst + (e + i) * KV_GROUP + j, r[i]);
        }
        for (; e < d; e++)
            for (int64_t i = j; i < TK_MIN(n, j + VW); i++) dst[e * KV_GROUP + i] = src[i * stride + e];
    }
}

/* kt, vt: ATTN_KEYS d floats each */
static void kv_view(const kv_source *s, const kv_span *span, float *kt, float *vt, kv_block *b) {
    const bool widen = span->widen;
    const int64_t g = span->head, n = span->count, groups = tk_ceil_div(n, KV_GROUP);
    b->stride = s->page ? s->d : s->heads * s->d;
    b->type = s->page && !widen ? s->type_k : TK_F32;
    for (int64_t i = span->skip / KV_GROUP; i < groups; i++) {
        const int64_t key = span->from + i * KV_GROUP;
        float *kt_i = kt + i * KV_GROUP * s->d, *vt_i = vt + i * KV_GROUP * s->d;
        b->k[i] = kt_i, b->v[i] = vt_i;
        if (!s->page) {
            const int64_t at = ((s->first + key) * s->heads + g) * s->d;
            kv_transpose((const float *)s->k + at, b->stride, TK_MIN(n - i * KV_GROUP, KV_GROUP), s->d, kt_i);
            b->v[i] = (const float *)s->v + at;
            continue;
        }
        const int64_t row = (s->page[key / s->page_size] * s->heads + g) * s->page_size + key % s->page_size;
        const int64_t at = row * s->d, count = KV_GROUP * s->d;
        const tk_format *format = &tk_formats[s->type_k];
        const char *k = (const char *)s->k + at / format->block * format->bytes;
        const char *v = (const char *)s->v + at / format->block * format->bytes;
        if (s->type_k == TK_F32 || !widen)
            b->k[i] = k, b->v[i] = v;
        else if (s->type_k == TK_Q8_0)
            kv_dequantize((const uint8_t *)k, s->d, true, kt_i),
                kv_dequantize((const uint8_t *)v, s->d, false, vt_i);
        else
            cast_run(k, s->type_k, kt_i, TK_F32, 0, count), cast_run(v, s->type_k, vt_i, TK_F32, 0, count);
    }
    for (int64_t i = 0, any = span->skip / KV_GROUP; i < ATTN_KEYS / KV_GROUP; i++)
        if (i < any || i >= groups) b->k[i] = b->k[any], b->v[i] = b->v[any];
}
