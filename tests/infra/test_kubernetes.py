"""The Kubernetes manifests: schemas, pod security, network, and what the sweep relies on; all without a network."""

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from setr.errors import InputError, IntegrityError
from tests.helpers.environment import ROOT

FOLDER = ROOT / "infra" / "kubernetes"
OVERLAYS = ("base", "tracking", "ray", "rayjob", "job")
SCHEMA_VERSION = "1.32"
COMPONENT = "app.kubernetes.io/component"

# The fields of KubeRay 1.6.2 (ray.io/v1); its schemas are in no package that could be installed here.
CLUSTER_FIELDS = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec",
    "headServiceAnnotations", "managedBy", "rayVersion", "suspend", "upgradeStrategy", "workerGroupSpecs",
}  # fmt: skip
GROUP_FIELDS = {
    "enableIngress", "headService", "idleTimeoutSeconds", "groupName", "labels", "maxReplicas", "minReplicas",
    "numOfHosts", "rayStartParams", "replicas", "resources", "scaleStrategy", "serviceType", "template",
}  # fmt: skip
JOB_FIELDS = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint", "entrypointNumCpus",
    "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata", "rayClusterSpec", "runtimeEnvYAML",
    "shutdownAfterJobFinishes", "submissionMode", "submitterConfig", "submitterPodTemplate", "suspend",
    "ttlSecondsAfterFinished",
}  # fmt: skip

Object = dict[str, Any]


def written() -> list[Object]:
    """Returns every object of the manifests, in the order of the files."""
    objects = []
    for path in sorted(FOLDER.rglob("*.yaml")):
        for entry in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if entry.get("kind", "Kustomization") != "Kustomization":
                objects.append(entry)
    return objects


OBJECTS = written()
NAMES = [f"{entry['kind']}/{entry['metadata']['name']}" for entry in OBJECTS]


def find(kind: str, name: str) -> Object:
    return OBJECTS[NAMES.index(f"{kind}/{name}")]


def pod_templates(entry: Object) -> Iterator[tuple[str, Object]]:
    """Yields the name and the template of every pod that the object makes."""
    name, spec = entry["metadata"]["name"], entry.get("spec", {})
    if entry["kind"] in ("Deployment", "StatefulSet", "Job"):
        yield name, spec["template"]
    if entry["kind"] == "RayCluster":
        yield f"{name}-head", spec["headGroupSpec"]["template"]
        yield from ((f"{name}-{group['groupName']}", group["template"]) for group in spec["workerGroupSpecs"])
    if entry["kind"] == "RayJob":
        yield f"{name}-submitter", spec["submitterPodTemplate"]


PODS = {name: template for entry in OBJECTS for name, template in pod_templates(entry)}


def test_all_kinds_are_there() -> None:
    assert sorted(PODS) == [
        "initialise", "mlflow", "object-store", "postgres", "setr-gpu", "setr-head", "sweep", "sweep-submitter",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("Ray")])
def test_object_fits_the_schema_of_kubernetes(name: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    validator.validate(OBJECTS[NAMES.index(name)], SCHEMA_VERSION, strict=True)


@pytest.mark.parametrize("name", PODS)
def test_pod_template_fits_the_schema_of_kubernetes(name: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    template = {"metadata": {}, **copy.deepcopy(PODS[name])}
    wrapped = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": template}
    validator.validate(wrapped, SCHEMA_VERSION, strict=True)
    template["spec"]["containers"][0]["securityContexts"] = {}
    with pytest.raises(validator.utils.ValidationError):
        validator.validate(wrapped, SCHEMA_VERSION, strict=True)


def test_ray_objects_use_fields_that_kuberay_knows() -> None:
    cluster = find("RayCluster", "setr")["spec"]
    assert set(cluster) <= CLUSTER_FIELDS
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert set(group) <= GROUP_FIELDS
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    job = find("RayJob", "sweep")["spec"]
    assert set(job) <= JOB_FIELDS
    assert job["submissionMode"] == "K8sJobMode"


@pytest.mark.parametrize("name", PODS)
def test_pod_is_restricted(name: str) -> None:
    spec = PODS[name]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == "setr"
    assert spec["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 0
    assert security["runAsGroup"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        assert kinds <= {"emptyDir", "configMap", "secret", "persistentVolumeClaim"}
        assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}), volume
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        assert {"cpu", "memory", "ephemeral-storage"} <= set(resources["limits"])
        assert "hostPort" not in json.dumps(container)


@pytest.mark.parametrize("name", PODS)
def test_mounts_and_volumes_match(name: str) -> None:
    spec = PODS[name]["spec"]
    claimed = {"data"} if name in ("postgres", "object-store") else set()  # of the StatefulSet's own claims
    mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]} | claimed
    # A read-only root: Ray, torch and MLflow all need /tmp.
    assert "/tmp" in {mount["mountPath"] for container in spec["containers"] for mount in container["volumeMounts"]}


def test_secrets_come_from_secrets() -> None:
    for name, template in PODS.items():
        for container in template["spec"]["containers"]:
            for variable in container.get("env", []):
                sensitive = any(word in variable["name"] for word in ("PASSWORD", "TOKEN", "SECRET", "KEY"))
                assert not sensitive or "valueFrom" in variable, (name, variable["name"])
    assert not [name for name in NAMES if name.startswith("Secret/")]
    # The server never holds the password of the role that may change tables.
    sources = {name: pod["spec"]["containers"][0].get("envFrom", []) for name, pod in PODS.items()}
    secrets = {name: [entry["secretRef"]["name"] for entry in found] for name, found in sources.items()}
    assert secrets["mlflow"] == ["server"]
    assert secrets["initialise"] == ["initialise"]


def test_namespace_enforces_the_restricted_profile() -> None:
    labels = find("Namespace", "setr")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for overlay in OVERLAYS:
        assert yaml.safe_load((FOLDER / overlay / "kustomization.yaml").read_text())["namespace"] == "setr"


def selects(selector: Object, component: str) -> bool:
    labels = selector.get("matchLabels", {})
    expressions = selector.get("matchExpressions", [])
    return labels.get(COMPONENT, component) == component and all(component in e["values"] for e in expressions)


def ports(direction: str, side: str, other: str) -> set[int | None]:
    """Returns the ports on which the policies of `side` allow `ingress` from or `egress` to `other`; None: any port."""
    found: set[int | None] = set()
    policies = [entry["spec"] for entry in OBJECTS if entry["kind"] == "NetworkPolicy"]
    for policy in (policy for policy in policies if selects(policy["podSelector"], side)):
        for rule in policy.get(direction, []):
            peers = rule["from" if direction == "ingress" else "to"]
            if any("namespaceSelector" not in peer and selects(peer["podSelector"], other) for peer in peers):
                found |= {port["port"] for port in rule.get("ports", [])} or {None}
    return found


FLOWS: dict[tuple[str, str], set[int | None]] = {
    ("ray", "ray"): {None},
    ("submitter", "ray"): {8265},
    ("ray", "mlflow"): {5000},
    ("sweep", "mlflow"): {5000},
    ("mlflow", "postgres"): {5432},
    ("mlflow", "object-store"): {7070},
    ("initialise", "postgres"): {5432},
    ("initialise", "object-store"): {7070},
}


def test_network_is_closed_but_for_the_flows_that_are_needed() -> None:
    deny = find("NetworkPolicy", "deny-all")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    components = {template["metadata"]["labels"][COMPONENT] for template in PODS.values()}
    assert components == {name for pair in FLOWS for name in pair}
    for source in components:
        for target in components:
            wanted = FLOWS.get((source, target), set())
            assert ports("egress", source, target) == wanted, (source, target)
            assert ports("ingress", target, source) == wanted, (source, target)
    assert "ipBlock" not in (FOLDER / "base" / "network.yaml").read_text()


def test_services_are_inside_the_cluster_and_reach_their_pods() -> None:
    for entry in (entry for entry in OBJECTS if entry["kind"] == "Service"):
        assert entry["spec"].get("type", "ClusterIP") == "ClusterIP"
        pod = PODS[entry["metadata"]["name"]]
        assert entry["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        assert all(ports[port["targetPort"]] == port["port"] for port in entry["spec"]["ports"])
    assert not [name for name in NAMES if name.startswith(("Ingress/", "Role", "ClusterRole"))]


def test_images_are_pinned_and_the_same_everywhere() -> None:
    used = {container["image"] for template in PODS.values() for container in template["spec"]["containers"]}
    for image in used:
        name, _, tag = image.rpartition(":")
        assert name
        assert tag not in ("", "latest")
    named = set()
    for overlay in OVERLAYS:
        for image in yaml.safe_load((FOLDER / overlay / "kustomization.yaml").read_text()).get("images", []):
            named.add(f"{image['name']}:{image['newTag']}")
    assert named == used
    compose = yaml.safe_load((ROOT / "infra" / "tracking" / "compose.yaml").read_text())
    assert {service["image"] for service in compose["services"].values()} <= used


def test_cluster_is_in_token_mode_at_the_locked_version() -> None:
    spec = find("RayCluster", "setr")["spec"]
    assert f"\nray=={spec['rayVersion']}\n" in (ROOT / "requirements.lock").read_text()
    assert spec["authOptions"] == {"mode": "token", "secretName": "setr-ray-token"}
    assert "enableInTreeAutoscaling" not in spec
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_stopping_leaves_time_to_save() -> None:
    head = PODS["setr-head"]["spec"]
    variables = {variable["name"]: variable.get("value") for variable in head["containers"][0]["env"]}
    assert 30 < int(variables["RAY_JOB_STOP_WAIT_TIME_S"]) < head["terminationGracePeriodSeconds"]
    assert PODS["sweep"]["spec"]["terminationGracePeriodSeconds"] >= 120


def test_preemption_is_survived() -> None:
    expressions = PODS["setr-head"]["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"][0]["matchExpressions"]
    assert all(entry["operator"] == "NotIn" for entry in expressions)
    spot = {entry["key"] for entry in PODS["setr-gpu"]["spec"]["tolerations"]}
    assert {"cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"} <= spot
    assert find("PodDisruptionBudget", "ray-head")["spec"]["selector"]["matchLabels"] == {"ray.io/node-type": "head"}
    assert find("RayJob", "sweep")["spec"]["backoffLimit"] > 0


def test_job_repeats_what_can_succeed_and_nothing_else() -> None:
    spec = find("Job", "sweep")["spec"]
    ignored, failed = spec["podFailurePolicy"]["rules"]
    assert ignored == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert failed["action"] == "FailJob"
    assert failed["onExitCodes"]["values"] == [InputError.exit_status, IntegrityError.exit_status]
    assert failed["onExitCodes"]["containerName"] == spec["template"]["spec"]["containers"][0]["name"]
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def bytes_of(quantity: str) -> int:
    units = {"Mi": 2**20, "Gi": 2**30}
    return int(quantity[:-2]) * units[quantity[-2:]]


@pytest.mark.parametrize("name", ["setr-head", "setr-gpu"])
def test_shared_memory_holds_the_object_store(name: str) -> None:
    spec = find("RayCluster", "setr")["spec"]
    group = spec["headGroupSpec"] if name == "setr-head" else spec["workerGroupSpecs"][0]
    pod = group["template"]["spec"]
    shared = next(volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shm")
    assert shared["medium"] == "Memory"
    assert {"name": "shm", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]
    memory = bytes_of(pod["containers"][0]["resources"]["limits"]["memory"])
    assert int(group["rayStartParams"]["object-store-memory"]) < bytes_of(shared["sizeLimit"]) < memory / 2


def test_every_pod_of_the_sweep_sees_the_same_home() -> None:
    for name in ("setr-head", "setr-gpu", "sweep"):
        pod = PODS[name]["spec"]
        assert {"name": "SETR_HOME", "value": "/setr"} in pod["containers"][0]["env"]
        assert {"name": "setr-home", "mountPath": "/setr"} in pod["containers"][0]["volumeMounts"]
        assert {"name": "setr-home", "persistentVolumeClaim": {"claimName": "setr-home"}} in pod["volumes"]
    assert find("PersistentVolumeClaim", "setr-home")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_roles_are_run_and_not_sourced() -> None:
    # PostgreSQL's image sources scripts that are not executable, and this one's options would then be its own.
    assert os.access(FOLDER / "tracking" / "roles.sh", os.X_OK)
    (volume,) = (volume for volume in PODS["postgres"]["spec"]["volumes"] if volume["name"] == "roles")
    assert volume["configMap"]["defaultMode"] == 0o555


def test_the_server_is_closed() -> None:
    container = PODS["mlflow"]["spec"]["containers"][0]
    command = container["command"]
    assert {"name": "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "value": "false"} in container["env"]
    hosts = next(word for word in command if word.startswith("--allowed-hosts=")).partition("=")[2].split(",")
    assert "mlflow:5000" in hosts
    assert not any("*" in host for host in hosts)
    assert any(word.startswith("--workers=") for word in command)
    # Database user without a password in the address; the driver is the one in requirements.lock.
    assert "--backend-store-uri=postgresql+psycopg2://mlflow@postgres:5432/mlflow" in command
    assert "mlflow_owner@" in " ".join(PODS["initialise"]["spec"]["containers"][0]["command"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_renders(overlay: str) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER / overlay)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    rendered = {entry["kind"]: entry for entry in yaml.safe_load_all(done.stdout)}
    if overlay == "rayjob":  # the cluster is written once, in ray/
        assert "RayCluster" not in rendered
        assert rendered["RayJob"]["spec"]["rayClusterSpec"] == find("RayCluster", "setr")["spec"]
    if overlay == "tracking":
        roles = rendered["ConfigMap"]["data"]["roles.sh"]
        assert roles == (FOLDER / "tracking" / "roles.sh").read_text()


def test_pages_add_up_what_the_tracking_server_asks_for() -> None:
    limits = [
        PODS[name]["spec"]["containers"][0]["resources"]["limits"] for name in ("mlflow", "postgres", "object-store")
    ]
    processors = sum(int(entry["cpu"]) for entry in limits)
    memory = sum(bytes_of(entry["memory"]) for entry in limits) // 2**30
    claims = [
        find("StatefulSet", name)["spec"]["volumeClaimTemplates"][0]["spec"] for name in ("postgres", "object-store")
    ]
    own = sum(bytes_of(claim["resources"]["requests"]["storage"]) for claim in claims) // 2**30
    home = bytes_of(find("PersistentVolumeClaim", "setr-home")["spec"]["resources"]["requests"]["storage"]) // 2**30
    page = (ROOT / "docs" / "tracking-server.md").read_text()
    assert f"{processors} CPU, {memory} GiB of memory and {own} GiB of disk" in page
    assert (
        f"{own + home} GiB of storage + MLflow, PostgreSQL, S3 server: {processors} CPU, {memory} GiB"
        in (ROOT / "docs" / "kubernetes.md").read_text()
    )
