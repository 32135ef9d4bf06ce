/* SPDX-License-Identifier: Apache-2.0 */
/* doctor: what Tokamak sees of this machine, and how fast its memory is. Every fact is said once and shown
 * either as a table or as JSON. What is absent (a GPU, huge pages) is a finding, not a failure. */
#include <dlfcn.h>
#include <hwloc.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cpu/cpu.h"
#include "hub/hub.h"

typedef struct report {
    json_t *root;
    cli_table table;
} report;

/* Adds one finding: a row "group key" with words for people, and group.key = value (owned) in the JSON. */
static void finding(report *r, const char *group, const char *key, json_t *value, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
static void finding(report *r, const char *group, const char *key, json_t *value, const char *fmt, ...) {
    char text[600], shown[64];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_t *object = json_object_get(r->root, group);
    if (!object) {
        object = json_object();
        json_object_set_new(r->root, group, object);
    }
    json_object_set_new(object, key, value);
    snprintf(shown, sizeof shown, "%s %s", group, key);
    for (char *c = shown; *c; c++)
        if (*c == '_') *c = ' ';
    cli_cell(&r->table, "%s", shown);
    cli_cell(&r->table, "%s", text);
}

/* The first line of a small file, without its end; "" when there is none. */
static void first_line(const char *path, char *out, size_t room) {
    FILE *f = fopen(path, "re");
    *out = 0;
    if (!f) return;
    if (!fgets(out, (int)room, f)) *out = 0;
    out[strcspn(out, "\n")] = 0;
    fclose(f);
}

/* The text behind "key :" in a file of such lines. */
static void value_of(const char *path, const char *key, char *out, size_t room) {
    FILE *f = fopen(path, "re");
    char line[512];
    *out = 0;
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, key, strlen(key)) != 0) continue;
        colon += 1 + strspn(colon + 1, " \t");
        snprintf(out, room, "%.*s", (int)strcspn(colon, "\n"), colon);
        break;
    }
    if (f) fclose(f);
}

/* ---- CPU and memory -------------------------------------------------------------------------------------
 */

static const struct {
    unsigned bit;
    const char *name, *tier;
} features[] = {
    { TK_CPU_AVX2, "avx2+fma+f16c", "avx2" },
    { TK_CPU_AVX512, "avx512+vnni", "avx512" },
    { TK_CPU_BF16, "avx512-bf16", "avx512" },
    { TK_CPU_AMX, "amx", "amx" },
};

static void add_features(report *r) {
    unsigned have = tk_cpu_features();
    const char *tier = "plain", *forced = getenv("TOKAMAK_CPU");
    char text[200] = "none";
    size_t n = 0;
    json_t *array = json_array();
    for (size_t i = 0; i < TK_COUNT(features); i++) {
        if (!(have & features[i].bit)) continue;
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n ? ", " : "", features[i].name);
        json_array_append_new(array, json_string(features[i].name));
        tier = features[i].tier;
    }
    finding(r, "cpu", "features", array, "%s", text);
    finding(r, "cpu", "tier", json_string(tier), "%s%s%s%s", tier, forced ? " (TOKAMAK_CPU=" : "",
            forced ? forced : "", forced ? ")" : "");
}

static void add_topology(report *r) {
    hwloc_topology_t t;
    finding(r, "cpu", "usable_cpus", json_integer(tk_cpu_count()), "%d", tk_cpu_count());
    if (hwloc_topology_init(&t)) return;
    if (!hwloc_topology_load(t)) {
        int packages = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_PACKAGE),
            cores = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_CORE);
        int pus = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_PU),
            nodes = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_NUMANODE);
        finding(r, "cpu", "topology",
                json_pack("{s:i, s:i, s:i, s:i}", "packages", packages, "numa_nodes", nodes, "cores", cores,
                          "threads", pus),
                "%d package%s, %d NUMA node%s, %d core%s, %d hardware thread%s", packages,
                packages == 1 ? "" : "s", nodes, nodes == 1 ? "" : "s", cores, cores == 1 ? "" : "s", pus,
                pus == 1 ? "" : "s");
        static const struct {
            hwloc_obj_type_t type;
            const char *key;
        } caches[] = { { HWLOC_OBJ_L1CACHE, "cache_l1d" },
                       { HWLOC_OBJ_L2CACHE, "cache_l2" },
                       { HWLOC_OBJ_L3CACHE, "cache_l3" } };
        for (size_t i = 0; i < TK_COUNT(caches); i++) {
            int n = hwloc_get_nbobjs_by_type(t, caches[i].type);
            hwloc_obj_t o = n > 0 ? hwloc_get_obj_by_type(t, caches[i].type, 0) : NULL;
            if (o)
                finding(r, "cpu", caches[i].key,
                        json_pack("{s:i, s:I}", "count", n, "bytes", (json_int_t)o->attr->cache.size),
                        "%d x %llu KiB", n, (unsigned long long)o->attr->cache.size >> 10);
        }
    }
    hwloc_topology_destroy(t);
}

static tk_status add_bandwidth(report *r) {
    int all = tk_cpu_count();
    for (int threads = 1;; threads = all) {
        tk_pool *pool;
        double speed;
        TK_TRY(tk_pool_new(&pool, threads, true));
        tk_status s = tk_measure_read(pool, 0, 5, &speed);
        tk_pool_free(pool);
        TK_TRY(s);
        finding(r, "memory", threads == all && all > 1 ? "read_all_threads" : "read_1_thread",
                cli_json_real(speed), "%.1f GB/s (%d thread%s)", speed / 1e9, threads,
                threads == 1 ? "" : "s");
        if (threads == all) return TK_OK;
    }
}

static tk_status add_memory(report *r) {
    size_t total = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE),
           available = tk_mem_available();
    char thp[100], mode[16] = "none", pages[32];
    finding(r, "memory", "total", json_integer((json_int_t)total), "%s", cli_bytes((double)total));
    finding(r, "memory", "available", json_integer((json_int_t)available), "%s",
            cli_bytes((double)available));
    first_line("/sys/kernel/mm/transparent_hugepage/enabled", thp, sizeof thp); /* "always [madvise] never" */
    char *open = strchr(thp, '[');
    if (open) snprintf(mode, sizeof mode, "%.*s", (int)strcspn(open + 1, "]"), open + 1);
    finding(r, "memory", "huge_pages", json_string(mode), "%s%s", mode,
            strcmp(mode, "never") != 0 && strcmp(mode, "none") != 0 ? " (transparent)"
                                                                    : "; weights then cost more TLB misses");
    value_of("/proc/meminfo", "HugePages_Total", pages, sizeof pages);
    const long long reserved = strtoll(pages, NULL, 10);
    finding(r, "memory", "reserved_huge_pages", json_integer(reserved), "%lld", reserved);
    return add_bandwidth(r);
}

/* ---- cache folder ------------------------------------------------------------------------------------- */

/* The deepest folder on the way to `path` that exists: where it would be made. */
static void nearest_folder(char *path) {
    while (!tk_file_is_dir(path)) {
        char *slash = strrchr(path, '/');
        if (!slash)
            strcpy(path, ".");
        else
            slash[slash == path] = 0;
    }
}

static tk_status add_cache(report *r) {
    char *root;
    struct statvfs v;
    TK_TRY(tk_hub_root(&root));
    bool there = tk_file_is_dir(root);
    finding(r, "models", "folder", json_string(root), "%s%s", root, there ? "" : " (made by the first pull)");
    nearest_folder(root);
    bool writable = !access(root, W_OK | X_OK);
    finding(r, "models", "writable", json_boolean(writable), "%s",
            writable ? "yes" : "no: set HF_HOME to a folder that you may write");
    if (!statvfs(root, &v)) {
        uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
        finding(r, "models", "free_space", json_integer((json_int_t)room), "%s", cli_bytes((double)room));
    }
    free(root);
    tk_hub_list list;
    TK_TRY(tk_hub_list_all(&list));
    finding(r, "models", "count", json_integer((json_int_t)list.count), "%zu", list.count);
    tk_hub_list_free(&list);
    return TK_OK;
}

/* ---- GPU ------------------------------------------------------------------------------------------------
 */

/* The few driver calls that this needs, by their documented C signatures; the driver is loaded at run time
 * so that one build serves machines with and without it. */
typedef struct driver {
    int (*init)(unsigned);
    int (*version)(int *);
    int (*count)(int *);
    int (*get)(int *, int);
    int (*name)(char *, int, int);
    int (*memory)(size_t *, int);
    int (*attribute)(int *, int, int);
} driver;
enum { ATTRIBUTE_MAJOR = 75, ATTRIBUTE_MINOR = 76, ATTRIBUTE_SMS = 16 };

static bool load_driver(void *lib, driver *d) {
    const struct {
        void *slot;
        const char *name;
    } rows[] = {
        { &d->init, "cuInit" },
        { &d->version, "cuDriverGetVersion" },
        { &d->count, "cuDeviceGetCount" },
        { &d->get, "cuDeviceGet" },
        { &d->name, "cuDeviceGetName" },
        { &d->memory, "cuDeviceTotalMem_v2" },
        { &d->attribute, "cuDeviceGetAttribute" },
    };
    for (size_t i = 0; i < TK_COUNT(rows); i++) {
        void *f = dlsym(lib, rows[i].name);
        if (!f) return false;
        memcpy(rows[i].slot, &f, sizeof f); /* ISO C has no cast from void * to a function */
    }
    return true;
}

static void add_device(report *r, const driver *d, int i) {
    int device, major = 0, minor = 0, sms = 0;
    size_t bytes = 0;
    char name[128] = "?", key[16], compute[32];
    if (d->get(&device, i)) return;
    d->name(name, sizeof name - 1, device);
    d->memory(&bytes, device);
    d->attribute(&major, ATTRIBUTE_MAJOR, device);
    d->attribute(&minor, ATTRIBUTE_MINOR, device);
    d->attribute(&sms, ATTRIBUTE_SMS, device);
    snprintf(key, sizeof key, "%d", i);
    snprintf(compute, sizeof compute, "%d.%d", major, minor);
    finding(r, "gpu", key,
            json_pack("{s:s, s:I, s:s, s:i}", "name", name, "bytes", (json_int_t)bytes, "compute", compute,
                      "sms", sms),
            "%s, %s, compute %s, %d SMs", name, cli_bytes((double)bytes), compute, sms);
}

static void add_gpu(report *r) {
    driver d;
    int version = 0, count = 0, code = 0;
    void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        finding(r, "gpu", "driver", json_null(), "no CUDA driver");
    else if (!load_driver(lib, &d))
        finding(r, "gpu", "driver", json_null(), "libcuda.so.1 is no CUDA driver that is known");
    else if ((code = d.init(0)) || (code = d.count(&count)))
        finding(r, "gpu", "driver", json_null(), "CUDA driver without a usable GPU (error %d)", code);
    else {
        d.version(&version);
        finding(r, "gpu", "driver", json_integer(version), "CUDA %d.%d, %d GPU%s", version / 1000,
                version % 1000 / 10, count, count == 1 ? "" : "s");
        for (int i = 0; i < count; i++) add_device(r, &d, i);
    }
    /* never closed: the driver has threads of its own */
}

const cli_option options_doctor[] = {
    { "--supported", CLI_FLAG, NULL, NULL, "what the code reads and computes, as README's tables" },
    { .include = cli_json_options },
    { 0 },
};
tk_status cmd_doctor(const cli_args *a) {
    if (cli_flag(a, "--supported")) return cli_supported(cli_flag(a, "--json"));
    report r = { json_object(), cli_table_new("WHAT|FINDING") };
    char model[200];
    finding(&r, "tokamak", "version", json_string(TK_VERSION), TK_VERSION);
    value_of("/proc/cpuinfo", "model name", model, sizeof model);
    finding(&r, "cpu", "model", json_string(model), "%s", *model ? model : "unknown");
    add_features(&r);
    add_topology(&r);
    tk_status s = add_memory(&r);
    if (s == TK_OK) s = add_cache(&r);
    if (s == TK_OK) add_gpu(&r);
    if (s == TK_OK && !cli_flag(a, "--json"))
        s = cli_table_print(&r.table);
    else if (s == TK_OK)
        s = cli_print_json(json_incref(r.root));
    tk_buf_free(&r.table.cells);
    json_decref(r.root);
    return s;
}
