#!/bin/sh
# Cancel jobs: cancel.sh NAME... Snakemake waits two seconds at most, so kubectl goes on behind.
kubectl delete job --wait=false --ignore-not-found "$@" >/dev/null &
