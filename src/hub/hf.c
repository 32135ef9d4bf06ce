/* SPDX-License-Identifier: Apache-2.0 */
/* Pulling from a Hugging Face hub, or from whatever speaks like one at HF_ENDPOINT. One question names the
 * commit and its files; every file is then asked for at that commit, so that a repository that changes
 * meanwhile cannot give a mixture. config.json comes last: while it is missing the folder is no model. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hub/hub.h"

enum { API_LIMIT = 32 << 20, MAX_FILES = 100000, TRIES = 4 };

typedef struct pull {
    tk__hub_store store;
    tk__http_session *http;
    const tk__hub_name *name;
    char endpoint[300], commit[80];
    const char *token;
    tk__hub_files files;
} pull;

static bool is_hex(const char *s, size_t n) { return strlen(s) == n && strspn(s, "0123456789abcdef") == n; }

/* Repeats what may work later: with the server's pause, or 0.5, 1, 2 s. */
static tk_status do_patiently(pull *p, tk__http *r) {
    for (int i = 1;; i++) {
        tk_status s = tk__http_do(p->http, r);
        if (s == TK_OK || !r->transient || i == TRIES) return s;
        usleep(r->retry_after ? (unsigned)r->retry_after * 1000000u : 250000u << i);
    }
}

/* ---- what the repository holds ------------------------------------------------------------------------- */

static tk_status to_buf(void *arg, const void *bytes, size_t n) {
    tk_buf_put(arg, bytes, n);
    return tk_buf_check(arg);
}
static tk_status restart_buf(void *arg, uint64_t at) {
    (void)at; /* no range is asked for */
    ((tk_buf *)arg)->len = 0;
    return TK_OK;
}

static tk_status fail_answer(pull *p, const char *why) {
    return TK_FAIL(TK_E_NETWORK, "%s gave a strange answer about %s\n%s\ncheck HF_ENDPOINT", p->endpoint,
                   p->name->repo, why);
}

static tk_status read_listing(pull *p, const tk_buf *text) {
    json_error_t e;
    json_t *root = json_loadb(text->data ? text->data : "", text->len, JSON_REJECT_DUPLICATES, &e), *sibling;
    const char *sha = json_string_value(json_object_get(root, "sha"));
    json_t *siblings = json_object_get(root, "siblings");
    tk_status s = TK_OK;
    size_t i;
    if (!root)
        s = fail_answer(p, "it is not JSON");
    else if (!sha || !is_hex(sha, 40))
        s = fail_answer(p, "it names no commit");
    else if (!json_is_array(siblings) || json_array_size(siblings) > MAX_FILES)
        s = fail_answer(p, "it has no list of files, or far too long a one");
    else
        snprintf(p->commit, sizeof p->commit, "%s", sha);
    json_array_foreach(siblings, i, sibling) {
        if (s != TK_OK) break;
        json_t *value = json_object_get(sibling, "rfilename");
        const char *name = json_string_value(value);
        if (!name || strlen(name) != json_string_length(value) || !tk__hub_safe_path(name))
            s = fail_answer(p, "a file's name in its list would leave the folder or is no name");
        else
            s = tk__hub_files_add(&p->store.arena, &p->files, name);
    }
    json_decref(root);
    return s;
}

static tk_status list_repository(pull *p) {
    char *url;
    tk_buf text = { 0 };
    TK_TRY(tk__hub_path(&p->store.arena, &url, "%s/api/models/%s/revision/main", p->endpoint, p->name->repo));
    tk__http r = {
        .url = url, .token = p->token, .limit = API_LIMIT, .sink = to_buf, .start = restart_buf, .arg = &text
    };
    tk_status s = do_patiently(p, &r);
    if (s == TK_OK) s = read_listing(p, &text);
    tk_buf_free(&text);
    return s;
}

/* ---- which of its files -------------------------------------------------------------------------------- */

static bool has_file(const tk__hub_files *f, const char *name) {
    for (size_t i = 0; i < f->count; i++)
        if (!strcmp(f->names[i], name)) return true;
    return false;
}

/* Weights of an HF folder: the shards if there is an index, else model.safetensors, else all there are. */
static bool is_weights(const tk__hub_files *all, const char *name) {
    if (!tk__hub_ends(name, ".safetensors") || strchr(name, '/')) return false;
    if (has_file(all, "model.safetensors.index.json")) return !strncmp(name, "model-", 6);
    return has_file(all, "model.safetensors") ? !strcmp(name, "model.safetensors") : true;
}

static bool is_companion(const char *name) {
    static const char *const exact[] = { "generation_config.json",
                                         "chat_template.jinja",
                                         "model.safetensors.index.json",
                                         "special_tokens_map.json",
                                         "added_tokens.json",
                                         "vocab.json",
                                         "merges.txt",
                                         "config.json" };
    static const char templates[] = "additional_chat_templates/";
    const size_t n = sizeof templates - 1;
    if (!strncmp(name, "tokenizer", 9) && !strchr(name, '/')) return true;
    if (!strncmp(name, templates, n)) return tk__hub_ends(name, ".jinja") && !strchr(name + n, '/');
    for (size_t i = 0; i < TK_COUNT(exact); i++)
        if (!strcmp(name, exact[i])) return true;
    return false;
}

static tk_status choose_files(pull *p, tk__hub_files *wanted) {
    const char *picked;
    tk_arena *arena = &p->store.arena;
    TK_TRY(tk__hub_choose(&p->files, p->name->file, p->name->repo, &picked));
    if (picked) {
        const char *missing;
        TK_TRY(tk__hub_parts(arena, &p->files, picked, wanted, &missing));
        return missing
                   ? TK_FAIL(
                         TK_E_UNSUPPORTED,
                         "%s has only some parts of %s\n%s is not in its list\nlook for another repository "
                         "of the same model",
                         p->name->repo, picked, missing)
                   : TK_OK;
    }
    for (int pass = 0; pass < 3; pass++)
        for (size_t i = 0; i < p->files.count; i++) {
            const char *name = p->files.names[i];
            bool config = !strcmp(name, "config.json");
            if (pass == 0 ? is_weights(&p->files, name) : is_companion(name) && config == (pass == 2))
                TK_TRY(tk__hub_files_add(arena, wanted, name));
        }
    return TK_OK;
}

/* ---- one file ------------------------------------------------------------------------------------------ */

typedef struct blob {
    pull *p;
    const char *file;
    int fd;
    uint64_t at, size; /* bytes there, bytes wanted */
} blob;

static tk_status to_blob(void *arg, const void *bytes, size_t n) {
    blob *b = arg;
    for (size_t done = 0; done < n;) {
        ssize_t w = pwrite(b->fd, (const char *)bytes + done, n - done, (off_t)(b->at + done));
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return tk__hub_fail_errno("write", b->p->store.folder);
        done += (size_t)w;
    }
    b->at += n;
    const tk_hub_watch *w = b->p->store.watch;
    if (w->progress) w->progress(w->arg, b->file, b->at, b->size);
    return TK_OK;
}

static tk_status start_blob(void *arg, uint64_t at) {
    blob *b = arg;
    b->at = at;
    return ftruncate(b->fd, (off_t)at) ? tk__hub_fail_errno("write", b->p->store.folder) : TK_OK;
}

/* The path of a URL may hold any byte that is no letter or digit only as %XX. */
static tk_status escape(pull *p, const char *path, char **out) {
    char text[3 * 1024 + 1], *t = text;
    for (const char *c = path; *c && t + 4 < text + sizeof text; c++)
        t += snprintf(t, 4, isalnum((unsigned char)*c) || strchr("-._~/", *c) ? "%c" : "%%%02X",
                      (unsigned char)*c);
    return tk__hub_path(&p->store.arena, out, "%s", text);
}

/* Fetches what is missing of the blob, resuming as often as a try brings bytes. */
static tk_status fetch_rest(blob *b, const char *url) {
    int tries = TRIES;
    while (b->at < b->size) {
        uint64_t before = b->at;
        tk__http r = { .url = url,
                       .token = b->p->token,
                       .from = b->at,
                       .limit = b->size,
                       .sink = to_blob,
                       .start = start_blob,
                       .arg = b };
        tk_status s = tk__http_do(b->p->http, &r);
        if (s == TK_OK && b->at < b->size) { /* it ended early without an error */
            s = TK_FAIL(TK_E_NETWORK,
                        "%s broke off\n%llu of %llu bytes came\nrun the command again: it resumes", b->file,
                        (unsigned long long)b->at, (unsigned long long)b->size);
            r.transient = true;
        }
        if (s == TK_OK) break;
        if (b->at > before) tries = TRIES;
        if (r.status == 416) { /* what we hold is no prefix of it */
            TK_TRY(start_blob(b, 0));
            r.transient = true;
        }
        if (!r.transient || !--tries) return s;
        usleep(r.retry_after ? (unsigned)r.retry_after * 1000000u : 250000u << (TRIES - tries));
    }
    return TK_OK;
}

static tk_status fetch_blob(pull *p, const char *url, const char *file, const char *etag, uint64_t size) {
    char *path;
    struct stat st;
    TK_TRY(tk__hub_path(&p->store.arena, &path, "%s/blobs/%s.incomplete", p->store.folder, etag));
    blob b = { .p = p, .file = file, .size = size, .fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644) };
    if (b.fd < 0 || fstat(b.fd, &st)) {
        tk_status s = tk__hub_fail_errno("create", path);
        if (b.fd >= 0) close(b.fd);
        return s;
    }
    bool same = false, resumed = st.st_size > 0 && (uint64_t)st.st_size <= size;
    b.at = resumed ? (uint64_t)st.st_size : 0;
    tk_status s = ftruncate(b.fd, (off_t)b.at) ? tk__hub_fail_errno("write", path)
                                               : tk__hub_need_space(&p->store, size - b.at);
    if (s == TK_OK) s = fetch_rest(&b, url);
    if (s == TK_OK) s = tk__hub_check_hash(&p->store, b.fd, path, etag, &same);
    if (s == TK_OK && !same && resumed) { /* the older part may be what is wrong */
        s = start_blob(&b, 0);
        if (s == TK_OK) s = fetch_rest(&b, url);
        if (s == TK_OK) s = tk__hub_check_hash(&p->store, b.fd, path, etag, &same);
    }
    if (s == TK_OK && same) return tk__hub_commit_blob(&p->store, b.fd, etag);
    if (s == TK_OK) {
        unlink(path); /* worth nothing; we hold its lock */
        s = TK_FAIL(TK_E_FORMAT,
                    "%s arrived damaged\nits hash is not the %s that the server told\nrun the command again",
                    file, etag);
    }
    close(b.fd);
    return s;
}

static tk_status pull_file(pull *p, const char *file) {
    char *url, *escaped, *path;
    TK_TRY(escape(p, file, &escaped));
    TK_TRY(tk__hub_path(&p->store.arena, &url, "%s/%s/resolve/%s/%s", p->endpoint, p->name->repo, p->commit,
                        escaped));
    tk__http head = { .url = url, .token = p->token, .head = true };
    TK_TRY(do_patiently(p, &head));
    if (!is_hex(head.etag, 40) && !is_hex(head.etag, 64))
        return fail_answer(p, "a file's ETag is no hash, so its bytes could not be checked");
    if (head.size == UINT64_MAX) return fail_answer(p, "it does not tell a file's size");
    if (*head.commit && strcmp(head.commit, p->commit) != 0)
        return fail_answer(p, "a file is of another commit than the list");
    struct stat st;
    TK_TRY(tk__hub_path(&p->store.arena, &path, "%s/blobs/%s", p->store.folder, head.etag));
    int lock;
    TK_TRY(tk__hub_lock(&p->store, head.etag, &lock));
    tk_status s = TK_OK;
    if (stat(path, &st))
        s = fetch_blob(p, url, file, head.etag, head.size);
    else if ((uint64_t)st.st_size != head.size)
        s = TK_FAIL(TK_E_FORMAT,
                    "the cache holds a damaged copy of %s\nit has %lld bytes instead of %llu\n`tokamak rm "
                    "%s`, then pull again",
                    file, (long long)st.st_size, (unsigned long long)head.size, p->name->repo);
    if (s == TK_OK) s = tk__hub_link(&p->store, p->commit, file, head.etag);
    close(lock);
    return s;
}

static tk_status pull_all(pull *p) {
    tk__hub_files wanted = { 0 };
    TK_TRY(list_repository(p));
    TK_TRY(choose_files(p, &wanted));
    for (size_t i = 0; i < wanted.count; i++) TK_TRY(pull_file(p, wanted.names[i]));
    return tk__hub_set_ref(&p->store, p->commit);
}

tk_status tk__hub_pull_hf(const tk__hub_name *n, const tk_hub_watch *watch) {
    pull p = { .name = n, .token = getenv("HF_TOKEN") };
    const char *endpoint = getenv("HF_ENDPOINT");
    if (!endpoint || !*endpoint) endpoint = "https://huggingface.co";
    snprintf(p.endpoint, sizeof p.endpoint, "%s", endpoint);
    for (size_t i = strlen(p.endpoint); i && p.endpoint[i - 1] == '/';) p.endpoint[--i] = 0;
    if (p.token && !*p.token) p.token = NULL;
    for (const char *c = p.token; c && *c; c++)
        if (!isgraph((unsigned char)*c) || c - p.token > 500)
            return TK_FAIL(TK_E_USAGE, "HF_TOKEN is no token\nit is too long, or holds blanks or control "
                                       "characters\nset it again, without quotes or newlines");
    TK_TRY(tk__http_open(&p.http));
    tk_status s = tk__hub_store_open(&p.store, n->folder, watch);
    if (s == TK_OK) {
        s = pull_all(&p);
        tk__hub_store_close(&p.store);
    }
    tk__http_close(p.http);
    return s;
}
