/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU as a tk_device. One stream carries everything, so work is done in the order in which it was asked
 * for. Host memory goes through a ring of pinned pieces: while some are on their way, the next is filled,
 * from a mapped file for example, whose pages are read just then; so the host never holds a second copy of a
 * model. Weights are copied into the ring by several threads: one reads at a few GB/s, the bus takes 50. */
#include <stdio.h>
#include <stdlib.h>

#include <cuda_runtime_api.h>

#include "cuda/cuda.h"

enum { PIECE = 8 << 20, PIECES = 3, COPIERS = 8, OLDEST = 80 /* compute capability x 10 */ };

typedef struct gpu {
    tk_device d;
    int index, sms;
    cudaStream_t stream;
    char *ring[PIECES];
    cudaEvent_t sent[PIECES]; /* the piece's last copy */
    int piece;
    size_t used;   /* bytes of ring[piece] that are on their way */
    tk_pool *pool; /* fills large pieces; made when the first comes */
    cudaEvent_t fetched[2];
    tk_status status;
} gpu;

static tk_status failed(gpu *g, cudaError_t code, const char *what) {
    if (code == cudaSuccess) return g->status;
    cudaGetLastError(); /* what is not sticky is told once */
    tk_status s =
        TK_FAIL(code == cudaErrorMemoryAllocation ? TK_E_NOMEM : TK_E_DEVICE,
                "%s failed: %s\n%s (CUDA error %d)\n%s", g->d.name, what, cudaGetErrorString(code), (int)code,
                code == cudaErrorMemoryAllocation ? "lower --ctx, or use a smaller model"
                                                  : "start again; see `tokamak doctor`");
    if (g->status == TK_OK && s != TK_E_NOMEM) g->status = s;
    return s;
}

#define TRY_CUDA(g, call, what)                                                                              \
    do {                                                                                                     \
        tk_status try_cuda_ = failed((g), (call), (what));                                                   \
        if (try_cuda_ != TK_OK) return try_cuda_;                                                            \
    } while (0)

static tk_status room(tk_device *d, size_t *bytes) {
    gpu *g = (gpu *)d;
    size_t all;
    if (d->absent) return *bytes = SIZE_MAX, TK_OK;
    TRY_CUDA(g, cudaSetDevice(g->index), "choosing the GPU");
    TRY_CUDA(g, cudaMemGetInfo(bytes, &all), "asking for free memory");
    return TK_OK;
}

static tk_status take(tk_device *d, size_t bytes, void **memory) {
    gpu *g = (gpu *)d;
    *memory = NULL;
    TRY_CUDA(g, cudaSetDevice(g->index), "choosing the GPU");
    TRY_CUDA(g, cudaMalloc(memory, bytes), "taking memory");
    TRY_CUDA(g, cudaMemsetAsync(*memory, 0, bytes, g->stream), "clearing memory");
    return TK_OK;
}

static void give(tk_device *d, void *memory) {
    (void)d;
    cudaFree(memory);
}

static tk_status take_host(tk_device *d, size_t bytes, void **memory) {
    *memory = NULL;
    TRY_CUDA((gpu *)d, cudaHostAlloc(memory, bytes, cudaHostAllocDefault),
             "taking pinned memory of the host");
    memset(*memory, 0, bytes);
    return TK_OK;
}

static void give_host(tk_device *d, void *memory) {
    (void)d;
    cudaFreeHost(memory);
}

/* Room for n <= PIECE bytes in the ring; waits for the copies that still read it. */
static tk_status ring_room(gpu *g, size_t n, char **to) {
    if (g->used + n > PIECE) {
        TRY_CUDA(g, cudaEventRecord(g->sent[g->piece], g->stream), "copying to the GPU");
        g->piece = (g->piece + 1) % PIECES, g->used = 0;
        TRY_CUDA(g, cudaEventSynchronize(g->sent[g->piece]), "copying to the GPU");
    }
    *to = g->ring[g->piece] + g->used;
    g->used += tk_align(n, 64);
    return TK_OK;
}

typedef struct filling {
    char *to;
    const char *from;
    size_t n;
} filling;

static void fill_part(void *arg, int ith, int nth) {
    const filling *f = arg;
    int64_t from, end;
    tk_split((int64_t)f->n, 4096, ith, nth, &from, &end);
    if (from < end) memcpy(f->to + from, f->from + from, (size_t)(end - from));
}

static void fill(gpu *g, char *to, const char *from, size_t n) {
    filling f = { to, from, n };
    if (n == PIECE && !g->pool && tk_pool_new(&g->pool, TK_MIN(tk_cpu_count(), COPIERS), false) != TK_OK)
        g->pool = NULL;
    if (g->pool && n >= PIECE / 8)
        tk_pool_run(g->pool, fill_part, &f);
    else
        memcpy(to, from, n);
}

static tk_status put(tk_device *d, void *to, const void *from, size_t bytes) {
    gpu *g = (gpu *)d;
    for (size_t done = 0; done < bytes;) {
        size_t n = TK_MIN(bytes - done, (size_t)PIECE);
        char *stage;
        TK_TRY(ring_room(g, n, &stage));
        fill(g, stage, (const char *)from + done, n);
        TRY_CUDA(g, cudaMemcpyAsync((char *)to + done, stage, n, cudaMemcpyHostToDevice, g->stream),
                 "copying to the GPU");
        done += n;
    }
    return TK_OK;
}

static tk_status get(tk_device *d, void *to, const void *from, size_t bytes) {
    gpu *g = (gpu *)d;
    TRY_CUDA(g, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, g->stream), "copying from the GPU");
    TRY_CUDA(g, cudaStreamSynchronize(g->stream), "a step");
    return TK_OK;
}

static tk_status move(tk_device *d, void *to, const void *from, size_t bytes) {
    TRY_CUDA((gpu *)d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, ((gpu *)d)->stream),
             "copying on the GPU");
    return TK_OK;
}

static tk_status fetch(tk_device *d, void *to, const void *from, size_t bytes, int slot) {
    gpu *g = (gpu *)d;
    TRY_CUDA(g, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, g->stream), "copying from the GPU");
    TRY_CUDA(g, cudaEventRecord(g->fetched[slot], g->stream), "copying from the GPU");
    return TK_OK;
}

static tk_status await(tk_device *d, int slot) {
    gpu *g = (gpu *)d;
    TRY_CUDA(g, cudaGetLastError(), "starting a kernel");
    TRY_CUDA(g, cudaEventSynchronize(g->fetched[slot]), "a step");
    return g->status;
}

static tk_status record(tk_device *d) {
    TRY_CUDA((gpu *)d, cudaStreamBeginCapture(((gpu *)d)->stream, cudaStreamCaptureModeThreadLocal),
             "recording a step");
    return TK_OK;
}

static tk_status recorded(tk_device *d, void **graph) {
    gpu *g = (gpu *)d;
    cudaGraph_t kept;
    cudaGraphExec_t ready;
    TRY_CUDA(g, cudaStreamEndCapture(g->stream, &kept), "recording a step");
    cudaError_t code = cudaGraphInstantiate(&ready, kept, 0);
    cudaGraphDestroy(kept);
    TRY_CUDA(g, code, "recording a step");
    *graph = ready;
    return TK_OK;
}

static tk_status replay(tk_device *d, void *graph) {
    TRY_CUDA((gpu *)d, cudaGraphLaunch(graph, ((gpu *)d)->stream), "starting a step");
    return TK_OK;
}

static void forget(tk_device *d, void *graph) {
    (void)d;
    cudaGraphExecDestroy(graph);
}

static tk_status wait(tk_device *d) {
    gpu *g = (gpu *)d;
    TRY_CUDA(g, cudaGetLastError(), "starting a kernel");
    TRY_CUDA(g, cudaStreamSynchronize(g->stream), "a step");
    return g->status;
}

int tk__cuda_limits(void *stream, int sms, double *bytes_s, double *ops_s); /* measure.cu */

static tk_status limits(tk_device *d, double *bytes, double *operations) {
    gpu *g = (gpu *)d;
    TRY_CUDA(g, (cudaError_t)tk__cuda_limits(g->stream, g->sms, bytes, operations), "measuring");
    return TK_OK;
}

static void close_gpu(tk_device *d) {
    gpu *g = (gpu *)d;
    if (g->stream) cudaStreamSynchronize(g->stream);
    for (int i = 0; i < PIECES; i++) {
        if (g->ring[i]) cudaFreeHost(g->ring[i]);
        if (g->sent[i]) cudaEventDestroy(g->sent[i]);
    }
    tk_pool_free(g->pool);
    for (int i = 0; i < 2; i++)
        if (g->fetched[i]) cudaEventDestroy(g->fetched[i]);
    if (g->d.zeros) cudaFree(g->d.zeros);
    if (g->stream) cudaStreamDestroy(g->stream);
    free(g);
}

/* The GPU exists and is new enough; its name and features. */
static tk_status look(gpu *g, bool plan) {
    int count = 0, major = 0, minor = 0, driver = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess || g->index >= count) {
        cudaGetLastError();
        if (plan) {
            g->d.absent = true, g->d.features |= TK_CUDA_SM90;
            return snprintf(g->d.label, sizeof g->d.label, "a Hopper GPU (planned for, not here)"), TK_OK;
        }
        cudaDriverGetVersion(&driver);
        if (code == cudaErrorInsufficientDriver && driver)
            return TK_FAIL(TK_E_DEVICE,
                           "the CUDA driver is too old\nit is for CUDA %d.%d, this build needs %d.%d\n"
                           "update the driver, or use --device cpu",
                           driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                           CUDART_VERSION % 1000 / 10);
        if (code != cudaSuccess)
            return TK_FAIL(TK_E_DEVICE,
                           "no CUDA device\n%s (CUDA error %d)\nuse --device cpu; see `tokamak doctor`",
                           driver ? cudaGetErrorString(code) : "there is no CUDA driver", (int)code);
        return TK_FAIL(TK_E_DEVICE, "no CUDA device %d\nthere are %d, counted from 0\ngive a smaller number",
                       g->index, count);
    }
    struct cudaDeviceProp p;
    TRY_CUDA(g, cudaGetDeviceProperties(&p, g->index), "asking for the GPU's properties");
    major = p.major, minor = p.minor, g->sms = p.multiProcessorCount;
    snprintf(g->d.label, sizeof g->d.label, "%.90s", p.name);
    if (10 * major + minor < OLDEST)
        return TK_FAIL(TK_E_DEVICE,
                       "%s is too old\nits compute capability is %d.%d, this build needs %d.%d\n"
                       "use --device cpu",
                       p.name, major, minor, OLDEST / 10, OLDEST % 10);
    if (major == 9) g->d.features |= TK_CUDA_SM90;
    return TK_OK;
}

tk_device_ways tk__cuda_ways = { .count = 7, .trying = -1 };

/* What `tune` found of such a GPU; a file that cannot be read counts as missing. */
static void find_ways(gpu *g) {
    tk_device_ways *w = &tk__cuda_ways;
    g->d.ways = w;
    tk_ways_free(&w->known);
    snprintf(w->device, sizeof w->device, "%s, CUDA %d.%d", g->d.label, CUDART_VERSION / 1000,
             CUDART_VERSION % 1000 / 10);
    if (tk_ways_load(&w->known, w->device) != TK_OK) w->known = (tk_ways){ 0 };
}

static tk_status open_gpu(gpu *g, bool plan) {
    TK_TRY(look(g, plan));
    if (plan) return TK_OK;
    TRY_CUDA(g, cudaSetDevice(g->index), "choosing the GPU");
    TRY_CUDA(g, cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking), "opening the GPU");
    for (int i = 0; i < PIECES; i++) {
        TRY_CUDA(g, cudaHostAlloc((void **)&g->ring[i], PIECE, cudaHostAllocDefault),
                 "taking pinned memory of the host");
        TRY_CUDA(g, cudaEventCreateWithFlags(&g->sent[i], cudaEventDisableTiming), "opening the GPU");
    }
    for (int i = 0; i < 2; i++)
        TRY_CUDA(g, cudaEventCreateWithFlags(&g->fetched[i], cudaEventDisableTiming), "opening the GPU");
    g->d.stream = g->stream;
    if (g->d.features & TK_CUDA_SM90) find_ways(g);
    TK_TRY(take(&g->d, TK_BATCH_ZEROS * sizeof *g->d.zeros, (void **)&g->d.zeros));
    return TK_OK;
}

tk_status tk_cuda_open(tk_device **out, int index, bool plan) {
    *out = NULL;
    gpu *g = calloc(1, sizeof *g);
    if (!g) return TK_FAIL(TK_E_NOMEM, "out of memory");
    g->index = index;
    g->d = (tk_device){ .features = TK_ON_CUDA,
                        .room = room,
                        .take = take,
                        .give = give,
                        .take_host = take_host,
                        .give_host = give_host,
                        .put = put,
                        .get = get,
                        .move = move,
                        .fetch = fetch,
                        .await = await,
                        .record = record,
                        .recorded = recorded,
                        .replay = replay,
                        .forget = forget,
                        .limits = limits,
                        .wait = wait,
                        .close = close_gpu };
    snprintf(g->d.name, sizeof g->d.name, "cuda:%d", index);
    tk_status s = open_gpu(g, plan);
    if (s != TK_OK) {
        close_gpu(&g->d);
        return s;
    }
    *out = &g->d;
    return TK_OK;
}
