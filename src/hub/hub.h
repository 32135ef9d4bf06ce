/* SPDX-License-Identifier: Apache-2.0 */
/* Models by name: what is in the local cache, and how to bring what is not. The cache is Hugging Face's own
 * folder in its own layout, so that its tools and ours share every download:
 *     ROOT/models--ORG--REPO/blobs/ETAG                    the bytes; ETAG is their hash
 *                           /blobs/ETAG.incomplete         a download under way, resumed by the next
 *                           /refs/main                     the commit that `main` was
 *                           /snapshots/COMMIT/FILE         symlink to ../../blobs/ETAG
 *     ROOT/.locks/models--ORG--REPO/ETAG.lock              flock'ed while ETAG is written
 * Servers are hostile until checked: names become paths only after tk__hub_safe_path, sizes are bounded
 * before they are read, and a blob gets its name only when its hash is right. */
#ifndef TK_HUB_H
#define TK_HUB_H
#include "base/base.h"

/* ---- for callers ------------------------------------------------------------------------------------- */

/* Told while a pull runs; either may be NULL. */
typedef struct tk_hub_watch {
    void (*progress)(void *arg, const char *file, uint64_t done, uint64_t total);
    void (*say)(void *arg, const char *text);
    void *arg;
} tk_hub_watch;

typedef struct tk_hub_entry {
    char *name; /* what resolve takes: "smollm2", "org/repo", "org/repo:file.gguf" */
    char *path;
    uint64_t bytes;
    int64_t modified; /* Unix seconds */
    bool complete;    /* false: a folder with no usable model in it */
} tk_hub_entry;
typedef struct tk_hub_list {
    tk_hub_entry *entries;
    size_t count;
    tk_arena arena; /* owns all of it */
} tk_hub_list;

/* A MODEL word -> a path. What exists as a path is that path; else a pulled model. TK_E_NOTFOUND tells what
 * to do. The caller frees *path. */
tk_status tk_hub_resolve(const char *name, char **path);
/* Whether `name` is something that pull could bring (it does not ask the network). */
bool tk_hub_is_name(const char *name);
/* Brings NAME, hf:ORG/REPO[:FILE] or ORG/REPO[:FILE] unless it is here; *path (caller frees) as in resolve.
 */
tk_status tk_hub_pull(const char *name, const tk_hub_watch *watch, char **path);
tk_status tk_hub_list_all(tk_hub_list *list);
void tk_hub_list_free(tk_hub_list *list);
/* Removes a pulled model; *freed is the bytes given back. ORG/REPO:FILE goes alone. With freed NULL it only
 * checks that there is something to remove. */
tk_status tk_hub_remove(const char *name, uint64_t *freed);
/* The cache folder (it need not exist); the caller frees. */
tk_status tk_hub_root(char **root);

/* ---- inside the folder ------------------------------------------------------------------------------- */

typedef struct tk__hub_model { /* a row of models.def */
    const char *name, *package, *version;
    uint64_t wheel_bytes;
    const char *member;
    uint64_t bytes;
    const char *sha256, *what;
} tk__hub_model;

typedef struct tk__hub_name {   /* a parsed name */
    const tk__hub_model *known; /* or NULL: from a hub */
    char repo[200];             /* "org/repo" */
    char folder[220];           /* "models--org--repo" */
    char file[1024];            /* "" if none was asked for */
} tk__hub_name;
/* A relative path with no "..", no control bytes, no empty parts, of sane length, in UTF-8. */
bool tk__hub_safe_path(const char *path);

typedef struct tk__hub_files {
    char **names; /* relative paths */
    size_t count, room;
} tk__hub_files;
tk_status tk__hub_files_add(tk_arena *arena, tk__hub_files *files, const char *name);
/* The files below a snapshot, broken links left out. */
tk_status tk__hub_files_in(tk_arena *arena, tk__hub_files *files, const char *folder);
bool tk__hub_ends(const char *s, const char *tail);
/* The model within a list of files: *picked is a GGUF, or NULL when the folder itself is the model. */
tk_status tk__hub_choose(const tk__hub_files *files, const char *want, const char *where,
                         const char **picked);

/* The files that make up the model `picked`: it alone, or, when it is one part of a split GGUF, all parts,
 * the first one last: while that is missing there is no such model. *missing is the first that `files` does
 * not have. */
tk_status tk__hub_parts(tk_arena *arena, const tk__hub_files *files, const char *picked, tk__hub_files *parts,
                        const char **missing);

/* printf into the arena, with a status */
tk_status tk__hub_path(tk_arena *arena, char **out, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Fails with errno's words; read-only and full file systems get advice of their own. */
tk_status tk__hub_fail_errno(const char *verb, const char *path);

/* A repository folder in which something is to be written (store.c). */
typedef struct tk__hub_store {
    tk_arena arena;
    char *root, *folder; /* ROOT, ROOT/models--... */
    const char *name;    /* "models--..." */
    const tk_hub_watch *watch;
} tk__hub_store;
tk_status tk__hub_store_open(tk__hub_store *s, const char *folder, const tk_hub_watch *watch);
void tk__hub_store_close(tk__hub_store *s);
/* Locks one blob against every other process; waits. *fd is closed to unlock. */
tk_status tk__hub_lock(tk__hub_store *s, const char *etag, int *fd);
/* snapshots/COMMIT/FILE -> blobs/ETAG, and refs/main -> COMMIT */
tk_status tk__hub_link(tk__hub_store *s, const char *commit, const char *file, const char *etag);
tk_status tk__hub_set_ref(tk__hub_store *s, const char *commit);
/* Fails unless `bytes` more fit on the cache's file system. */
tk_status tk__hub_need_space(tk__hub_store *s, uint64_t bytes);
/* The hash that names a blob: 64 hex digits are SHA-256, 40 are git's SHA-1 of a blob. *same tells if the
 * bytes of fd have it. */
tk_status tk__hub_check_hash(tk__hub_store *s, int fd, const char *what, const char *etag, bool *same);
/* blobs/ETAG.incomplete, complete and checked, becomes blobs/ETAG. Closes fd. */
tk_status tk__hub_commit_blob(tk__hub_store *s, int fd, const char *etag);

/* One HTTP exchange with redirects (http.c). */
typedef struct tk__http {
    /* asked */
    const char *url;
    const char *token; /* sent to the origin of `url` only; NULL: none */
    bool head; /* headers only; stops at a redirect to another origin, whose headers are then the answer */
    uint64_t from;  /* first byte wanted */
    uint64_t limit; /* longest body taken */
    tk_status (*sink)(void *arg, const void *bytes, size_t n);
    tk_status (*start)(void *arg, uint64_t at); /* the body begins at byte `at`: `from`, or 0 if refused */
    void *arg;
    /* answered */
    long status;
    char etag[80], commit[80], reason[128];
    uint64_t size; /* of the whole file; UINT64_MAX: not told */
    int retry_after;
    bool transient; /* failed, but may work when asked again */
} tk__http;
typedef struct tk__http_session tk__http_session;
tk_status tk__http_open(tk__http_session **out);
void tk__http_close(tk__http_session *s);
/* TK_OK only for a 2xx answer (or, for head, a redirect away) received in full. */
tk_status tk__http_do(tk__http_session *s, tk__http *r);

tk_status tk__hub_pull_hf(const tk__hub_name *n, const tk_hub_watch *watch); /* hf.c */
tk_status tk__hub_pull_wheel(const tk__hub_model *m, const tk__hub_name *n,
                             const tk_hub_watch *watch); /* wheel.c */
#endif
