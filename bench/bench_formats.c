/* SPDX-License-Identifier: Apache-2.0 */
/* What each weight format loses: packs rows of random numbers, unpacks them and prints the error beside the
 * numbers' own size (root mean square over all values, and the largest error over its row's largest value).
 * Gaussian rows are what weights look like at their best; the heavy-tailed ones (a Gaussian times the
 * exponential of another) have outliers, as trained weights do. bench_formats                     the table
 *     bench_formats IN.f32 COLS OUT     packs rows from a file instead, into OUT/NAME.packed
 * (tools/judge_quantizers.py) */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

static bool is_weight_format(tk_dtype t) {
    return tk_formats[t].pack && tk_formats[t].group == 1 && t != TK_A8;
}

static float gaussian(uint64_t seed, uint32_t i) {
    uint32_t r[4], counter[4] = { i };
    tk_philox(r, seed, counter);
    return sqrtf(-2 * logf(tk_uniform(r[0]) + 0x1p-25f)) * cosf(6.2831853f * tk_uniform(r[1]));
}

typedef struct loss {
    double rmse, largest;
} loss;

static loss measure(tk_dtype t, bool heavy) {
    enum { COLS = 1024, ROWS = 256 };
    static float x[COLS], y[COLS];
    static uint8_t packed[COLS * 8];
    double off = 0, all = 0, worst = 0;
    for (uint32_t row = 0; row < ROWS; row++) {
        double top = 0, most = 0;
        for (uint32_t i = 0; i < COLS; i++)
            x[i] = gaussian(1, row * COLS + i) * (heavy ? expf(gaussian(2, row * COLS + i)) : 1);
        tk_formats[t].pack(packed, x, 1, COLS, 0);
        tk_formats[t].unpack(y, packed, 1, COLS, 0);
        for (int i = 0; i < COLS; i++) {
            const double d = (double)y[i] - (double)x[i];
            off += d * d, all += (double)x[i] * (double)x[i];
            top = fmax(top, fabs((double)x[i])), most = fmax(most, fabs(d));
        }
        worst = fmax(worst, most / top);
    }
    return (loss){ sqrt(off / all), worst };
}

static int pack_file(const char *in, int64_t cols, const char *out) {
    tk_buf b = { 0 };
    if (cols < 1 || tk_file_read(&b, in, 1 << 30) != TK_OK) return 1;
    const int64_t rows = (int64_t)(b.len / 4) / cols;
    for (int t = 0; t < TK_DTYPES; t++) {
        size_t bytes;
        char path[4096];
        if (!is_weight_format((tk_dtype)t) || !tk_format_size((tk_dtype)t, rows, cols, &bytes)) continue;
        uint8_t *m = malloc(bytes);
        if (!m) return 1;
        for (int64_t r = 0; r < rows; r++)
            tk_formats[t].pack(m, (const float *)(const void *)b.data + r * cols, rows, cols, r);
        snprintf(path, sizeof path, "%s/%s.packed", out, tk_formats[t].name);
        if (tk_file_write(path, m, bytes) != TK_OK) return 1;
        free(m);
    }
    tk_buf_free(&b);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 4) return pack_file(argv[1], atoll(argv[2]), argv[3]);
    printf("%-8s %6s  %22s  %22s\n", "", "", "Gaussian", "heavy tails");
    printf("%-8s %6s  %10s  %10s  %10s  %10s\n", "format", "bits", "rmse", "largest", "rmse", "largest");
    for (int t = 0; t < TK_DTYPES; t++) {
        if (!is_weight_format((tk_dtype)t)) continue;
        const loss usual = measure((tk_dtype)t, false), heavy = measure((tk_dtype)t, true);
        printf("%-8s %6.3f  %10.3g  %10.3g  %10.3g  %10.3g\n", tk_formats[t].name,
               8.0 * tk_formats[t].bytes / tk_formats[t].block, usual.rmse, usual.largest, heavy.rmse,
               heavy.largest);
    }
    return 0;
}
