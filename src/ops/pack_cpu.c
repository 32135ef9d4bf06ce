/* SPDX-License-Identifier: Apache-2.0 */
/* pack: a weight from its file's order into panels of 16 rows (base/packed.h). It runs once, at load, where a
 * user waits for the first token; so nothing is unpacked: every layout is the file's own bytes with the 16
 * rows interleaved, and packing is a transposition of dwords at the speed of page faults. */
#include "base/packed.h"
#include "ops/ops.h"

/* n lines: dword i of each row's bytes, with `flip` applied */
static void lines(uint8_t *dst, const uint8_t *const src[16], size_t offset, int64_t n, uint32_t flip) {
    for (int64_t i = 0; i < n; i++, dst += TK_LINE) {
        uint32_t line[16];
        for (int r = 0; r < 16; r++) line[r] = tk_le32(src[r] + offset + i * 4) ^ flip;
        memcpy(dst, line, sizeof line);
    }
}

/* The 16-bit number at `offset` of each row, 32 bytes */
static void halves(uint8_t *dst, const uint8_t *const src[16], size_t offset) {
    uint16_t line[16];
    for (int r = 0; r < 16; r++) line[r] = tk_le16(src[r] + offset);
    memcpy(dst, line, sizeof line);
}

/* The six-bit factors of d and dmin of blocks from .. from + n, in a byte each */
static void sixes(uint8_t *scale, uint8_t *min, const uint8_t *const src[16], int from, int n) {
    for (int r = 0; r < 16; r++) {
        const uint8_t *s = src[r] + 4;
        for (int j = from; j < from + n; j++, scale += 16, min += 16) {
            scale[r] = j < 4 ? s[j] & 63 : (uint8_t)((s[j + 4] & 15) | s[j - 4] >> 6 << 4);
            min[r] = j < 4 ? s[j + 4] & 63 : (uint8_t)(s[j + 4] >> 4 | s[j] >> 6 << 4);
        }
        scale -= 16 * n, min -= 16 * n;
    }
}

static void pack_q2_k(uint8_t *dst, const uint8_t *const src[16]) {
    for (size_t part = 0; part < 2; part++)
        lines(dst + part * 704, src, part * 8, 2, 0),
            lines(dst + part * 704 + 128, src, 16 + part * 32, 8, 0);
    halves(dst + 640, src, 80), halves(dst + 672, src, 82);
}

static void pack_q3_k(uint8_t *dst, const uint8_t *const src[16]) {
    lines(dst, src, 96, 3, 0);
    for (size_t j = 0; j < 8; j++)
        lines(dst + 192 + j * 128, src, j * 4, 1, 0), lines(dst + 256 + j * 128, src, 32 + j * 4, 1, 0);
    halves(dst + 1216, src, 108), memset(dst + 1248, 0, 32);
    lines(dst + 1280, src, 64, 8, 0);
}

static void pack_q4_k(uint8_t *dst, const uint8_t *const src[16]) {
    halves(dst + 512, src, 0), halves(dst + 544, src, 2);
    for (int pair = 0; pair < 4; pair++) {
        uint8_t *scales = dst + 576 * (pair + 1);
        lines(dst + tk__at_q4_k(pair), src, 16 + (size_t)pair * 32, 8, 0);
        sixes(scales, scales + 32, src, pair * 2, 2);
    }
}

static void pack_q5_k(uint8_t *dst, const uint8_t *const src[16]) {
    for (size_t j = 0; j < 8; j++) {
        lines(dst + j * 192, src, 16 + j * 4, 1, 0);
        for (size_t pair = 0; pair < 4;
             pair++) /* pairs 0, 1 behind the fifth bits; 2, 3 in lines of their own */
            lines(dst + (pair < 2 ? j * 192 + TK_LINE : 1728 + j * 128) + pair % 2 * TK_LINE, src,
                  48 + pair * 32 + j * 4, 1, 0);
    }
    halves(dst + 1536, src, 0), halves(dst + 1568, src, 2);
    sixes(dst + 1600, dst + 1664, src, 0, 4), sixes(dst + 2752, dst + 2816, src, 4, 4);
}

static void pack_q6_k(uint8_t *dst, const uint8_t *const src[16]) {
    for (int part = 0; part < 4; part++) { /* a half of the 256 k, and of its runs of 32 */
        const size_t at = (size_t)(part % 2) * 16, low = (size_t)(part / 2) * 64 + at,
                     top = 128 + (size_t)(part / 2) * 32 + at;
        uint8_t *line = dst + tk__at_q6_k(part), *scale = dst + 832 * (part + 1);
        for (size_t j = 0; j < 16; j += 4, line += 3 * TK_LINE) {
            lines(line, src, top + j, 1, 0), lines(line + TK_LINE, src, low + j, 1, 0);
            lines(line + 2 * TK_LINE, src, low + 32 + j, 1, 0);
        }
        for (int r = 0; r < 16; r++)
            for (int z = 0; z < 4; z++) scale[z * 16 + r] = src[r][192 + part / 2 * 8 + z * 2 + part % 2];
    }
    halves(dst + 768, src, 208), memset(dst + 800, 0, 32);
}

/* The 32 fifth bits at `offset` of each row: bit 4 j + i of a row's dword to bit j of its byte i */
static void fifth_bits(uint8_t *dst, const uint8_t *const src[16], size_t offset) {
    uint32_t line[16];
    for (int r = 0; r < 16; r++) {
        const uint32_t bits = tk_le32(src[r] + offset);
        line[r] = 0;
        for (int i = 0; i < 4; i++) { /* every fourth bit, moved together */
            uint32_t x = bits >> i & 0x11111111;
            x = (x | x >> 3) & 0x03030303, x = (x | x >> 6) & 0x000f000f;
            line[r] |= ((x | x >> 12) & 0xff) << 8 * i;
        }
    }
    memcpy(dst, line, sizeof line);
}

/* One file block of 16 rows */
static void pack_block(tk_dtype t, uint8_t *panel, const uint8_t *const src[16], int64_t b) {
    uint8_t *p;
    switch (t) {
    case TK_Q8_0:
        lines(panel + tk__at_pair(b, 512, 64), src, 2, 8, 0x80808080u);
        halves(panel + b / 2 * 1088 + 512 + b % 2 * 32, src, 0);
        break;
    case TK_Q4_0:
    case TK_IQ4_NL:
        lines(panel + tk__at_pair(b, 256, 64), src, 2, 4, 0);
        halves(panel + b / 2 * 576 + 256 + b % 2 * 32, src, 0);
        break;
    case TK_Q4_1:
    case TK_Q4_Z:
        p = panel + b * 320;
        lines(p, src, 4, 4, 0);
        halves(p + 256, src, 0), halves(p + 288, src, 2);
        break;
    case TK_Q5_0:
        p = panel + tk__at_pair(b, 320, 64);
        fifth_bits(p, src, 2), lines(p + TK_LINE, src, 6, 4, 0);
        halves(panel + b / 2 * 704 + 320 + b % 2 * 32, src, 0);
        break;
    case TK_Q5_1:
        p = panel + b * 384;
        fifth_bits(p, src, 4), lines(p + TK_LINE, src, 8, 4, 0);
        halves(p + 320, src, 0), halves(p + 352, src, 2);
        break;
    case TK_F8:
        p = panel + b * 576;
        for (int r = 0; r < 16; r++) {
            for (int k = 0; k < 32; k++) p[64 + k * 16 + r] = src[r][4 + k];
            memcpy(p + r * 4, src[r], 4);
        }
        break;
    case TK_MXFP4:
        lines(panel + tk__at_mxfp4(b), src, 1, 4, 0);
        p = panel + b / 4 * 1088 + 256 + b % 4 * 16;
        for (int r = 0; r < 16; r++) p[r] = src[r][0];
        break;
    case TK_Q2_K: pack_q2_k(panel + b * 1344, src); break;
    case TK_Q3_K: pack_q3_k(panel + b * 1792, src); break;
    case TK_Q4_K: pack_q4_k(panel + b * 2368, src); break;
    case TK_Q5_K: pack_q5_k(panel + b * 2880, src); break;
    case TK_IQ4_XS:
        p = panel + b * 2176;
        for (int z = 0; z < 8; z++) lines(p + tk__at_iq4_xs(z), src, 8 + (size_t)z * 16, 4, 0);
        lines(p + 256, src, 4, 1, 0), halves(p + 320, src, 2), halves(p + 352, src, 0);
        break;
    default: pack_q6_k(panel + b * 3392, src); break;
    }
}

/* Rows of plain numbers; `cols` need not be a multiple of anything */
static void pack_plain(tk_dtype t, uint8_t *panel, const uint8_t *const src[16], int64_t cols) {
    if (t == TK_F32) {
        lines(panel, src, 0, cols, 0);
    } else if (t == TK_BF16) {
        lines(panel, src, 0, cols / 2, 0);
        if (cols % 2) {
            uint32_t line[16];
            for (int r = 0; r < 16; r++) line[r] = tk_le16(src[r] + (cols - 1) * 2);
            memcpy(panel + cols / 2 * TK_LINE, line, sizeof line);
        }
    } else {
        for (int64_t k = 0; k < cols; k++) halves(panel + k * 32, src, (size_t)k * 2);
    }
}

void pack_panels(const tk_args *a) {
    const tk_dtype t = a->type[0], to = a->type[1];
    const int64_t n = TK_DIM(a, 'n'), k = TK_DIM(a, 'k'), blocks = k / tk_formats[t].block;
    const bool plain = tk_formats[t].block == 1;
    const size_t step = (size_t)tk_formats[t].bytes, panel_bytes = tk__panel_bytes(to, k);
    static const uint8_t zeros[256];
    int64_t from, end;
    tk_split(n, TK_PANEL, a->ith, a->nth, &from, &end);
    for (int64_t row = from; row < end; row += TK_PANEL) {
        uint8_t *panel = (uint8_t *)a->p[1] + (size_t)(row / TK_PANEL) * panel_bytes;
        const uint8_t *src[16];
        const int64_t live = TK_MIN(n - row, (int64_t)TK_PANEL);
        const uint8_t *base = (const uint8_t *)a->p[0] + (size_t)(row * blocks) * step;
        /* rows past the end: any bytes do for plain numbers (the last row again), zero scales for blocks */
        for (int64_t r = 0; r < 16; r++)
            src[r] = r < live || plain ? base + (size_t)(TK_MIN(r, live - 1) * blocks) * step : zeros;
        if (plain) {
            pack_plain(t, panel, src, k);
            continue;
        }
        if (k %
            tk_formats[to].block) /* what the last block's missing k leave is read by nobody, but copied */
            memset(panel + panel_bytes - tk_formats[to].bytes, 0, (size_t)tk_formats[to].bytes);
        for (int64_t b = 0; b < blocks; b++) {
            pack_block(t, panel, src, b);
            for (int64_t r = 0; r < live; r++) src[r] += step;
        }
    }
}
