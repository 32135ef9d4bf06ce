/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP by libcurl. Redirects are followed here and not by libcurl, because two decisions are ours: the
 * token goes to the origin that the user named and to no other, and a HEAD that is sent elsewhere has
 * already told what we want to know. Every answer is bounded in bytes and in silence. */
#include <ctype.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "hub/hub.h"

enum { MAX_REDIRECTS = 8, MAX_HEADER_BYTES = 256 << 10, CONNECT_SECONDS = 20 };

struct tk__http_session {
    CURL *curl;
    char error[CURL_ERROR_SIZE];
};

/* One hop, as the callbacks see it. */
typedef struct hop {
    tk__http *r;
    CURL *curl;
    long status;
    uint64_t content_length, range_at, range_size, got;
    size_t header_bytes;
    bool has_length, has_range, started, linked;
    tk_status failed; /* of the sink or a limit: the transfer was stopped for it */
} hop;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void init_curl(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

tk_status tk__http_open(tk__http_session **out) {
    pthread_once(&once, init_curl);
    tk__http_session *s = calloc(1, sizeof *s);
    if (s && !(s->curl = curl_easy_init())) {
        free(s);
        s = NULL;
    }
    *out = s;
    return s ? TK_OK : TK_FAIL(TK_E_NOMEM, "out of memory\nlibcurl gave no handle\nfree some memory");
}

void tk__http_close(tk__http_session *s) {
    if (s) curl_easy_cleanup(s->curl);
    free(s);
}

/* ---- headers ----------------------------------------------------------------------------------------- */

static bool parse_u64(const char *s, uint64_t *out) {
    if (!isdigit((unsigned char)*s) || strlen(s) > 18) return false;
    char *end;
    *out = strtoull(s, &end, 10);
    return !*end;
}

/* W/"abc" -> abc */
static void copy_etag(char out[80], const char *value) {
    if (!strncmp(value, "W/", 2)) value += 2;
    value += *value == '"';
    snprintf(out, 80, "%s", value);
    out[strcspn(out, "\"")] = 0;
}

static void take_header(hop *h, const char *name, const char *value) {
    tk__http *r = h->r;
    uint64_t n;
    if (!strcasecmp(name, "Content-Length"))
        h->has_length = parse_u64(value, &h->content_length);
    else if (!strcasecmp(name, "X-Linked-Size") && parse_u64(value, &n))
        r->size = n;
    else if (!strcasecmp(name, "X-Linked-Etag"))
        copy_etag(r->etag, value), h->linked = true;
    else if (!strcasecmp(name, "ETag") && !h->linked)
        copy_etag(r->etag, value);
    else if (!strcasecmp(name, "X-Repo-Commit"))
        snprintf(r->commit, sizeof r->commit, "%s", value);
    else if (!strcasecmp(name, "X-Error-Message") || !strcasecmp(name, "X-Error-Code"))
        snprintf(r->reason, sizeof r->reason, "%s", value);
    else if (!strcasecmp(name, "Retry-After") && parse_u64(value, &n))
        r->retry_after = (int)TK_MIN(n, 86400);
    else if (!strcasecmp(name, "Content-Range")) { /* bytes A-B/SIZE */
        char from[20], to[20], size[20];
        h->has_range = sscanf(value, "bytes %19[0-9]-%19[0-9]/%19[0-9]", from, to, size) == 3 &&
                       parse_u64(from, &h->range_at) && parse_u64(size, &h->range_size);
    }
}

static size_t on_header(char *bytes, size_t one, size_t n, void *arg) {
    hop *h = arg;
    (void)one;
    if ((h->header_bytes += n) > MAX_HEADER_BYTES) {
        h->failed = TK_FAIL(
            TK_E_NETWORK,
            "%s: the answer has no end of headers\nover %d bytes of them came\ntry another HF_ENDPOINT",
            h->r->url, MAX_HEADER_BYTES);
        return 0;
    }
    char line[1024];
    size_t len = TK_MIN(n, sizeof line - 1);
    memcpy(line, bytes, len);
    line[len] = 0;
    line[strcspn(line, "\r\n")] = 0;
    char *colon = strchr(line, ':');
    if (!colon) return n;
    *colon = 0;
    char *value = colon + 1 + strspn(colon + 1, " \t");
    for (size_t i = strlen(value); i && (value[i - 1] == ' ' || value[i - 1] == '\t');) value[--i] = 0;
    take_header(h, line, value);
    return n;
}

/* ---- body -------------------------------------------------------------------------------------------- */

static tk_status take_body(hop *h, const char *bytes, size_t n) {
    tk__http *r = h->r;
    if (!h->started) {
        uint64_t at = h->status == 206 && h->has_range ? h->range_at : 0;
        if (h->status == 206 && at != r->from)
            return TK_FAIL(TK_E_NETWORK,
                           "%s: a wrong part came\nasked from byte %llu, got from %llu\ntry again", r->url,
                           (unsigned long long)r->from, (unsigned long long)at);
        h->started = true;
        if (r->start) TK_TRY(r->start(r->arg, at));
        h->got = at;
    }
    if (n > r->limit || h->got > r->limit - n)
        return TK_FAIL(
            TK_E_NETWORK,
            "%s: the answer is too long\nmore than the expected %llu bytes came\ntry another HF_ENDPOINT",
            r->url, (unsigned long long)r->limit);
    h->got += n;
    return r->sink(r->arg, bytes, n);
}

static size_t on_body(char *bytes, size_t one, size_t n, void *arg) {
    hop *h = arg;
    (void)one;
    if (!h->status) curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &h->status);
    if (h->status != 200 && h->status != 206) return n; /* a page about an error: not read */
    h->failed = take_body(h, bytes, n);
    return h->failed == TK_OK ? n : 0;
}

/* ---- exchange ---------------------------------------------------------------------------------------- */

/* "https://host:port" of a URL; false when it is neither http nor https */
static bool origin_of(const char *url, char out[300]) {
    CURLU *u = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL;
    bool ok = u && !curl_url_set(u, CURLUPART_URL, url, 0) &&
              !curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) && !curl_url_get(u, CURLUPART_HOST, &host, 0) &&
              !curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) &&
              (!strcmp(scheme, "http") || !strcmp(scheme, "https")) &&
              snprintf(out, 300, "%s://%s:%s", scheme, host, port) < 300;
    curl_free(scheme), curl_free(host), curl_free(port);
    curl_url_cleanup(u);
    return ok;
}

static long silence_limit(void) { /* Hugging Face's own variable */
    const char *s = getenv("HF_HUB_DOWNLOAD_TIMEOUT");
    long v = s ? strtol(s, NULL, 10) : 0;
    return v > 0 && v < 3600 ? v : 30;
}

static tk_status fail_curl(tk__http_session *s, tk__http *r, CURLcode code) {
    const char *why = *s->error ? s->error : curl_easy_strerror(code),
               *advice = "check the network, then run the command again: it resumes";
    if (code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT)
        advice = "check the network, HF_ENDPOINT and https_proxy";
    else if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        advice = "install ca-certificates and check the clock; a certificate that fails is not accepted";
    else if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL)
        advice = "HF_ENDPOINT must be like https://huggingface.co";
    r->transient = code != CURLE_PEER_FAILED_VERIFICATION && code != CURLE_URL_MALFORMAT &&
                   code != CURLE_UNSUPPORTED_PROTOCOL && code != CURLE_SSL_CACERT_BADFILE &&
                   code != CURLE_OUT_OF_MEMORY;
    return TK_FAIL(TK_E_NETWORK, "cannot reach %s\n%s\n%s", r->url, why, advice);
}

static tk_status fail_status(tk__http *r) {
    const char *why = *r->reason ? r->reason : "the server gave no reason";
    switch (r->status) {
    case 401:
        return TK_FAIL(TK_E_NETWORK, "%s: access denied (401)\n%s\n%s", r->url, why,
                       r->token ? "HF_TOKEN is not valid here: make a new one"
                                : "check the name; for a private or gated repository set HF_TOKEN");
    case 403:
        return TK_FAIL(TK_E_NETWORK,
                       "%s: access denied (403)\n%s\naccept the model's terms on its web page%s", r->url, why,
                       r->token ? "" : ", and set HF_TOKEN");
    case 404:
    case 410:
        return TK_FAIL(TK_E_NOTFOUND, "%s: not found (%ld)\n%s\ncheck the name", r->url, r->status, why);
    case 429:
        r->transient = r->retry_after <= 30;
        return TK_FAIL(TK_E_NETWORK,
                       "%s: too many requests (429)\nthe server wants a pause of %d s\nwait, or set HF_TOKEN "
                       "for a higher limit",
                       r->url, r->retry_after);
    default:
        r->transient = r->status >= 500 && r->status != 501;
        return TK_FAIL(TK_E_NETWORK, "%s: the server answered %ld\n%s\ntry again later", r->url, r->status,
                       why);
    }
}

static CURLcode one_hop(tk__http_session *s, hop *h, const char *url, bool with_token) {
    tk__http *r = h->r;
    CURL *c = s->curl;
    char range[32], authorization[600];
    struct curl_slist *headers = curl_slist_append(NULL, "Accept-Encoding: identity");
    if (with_token && r->token) {
        snprintf(authorization, sizeof authorization, "Authorization: Bearer %s", r->token);
        headers = curl_slist_append(headers, authorization);
    }
    curl_easy_reset(c); /* keeps the connections */
    *s->error = 0;
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, s->error);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L); /* a proxy's are not the answer's */
    curl_easy_setopt(c, CURLOPT_NOBODY, (long)r->head);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_USERAGENT, "tokamak/" TK_VERSION);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, silence_limit());
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, h);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
    if (r->from) {
        snprintf(range, sizeof range, "%llu-", (unsigned long long)r->from);
        curl_easy_setopt(c, CURLOPT_RANGE, range);
    }
    CURLcode code = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &h->status);
    curl_slist_free_all(headers);
    return code;
}

tk_status tk__http_do(tk__http_session *s, tk__http *r) {
    char home[300], origin[300], url[4096];
    r->status = 0, r->size = UINT64_MAX, r->retry_after = 0, r->transient = false;
    *r->etag = *r->commit = *r->reason = 0;
    if (!origin_of(r->url, home) || strlen(r->url) >= sizeof url)
        return TK_FAIL(TK_E_NETWORK,
                       "cannot use the address %s\nit is no http or https address\nHF_ENDPOINT must be like "
                       "https://huggingface.co",
                       r->url);
    strcpy(url, r->url);
    strcpy(origin, home);
    for (int hops = 0; hops <= MAX_REDIRECTS; hops++) {
        hop h = { .r = r, .curl = s->curl };
        CURLcode code = one_hop(s, &h, url, !strcmp(origin, home));
        if (h.failed != TK_OK) return h.failed;
        r->status = h.status;
        const char *next = NULL;
        if (!code && h.status >= 300 && h.status < 400)
            curl_easy_getinfo(s->curl, CURLINFO_REDIRECT_URL, &next);
        if (next) {
            if (!origin_of(next, origin) || strlen(next) >= sizeof url ||
                (!strncmp(home, "https:", 6) && strncmp(origin, "https:", 6) != 0))
                return TK_FAIL(TK_E_NETWORK,
                               "%s: a redirect was refused\nit leads to %.200s, which is less safe\ntry "
                               "another HF_ENDPOINT",
                               r->url, next);
            if (r->head && strcmp(origin, home) != 0) return TK_OK;
            strcpy(url, next);
            continue;
        }
        if (code && !(code == CURLE_PARTIAL_FILE && h.status >= 400)) return fail_curl(s, r, code);
        if (h.status < 200 || h.status >= 300) return fail_status(r);
        if (h.has_range)
            r->size = h.range_size;
        else if (h.has_length && r->size == UINT64_MAX && h.status == 200)
            r->size = h.content_length;
        if (!r->head && !h.started && r->start) TK_TRY(r->start(r->arg, 0)); /* an empty body */
        return TK_OK;
    }
    return TK_FAIL(TK_E_NETWORK,
                   "%s: too many redirects\nthe server sent us on %d times\ntry another HF_ENDPOINT", r->url,
                   MAX_REDIRECTS);
}
