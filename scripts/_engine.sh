# Sourced, after _common.sh, by the scripts that need containers:
#   source "$root/scripts/_engine.sh"; in_engine "$root/scripts/NAME" "$@"
#
# in_engine returns inside of a private world with a Docker engine of its own: network, mounts and processes
# in new namespaces, everything the engine stores on a tmpfs, a new /run (about 1 GB). An engine of the host,
# its images, its ports and its firewall are never touched, and when the script ends, however it ends, so do
# the engine, its containers and its files.
#
# That world has no way out, so what comes from outside is fetched first and kept in .cache/: the Dockerfile's
# base image (from an engine of the host that has it or can pull it, else made of Debian's packages), and the
# wheels that pip needs, by the pip of .venv and with that pip's settings. The wheels are served again on
# loopback, where the exported PIP_NO_INDEX and PIP_FIND_LINKS say.
# shellcheck shell=bash

cache="$root/.cache"
base="$(sed -n 's/^ARG BASE=//p' "$root/Dockerfile")"
base_tar="$cache/$(tr -c 'A-Za-z0-9.\n' - <<<"$base").tar"
wheels="$cache/wheels-$(sha256sum <"$root/pyproject.toml" | cut -c-16)"
world=/run/neumann-engine

refuse() { # exit code, what is wrong
    echo "$(basename "$0"): $2" >&2
    exit "$1"
}

say() { echo "$(date +%T) $*" >&2; }

in_engine() {
    if [[ "${NEUMANN_IN_ENGINE:-}" != 1 ]]; then
        need_system
        mkdir -p "$cache"
        ( # once, also when two scripts begin together
            flock 8
            [[ -s "$base_tar" ]] || fetch_base
            [[ -d "$wheels" ]] || fetch_wheels
        ) 8>"$cache/lock"
        NEUMANN_IN_ENGINE=1 exec unshare --net --mount --pid --fork --mount-proc --kill-child -- "$@"
    fi
    start_engine
}

need_system() {
    local tool missing=()
    [[ "$(id -u)" == 0 ]] || refuse 2 "only root can start a Docker engine"
    for tool in dockerd:docker.io docker-compose debootstrap iptables ip:iproute2 curl; do
        command -v "${tool%:*}" >/dev/null || missing+=("${tool#*:}")
    done
    ((!${#missing[@]})) || refuse 2 "system packages are missing: apt-get install ${missing[*]}"
    unshare --net --mount --pid --fork --mount-proc true 2>/dev/null ||
        refuse 2 "this machine lets nobody make namespaces; it takes CAP_SYS_ADMIN"
}

fetch_base() {
    if docker info >/dev/null 2>&1 &&
        { docker image inspect "$base" >/dev/null 2>&1 || docker pull --quiet "$base"; }; then
        say "base image: $base of the host's engine"
        local container
        container="$(docker create "$base" true)"
        docker export "$container" >"$base_tar.part"
        docker rm "$container" >/dev/null
    else
        say "base image: no registry is at hand; Debian's packages in its place (two minutes, once)"
        make_base
    fi
    mv "$base_tar.part" "$base_tar"
}

make_base() {
    local mirror tree
    # shellcheck disable=SC2016
    mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' |
        head -n 1)"
    tree="$(mktemp -d)"
    if ! debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$tree" \
        "${mirror:-http://deb.debian.org/debian}" >"$cache/debootstrap.log" 2>&1; then
        rm -rf --one-file-system "$tree"
        refuse 1 "debootstrap failed; see .cache/debootstrap.log"
    fi
    tar -C "$tree" -cf "$base_tar.part" --exclude=./var/cache/apt --exclude=./var/lib/apt/lists \
        --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale .
    rm -rf --one-file-system "$tree"
}

# Only wheels are taken: where that works, no container needs a compiler.
fetch_wheels() {
    say "packages: fetching wheels"
    rm -rf "$wheels.part"
    pip download -qq --python-version 3.11 --only-binary=:all: --dest "$wheels.part" \
        "${root}[all]" "setuptools>=68" >&2
    mv "$wheels.part" "$wheels"
}

start_engine() {
    local waited
    trap 'exit 130' INT TERM # this shell is its world's first process, which has no default actions
    ip link set lo up
    mount -t tmpfs neumann-engine /run # over the host's, where its engine has its socket
    mkdir "$world"
    export DOCKER_HOST="unix://$world/socket" DOCKER_CONFIG="$world/config"
    # No name server is in reach, so looking up a container that is down ends with a time-out; a short one.
    dockerd --data-root "$world/data" --exec-root "$world/exec" --pidfile "$world/pid" --host "$DOCKER_HOST" \
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /neumann-engine --bridge none \
        --dns-opt timeout:1 --dns-opt attempts:1 >"$world/log" 2>&1 &
    engine_pid=$!
    trap stop_engine EXIT
    for ((waited = 0; waited < 300; waited++)); do
        ! docker info >/dev/null 2>&1 || break
        kill -0 "$engine_pid" 2>/dev/null || { tail "$world/log" >&2; refuse 1 "dockerd ended"; }
        sleep 0.1
    done
    docker import "$base_tar" "$base" >/dev/null
    serve_wheels
}

serve_wheels() {
    python -m http.server --bind 127.0.0.1 --directory "$wheels" 8000 >"$world/wheels.log" 2>&1 &
    export PIP_NO_INDEX=1 PIP_FIND_LINKS=http://127.0.0.1:8000/
}

stop_engine() {
    kill "$engine_pid" 2>/dev/null || true
    wait "$engine_pid" || true
    # Control groups alone have no namespace that ends with us; those of a run that was killed are here too.
    find /sys/fs/cgroup -depth -type d -path '*/neumann-engine*' -exec rmdir {} + 2>/dev/null || true
}
