#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random chat templates against jinja2: a grammar of every statement, filter, test, method, global and loop field that
the engine has, rendered in random contexts by both. Expressions are typed, so that most of them mean something; now
and then any type goes anywhere, and some templates lose or gain a piece, so that errors are compared too. Some are real
templates, which get random conversations.
Run: python3 tools/fuzz_templates.py [--lib build/lib/libtokamak.so] [--count 5000] [--seed 1]"""
import argparse, glob, os, random, sys

import judge_templates as judge

TEXTS = ["", "a", "Hello, World", "  padded\t ", "é ß ǅ İ", "a\nb\n\nc", "x,y,,z", "<a href='q'>&</a>", "it's", "\"q\"", "3", "-4.5", "0x1F",
         "they're ALL caps", "👋🏽 e\u0301", "tab\there", "line\r\nend", "{{ no }}", "%s and %d", "{} {0}", "user", "assistant", "<think>hm</think>ok"]
KEYS = ["role", "content", "name", "tool_calls", "type", "text", "a", "b", "items", "x"]


def context(r, depth=0):
    """a random JSON value"""
    pick = r.random()
    if depth > 2 or pick < 0.35:
        return r.choice(TEXTS)
    if pick < 0.45:
        return r.choice([0, 1, 2, -3, 42, 10**12, 7])
    if pick < 0.52:
        return r.choice([0.5, 1.0, -2.25, 1e16, 3.14159, 1e-7])
    if pick < 0.6:
        return r.choice([None, True, False])
    if pick < 0.8:
        return [context(r, depth + 1) for _ in range(r.randint(0, 4))]
    return {k: context(r, depth + 1) for k in r.sample(KEYS, r.randint(0, 4))}


def message(r):
    m = {"role": r.choice(["system", "user", "assistant", "tool"])}
    m["content"] = r.choice(TEXTS) if r.random() < 0.7 else r.choice([None, [{"type": "text", "text": r.choice(TEXTS)}, {"type": "image"}], {"a": 1}])
    if r.random() < 0.25:
        m["tool_calls"] = [{"type": "function", "function": {"name": r.choice(["f", "get"]), "arguments": r.choice([{"x": 1, "y": "é"}, {}, "{}"])}}]
    if r.random() < 0.2:
        m["reasoning_content"] = r.choice(TEXTS)
    return m


def variables(r):
    v = {"messages": [message(r) for _ in range(r.choice([0, 2, 2, 3, 4]))], "tools": r.choice([None, [judge.TOOL], [judge.TOOL], [judge.TOOL, judge.TOOL2]]),
         "documents": None, "add_generation_prompt": r.random() < 0.5, "bos_token": "<s>", "eos_token": "</s>",
         "s": r.choice(TEXTS), "u": r.choice(TEXTS), "i": r.choice([0, 1, 5, -7, 42]), "f": r.choice([0.5, 2.0, -3.75, 1e16]),
         "l": [r.choice([3, 1, 2, 1.5, True]) for _ in range(r.randint(0, 5))], "ls": [r.choice(TEXTS) for _ in range(r.randint(0, 4))],
         "o": [{"name": r.choice(TEXTS), "age": r.randint(0, 3), "in": {"k": r.randint(0, 2)}} for _ in range(r.randint(0, 4))],
         "d": {k: context(r, 2) for k in r.sample(KEYS, r.randint(0, 5))}, "n": None, "any": context(r)}
    return v


class Grammar:
    """Each method writes an expression of one type: t(ext), n(umber), b(ool), l(ist), d(ict), m(essage)."""
    TYPES = "tnbldm"

    def __init__(self, r):
        self.r, self.names, self.macros, self.spaces, self.budget, self.loops = r, {}, [], [], 60, 0

    def pick(self, *choices):
        c = self.r.choice(choices)
        return c() if callable(c) else c

    def local(self, kind, fallback):
        own = [n for n, k in self.names.items() if k == kind]
        return self.r.choice(own) if own and self.r.random() < 0.5 else self.r.choice(fallback)

    def any(self, depth=0):
        return getattr(self, self.r.choice(self.TYPES))(depth)

    def arg(self, kind, depth):
        return self.any(depth + 1) if self.r.random() < 0.04 else getattr(self, kind)(depth + 1)

    def quote(self, s):
        return "'" + s.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + "'"

    def t(self, depth=0):
        self.budget -= 1
        if depth > 3 or self.budget < 0 or self.r.random() < 0.25:
            return self.pick(lambda: self.local("t", ["s", "u", "bos_token", "eos_token", "s", "u"] + ["undefd"] * (self.r.random() < 0.1)), lambda: self.quote(self.r.choice(TEXTS)), "s", "eos_token")
        t, n, l, d, a = (lambda k: lambda: self.arg(k, depth))("t"), *[(lambda k: lambda: self.arg(k, depth))(k) for k in "nld"], lambda: self.any(depth + 1)
        q = lambda: self.quote(self.r.choice(["a", ",", " ", "l", "", "o", "\n", "<", "x,", "<think>"]))
        p = lambda: "(" + t() + ")"
        small = lambda: str(self.r.randint(-3, 12))
        return self.pick(
            lambda: f"{t()} ~ {a()}", lambda: f"{p()} + {t()}", lambda: f"{p()} * {self.r.randint(-1, 3)}", lambda: f"({t()} if {self.arg('b', depth)} else {t()})",
            lambda: f"({t()} if {self.arg('b', depth)})", lambda: f"{p()}[{small()}]", lambda: f"{p()}[{small()}:{small()}]", lambda: f"{p()}[::{self.r.choice([-1, 2, -2])}]",
            lambda: f"{p()}|{self.pick('upper', 'lower', 'title', 'capitalize', 'trim', 'string', 'safe', 'escape', 'e', 'forceescape', 'urlencode', 'indent')}",
            lambda: f"{p()}|trim({q()})", lambda: f"{p()}|replace({q()}, {t()})", lambda: f"{p()}|replace({q()}, {q()}, {small()})", lambda: f"{p()}|indent({self.r.randint(0, 5)}, {self.pick('true', 'false')})",
            lambda: f"{p()}|indent(width={q()}, blank=true)", lambda: f"{p()}|center({small()})", lambda: f"{p()}|truncate({small()}, {self.pick('true', 'false')}, {q()}, {self.r.randint(0, 3)})",
            lambda: f"{p()}|default({t()})", lambda: f"{p()}|d({t()}, true)", lambda: f"{a()}|string", lambda: f"({a()})|tojson", lambda: f"({a()})|tojson(indent={self.r.randint(0, 4)})",
            lambda: f"({a()})|tojson(sort_keys={self.pick('true', 'false')}, ensure_ascii={self.pick('true', 'false')})", lambda: f"({a()})|tojson(separators=({q()}, {q()}))",
            lambda: f"{p()}.{self.pick('strip', 'lstrip', 'rstrip')}({self.pick('', q)})", lambda: f"{p()}.{self.pick('upper', 'lower', 'title', 'capitalize', 'swapcase', 'casefold', 'expandtabs')}()",
            lambda: f"{p()}.replace({q()}, {q()}{self.pick('', ', 1', ', -1')})", lambda: f"{p()}.{self.pick('split', 'rsplit')}({self.pick(q, q, 'none', 'sep=none')}{self.pick('', ', 1')})[{self.pick('0', '-1')}]",
            lambda: f"{p()}.{self.pick('removeprefix', 'removesuffix')}({q()})", lambda: f"{p()}.zfill({small()})", lambda: f"{p()}.{self.pick('center', 'ljust', 'rjust')}({small()}{self.pick('', ', ' + repr('*'))})",
            lambda: f"{p()}.join({l()})", lambda: f"{p()}.{self.pick('partition', 'rpartition')}({q()})[{self.r.randint(0, 2)}]", lambda: f"({l()})|join({self.pick('', q)})", lambda: f"({self.o(depth)})|join({q()}, attribute='name')",
            lambda: f"'{self.pick('{}', '{!r}', '{:>8}', '{:.3}', '{0}|{0}', '{:^7}|', '{:*<6}')}'.format({t()})", lambda: f"'{self.pick('%s', '%r', '%5s|', '%-6s|', '%.2s')}' % ({t()},)", lambda: f"'{self.pick('%s', '%r')}'|format({a()})",
            lambda: f"'{self.pick('%d', '%5d', '%05.2f', '%x', '%e', '%g', '%+d')}' % {n()}", lambda: f"'{self.pick('{:d}', '{:05}', '{:,}', '{:.2f}', '{:x}', '{:e}', '{:g}', '{:%}', '{:+}')}'.format({n()})",
            lambda: f"{self.m(depth)}.{self.pick('role', 'content')}", lambda: f"{self.m(depth)}['{self.pick('role', 'content', 'reasoning_content')}']", lambda: f"({d()})|attr('{self.r.choice(KEYS)}')",
            lambda: f"({n()})|filesizeformat", lambda: f"({d()})|urlencode", lambda: f"({d()}){self.pick('', '|tojson', '|string')}", lambda: f"cycler({t()}, 'b').next()", lambda: f"{p()}|reverse", lambda: f"({l()})|{self.pick('min', 'max')}", lambda: f"({self.o(depth)})|{self.pick('min', 'max')}(attribute='name')", lambda: f"({a()})|pprint" if self.r.random() < 0.05 else t(), lambda: f"({l()})|{self.pick('first', 'last')}", self.call, self.space)

    def n(self, depth=0):
        self.budget -= 1
        if depth > 3 or self.budget < 0 or self.r.random() < 0.3:
            return self.pick(lambda: self.local("n", ["i", "f"]), lambda: str(self.r.choice([0, 1, 2, 3, 7, 10, 100])), lambda: str(self.r.choice([0.5, 1.5, 2.0, 1e3])), "i")
        n, t, l = (lambda: "(" + self.arg("n", depth) + ")"), (lambda: "(" + self.arg("t", depth) + ")"), (lambda: "(" + self.arg("l", depth) + ")")
        op = self.r.choice(["+", "-", "*", "/", "//", "%"])
        return self.pick(lambda: f"{n()} {op} {n()}", lambda: f"-{n()}", lambda: f"{n()} ** {self.r.randint(0, 3)}", lambda: f"{n()}|abs", lambda: f"{n()}|int", lambda: f"{n()}|float",
                         lambda: f"{n()}|round({self.r.randint(-1, 3)}{self.pick('', ', ' + repr('floor'), ', ' + repr('ceil'))})", lambda: f"{t()}|length", lambda: f"{l()}|{self.pick('length', 'count')}", lambda: f"{t()}|int({self.r.randint(0, 9)})", lambda: f"{t()}|int(base=16)",
                         lambda: f"{t()}|float", lambda: f"{t()}.{self.pick('find', 'rfind', 'count')}({self.quote(self.r.choice(['a', 'l', 'o', '']))})", lambda: f"{l()}|{self.pick('sum', 'min', 'max', 'first', 'last')}",
                         lambda: f"({self.o(depth)})|sum(attribute='age')", lambda: f"{t()}|wordcount", lambda: f"{l()}.index({n()})", lambda: f"{l()}.count({n()})", self.loop_field)

    def loop_field(self):
        return "loop." + self.r.choice(["index", "index0", "revindex", "revindex0", "length", "depth", "depth0"]) if self.loops or self.r.random() < 0.02 else "1"

    def b(self, depth=0):
        self.budget -= 1
        if depth > 3 or self.budget < 0 or self.r.random() < 0.15:
            return self.pick("true", "false", "add_generation_prompt", lambda: self.local("b", ["True", "False", "tools", "undefd"]))
        t, n, b, l, d, a = [(lambda k: lambda: "(" + self.arg(k, depth) + ")")(k) for k in "tnbld"] + [lambda: "(" + self.any(depth + 1) + ")"]
        cmp_ = lambda: self.r.choice(["==", "!=", "<", "<=", ">", ">="])
        plain = lambda: self.r.choice(["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping", "sequence", "iterable", "callable", "escaped", "not none", "not defined", "not string"])
        return self.pick(lambda: f"{n()} {cmp_()} {n()}", lambda: f"{t()} {cmp_()} {t()}", lambda: f"{a()} {self.pick('==', '!=')} {a()}", lambda: f"not {b()}", lambda: f"{b()} {self.pick('and', 'or')} {b()}", lambda: f"{a()} and {b()}",
                         lambda: f"{t()} {self.pick('in', 'not in')} {t()}", lambda: f"{a()} {self.pick('in', 'not in')} {l()}", lambda: f"{t()} in {d()}", lambda: f"{a()} is {plain()}", lambda: f"{a()} is {plain()}", lambda: f"{n()} is {self.pick('odd', 'even')}",
                         lambda: f"{n()} is divisibleby {self.r.randint(1, 4)}", lambda: f"{a()} is {self.pick('eq', 'equalto', 'ne', 'sameas')} {self.pick('none', 'true', '1', 's')}", lambda: f"{n()} is {self.pick('gt', 'ge', 'lt', 'le', 'greaterthan', 'lessthan')}({n()})", lambda: f"{a()} is in {l()}",
                         lambda: f"{t()} is {self.pick('lower', 'upper')}", lambda: f"{t()}.{self.pick('startswith', 'endswith')}({self.quote(self.r.choice(['a', '<think>', 'H', '']))})", lambda: f"{t()}.startswith(('a', 'H'))", lambda: f"'{self.pick('upper', 'nope')}' is {self.pick('filter', 'test')}",
                         lambda: f"{t()}.{self.pick('isalpha', 'isdigit', 'isspace', 'isupper', 'islower', 'isalnum', 'istitle', 'isascii', 'isnumeric', 'isdecimal')}()", *(["loop.first", "loop.last", lambda: f"loop.changed({a()})"] if self.loops else []), lambda: f"{self.any(depth + 1)}.{self.r.choice(KEYS)} is defined", lambda: f"1 < {n()} < 5")

    def o(self, depth=0):
        return self.r.choice(["o", "messages", "o|selectattr('age')|list", "messages[1:]", "tools or []"])

    def l(self, depth=0):
        self.budget -= 1
        if depth > 3 or self.budget < 0 or self.r.random() < 0.25:
            return self.pick(lambda: self.local("l", ["l", "ls", "messages", "o"]), "l", "ls", lambda: f"range({self.r.randint(0, 5)})")
        t, n, l, d, a = [(lambda k: lambda: "(" + self.arg(k, depth) + ")")(k) for k in "tnld"] + [lambda: self.any(depth + 1)]
        o = lambda: "(" + self.o(depth) + ")"
        as_list = self.r.choice(["|list", "|list", "|list", ""])
        test = lambda: self.r.choice(["'defined'", "'equalto', 1", "'none'", "'string'", "'gt', 1", "'in', ['user', 'tool']", "'ne', 'user'", "'==', 'user'"])
        key = lambda: self.r.choice(["'name'", "'age'", "'role'", "'content'", "'in.k'", "'type'"])
        case = lambda: self.r.choice(["", "true", "reverse=true", "case_sensitive=true"])
        return self.pick(lambda: f"[{a()}, {a()}]", lambda: f"[{n()}]", lambda: f"({t()}, {n()})", "[]", lambda: f"{l()} + {l()}", lambda: f"{l()}[{self.r.randint(-2, 2)}:{self.pick('', '2', '-1')}]", lambda: f"{l()}[::-1]", lambda: f"{l()}{as_list}", lambda: f"{l()}|reverse{as_list}",
                         lambda: f"{l()}|sort({case()})", lambda: f"{o()}|sort(attribute={key()}{self.pick('', ', reverse=true')})", lambda: f"{l()}|unique{as_list}", lambda: f"{l()}|map('{self.pick('string', 'upper', 'length', 'int', 'tojson', 'trim')}'){as_list}", lambda: f"{o()}|map(attribute={key()}){as_list}",
                         lambda: f"{o()}|map(attribute={key()}, default={t()}){as_list}", lambda: f"{l()}|{self.pick('select', 'reject')}({self.pick('', test)}){as_list}", lambda: f"{o()}|{self.pick('selectattr', 'rejectattr')}({key()}{self.pick('', lambda: ', ' + test())}){as_list}", lambda: f"{l()}|batch({self.r.randint(1, 3)}{self.pick('', ', 0')}){as_list}",
                         lambda: f"{l()}|slice({self.r.randint(1, 3)}{self.pick('', ', 0')}){as_list}", lambda: f"{t()}.split({self.pick('', self.quote(','), self.quote(' ') + ', 1')})", lambda: f"{t()}.splitlines({self.pick('', 'true')})", lambda: f"{t()}|list", lambda: f"{d()}|dictsort{self.pick('', '(true)', '(by=' + repr('value') + ')', '(reverse=true)')}", lambda: f"{d()}|items{as_list}",
                         lambda: f"{d()}.{self.pick('items', 'keys', 'values')}(){as_list}", lambda: f"{d()}|list", lambda: f"{t()}|reverse{as_list}", lambda: f"{t()}|batch(2){as_list}", lambda: f"{d()}|map('upper'){as_list}", lambda: f"{o()}|unique(attribute={key()}){as_list}", lambda: f"{l()}|unique(true){as_list}", lambda: f"{o()}|groupby({key()}, default={t()})|map(attribute='{self.pick('grouper', 'list')}'){as_list}", lambda: f"[*{l()}]" if self.r.random() < 0.05 else l(), lambda: f"range({self.r.randint(0, 3)}, {self.r.randint(0, 9)}, {self.r.choice([1, 2, -1])}){as_list}", lambda: f"{o()}|groupby({key()})|map('first'){as_list}", lambda: f"{l()} * {self.r.randint(0, 2)}", lambda: f"{l()}|default([])", lambda: f"({l()} or {l()})")

    def d(self, depth=0):
        self.budget -= 1
        if depth > 3 or self.budget < 0 or self.r.random() < 0.4:
            return self.pick(lambda: self.local("d", ["d", "any"]), "d", "{}", lambda: self.m(depth), "tools[0]", "tools[0].function.parameters")
        return self.pick(lambda: "{" + f"'{self.r.choice(KEYS)}': {self.any(depth + 1)}, '{self.r.choice(KEYS)}': {self.any(depth + 1)}" + "}", lambda: f"dict({self.r.choice('abx')}={self.any(depth + 1)})", lambda: f"dict({self.d(depth + 1)}, b={self.n(depth + 1)})",
                         lambda: f"{self.d(depth + 1)}.get('{self.r.choice(KEYS)}', {{}})", lambda: f"({self.d(depth + 1)}).copy()", lambda: f"dict.fromkeys({self.l(depth + 1)}, 1)")

    def m(self, depth=0):
        return self.pick("messages[0]", "messages[-1]", lambda: self.local("m", ["messages[0]", "messages[1]", "messages|last", "messages|first"] + ["loop.previtem", "loop.nextitem"] * (self.loops > 0)).join("()"))

    def call(self):
        if not self.macros:
            return "s"
        name, params = self.r.choice(self.macros)
        args = [self.any(3) for _ in range(self.r.randint(0, len(params) + (self.r.random() < 0.1)))]
        if params and self.r.random() < 0.3:
            args = args[:-1] + [f"{params[-1]}={self.t(3)}"]
        return f"{name}({', '.join(args)})"

    def space(self):
        return f"{self.r.choice(self.spaces)}.{self.r.choice('vw')}" if self.spaces else "s"

    # ---- statements ----

    def tag(self, text):
        return "{%" + self.r.choice(["", "", "", "-", "-", "+"]) + " " + text + " " + self.r.choice(["", "", "", "-", "-"]) + "%}"

    def text(self):
        return self.r.choice(["", "", "\n", "  ", "\n  ", "text ", " x\n", "<|im_start|>", "\t", "{ ", "# not", "}", "é\n\n", "{# note #}", "{#- note -#}\n", "{% raw %} {{ x }} {% endraw %}"])

    def block(self, depth):
        saved = dict(self.names)
        out = "".join(self.statement(depth) for _ in range(self.r.randint(1, 3)))
        self.names = saved if self.r.random() < 0.7 else self.names
        return out

    def show(self):
        return "{{" + self.r.choice(["", "-", " "]) + " " + self.any() + " " + self.r.choice(["", "-"]) + "}}"

    def target(self, kind):
        name = self.r.choice(["v0", "v1", "v2", "s", "l", "i"])
        self.names[name] = kind
        return name

    def loop(self, depth):
        kind = self.r.choice("lodtr")
        body = lambda: self.block(depth + 1) + self.r.choice(["", "", self.tag("if " + self.b(2)) + self.tag(self.r.choice(["break", "continue"])) + self.tag("endif")])
        tail = " if " + self.b(2) if self.r.random() < 0.25 else ""
        other = self.tag("else") + self.text() if self.r.random() < 0.2 else ""
        saved = dict(self.names)
        if kind == "d":
            k, v = self.target("t"), self.target("t")
            head = f"for {k}, {v} in {self.d(2)}{self.r.choice(['|items', '.items()', '|dictsort'])}{tail}"
        elif kind == "o":
            head = f"for {self.target('m')} in messages{tail}"
        elif kind == "r":
            self.names["x"] = "d"
            head = f"for x in {self.r.choice(['[d]', 'o', 'tools'])}{tail} recursive"
            inner = self.tag("if loop.depth < 3") + "{{ loop(x" + self.r.choice([".values()", "|list", ".content", ".items()"]) + ") }}" + self.tag("endif")
            return self.tag(head) + self.text() + inner + other + self.tag("endfor")
        else:
            head = f"for {self.target('n' if kind == 'l' else 't')} in {getattr(self, kind)(2)}{tail}"
        self.loops += 1
        inside = body()
        self.loops -= 1
        out = self.tag(head) + inside + other + self.tag("endfor")
        self.names = saved
        return out

    def macro(self, depth):
        name, params = self.r.choice(["m1", "m2"]), self.r.sample(["p", "q", "s"], self.r.randint(0, 3))
        defaults = self.r.randint(0, len(params))
        sig = ", ".join(p if i < defaults else f"{p}={self.any(3)}" for i, p in enumerate(params))
        saved = dict(self.names)
        self.names.update({p: "t" for p in params})
        loops, self.loops = self.loops, 0
        body = self.block(depth + 1) + self.r.choice(["", "", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller }}", "{{ caller is defined }}"])
        self.names, self.loops = saved, loops
        self.macros.append((name, params))
        return self.tag(f"macro {name}({sig})") + body + self.tag("endmacro")

    def set(self, depth):
        kind = self.r.choice("tnbldms")
        if kind == "s":
            self.spaces.append("ns")
            return self.tag(f"set ns = namespace(v={self.any(2)}, w={self.n(2)})")
        if kind == "m" and self.r.random() < 0.5:
            return self.tag(f"set {self.target('t')}{self.r.choice(['', ' | trim', ' | upper'])}") + self.block(depth + 1) + self.tag("endset")
        value = getattr(self, kind)(1)
        return self.tag(f"set {self.target(kind)} = {value}")

    def statement(self, depth=0):
        if depth > 3 or self.budget < 0:
            return self.text() + self.show() if self.budget > -20 else self.text()
        s = self.pick(
            self.show, self.show, self.show, self.text, lambda: self.set(depth), lambda: self.set(depth), lambda: self.loop(depth), lambda: self.loop(depth), lambda: self.macro(depth),
            lambda: self.tag("if " + self.b()) + self.block(depth + 1) + (self.tag("elif " + self.b()) + self.block(depth + 1) if self.r.random() < 0.3 else "") + (self.tag("else") + self.block(depth + 1) if self.r.random() < 0.4 else "") + self.tag("endif"),
            lambda: self.tag(f"set ns.{self.r.choice('vw')} = {self.any(1)}") if self.spaces else self.text(),
            lambda: self.tag(f"set v0, v1 = {self.t(2)}, {self.n(2)}"), lambda: self.tag(f"with v0 = {self.any(2)}, v1 = {self.any(2)}") + self.block(depth + 1) + self.tag("endwith"),
            lambda: self.tag("generation") + self.block(depth + 1) + self.tag("endgeneration"), lambda: self.tag("filter " + self.r.choice(["upper", "trim", "indent(2)", "replace('a', 'b')", "title|trim"])) + self.block(depth + 1) + self.tag("endfilter"),
            lambda: (self.tag("call " + self.call()) + self.block(depth + 1) + self.tag("endcall")) if self.macros else self.text(), lambda: self.tag(f"if {self.b(3)}") + "{{ raise_exception(" + self.t(3) + ") }}" + self.tag("endif"))
        return self.text() + s + self.text()


def template(r):
    g = Grammar(r)
    source = "".join(g.statement() for _ in range(r.randint(1, 5)))
    if r.random() < 0.08 and source:  # a hole, a doubled piece or a strange character
        at, n = r.randrange(len(source)), r.randint(1, 6)
        source = r.choice([source[:at] + source[at + n:], source[:at + n] + source[at:], source[:at] + r.choice("{}%#|()[]'\"-~.,:= ") + source[at:]])
    return source


def real_templates(here):
    shared = os.environ.get("TOKAMAK_SHARED", os.path.join(here, "..", "shared"))
    folders = [os.path.join(here, "tests", "data", "templates"), os.path.join(shared, "chat_templates")]
    return [open(path, newline="").read() for f in folders for path in sorted(glob.glob(os.path.join(f, "*.jinja")))]


def main():
    p = argparse.ArgumentParser()
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    p.add_argument("--lib", default=os.path.join(here, "build", "lib", "libtokamak.so"))
    p.add_argument("--count", type=int, default=5000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--show", type=int, default=20)
    args = p.parse_args()
    j = judge.Judge(args.lib, args.show)
    real = real_templates(here)
    for i in range(args.count):
        r = random.Random(args.seed * 1000003 + i)
        source = r.choice(real) if r.random() < 0.1 else template(r)
        for _ in range(2):
            j.judge(f"random {args.seed}:{i}", source, variables(r))
    j.report()
    return 1 if j.counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
