/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests that drive a GPU's kernels by hand share: the device, the end at an error, random numbers.
 * Included after cmocka.h. */
#ifndef TK_GPU_CASE_H
#define TK_GPU_CASE_H
#include "core/core.h"

static tk_device *gpu;
static uint64_t state = 88172645463325252u;

static inline void must(tk_status s) {
    if (s != TK_OK) fail_msg("%s", tk_error());
}

static inline float number(void) { /* of variance one, about */
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        sum += (float)(state >> 40) * 0x1p-24f - 0.5f;
    }
    return sum * 1.7320508f;
}
#endif
