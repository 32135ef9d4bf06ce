/* SPDX-License-Identifier: Apache-2.0 */
/* draw on any GPU: few rows take several blocks each, which meet at a counter in memory (the grid is never
 * larger than the GPU, so all of them run). */
#include "cuda/draw.cuh"

namespace tk {

/* Few rows: the largest logits of all parts, and the room of each row made ready */
__global__ void __launch_bounds__(DRAW_THREADS) draw_best(const draw_job j) {
    const int each = (j.vocab + j.parts - 1) / j.parts, from = blockIdx.x * each;
    team *t = &j.teams[blockIdx.y];
    pdl_go();
    pdl_wait();
    const mass best = best_of(source(j, blockIdx.y), from, TK_MIN(from + each, j.vocab));
    if (threadIdx.x == 0) t->best[blockIdx.x] = best;
    for (int i = blockIdx.x * DRAW_THREADS + threadIdx.x; i < BUCKETS; i += j.parts * DRAW_THREADS)
        t->hist[i] = 0, t->counts[i] = 0;
    if (blockIdx.x == 0 && threadIdx.x < STEPS) t->listed[threadIdx.x] = 0;
    if (blockIdx.x == 0 && threadIdx.x == 0) t->met = 0, t->kept = 0, t->all = 0;
}

__global__ void __launch_bounds__(DRAW_THREADS, 1) draw_rows(const draw_job j) {
    extern __shared__ __align__(16) unsigned char room[]; /* the list, then the histogram */
    __shared__ place found;
    uint32_t *const bins = (uint32_t *)(room + sizeof(mass) * LISTED);
    const int64_t at = blockIdx.y;
    const int each = (j.vocab + j.parts - 1) / j.parts, from = blockIdx.x * each;
    row r;
    r.vocab = j.vocab, r.from = TK_MIN(from, j.vocab), r.to = TK_MIN(from + each, j.vocab);
    r.parts = j.parts, r.t = j.teams + at;
    r.low = bins, r.high = bins + BUCKETS, r.counts = bins + 2 * BUCKETS, r.spare = bins + 3 * BUCKETS,
    r.list = (mass *)room, r.found = &found;
    r.known = r.counting = false, r.meetings = 0;
    pdl_go();
    pdl_wait();
    r.x = source(j, at);
    const tk_draw how = j.how[at];
    const mass best = r.parts == 1
                          ? best_of(r.x, 0, r.vocab)
                          : block_least((int)threadIdx.x < r.parts ? r.t->best[threadIdx.x] : ~(mass)0);
    int32_t id = best == ~(mass)0 ? -1 : (int32_t)(uint32_t)best;
    if (id >= 0 && how.temp > 0) {
        r.max = logit_of(best), r.scale = 1 / how.temp;
        id = draw_from(r, how);
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) j.id[at] = id;
}

__global__ void note_rows(const int32_t *id, const tk_draw *how, int32_t *seen, int rows, int vocab) {
    pdl_go();
    pdl_wait();
    TK_GRID_LOOP(i, rows) note_seen(seen, vocab, how[i].line, id[i]);
}

} // namespace tk

extern "C" size_t draw_cuda_scratch(const tk_dim dim[26], int nth) {
    (void)nth;
    return sizeof(tk::team) * (size_t)TK_MIN(dim['o' - 'a'].n, (int64_t)tk::TEAM_ROWS);
}

extern "C" void draw_cuda(const tk_args *a) {
    const int rows = (int)TK_DIM(a, 'o'), vocab = (int)TK_DIM(a, 'v');
    int device = 0, sms = 1;
    if (rows < 1) return;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
    /* Blocks of a row wait for each other, so all must run at once: very long rows go a few at a time. */
    const int least = (int)tk_ceil_div(vocab, tk::MOST_PART),
              most = TK_MAX(TK_MIN(vocab / tk::DRAW_THREADS, (int)tk::MOST_PARTS), 1);
    const int together = least > 1 ? TK_MIN(TK_MAX(sms / least, 1), (int)tk::TEAM_ROWS) : rows;
    for (int first = 0; first < rows; first += together) {
        const int n = TK_MIN(together, rows - first);
        const int parts = n > tk::TEAM_ROWS ? 1 : TK_MAX(TK_MAX(TK_MIN(sms / n, most), least), 1);
        const tk::draw_job j = { (int32_t *)a->p[4] + first,
                                 (const float *)a->p[0] + (int64_t)first * vocab,
                                 (const float *)a->p[2],
                                 (const tk_draw *)a->p[1] + first,
                                 (int32_t *)a->p[3],
                                 (tk::team *)a->scratch,
                                 vocab,
                                 parts,
                                 false };
        const dim3 grid((unsigned)parts, (unsigned)n);
        if (parts > 1) tk::launch(tk::draw_best, grid, tk::DRAW_THREADS, 0, a, j);
        tk::launch(tk::draw_rows, grid, tk::DRAW_THREADS, sizeof(tk::mass) * tk::LISTED + 4 * 4 * tk::BUCKETS,
                   a, j);
    }
}

/* i s n -> m, in the storage of n */
extern "C" void note_cuda(const tk_args *a) {
    const int rows = (int)TK_DIM(a, 'o');
    if (rows > 0)
        tk::launch(tk::note_rows, tk::blocks_for(rows, 64), 64, 0, a, (const int32_t *)a->p[0],
                   (const tk_draw *)a->p[1], (int32_t *)a->p[3], rows, (int)TK_DIM(a, 'v'));
}
