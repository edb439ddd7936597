"""The command line: a verb finds its config and its `main`; every flag comes from the config's dataclass.

A verb's module is imported when the verb runs, so that `redraft --help` answers at once.
"""

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from redraft.interrupts import noted_interrupts

__all__ = ["answer", "main", "parse"]

USAGE_ERROR, INTERRUPTED = 2, 130
RESUMABLE, GO_ON_BY_THEMSELVES = ("train", "tokenize"), ("data download", "data import", "bench tables", "nightly")
TOO_MUCH = re.compile(r"(tried|unable) to allocate [\d.]+ \w+|storage size calculation overflowed", re.IGNORECASE)
LESS = "give smaller numbers or batches, or a machine with more"


@dataclass(frozen=True)
class Verb:
    """One command: what it is for, and the module with the config that its flags come from and what runs it."""

    about: str
    module: str
    config: str
    main: str = "main"

    def load(self, name: str) -> Any:
        """Something from the verb's module."""
        return getattr(import_module(f"redraft.{self.module}"), name)


VERBS: dict[str, Verb] = {
    "demo": Verb("Train and compare recommenders on a generated shop", "demo", "DemoConfig"),
    "data import": Verb("Read raw logs into a data set", "data.importer", "ImportConfig"),
    "data download": Verb("Fetch public review logs", "data.download", "DownloadConfig"),
    "data shop": Verb("Generate a shop whose best possible recall is known", "data.shop", "ShopConfig"),
    "data show": Verb("Look at a data set", "data.show", "ShowConfig"),
    "tokenize": Verb("Give every item its semantic ID", "train.tokenize", "TokenizeConfig"),
    "train": Verb("Train a generative recommender: train RECIPE DATA OUT", "recipes", "TrainConfig", "train"),
    "evaluate": Verb("Recall and NDCG of runs and baselines", "bench.tables.evaluate", "EvaluateConfig"),
    "recommend": Verb("Recommend items for histories", "serve.recommend", "RecommendConfig"),
    "explain": Verb("Show how recommendations were written, code by code", "serve.explain", "ExplainConfig"),
    "experiment plan": Verb("How long an experiment must run", "experiment.verbs.verb", "PlanConfig", "plan"),
    "experiment run": Verb("Replay one on customers who answer", "experiment.verbs.verb", "RunConfig", "run"),
    "experiment watch": Verb("How one stands", "experiment.verbs.verb", "WatchConfig", "watch"),
    "experiment report": Verb("A page of one, and what may be said", "experiment.verbs.verb", "ReportConfig", "report"),
    "export": Verb("Turn a run into programs that serve it", "serve.export", "ExportConfig"),
    "serve": Verb("Answer requests over HTTP", "service.verb", "ServeConfig"),
    "nightly": Verb("From new events to a new model and lists for everybody", "nightly.verb", "NightlyConfig"),
    "bench import": Verb("Time and memory of importing ten million events", "bench.speed.imports", "ImportBenchConfig"),
    "bench trie": Verb("Size and speed of the trie at 25 million items", "bench.speed.trie", "TrieConfig"),
    "bench pretrain": Verb("Training speed beside T5", "bench.speed.pretrain", "PretrainBenchConfig"),
    "bench correct": Verb("What reflection and correction add", "bench.tables.correct", "CorrectBenchConfig"),
    "bench evidence": Verb("What evidence and corrections add", "bench.tables.evidence", "EvidenceBenchConfig"),
    "bench rollout": Verb("How fast trajectories are sampled", "bench.speed.rollout", "RolloutBenchConfig"),
    "bench decode": Verb("Speed of lists beside T5", "bench.speed.decode", "DecodeConfig"),
    "bench precision": Verb("What bfloat16 changes in a run's lists", "bench.speed.precision", "PrecisionConfig"),
    "bench shortlist": Verb("What a generator's search reads and costs", "bench.speed.shortlist", "ShortlistConfig"),
    "bench serve": Verb("What a service answers in time, and what not", "bench.speed.serve", "ServeBenchConfig"),
    "bench experiment": Verb(
        "Time and memory of an analysis, cost of a request", "experiment.verbs.bench", "ExperimentBenchConfig"
    ),
    "bench tables": Verb("The paper's tables: all methods on one data set", "bench.tables.make", "TablesConfig"),
    "bench report": Verb("A page of those tables, curves, costs and single users", "bench.report.make", "ReportConfig"),
    "bench faults": Verb("Destinations and kills that must cost nobody a byte", "faults.make", "FaultsConfig"),
    "bench documents": Verb("Write the documents' tables from results/", "bench.results", "DocumentsConfig"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0 if it went well, 2 for input that cannot be used, said in one line on stderr.

    1 if whoever reads the output, such as `head`, has read enough. 130 if Ctrl-C stopped it.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name = next((n for n in (" ".join(words[:2]), *words[:1]) if n in VERBS), None)
    if name is None:
        return _help(words)
    verb = VERBS[name]
    return answer(name, words, lambda: verb.load(verb.main)(parse(name, words[len(name.split()) :])))


def answer(name: str, words: Sequence[str], work: Callable[[], object]) -> int:
    """Do the work of a verb that was called by these words; the status and the line on stderr are those of `main`."""
    with noted_interrupts() as interrupts:
        try:
            work()
        except BaseException as error:
            if interrupts.noted or isinstance(error, KeyboardInterrupt):
                print(f"stopped{_how_to_go_on(name, words)}", file=sys.stderr)
                return INTERRUPTED
            if isinstance(error, Exception):
                return _failed(error)
            raise
    return 0


def _failed(error: Exception) -> int:
    """Say what went wrong; what is no fault of input, disk or memory is raised again."""
    from redraft.records import InputError

    if isinstance(error, InputError):
        return _fail(str(error))
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
        return 1
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}; check the path and the space on its disk")
    too_much = TOO_MUCH.search(str(error))
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and too_much):
        return _fail(f"not enough memory{f' ({too_much[0]})' if too_much else ''}; {LESS}")
    raise error


def _how_to_go_on(name: str, words: Sequence[str]) -> str:
    """For the line of a verb that was stopped: the command that goes on from there, if there is one."""
    if name in GO_ON_BY_THEMSELVES:
        return "; the same command goes on from here"
    if name not in RESUMABLE:
        return ""
    kept = [word for word in words if word != "--resume" and (name == "tokenize" or word != "--replace")]
    return f"; to go on: {shlex.join(['redraft', *kept, '--resume'])}"


def parse(name: str, words: list[str]) -> Any:
    """The verb's config from its flags; `train` starts from the recipe that its first word names."""
    import tyro

    verb = VERBS[name]
    style = (tyro.conf.PositionalMetavarFromFieldName, tyro.conf.FlagCreatePairsOff)
    shown: dict[str, Any] = {"prog": f"redraft {name}", "description": verb.about, "config": style}
    if name != "train":
        return tyro.cli(verb.load(verb.config), args=words, **shown)
    makers = {
        r: ((make.__doc__ or "").strip(), make(tyro.MISSING, tyro.MISSING)) for r, make in verb.load("RECIPES").items()
    }
    return tyro.extras.overridable_config_cli(makers, args=words, **shown)


def _help(words: list[str]) -> int:
    if words and words[0] in ("-V", "--version"):
        print(f"redraft {import_module('redraft').__version__}")
        return 0
    print("redraft: generative recommendation that corrects itself\n\nusage: redraft VERB ...   (VERB --help)\n")
    for name, verb in VERBS.items():
        print(f"  {name:<17} {verb.about}")
    if words and words[0] not in ("-h", "--help"):
        return _fail(f"no verb {' '.join(words[:2])!r}; the verbs are listed above")
    return 0


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return USAGE_ERROR
