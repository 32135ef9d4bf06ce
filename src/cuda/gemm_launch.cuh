/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of gemm_sm90.cuh: tensor maps and tables of tiles. Tensor maps are made for each call and passed
 * by value, so that recorded steps hold them; their only maker is a function of the driver, asked for at run
 * time. */
#ifndef TK_GEMM_LAUNCH_CUH
#define TK_GEMM_LAUNCH_CUH
#include "cuda/gemm_sm90.cuh"

namespace tk {

typedef CUresult encode_map(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                            const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                            CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

inline encode_map *encoder(void) {
    static encode_map *known;
    cudaDriverEntryPointQueryResult how;
    void *f = NULL;
    if (!known && cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, cudaEnableDefault,
                                                   &how) == cudaSuccess)
        known = (encode_map *)f;
    return known;
}

/* A map of `rank` dims, the first contiguous; what lies outside is read as zero and not written. */
inline bool make_map(CUtensorMap *m, CUtensorMapDataType type, int rank, const void *base,
                     const cuuint64_t *dim, const cuuint64_t *stride, const cuuint32_t *box,
                     CUtensorMapSwizzle swizzle) {
    const cuuint32_t one[5] = { 1, 1, 1, 1, 1 };
    encode_map *encode = encoder();
    return encode && encode(m, type, (cuuint32_t)rank, (void *)base, dim, stride, box, one,
                            CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                            CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

/* Slabs of a weight's panels; of two weights that lie `apart` bytes apart, those of the same rows side by
 * side, or (H_BF16) eight rows of the one and of the other in turn */
template <class S>
static bool map_weight(CUtensorMap *m, const void *w, int64_t apart, int64_t rows, int64_t depth) {
    const cuuint64_t bytes = gemm_slab<S::FORMAT>::BYTES, panels = (cuuint64_t)tk_ceil_div(rows, 16);
    const cuuint64_t slabs = (cuuint64_t)depth;
    const bool eights = apart && !S::REGISTERS;
    const cuuint32_t two = apart ? 2 : 1, half = (cuuint32_t)bytes / 16; /* numbers of 8 bytes */
    const cuuint64_t dim[5] = { half, eights ? two : 2, eights ? 2 : two, slabs, panels };
    const cuuint64_t stride[4] = { eights ? (cuuint64_t)apart : bytes / 2,
                                   eights  ? bytes / 2
                                   : apart ? (cuuint64_t)apart
                                           : bytes,
                                   bytes, bytes * slabs };
    const cuuint32_t box[5] = { half, (cuuint32_t)dim[1], (cuuint32_t)dim[2], 1, S::ROWS / 16 / two };
    return make_map(m, CU_TENSOR_MAP_DATA_TYPE_INT64, 5, w, dim, stride, box, CU_TENSOR_MAP_SWIZZLE_NONE);
}

inline bool map_matrix(CUtensorMap *m, CUtensorMapDataType type, const void *base, int64_t rows,
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

inline int sm_count(void) {
    static int known;
    int device;
    if (!known && cudaGetDevice(&device) == cudaSuccess)
        cudaDeviceGetAttribute(&known, cudaDevAttrMultiProcessorCount, device);
    return TK_MAX(known, 2);
}

template <class S, int END> static bool launch(const gemm_problem *p, int columns) {
    gemm_call g = {};
    const bool glu = END == GEMM_GLU, half = glu || END == GEMM_BF16;
    const int64_t depth = tk_ceil_div(p->width, S::K), stages = tk_ceil_div(depth, S::STEPS);
    const int parts = glu ? 1 : p->parts;
    const CUtensorMapDataType in =
        (int)S::FORMAT == (int)GEMM_E4M3 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    const CUtensorMapDataType out = half ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    g.rows = (int)p->rows[0], g.tokens = (int)p->tokens, g.gated = p->gated, g.depth = (int)stages;
    if (!(g.gated.limit > 0)) g.gated.limit = INFINITY, g.gated.offset = -0.0f; /* x + -0 is x */
    g.token_tiles = (int)tk_ceil_div(p->tokens, S::TOKENS), g.columns = TK_MIN(columns, g.token_tiles);
    g.w_scale = p->w_scale, g.x_scale = p->x_scale;
    /* Rows of zeros beyond the matrix cost more time than rows of it: they are not asked for. */
    const int lines = S::CLUSTER > 1 ? S::TOKENS : (int)TK_MIN((int64_t)S::TOKENS, p->tokens);
    g.x_step = lines * 128;
    bool made =
        map_matrix(&g.x, in, p->x, p->tokens, p->width, lines / S::CLUSTER, S::K) &&
        (END != GEMM_ADD || map_matrix(&g.other, out, p->other, p->tokens, p->rows[0], S::TOKENS / 4, 32));
    for (int i = 0; i < GEMM_PARTS; i++) g.first[i] = INT32_MAX;
    for (int i = 0; i < parts && made; i++) {
        const char *w = (const char *)p->w[i], *up = glu ? (const char *)p->w[1] : w;
        g.first[i] = g.row_tiles, g.up_first = up < w;
        g.row_tiles += (int)tk_ceil_div(p->rows[i], (glu ? S::ROWS / 2 : S::ROWS) * S::CLUSTER);
        made = map_weight<S>(&g.w[i], up < w ? up : w, up < w ? w - up : up - w, p->rows[i], depth) &&
               map_matrix(&g.y[i], out, p->y[i], p->tokens, p->rows[i],
                          glu                ? S::GLU_ROUND
                          : END == GEMM_BF16 ? S::BF16_ROUND
                                             : S::F32_ROUND,
                          END == GEMM_BF16 ? 64 : 32);
    }
    static bool sized;
    sized = sized || cudaFuncSetAttribute(gemm_kernel<S, END>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          S::BYTES) == cudaSuccess;
    if (!made || !sized) return false;
    const int64_t tiles = (int64_t)g.row_tiles * g.token_tiles;
    cudaLaunchConfig_t c = {};
    cudaLaunchAttribute a[2] = {};
    c.gridDim = (unsigned)(TK_MIN(tiles, (int64_t)(S::BLOCKS * sm_count() / S::CLUSTER)) * S::CLUSTER);
    c.blockDim = S::THREADS, c.dynamicSmemBytes = S::BYTES, c.stream = p->stream;
    a[0].id = cudaLaunchAttributeProgrammaticStreamSerialization,
    a[0].val.programmaticStreamSerializationAllowed = 1;
    a[1].id = cudaLaunchAttributeClusterDimension;
    a[1].val.clusterDim.x = S::CLUSTER, a[1].val.clusterDim.y = a[1].val.clusterDim.z = 1;
    c.attrs = a, c.numAttrs = 2;
    return cudaLaunchKernelEx(&c, gemm_kernel<S, END>, g) == cudaSuccess;
}

typedef bool gemm_launcher(const gemm_problem *p, int columns);
/* Tiles of some tokens for weights of a format; run: by gemm_end. step, fixed: microseconds on an H200 that
 * 64 k and the rest of a round of tiles take, one on each SM (docs/FACTS.md) */
struct gemm_tiling {
    gemm_launcher *run[4];
    int format, rows, tokens, blocks; /* on an SM */
    float step, fixed;
};
template <class S> constexpr gemm_tiling gemm_tiling_of(float step, float fixed) {
    return { { launch<S, GEMM_F32>, S::REGISTERS ? NULL : launch<S, GEMM_BF16>, launch<S, GEMM_ADD>,
               launch<S, GEMM_GLU> },
             S::FORMAT,
             S::ROWS,
             S::TOKENS,
             S::BLOCKS,
             step,
             fixed };
}

/* The tiles of a quantized format */
enum { GEMM_QUANTIZED = 6 };
template <int FORMAT> struct gemm_tilings {
    static const gemm_tiling all[GEMM_QUANTIZED];
};

} // namespace tk
#endif
