/* SPDX-License-Identifier: Apache-2.0 */
/* Writing into the cache: locks, hashes, blobs, links, refs. A blob is written under the name
 * ETAG.incomplete and gets its own name only when it is whole and its hash is right; links and refs are
 * made beside their place and renamed into it. So a reader, ours or Hugging Face's, never sees a half. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "hub/hub.h"

tk_status tk__hub_fail_errno(const char *verb, const char *path) {
    int e = errno;
    const char *advice = e == ENOSPC || e == EDQUOT ? "free some space, or set HF_HOME to a folder elsewhere"
                         : e == EROFS || e == EACCES || e == EPERM
                             ? "set HF_HOME to a folder that you may write"
                         : e == ENOENT ? "check the name"
                                       : "see the system's log";
    return TK_FAIL(e == ENOENT ? TK_E_NOTFOUND : TK_E_IO, "cannot %s %s\n%s\n%s", verb, path, strerror(e),
                   advice);
}

/* mkdir -p with this folder's advice on failure */
static tk_status make_folder(const char *path) {
    if (tk_file_is_dir(path) || tk_mkdirs(path) == TK_OK) return TK_OK;
    int e = errno; /* of mkdir, the last call that failed */
    if (tk_file_exists(path))
        return TK_FAIL(
            TK_E_IO, "cannot create folder %s\nsomething else has that name\nset HF_HOME to a folder", path);
    errno = e ? e : EIO;
    return tk__hub_fail_errno("create folder", path);
}

tk_status tk__hub_store_open(tk__hub_store *s, const char *folder, const tk_hub_watch *watch) {
    static const tk_hub_watch silent;
    static const char *const parts[] = { "blobs", "refs", "snapshots" };
    *s = (tk__hub_store){ .watch = watch ? watch : &silent };
    char *root = NULL, *path;
    tk_status st = tk_hub_root(&root);
    if (st == TK_OK) st = tk__hub_path(&s->arena, &s->root, "%s", root);
    if (st == TK_OK) st = tk__hub_path(&s->arena, &s->folder, "%s/%s", root, folder);
    free(root);
    if (st == TK_OK) s->name = strrchr(s->folder, '/') + 1;
    for (size_t i = 0; st == TK_OK && i < TK_COUNT(parts); i++) {
        st = tk__hub_path(&s->arena, &path, "%s/%s", s->folder, parts[i]);
        if (st == TK_OK) st = make_folder(path);
    }
    if (st != TK_OK) tk__hub_store_close(s);
    return st;
}

void tk__hub_store_close(tk__hub_store *s) { tk_arena_free(&s->arena); }

tk_status tk__hub_lock(tk__hub_store *s, const char *etag, int *fd) {
    char *folder, *path;
    TK_TRY(tk__hub_path(&s->arena, &folder, "%s/.locks/%s", s->root, s->name));
    TK_TRY(make_folder(folder));
    TK_TRY(tk__hub_path(&s->arena, &path, "%s/%s.lock", folder, etag));
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (*fd < 0) return tk__hub_fail_errno("create", path);
    bool said = false;
    while (flock(*fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            tk_status st = tk__hub_fail_errno("lock", path);
            close(*fd);
            return st;
        }
        if (!said && s->watch->say)
            s->watch->say(s->watch->arg, "another process is fetching this file; waiting for it");
        said = true;
        usleep(100000);
    }
    return TK_OK;
}

tk_status tk__hub_need_space(tk__hub_store *s, uint64_t bytes) {
    struct statvfs v;
    if (statvfs(s->folder, &v)) return tk__hub_fail_errno("look at", s->folder);
    uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
    if (bytes <= room) return TK_OK;
    return TK_FAIL(TK_E_IO,
                   "not enough disk space in %s\n%llu more bytes are needed, %llu are free\nfree some space, "
                   "or set HF_HOME to a "
                   "folder elsewhere",
                   s->root, (unsigned long long)bytes, (unsigned long long)room);
}

tk_status tk__hub_check_hash(tk__hub_store *s, int fd, const char *what, const char *etag, bool *same) {
    struct stat st;
    if (fstat(fd, &st)) return tk__hub_fail_errno("read", what);
    bool git = strlen(etag) == 40;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    char head[32];
    bool ok = md && EVP_DigestInit_ex(md, git ? EVP_sha1() : EVP_sha256(), NULL);
    if (ok && git) /* git hashes "blob SIZE", a zero byte, then the bytes */
        ok = EVP_DigestUpdate(md, head,
                              1 + (size_t)snprintf(head, sizeof head, "blob %lld", (long long)st.st_size));
    const size_t chunk = 1 << 20;
    char *bytes = malloc(chunk);
    ssize_t n = 0;
    for (off_t at = 0; ok && bytes; at += n) {
        n = pread(fd, bytes, chunk, at);
        if (n <= 0) break;
        ok = EVP_DigestUpdate(md, bytes, (size_t)n);
        if (st.st_size > 64 << 20 && s->watch->progress)
            s->watch->progress(s->watch->arg, "checking the hash", (uint64_t)(at + n), (uint64_t)st.st_size);
    }
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    ok = ok && bytes && n == 0 && EVP_DigestFinal_ex(md, digest, &len);
    EVP_MD_CTX_free(md);
    free(bytes);
    if (n < 0) return tk__hub_fail_errno("read", what);
    if (!ok) return TK_FAIL(TK_E_INTERNAL, "cannot compute a hash\nlibcrypto refused\nreport this");
    char hex[2 * EVP_MAX_MD_SIZE + 1] = "";
    for (unsigned i = 0; i < len; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    *same = !strcmp(hex, etag);
    return TK_OK;
}

tk_status tk__hub_commit_blob(tk__hub_store *s, int fd, const char *etag) {
    char *from = NULL, *to = NULL;
    tk_status st = TK_OK;
    if (fsync(fd)) st = tk__hub_fail_errno("write", s->folder);
    if (close(fd) && st == TK_OK) st = tk__hub_fail_errno("write", s->folder);
    if (st == TK_OK) st = tk__hub_path(&s->arena, &from, "%s/blobs/%s.incomplete", s->folder, etag);
    if (st == TK_OK) st = tk__hub_path(&s->arena, &to, "%s/blobs/%s", s->folder, etag);
    if (st == TK_OK && rename(from, to)) st = tk__hub_fail_errno("create", to);
    return st;
}

tk_status tk__hub_link(tk__hub_store *s, const char *commit, const char *file, const char *etag) {
    char *path, *folder, *target, *temporary, up[512] = "../../";
    size_t at = strlen(up);
    for (const char *c = file; *c && at + 4 < sizeof up; c++)
        if (*c == '/') at += (size_t)snprintf(up + at, sizeof up - at, "../");
    TK_TRY(tk__hub_path(&s->arena, &path, "%s/snapshots/%s/%s", s->folder, commit, file));
    TK_TRY(tk__hub_path(&s->arena, &folder, "%.*s", (int)(strrchr(path, '/') - path), path));
    TK_TRY(tk__hub_path(&s->arena, &target, "%sblobs/%s", up, etag));
    TK_TRY(tk__hub_path(&s->arena, &temporary, "%s.%d.tmp", path, (int)getpid()));
    TK_TRY(make_folder(folder));
    struct stat st;
    if (!lstat(path, &st) && !S_ISLNK(st.st_mode))
        return TK_OK; /* a real file that somebody put there: theirs */
    unlink(temporary);
    if (symlink(target, temporary)) return tk__hub_fail_errno("create", temporary);
    if (rename(temporary, path)) {
        tk_status fail = tk__hub_fail_errno("create", path);
        unlink(temporary);
        return fail;
    }
    return TK_OK;
}

tk_status tk__hub_set_ref(tk__hub_store *s, const char *commit) {
    char *path;
    TK_TRY(tk__hub_path(&s->arena, &path, "%s/refs/main", s->folder));
    return tk_file_write(path, commit, strlen(commit));
}
