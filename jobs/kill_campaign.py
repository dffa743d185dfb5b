"""Kills drivers, workers and nodes of verbs by SIGKILL at random times, and compares the outputs with undisturbed runs.

    nice python jobs/kill_campaign.py --work FOLDER --output FILE [--kills 200] [--minutes 60] [--verb NAME]

A run is one command line on a cluster of two nodes of one CPU. It is hit several times: its driver is killed and the
same command started again, a worker process of its job is killed, or the second node's raylet, which is then replaced.
It is over when the command ends with 0. Then every file of its output has to be there with the bytes of the undisturbed
run (of JSON without what is measured: seconds, memory, times of day), and nothing else; no process of the job may be
left. A command that does not end within a bound counts as a hang. FILE is written after every run, and a campaign that
was stopped goes on from it with the same FOLDER, which must have a short path and outlive the campaign.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import shutil
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import kill_campaign_outputs as outputs
import psutil
from kill_campaign_drivers import Driver, Launcher
from local_cluster import Node, prepare_folder, tagged, words, workers

VERBS = {
    "prepare": "prepare --input {log} --shards 4 --min-user 3 --min-item 2 --output {out}",
    "sample": "sample --data {data} --sampler svp_mf --budget 0.5,0.2 --proxy-epochs 4 --output {out}",
    "fit": "fit --data {data} --model mf --set epochs=40,patience=40,dim=8 --workers 2 --output {out}",
    "distill_cf": "distill --data {data} --method distill_cf --users 8 --set steps=60 --checkpoint-every 5 --workers 2 "
    "--output {out}",
    "farzi": "distill --data {data} --method farzi --sequences 6 --length 6 --checkpoint-every 1 --workers 2 "
    "--set steps=6,horizon=4,window=2,pool=2,teachers=2,consensus=10 --output {out}",
    "sweep": "sweep --data {data} --methods random,head_users --budgets 0.5 --models popularity,mf --set mf.epochs=2 "
    "--output {out}",
    "predict": "predict --data {data} --model {model} --output {out}",
}
VICTIMS = {"driver": 0.4, "worker": 0.45, "node": 0.15}
"""Share of the kills."""
HITS = 4
"""Kills that a run is to get, if it does not end before."""
BOUND_S = 300.0
"""Longest time from a start or a kill to the end of the command."""
SETTLE_S = 60.0
LIVES = 15
# How long to look for a worker that is busy.
_BUSY_S = 1.0


@dataclass
class Run:
    """One command, from its first start to its end."""

    verb: str
    seed: int
    kills: list[tuple[str, float]] = field(default_factory=list)
    """Who was killed, and when in the life of the driver."""
    exits: list[int] = field(default_factory=list)
    """Exit codes of the drivers, one after another."""
    said: list[str] = field(default_factory=list)
    """Errors with which drivers ended that were not killed."""
    seconds: float = 0.0
    hang: bool = False
    traceback: bool = False
    differences: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Processes of the job that outlived it by a minute."""


class Campaign:
    def __init__(self, work: Path, state: dict[str, Any]) -> None:
        self.work, self.state, self.random = work, state, random.Random()
        self.out = work / "out" / "made"
        self.head = Node(work, "head")
        self.launcher: Launcher | None = None
        self.node = self.head

    def __enter__(self) -> Campaign:
        prepare_folder(self.work)
        try:
            self.launcher = Launcher(self.work)
            self.head.start()
            self.head.wait()
            self.node = Node(self.work, "node", self.head.address)
            self.node.start()
            self.node.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.launcher is not None:
            self.launcher.stop()
        for node in (self.node, self.head):
            node.stop()
        for process in tagged(self.work):
            process.kill()

    # -- undisturbed -------------------------------------------------------------------------------------------

    def words(self, verb: str) -> list[str]:
        places = {"log": self.work / "log", "data": self.work / "data", "model": self.work / "model", "out": self.out}
        return [*VERBS[verb].format(**places).split(), "--address", self.head.address]

    def plainly(self, arguments: list[str]) -> float:
        """Runs a command that nothing disturbs; its seconds."""
        started = time.monotonic()
        log = self.work / "plain.log"
        log.unlink(missing_ok=True)
        driver = self._launch(arguments, log)
        if code := driver.exit_code():
            raise SystemExit(f"das {' '.join(arguments)} ended with {code}:\n{log.read_text(errors='replace')[-4000:]}")
        return time.monotonic() - started

    def references(self, verbs: list[str]) -> dict[str, Any]:
        """What the verbs make when nothing disturbs them, twice, so that it is known to be always the same."""
        file = self.work / "references.json"
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        if not (self.work / "model").exists():
            outputs.write_log(self.work / "log")
            common = ["--address", self.head.address, "--overwrite"]
            log, data, model = (str(self.work / name) for name in ("log", "data", "model"))
            self.plainly(["prepare", "--input", log, "--shards", "4", "--output", data, *common])
            self.plainly(["fit", "--data", data, "--model", "ease", "--set", "lam=10", "--output", model, *common])
        for verb in [verb for verb in verbs if verb not in found]:
            shutil.rmtree(self.out.parent, ignore_errors=True)
            self.plainly(self.words(verb))
            once = outputs.contents(self.out.parent)
            shutil.rmtree(self.out.parent)
            seconds = self.plainly(self.words(verb))
            again = outputs.contents(self.out.parent)
            if once != again:
                raise SystemExit(f"{verb}: two undisturbed runs differ: {outputs.differences(once, again)}")
            found[verb] = {"seconds": round(seconds, 2), "contents": once}
            file.write_text(json.dumps(found))
            print(f"{verb}: {seconds:.1f} s undisturbed", flush=True)
        return found

    # -- disturbed ---------------------------------------------------------------------------------------------

    def run(self, verb: str, victims: list[str], seed: int, reference: dict[str, Any]) -> Run:
        """Runs a verb whose driver, workers and second node are killed, in this order if it lives so long."""
        self.random.seed(seed)
        shutil.rmtree(self.out.parent, ignore_errors=True)
        run, started = Run(verb, seed), time.monotonic()
        while not self._life(run, victims, reference["seconds"]):
            if len(run.exits) >= LIVES:
                run.hang = True
                break
        run.seconds = round(time.monotonic() - started, 1)
        if not run.hang:
            run.differences = outputs.differences(reference["contents"], outputs.contents(self.out.parent))
        run.left = self._left()
        return run

    def _life(self, run: Run, victims: list[str], seconds: float) -> bool:
        """One driver, from its start to its end; whether the command has ended."""
        log = self.work / "run.log"
        log.unlink(missing_ok=True)
        driver, begun = self._launch(self.words(run.verb), log), time.monotonic()
        strike, deadline = begun + self.random.uniform(0, seconds), begun + BOUND_S
        while not driver.has_ended:
            if self.head.pid is None:
                raise SystemExit("the head is gone")
            self.node.tend()
            now = time.monotonic()
            if now > deadline:
                return self._hang(run, driver, log)
            if victims and now >= strike and self._kill(victims[0], driver, now - strike > _BUSY_S):
                run.kills.append((victims.pop(0), round(now - begun, 2)))
                strike, deadline = now + self.random.uniform(0, seconds / 2), now + BOUND_S
            time.sleep(0.1)
        run.exits.append(driver.exit_code())
        text = log.read_text(errors="replace")
        if run.exits[-1] in (0, -9):
            return run.exits[-1] == 0
        run.said.append(next((line for line in reversed(text.splitlines()) if line.startswith("error:")), text[-500:]))
        if "Traceback" in text:
            run.traceback = True
            shutil.copy(log, self.work / f"traceback-{run.verb}-{run.seed}.log")
        # Killed in the last moment, when all was done but to say so.
        return "already" in run.said[-1] and run.exits[-2:-1] == [-9]

    def _launch(self, arguments: list[str], log: Path) -> Driver:
        assert self.launcher is not None
        return self.launcher.launch(arguments, log)

    def _hang(self, run: Run, driver: Driver, log: Path) -> bool:
        driver.show_stacks()
        time.sleep(2)
        driver.kill()
        run.exits.append(driver.exit_code())
        run.hang = True
        shutil.copy(log, self.work / f"hang-{run.verb}-{run.seed}.log")
        return True

    def _kill(self, victim: str, driver: Driver, any_worker: bool) -> bool:
        """Kills one of this kind; False where there is none now. A worker should be busy, unless any will do."""
        if victim == "driver":
            driver.kill()
            return True
        if victim == "node":
            raylet = self.node.raylet() if self.node.is_up else None
            found = [] if raylet is None else [raylet]
        else:
            found = workers(self.work)
            busy = [one for one in found if not any(word.startswith("ray::IDLE") for word in words(one))]
            found = busy or (found if any_worker else [])
        if not found:
            return False
        try:
            self.random.choice(found).kill()
        except psutil.NoSuchProcess:
            return False
        return True

    def _left(self) -> list[str]:
        """Processes that outlive the run: those of its job, of nodes that are gone, and of nobody."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            self.node.tend()
            assert self.launcher is not None
            known = {one.pid for node in (self.head, self.node) for one in node.family()} | {self.launcher.pid}
            left = [one for one in tagged(self.work) if one.pid not in known] + workers(self.work)
            if not left or time.monotonic() > deadline:
                return [_name(one) for one in left]
            time.sleep(0.2)


def _name(process: psutil.Process) -> str:
    """What a process is, without the places of this machine: `ray::…`, or its script or program."""
    line = words(process)
    script = next((word for word in line if word.endswith(".py")), line[0] if line else "")
    return Path(script).name.strip()


def next_victims(campaign: Campaign, verb: str, of_verb: int) -> list[str]:
    """Who is to be killed in the next run: those of whom the most kills are still missing."""
    runs = [run for run in campaign.state["runs"] if run["verb"] == verb]
    done = Counter(kill[0] for run in runs for kill in run["kills"])
    missing = {victim: round(share * of_verb) - done[victim] for victim, share in VICTIMS.items()}
    urn = [victim for victim, count in missing.items() for _ in range(max(0, count))]
    campaign.random.shuffle(urn)
    return urn[:HITS]


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """By verb and victim: kills; by verb: what came of them."""
    found: dict[str, Any] = {}
    for verb in [*dict.fromkeys(run["verb"] for run in runs), "all"]:
        mine = [run for run in runs if verb in (run["verb"], "all")]
        found[verb] = {
            "runs": len(mine),
            "kills": dict(Counter(kill[0] for run in mine for kill in run["kills"])),
            "restarts": sum(len(run["exits"]) - 1 for run in mine),
            "ended_with_an_error": sum(len(run["said"]) for run in mine),
            "tracebacks": sum(run["traceback"] for run in mine),
            "differences": sum(bool(run["differences"]) for run in mine),
            "hangs": sum(run["hang"] for run in mine),
            "left_behind": sum(bool(run["left"]) for run in mine),
            "longest_s": max(run["seconds"] for run in mine),
        }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=1e9, help="no run starts after so long")
    parser.add_argument("--verb", action="append", choices=list(VERBS), help="repeatable; default: all")
    options = parser.parse_args()
    verbs, until = options.verb or list(VERBS), time.monotonic() + 60 * options.minutes
    state = json.loads(options.output.read_text()) if options.output.exists() else {"runs": []}
    of_verb = -(-options.kills // len(verbs))
    with Campaign(options.work, state) as campaign:
        references = campaign.references(verbs)
        while time.monotonic() < until:
            # All get as much time, so that a campaign that ends early has many kills, and some of each.
            missing = {verb: victims for verb in verbs if (victims := next_victims(campaign, verb, of_verb))}
            if not missing:
                break
            spent = Counter[str]()
            for past in state["runs"]:
                spent[past["verb"]] += past["seconds"]
            verb = min(missing, key=lambda verb: spent[verb])
            victims = missing[verb]
            run = campaign.run(verb, victims, len(state["runs"]), references[verb])
            state["runs"].append(asdict(run))
            print(json.dumps(asdict(run)), flush=True)
            save(options, state)
    return 0


def save(options: argparse.Namespace, state: dict[str, Any]) -> None:
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    content = {
        "command": "python jobs/kill_campaign.py --work FOLDER --output jobs/results/kill-campaign.json",
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {model.partition(':')[2].strip() or platform.processor()}",
        "verbs": VERBS,
        "summary": summary(state["runs"]),
        "runs": state["runs"],
    }
    draft = options.output.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=1) + "\n")
    draft.replace(options.output)


if __name__ == "__main__":
    sys.exit(main())
