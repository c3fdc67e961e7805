import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from reidkit.errors import Interrupted
from reidkit.runs.interruption import Interruption, terminable
from tests.injected_faults import child

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers_are_left_as_they_were() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize(("number", "name", "code"), [(15, "SIGTERM", 143), (2, "Ctrl-C", 130)])
def test_a_loop_saves_and_stops(number: int, name: str, code: int) -> None:
    saved: list[int] = []

    def loop() -> None:
        with Interruption() as interruption:
            for step in range(10):
                assert not interruption.requested
                if step == 3:
                    signal.raise_signal(number)
                if interruption.requested:
                    saved.append(step)
                    interruption.stop(f"step {step} of 10")

    with pytest.raises(Interrupted, match=f"stopped by {name}: step 3 of 10") as stopped:
        loop()
    assert saved == [3]
    assert stopped.value.exit_code == code
    assert stopped.value.saved == "step 3 of 10"


def test_nothing_is_noted_where_nothing_comes() -> None:
    with Interruption() as interruption:
        assert all(signal.getsignal(number) == interruption._note for number in SIGNALS)
    assert not interruption.requested


def ask_twice(number: int) -> None:
    with Interruption() as interruption:
        signal.raise_signal(number)
        assert interruption.requested
        signal.raise_signal(number)
        pytest.fail("the second signal was held back")


def test_a_second_signal_has_its_usual_effect_at_once() -> None:
    with pytest.raises(KeyboardInterrupt) as stopped:
        ask_twice(signal.SIGINT)
    assert not isinstance(stopped.value, Interrupted)


def test_torchrun_may_hand_on_what_the_scheduler_has_sent_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert interruption.requested
        monkeypatch.setattr("reidkit.runs.interruption._ECHO_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_second_sigterm_ends_the_command_by_an_exception() -> None:
    with pytest.raises(Interrupted) as stopped, terminable():
        ask_twice(signal.SIGTERM)
    assert str(stopped.value) == "stopped by SIGTERM"
    assert stopped.value.exit_code == 143


def test_a_second_sigterm_ends_a_program_of_others() -> None:
    def work(ready: Callable[[], None]) -> None:
        with Interruption():
            signal.raise_signal(signal.SIGTERM)
            ready()
            time.sleep(60)

    assert killed_by(work) == signal.SIGTERM


def test_the_first_sigterm_outside_the_loop_ends_the_command() -> None:
    with pytest.raises(Interrupted) as stopped, terminable():
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.saved == ""


def test_forked_workers_can_be_terminated() -> None:
    def idle(ready: Callable[[], None]) -> None:
        ready()
        time.sleep(60)

    with terminable():
        assert killed_by(idle) == signal.SIGTERM
        with Interruption() as interruption:
            assert killed_by(idle) == signal.SIGTERM
            assert not interruption.requested


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGINT)
            assert not interruption.requested
            signal.raise_signal(signal.SIGTERM)
            assert interruption.requested
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_work_without() -> None:
    seen = []

    def work() -> None:
        with terminable(), Interruption() as interruption:
            seen.append((interruption.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, signal.getsignal(signal.SIGTERM))]


def killed_by(work: Callable[[Callable[[], None]], None]) -> int:
    """The signal that ends a process which is sent SIGTERM at its work."""
    with child(work) as pid:
        os.kill(pid, signal.SIGTERM)
        for _ in range(1000):
            if (status := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is not None:
                return status.si_status
            time.sleep(0.01)
    pytest.fail("it lives on")
