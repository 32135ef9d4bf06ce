/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 and code point classes. The classes come from a table of our own (unicode_data.h), because the
 * pattern engines at hand know other versions of Unicode than the library whose ids we must reproduce. */
#include "text/tokenizer.h"
#include "text/unicode_data.h"

int tk__utf8_next(const char *s, size_t n, uint32_t *c) {
    const uint8_t *u = (const uint8_t *)s;
    if (u[0] < 0x80) return *c = u[0], 1;
    unsigned need, low = 0x80,
                   high = 0xBF; /* the second byte's range excludes overlong forms and surrogates */
    if (u[0] >= 0xC2 && u[0] <= 0xDF)
        need = 1, *c = u[0] & 31u;
    else if (u[0] >= 0xE0 && u[0] <= 0xEF) {
        need = 2, *c = u[0] & 15u;
        if (u[0] == 0xE0) low = 0xA0;
        if (u[0] == 0xED) high = 0x9F;
    } else if (u[0] >= 0xF0 && u[0] <= 0xF4) {
        need = 3, *c = u[0] & 7u;
        if (u[0] == 0xF0) low = 0x90;
        if (u[0] == 0xF4) high = 0x8F;
    } else
        return -1;
    for (unsigned i = 1; i <= need; i++) {
        if (i >= n) return 0;
        if (u[i] < low || u[i] > high) return -(int)i;
        *c = *c << 6 | (u[i] & 63u);
        low = 0x80, high = 0xBF;
    }
    return (int)need + 1;
}

void tk__utf8_put(tk_buf *b, uint32_t c) {
    char s[4];
    size_t n;
    if (c < 0x80)
        s[0] = (char)c, n = 1;
    else if (c < 0x800)
        s[0] = (char)(0xC0 | c >> 6), s[1] = (char)(0x80 | (c & 63)), n = 2;
    else if (c < 0x10000) {
        s[0] = (char)(0xE0 | c >> 12), s[1] = (char)(0x80 | (c >> 6 & 63)), s[2] = (char)(0x80 | (c & 63)),
        n = 3;
    } else {
        s[0] = (char)(0xF0 | c >> 18), s[1] = (char)(0x80 | (c >> 12 & 63));
        s[2] = (char)(0x80 | (c >> 6 & 63)), s[3] = (char)(0x80 | (c & 63)), n = 4;
    }
    tk_buf_put(b, s, n);
}

/* Length of the valid start of s. */
static size_t valid_prefix(const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        while (i + 8 <= n && !(tk_le64(s + i) & 0x8080808080808080u)) i += 8;
        if (i >= n) break;
        uint32_t c;
        int k = tk__utf8_next(s + i, n - i, &c);
        if (k <= 0) return i;
        i += (size_t)k;
    }
    return n;
}

bool tk__utf8_valid(const char *s, size_t n) { return valid_prefix(s, n) == n; }

void tk__utf8_clean(tk_buf *b, const char *s, size_t n) {
    while (n) {
        size_t good = valid_prefix(s, n);
        tk_buf_put(b, s, good);
        s += good, n -= good;
        if (!n) return;
        uint32_t c;
        int k = tk__utf8_next(s, n, &c);
        size_t skip = k ? (size_t)-k : n;
        tk_buf_put(b, "\xEF\xBF\xBD", 3);
        s += skip, n -= skip;
    }
}

#define U (TK_CP_L | TK_CP_W | TK_CP_UPPER)
#define L (TK_CP_L | TK_CP_W | TK_CP_LOWER)
#define N (TK_CP_N | TK_CP_NUMERIC | TK_CP_W)
#define P TK_CP_P
#define S TK_CP_S
#define Y TK_CP_SYMBOL
#define C TK_CP_C
#define Z (TK_CP_S | TK_CP_C)
/* 0-9, A-Z, a-z, white space 9-13 and 32, punctuation, symbols; '_' is also \w. */
const uint16_t tk__ascii_class[128] = {
    C, C, C, C, C, C, C, C, C, Z, Z, Z, Z, Z, C, C,           /* 00 */
    C, C, C, C, C, C, C, C, C, C, C, C, C, C, C, C,           /* 10 */
    S, P, P, P, Y, P, P, P, P, P, P, Y, P, P, P, P,           /* 20 */
    N, N, N, N, N, N, N, N, N, N, P, P, Y, Y, Y, P,           /* 30 */
    P, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U,           /* 40 */
    U, U, U, U, U, U, U, U, U, U, U, P, P, P, Y, P | TK_CP_W, /* 50 */
    Y, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,           /* 60 */
    L, L, L, L, L, L, L, L, L, L, L, P, Y, P, Y, C,           /* 70 */
};
#undef U
#undef L
#undef N
#undef P
#undef S
#undef Y
#undef C
#undef Z

static unsigned category(uint32_t c) {
    return c < 0x110000 ? gc_block[gc_index[c / GC_BLOCK]][c % GC_BLOCK] : GC_Cn;
}

static bool is_space(uint32_t c) { /* White_Space, unchanged since Unicode 6.3 */
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

/* Alphabetic code points outside of L, Nl and M: circled and squared Latin letters */
static bool is_other_alphabetic(uint32_t c) {
    return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
           (c >= 0x1F170 && c <= 0x1F189);
}

static bool within(const uint32_t (*range)[2], size_t n, uint32_t c) {
    size_t low = 0;
    while (low < n) {
        size_t mid = (low + n) / 2;
        if (c > range[mid][1])
            low = mid + 1;
        else
            n = mid;
    }
    return range[low][0] <= c && c <= range[low][1];
}

enum { OTHER_LETTER = TK_CP_L | TK_CP_W | TK_CP_MODIFIER };
static const uint16_t category_class[GC_COUNT] = {
    [GC_Lu] = TK_CP_L | TK_CP_W | TK_CP_UPPER,
    [GC_Lt] = TK_CP_L | TK_CP_W | TK_CP_UPPER,
    [GC_Ll] = TK_CP_L | TK_CP_W | TK_CP_LOWER,
    [GC_Lm] = OTHER_LETTER,
    [GC_Lo] = OTHER_LETTER,
    [GC_Nd] = TK_CP_N | TK_CP_NUMERIC | TK_CP_W,
    [GC_Nl] = TK_CP_N | TK_CP_NUMERIC | TK_CP_W,
    [GC_No] = TK_CP_N | TK_CP_NUMERIC,
    [GC_Mn] = TK_CP_W | TK_CP_M,
    [GC_Mc] = TK_CP_W | TK_CP_M,
    [GC_Me] = TK_CP_W | TK_CP_M,
    [GC_Pc] = TK_CP_P | TK_CP_W,
    [GC_Pd] = TK_CP_P,
    [GC_Ps] = TK_CP_P,
    [GC_Pe] = TK_CP_P,
    [GC_Pi] = TK_CP_P,
    [GC_Pf] = TK_CP_P,
    [GC_Po] = TK_CP_P,
    [GC_Sm] = TK_CP_SYMBOL,
    [GC_Sc] = TK_CP_SYMBOL,
    [GC_Sk] = TK_CP_SYMBOL,
    [GC_So] = TK_CP_SYMBOL,
    [GC_Cc] = TK_CP_C,
    [GC_Cf] = TK_CP_C,
    [GC_Cs] = TK_CP_C,
    [GC_Co] = TK_CP_C,
};

unsigned tk__cp_class(uint32_t c) {
    if (c < 128) return tk__ascii_class[c];
    unsigned gc = category(c), r = category_class[gc];
    switch (gc) {
    case GC_Zs:
    case GC_Zl:
    case GC_Zp:
    case GC_Cc: return is_space(c) ? r | TK_CP_S : r;
    case GC_Cf: return c == 0x200C || c == 0x200D ? r | TK_CP_W : r;
    case GC_So: return is_other_alphabetic(c) ? r | TK_CP_W : r;
    case GC_Cn: return within(numbers_17, TK_COUNT(numbers_17) - 1, c) ? TK_CP_NUMERIC : 0;
    default: return r;
    }
}

unsigned tk__cp_class_15(uint32_t c) {
    if (c < 128) return tk__ascii_class[c];
    unsigned r = tk__cp_class(c);
    if (c >= added_16[0][0] && within(added_16, TK_COUNT(added_16) - 1, c)) return 0;
    if (r & (TK_CP_UPPER | TK_CP_LOWER)) r = (r & ~(unsigned)(TK_CP_UPPER | TK_CP_LOWER)) | TK_CP_MODIFIER;
    return r;
}
