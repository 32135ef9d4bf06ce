/* SPDX-License-Identifier: Apache-2.0 */
/* The methods of str, which count and cut by code points. Case follows Unicode's full mappings: utf8proc has
 * those of one character, jinja_case.inc those of several. A result is Markup where its string was. */
#include <utf8proc.h>

#include "text/jinja.h"

/* ---- arguments --------------------------------------------------------------------------------------- */

static bool given(const jcall *k, int i) { return k->a[i].type != J_MISSING && k->a[i].type != J_NONE; }

static tk_status need_str(jx *c, jval v, const jstr **s) {
    if (v.type == J_UNDEF) return JFAIL(c, "must be str, and %s", v.undef);
    if (v.type != J_STR) return JFAIL(c, "must be str, not %s", tk__jtype(v));
    *s = v.s;
    return TK_OK;
}

static tk_status get_int(jx *c, const jcall *k, int i, int64_t fallback, int64_t *n) {
    *n = fallback;
    if (k->a[i].type == J_MISSING || tk__jinteger(k->a[i], n)) return TK_OK;
    return JFAIL(c, "'%s' object cannot be interpreted as an integer", tk__jtype(k->a[i]));
}

static tk_status take(jx *c, size_t mark, const jcall *k, jval *out) {
    TK_TRY(tk__jtake(c, mark, out));
    out->s->safe = k->self.s->safe;
    return TK_OK;
}

/* ---- case -------------------------------------------------------------------------------------------- */

static const struct {
    uint32_t cp;
    const char *upper, *title;
} special[] = {
#define CASES
#include "text/jinja_case.inc"
#undef CASES
};
typedef struct range {
    uint32_t first, last;
} range;
static const range more_lower[] = {
#define LOWER
#include "text/jinja_case.inc"
#undef LOWER
};
static const range more_upper[] = {
#define UPPER
#include "text/jinja_case.inc"
#undef UPPER
};
static const range more_digits[] = {
#define DIGIT
#include "text/jinja_case.inc"
#undef DIGIT
};
static const range more_numeric[] = {
#define NUMERIC
#include "text/jinja_case.inc"
#undef NUMERIC
};

static bool in_ranges(const range *r, size_t n, uint32_t cp) {
    size_t lo = 0;
    while (lo < n) { /* the first range that does not end before cp */
        size_t mid = (lo + n) / 2;
        if (r[mid].last < cp)
            lo = mid + 1;
        else
            n = mid;
    }
    return r[lo].first <= cp && cp <= r[lo].last;
}
#define IN(table, cp) ((cp) <= table[TK_COUNT(table) - 1].last && in_ranges(table, TK_COUNT(table) - 1, cp))

static const char *special_case(uint32_t cp, bool title) {
    size_t lo = 0, hi = TK_COUNT(special);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (special[mid].cp < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < TK_COUNT(special) && special[lo].cp == cp ? (title ? special[lo].title : special[lo].upper)
                                                          : NULL;
}

static utf8proc_category_t category(uint32_t cp) { return utf8proc_category((utf8proc_int32_t)cp); }

static bool is_lower(uint32_t cp) {
    if (cp < 0x80) return cp >= 'a' && cp <= 'z';
    return category(cp) == UTF8PROC_CATEGORY_LL || IN(more_lower, cp);
}
static bool is_upper(uint32_t cp) {
    if (cp < 0x80) return cp >= 'A' && cp <= 'Z';
    return category(cp) == UTF8PROC_CATEGORY_LU || IN(more_upper, cp);
}
static bool is_title(uint32_t cp) { return category(cp) == UTF8PROC_CATEGORY_LT; }
static bool is_cased(uint32_t cp) { return is_lower(cp) || is_upper(cp) || is_title(cp); }

static bool case_ignorable(uint32_t cp) {
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK: return true;
    default:
        return cp == '\'' || cp == '.' || cp == ':' || cp == 0xb7 || cp == 0x387 || cp == 0x2018 ||
               cp == 0x2019;
    }
}

/* A capital sigma at `at` ends a word: a letter before it, none after it. */
static bool final_sigma(const jstr *s, const char *at, const char *after) {
    bool before = false;
    for (const char *p = at; p > s->s;) {
        do p--;
        while (((unsigned char)*p & 0xc0) == 0x80);
        const char *q = p;
        uint32_t cp = tk__jutf8_next(&q);
        if (case_ignorable(cp)) continue;
        before = is_cased(cp);
        break;
    }
    while (before && after < s->s + s->n) {
        uint32_t cp = tk__jutf8_next(&after);
        if (!case_ignorable(cp)) return !is_cased(cp);
    }
    return before;
}

typedef enum casing { UPPER, LOWER, TITLE } casing;

static tk_status put_cased(jx *c, const jstr *s, const char **p, casing to) {
    const char *at = *p;
    uint32_t cp = tk__jutf8_next(p);
    if (cp < 0x80) {
        bool letter = (cp | 32) >= 'a' && (cp | 32) <= 'z';
        return tk__jputc(c, !letter ? cp : to == LOWER ? (cp | 32) : (cp & ~32u));
    }
    if (to == LOWER) {
        if (cp == 0x130) return tk__jputs(c, "i\xcc\x87");
        if (cp == 0x3a3) {
            TK_TRY(tk__jstep(c, 64));
            return tk__jputc(c, final_sigma(s, at, *p) ? 0x3c2 : 0x3c3);
        }
        return tk__jputc(c, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp));
    }
    const char *more = special_case(cp, to == TITLE);
    if (more) return tk__jputs(c, more);
    utf8proc_int32_t i = (utf8proc_int32_t)cp;
    return tk__jputc(c, (uint32_t)(to == TITLE ? utf8proc_totitle(i) : utf8proc_toupper(i)));
}

/* mode: 'u'pper, 'l'ower, 'c'apitalize, 't'itle, 's'wapcase */
static tk_status change_case(jx *c, const jcall *k, char mode, jval *out) {
    const jstr *s = k->self.s;
    const char *p = s->s, *end = p + s->n;
    bool word = false;
    size_t mark;
    TK_TRY(tk__jmark(c, &mark));
    while (p < end) {
        const char *q = p;
        uint32_t cp = tk__jutf8_next(&q);
        casing to = mode == 'u' ? UPPER : mode == 'c' && p == s->s ? TITLE : LOWER;
        if (mode == 't') to = word ? LOWER : TITLE;
        if (mode == 's' && !is_upper(cp)) {
            if (is_lower(cp))
                to = UPPER;
            else {
                TK_TRY(tk__jput(c, p, (size_t)(q - p)));
                p = q;
                continue;
            }
        }
        word = is_cased(cp);
        TK_TRY(put_cased(c, s, &p, to));
    }
    return take(c, mark, k, out);
}

static tk_status upper(jx *c, const jcall *k, jval *out) { return change_case(c, k, 'u', out); }
static tk_status lower(jx *c, const jcall *k, jval *out) { return change_case(c, k, 'l', out); }
static tk_status capitalize(jx *c, const jcall *k, jval *out) { return change_case(c, k, 'c', out); }
static tk_status title(jx *c, const jcall *k, jval *out) { return change_case(c, k, 't', out); }
static tk_status swapcase(jx *c, const jcall *k, jval *out) { return change_case(c, k, 's', out); }

static tk_status casefold(jx *c, const jcall *k, jval *out) {
    const char *p = k->self.s->s, *end = p + k->self.s->n;
    size_t mark;
    TK_TRY(tk__jmark(c, &mark));
    while (p < end) {
        utf8proc_int32_t to[4], cp = (utf8proc_int32_t)tk__jutf8_next(&p);
        utf8proc_ssize_t n = utf8proc_decompose_char(cp, to, 4, UTF8PROC_CASEFOLD, NULL);
        for (utf8proc_ssize_t i = 0; i < n && i < 4; i++) TK_TRY(tk__jputc(c, (uint32_t)to[i]));
    }
    return take(c, mark, k, out);
}

/* ---- what a string consists of ----------------------------------------------------------------------- */

static bool is_alpha(uint32_t cp) {
    utf8proc_category_t t = category(cp);
    return t >= UTF8PROC_CATEGORY_LU && t <= UTF8PROC_CATEGORY_LO;
}
static bool is_decimal(uint32_t cp) { return category(cp) == UTF8PROC_CATEGORY_ND; }
static bool is_digit(uint32_t cp) { return is_decimal(cp) || IN(more_digits, cp); }
static bool is_numeric(uint32_t cp) {
    utf8proc_category_t t = category(cp);
    return t == UTF8PROC_CATEGORY_ND || t == UTF8PROC_CATEGORY_NL || t == UTF8PROC_CATEGORY_NO ||
           IN(more_numeric, cp);
}
static bool is_alnum(uint32_t cp) { return is_alpha(cp) || is_numeric(cp); }
static bool is_ascii(uint32_t cp) { return cp < 0x80; }

static tk_status all_are(jx *c, const jcall *k, bool (*is)(uint32_t), bool if_empty, jval *out) {
    const char *p = k->self.s->s, *end = p + k->self.s->n;
    bool yes = p < end || if_empty;
    TK_TRY(tk__jstep(c, k->self.s->n));
    while (yes && p < end) yes = is(tk__jutf8_next(&p));
    *out = tk__jbool(yes);
    return TK_OK;
}

static tk_status isalpha_(jx *c, const jcall *k, jval *out) { return all_are(c, k, is_alpha, false, out); }
static tk_status isalnum_(jx *c, const jcall *k, jval *out) { return all_are(c, k, is_alnum, false, out); }
static tk_status isdecimal_(jx *c, const jcall *k, jval *out) {
    return all_are(c, k, is_decimal, false, out);
}
static tk_status isdigit_(jx *c, const jcall *k, jval *out) { return all_are(c, k, is_digit, false, out); }
static tk_status isnumeric_(jx *c, const jcall *k, jval *out) {
    return all_are(c, k, is_numeric, false, out);
}
static tk_status isspace_(jx *c, const jcall *k, jval *out) { return all_are(c, k, tk__jspace, false, out); }
static tk_status isascii_(jx *c, const jcall *k, jval *out) { return all_are(c, k, is_ascii, true, out); }

/* islower and isupper: a cased letter there must be, and none of the other kind */
static tk_status is_case(jx *c, const jcall *k, bool want_upper, jval *out) {
    const char *p = k->self.s->s, *end = p + k->self.s->n;
    bool some = false;
    *out = tk__jbool(false);
    TK_TRY(tk__jstep(c, k->self.s->n));
    while (p < end) {
        uint32_t cp = tk__jutf8_next(&p);
        bool up = is_upper(cp), low = is_lower(cp);
        if (is_title(cp) || (want_upper ? low : up)) return TK_OK;
        some = some || up || low;
    }
    out->b = some;
    return TK_OK;
}
static tk_status islower_(jx *c, const jcall *k, jval *out) { return is_case(c, k, false, out); }
static tk_status isupper_(jx *c, const jcall *k, jval *out) { return is_case(c, k, true, out); }

static tk_status istitle_(jx *c, const jcall *k, jval *out) {
    const char *p = k->self.s->s, *end = p + k->self.s->n;
    bool word = false, some = false;
    *out = tk__jbool(false);
    TK_TRY(tk__jstep(c, k->self.s->n));
    while (p < end) {
        uint32_t cp = tk__jutf8_next(&p);
        bool up = is_upper(cp) || is_title(cp), low = is_lower(cp);
        if ((up && word) || (low && !word)) return TK_OK;
        word = up || low;
        some = some || word;
    }
    out->b = some;
    return TK_OK;
}

/* ---- stripping and padding --------------------------------------------------------------------------- */

static bool in_set(const jstr *set, uint32_t cp) {
    if (!set) return tk__jspace(cp);
    for (const char *p = set->s, *end = p + set->n; p < end;) {
        if (tk__jutf8_next(&p) == cp) return true;
    }
    return false;
}

static tk_status strip_sides(jx *c, const jcall *k, bool left, bool right, jval *out) {
    const jstr *s = k->self.s, *set = NULL;
    if (given(k, 0)) TK_TRY(need_str(c, k->a[0], &set));
    const char *from = s->s, *to = s->s + s->n;
    while (left && from < to) {
        const char *p = from;
        if (!in_set(set, tk__jutf8_next(&p))) break;
        TK_TRY(tk__jstep(c, set ? set->n : 0));
        from = p;
    }
    while (right && to > from) {
        const char *p = to - 1;
        while (((unsigned char)*p & 0xc0) == 0x80) p--;
        const char *q = p;
        if (!in_set(set, tk__jutf8_next(&q))) break;
        TK_TRY(tk__jstep(c, set ? set->n : 0));
        to = p;
    }
    return tk__jstr_view(c, s, (size_t)(from - s->s), (size_t)(to - s->s), out);
}
static tk_status strip(jx *c, const jcall *k, jval *out) { return strip_sides(c, k, true, true, out); }
static tk_status lstrip(jx *c, const jcall *k, jval *out) { return strip_sides(c, k, true, false, out); }
static tk_status rstrip(jx *c, const jcall *k, jval *out) { return strip_sides(c, k, false, true, out); }

static tk_status fill(jx *c, const jstr *with, int64_t n) {
    if (n > (int64_t)c->lim.value)
        return tk__jfail(c, TK_E_LIMIT, "it makes a string of %lld characters", (long long)n);
    for (; n > 0; n--) TK_TRY(tk__jput(c, with->s, with->n));
    return TK_OK;
}

static tk_status justify(jx *c, const jcall *k, char side, jval *out) {
    const jstr *s = k->self.s, *with = &(jstr){ .s = " ", .n = 1, .chars = 1 };
    int64_t width;
    size_t mark;
    TK_TRY(get_int(c, k, 0, 0, &width));
    if (k->a[1].type != J_MISSING) TK_TRY(need_str(c, k->a[1], &with));
    if (with->chars != 1) return JFAIL(c, "The fill character must be exactly one character long");
    int64_t gap = width - (int64_t)s->chars, left = side == 'c'   ? gap / 2 + (gap & width & 1)
                                                    : side == 'r' ? gap
                                                                  : 0;
    *out = k->self;
    if (gap <= 0) return TK_OK;
    TK_TRY(tk__jmark(c, &mark));
    TK_TRY(fill(c, with, left));
    TK_TRY(tk__jput(c, s->s, s->n));
    TK_TRY(fill(c, with, gap - left));
    return take(c, mark, k, out);
}
static tk_status center(jx *c, const jcall *k, jval *out) { return justify(c, k, 'c', out); }
static tk_status ljust(jx *c, const jcall *k, jval *out) { return justify(c, k, 'l', out); }
static tk_status rjust(jx *c, const jcall *k, jval *out) { return justify(c, k, 'r', out); }

static tk_status zfill(jx *c, const jcall *k, jval *out) {
    const jstr *s = k->self.s;
    int64_t width;
    size_t mark, sign = s->n && (s->s[0] == '-' || s->s[0] == '+');
    TK_TRY(get_int(c, k, 0, 0, &width));
    TK_TRY(tk__jmark(c, &mark));
    TK_TRY(tk__jput(c, s->s, sign));
    TK_TRY(fill(c, &(jstr){ .s = "0", .n = 1, .chars = 1 }, width - (int64_t)s->chars));
    TK_TRY(tk__jput(c, s->s + sign, s->n - sign));
    return take(c, mark, k, out);
}

static tk_status expandtabs(jx *c, const jcall *k, jval *out) {
    const char *p = k->self.s->s, *end = p + k->self.s->n;
    int64_t size, column = 0;
    size_t mark;
    TK_TRY(get_int(c, k, 0, 8, &size));
    TK_TRY(tk__jmark(c, &mark));
    while (p < end) {
        const char *at = p;
        uint32_t cp = tk__jutf8_next(&p);
        if (cp == '\t') {
            int64_t gap = size > 0 ? size - column % size : 0;
            TK_TRY(fill(c, &(jstr){ .s = " ", .n = 1, .chars = 1 }, gap));
            column += gap;
            continue;
        }
        column = cp == '\n' || cp == '\r' ? 0 : column + 1;
        TK_TRY(tk__jput(c, at, (size_t)(p - at)));
    }
    return take(c, mark, k, out);
}

/* ---- searching --------------------------------------------------------------------------------------- */

/* The part of the string that start and end (arguments 1 and 2) name; *at is where it begins, in code points.
 */
static tk_status part(jx *c, const jcall *k, jval *out, int64_t *at, bool *beyond) {
    jval from = given(k, 1) ? k->a[1] : tk__jnone, to = given(k, 2) ? k->a[2] : tk__jnone;
    *out = k->self, *at = 0, *beyond = false;
    if (from.type == J_NONE && to.type == J_NONE) return TK_OK;
    int64_t n = (int64_t)k->self.s->chars;
    if (tk__jinteger(from, at) && *at < 0) *at = TK_MAX(*at + n, 0);
    *beyond = *at > n;
    return tk__jslice(c, k->self, from, to, tk__jnone, out);
}

static const char *find_last(const jstr *s, const jstr *what) {
    if (what->n > s->n) return NULL;
    for (const char *p = s->s + s->n - what->n;; p--) {
        if (memcmp(p, what->s, what->n) == 0) return p;
        if (p == s->s) return NULL;
    }
}

static tk_status search(jx *c, const jcall *k, bool last, bool must, jval *out) {
    const jstr *what;
    jval in;
    int64_t at;
    bool beyond;
    TK_TRY(need_str(c, k->a[0], &what));
    TK_TRY(part(c, k, &in, &at, &beyond));
    TK_TRY(tk__jstep(c, in.s->n * (last ? 4 : 1)));
    const char *hit = beyond         ? NULL
                      : last         ? find_last(in.s, what)
                      : what->n == 0 ? in.s->s
                      : in.s->n      ? memmem(in.s->s, in.s->n, what->s, what->n)
                                     : NULL;
    if (!hit && must) return JFAIL(c, "substring not found");
    *out = tk__jint(hit ? at + (int64_t)tk__jutf8_count(in.s->s, (size_t)(hit - in.s->s)) : -1);
    return TK_OK;
}
static tk_status find(jx *c, const jcall *k, jval *out) { return search(c, k, false, false, out); }
static tk_status rfind(jx *c, const jcall *k, jval *out) { return search(c, k, true, false, out); }
static tk_status index_(jx *c, const jcall *k, jval *out) { return search(c, k, false, true, out); }
static tk_status rindex_(jx *c, const jcall *k, jval *out) { return search(c, k, true, true, out); }

static tk_status count(jx *c, const jcall *k, jval *out) {
    const jstr *what;
    jval in;
    int64_t at, n = 0;
    bool beyond;
    TK_TRY(need_str(c, k->a[0], &what));
    TK_TRY(part(c, k, &in, &at, &beyond));
    TK_TRY(tk__jstep(c, in.s->n));
    const char *p = in.s->s, *end = p + in.s->n;
    if (what->n == 0)
        n = beyond ? 0 : (int64_t)in.s->chars + 1;
    else
        while (p < end && (p = memmem(p, (size_t)(end - p), what->s, what->n))) n++, p += what->n;
    *out = tk__jint(n);
    return TK_OK;
}

static bool has_at(const jstr *s, const jstr *what, bool end) {
    return what->n <= s->n && memcmp(end ? s->s + s->n - what->n : s->s, what->s, what->n) == 0;
}

static tk_status starts_or_ends(jx *c, const jcall *k, bool end, jval *out) {
    const jstr *what;
    jval in, tests = k->a[0];
    int64_t at;
    bool beyond, yes = false;
    TK_TRY(part(c, k, &in, &at, &beyond));
    size_t n = tests.type == J_TUPLE ? tests.l->n : 1;
    for (size_t i = 0; i < n && !yes; i++) {
        TK_TRY(need_str(c, tests.type == J_TUPLE ? tests.l->at[i] : tests, &what));
        yes = !beyond && has_at(in.s, what, end);
    }
    *out = tk__jbool(yes);
    return TK_OK;
}
static tk_status startswith(jx *c, const jcall *k, jval *out) { return starts_or_ends(c, k, false, out); }
static tk_status endswith(jx *c, const jcall *k, jval *out) { return starts_or_ends(c, k, true, out); }

static tk_status remove_side(jx *c, const jcall *k, bool end, jval *out) {
    const jstr *what, *s = k->self.s;
    TK_TRY(need_str(c, k->a[0], &what));
    *out = k->self;
    if (!has_at(s, what, end)) return TK_OK;
    return end ? tk__jstr_view(c, s, 0, s->n - what->n, out) : tk__jstr_view(c, s, what->n, s->n, out);
}
static tk_status removeprefix(jx *c, const jcall *k, jval *out) { return remove_side(c, k, false, out); }
static tk_status removesuffix(jx *c, const jcall *k, jval *out) { return remove_side(c, k, true, out); }

static tk_status replace(jx *c, const jcall *k, jval *out) {
    const jstr *s = k->self.s, *old, *with;
    int64_t times;
    size_t mark;
    jval to = k->a[1];
    TK_TRY(need_str(c, k->a[0], &old));
    TK_TRY(need_str(c, to, &with));
    if (s->safe) TK_TRY(tk__jescape(c, to, &to));
    with = to.s;
    TK_TRY(get_int(c, k, 2, -1, &times));
    TK_TRY(tk__jmark(c, &mark));
    const char *p = s->s, *end = p + s->n;
    if (old->n == 0) { /* before every character and at the end */
        while (times != 0) {
            TK_TRY(tk__jput(c, with->s, with->n));
            if (times > 0) times--;
            const char *from = p;
            if (p == end) break;
            tk__jutf8_next(&p);
            TK_TRY(tk__jput(c, from, (size_t)(p - from)));
        }
    }
    while (old->n && times != 0 && p < end) {
        const char *hit = memmem(p, (size_t)(end - p), old->s, old->n);
        if (!hit) break;
        TK_TRY(tk__jput(c, p, (size_t)(hit - p)));
        TK_TRY(tk__jput(c, with->s, with->n));
        p = hit + old->n;
        if (times > 0) times--;
    }
    TK_TRY(tk__jput(c, p, (size_t)(end - p)));
    return take(c, mark, k, out);
}

/* ---- splitting and joining --------------------------------------------------------------------------- */

typedef struct pieces {
    jval list;
    size_t cap;
    const jstr *of;
} pieces;

static tk_status pieces_new(jx *c, const jcall *k, pieces *l) {
    *l = (pieces){ .of = k->self.s };
    return tk__jlist_new(c, J_LIST, 0, &l->list);
}

static tk_status piece(jx *c, pieces *l, const char *from, const char *to) {
    jlist *list = l->list.l;
    if (list->n == l->cap) {
        jval *grown;
        l->cap = l->cap ? l->cap * 2 : 4;
        TK_TRY(tk__jalloc(c, l->cap, sizeof *grown, &grown));
        if (list->n) memcpy(grown, list->at, list->n * sizeof *grown);
        list->at = grown;
    }
    return tk__jstr_view(c, l->of, (size_t)(from - l->of->s), (size_t)(to - l->of->s), &list->at[list->n++]);
}

static void reverse(jlist *l) {
    for (size_t i = 0; i < l->n / 2; i++) {
        jval t = l->at[i];
        l->at[i] = l->at[l->n - 1 - i], l->at[l->n - 1 - i] = t;
    }
}

static tk_status split_at(jx *c, pieces *l, const jstr *sep, int64_t max) {
    const char *p = l->of->s, *end = p + l->of->n, *hit;
    while (max-- != 0 && p < end && (hit = memmem(p, (size_t)(end - p), sep->s, sep->n))) {
        TK_TRY(piece(c, l, p, hit));
        p = hit + sep->n;
    }
    return piece(c, l, p, end);
}

static tk_status rsplit_at(jx *c, pieces *l, const jstr *sep, int64_t max) {
    jstr rest = *l->of;
    const char *hit;
    while (max-- != 0 && (hit = find_last(&rest, sep))) {
        TK_TRY(tk__jstep(c, rest.n - (size_t)(hit - rest.s)));
        TK_TRY(piece(c, l, hit + sep->n, rest.s + rest.n));
        rest.n = (size_t)(hit - rest.s);
    }
    TK_TRY(piece(c, l, rest.s, rest.s + rest.n));
    reverse(l->list.l);
    return TK_OK;
}

static const char *skip(const char *p, const char *end, bool space) {
    while (p < end) {
        const char *q = p;
        if (tk__jspace(tk__jutf8_next(&q)) != space) break;
        p = q;
    }
    return p;
}
static const char *skip_back(const char *p, const char *from, bool space) {
    while (p > from) {
        const char *q = p - 1;
        while (((unsigned char)*q & 0xc0) == 0x80) q--;
        const char *r = q;
        if (tk__jspace(tk__jutf8_next(&r)) != space) break;
        p = q;
    }
    return p;
}

static tk_status split_space(jx *c, pieces *l, int64_t max) {
    const char *end = l->of->s + l->of->n, *p = skip(l->of->s, end, true);
    while (p < end) {
        const char *q = max-- != 0 ? skip(p, end, false) : end; /* the rest keeps its trailing white space */
        TK_TRY(piece(c, l, p, q));
        p = skip(q, end, true);
    }
    return TK_OK;
}

static tk_status rsplit_space(jx *c, pieces *l, int64_t max) {
    const char *from = l->of->s, *p = skip_back(from + l->of->n, from, true);
    while (p > from) {
        const char *q = max-- != 0 ? skip_back(p, from, false) : from;
        TK_TRY(piece(c, l, q, p));
        p = skip_back(q, from, true);
    }
    reverse(l->list.l);
    return TK_OK;
}

static tk_status split_any(jx *c, const jcall *k, bool right, jval *out) {
    const jstr *sep = NULL;
    int64_t max;
    pieces l;
    if (given(k, 0)) TK_TRY(need_str(c, k->a[0], &sep));
    if (sep && !sep->n) return JFAIL(c, "empty separator");
    TK_TRY(get_int(c, k, 1, -1, &max));
    if (max < 0) max = INT64_MAX;
    TK_TRY(tk__jstep(c, k->self.s->n));
    TK_TRY(pieces_new(c, k, &l));
    if (sep)
        TK_TRY(right ? rsplit_at(c, &l, sep, max) : split_at(c, &l, sep, max));
    else
        TK_TRY(right ? rsplit_space(c, &l, max) : split_space(c, &l, max));
    *out = l.list;
    return TK_OK;
}
static tk_status split(jx *c, const jcall *k, jval *out) { return split_any(c, k, false, out); }
static tk_status rsplit(jx *c, const jcall *k, jval *out) { return split_any(c, k, true, out); }

static bool line_break(uint32_t cp) {
    return (cp >= 10 && cp <= 13) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

static tk_status splitlines(jx *c, const jcall *k, jval *out) {
    const char *p = k->self.s->s, *end = p + k->self.s->n, *from = p;
    bool keep = k->a[0].type != J_MISSING && tk__jtruth(k->a[0]);
    pieces l;
    TK_TRY(tk__jstep(c, k->self.s->n));
    TK_TRY(pieces_new(c, k, &l));
    while (p < end) {
        const char *at = p;
        uint32_t cp = tk__jutf8_next(&p);
        if (!line_break(cp)) continue;
        if (cp == '\r' && p < end && *p == '\n') p++;
        TK_TRY(piece(c, &l, from, keep ? p : at));
        from = p;
    }
    if (from < end) TK_TRY(piece(c, &l, from, end));
    *out = l.list;
    return TK_OK;
}

static tk_status partition_any(jx *c, const jcall *k, bool last, jval *out) {
    const jstr *s = k->self.s, *sep;
    TK_TRY(need_str(c, k->a[0], &sep));
    if (!sep->n) return JFAIL(c, "empty separator");
    TK_TRY(tk__jstep(c, s->n));
    const char *hit = last ? find_last(s, sep) : s->n ? memmem(s->s, s->n, sep->s, sep->n) : NULL;
    size_t at = hit ? (size_t)(hit - s->s) : last ? 0 : s->n, after = hit ? at + sep->n : at;
    TK_TRY(tk__jlist_new(c, J_TUPLE, 3, out));
    TK_TRY(tk__jstr_view(c, s, 0, at, &out->l->at[0]));
    TK_TRY(tk__jstr_view(c, s, at, after, &out->l->at[1]));
    return tk__jstr_view(c, s, after, s->n, &out->l->at[2]);
}
static tk_status partition(jx *c, const jcall *k, jval *out) { return partition_any(c, k, false, out); }
static tk_status rpartition(jx *c, const jcall *k, jval *out) { return partition_any(c, k, true, out); }

static tk_status join(jx *c, const jcall *k, jval *out) {
    const jstr *s = k->self.s;
    jval list, one;
    size_t mark;
    TK_TRY(tk__jlist_of(c, k->a[0], &list));
    TK_TRY(tk__jmark(c, &mark));
    for (size_t i = 0; i < list.l->n; i++) {
        if (i) TK_TRY(tk__jput(c, s->s, s->n));
        one = list.l->at[i];
        if (one.type != J_STR && !s->safe) {
            return JFAIL(c, "sequence item %zu: expected str instance, %s found", i, tk__jtype(one));
        }
        if (s->safe) TK_TRY(tk__jescape(c, one, &one));
        TK_TRY(tk__jput(c, one.s->s, one.s->n));
    }
    return take(c, mark, k, out);
}

static tk_status format(jx *c, const jcall *k, jval *out) {
    return tk__jformat_braces(c, k->self.s, k->raw, out);
}

const jrow tk__jstr_methods[] = {
    { "split", "sep maxsplit", 0, split },
    { "strip", ".", 0, strip },
    { "lstrip", ".", 0, lstrip },
    { "rstrip", ".", 0, rstrip },
    { "startswith", ". . .", 1, startswith },
    { "endswith", ". . .", 1, endswith },
    { "replace", ". . .", 2, replace },
    { "upper", "", 0, upper },
    { "lower", "", 0, lower },
    { "title", "", 0, title },
    { "capitalize", "", 0, capitalize },
    { "join", ".", 1, join },
    { "format", "*", 0, format },
    { "find", ". . .", 1, find },
    { "rfind", ". . .", 1, rfind },
    { "index", ". . .", 1, index_ },
    { "rindex", ". . .", 1, rindex_ },
    { "count", ". . .", 1, count },
    { "rsplit", "sep maxsplit", 0, rsplit },
    { "splitlines", "keepends", 0, splitlines },
    { "partition", ".", 1, partition },
    { "rpartition", ".", 1, rpartition },
    { "removeprefix", ".", 1, removeprefix },
    { "removesuffix", ".", 1, removesuffix },
    { "center", ". .", 1, center },
    { "ljust", ". .", 1, ljust },
    { "rjust", ". .", 1, rjust },
    { "zfill", ".", 1, zfill },
    { "expandtabs", "tabsize", 0, expandtabs },
    { "swapcase", "", 0, swapcase },
    { "casefold", "", 0, casefold },
    { "isalpha", "", 0, isalpha_ },
    { "isalnum", "", 0, isalnum_ },
    { "isdecimal", "", 0, isdecimal_ },
    { "isdigit", "", 0, isdigit_ },
    { "isnumeric", "", 0, isnumeric_ },
    { "isspace", "", 0, isspace_ },
    { "isascii", "", 0, isascii_ },
    { "islower", "", 0, islower_ },
    { "isupper", "", 0, isupper_ },
    { "istitle", "", 0, istitle_ },
    { "encode", "", 0, NULL },
    { "format_map", "", 0, NULL },
    { "isidentifier", "", 0, NULL },
    { "isprintable", "", 0, NULL },
    { "maketrans", "", 0, NULL },
    { "translate", "", 0, NULL },
    { NULL, NULL, 0, NULL },
};
