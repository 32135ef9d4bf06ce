/* SPDX-License-Identifier: Apache-2.0 */
/* What the readers and writers of number formats share (formats*.c): where a row begins, and the small tables
 * and powers that both the files' formats and the packed ones are defined by. */
#ifndef TK_FORMATS_H
#define TK_FORMATS_H
#include "base/base.h"

enum { TK_QK = 32, TK_QKK = 256 }; /* values in a block of the small formats, of the K-quants and IQ4_XS */

static inline void tk__put16(void *p, uint16_t v) { memcpy(p, &v, 2); }

/* The first byte of a row; the whole matrix fits (tk_format_size), so no product here can overflow. */
static inline const uint8_t *tk__row_at(const void *m, tk_dtype t, int64_t cols, int64_t row) {
    const tk_format *f = &tk_formats[t];
    return (const uint8_t *)m + (size_t)row * (size_t)(cols / f->block) * (size_t)f->bytes;
}
static inline uint8_t *tk__row_to(void *m, tk_dtype t, int64_t cols, int64_t row) {
    return (uint8_t *)(uintptr_t)tk__row_at(m, t, cols, row);
}

/* What the 16 codes of IQ4_NL and IQ4_XS, and (doubled) of MXFP4, mean */
extern const int8_t tk__iq4_values[16], tk__mxfp4_values[16];
/* MXFP4's scale for those doubled values: 2^(e - 128), exact also where float32 is subnormal */
static inline float tk__e8m0_half(uint8_t e) {
    return tk_bits_f32(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}
#endif
