"""The files in docker/ are valid by their schemas, and start what they promise."""

import os
import re
import subprocess
import sys

import jsonschema
import kubernetes_validate
import pytest
import yaml


@pytest.fixture(scope="module")
def compose(root):
    return yaml.safe_load((root / "docker/compose.yaml").read_text())


@pytest.fixture(scope="module")
def kuberay(root):
    return yaml.safe_load((root / "docker/kuberay.yaml").read_text())


def test_the_compose_file_is_valid(root):
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([*check, "docker/compose.yaml"], cwd=root, check=True, capture_output=True)


def test_the_compose_file_listens_on_this_machine_only(compose):
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_compose_file_holds_no_secret_and_demands_them(compose):
    for service in compose["services"].values():
        for name, value in service["environment"].items():
            if "PASSWORD" in name or "TOKEN" in name:
                assert re.fullmatch(r"\$\{\w+:\?.*\}", value)
    assert "RAY_AUTH_TOKEN" in compose["services"]["worker"]["environment"]
    assert "--allowed-hosts" in compose["services"]["tracking"]["command"]


def groups(kuberay):
    return [kuberay["spec"]["headGroupSpec"], *kuberay["spec"]["workerGroupSpecs"]]


def test_the_pods_of_the_kuberay_manifest_are_valid(kuberay):
    for group in groups(kuberay):
        spec = group["template"]["spec"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
        kubernetes_validate.validate(pod, "1.31", strict=True)


def closed(required=(), **properties):
    """Return the schema of an object that has no other fields than these."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


TEXT, COUNT, SWITCH, OBJECT = ({"type": t} for t in ("string", "integer", "boolean", "object"))
TEXTS = {"type": "object", "additionalProperties": TEXT}
GROUP = {"rayStartParams": TEXTS, "template": closed(["spec"], metadata=OBJECT, spec=OBJECT)}
# RayCluster in ray.io/v1, with the fields that KubeRay's types had before 1.3: no package holds
# its definition. Pods are checked against the schemas of Kubernetes.
RAY_CLUSTER = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayCluster"},
    metadata=OBJECT,
    spec=closed(
        ["headGroupSpec"],
        rayVersion=TEXT,
        suspend=SWITCH,
        headServiceAnnotations=TEXTS,
        enableInTreeAutoscaling=SWITCH,
        autoscalerOptions=closed(
            idleTimeoutSeconds=COUNT,
            upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
            image=TEXT,
            imagePullPolicy=TEXT,
            env={"type": "array"},
            envFrom={"type": "array"},
            volumeMounts={"type": "array"},
            resources=OBJECT,
            securityContext=OBJECT,
        ),
        headGroupSpec=closed(
            ["rayStartParams", "template"],
            serviceType=TEXT,
            headService=OBJECT,
            enableIngress=SWITCH,
            **GROUP,
        ),
        workerGroupSpecs={
            "type": "array",
            "items": closed(
                ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
                groupName=TEXT,
                replicas=COUNT,
                minReplicas=COUNT,
                maxReplicas=COUNT,
                numOfHosts=COUNT,
                scaleStrategy=OBJECT,
                **GROUP,
            ),
        },
    ),
)


def test_the_kuberay_manifest_has_the_fields_of_a_cluster_and_no_others(kuberay):
    jsonschema.validate(kuberay, RAY_CLUSTER)


def test_the_kuberay_manifest_uses_tokens_and_the_ray_that_the_package_needs(kuberay, root):
    for group in groups(kuberay):
        (container,) = group["template"]["spec"]["containers"]
        environment = {item["name"]: item for item in container["env"]}
        assert environment["RAY_AUTH_MODE"]["value"] == "token"
        assert "secretKeyRef" in environment["RAY_AUTH_TOKEN"]["valueFrom"]
        assert container["securityContext"]["runAsNonRoot"]
    major_minor = kuberay["spec"]["rayVersion"].rpartition(".")[0]
    assert f"ray[tune]>={major_minor}," in (root / "pyproject.toml").read_text()


def test_the_image_runs_as_nobody_of_importance(root):
    final = (root / "docker/Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert "\nUSER psvae\n" in final
    assert "HEALTHCHECK" in final
    assert not re.search(r"build-essential|gcc|git\b", final)


STUBS = {
    "srun": 'while [[ $1 == --* ]]; do shift; done; echo "srun $*" >> "$LOG"; exec "$@"',
    "scontrol": "echo first; echo second",
    "ray": 'echo "ray $*" >> "$LOG"; [ "$1" = health-check ] || exec sleep 2',
    # The end of the study ends the nodes, so it waits until both have noted their calls.
    "psvae-tune": 'until [ "$(grep -c "^ray start" "$LOG")" = 2 ]; do sleep 0.1; done; '
    'echo "psvae-tune $*, token $(wc -c < "$RAY_AUTH_TOKEN_PATH")" >> "$LOG"',
}


@pytest.fixture
def slurm(tmp_path, root):
    """Return a function that runs the Slurm script where Slurm and Ray only note their calls."""
    for name, body in STUBS.items():
        stub = tmp_path / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f"#!/usr/bin/env bash\n{body}\n")
        stub.chmod(0o755)

    def run() -> list[str]:
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        environment = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "LOG": str(log),
            "SLURM_JOB_ID": "77",
            "SLURM_JOB_NODELIST": "[first,second]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "8",
            "SLURM_GPUS_PER_TASK": "1",
        }
        command = ["bash", str(root / "docker/slurm.sh"), "study.yaml", str(tmp_path)]
        subprocess.run(
            [*command, "http://mlflow:5000", "mouse"], env=environment, check=True, timeout=60
        )
        return log.read_text().splitlines()

    return run


def test_the_slurm_script_starts_a_head_the_other_nodes_and_the_study(slurm, tmp_path):
    lines = slurm()
    resources = "--num-cpus 8 --num-gpus 1"
    assert f"ray start --head --block --node-ip-address=first --port=20077 {resources}" in lines
    assert f"ray start --address=first:20077 --block {resources}" in lines
    assert (
        f"psvae-tune run study.yaml --output {tmp_path} --name mouse "
        "--tracking-uri http://mlflow:5000 --address first:20077, token 64"
    ) in lines
    assert not list(tmp_path.glob(".ray-token-*"))


def test_the_slurm_script_goes_on_with_a_study_that_began(slurm, tmp_path):
    (tmp_path / "mouse").mkdir()
    (tmp_path / "mouse" / "study.yaml").touch()
    resumed = f"psvae-tune resume {tmp_path}/mouse --tracking-uri"
    assert any(line.startswith(resumed) for line in slurm())
