/* SPDX-License-Identifier: Apache-2.0 */
/* Devices by name. Everything above asks here, so that what kinds of devices there are is said once. */
#include "core/core.h"
#include "cuda/cuda.h"

tk_status tk_device_open(tk_device **out, const char *name, bool plan) {
    *out = NULL;
    if (!name || !strcmp(name, "cpu")) return TK_OK;
    int index = 0;
    bool cuda = !strncmp(name, "cuda", 4) && (!name[4] || (name[4] == ':' && name[5]));
    for (const char *c = name + 5; cuda && name[4] && *c; c++) {
        cuda = *c >= '0' && *c <= '9' && index < 100;
        index = index * 10 + *c - '0';
    }
    if (!cuda)
        return TK_FAIL(TK_E_USAGE,
                       "unknown device '%s'\nthere is cpu, and cuda with an optional number\n"
                       "use cpu, cuda or cuda:1",
                       name);
#ifdef TOKAMAK_CUDA
    return tk_cuda_open(out, index, plan);
#else
    (void)plan;
    return TK_FAIL(TK_E_DEVICE,
                   "device '%s' is not here\nthis build has no CUDA code\n"
                   "run tools/cuda.sh and build again, or use --device cpu",
                   name);
#endif
}

void tk_device_close(tk_device *d) {
    if (d) d->close(d);
}
