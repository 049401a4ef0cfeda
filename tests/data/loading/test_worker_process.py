"""A process that works for another one ends with it, and leaves Ctrl-C to it."""

import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import cv2

from benchmarks.processes import PROCESSES
from setr.data.loading.worker_process import begin_worker


def worker(sender: Connection) -> None:
    begin_worker()
    sender.send((os.getpid(), signal.getsignal(signal.SIGINT) == signal.SIG_IGN, cv2.getNumThreads()))
    time.sleep(60)


def parent(sender: Connection) -> None:
    PROCESSES.Process(target=worker, args=(sender,)).start()
    time.sleep(60)


def test_it_ignores_ctrl_c_uses_one_thread_and_ends_with_its_parent() -> None:
    receiver, sender = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=parent, args=(sender,))
    process.start()
    assert receiver.poll(60)
    number, ignores, threads = receiver.recv()
    assert (ignores, threads) == (True, 1)
    os.kill(number, signal.SIGINT)
    time.sleep(0.2)
    assert is_running(number)
    process.kill()
    process.join()
    deadline = time.monotonic() + 20
    while is_running(number):
        assert time.monotonic() < deadline, "an orphan waits for ever"
        time.sleep(0.05)


def is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
