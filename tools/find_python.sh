#!/bin/sh
# Prints a Python that hearpack supports (3.11 to 3.13) and that can make an environment.
for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python; do
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
        command -v "$name"
        exit 0
    fi
done
echo "hearpack needs Python 3.11, 3.12 or 3.13 with venv; on Debian: apt install python3 python3-venv; on macOS: install Python 3.13 from python.org or Homebrew" >&2
exit 1
