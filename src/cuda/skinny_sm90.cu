/* SPDX-License-Identifier: Apache-2.0 */
/* How a product of few tokens is laid over the GPU: which kernel, how many warps, how much of shared memory is weights
 * on their way and how much activations. */
#include <cuda.h>

#include "cuda/skinny.h"

namespace tk {

typedef CUresult encode_map(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *,
                            const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                            CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* [width / 64][tokens][64] in the 128-byte swizzle, `each` steps of 64 k at a time */
static bool map_of(CUtensorMap *map, const skinny_job *j) {
    static encode_map *encode;
    void *f = NULL;
    cudaDriverEntryPointQueryResult how;
    if (!encode && cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, cudaEnableDefault, &how) ==
                       cudaSuccess)
        encode = (encode_map *)f;
    const cuuint64_t dims[] = { 64, (cuuint64_t)j->tokens, (cuuint64_t)j->width / 64 },
                     strides[] = { (cuuint64_t)j->width * 2, 128 };
    const cuuint32_t box[] = { 64, (cuuint32_t)j->tokens, (cuuint32_t)j->xeach }, one[] = { 1, 1, 1 };
    return encode &&
           encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, (void *)j->x, dims, strides, box, one,
                  CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

static int sms(void) {
    static int known;
    int device = 0;
    if (!known && cudaGetDevice(&device) == cudaSuccess)
        cudaDeviceGetAttribute(&known, cudaDevAttrMultiProcessorCount, device);
    return TK_MAX(known, 1);
}

static void start(const void *kernel, dim3 grid, int threads, int shared, void **args, const tk_args *a) {
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t how = {};
    how.gridDim = grid, how.blockDim = dim3((unsigned)threads), how.dynamicSmemBytes = (size_t)shared;
    how.stream = stream_of(a), how.attrs = &early, how.numAttrs = 1;
    if (shared > 48 << 10) cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    cudaLaunchKernelExC(&how, kernel, args);
}

/* Shared memory of blocks. The grid is as many blocks as the GPU holds at once, one or two an SM: were there room for
 * more, a kernel that comes in while others still hold some SMs would get two blocks on one SM and none on another
 * (docs/FACTS.md). Two where a product is SMALL: the next kernel's weights come in as each of them ends. */
enum {
    HALF_SHARED = 108 << 10,
    MORE_THAN_HALF = 118 << 10,
    ALL_SHARED = 227 << 10,
    SMALL = 160 << 20, /* bytes */
    XSLOT = 16 << 10,
    TEAM = 3, /* warps of a team: as many as dequantizing needs beside the chain of products (docs/FACTS.md) */
    SLOTS = 8,
    FEW_SLOTS = 3,
    LONG = 32
};

/* Is dequantizing longer than reading? What waits for memory has deep rings, what waits for warps has more of them. */
static bool waits_for_warps(const skinny_kernels *kernels) { return kernels->bytes < 16 * kernels->k; }

/* How a block does its tiles: teams side by side, warps a team, bytes of a turn, accumulators of a lane */
struct blocking {
    int teams, team, turn, accumulators;
    int slots;     /* of a ring at most */
};

/* Rings of `most` bytes in all; the bytes taken, 0: less than two turns a warp */
static uint32_t lay_out(skinny_job *j, const blocking *b, uint32_t most) {
    const int all = (int)tk_align((size_t)j->steps, SKINNY_TURN), line = j->tokens * 128, warps = b->teams * b->team;
    j->team = b->team;
    j->xeach = TK_MAX((int)SKINNY_TURN, TK_MIN(all, XSLOT / line / SKINNY_TURN * SKINNY_TURN));
    const int chunks = (int)tk_ceil_div(j->steps, j->xeach), room = TK_MAX(2, (int)most * 2 / 5 / (j->xeach * line));
    j->xslots = chunks <= room ? chunks : TK_MIN(room, 4);
    for (j->slots = most > HALF_SHARED ? b->slots : SLOTS; j->slots > 1; j->slots--) {
        const uint32_t bytes = skinny_room(*j, warps, b->turn, b->accumulators, 0).end(*j);
        if (bytes <= most) return bytes;
    }
    return 0;
}

/* The most warps for which there is room: for `tall` tiles of an SM, `most` warps */
static uint32_t choose(skinny_job *j, blocking *b, int tall, int most, uint32_t room) {
    uint32_t bytes = 0;
    b->team = 1, b->teams = tall;
    if (2 * tall <= most)
        for (b->team = TK_MIN((int)TEAM, most / tall); b->team > 1 && !bytes; b->team -= !bytes) bytes = lay_out(j, b, room);
    for (int rounds = (int)tk_ceil_div(tall, most); !bytes && rounds <= tall; rounds++) {
        b->teams = (int)tk_ceil_div(tall, rounds);
        bytes = lay_out(j, b, room);
    }
    return bytes;
}

void skinny_run(const skinny_kernels *kernels, skinny_job j, const tk_args *a) {
    const int n = j.tokens > 8, panels = j.what == SKINNY_GLU ? 2 : 1, most = skinny_threads(panels) / 32 - 1;
    j.tiles = j.what == SKINNY_GLU ? j.end[2] : (int)tk_ceil_div(j.end[2], panels);
    j.steps = (int)tk__h_slabs(j.width), j.slabs = (int)tk_ceil_div(j.width, kernels->k);
    const bool warps = waits_for_warps(kernels), two = !warps && (int64_t)j.end[2] * (j.what == SKINNY_GLU ? 2 : 1) *
                                                                             j.slabs * kernels->bytes <= SMALL;
    blocking b = { 1, 1, panels * (SKINNY_TURN * 64 / kernels->k) * kernels->bytes, panels * (n + 1) * 4,
                   warps ? FEW_SLOTS : SLOTS };
    int grid = TK_MIN(2 * sms(), j.tiles), tall = (int)tk_ceil_div(j.tiles, grid);
    uint32_t shared = two ? choose(&j, &b, tall, most, HALF_SHARED) : 0;
    if (!shared) { /* one block an SM */
        grid = TK_MIN(sms(), j.tiles), tall = (int)tk_ceil_div(j.tiles, grid);
        if (warps && tall <= LONG) shared = choose(&j, &b, tall, most, HALF_SHARED);
        if (b.teams < tall && tall <= most) shared = 0;
        if (!shared) shared = choose(&j, &b, tall, most, ALL_SHARED);
        if (shared) shared = TK_MAX(shared, (uint32_t)MORE_THAN_HALF);
    }
    CUtensorMap map;
    if (shared && j.width % 64 == 0 && (uintptr_t)j.x % 16 == 0 && map_of(&map, &j)) {
        void *args[] = { &map, &j };
        start(kernels->ring[n][panels - 1], dim3((unsigned)grid), b.teams * b.team * 32 + 32, (int)shared, args, a);
        return;
    }
    j.tiles = j.end[2];
    void *args[] = { &j };
    start(kernels->chain[panels - 1], dim3((unsigned)j.tiles, (unsigned)tk_ceil_div(j.tokens, 8)), 32, 0, args, a);
}

} // namespace tk
