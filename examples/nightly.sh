#!/usr/bin/env bash
# From last day's events to a new model in place: examples/nightly.sh RUNS STATE http://127.0.0.1:8000 ADMIN_KEY
set -euo pipefail
runs=$1 state=$2 service=$3 key=$4
night=$(date +%F)
redraft data import table "$state/events" "$runs/data-$night"
redraft tokenize "$runs/data-$night"
redraft train small "$runs/data-$night" "$runs/$night"
send() { curl --fail --silent --show-error -H "Authorization: Bearer $key" -H 'Content-Type: application/json' "$@"; }
loaded=$(send -d "{\"run\": \"$night\"}" "$service/v1/admin/models")
mark=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["staged"]["fingerprint"])' <<<"$loaded")
send -d "{\"fingerprint\": \"$mark\"}" "$service/v1/admin/models/promote"
