"""`redraft experiment watch`: how experiments stand, in the terminal."""

from redraft.bench.columns import Column, terminal_table
from redraft.experiment.analysis.conclude import NAMES, Analysis, sentence_of, verdict_of
from redraft.experiment.verbs.looking import analysis_of, chosen, moment
from redraft.experiment.verbs.verb import WatchConfig
from redraft.records import InputError
from redraft.terminal import next_command, plain_console

__all__ = ["COLUMNS", "lift_rows", "main"]

COLUMNS = [
    Column("metric", "metric"),
    Column("arm", "arm"),
    Column("control", "control", ".4g"),
    Column("with it", "treatment", ".4g"),
    Column("lift", "lift", "+.2%"),
    Column("95 % interval", "low", "{low:+.2%} to {high:+.2%}"),
    Column("p", "p", ".3f"),
    Column("p after Holm", "p_holm", ".3f"),
    Column("guard, whenever one looks", "guard_low", "{guard_low:+.2%} to {guard_high:+.2%}"),
]


def main(config: WatchConfig) -> None:
    """Print each experiment's table and what may be said."""
    console, now = plain_console(), moment(config.now)
    experiments = [each for each in chosen(config.file, config.name) if each.kind == "ab"]
    if not experiments:
        raise InputError(
            f"{config.file}: has no experiment of kind ab to watch; `redraft experiment report` reads others"
        )
    for experiment in experiments:
        analysis = analysis_of(experiment, config.state, now)
        title = f"{experiment.name}: day {analysis.days} of {experiment.days}, {verdict_of(analysis)}"
        console.print(terminal_table(lift_rows(analysis), COLUMNS, title))
        console.print(sentence_of(analysis))
        for remark in [*analysis.problems, *analysis.remarks]:
            console.print(f"note: {remark}")
    out = config.state / f"{experiments[0].name}.html"
    console.print(next_command("experiment", "report", config.file, "--state", config.state, "--out", out))


def lift_rows(analysis: Analysis) -> list[dict[str, object]]:
    """The lifts of the last day as rows of `COLUMNS`; before the horizon without p-values, which nobody may use yet."""
    over = analysis.days >= analysis.experiment.days
    return [
        {
            "metric": NAMES[lift.metric],
            "arm": lift.arm,
            "control": lift.control,
            "treatment": lift.treatment,
            "lift": lift.lift,
            "low": lift.low,
            "high": lift.high,
            "guard_low": guard.low,
            "guard_high": guard.high,
        }
        | ({"p": lift.p, "p_holm": lift.p_holm} if over else {})
        for lift, guard in zip(analysis.lifts, analysis.guards[-1])
    ]
