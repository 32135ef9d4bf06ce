/* SPDX-License-Identifier: Apache-2.0 */
/* What the executor asks of a device that is not the CPU: memory, copies, and an order of work. A device is a
 * handle with functions, so that the executor names no vendor and a program without devices links none.
 *
 * Kernels of such a device are rows of kernels.def like all others. They get tk_args with addresses on the
 * device (the batch too) and put their work behind all earlier work of the device; nothing they do is
 * finished before `get` or `wait` returns. */
#ifndef TK_DEVICE_H
#define TK_DEVICE_H
#include "ops/ops.h"
#include "ops/ways.h"

/* Bits beside TK_CPU_* in the `needs` of kernel rows. A row needs TK_ON_CUDA exactly when it runs there. */
enum {
    TK_ON_CUDA = 1 << 24,
    TK_CUDA_SM90 = 1 << 25, /* compiled for sm_90a: Hopper */
};

typedef struct tk_device {
    char name[16];        /* "cuda:0" */
    char label[96];       /* "NVIDIA H200" */
    unsigned features;    /* what rows of kernels.def may need */
    void *stream;         /* given to kernels in tk_args */
    uint32_t *zeros;      /* for tk_batch */
    bool absent;          /* nobody is there: a handle to plan with */
    tk_device_ways *ways; /* NULL: products have one way */
    /* Bytes that can be had now. */
    tk_status (*room)(struct tk_device *d, size_t *bytes);
    /* Memory of the device, zeroed. */
    tk_status (*take)(struct tk_device *d, size_t bytes, void **memory);
    void (*give)(struct tk_device *d, void *memory);
    /* Memory of the host that copies at full speed. */
    tk_status (*take_host)(struct tk_device *d, size_t bytes, void **memory);
    void (*give_host)(struct tk_device *d, void *memory);
    /* Host to device, in the order of work; `from` may be reused on return. */
    tk_status (*put)(struct tk_device *d, void *to, const void *from, size_t bytes);
    /* Device to host, after all work so far; there on return. */
    tk_status (*get)(struct tk_device *d, void *to, const void *from, size_t bytes);
    /* Device to device, in the order of work. */
    tk_status (*move)(struct tk_device *d, void *to, const void *from, size_t bytes);
    /* Device to host memory of take_host, in the order of work; there once `await` of the same slot (0 or 1)
     * returns. */
    tk_status (*fetch)(struct tk_device *d, void *to, const void *from, size_t bytes, int slot);
    tk_status (*await)(struct tk_device *d, int slot);
    /* Work asked for between record and recorded is not done but kept, and done by each replay. */
    tk_status (*record)(struct tk_device *d);
    tk_status (*recorded)(struct tk_device *d, void **graph);
    tk_status (*replay)(struct tk_device *d, void *graph);
    void (*forget)(struct tk_device *d, void *graph);
    /* Waits for all work and says the first failure since the device was opened. */
    tk_status (*wait)(struct tk_device *d);
    /* What it can do at most, measured now (0.1 s): bytes read and operations in bfloat16 products, a second.
     */
    tk_status (*limits)(struct tk_device *d, double *bytes, double *operations);
    void (*close)(struct tk_device *d);
} tk_device;

/* A batch in one piece, the struct and its arrays, as kernels there read it: its bytes; and the piece,
 * written to `image`, to be copied to `there` on the device. */
size_t tk_batch_bytes(const tk_batch *b);
void tk_batch_image(const tk_batch *b, void *image, const void *there);
#endif
