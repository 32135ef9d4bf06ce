/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes are a GGUF file, opened as a model and as a vocabulary. */
#include "fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int fd;
    const char *path = fuzz_path(data, size, &fd);
    if (size > 4 && !memcmp(data, "GGUF", 4)) {
        fuzz_open(path, false);
        fuzz_open(path, true);
    }
    close(fd);
    return 0;
}
