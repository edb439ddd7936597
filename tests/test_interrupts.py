import gc
import signal
import threading
import time
from contextlib import suppress

import pytest

from redraft.interrupts import noted_interrupts


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def wait() -> None:
    gc.disable()  # what is dropped must be seen without it
    try:
        time.sleep(5)
    finally:
        gc.enable()


def test_ctrl_c_is_noted_and_all_is_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    with noted_interrupts() as interrupts:
        assert not interrupts.noted
        with pytest.raises(KeyboardInterrupt):
            press()
        assert interrupts.noted
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_one_that_was_swallowed_comes_again_and_again() -> None:
    def work() -> None:
        for _ in range(2):
            with suppress(KeyboardInterrupt):
                press()
                wait()
        wait()

    with noted_interrupts(), pytest.raises(KeyboardInterrupt):
        work()


def test_one_that_became_another_error_is_not_raised_on_top_of_it() -> None:
    with noted_interrupts() as interrupts:
        try:
            try:
                press()
            except KeyboardInterrupt:
                time.sleep(0.5)  # as what ends tidily takes a while
                raise ValueError from None
        except ValueError:
            time.sleep(0.5)
        assert interrupts.noted


def test_what_is_raised_where_nothing_can_be_raised_comes_again(capfd: pytest.CaptureFixture[str]) -> None:
    class Dropped:
        def __del__(self) -> None:
            press()

    def work() -> None:
        Dropped()
        wait()

    with noted_interrupts(), pytest.raises(KeyboardInterrupt):
        work()
    assert capfd.readouterr().err == ""


def test_other_threads_change_nothing() -> None:
    found = []

    def work() -> None:
        with noted_interrupts() as interrupts:
            found.append((interrupts.noted, signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, before)]
