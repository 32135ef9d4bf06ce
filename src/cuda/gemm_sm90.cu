/* SPDX-License-Identifier: Apache-2.0 */
/* Products of many tokens on Hopper: which tiles a shape gets, tensor maps, launches (gemm_sm90.cuh has the
 * kernel). Tensor maps are made for each call and passed by value, so that recorded steps hold them; their
 * only maker is a function of the driver, asked for at run time. */
#include "cuda/gemm_sm90.cuh"

namespace tk {

typedef CUresult encode_map(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                            const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                            CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

static encode_map *encoder(void) {
    static encode_map *known;
    cudaDriverEntryPointQueryResult how;
    void *f = NULL;
    if (!known && cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, cudaEnableDefault,
                                                   &how) == cudaSuccess)
        known = (encode_map *)f;
    return known;
}

/* A map of `rank` dims, the first contiguous; what lies outside is read as zero and not written. */
static bool make_map(CUtensorMap *m, CUtensorMapDataType type, int rank, const void *base,
                     const cuuint64_t *dim, const cuuint64_t *stride, const cuuint32_t *box,
                     CUtensorMapSwizzle swizzle) {
    const cuuint32_t one[5] = { 1, 1, 1, 1, 1 };
    encode_map *encode = encoder();
    return encode && encode(m, type, (cuuint32_t)rank, (void *)base, dim, stride, box, one,
                            CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                            CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

/* Panels of a weight, or of two that lie `apart` bytes apart, eight rows of the one and of the other in turn
 */
static bool map_weight(CUtensorMap *m, const void *w, int64_t apart, int64_t rows, int64_t depth,
                       int tile_rows) {
    const cuuint64_t panels = (cuuint64_t)tk_ceil_div(rows, 16), slabs = (cuuint64_t)depth;
    const cuuint64_t one[5] = { 128, 2, 1, slabs, panels }, two[5] = { 128, 2, 2, slabs, panels };
    const cuuint64_t near[4] = { 1024, 2048, 2048, 2048 * slabs };
    const cuuint64_t far[4] = { (cuuint64_t)apart, 1024, 2048, 2048 * slabs };
    const cuuint32_t box_one[5] = { 128, 2, 1, 1, (cuuint32_t)tile_rows / 16 };
    const cuuint32_t box_two[5] = { 128, 2, 2, 1, (cuuint32_t)tile_rows / 32 };
    return make_map(m, CU_TENSOR_MAP_DATA_TYPE_INT64, 5, w, apart ? two : one, apart ? far : near,
                    apart ? box_two : box_one, CU_TENSOR_MAP_SWIZZLE_NONE);
}

static bool map_matrix(CUtensorMap *m, CUtensorMapDataType type, const void *base, int64_t rows,
                       int64_t width, int box_rows, int box_width) {
    const int size = type == CU_TENSOR_MAP_DATA_TYPE_FLOAT32 ? 4
                     : type == CU_TENSOR_MAP_DATA_TYPE_UINT8 ? 1
                                                             : 2;
    const cuuint64_t dim[2] = { (cuuint64_t)width, (cuuint64_t)rows },
                     stride[1] = { (cuuint64_t)(width * size) };
    const cuuint32_t box[2] = { (cuuint32_t)box_width, (cuuint32_t)box_rows };
    return make_map(m, type, 2, base, dim, stride, box,
                    box_width * size == 128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B);
}

static int sm_count(void) {
    static int known;
    int device;
    if (!known && cudaGetDevice(&device) == cudaSuccess)
        cudaDeviceGetAttribute(&known, cudaDevAttrMultiProcessorCount, device);
    return TK_MAX(known, 2);
}

template <class S, int END> static bool launch(const gemm_problem *p, int columns) {
    gemm_call g = {};
    const bool glu = END == GEMM_GLU, half = glu || END == GEMM_BF16;
    const int64_t depth = tk_ceil_div(p->width, S::SLAB);
    const int parts = glu ? 1 : p->parts;
    g.rows = (int)p->rows[0], g.tokens = (int)p->tokens, g.gated = p->gated, g.depth = (int)depth;
    if (!(g.gated.limit > 0)) g.gated.limit = INFINITY, g.gated.offset = -0.0f; /* x + -0 is x */
    g.token_tiles = (int)tk_ceil_div(p->tokens, S::TOKENS), g.columns = TK_MIN(columns, g.token_tiles);
    g.w_scale = p->w_scale, g.x_scale = p->x_scale;
    if (!map_matrix(&g.x, S::E4M3 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, p->x,
                    p->tokens, p->width, S::TOKENS / S::CLUSTER, S::SLAB))
        return false;
    if (END == GEMM_ADD && !map_matrix(&g.other, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, p->other, p->tokens,
                                       p->rows[0], S::TOKENS, 32))
        return false;
    for (int i = 0; i < GEMM_PARTS; i++) g.first[i] = INT32_MAX;
    for (int i = 0; i < parts; i++) {
        const char *w = (const char *)p->w[i], *up = (const char *)p->w[1];
        g.first[i] = g.row_tiles, g.up_first = glu && up < w;
        g.row_tiles += (int)tk_ceil_div(p->rows[i], (glu ? S::ROWS / 2 : S::ROWS) * S::CLUSTER);
        if (!map_weight(&g.w[i], g.up_first ? up : w,
                        !glu         ? 0
                        : g.up_first ? w - up
                                     : up - w,
                        p->rows[i], depth, S::ROWS) ||
            !map_matrix(&g.y[i], half ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
                        p->y[i], p->tokens, p->rows[i], half ? 64 : 32, END == GEMM_BF16 ? 64 : 32))
            return false;
    }
    static bool sized;
    if (!sized && cudaFuncSetAttribute(gemm_kernel<S, END>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       S::BYTES) != cudaSuccess)
        return false;
    sized = true;
    const int64_t tiles = (int64_t)g.row_tiles * g.token_tiles;
    cudaLaunchConfig_t c = {};
    cudaLaunchAttribute a[2] = {};
    c.gridDim = (unsigned)(TK_MIN(tiles, (int64_t)(sm_count() / S::CLUSTER * S::BLOCKS)) * S::CLUSTER);
    c.blockDim = S::THREADS, c.dynamicSmemBytes = S::BYTES, c.stream = p->stream;
    a[0].id = cudaLaunchAttributeProgrammaticStreamSerialization,
    a[0].val.programmaticStreamSerializationAllowed = 1;
    a[1].id = cudaLaunchAttributeClusterDimension;
    a[1].val.clusterDim.x = S::CLUSTER, a[1].val.clusterDim.y = a[1].val.clusterDim.z = 1;
    c.attrs = a, c.numAttrs = 2;
    return cudaLaunchKernelEx(&c, gemm_kernel<S, END>, g) == cudaSuccess;
}

/* ---- which tiles ---- */

typedef bool launcher(const gemm_problem *p, int columns);
/* step, fixed: microseconds on an H200 that 64 k and the rest of a tile take, with tiles on all SMs
 * (docs/FACTS.md) */
struct tiling {
    launcher *run[4]; /* by gemm_end */
    int rows, tokens, cluster, blocks;
    float step, fixed;
};
template <class S> static constexpr tiling tiling_of(float step, float fixed) {
    return { { launch<S, GEMM_F32>, launch<S, GEMM_BF16>, launch<S, GEMM_ADD>, launch<S, GEMM_GLU> },
             S::ROWS,
             S::TOKENS,
             S::CLUSTER,
             S::BLOCKS,
             step,
             fixed };
}
static const tiling tilings[] = {
    tiling_of<gemm_shape<2, 256, 4, 1, 1>>(0.65f, 3.5f),
    tiling_of<gemm_shape<2, 128, 6, 1, 1>>(0.36f, 2.5f),
    tiling_of<gemm_shape<2, 64, 8, 1, 1>>(0.27f, 2.0f),
};

static float cost(const tiling *t, const gemm_problem *p, gemm_end end) {
    int64_t tiles = 0;
    for (int i = 0; i < (end == GEMM_GLU ? 1 : p->parts); i++)
        tiles += tk_ceil_div(end == GEMM_GLU ? 2 * p->rows[0] : p->rows[i], t->rows * t->cluster);
    tiles *= tk_ceil_div(p->tokens, t->tokens);
    const int64_t rounds = tk_ceil_div(tiles, sm_count() / t->cluster * t->blocks);
    return (float)rounds * ((float)tk_ceil_div(p->width, 64) * t->step + t->fixed);
}

bool gemm_sm90(const gemm_problem *p, gemm_end end) {
    /* what tensor maps can describe: lines of whole 16 bytes */
    bool fits = p->width % 8 == 0 && p->width < 1 << 24 && p->tokens < 1 << 24;
    for (int i = 0; i < p->parts; i++)
        fits &= p->rows[i] < 1 << 24 && p->rows[i] % (end == GEMM_BF16 || end == GEMM_GLU ? 8 : 4) == 0;
    const tiling *best = NULL;
    for (const tiling &t : tilings)
        if (!best || cost(&t, p, end) < cost(best, p, end)) best = &t;
    return fits && best->run[end](p, 8);
}

} // namespace tk
