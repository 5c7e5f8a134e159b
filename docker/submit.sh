#!/usr/bin/env bash
# Runs any scenario of the image in the cluster of compose.yaml; further arguments are those of `fedsplit simulate`.
#   docker/submit.sh scenarios/digits.yaml --set protocol.kind=splitfed_v2
# Ray's own job submission would need packages beyond those of constraints.txt.
set -euo pipefail
cd "$(dirname "$0")"
exec docker compose run --rm simulate bash -c '
  ray start --address=head:6379 --num-cpus=0 >/dev/null &&
  fedsplit simulate "$@" --set engine.kind=ray --set engine.address=auto
' submit "${@:-scenarios/digits.yaml}"
