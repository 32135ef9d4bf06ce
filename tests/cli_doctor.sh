#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# doctor on machines that this one is not: no driver, a driver that fails, a driver with two GPUs. The
# driver is a small library of our own with the driver API's names.
. tests/harness.sh
command -v cc >/dev/null || { echo "skipped: no compiler" && exit 77; }

cat >"$dir/driver.c" <<'C'
#include <stdlib.h>
#include <string.h>
int cuInit(unsigned flags) { return flags || getenv("FAKE_BROKEN") ? 100 : 0; }
int cuDriverGetVersion(int *v) { return *v = 12040, 0; }
int cuDeviceGetCount(int *n) { return *n = 2, 0; }
int cuDeviceGet(int *d, int i) { return *d = 40 + i, 0; }
int cuDeviceGetName(char *s, int n, int d) { return strncpy(s, d == 41 ? "Second GPU" : "First GPU", n), 0; }
int cuDeviceTotalMem_v2(size_t *b, int d) { return *b = (size_t)(d - 30) << 30, 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { return *v = a == 75 ? 9 : a == 76 ? 0 : a == 16 ? 132 : -1, d < 40; }
C
mkdir "$dir/real" "$dir/other"
cc -shared -fPIC -o "$dir/real/libcuda.so.1" "$dir/driver.c" || exit 1
echo 'int nothing;' >"$dir/other.c"
cc -shared -fPIC -o "$dir/other/libcuda.so.1" "$dir/other.c" || exit 1

works '"version": "' doctor --json
python3 - "$dir/out" <<'PY' || failures=$((failures + 1))
import json, os, sys
d = json.load(open(sys.argv[1]))
assert d["memory"]["read_1_thread"] > 1e8 and d["memory"]["total"] > d["memory"]["available"] > 0, d["memory"]
assert d["cpu"]["usable_cpus"] == len(os.sched_getaffinity(0)), d["cpu"]
assert d["models"]["writable"] and d["models"]["count"] == 0 and d["models"]["free_space"] > 0, d["models"]
flags = next((l for l in open("/proc/cpuinfo") if l.startswith("flags")), "").split()
assert ("avx2+fma+f16c" in d["cpu"]["features"]) == ({"avx2", "fma", "f16c"} <= set(flags)), d["cpu"]
PY
export LD_LIBRARY_PATH="$dir/real"
works 'Second GPU, 11.8 GB, compute 9.0, 132 SMs' doctor
FAKE_BROKEN=1 works 'without a usable GPU (error 100)' doctor
LD_LIBRARY_PATH="$dir/other" works 'no CUDA driver that is known' doctor
finish
