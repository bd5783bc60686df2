"""A supervisor never stops what is healthy because something else gave up."""

import asyncio
import signal
import sys
from pathlib import Path

from deploy.supervisor import Child, Command, wait_until_all_give_up
from tests.support.waiting import until, within

SCRIPT = """
import pathlib, signal, sys, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
if (folder / f"{name}.wrong").exists():
    sys.exit(78)
signal.signal(signal.SIGHUP, lambda *_: (folder / f"{name}.reloaded").touch())
(folder / f"{name}.up").touch()
while True:
    time.sleep(0.05)
"""


def child(name: str, folder: Path, said: list[str]) -> Child:
    return Child(Command(name, [sys.executable, "-c", SCRIPT, name, str(folder)]), said.append)


async def test_what_is_healthy_goes_on_and_those_that_gave_up_are_named(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "bad.wrong").touch()
    good, bad = child("good", tmp_path, said), child("bad", tmp_path, said)
    children = [good, bad]
    watching = asyncio.create_task(wait_until_all_give_up(children, said.append))
    try:
        for one in children:
            await one.start()
        await until(lambda: any("bad gave up; the others run on" in text for text in said), "it is named")
        await until((tmp_path / "good.up").exists, "the other works")
        assert not watching.done()
        # A better configuration: the one that gave up gets another try, the other only hears of it.
        (tmp_path / "bad.wrong").unlink()
        pid = good.pid
        for one in children:
            await one.reload()
        await until((tmp_path / "bad.up").exists, "it works now")
        await until((tmp_path / "good.reloaded").exists, "the other has heard")
        assert (good.pid, bad.gave_up.is_set()) == (pid, False)
        for name in ("good", "bad"):
            (tmp_path / f"{name}.wrong").touch()
        for one in children:
            one.signal(signal.SIGKILL)
        await within(watching, "nothing is left that would work")
        assert all(one.gave_up.is_set() for one in children)
    finally:
        watching.cancel()
        for one in children:
            await one.stop()
