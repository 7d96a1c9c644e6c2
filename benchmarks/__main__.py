"""Every benchmark, each in a process of its own: `python -m benchmarks`, or `make bench`."""

import subprocess
import sys

NAMES = ("loop", "epoch", "growth", "startup", "checkpoints", "views")


def main() -> int:
    failed = []
    for number, name in enumerate(NAMES, 1):
        print(f"{number}/{len(NAMES)} python -m benchmarks.{name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode:
            failed.append(name)
    if failed:
        print(f"error: These benchmarks did not end: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
