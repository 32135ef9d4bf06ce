# SPDX-License-Identifier: Apache-2.0
"""Judge of llama2.c's checkpoint: the greedy text of stories260K from the begin token alone is llama2.c's own, up to the
final newline. Needs $TOKAMAK_SHARED (or ../shared). Run: PYTHON tools/judge_stories.py [--build build]"""
import argparse
import os
import pathlib

from judge_common import ROOT, Report, Tokamak


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--build", default="build")
    args = args.parse_args()
    folder = pathlib.Path(os.environ.get("TOKAMAK_SHARED", ROOT / ".." / "shared")) / "models" / "stories260k"
    report = Report("stories")
    if not folder.exists():
        print(f"skipped: no shared files ({folder})")
        report.exit()
    got = Tokamak(args.build).text("run", folder / "stories260K.bin", "--tokenizer", folder / "tok512.bin", "--raw", "-p", "", "--temp", "0", "-n", "200")
    want = (folder / "greedy200.txt").read_text()
    report.figure("greedy text", "the same" if got.rstrip("\n") == want.rstrip("\n") else "differs", "llama2.c's", got.rstrip("\n") == want.rstrip("\n"))
    report.exit()


main()
