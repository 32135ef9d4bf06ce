# SPDX-License-Identifier: Apache-2.0
"""What the makers of C tables share: how a header opens, and numbers in lines."""


def opening(maker):
    return f"/* SPDX-License-Identifier: Apache-2.0 */\n/* Made by tools/{maker}, which says where from and why. Do not edit. */\n"


def rows(values, width=110):
    line = "   "
    for v in values:
        if len(line) + len(str(v)) + 2 > width:
            yield line
            line = "   "
        line += f" {v},"
    yield line
