#!/usr/bin/env bash
# Builds the image with docker, podman or buildah, and tries it as its user:
#     deploy/build_image.sh [TAG [OPTION...]]      such as digits:gpu --build-arg DEVICE=gpu
set -euo pipefail
cd "$(dirname "$0")/.."

for engine in ${ENGINE:-docker podman buildah}; do
    if command -v "$engine" > /dev/null; then break; fi
done
if ! command -v "$engine" > /dev/null; then
    echo "No docker, podman or buildah was found; install one of them." >&2
    exit 1
fi
tag=${1:-digits}
shift || true

"$engine" build --tag "$tag" "$@" .

if [ "$engine" = buildah ]; then
    container=$(buildah from "$tag")
    trap 'buildah rm "$container" > /dev/null' EXIT
    in_image() { buildah run "$container" -- "$@"; }
else
    in_image() {
        "$engine" run --rm --read-only --tmpfs /tmp --cap-drop ALL --entrypoint "$1" "$tag" "${@:2}"
    }
fi
in_image sh -c 'test "$(id -u)" -ne 0 || { echo "The image runs as root." >&2; exit 1; }'
in_image sh -c '! touch /opt/digits/written 2> /dev/null || { echo "Code can be changed." >&2; exit 1; }'
for command in server services register worker serve run; do
    in_image digits "$command" --help > /dev/null
done
in_image digits doctor
echo "Built $tag with $engine."
