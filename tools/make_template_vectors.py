#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/templates/vectors.json with jinja2 (PyPI) under Hugging Face's settings: what each snippet of
judge_templates.py and each template beside it renders to; and random.json: some of fuzz_templates.py's. Run: python3 tools/make_template_vectors.py"""
import json
import os
import random
import re

import fuzz_templates as fuzz
import judge_templates as judge

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(HERE, "tests", "data", "templates")


def keep(source, variables):
    """(expected or None) if the rendering can be compared, else raises KeyError"""
    want, why = judge.theirs(source, variables)
    if want is not None and (" at 0x" in want or re.search("[\ud800-\udfff]", want) or "TemplateReference" in want):
        raise KeyError
    if "strftime" in source or "1e400" in source or ".real" in source:
        raise KeyError
    return want, why


def random_cases(count):
    """[template, variables, text], of which every eighth fails (null)"""
    out, failing, i = [], 0, 0
    while len(out) < count:
        i += 1
        r = random.Random(i)
        source, variables = fuzz.template(r), fuzz.variables(r)
        want, why = judge.theirs(source, variables)
        if len(source) > 600 or " at 0x" in (want if why is None else why).lower() or "pprint" in source or "strftime" in source or variables["tools"] or re.search("[\ud800-\udfff]", want or ""):
            continue
        if want is None and failing * 8 > len(out):
            continue
        failing += want is None
        out.append([source, variables, want])
    return out


def main():
    renders, fails, seen = [], [], set()
    snippets = ["{{ " + e + " }}" for e in judge.split_expressions(judge.EXPRESSIONS)] + judge.STATEMENTS
    for source in snippets:
        if source in seen or len(source) > 700:
            continue
        seen.add(source)
        try:
            want, why = keep(source, judge.VARS)
        except KeyError:
            continue
        if want is not None:
            renders.append([source, want])
        elif source in judge.STATEMENTS or "UndefinedError" in why or "SecurityError" in why:
            fails.append([source, why[len("TemplateError: "):] if why.startswith("TemplateError: ") else ""])
    chats = []
    for name in sorted(n for n in os.listdir(FOLDER) if n.endswith(".jinja")):
        source = open(os.path.join(FOLDER, name)).read()
        for i, v in enumerate(judge.conversations()):
            want, why = judge.theirs(source, v)
            chats.append({"template": name, "conversation": i, "text": want} if want is not None else
                         {"template": name, "conversation": i, "error": why[len("TemplateError: "):] if why.startswith("TemplateError: ") else ""})
    named = []
    for name, sources in judge.NAMED.items():
        for source in sources:
            want, why = judge.theirs(source, judge.VARS)
            named.append([name, source, want, "" if want is not None else re.sub("^TemplateError: ", "", why) if why.startswith("TemplateError: ") else ""])
    with open(os.path.join(FOLDER, "vectors.json"), "w") as f:
        f.write('{"vars": ' + json.dumps(judge.VARS) + ',\n"renders": [\n')
        f.write(",\n".join(json.dumps(r, ensure_ascii=False) for r in renders))
        f.write('\n],\n"fails": [\n' + ",\n".join(json.dumps(r, ensure_ascii=False) for r in fails))
        f.write('\n],\n"named": [\n' + ",\n".join(json.dumps(r, ensure_ascii=False) for r in named))
        f.write('\n],\n"conversations": [\n' + ",\n".join(json.dumps(v, ensure_ascii=False) for v in judge.conversations()))
        f.write('\n],\n"chats": [\n' + ",\n".join(json.dumps(c, ensure_ascii=False) for c in chats) + "\n]}\n")
    randoms = random_cases(150)
    with open(os.path.join(FOLDER, "random.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in randoms) + "\n]\n")
    print(len(named), "named,", len(randoms), "random,", len(renders), "render,", len(fails), "fail,", len(chats), "chats")


if __name__ == "__main__":
    main()
