"""Long runs: python -m tests.fuzz [KIND ...] --seed 1 --count 1000 --jobs 2 --output build/fuzz (or make fuzz).

Prints a table of outcomes and writes it, with every bad case, to the folder. A case is its kind, seed and number:
`--only NUMBER` repeats one in this process.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.kinds import kinds
from tests.fuzz.pool import OUTCOMES, Tally, attempt
from tests.fuzz.worker import damaged


def main() -> int:
    table = kinds()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(table)}; all by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000, help="cases per kind")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--only", type=int, help="repeat this case of the one kind, with its traceback")
    wanted = parser.parse_args()
    chosen = [table[name] for name in wanted.kinds or table]
    wanted.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        if wanted.only is not None:
            good, case = Path(place) / "good", Path(place) / "case"
            good.mkdir()
            chosen[0].make(good)
            random = damaged(chosen[0], good, wanted.seed, wanted.only, case)
            chosen[0].read(case, random)
            print("ok")
            return 0
        with ThreadPoolExecutor(wanted.jobs) as pool:
            jobs = [
                pool.submit(attempt, kind, wanted.seed, wanted.first, wanted.count, Path(place) / kind.name, _tell)
                for kind in chosen
            ]
            tallies = [job.result() for job in jobs]
    text = as_table(tallies)
    (wanted.output / f"seed-{wanted.seed}.md").write_text(text + "\n" + bad_cases(tallies), encoding="utf-8")
    print(text)
    print(bad_cases(tallies))
    return int(any(tally.bad for tally in tallies))


def _tell(tally: Tally) -> None:
    sys.stderr.write(f"  {tally.kind}: {sum(tally.counts.values())} ({dict(tally.counts)})\n")
    if tally.bad:
        sys.stderr.write(bad_cases([tally]) + "\n")


def as_table(tallies: list[Tally]) -> str:
    """Markdown: a kind a line, the sum last."""
    rows = [(t.kind, *(t.counts[o] for o in OUTCOMES)) for t in tallies]
    rows.append(("all", *(sum(t.counts[o] for t in tallies) for o in OUTCOMES)))
    lines = [f"| kind | cases | {' | '.join(OUTCOMES)} |", "|---|" + "---:|" * (len(OUTCOMES) + 1)]
    lines += [f"| {name} | {sum(counts):,} | {' | '.join(f'{c:,}' for c in counts)} |" for name, *counts in rows]
    return "\n".join(lines)


def bad_cases(tallies: list[Tally]) -> str:
    """A line a bad case: what repeats it, and what happened."""
    return "\n".join(
        f"{t.kind} --seed {t.seed} --only {number}: {found}: {said}" for t in tallies for number, found, said in t.bad
    )


if __name__ == "__main__":
    sys.exit(main())
