#!/usr/bin/env bash
# Look for what is known to be insecure: advisories about the locked packages (pip-audit, which asks osv.dev), and the
# Kubernetes files and the Dockerfile (checkov). Exit 0 if there is nothing that docs/security.md does not explain.
#   ./launch/audit.sh            some 30 seconds; it needs osv.dev and the package index
# The other scanners run with the tests: ruff's rules of bandit, and shellcheck.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${PYTHON:-python3.11} -m venv "$work/venv"
bin=$work/venv/bin
"$bin/python" -m pip --disable-pip-version-check --quiet install pip-audit==2.10.1 checkov==3.3.30

# What the page explains is known: advisories in its tables, and checkov's checks.
mapfile -t known < <(grep -oE '\b(CVE|GHSA|PYSEC)-[0-9A-Za-z-]+' docs/security.md | sort -u)
failed=0
"$bin/pip-audit" --strict --progress-spinner off --vulnerability-service osv --osv-url "${OSV_URL:-https://api.osv.dev/v1/query}" \
  --require-hashes --disable-pip --requirement launch/requirements-cpu.lock "${known[@]/#/--ignore-vuln=}" || failed=1

# checkov knows no RayJob: its pods are taken out.
"$bin/python" - "$work/pods.yaml" <<'PY'
import sys

import yaml

job, policy = yaml.safe_load_all(open("launch/kuberay_rayjob.yaml"))
cluster = job["spec"]["rayClusterSpec"]
templates = {"submitter": job["spec"]["submitterPodTemplate"], "head": cluster["headGroupSpec"]["template"]}
templates |= {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
pods = [
    {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **template["metadata"]}, "spec": template["spec"]}
    for name, template in templates.items()
]
with open(sys.argv[1], "w") as file:
    yaml.safe_dump_all([*pods, policy], file)
PY
cp launch/kubernetes_judge.yaml launch/Dockerfile "$work"
skipped=$(grep -oE '\bCKV2?_[A-Z0-9]+_[0-9]+' docs/security.md | sort -u | paste -sd,)
"$bin/checkov" --directory "$work" --skip-path venv --framework kubernetes dockerfile --compact --quiet \
  --skip-download --skip-check "$skipped" || failed=1
exit "$failed"
