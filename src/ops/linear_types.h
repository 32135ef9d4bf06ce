/* SPDX-License-Identifier: Apache-2.0 */
/* How each packed format of integers (base/packed.h) gives bytes, scales and minima to the products of
 * linear_tmpl.h, which includes this. A format is a row of layout_of and a case of three functions. The bytes
 * are unsigned; what makes them signed again is where a sum starts (`start`). Formats with a scale per 16
 * values multiply the bytes by it when it is small (Q2_K, Q3_K), so that a block is one sum; the products of
 * two 16-bit halves then do two bytes each. */

/* How a format's lines are read: `blocks` of 32 k together, so that each line is read once and in order; one
 * line gives `runs` vectors of bytes, of one block each, or of a folded block its first and second half.
 * `halves`: how many scales a block has; `lines` of each. `mins`: how many minima; `wide`: bytes above 63. */
typedef struct layout {
    int blocks, runs, halves, lines, mins;
    bool wide;
} layout;

INLINE layout layout_of(const int type) {
    switch (type) {
    case TK_P_Q8_0: return (layout){ 1, 1, 1, 8, 0, true };
    case TK_P_Q4_0:
    case TK_P_Q5_0: return (layout){ 1, 2, 1, 4, 0, false };
    case TK_P_IQ4_NL:
    case TK_P_IQ4_XS:
    case TK_P_MXFP4: return (layout){ 1, 2, 1, 4, 0, true };
    case TK_P_Q4_1:
    case TK_P_Q4_Z:
    case TK_P_Q5_1: return (layout){ 1, 2, 1, 4, 1, false };
    case TK_P_Q2_K: return (layout){ 4, 4, 1, 8, 2, false };
    case TK_P_Q3_K: return (layout){ 4, 4, 1, 8, 0, true };
    case TK_P_Q4_K: return (layout){ 2, 2, 1, 8, 1, false };
    case TK_P_Q5_K: return (layout){ 4, 4, 1, 8, 1, false };
    default: return (layout){ 4, 4, 2, 4, 0, false }; /* P_Q6_K */
    }
}

/* 2^(e - 128) of 16 bytes e, as a product of two powers, since it may be subnormal */
INLINE vf power_of_two(const uint8_t *p) {
    const vi e = vi_u8(p), bias = vi_set1(63);
    const vi a = vi_add(vi_srl32(e, 1), bias), b = vi_add(vi_srl32(vi_add(e, vi_set1(1)), 1), bias);
    return vf_mul(vi_as_vf(vi_sll32(a, 23)), vi_as_vf(vi_sll32(b, 23)));
}

/* scale and minimum of the panel's rows in half `half` of block b */
INLINE void block_scales(const int type, const uint8_t *panel, size_t b, int half, vf *scale, vf *low) {
    const uint8_t *p = panel + b / 8 * (size_t)tk_formats[type].bytes; /* of the formats with 256 k */
    const int z = (int)(b % 8);
    *low = vf_zero();
    switch (type) {
    case TK_P_Q8_0: *scale = vf_f16(panel + b / 2 * 1088 + 512 + b % 2 * 32); break;
    case TK_P_Q4_0:
    case TK_P_IQ4_NL: *scale = vf_f16(panel + b / 2 * 576 + 256 + b % 2 * 32); break;
    case TK_P_Q5_0: *scale = vf_f16(panel + b / 2 * 704 + 320 + b % 2 * 32); break;
    case TK_P_MXFP4: *scale = power_of_two(panel + b / 4 * 1088 + 256 + b % 4 * 16); break;
    case TK_P_Q4_1: *scale = vf_f16(panel + b * 320 + 256), *low = vf_f16(panel + b * 320 + 288); break;
    case TK_P_Q4_Z:
        *scale = vf_f16(panel + b * 320 + 256);
        *low = vf_neg(vf_mul(*scale, vf_f16(panel + b * 320 + 288)));
        break;
    case TK_P_Q5_1: *scale = vf_f16(panel + b * 384 + 320), *low = vf_f16(panel + b * 384 + 352); break;
    case TK_P_Q2_K: { /* the scales are in the bytes */
        const vi both = vi_load(p + z / 4 * 704 + z / 2 % 2 * 64);
        *scale = vf_f16(p + 640);
        *low = vf_int(vi_and(vi_srl32(both, (z % 2 * 2 + half) * 8 + 4), vi_set1(15)));
        *low = vf_neg(vf_mul(vf_f16(p + 672), *low));
        break;
    }
    case TK_P_Q3_K: *scale = vf_neg(vf_f16(p + 1216)); break; /* as are these, negated */
    case TK_P_Q4_K: {
        const uint8_t *six = p + 576 * (z / 2 + 1) + z % 2 * 16;
        *scale = vf_mul(vf_f16(p + 512), vf_u8(six)), *low = vf_neg(vf_mul(vf_f16(p + 544), vf_u8(six + 32)));
        break;
    }
    case TK_P_Q5_K: {
        const uint8_t *six = p + (z < 4 ? 1600 : 2752) + z % 4 * 16;
        *scale = vf_mul(vf_f16(p + 1536), vf_u8(six)),
        *low = vf_neg(vf_mul(vf_f16(p + 1568), vf_u8(six + 64)));
        break;
    }
    case TK_P_IQ4_XS: {
        const vi bits = vi_and(vi_srl32(vi_load(p + 256), z * 4), vi_set1(15));
        const vi top = vi_and(vi_srl32(vi_u16(p + 320), z * 2), vi_set1(3));
        *scale = vf_mul(vf_f16(p + 352), vf_int(vi_add(vi_or(bits, vi_sll32(top, 4)), vi_set1(-32))));
        break;
    }
    default: *scale = vf_mul(vf_f16(p + 768), vf_s8(p + 832 * (z / 4 * 2 + half + 1) + z % 4 * 16));
    }
}

/* Byte i of each dword, to both its 16-bit halves */
INLINE vi byte_as_words(vi x, const int i) {
    static const int8_t pick[4][16] = {
        { 0, -1, 0, -1, 4, -1, 4, -1, 8, -1, 8, -1, 12, -1, 12, -1 },
        { 1, -1, 1, -1, 5, -1, 5, -1, 9, -1, 9, -1, 13, -1, 13, -1 },
        { 2, -1, 2, -1, 6, -1, 6, -1, 10, -1, 10, -1, 14, -1, 14, -1 },
        { 3, -1, 3, -1, 7, -1, 7, -1, 11, -1, 11, -1, 15, -1, 15, -1 },
    };
    return vi_shuf(x, vi_table(pick[i]));
}

/* One line of Q2_K: bit pairs times scales, at most 45 */
INLINE void q2_k_runs(vi w[4], const uint8_t *p, const int line, const int part) {
    const vi pairs = w[0];
    UNROLL for (int z = 0; z < 4; z++) {
        const vi scales = vi_and(vi_load(p + part * 704 + z / 2 * 64), vi_set1(0x0f0f0f0f));
        const vi q = vi_and(vi_srl(pairs, 2 * z), vi_set1(0x03030303));
        w[z] = vi_mul16(q, byte_as_words(scales, z % 2 * 2 + line / 4));
    }
}

/* One line of Q3_K: 128 - (q - 4) (scale - 32) = q (32 - scale) + 4 scale, which lies in 0 .. 252 */
INLINE void q3_k_runs(vi w[4], const uint8_t *p, const int line, const int part) {
    const vi pairs = w[0], top = vi_srl(vi_load(p + 192 + line * 128), part * 4), four = vi_set1(0x04040404);
    const vi third[4] = { vi_sll32(top, 2), vi_sll32(top, 1), top, vi_srl(top, 1) };
    UNROLL for (int z = 0; z < 4; z++) {
        const vi low = vi_and(vi_srl(vi_load(p + z / 2 * 64), part * 4), vi_set1(0x0f0f0f0f));
        const vi high = vi_and(vi_srl(vi_load(p + 128), part * 4 + z / 2 * 2), vi_set1(0x03030303));
        const vi scale = byte_as_words(vi_or(low, vi_sll32(high, 4)), z % 2 * 2 + line / 4);
        const vi q = vi_or(vi_and(vi_srl(pairs, 2 * z), vi_set1(0x03030303)), vi_and(third[z], four));
        w[z] =
            vi_add16(vi_mul16(q, vi_sub16(vi_set1(0x00200020), scale)), vi_mul16(scale, vi_set1(0x04040404)));
    }
}

/* Line `line` of the blocks from b on, as bytes: w[run] */
INLINE void line_runs(const int type, vi w[4], const uint8_t *panel, size_t b, int line, size_t ahead) {
    const vi low4 = vi_set1(0x0f0f0f0f), pair = vi_set1(0x30303030), fifth = vi_set1(0x10101010);
    const uint8_t *q, *p = panel + b / 8 * (size_t)tk_formats[type].bytes;
    const int z = (int)(b % 8), part = z / 4;
    switch (type) {
    case TK_P_Q8_0: q = panel + tk__at_pair((int64_t)b, 512, 64) + line * 64; break;
    case TK_P_Q4_0:
    case TK_P_IQ4_NL: q = panel + tk__at_pair((int64_t)b, 256, 64) + line * 64; break;
    case TK_P_MXFP4: q = panel + tk__at_mxfp4((int64_t)b) + line * 64; break;
    case TK_P_Q4_1:
    case TK_P_Q4_Z: q = panel + b * 320 + line * 64; break;
    case TK_P_Q5_0: q = panel + tk__at_pair((int64_t)b, 320, 64) + 64 + line * 64; break;
    case TK_P_Q5_1: q = panel + b * 384 + 64 + line * 64; break;
    case TK_P_Q2_K: q = p + part * 704 + 128 + line * 64; break;
    case TK_P_Q3_K: q = part ? p + 1280 + line * 64 : p + 192 + line * 128 + 64; break;
    case TK_P_Q4_K: q = p + tk__at_q4_k(z / 2) + line * 64; break;
    case TK_P_Q5_K: q = part ? p + 1728 + line * 128 : p + line * 192 + 64; break;
    case TK_P_IQ4_XS: q = p + tk__at_iq4_xs(z) + line * 64; break;
    default: q = p + tk__at_q6_k(part * 2 + line / 4) + line % 4 * 192;
    }
    w[0] = vi_load(q);
    __builtin_prefetch(q + ahead);
    switch (type) {
    case TK_P_Q8_0: return;
    case TK_P_Q2_K: q2_k_runs(w, p, line, part); return;
    case TK_P_Q3_K:
        __builtin_prefetch(p + 192 + line * 128 + ahead);
        q3_k_runs(w, p, line, part);
        return;
    case TK_P_Q5_K: {
        const vi top = vi_srl(vi_load(p + line * 192), part * 4), even = w[0], odd = vi_load(q + 64);
        __builtin_prefetch(p + line * 192 + ahead), __builtin_prefetch(q + 64 + ahead);
        w[0] = vi_or(vi_and(even, low4), vi_and(vi_sll32(top, 4), fifth));
        w[1] = vi_or(vi_and(vi_srl(even, 4), low4), vi_and(vi_sll32(top, 3), fifth));
        w[2] = vi_or(vi_and(odd, low4), vi_and(vi_sll32(top, 2), fifth));
        w[3] = vi_or(vi_and(vi_srl(odd, 4), low4), vi_and(vi_sll32(top, 1), fifth));
        return;
    }
    case TK_P_Q6_K: {
        const vi top = w[0], even = vi_load(q + 64), odd = vi_load(q + 128);
        __builtin_prefetch(q + 64 + ahead), __builtin_prefetch(q + 128 + ahead);
        w[0] = vi_or(vi_and(even, low4), vi_and(vi_sll32(top, 4), pair));
        w[1] = vi_or(vi_and(odd, low4), vi_and(vi_sll32(top, 2), pair));
        w[2] = vi_or(vi_and(vi_srl(even, 4), low4), vi_and(top, pair));
        w[3] = vi_or(vi_and(vi_srl(odd, 4), low4), vi_and(vi_srl(top, 2), pair));
        return;
    }
    default: w[1] = vi_and(vi_srl(w[0], 4), low4), w[0] = vi_and(w[0], low4);
    }
    if (type == TK_P_Q5_0 || type == TK_P_Q5_1) {
        const vi top = vi_load(q - 64 - line * 64);
        w[0] = vi_or(w[0], vi_and(vi_sll32(top, 4 - line), fifth));
        w[1] = vi_or(w[1], vi_and(vi_srl(top, line), fifth));
    } else if (type == TK_P_IQ4_NL || type == TK_P_IQ4_XS || type == TK_P_MXFP4) {
        const vi values = vi_xor(vi_table(type == TK_P_MXFP4 ? tk__mxfp4_values : tk__iq4_values),
                                 vi_set1((int)0x80808080)); /* plus 128 */
        w[0] = vi_shuf(values, w[0]), w[1] = vi_shuf(values, w[1]);
    }
}

INLINE vi start(const int type, const tk_a8 *x, int half) {
    switch (type) {
    case TK_P_Q4_0: return vi_set1(x->c8);
    case TK_P_Q5_0: return vi_sll32(vi_set1(x->c8), 1); /* -16 */
    case TK_P_Q6_K: return vi_set1(x->c32[half]);
    default: return layout_of(type).wide ? DOT_U8_START(x) : vi_zero();
    }
}
