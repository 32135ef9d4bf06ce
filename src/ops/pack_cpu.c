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

/* d, dmin, and their six-bit factors in a byte each */
static void pack_affine_scales(uint8_t *dst, const uint8_t *const src[16]) {
    halves(dst, src, 0), halves(dst + 32, src, 2);
    uint8_t *scale = dst + 64, *min = dst + 192;
    for (int r = 0; r < 16; r++) {
        const uint8_t *s = src[r] + 4;
        for (int j = 0; j < 4; j++) {
            scale[j * 16 + r] = s[j] & 63, min[j * 16 + r] = s[j + 4] & 63;
            scale[(j + 4) * 16 + r] = (uint8_t)((s[j + 8] & 15) | s[j] >> 6 << 4);
            min[(j + 4) * 16 + r] = (uint8_t)(s[j + 8] >> 4 | s[j + 4] >> 6 << 4);
        }
    }
}

static void pack_q3_k(uint8_t *dst, const uint8_t *const src[16]) {
    for (size_t j = 0; j < 8; j++)
        lines(dst + j * 128, src, j * 4, 1, 0), lines(dst + j * 128 + TK_LINE, src, 32 + j * 4, 1, 0);
    lines(dst + 1024, src, 64, 8, 0), lines(dst + 1536, src, 96, 3, 0);
    halves(dst + 1728, src, 108), memset(dst + 1760, 0, 32);
}

static void pack_q5_k(uint8_t *dst, const uint8_t *const src[16]) {
    for (size_t j = 0; j < 8; j++) {
        lines(dst + j * 192, src, 16 + j * 4, 1, 0);
        for (size_t pair = 0; pair < 4;
             pair++) /* pairs 0, 1 behind the fifth bits; 2, 3 in lines of their own */
            lines(dst + (pair < 2 ? j * 192 + TK_LINE : 1536 + j * 128) + pair % 2 * TK_LINE, src,
                  48 + pair * 32 + j * 4, 1, 0);
    }
    pack_affine_scales(dst + 2560, src);
}

static void pack_q6_k(uint8_t *dst, const uint8_t *const src[16]) {
    for (int half = 0; half < 2; half++)
        for (int j = 0; j < 8; j++, dst += 3 * TK_LINE) {
            const size_t low = (size_t)half * 64 + (size_t)j * 4,
                         top = 128 + (size_t)half * 32 + (size_t)j * 4;
            lines(dst, src, top, 1, 0), lines(dst + TK_LINE, src, low, 1, 0);
            lines(dst + 2 * TK_LINE, src, low + 32, 1, 0);
        }
    for (int r = 0; r < 16; r++)
        for (int j = 0; j < 16; j++) dst[j * 16 + r] = src[r][192 + j];
    halves(dst + 256, src, 208);
    memset(dst + 288, 0, 32);
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
        p = panel + b / 2 * 1088;
        lines(p + b % 2 * 512, src, 2, 8, 0x80808080u);
        halves(p + 1024 + b % 2 * 32, src, 0);
        break;
    case TK_Q4_0:
    case TK_IQ4_NL:
        p = panel + b / 2 * 576;
        lines(p + b % 2 * 256, src, 2, 4, 0);
        halves(p + 512 + b % 2 * 32, src, 0);
        break;
    case TK_Q4_1:
    case TK_Q4_Z:
        p = panel + b * 320;
        lines(p, src, 4, 4, 0);
        halves(p + 256, src, 0), halves(p + 288, src, 2);
        break;
    case TK_Q5_0:
        p = panel + b / 2 * 704;
        fifth_bits(p + b % 2 * 320, src, 2), lines(p + b % 2 * 320 + TK_LINE, src, 6, 4, 0);
        halves(p + 640 + b % 2 * 32, src, 0);
        break;
    case TK_Q5_1:
        p = panel + b * 384;
        fifth_bits(p, src, 4), lines(p + TK_LINE, src, 8, 4, 0);
        halves(p + 320, src, 0), halves(p + 352, src, 2);
        break;
    case TK_F8:
        p = panel + b * 576;
        for (int r = 0; r < 16; r++) {
            for (int k = 0; k < 32; k++) p[k * 16 + r] = src[r][4 + k];
            memcpy(p + 512 + r * 4, src[r], 4);
        }
        break;
    case TK_MXFP4:
        p = panel + b / 4 * 1088;
        lines(p + b % 4 * 256, src, 1, 4, 0);
        for (int r = 0; r < 16; r++) p[1024 + b % 4 * 16 + r] = src[r][0];
        break;
    case TK_Q2_K:
        p = panel + b * 1344;
        lines(p, src, 16, 16, 0), lines(p + 1024, src, 0, 4, 0);
        halves(p + 1280, src, 80), halves(p + 1312, src, 82);
        break;
    case TK_Q3_K: pack_q3_k(panel + b * 1792, src); break;
    case TK_Q4_K:
        p = panel + b * 2368;
        lines(p, src, 16, 32, 0), pack_affine_scales(p + 2048, src);
        break;
    case TK_Q5_K: pack_q5_k(panel + b * 2880, src); break;
    case TK_IQ4_XS:
        p = panel + b * 2176;
        lines(p, src, 8, 32, 0), lines(p + 2048, src, 4, 1, 0);
        halves(p + 2112, src, 2), halves(p + 2144, src, 0);
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
