/* SPDX-License-Identifier: Apache-2.0 */
/* Products of few tokens on Hopper, 1 to 16 at a time: the job, and the kernels of a weight's format
 * (skinny.cuh). */
#ifndef TK_SKINNY_H
#define TK_SKINNY_H
#include "cuda/act.cuh"
#include "cuda/panels.cuh"

namespace tk {

enum {
    SKINNY_TOKENS = 16,
    SKINNY_TURN = 4 /* steps of 64 k that a warp takes at a time */
};
/* What becomes of a product: stored, added to `other`, or (GLU) gates another, as bfloat16 */
enum skinny_end { SKINNY_F32, SKINNY_ADD, SKINNY_GLU };

/* Up to three weights of one width, one behind the other, or (SKINNY_GLU) two side by side */
struct skinny_job {
    const uint8_t *w[3];
    const uint16_t *x;   /* [tokens][width] */
    void *y[3];          /* [tokens][rows]: float32, bfloat16 for SKINNY_GLU */
    const float *other;  /* as y */
    int end[3], rows[3]; /* panels up to the end of each; rows of each */
    int64_t width;
    int tokens, what; /* skinny_end */
    gating gated;     /* of SKINNY_GLU */
    /* set by skinny_run */
    int tiles;         /* what a warp does at a time: panels, pairs of them */
    int steps, slabs;  /* of 64 k; of the format's */
    int slots;         /* of a warp's ring, a turn each */
    int team;          /* warps that take turns at a tile */
    int xslots, xeach; /* of the ring of activations; steps a slot */
};

/* Barriers and rings in shared memory, in this order; turn: bytes of weights of a turn */
struct skinny_room {
    uint32_t x, w, hand, full, token, xfull, xempty;
    int x_bytes, w_bytes, hand_bytes; /* of a slot */
    __host__ __device__ skinny_room(const skinny_job &j, int warps, int turn, int accumulators, uint32_t at) {
        x_bytes = (j.xeach * j.tokens * 128 + 1023) / 1024 * 1024;
        w_bytes = turn, hand_bytes = j.team > 1 ? accumulators * 128 : 0;
        x = at, w = x + j.xslots * x_bytes, hand = w + warps * j.slots * w_bytes,
        full = hand + warps * hand_bytes;
        token = full + warps * j.slots * 8, xfull = token + warps * 8, xempty = xfull + j.xslots * 8;
    }
    __host__ __device__ uint32_t end(const skinny_job &j) const { return xempty + j.xslots * 8; }
};

/* Threads of a block at most, for so many panels a team: what registers allow */
__host__ __device__ constexpr int skinny_threads(int panels) { return panels == 1 ? 512 : 384; }

/* The kernels for one format: [tokens: 8, 16][panels of a team: 1, 2]; `chain`, by panels alone, takes every
 * width and number of tokens. */
struct skinny_kernels {
    const void *ring[2][2], *chain[2];
    int bytes, k; /* of a slab */
};
#define SKINNY(T) extern const skinny_kernels skinny_##T;
#include "cuda/skinny.def"
#undef SKINNY

/* Starts j (at most SKINNY_TOKENS tokens) on a's stream, as a dependent launch. */
void skinny_run(const skinny_kernels *kernels, skinny_job j, const tk_args *a);

} // namespace tk
#endif
