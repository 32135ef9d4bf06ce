/* SPDX-License-Identifier: Apache-2.0 */
/* pack and quant for Hopper's products: weights into panels (base/panels.h), activations to bfloat16. Packing runs once,
 * at load, behind copies that are slower; so it is written for all formats alike and not for speed. */
#include "cuda/panels.cuh"
#include "cuda/weights.cuh"

namespace tk {

/* A thread makes eight numbers of one row: 16 bytes. H_BF16 from numbers of any format, rounded */
template <int T> __global__ void pack_bf16(uint4 *to, const uint8_t *from, int64_t rows, int64_t cols) {
    const int64_t slabs = tk__h_slabs(cols), n = (rows + TK_H_ROWS - 1) / TK_H_ROWS * slabs * (TK_H_BF16_SLAB / 16);
    TK_GRID_LOOP(i, n) {
        const int row = (int)(i % TK_H_ROWS), chunk = (int)(i / TK_H_ROWS % 8);
        const int64_t slab = i / (TK_H_BF16_SLAB / 16);
        const int64_t r = slab / slabs * TK_H_ROWS + row, k = slab % slabs * TK_H_K + chunk * 8;
        union {
            uint4 all;
            uint16_t h[EIGHT];
        } v = {};
        if (r < rows && k < cols) {
            float number[EIGHT];
            weights<T> w = {};
            w.load(from, cols, r, k);
            w.numbers(number);
            for (int j = 0; j < EIGHT; j++) v.h[j] = to_bf16(number[j]);
        }
        to[slab * (TK_H_BF16_SLAB / 16) + tk__h_bf16_at(row, chunk * 8) / 16] = v.all;
    }
}

/* ---- quantized: what a block of a file has for number j ---- */

/* 32 values in 16 bytes */
__device__ inline int nibble_of(const uint8_t *q, int j) { return q[j % 16] >> j / 16 * 4 & 15; }

__device__ static int file_code(int type, const uint8_t *b, int j) {
    const int run = j / 32, l = j % 32; /* of the K-quants */
    switch (type) {
    case TK_Q8_0: return b[2 + j] ^ 0x80;
    case TK_F8: return b[4 + j];
    case TK_Q4_1:
    case TK_Q4_Z: return nibble_of(b + 4, j);
    case TK_Q5_0: return nibble_of(b + 6, j) | (b[2 + j / 8] >> j % 8 & 1) << 4;
    case TK_Q5_1: return nibble_of(b + 8, j) | (b[4 + j / 8] >> j % 8 & 1) << 4;
    case TK_Q4_K: return b[16 + run / 2 * 32 + l] >> run % 2 * 4 & 15;
    case TK_Q5_K: return (b[48 + run / 2 * 32 + l] >> run % 2 * 4 & 15) | (b[16 + l] >> run & 1) << 4;
    case TK_Q6_K:
        return (b[run / 4 * 64 + run % 2 * 32 + l] >> run % 4 / 2 * 4 & 15) |
               (b[128 + run / 4 * 32 + l] >> run % 4 * 2 & 3) << 4;
    default: return nibble_of(b + 2, j); /* Q4_0 */
    }
}

__device__ inline float half_of(const uint8_t *b) { return from_f16((uint16_t)(b[0] | b[1] << 8)); }

/* What number j of a block is: d times its code, which H_Q8_0, H_Q4_0 and H_Q6_K mean signed, + m */
__device__ static void file_scale(int type, const uint8_t *b, int j, float *d, float *m) {
    const int run = j / 32;
    *m = 0, *d = half_of(b);
    switch (type) {
    case TK_F8: {
        *d = __uint_as_float(b[0] | b[1] << 8 | b[2] << 16 | (uint32_t)b[3] << 24);
        for (int i = 0; i < 32; i++)
            if ((b[4 + i] & 127) == 127) *d = NAN;
        return;
    }
    case TK_Q4_1:
    case TK_Q5_1: *m = half_of(b + 2); return;
    case TK_Q4_Z: *m = -(*d * half_of(b + 2)); return;
    case TK_Q5_0: *m = -16 * *d; return;
    case TK_Q6_K: *d = half_of(b + 208) * (float)(int8_t)b[192 + j / 16]; return;
    case TK_Q4_K:
    case TK_Q5_K: {
        const uint8_t *s = b + 4;
        const int scale = run < 4 ? s[run] & 63 : (s[run + 4] & 15) | s[run - 4] >> 6 << 4,
                  low = run < 4 ? s[run + 4] & 63 : s[run + 4] >> 4 | s[run] >> 6 << 4;
        *d *= (float)scale, *m = -(half_of(b + 2) * (float)low);
        return;
    }
    default: return;
    }
}

struct quantized {
    int from, to;    /* types */
    int block, each; /* k and bytes of a file's block */
    int slab;        /* bytes */
    int64_t rows, cols;
    const uint8_t *file;
    __device__ const uint8_t *block_of(int64_t row, int64_t k) const {
        return row < rows && k < cols ? file + (row * (cols / block) + k / block) * each : NULL;
    }
};

/* A thread makes the codes of a lane's 32 numbers of a slab; the first 16 make scales, too, of the row that has their
 * number. */
__global__ void pack_quantized(uint8_t *to, quantized q) {
    const tk_h_form f = tk__h_form(q.to);
    const int64_t slabs = tk__h_slabs(q.cols), n = (q.rows + TK_H_ROWS - 1) / TK_H_ROWS * slabs * 32;
    TK_GRID_LOOP(at, n) {
        const int lane = (int)(at % 32);
        const int64_t index = at / 32, row0 = index / slabs * TK_H_ROWS, k0 = index % slabs * TK_H_K;
        uint8_t *low = to + index * q.slab, *top = low + tk__h_top_at(f), *scales = low + tk__h_scales_at(f),
                *minima = low + tk__h_minima_at(f);
        for (int part = 0; part < 16; part++) { /* s, i: numbers of h = 0 and 1 share no byte but in 8 bits */
            const int row = lane / 4 + part % 2 * 8, k = part / 4 * 16 + part / 2 % 2 * 8 + lane % 4 * 2;
            for (int h = 0; h < 2; h++) {
                const uint8_t *b = q.block_of(row0 + row, k0 + k + h);
                const int code = b ? file_code(q.from, b, (int)((k0 + k + h) % q.block)) : 0;
                int shift, place = tk__h_place(f.low, row, k + h, &shift);
                const int keep = shift ? low[place] & ((1 << shift) - 1) : 0; /* bits are filled from below */
                low[place] = (uint8_t)(keep | (code & ((1 << f.low) - 1)) << shift);
                if (!f.top) continue;
                place = tk__h_place(f.top, row, k + h, &shift);
                const int kept = shift ? top[place] & ((1 << shift) - 1) : 0;
                top[place] = (uint8_t)(kept | code >> f.low << shift);
            }
        }
        for (int k = 0; k < TK_H_K && lane < TK_H_ROWS; k += f.scale) {
            const uint8_t *b = q.block_of(row0 + lane, k0 + k);
            const int place = tk__h_scale_at(f, lane, k);
            float d = 0, m = 0;
            if (b) file_scale(q.from, b, (int)((k0 + k) % q.block), &d, &m);
            *(uint16_t *)(scales + place) = to_bf16(d);
            if (f.minima) *(uint16_t *)(minima + place) = to_bf16(m);
        }
    }
}

} // namespace tk

extern "C" void pack_panels_cuda(const tk_args *a) {
    const int64_t n = TK_DIM(a, 'n'), k = TK_DIM(a, 'k');
    const unsigned blocks = tk::blocks_for(n * k / 8 + 1, 256);
    if (a->type[1] == TK_H_BF16) {
        switch (a->type[0]) {
#define ROUNDED(T)                                                                                                     \
    case T:                                                                                                            \
        tk::pack_bf16<T><<<blocks, 256, 0, tk::stream_of(a)>>>((uint4 *)a->p[1], (const uint8_t *)a->p[0], n, k);      \
        break;
            ROUNDED(TK_Q2_K)
            ROUNDED(TK_Q3_K)
            ROUNDED(TK_MXFP4)
            ROUNDED(TK_IQ4_NL)
            ROUNDED(TK_IQ4_XS)
            ROUNDED(TK_BF16)
#undef ROUNDED
        default: break; /* rows of kernels.def name no other */
        }
        return;
    }
    const tk_format *from = &tk_formats[a->type[0]];
    const tk::quantized q = { a->type[0], a->type[1], from->block, from->bytes, tk_formats[a->type[1]].bytes,
                              n,          k,          (const uint8_t *)a->p[0] };
    tk::pack_quantized<<<tk::blocks_for(n * k / 32 + 1, 128), 128, 0, tk::stream_of(a)>>>((uint8_t *)a->p[1], q);
}
