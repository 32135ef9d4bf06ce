/* SPDX-License-Identifier: Apache-2.0 */
/* What Hugging Face's library knows of code points beyond patterns (its tables are of several Unicode
 * versions, so they are asked of the library itself: tools/make_unicode_hf.py), and grapheme clusters by the
 * rules of Unicode 17's annex 29. */
#include "text/tokenizer.h"
#include "text/unicode_hf.h"

enum { FAST = 0x800 };
static uint32_t fast[FAST];
static pthread_once_t fast_once = PTHREAD_ONCE_INIT;

static uint32_t search(uint32_t c) {
    size_t low = 0, high = TK_COUNT(hf_run);
    while (high - low > 1) {
        size_t mid = (low + high) / 2;
        if (hf_run[mid] >> 11 <= c)
            low = mid;
        else
            high = mid;
    }
    return hf_kind[hf_run[low] & 0x7FF];
}

static void make_fast(void) {
    for (uint32_t c = 0; c < FAST; c++) fast[c] = search(c);
}

unsigned tk__hf_kind(uint32_t c) {
    pthread_once(&fast_once, make_fast);
    return c < FAST ? fast[c] : search(c);
}

uint32_t tk__hf_lower(uint32_t c) {
    if (c < 128) return c >= 'A' && c <= 'Z' ? c + 32 : c;
    size_t low = 0, high = TK_COUNT(hf_lower);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (hf_lower[mid][0] == c) return hf_lower[mid][1];
        if (hf_lower[mid][0] < c)
            low = mid + 1;
        else
            high = mid;
    }
    return c;
}

static unsigned gcb(unsigned kind) { return kind >> 4 & 15; }
static unsigned incb(unsigned kind) { return kind >> 8 & 3; }
static bool pictographic(unsigned kind) { return kind >> 10 & 1; }

typedef struct cluster {
    unsigned last;      /* kind of the last code point */
    bool joiner;        /* GB11: a pictograph, extenders, and now a joiner */
    bool pict;          /* GB11: a pictograph and extenders */
    bool consonant;     /* GB9c: a consonant and what may follow it */
    bool linker;        /* GB9c: ... with a linker among that */
    unsigned flags_odd; /* GB12: an odd number of regional indicators */
} cluster;

static bool hangul_joins(unsigned a, unsigned b) {
    if (a == GCB_L) return b == GCB_L || b == GCB_V || b == GCB_LV || b == GCB_LVT;
    if (a == GCB_LV || a == GCB_V) return b == GCB_V || b == GCB_T;
    return (a == GCB_LVT || a == GCB_T) && b == GCB_T;
}

static bool joins(const cluster *z, unsigned kind) {
    unsigned a = gcb(z->last), b = gcb(kind);
    if (a == GCB_CR && b == GCB_LF) return true;
    if ((a >= GCB_CR && a <= GCB_CONTROL) || (b >= GCB_CR && b <= GCB_CONTROL)) return false;
    if (hangul_joins(a, b)) return true;
    if (b == GCB_EXTEND || b == GCB_ZWJ || b == GCB_SPACINGMARK || a == GCB_PREPEND) return true;
    if (incb(kind) == INCB_CONSONANT && z->linker) return true;
    if (z->joiner && pictographic(kind)) return true;
    return a == GCB_REGIONAL_INDICATOR && b == GCB_REGIONAL_INDICATOR && z->flags_odd;
}

static void extend(cluster *z, unsigned kind) {
    unsigned b = gcb(kind);
    z->joiner = z->pict && b == GCB_ZWJ;
    z->pict = pictographic(kind) || (z->pict && b == GCB_EXTEND);
    if (incb(kind) == INCB_CONSONANT)
        z->consonant = true, z->linker = false;
    else if (incb(kind) == INCB_LINKER)
        z->linker = z->consonant;
    else if (incb(kind) != INCB_EXTEND)
        z->consonant = z->linker = false;
    z->flags_odd = b == GCB_REGIONAL_INDICATOR ? !z->flags_odd : 0;
    z->last = kind;
}

size_t tk__grapheme(const char *s, size_t n, size_t at) {
    cluster z = { 0 };
    uint32_t c;
    at += tk__utf8_get(s + at, &c);
    if (c < 128 && at < n && (uint8_t)s[at] < 128 && c != '\r') return at;
    extend(&z, tk__hf_kind(c));
    while (at < n) {
        unsigned len = tk__utf8_get(s + at, &c), kind = tk__hf_kind(c);
        if (!joins(&z, kind)) break;
        extend(&z, kind);
        at += len;
    }
    return at;
}
