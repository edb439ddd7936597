"""The command line: a verb finds its config and its `main`; every flag comes from the config's dataclass."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tyro

from redraft import demo, recipes
from redraft.bench import correct, decode, evaluate, imports, precision, report, results, rollout, tables, trie
from redraft.bench import pretrain as pretrain_speed
from redraft.data import download, importer, shop, show
from redraft.records import InputError
from redraft.serve import explain, export, recommend
from redraft.train import pretrain, tokenize

__all__ = ["main"]

USAGE_ERROR = 2
STYLE = (tyro.conf.PositionalMetavarFromFieldName, tyro.conf.FlagCreatePairsOff)


@dataclass(frozen=True)
class Verb:
    """One command: what it is for, the config its flags come from, and what runs it."""

    about: str
    config: Any
    main: Callable[[Any], object]


VERBS: dict[str, Verb] = {
    "demo": Verb("Train and compare recommenders on a generated shop", demo.DemoConfig, demo.main),
    "data import": Verb("Read raw logs into a data set", importer.ImportConfig, importer.main),
    "data download": Verb("Fetch public review logs", download.DownloadConfig, download.main),
    "data shop": Verb("Generate a shop whose best possible recall is known", shop.ShopConfig, shop.main),
    "data show": Verb("Look at a data set", show.ShowConfig, show.main),
    "tokenize": Verb("Give every item its semantic ID", tokenize.TokenizeConfig, tokenize.main),
    "train": Verb("Train a generative recommender: train RECIPE DATA OUT", pretrain.PretrainConfig, recipes.train),
    "evaluate": Verb("Recall and NDCG of runs and baselines", evaluate.EvaluateConfig, evaluate.main),
    "recommend": Verb("Recommend items for histories", recommend.RecommendConfig, recommend.main),
    "explain": Verb("Show how recommendations were written, code by code", explain.ExplainConfig, explain.main),
    "export": Verb("Turn a run into programs that serve it", export.ExportConfig, export.main),
    "bench import": Verb("Time and memory of importing ten million events", imports.ImportBenchConfig, imports.main),
    "bench trie": Verb("Size and speed of the trie at 25 million items", trie.TrieConfig, trie.main),
    "bench pretrain": Verb("Training speed beside T5", pretrain_speed.PretrainBenchConfig, pretrain_speed.main),
    "bench correct": Verb("What reflection and correction buy", correct.CorrectBenchConfig, correct.main),
    "bench rollout": Verb("How fast trajectories are sampled", rollout.RolloutBenchConfig, rollout.main),
    "bench decode": Verb("Speed of lists beside T5", decode.DecodeConfig, decode.main),
    "bench precision": Verb("What bfloat16 changes in a run's lists", precision.PrecisionConfig, precision.main),
    "bench tables": Verb("The paper's tables: all methods on one data set", tables.TablesConfig, tables.main),
    "bench report": Verb("A page of those tables, curves, costs and single users", report.ReportConfig, report.main),
    "bench documents": Verb("Write the documents' tables from results/", results.DocumentsConfig, results.main),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0 if it went well, 2 for input that cannot be used, said in one line on stderr.

    1 if whoever reads the output, such as `head`, has seen enough.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name = next((n for n in (" ".join(words[:2]), *words[:1]) if n in VERBS), None)
    if name is None:
        return _help(words)
    try:
        VERBS[name].main(_parse(name, words[len(name.split()) :]))
    except InputError as error:
        return _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}; check the path and the space on its disk")
    return 0


def _parse(name: str, words: list[str]) -> Any:
    """The verb's config from its flags; `train` starts from the recipe that its first word names."""
    verb = VERBS[name]
    shown: dict[str, Any] = {"prog": f"redraft {name}", "description": verb.about, "config": STYLE}
    if name != "train":
        return tyro.cli(verb.config, args=words, **shown)
    makers = {
        r: ((make.__doc__ or "").strip(), make(tyro.MISSING, tyro.MISSING)) for r, make in recipes.RECIPES.items()
    }
    return tyro.extras.overridable_config_cli(makers, args=words, **shown)


def _help(words: list[str]) -> int:
    print("redraft: generative recommendation that corrects itself\n\nusage: redraft VERB ...   (VERB --help)\n")
    for name, verb in VERBS.items():
        print(f"  {name:<15} {verb.about}")
    if words and words[0] not in ("-h", "--help"):
        return _fail(f"no verb {' '.join(words[:2])!r}; the verbs are listed above")
    return 0


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
