/* SPDX-License-Identifier: Apache-2.0 */
/* Files: read-only maps, whole reads, and writes that are either complete or did not happen. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

static tk_status fail_errno(const char *verb, const char *path) {
    int e = errno;
    tk_status code = e == ENOENT || e == ENOTDIR ? TK_E_NOTFOUND : e == ENOMEM ? TK_E_NOMEM : TK_E_IO;
    const char *advice = e == ENOENT   ? "check the name"
                         : e == ENOSPC ? "free some space on that file system"
                         : e == EACCES || e == EROFS || e == EPERM
                             ? "check the permissions of the file and its folder"
                             : "see the system's log";
    return TK_FAIL(code, "cannot %s %s\n%s\n%s", verb, path, strerror(e), advice);
}

/* Opens a regular file for reading; *size from fstat. */
static tk_status open_regular(const char *path, int *fd, size_t *size) {
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) return fail_errno("open", path);
    struct stat st;
    tk_status s = TK_OK;
    if (fstat(*fd, &st))
        s = fail_errno("stat", path);
    else if (!S_ISREG(st.st_mode))
        s = TK_FAIL(TK_E_USAGE, "cannot read %s\nit is %s, not a file", path,
                    S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    if (s != TK_OK) {
        close(*fd);
        return s;
    }
    *size = (size_t)st.st_size;
    return TK_OK;
}

tk_status tk_map_open(tk_map *m, const char *path) {
    *m = (tk_map){ 0 };
    int fd;
    size_t size = 0;
    TK_TRY(open_regular(path, &fd, &size));
    void *p = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    if (p == MAP_FAILED) {
        tk_status s = fail_errno("map", path);
        close(fd);
        return s;
    }
    close(fd);
    static const char lfs[] = "version https://git-lfs";
    if (size >= sizeof lfs - 1 && !memcmp(p, lfs, sizeof lfs - 1)) {
        munmap(p, size);
        return TK_FAIL(TK_E_FORMAT,
                       "%s holds no data\nit is a Git-LFS pointer: the real file was never fetched\n"
                       "run `git lfs pull` in its repository, or download the file itself",
                       path);
    }
    char *copy = strdup(path);
    if (!copy) {
        if (p) munmap(p, size);
        return TK_FAIL(TK_E_NOMEM, "out of memory");
    }
    *m = (tk_map){ p, size, copy };
    return TK_OK;
}

void tk_map_close(tk_map *m) {
    if (m->data) munmap((void *)m->data, m->size);
    free(m->path);
    *m = (tk_map){ 0 };
}

void tk_map_release(const tk_map *m, const void *from, size_t bytes) {
    const uintptr_t page = 4096;
    uintptr_t base = (uintptr_t)m->data, a = (uintptr_t)from, b = a + bytes;
    if (!m->data || a < base || b > base + m->size) return;
    a = (a + page - 1) & ~(page - 1), b &= ~(page - 1);
    if (a < b) madvise((void *)a, b - a, MADV_DONTNEED);
}

tk_status tk_file_read(tk_buf *b, const char *path, size_t limit) {
    int fd;
    size_t size = 0;
    TK_TRY(open_regular(path, &fd, &size));
    if (size > limit) {
        close(fd);
        return TK_FAIL(TK_E_LIMIT, "%s is too large\nit has %zu bytes, the limit is %zu", path, size, limit);
    }
    char chunk[65536];
    tk_status s = TK_OK;
    for (size_t left = limit + 1; s == TK_OK;) { /* the file may grow while it is read */
        ssize_t n = read(fd, chunk, TK_MIN(sizeof chunk, left));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) s = fail_errno("read", path);
        if (n <= 0) break;
        tk_buf_put(b, chunk, (size_t)n);
        left -= (size_t)n;
        if (!left) s = TK_FAIL(TK_E_LIMIT, "%s is too large\nthe limit is %zu bytes", path, limit);
    }
    close(fd);
    if (s == TK_OK && !b->data) tk_buf_put(b, "", 0); /* an empty file is an empty string, not NULL */
    return s == TK_OK ? tk_buf_check(b) : s;
}

static tk_status write_all(int fd, const char *path, const char *data, size_t n) {
    for (size_t done = 0; done < n;) {
        ssize_t w = write(fd, data + done, n - done);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return fail_errno("write", path);
        done += (size_t)w;
    }
    return TK_OK;
}

/* Devices and pipes are written where they are: a rename would put a file in the place of /dev/null. */
static tk_status write_in_place(const char *path, const void *data, size_t n) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno("open", path);
    tk_status s = write_all(fd, path, data, n);
    if (close(fd) && s == TK_OK) s = fail_errno("write", path);
    return s;
}

tk_status tk_file_write(const char *path, const void *data, size_t n) {
    struct stat st;
    if (!stat(path, &st) && !S_ISREG(st.st_mode)) return write_in_place(path, data, n);
    char *tmp = NULL;
    if (asprintf(&tmp, "%s.%d.tmp", path, (int)getpid()) < 0) return TK_FAIL(TK_E_NOMEM, "out of memory");
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    tk_status s = fd < 0 ? fail_errno("create", tmp) : write_all(fd, path, data, n);
    if (s == TK_OK && fsync(fd)) s = fail_errno("write", path);
    if (fd >= 0 && close(fd) && s == TK_OK) s = fail_errno("write", path);
    if (s == TK_OK && rename(tmp, path)) s = fail_errno("rename to", path);
    if (s != TK_OK && fd >= 0) unlink(tmp);
    free(tmp);
    if (s != TK_OK) return s;
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    int dfd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dfd >= 0) {
        fsync(dfd); /* best effort: some file systems refuse to sync folders */
        close(dfd);
    }
    free(dir);
    return TK_OK;
}

bool tk_file_exists(const char *path) {
    struct stat st;
    return !stat(path, &st);
}

bool tk_file_is_dir(const char *path) {
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

tk_status tk_mkdirs(const char *path) {
    char *p = strdup(path);
    if (!p) return TK_FAIL(TK_E_NOMEM, "out of memory");
    tk_status s = TK_OK;
    for (char *c = p + 1; s == TK_OK; c++) {
        if (*c != '/' && *c) continue;
        char keep = *c;
        *c = 0;
        if (mkdir(p, 0755) && errno != EEXIST)
            s = fail_errno("create folder", p);
        else if (!tk_file_is_dir(p))
            s = TK_FAIL(TK_E_IO, "cannot create folder %s\nsomething else has that name", p);
        *c = keep;
        if (!keep) break;
    }
    free(p);
    return s;
}
