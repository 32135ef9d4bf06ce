/* SPDX-License-Identifier: Apache-2.0 */
/* Attention on Hopper's tensor cores: what the kernel for few queries a sequence (decode_sm90.cu) and the one
 * for many (flash_sm90.cu) share, above all the ORDER of arithmetic, which both follow bit by bit. A query
 * row's result is a function of its own q and of the keys and values it sees: not of its batch, of the rows
 * beside it, of how tokens were cut into steps, of page sizes, or of which of the two kernels had it.
 *
 * ORDER. T is the cache's 16-bit type (float16 for a Q8_0 cache). Keys are counted from key 0 of the
 * sequence, in blocks of 128, and blocks in spans of 1,024 keys. For one row: q, k      rounded to T s one
 * chain of k = 16 tensor-core steps over d, from zero, in float32 x         plain: s, with c = scale log2(e).
 * Otherwise (soft cap, ALiBi, a scale not above 0): the score as ops.h has it, with c = log2(e). Keys not
 * seen: -infinity b         reference of the block's weights, in log2: rises to c max(x) of the block when
 * that is more than LIFT above it (-infinity at the start of a span); then l and o, so far, are multiplied by
 * 2^(old b - b) p         ex2(fma(x, c, -b)); the products take it rounded to T l         four sums, of the
 * keys with key % 8 / 2 = 0 .. 3: each adds, per block, ((a + b) + (c + d)), the chains over the block's four
 * quarters of 32 keys; joined at the end of the span as (0 + 1) + (2 + 3) o         one chain of k = 16 steps
 * over the span's keys, from zero Spans with something to see are joined from the first on: B = max of both
 * b, w = 2^(b - B), L = fma(L, w, l w'), O = fma(O, w, o w'). At the end o = O (1 / L) and log-sum-exp =
 * fma(B, ln 2, log L). A block or a step of 16 keys that a row sees nothing of changes no bit of it, so
 * kernels may visit or skip those. */
#ifndef TK_ATTN_SM90_CUH
#define TK_ATTN_SM90_CUH
#include "cuda/hopper.cuh"

namespace tk {

enum { ATTN_BLOCK = 128, ATTN_SPAN = 1024, ATTN_LIFT = 8 };
#define TK_LOG2E 1.44269504088896341f
#define TK_LN2 0.69314718055994531f

/* ---- arithmetic of the ORDER ---- */

__device__ inline float exp2_of(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/* Two numbers rounded to T, the first in the lower half */
template <int T> __device__ inline uint32_t pack_two(float a, float b) {
    uint32_t r;
    if (T == TK_BF16)
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(b), "f"(a));
    else
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(b), "f"(a));
    return r;
}
/* Weight of one side of a join whose reference is b, the joint one being `both` */
__device__ inline float join_weight(float b, float both) { return b == both ? 1 : exp2_of(b - both); }

struct attn_score {
    float scale, cap, c;
    int plain;
};
inline attn_score score_rule(const tk_attr *attr) {
    attn_score s = { attr->f[0], attr->f[1], TK_LOG2E, 0 };
    if (attr->f[0] > 0 && !(attr->f[1] > 0) && !(attr->f[2] > 0)) s.c = attr->f[0] * TK_LOG2E, s.plain = 1;
    return s;
}
__device__ inline float score_from(const attn_score &rule, float s, float slope, int back) {
    float x = s * rule.scale;
    if (rule.cap > 0) x = rule.cap * tanhf(x / rule.cap);
    return slope != 0 ? fmaf(-slope, (float)back, x) : x;
}

/* ALiBi's slope of query head (g, r), as ops.h defines it */
__device__ inline float alibi_slope(const tk_attr &attr, const tk_dim &dg, const tk_dim &dr, int g, int r) {
    const int64_t heads = dg.N * dr.N, h = (dg.first + g) * dr.N + dr.first + r;
    int64_t m = 1;
    while (2 * m <= heads) m *= 2;
    if (!(attr.f[2] > 0)) return 0;
    const double factor = attr.f[3] != 0 ? attr.f[3] : 1;
    return (float)(factor *
                   exp2(-(double)attr.f[2] * (h < m ? (double)(h + 1) : (double)(h - m) + 0.5) / (double)m));
}

/* ---- fragments of 16 x 8 x 16 products ---- */

__device__ inline void load_4(uint32_t (&r)[4], uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
__device__ inline void load_4_turned(uint32_t (&r)[4], uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
template <int T>
__device__ inline void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if (T == TK_BF16)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
            "%9}, "
            "{%0, %1, %2, %3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* ---- a call ---- */

inline int multiprocessors() {
    int device = 0, n = 1;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, device);
    return n;
}

struct attn_call {
    void *o; /* F32 or BF16; NULL: nobody reads it */
    float *l;
    const void *q; /* F32, or T when narrow_q */
    const char *ck, *cv;
    const tk_batch *batch;
    float *partial;
    int groups, shared, size, tokens, room; /* room: items that `partial` holds */
    attn_score rule;
    tk_attr attr;
    tk_dim g, r;
    int narrow, narrow_q; /* o is BF16, q is T */
    int full;             /* queries see all keys of their sequence */
    uint32_t inverse;     /* of `shared`: 2^32 / shared, rounded up */
};

inline uint32_t inverse_of(int shared) { return (uint32_t)(((uint64_t)1 << 32) / (uint64_t)shared) + 1; }
/* row / shared, for rows below 2^32 / shared */
__device__ inline int token_of(const attn_call &c, int row) {
    return c.shared == 1 ? row : (int)__umulhi((uint32_t)row, c.inverse);
}

/* flash_sm90.cu: sequences with at least `least` rows, for heads of the widths that it has. */
bool attn_has_many(int64_t width);
void attn_many(const tk_args *a, const attn_call &c, int type, int64_t width, int least);

/* What one block of threads does at a time: some rows (query heads of one KV head, of consecutive tokens) of
 * one sequence against spans [from, to). The items of a sequence are numbered by tile, then head, then span.
 */
struct attn_item {
    int seq, first_token, past, tokens; /* of the sequence in this step */
    int tile, g, from, to;
    int first, spans; /* index of the first item of these rows, and how many there are */
};

/* Walks the items of a batch in rising order; all lanes of a warp call it together. ROWS: rows of a tile.
 * Sequences with `least` .. `most` rows are visited. whole: one item has all spans of its rows. */
template <int ROWS> struct attn_walk {
    tk_batch b; /* a copy: its numbers are needed at once */
    int groups, shared, window, least, most, whole;
    int base, before; /* sequences up to `base` have `before` items */

    __device__ int spans_of(int past, int n, int *first) const {
        const int keys = past + n, low = window > 0 && past >= window ? past - window + 1 : 0;
        *first = low / ATTN_SPAN;
        return (keys + ATTN_SPAN - 1) / ATTN_SPAN - *first;
    }
    __device__ int items_of(int seq, int *past, int *n) const {
        if (seq >= b.seqs) return 0;
        int first;
        *past = b.past[seq], *n = b.start[seq + 1] - b.start[seq];
        const int rows = *n * shared;
        if (*n <= 0 || rows < least || rows > most) return 0;
        const int spans = whole ? 1 : spans_of(*past, *n, &first);
        return (rows + ROWS - 1) / ROWS * groups * spans;
    }
    /* At least as many as all sequences have, without looking at their lengths */
    __device__ int64_t bound(int tokens) const {
        const int64_t rows = min((int64_t)tokens * shared, (int64_t)most);
        return (rows + ROWS - 1) / ROWS * groups * b.seqs *
               (((int64_t)b.max_pages * b.page_size + ATTN_SPAN - 1) / ATTN_SPAN);
    }
    /* Items of all sequences */
    __device__ int count() const {
        int sum = 0, past, n;
        for (int s = (int)threadIdx.x % 32; s < b.seqs; s += 32) sum += items_of(s, &past, &n);
        return (int)__reduce_add_sync(~0u, (unsigned)sum);
    }
    __device__ bool find(int item, attn_item *it) {
        const int lane = (int)threadIdx.x % 32;
        for (; base < b.seqs; base += 32) {
            int past = 0, n = 0;
            const int mine = items_of(base + lane, &past, &n);
            int sum = mine;
            for (int i = 1; i < 32; i *= 2) {
                const int left = __shfl_up_sync(~0u, sum, i);
                if (lane >= i) sum += left;
            }
            const unsigned past_it = __ballot_sync(~0u, before + sum > item);
            if (past_it) {
                const int who = __ffs((int)past_it) - 1;
                int at = item - before - __shfl_sync(~0u, sum - mine, who), first;
                it->seq = base + who;
                it->past = __shfl_sync(~0u, past, who), it->tokens = __shfl_sync(~0u, n, who);
                it->first_token = b.start[it->seq];
                const int spans = spans_of(it->past, it->tokens, &first), each = whole ? 1 : spans;
                it->first = item - at % each, it->spans = spans;
                it->from = whole ? first : first + at % each, it->to = whole ? first + spans : it->from + 1;
                at /= each;
                it->g = at % groups, it->tile = at / groups;
                return true;
            }
            before += __shfl_sync(~0u, sum, 31);
        }
        return false;
    }
};

} // namespace tk
#endif
