#!/usr/bin/env bash
# Builds the image for the processor and does a whole job in it: as an ordinary user, on a read-only root file system.
#   BASE=IMAGE        another base than the pinned one, for machines without a registry
#   TORCH_INDEX=URL   where torch comes from; empty: pip's default index
#   VOLUMES="A:B …"   what the build needs to see of this machine, such as a folder of wheels
#   BUILDER=podman    or docker; the first of them that is installed by default
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
builder=${BUILDER:-$(command -v podman || command -v docker)} || { echo "ERROR: Install podman or docker." >&2; exit 1; }
tag=horde-bridge:try
options=(--build-arg ACCELERATOR=cpu --build-arg "TORCH_INDEX=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}")
[ -z "${BASE:-}" ] || options+=(--build-arg "BASE=$BASE")
for volume in ${VOLUMES:-}; do options+=(--volume "$volume:ro"); done
# shellcheck disable=SC2086  # options of the builder's own, such as --isolation=chroot
"$builder" build ${BUILD_OPTIONS:-} "${options[@]}" --file containers/Dockerfile --tag "$tag" .
# shellcheck disable=SC2086
"$builder" run ${RUN_OPTIONS:-} --rm --read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /tmp \
    --volume horde-bridge-try:/state "$tag" demo --jobs 1 --json
