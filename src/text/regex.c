/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns without a hand-written splitter, through Oniguruma, the engine of Hugging Face's library, after
 * regex_sets.c has written the classes out as that library's Unicode has them. A pattern from a file may
 * backtrack without end, so a search has a retry limit and fails with a message instead. */
#include <oniguruma.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "text/tokenizer.h"

enum {
    RETRY_LIMIT = 10000000, /* steps of one search: a run of a million spaces takes a few million */
    SECONDS = 20,           /* all searches of one text: the last resort, since searches add up */
    PATTERN_MAX = 16384
};

struct tk__regex {
    regex_t *onig;
    char *pattern;
};

/* Oniguruma's own state is global, set up once. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool ready;

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* CPU time counts, since a busy machine makes no pattern slow; the clock only saves asking for it. */
static bool too_long(const tk__search *z) {
    return tk_now() > z->start_wall + SECONDS && cpu_seconds() > z->start_cpu + SECONDS;
}

static tk_status start(void) {
    if (ready) return TK_OK;
    OnigEncoding both[] = { ONIG_ENCODING_UTF8, ONIG_ENCODING_ASCII };
    if (onig_initialize(both, 2) != ONIG_NORMAL) return TK_FAIL(TK_E_INTERNAL, "Oniguruma did not start");
    onig_set_parse_depth_limit(200);
    ready = true;
    return TK_OK;
}

static tk_status compile(tk__regex *r, tk_str text, OnigEncoding encoding) {
    OnigErrorInfo info;
    const UChar *from = (const UChar *)(text.s ? text.s : "");
    int rc = onig_new(&r->onig, from, from + text.n, ONIG_OPTION_NONE, encoding, ONIG_SYNTAX_DEFAULT, &info);
    if (rc == ONIG_NORMAL) return TK_OK;
    UChar why[ONIG_MAX_ERROR_MESSAGE_LEN];
    onig_error_code_to_str(why, rc, &info);
    return TK_FAIL(TK_E_FORMAT, "the tokenizer's pattern cannot be read\n%s in %.200s", (char *)why,
                   r->pattern);
}

static tk_status compile_rewritten(tk__regex *r) {
    tk_buf own = { 0 };
    tk_status s = start();
    if (s == TK_OK) s = tk__regex_translate(&own, r->pattern);
    if (s == TK_OK) s = compile(r, (tk_str){ own.data, own.len }, ONIG_ENCODING_UTF8);
    tk_buf_free(&own);
    return s;
}

static tk_status new_regex(tk__regex **out, const char *pattern) {
    if (strlen(pattern) > PATTERN_MAX)
        return TK_FAIL(TK_E_LIMIT, "the tokenizer's pattern has %zu bytes\nthe limit is %d", strlen(pattern),
                       PATTERN_MAX);
    tk__regex *r = calloc(1, sizeof *r);
    if (r) r->pattern = strdup(pattern);
    if (!r || !r->pattern) {
        tk__regex_free(r);
        return TK_FAIL(TK_E_NOMEM, "out of memory\na pattern of the tokenizer did not fit");
    }
    *out = r;
    return TK_OK;
}

static tk_status finish_new(tk__regex **out, tk__regex *r, tk_status s) {
    if (s != TK_OK)
        tk__regex_free(r);
    else
        *out = r;
    return s;
}

tk_status tk__regex_new(tk__regex **out, const char *pattern) {
    tk__regex *r;
    TK_TRY(new_regex(&r, pattern));
    pthread_mutex_lock(&lock);
    tk_status s = compile_rewritten(r);
    pthread_mutex_unlock(&lock);
    return finish_new(out, r, s);
}

tk_status tk__regex_new_plain(tk__regex **out, const char *pattern, bool bytes) {
    tk__regex *r;
    TK_TRY(new_regex(&r, pattern));
    pthread_mutex_lock(&lock);
    tk_status s = start();
    tk_str text = { pattern, strlen(pattern) };
    if (s == TK_OK) s = compile(r, text, bytes ? ONIG_ENCODING_ASCII : ONIG_ENCODING_UTF8);
    pthread_mutex_unlock(&lock);
    return finish_new(out, r, s);
}

tk_status tk__regex_find(const tk__regex *r, tk__search *z, const char *s, size_t n, size_t from) {
    if (!z->region) z->region = onig_region_new();
    if (!z->limits) z->limits = onig_new_match_param();
    if (!z->region || !z->limits) return TK_FAIL(TK_E_NOMEM, "out of memory\na search did not fit");
    if (!z->start_wall) z->start_wall = tk_now(), z->start_cpu = cpu_seconds();
    OnigMatchParam *limits = z->limits;
    OnigRegion *region = z->region;
    onig_initialize_match_param(limits);
    onig_set_retry_limit_in_search_of_match_param(limits, RETRY_LIMIT);
    onig_set_match_stack_limit_size_of_match_param(limits, RETRY_LIMIT);
    const UChar *u = (const UChar *)s;
    int rc = onig_search_with_param(r->onig, u, u + n, u + from, u + n, region, ONIG_OPTION_NONE, limits);
    z->found = rc >= 0;
    if (z->found) z->start = (size_t)region->beg[0], z->end = (size_t)region->end[0];
    if (rc == ONIGERR_MEMORY) return TK_FAIL(TK_E_NOMEM, "out of memory\na search did not fit");
    if ((rc < 0 && rc != ONIG_MISMATCH) || too_long(z))
        return TK_FAIL(TK_E_LIMIT,
                       "the tokenizer's pattern gave up on this text\n%.200s takes too many steps on it",
                       r->pattern);
    return TK_OK;
}

void tk__search_free(tk__search *z) {
    if (z->region) onig_region_free(z->region, 1);
    if (z->limits) onig_free_match_param(z->limits);
}

void tk__regex_free(tk__regex *r) {
    if (!r) return;
    if (r->onig) onig_free(r->onig);
    free(r->pattern);
    free(r);
}
