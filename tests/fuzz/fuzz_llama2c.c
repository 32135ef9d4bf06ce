/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes are a file of unknown kind; what no other reader takes is read as a llama2.c checkpoint. */
#include "fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int fd;
    fuzz_open(fuzz_path(data, size, &fd), false);
    close(fd);
    return 0;
}
