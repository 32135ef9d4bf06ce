#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""chat on a pseudo-terminal: Ctrl-C stops an answer and a typed line but not the program, Ctrl-D leaves.

    chat_terminal.py TOKAMAK MODEL
"""
import os
import pty
import re
import select
import signal
import sys
import time


class Terminal:
    def __init__(self, *command):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execvp(command[0], command)

    def send(self, data):
        os.write(self.fd, data)

    def expect(self, pattern, what, seconds=20):
        """Reads until the pattern is there, and forgets what came up to its end."""
        end = time.time() + seconds
        while True:
            found = re.search(pattern, self.seen)
            if found:
                self.seen = self.seen[found.end():]
                return found
            ready = select.select([self.fd], [], [], max(0, end - time.time()))[0]
            try:
                data = os.read(self.fd, 4096) if ready else b""
            except OSError:
                data = b""
            if not data:
                sys.exit(f"{what}: {pattern!r} did not come; seen: {self.seen!r}")
            self.seen += data

    def exit_code(self, key=b""):
        """Presses `key` again each second, as a person would: one that comes while libedit sets the terminal is lost."""
        for i in range(200):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if select.select([self.fd], [], [], 0.1)[0]:  # a terminal that nobody reads can hold its program up
                try:
                    os.read(self.fd, 4096)
                except OSError:
                    time.sleep(0.1)
            elif key and i % 10 == 9:
                self.send(key)
        os.kill(self.pid, signal.SIGKILL)
        sys.exit("it did not end")


def main():
    t = Terminal(sys.argv[1], "chat", sys.argv[2], "--temp", "0", "-n", "20")
    t.expect(rb"> ", "the prompt")
    t.send(b"H\xc3\xa9llo\n")
    t.expect(rb"\[\d+ \+ \d+ tokens, 0 held", "the first answer")
    t.expect(rb"> ", "the prompt after it")
    t.send(b"half a li\x03")  # Ctrl-C drops the line
    t.expect(rb"\^C", "Ctrl-C while typing")
    t.expect(rb"> ", "the prompt after Ctrl-C")
    t.send(b"/save /dev/null\n")
    t.expect(rb"\(2 messages saved", "the dropped line was not sent")
    t.expect(rb"> ", "the prompt after a command")
    t.send(b"\x1b[A\n")  # arrow up: the history
    t.expect(rb"\(2 messages saved", "history")
    t.expect(rb"> ", "the prompt after the history")
    t.send(b"/clea\n")
    t.expect(rb"did you mean /clear", "a wrong command")
    t.expect(rb"> ", "the prompt after an error")
    t.send(b"x" * 200 + b"\n")
    t.expect(rb"holds 160", "a message that does not fit")
    t.expect(rb"> ", "the prompt after it")
    t.send(b"/save /dev/null\n")
    t.expect(rb"\(2 messages saved", "the message that did not fit is not part of the chat")
    t.expect(rb"> ", "the last prompt")
    t.send(b"\x04")  # Ctrl-D
    code = t.exit_code(b"\x04")
    if code:
        sys.exit(f"exit code {code}")

    # Ctrl-C during an answer; this model may be faster than the key, and then it meets the next line
    t = Terminal(sys.argv[1], "chat", sys.argv[2], "--logit-bias", "257=-1000", "--raw")
    t.expect(rb"> ", "the prompt")
    t.send(b"go\n")
    t.expect(rb"go\r*\n", "the echo")
    t.send(b"\x03")
    t.expect(rb"\(stopped\)|is full|\^C", "an answer that is stopped")
    t.expect(rb"> ", "the prompt after it")
    t.send(b"/exit\n")
    code = t.exit_code()
    if code:
        sys.exit(f"exit code {code}")


if __name__ == "__main__":
    main()
