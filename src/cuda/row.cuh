/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of numbers at the speed of memory: what one thread moves with one access, rows that stay in registers between
 * their sums and their results, and what norms and softmax compute from them. How a row is spread over threads follows
 * from its width and number format alone, so the order of its sums does. */
#ifndef TK_ROW_CUH
#define TK_ROW_CUH
#include "cuda/kernel.cuh"

namespace tk {

/* N numbers of dtype T that lie side by side, 8 or 16 bytes at a multiple of as many */
template <int T, int N> struct run {
    enum { WORDS = N * (T == TK_F32 ? 4 : 2) / 4 };
    uint32_t w[WORDS];

    /* Read once by this kernel, so not kept in L1 */
    __device__ void load(const void *base, int64_t at) {
        const char *p = (const char *)base + at * (WORDS * 4);
        if (WORDS == 4)
            asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                         : "=r"(w[0]), "=r"(w[1]), "=r"(w[2 % WORDS]), "=r"(w[3 % WORDS])
                         : "l"(p));
        else
            asm volatile("ld.global.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(w[0]), "=r"(w[1]) : "l"(p));
    }
    /* streaming: nobody reads it while it is still in the cache */
    __device__ void store(void *base, int64_t at, bool streaming) const {
        char *p = (char *)base + at * (WORDS * 4);
        if (WORDS == 4) {
            const uint4 v = make_uint4(w[0], w[1], w[2 % WORDS], w[3 % WORDS]);
            streaming ? __stcs((uint4 *)p, v) : (void)(*(uint4 *)p = v);
        } else {
            const uint2 v = make_uint2(w[0], w[1]);
            streaming ? __stcs((uint2 *)p, v) : (void)(*(uint2 *)p = v);
        }
    }
    __device__ void clear() {
#pragma unroll
        for (int i = 0; i < WORDS; i++) w[i] = 0;
    }
    __device__ float get(int i) const {
        if (T == TK_F32) return __uint_as_float(w[i % WORDS]);
        if (T == TK_BF16) return __uint_as_float(i % 2 ? w[i / 2 % WORDS] & 0xffff0000u : w[i / 2 % WORDS] << 16);
        return from_f16((uint16_t)(w[i / 2 % WORDS] >> i % 2 * 16));
    }
    __device__ void set(const float v[N]) {
        if (T == TK_F32) {
#pragma unroll
            for (int i = 0; i < WORDS; i++) w[i] = __float_as_uint(v[i]);
            return;
        }
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            const float low = v[2 * i], high = v[2 * i + 1];
            if (T == TK_BF16)
                asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w[i % WORDS]) : "f"(high), "f"(low));
            else
                asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(w[i % WORDS]) : "f"(high), "f"(low));
        }
    }
};
/* Numbers of dtype T in 16 bytes */
__host__ __device__ constexpr int run_of(int type) { return type == TK_F32 ? 4 : 8; }

template <int N> __device__ inline void load_floats(float (&v)[N], const float *p, int64_t at) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        const float4 q = __ldg((const float4 *)(p + at * N + i));
        v[i] = q.x, v[i + 1] = q.y, v[i + 2] = q.z, v[i + 3] = q.w;
    }
}

/* Keeps the compiler from holding numbers unpacked between two uses of a row. */
template <class R, int PER> __device__ inline void stay_packed(R (&v)[PER]) {
#pragma unroll
    for (int p = 0; p < PER; p++)
#pragma unroll
        for (int i = 0; i < R::WORDS; i++) asm volatile("" : "+r"(v[p].w[i]));
}

/* ---- what is computed from a row ---- */

enum row_kind { ROW_NORM, ROW_LNORM, ROW_SOFTMAX };

struct row_job {
    const void *x, *x2; /* x2: added to x first, the sum (in x's numbers) goes to z; of ROWs with ADD */
    const float *w, *b;
    void *y, *z;
    float *m, *r; /* a number a row, or NULL */
    int64_t rows;
    int64_t width;
    float eps;
    bool streaming;
};

struct sum_of {
    static __device__ float join(float a, float b) { return a + b; }
};
struct largest_of {
    static __device__ float join(float a, float b) { return a > b || isnan(a) ? a : b; } /* NaN stays */
};

__device__ inline float exp2_of(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* y = (x - m) r [w + b], or exp(x - m) r. `live(p)`: run p of the thread is in the row; runs that are not hold zeros.
 * `whole(v, join)`: joins a number of each thread of the row, known to all of them. */
template <int KIND> struct row_math {
    float m, r;
    template <class R, int PER, class LIVE, class WHOLE>
    __device__ void find(R (&v)[PER], int numbers, const row_job &j, LIVE live, WHOLE whole) {
        float s = 0;
        m = 0;
        if (KIND == ROW_LNORM) {
#pragma unroll
            for (int p = 0; p < PER; p++)
                for (int i = 0; i < numbers; i++) s += v[p].get(i);
            m = whole(s, sum_of()) / (float)j.width;
        }
        if (KIND == ROW_SOFTMAX) {
            s = -INFINITY;
#pragma unroll
            for (int p = 0; p < PER; p++)
                if (live(p))
#pragma unroll
                    for (int i = 0; i < numbers; i++) s = largest_of::join(s, v[p].get(i));
            m = whole(s, largest_of()) * 1.44269504f;
        }
        stay_packed(v);
        s = 0;
#pragma unroll
        for (int p = 0; p < PER; p++)
            if (KIND == ROW_NORM || live(p))
#pragma unroll
                for (int i = 0; i < numbers; i++) {
                    const float x = v[p].get(i);
                    s = KIND == ROW_SOFTMAX ? s + exp2_of(fmaf(x, 1.44269504f, -m)) : fmaf(x - m, x - m, s);
                }
        s = whole(s, sum_of());
        r = KIND == ROW_SOFTMAX ? 1 / s : 1 / sqrtf(s / (float)j.width + j.eps);
        stay_packed(v);
    }
    __device__ float of(float x, float w, float b) const {
        if (KIND == ROW_SOFTMAX) return exp2_of(fmaf(x, 1.44269504f, -m)) * r;
        return KIND == ROW_LNORM ? (x - m) * r * w + b : x * r * w;
    }
};

} // namespace tk
#endif
