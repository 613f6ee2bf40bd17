"""The engine of one machine: a pool of processes, each with its own net."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

from hearpack.batch.job import WORK_FOLDER, Done, Job, Shard
from hearpack.batch.work import DEATHS, Worker

_IN_FLIGHT = 2  # shards for each worker, so that none waits for the driver
_PARENT_EVERY_S = 0.5
_worker: list[Worker] = []  # of a process of the pool, one


def run(job: Job, shards: Iterator[Shard], workers: int) -> Iterator[Done]:
    """Work off shards in processes; one that dies costs its shard's time and nothing else.

    Args:
        job: what to do.
        shards: taken as they are needed.
        workers: processes.

    Yields:
        each shard as it is done.

    Raises:
        OutputError: rows or audio cannot be written.
        BundleError, ArtefactError: the net cannot be opened.
    """
    again: deque[Shard] = deque()  # what was in flight when a process died
    deaths: dict[tuple[int, int], int] = {}
    pool = _pool(job, workers)
    flying: dict[Future[Done], Shard] = {}
    try:
        while True:
            # After a death one shard at a time, so that it is known on which recording the next one dies.
            most = 1 if again else workers * _IN_FLIGHT
            while len(flying) < most:
                shard = again.popleft() if again else next(shards, None)
                if shard is None:
                    break
                flying[pool.submit(_work, shard)] = shard
                if again:
                    break
            if not flying:
                return
            finished, _ = wait(flying, return_when=FIRST_COMPLETED)
            try:
                for future in finished:
                    done = future.result()
                    del flying[future]
                    yield done
            except BrokenProcessPool:
                certain = len(flying) == 1
                again.extend(blamed(job, shard, deaths, certain) for shard in flying.values())
                flying.clear()
                pool.shutdown(wait=True, cancel_futures=True)
                pool = _pool(job, workers)
    finally:
        for process in multiprocessing.active_children():
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(job: Job, workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_open, initargs=(job, os.getpid()))


def blamed(job: Job, shard: Shard, deaths: dict[tuple[int, int], int], certain: bool) -> Shard:
    """A shard whose worker died, to be done again; without the recording on which it died too often."""
    at = noted(job, shard)
    if at is None or not certain:
        return shard
    deaths[shard.number, at] = deaths.get((shard.number, at), 0) + 1
    if deaths[shard.number, at] < DEATHS:
        return shard
    return replace(shard, given_up=(*shard.given_up, at))


def note(job: Job, shard: Shard, at: int) -> None:
    """Say which recording of a shard is in work, for who comes after a death."""
    (Path(job.output) / WORK_FOLDER / f"{shard.number}.now").write_text(str(at), encoding="ascii")


def noted(job: Job, shard: Shard) -> int | None:
    """Which recording was in work."""
    try:
        return int((Path(job.output) / WORK_FOLDER / f"{shard.number}.now").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _open(job: Job, parent: int) -> None:
    """In a new process: the net, and an end with the driver's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _worker.append(Worker(job, lambda shard, at: note(job, shard, at), lambda: _end_without(parent)))


def _end_with(parent: int) -> None:
    while True:
        _end_without(parent)
        time.sleep(_PARENT_EVERY_S)


def _end_without(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(1)


def _work(shard: Shard) -> Done:
    return _worker[0].work(shard)
