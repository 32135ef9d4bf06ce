/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled tokenizers: what took the time in reading a large tokenizer.json, kept as a file that is mapped
 * and used where it lies. It holds the maps of pieces and merges and the rest of the document; everything
 * else is read from that rest as always, so a cache knows nothing of stages. A file is named by the hash of
 * the tokenizer.json's bytes, is written aside and renamed, and is believed only if its checksum is right and
 * every index in it is within bounds; otherwise it counts as missing. Nothing here fails: without a cache, or
 * a folder that can be written, loading only takes longer. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "text/tokenizer.h"

enum { FORMAT = 1, ALIGN = 64 };

/* One part of the file */
typedef struct span {
    uint64_t at, n; /* bytes */
} span;

typedef struct head {
    char magic[8];
    uint32_t format, endian;
    uint8_t key[16];
    uint64_t size, checksum; /* of the file */
    uint64_t ids_seed, merges_seed, n_merges;
    span rest, text, entries, slots, merges;
} head;

/* A piece: bytes [at, at + n) of the text */
typedef struct entry {
    uint32_t at, n;
    int32_t id;
} entry;

struct tk__image {
    uint8_t *data;
    size_t size;
};

static const char magic[8] = "tktoken";

void tk__image_free(tk__image *m) {
    if (!m) return;
    munmap(m->data, m->size);
    free(m);
}

tk_str tk__image_rest(const tk__image *m) {
    const head *h = (const head *)m->data;
    return (tk_str){ (const char *)m->data + h->rest.at, (size_t)h->rest.n };
}

/* ---- names ----------------------------------------------------------------------------------------------
 */

char *tk__cache_folder(void) {
    const char *own = getenv("TOKAMAK_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *path = NULL;
    int n = own && *own     ? asprintf(&path, "%s/tokenizers", own)
            : xdg && *xdg   ? asprintf(&path, "%s/tokamak/tokenizers", xdg)
            : home && *home ? asprintf(&path, "%s/.cache/tokamak/tokenizers", home)
                            : -1;
    return n < 0 ? NULL : path;
}

static void make_key(uint8_t key[16], tk_str text) {
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits(text.s, text.n));
    memcpy(key, c.digest, 16);
}

static char *file_of(const char *folder, const uint8_t key[16], const char *suffix) {
    char hex[33], *path = NULL;
    for (int i = 0; i < 16; i++) snprintf(hex + 2 * i, 3, "%02x", key[i]);
    return asprintf(&path, "%s/%s.%d%s", folder, hex, FORMAT, suffix) < 0 ? NULL : path;
}

/* Of all bytes, the checksum's own as zeros */
static uint64_t checksum(const void *data, size_t size) {
    head h;
    memcpy(&h, data, sizeof h);
    h.checksum = 0;
    return XXH3_64bits_withSeed((const char *)data + sizeof h, size - sizeof h, XXH3_64bits(&h, sizeof h));
}

/* ---- reading --------------------------------------------------------------------------------------------
 */

static bool fits(const head *h, span s, size_t each) {
    return s.at >= sizeof *h && s.at % ALIGN == 0 && s.at <= h->size && s.n <= h->size - s.at &&
           s.n % each == 0;
}

static bool power_of_two(uint64_t n) { return n && !(n & (n - 1)); }

static bool check_head(const head *h, size_t size) {
    return !memcmp(h->magic, magic, 8) && h->format == FORMAT && h->endian == 0x01020304 && h->size == size &&
           fits(h, h->rest, 1) && fits(h, h->text, 1) && fits(h, h->entries, sizeof(entry)) &&
           fits(h, h->slots, sizeof(int32_t)) && fits(h, h->merges, sizeof(tk__merge)) &&
           power_of_two(h->slots.n / sizeof(int32_t)) && power_of_two(h->merges.n / sizeof(tk__merge)) &&
           h->text.n <= UINT32_MAX && h->entries.n / sizeof(entry) < TK_ID_MAX;
}

/* Every index within bounds, and an empty slot in each map, or a search would not end. */
static bool check_body(const uint8_t *data) {
    const head *h = (const head *)data;
    const entry *e = (const void *)(data + h->entries.at);
    const char *text = (const char *)data + h->text.at;
    const int32_t *slot = (const void *)(data + h->slots.at);
    const tk__merge *m = (const void *)(data + h->merges.at);
    size_t n = h->entries.n / sizeof *e, n_slot = h->slots.n / sizeof *slot,
           n_merge = h->merges.n / sizeof *m;
    size_t used = 0, merged = 0;
    int32_t size = 0;
    for (size_t i = 0; i < n; i++) {
        if (e[i].at > h->text.n || e[i].n > h->text.n - e[i].at || e[i].id < 0 || e[i].id >= TK_ID_MAX)
            return false;
        if (!tk__utf8_valid(text + e[i].at, e[i].n)) return false;
        size = TK_MAX(size, e[i].id + 1);
    }
    for (size_t i = 0; i < n_slot; i++) {
        if (slot[i] < -1 || slot[i] >= (int32_t)n) return false;
        used += slot[i] >= 0;
    }
    bool fine = true;
    for (size_t i = 0; i < n_merge; i++) {
        bool some = m[i].left >= 0;
        merged += some;
        fine &= !some ||
                (m[i].left < size && m[i].right >= 0 && m[i].right < size && m[i].id >= 0 && m[i].id < size);
    }
    return fine && used == n && n <= n_slot / 2 && merged == h->n_merges && merged < n_merge;
}

tk__image *tk__image_open(const char *path, const uint8_t *key) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return NULL;
    void *p = MAP_FAILED;
    size_t size = 0;
    if (!fstat(fd, &st) && S_ISREG(st.st_mode) && (size_t)st.st_size > sizeof(head)) {
        size = (size_t)st.st_size;
        p = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    }
    close(fd);
    tk__image *m = p != MAP_FAILED ? malloc(sizeof *m) : NULL;
    const head *h = p;
    if (!m || !check_head(h, size) || (key && memcmp(h->key, key, 16) != 0) ||
        h->checksum != checksum(p, size) || !check_body(p)) {
        if (p != MAP_FAILED) munmap(p, size);
        free(m);
        return NULL;
    }
    *m = (tk__image){ p, size };
    return m;
}

tk_status tk__cache_adopt(tk_tokenizer *t, tk__image *image) {
    const head *h = (const head *)image->data;
    const entry *e = (const void *)(image->data + h->entries.at);
    const char *text = (const char *)image->data + h->text.at;
    size_t n = h->entries.n / sizeof *e, cap = h->slots.n / sizeof(int32_t);
    int32_t size = 0;
    for (size_t i = 0; i < n; i++) size = TK_MAX(size, e[i].id + 1);
    if (size) TK_TRY(tk__tokenizer_grow(t, size - 1));
    tk__pieces ids = { .n = n, .cap = cap, .seed = h->ids_seed, .borrowed = true };
    ids.entry = malloc(cap / 2 * sizeof *ids.entry);
    if (!ids.entry) return TK_FAIL(TK_E_NOMEM, "out of memory\na vocabulary of %zu tokens did not fit", n);
    ids.slot = (int32_t *)(void *)(image->data + h->slots.at);
    for (size_t i = 0; i < n; i++) {
        tk_str piece = { text + e[i].at, e[i].n };
        ids.entry[i].key = t->piece[e[i].id] = piece;
        ids.entry[i].id = e[i].id;
    }
    tk__pieces_free(&t->ids);
    t->ids = ids;
    t->merges = (tk__merges){ .slot = (tk__merge *)(void *)(image->data + h->merges.at),
                              .n = (size_t)h->n_merges,
                              .cap = h->merges.n / sizeof(tk__merge),
                              .seed = h->merges_seed,
                              .borrowed = true };
    return TK_OK;
}

void tk__cache_find(tk__big *b, tk_str text) {
    char *folder = tk__cache_folder(), *path;
    make_key(b->key, text);
    b->keyed = true;
    if (folder && (path = file_of(folder, b->key, ""))) {
        b->image = tk__image_open(path, b->key);
        free(path);
    }
    free(folder);
}

/* ---- writing --------------------------------------------------------------------------------------------
 */

static span put_part(tk_buf *b, const void *data, size_t n) {
    static const char zeros[ALIGN];
    tk_buf_put(b, zeros, (ALIGN - b->len % ALIGN) % ALIGN);
    span s = { b->len, n };
    tk_buf_put(b, data, n);
    return s;
}

static bool build(tk_buf *out, const tk_tokenizer *t, const tk__big *big) {
    head h = { .format = FORMAT, .endian = 0x01020304 };
    tk_buf text = { 0 };
    entry *e = malloc((t->ids.n + 1) * sizeof *e);
    if (!e) return false;
    for (size_t i = 0; i < t->ids.n; i++) {
        tk_str key = t->ids.entry[i].key;
        e[i] = (entry){ (uint32_t)text.len, (uint32_t)key.n, t->ids.entry[i].id };
        tk_buf_put(&text, key.s, key.n);
    }
    memcpy(h.magic, magic, 8);
    memcpy(h.key, big->key, 16);
    h.ids_seed = t->ids.seed, h.merges_seed = t->merges.seed, h.n_merges = t->merges.n;
    tk_buf_put(out, &h, sizeof h);
    h.rest = put_part(out, big->rest.data, big->rest.len);
    h.text = put_part(out, text.data, text.len);
    h.entries = put_part(out, e, t->ids.n * sizeof *e);
    h.slots = put_part(out, t->ids.slot, t->ids.cap * sizeof *t->ids.slot);
    h.merges = put_part(out, t->merges.slot, t->merges.cap * sizeof *t->merges.slot);
    free(e);
    bool ok = !text.failed && !out->failed && text.len <= UINT32_MAX;
    tk_buf_free(&text);
    if (!ok) return false;
    h.size = out->len;
    memcpy(out->data, &h, sizeof h);
    h.checksum = checksum(out->data, out->len);
    memcpy(out->data, &h, sizeof h);
    return true;
}

static bool write_aside(const char *path, const tk_buf *b) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return false;
    size_t done = 0;
    for (ssize_t w; done < b->len; done += (size_t)w)
        if ((w = write(fd, b->data + done, b->len - done)) <= 0) break;
    return !close(fd) && done == b->len;
}

void tk__cache_write(const tk_tokenizer *t, const tk__big *big) {
    char *folder = tk__cache_folder(), suffix[32];
    snprintf(suffix, sizeof suffix, ".%ld.new", (long)getpid());
    char *path = folder ? file_of(folder, big->key, "") : NULL,
         *aside = path ? file_of(folder, big->key, suffix) : NULL;
    tk_buf b = { 0 };
    if (aside && tk_mkdirs(folder) == TK_OK && build(&b, t, big) &&
        !(write_aside(aside, &b) && !rename(aside, path)))
        unlink(aside);
    tk_buf_free(&b);
    free(aside);
    free(path);
    free(folder);
}
