"""What a process that works for another one does first."""

import multiprocessing
import os
import signal
import threading

import cv2


def begin_worker() -> None:
    """Let the parent alone answer Ctrl-C, and end with it: an orphan would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
