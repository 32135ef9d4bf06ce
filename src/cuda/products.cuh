/* SPDX-License-Identifier: Apache-2.0 */
/* Products of gathered tokens: what experts.cu, which sorts tokens by expert on the device, tells the kernels that
 * multiply them. */
#ifndef TK_PRODUCTS_CUH
#define TK_PRODUCTS_CUH
#include "cuda/weights.cuh"

namespace tk {

/* Lies on the device, in the record's scratch. A pair is a token and one of its experts. */
struct gathering {
    struct group {
        int32_t expert, begin, count; /* its pairs are order[begin] ... */
    };
    const int32_t *order; /* pairs by expert; NULL: tokens as they are, one matrix */
    const group *groups;  /* groups[0].expert of them, from groups[1] on */
    int64_t share;        /* pairs that have a row of x in common */

    /* The most groups of at most `block` pairs that this many pairs can make: all experts' last ones may be short. */
    static int64_t most_groups(int64_t pairs, int64_t experts, int64_t block) {
        return TK_MIN(pairs, pairs / block + experts);
    }
};
/* Puts the pairs in order, behind the work asked for so far. experts.cu */
gathering gather_tokens(const tk_args *a, int64_t pairs, int block, int64_t share);

} // namespace tk
#endif
