"""What is deployed says what the program understands: images, compose file, jobs, and the chart, filled in by hand.

Without helm at hand its templates are filled by the few lines below, which know as much of the language as they use.
"""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from redraft import cli
from redraft.service.keys import KEYS_VARIABLE
from redraft.service.metrics import Metrics
from redraft.service.openapi import openapi
from redraft.service.verb import ServeConfig

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "chart"
PRE_STOP = 5
RULES = """
extends: default
rules:
  line-length: {max: 130}
  document-start: disable
  braces: disable
  comments: {min-spaces-from-content: 1}
"""


def filled(text: str, values: dict[str, Any]) -> list[Any]:
    """The documents of a template: its values put in, with `if`, `quote`, `add` and `toYaml | nindent`."""
    known = {"Values": values, "Release": {"Name": "shop"}}

    def value(word: str) -> Any:
        if not word.startswith("."):
            return int(word)
        found: Any = known
        for name in word[1:].split("."):
            found = found[name]
        return found

    def one(match: re.Match[str]) -> str:
        first, *pipes = (part.split() for part in match[1].strip(" -").split("|"))
        found = value(first[0]) if first[0].startswith(".") else None
        if first[0] == "add":
            found = sum(map(value, first[1:]))
        if first[0] == "toYaml":
            found = yaml.safe_dump(value(first[1]))
        for name, *rest in pipes:
            found = json.dumps(str(found)) if name == "quote" else found
            if name == "nindent":
                found = "".join("\n" + " " * int(rest[0]) + line for line in found.splitlines())
        assert found is not None, match[0]
        return str(found)

    def kept(match: re.Match[str]) -> str:
        wanted = value(match[2]) != (match[1] is not None)
        return match[3] if wanted else ""

    block = r"^ *\{\{- if (not )?(\S+) \}\}\n(.*?)^ *\{\{- end \}\}\n"
    text = re.sub(block, kept, text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\{\{(.*?)\}\}", one, text)
    return list(yaml.safe_load_all(text))


def chart(**changes: Any) -> dict[str, Any]:
    """Its documents by kind."""
    values = yaml.safe_load((CHART / "values.yaml").read_text()) | changes
    documents = [
        each for path in sorted((CHART / "templates").glob("*.yaml")) for each in filled(path.read_text(), values)
    ]
    return {document["kind"]: document for document in documents}


def served(words: list[str]) -> ServeConfig:
    assert words[0] == "serve"
    return tyro.cli(ServeConfig, args=words[1:])


def test_the_chart_starts_the_service_as_it_wants_to_be_started() -> None:
    documents = chart(drainSeconds=40)
    pod = documents["Deployment"]["spec"]["template"]
    [container] = pod["spec"]["containers"]
    config = served(container["args"])
    assert (config.host, config.state, config.drain_seconds) == ("0.0.0.0", Path("/state"), 40)
    assert pod["spec"]["terminationGracePeriodSeconds"] > config.drain_seconds + PRE_STOP
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", str(PRE_STOP)]
    routes = json.loads(openapi())["paths"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in routes
    assert container["env"][0]["name"] == KEYS_VARIABLE
    assert container["ports"] == [{"name": "http", "containerPort": config.port}]
    assert {mount["name"] for mount in container["volumeMounts"]} == {each["name"] for each in pod["spec"]["volumes"]}
    assert container["resources"]["limits"] == {"memory": "4Gi"}
    labels = pod["metadata"]["labels"]
    for selector in (
        documents["Deployment"]["spec"]["selector"]["matchLabels"],
        documents["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        documents["Service"]["spec"]["selector"],
    ):
        assert selector.items() <= labels.items()


def test_the_chart_scales_by_a_metric_that_there_is() -> None:
    assert "HorizontalPodAutoscaler" not in chart()
    assert chart()["Deployment"]["spec"]["replicas"] == 2
    documents = chart(autoscaling={"enabled": True, "maxReplicas": 10, "queueLength": "8"})
    assert "replicas" not in documents["Deployment"]["spec"]
    scaler = documents["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == documents["Deployment"]["metadata"]["name"]
    name = scaler["metrics"][0]["pods"]["metric"]["name"]
    assert f"\n{name} " in Metrics(lambda: 0).text().decode()


def test_the_compose_file_and_the_image_start_the_service() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    service = compose["services"]["redraft"]
    command = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", word) for word in service["command"]]
    config = served(command)
    assert (config.host, config.store) == ("0.0.0.0", "redis://valkey:6379/0")
    assert KEYS_VARIABLE in service["environment"]
    assert int(service["stop_grace_period"].rstrip("s")) > config.drain_seconds
    assert service["depends_on"].keys() <= compose["services"].keys()
    mounted = {volume.partition(":")[0] for each in compose["services"].values() for volume in each["volumes"]}
    assert {name for name in mounted if not name.startswith(".")} == compose["volumes"].keys()
    image = (ROOT / "Dockerfile").read_text()
    [words] = re.findall(r"^CMD (\[.*\])$", image, re.MULTILINE)
    assert served(json.loads(words)).host == "0.0.0.0"
    [copied] = re.findall(r"^COPY (pyproject.*) \./$", image, re.MULTILINE)
    assert all((ROOT / name).exists() for name in shlex.split(copied))
    assert re.findall(r"^USER (\d+)$", image, re.MULTILINE) == ["10001"]
    assert "/livez" in image


def parsed(words: list[str]) -> Any:
    """The config of a command, `redraft` being its first word."""
    assert words[0] == "redraft"
    name = next(n for n in (" ".join(words[1:3]), words[1]) if n in cli.VERBS)
    return cli.parse(name, words[1 + len(name.split()) :])


def test_the_ray_job_imports_where_all_its_nodes_write() -> None:
    job = yaml.safe_load((ROOT / "deploy" / "ray" / "job.yaml").read_text())["spec"]
    config = parsed(shlex.split(job["entrypoint"]))
    assert (config.engine, config.address) == ("ray", None)
    cluster = job["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    image = (ROOT / "deploy" / "ray" / "Dockerfile").read_text()
    assert f"FROM rayproject/ray:{cluster['rayVersion']}-py311" in image
    for copied in re.findall(r"^COPY --chown=ray (.*) /\S+$", image, re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split())
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        [container] = pod["containers"]
        assert int(group["rayStartParams"]["num-cpus"]) <= int(container["resources"]["requests"]["cpu"])
        [mount] = container["volumeMounts"]
        assert all(path.is_relative_to(mount["mountPath"]) for path in (config.src, config.dst))
        assert [volume["name"] for volume in pod["volumes"]] == [mount["name"]]


def test_the_slurm_script_makes_lists_on_its_nodes() -> None:
    path = ROOT / "deploy" / "slurm" / "lists.sbatch"
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    lines = path.read_text().replace("\\\n", " ").splitlines()
    [ray, words] = (part.split() for part in next(line for line in lines if "redraft recommend" in line).split(" -- "))
    config = parsed([word.strip('"') for word in words])
    assert (config.engine, config.address) == ("ray", "$ADDRESS")
    assert ray[ray.index("--address") + 1] == '"$ADDRESS"'
    assert any(line.startswith("(umask 077 && ") and line.endswith('> "$RAY_AUTH_TOKEN_PATH")') for line in lines)
    assert any(line.startswith("export RAY_AUTH_MODE=token ") for line in lines)


@pytest.mark.parametrize("name", ["compose.yaml", "chart/Chart.yaml", "chart/values.yaml", "ray/job.yaml"])
def test_its_yaml_is_tidy(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text()
    assert [str(problem) for problem in linter.run(text, YamlLintConfig(RULES))] == []
