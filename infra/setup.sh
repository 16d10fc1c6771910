#!/usr/bin/env bash
# Makes this checkout ready to run: .venv, and unless the lab runs on Docker (infra/choose.py) system packages, Kafka's jars
# and Toxiproxy. Instant when all is there, safe to interrupt and to run twice at once. Uses apt, pip, Maven and Go as they
# are configured on this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=$PWD
lab=$root/.lab
work=$lab/setup
search_jars=search-$(sha256sum infra/search/pom.xml | cut -c1-12)
connect_jars=connect-$(sha256sum infra/connect/pom.xml | cut -c1-12)
kafka_version=$(sed -n 's/.*image: *apache\/kafka:\([0-9.]*\).*/\1/p' docker-compose.yml | head -n 1)
toxiproxy_version=$(sed -n 's/.*image: .*shopify\/toxiproxy:\([0-9.]*\).*/\1/p' docker-compose.yml | head -n 1)
toxiproxy_old_go=2.7.0 # the last one that Go 1.19 (Debian 12) builds
policy_rc_d=/usr/sbin/policy-rc.d
policy_mark="written by backend-lab set-up"
cluster_conf=/etc/postgresql-common/createcluster.d/backend-lab.conf
started_at=$SECONDS

say() { printf '[set-up] %s\n' "$*"; }
fail() { printf '[set-up] %s\n' "$*" >&2; exit 1; }

find_postgres() {
    local bin
    for bin in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -Vr) $(dirname "$(command -v postgres || echo /none/x)"); do
        if [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ]; then
            [ "$("$bin/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')" -ge 15 ] && return 0
        fi
    done
    return 1
}

find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

go_command() {
    local found
    for found in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go/bin/go; do
        [ -n "$found" ] && [ -x "$found" ] && { echo "$found"; return 0; }
    done
    return 1
}

stamp_key() {
    { sha256sum requirements.lock infra/setup.sh infra/kafka/pom.xml infra/search/pom.xml infra/connect/pom.xml; echo "$root $kafka_version $toxiproxy_version"; } | sha256sum | cut -d' ' -f1
}

# What is known of the choice before there is a Python to make it: native, docker, or nothing where an engine answers.
runtime() {
    local said=${LAB_RUNTIME:-}
    [ -n "$said" ] || said=$(sed -n 's/^ *LAB_RUNTIME *= *["'\'']\{0,1\}\([a-z]*\).*/\1/p' .env 2>/dev/null | tail -n 1)
    [ -n "$said" ] || said=$(sed -n '1s/:.*//p' "$lab/runtime" 2>/dev/null)
    if [ -z "$said" ] && ! { command -v docker >/dev/null && docker version >/dev/null 2>&1; }; then said=native; fi
    echo "$said"
}

python_complete() {
    [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null && [ "$(cat .venv/.requirements 2>/dev/null)" = "$(sha256sum requirements.lock)" ]
}

complete() {
    case $(runtime) in
        docker) python_complete ;;
        "") false ;;
        *) native_complete ;;
    esac
}

native_complete() {
    [ "$(cat "$work/stamp" 2>/dev/null)" = "$(stamp_key)" ] && [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null \
        && [ -d "$lab/jars/kafka-$kafka_version" ] && [ -d "$lab/jars/$search_jars" ] && [ -d "$lab/jars/$connect_jars" ] && [ -x "$lab/bin/toxiproxy-server" ] \
        && command -v redis-server >/dev/null && command -v prometheus >/dev/null && find_postgres \
        && command -v prometheus-alertmanager >/dev/null && command -v prometheus-postgres-exporter >/dev/null \
        && command -v prometheus-redis-exporter >/dev/null
}

# --- system packages ------------------------------------------------------------------------------------------------

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
may_be_root() { [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; }; }
installed() { [ "$(dpkg-query -W -f='${Status}' "$1" 2>/dev/null)" = "install ok installed" ]; }

start_nothing() { # packages must not start, or leave enabled, servers on a learner's machine
    [ -e $policy_rc_d ] || printf '#!/bin/sh\n# %s\nexit 101\n' "$policy_mark" | as_root tee $policy_rc_d >/dev/null
    as_root chmod 755 $policy_rc_d
    as_root mkdir -p "$(dirname $cluster_conf)"
    echo "create_main_cluster = false" | as_root tee $cluster_conf >/dev/null
}

start_as_before() {
    if grep -qs "$policy_mark" $policy_rc_d; then as_root rm -f $policy_rc_d; fi
    if [ -e $cluster_conf ]; then as_root rm -f $cluster_conf; fi
}

disable_unit() {
    if command -v systemctl >/dev/null; then
        as_root systemctl disable "$1" >/dev/null 2>&1 || true
    elif command -v deb-systemd-helper >/dev/null; then # wants to be called from a package's script
        as_root env DPKG_MAINTSCRIPT_PACKAGE=backend-lab deb-systemd-helper disable "$1" >/dev/null 2>&1 || true
    fi
}

apt_install() {
    local package fresh=()
    for package in "$@"; do installed "$package" || fresh+=("$package"); done
    [ ${#fresh[@]} = 0 ] && return 0
    start_nothing
    if [ -n "$(dpkg --audit)" ]; then as_root dpkg --configure -a; fi
    local apt="env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -o DPkg::Lock::Timeout=300"
    if ! [ -e "$work/apt-updated" ] || [ -n "$(find "$work/apt-updated" -mmin +60)" ]; then
        as_root $apt update
        touch "$work/apt-updated"
    fi
    # In a process group of its own: Ctrl-C must not leave dpkg half way.
    as_root setsid --wait $apt install -y --no-install-recommends "${fresh[@]}"
    for package in "${fresh[@]}"; do
        case $package in
            postgresql) disable_unit postgresql.service ;;
            redis-server) disable_unit redis-server.service ;;
            prometheus | prometheus-*) disable_unit "$package.service" ;;
        esac
    done
    start_as_before
}

missing_packages() {
    local name
    find_postgres || echo postgresql
    command -v redis-server >/dev/null || echo redis-server
    for name in prometheus prometheus-alertmanager prometheus-postgres-exporter prometheus-redis-exporter; do
        command -v "$name" >/dev/null || echo "$name" # package and program have one name
    done
    { [ -d "$lab/jars/kafka-$kafka_version" ] && [ -d "$lab/jars/$search_jars" ] && [ -d "$lab/jars/$connect_jars" ]; } || command -v mvn >/dev/null || echo maven
    [ -x "$lab/bin/toxiproxy-server" ] || go_command >/dev/null || echo golang-go
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
}

require_apt_for() {
    command -v apt-get >/dev/null || fail "These are missing and this system has no apt to install them: $*. Install them (Postgres 15+, Redis 7+, Prometheus 2.42+, Maven, Go, Python 3.11+) and run this again."
    may_be_root || fail "These packages are missing and installing them needs root or sudo: $*. Run 'apt-get install $*' as root, then run this again."
    if [ "$(id -u)" != 0 ]; then sudo -v || fail "sudo is needed to install: $*."; fi # asks here, not from the background
}

python_packages() {
    local python name
    python=$(find_python || true)
    if [ -z "$python" ]; then
        echo python3 python3-venv
    elif [ ! -x .venv/bin/python ] && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        name=$("$python" -c 'import sys; print(f"python3.{sys.version_info[1]}-venv")')
        if [ "$python" = /usr/bin/python3 ]; then echo python3-venv; else echo "$name"; fi
    fi
}

# --- the parallel steps ---------------------------------------------------------------------------------------------

install_python_packages() {
    local python wanted=.venv/.requirements
    python=$(find_python)
    .venv/bin/python -c 'import pip' 2>/dev/null || { rm -rf .venv; "$python" -m venv .venv; }
    if [ "$(cat $wanted 2>/dev/null)" != "$(sha256sum requirements.lock)" ]; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: -r requirements.lock
        sha256sum requirements.lock >$wanted
    fi
}

fetch_jars() { # one after the other: two Mavens at once would write the same local repository
    copy_jars infra/kafka/pom.xml "$lab/jars/kafka-$kafka_version" "-Dkafka.version=$kafka_version"
    copy_jars infra/search/pom.xml "$lab/jars/$search_jars"
    copy_jars infra/connect/pom.xml "$lab/jars/$connect_jars" "-Dkafka.version=$kafka_version"
}

copy_jars() { # copy_jars POM FOLDER [OPTION ...]
    local pom=$1 target=$2
    shift 2
    [ -d "$target" ] && return 0
    rm -rf "$target.part"
    mkdir -p "$target.part"
    mvn -B -q -f "$pom" "$@" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DincludeScope=runtime "-DoutputDirectory=$target.part"
    mv "$target.part" "$target"
}

build_toxiproxy() {
    local go bin=$work/toxiproxy version
    [ "$(cat "$lab/bin/toxiproxy-version" 2>/dev/null)" = "$toxiproxy_version" ] && [ -x "$lab/bin/toxiproxy-server" ] && return 0
    go=$(go_command)
    mkdir -p "$lab/bin"
    for version in "$toxiproxy_version" "$toxiproxy_old_go"; do
        rm -rf "$bin"
        if GOBIN=$bin CGO_ENABLED=0 "$go" install -ldflags "-s -w -X github.com/Shopify/toxiproxy/v2.Version=$version" "github.com/Shopify/toxiproxy/v2/cmd/server@v$version"; then
            mv "$bin/server" "$lab/bin/toxiproxy-server"
            echo "$toxiproxy_version" >"$lab/bin/toxiproxy-version"
            return 0
        fi
        echo "Toxiproxy $version does not build with $("$go" version)."
    done
    return 1
}

declare -A jobs=()
step() { # step NAME DESCRIPTION FUNCTION [ARGUMENT ...]: in the background, its output in a log, one line at each end
    local name=$1 text=$2
    shift 2
    (
        begun=$SECONDS
        say "$text ..."
        # Not inside the condition: bash ignores `set -e` there, and a failed command would pass for a success.
        set +e
        (set -e; "$@") >"$work/$name.log" 2>&1
        code=$?
        if [ $code = 0 ]; then
            say "$text: done in $((SECONDS - begun)) s"
        else
            say "$text: failed; the end of $work/$name.log:" >&2
            tail -n 8 "$work/$name.log" >&2
            exit 1
        fi
    ) &
    jobs[$name]=$!
}

wait_for() {
    local name=$1
    wait "${jobs[$name]}" || { interrupted_children; fail "Set-up stopped at '$name'. Run the same command again to go on from here."; }
    unset "jobs[$name]"
}

interrupted_children() {
    local pid
    for pid in "${jobs[@]}"; do pkill_tree "$pid"; done
}

pkill_tree() {
    local child
    for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do pkill_tree "$child"; done
    kill "$1" 2>/dev/null || true
}

on_interrupt() {
    trap - INT TERM
    interrupted_children
    start_as_before
    say "interrupted; run the same command again to go on from here"
    exit 130
}

# --------------------------------------------------------------------------------------------------------------------

require_linux() { [ "$(uname -s)" = Linux ] || fail "Without Docker the lab runs on Linux only (Debian 12 or 13, Ubuntu 24.04); this is $(uname -s)."; }

complete && exit 0
chosen=$(runtime)
if [ "$chosen" = native ]; then require_linux; fi
[ -n "$kafka_version" ] && [ -n "$toxiproxy_version" ] || fail "docker-compose.yml names no version of apache/kafka or of toxiproxy."
mkdir -p "$work"
exec 9>"$work/lock"
if command -v flock >/dev/null && ! flock --nonblock 9; then
    say "another set-up is at work in this checkout; waiting for it"
    flock 9
    complete && exit 0
fi
trap on_interrupt INT TERM
free_mib=$(df -Pm "$root" | awk 'NR == 2 {print $4}')
[ "$free_mib" -ge 2500 ] || fail "Set-up needs 2.5 GB of free disk at $root; $free_mib MB are free."

first=$(python_packages)
packages=
if [ "$chosen" = native ]; then packages=$(missing_packages); fi
if [ -n "$first$packages" ]; then require_apt_for $first $packages; fi
if [ -n "$first" ]; then
    step apt-python "system packages: $(echo $first)" apt_install $first
    wait_for apt-python
fi
find_python >/dev/null || fail "Python 3.11 or newer is needed; this system offers $(python3 --version 2>/dev/null || echo none)."
step pip "Python packages into .venv" install_python_packages
if [ "$chosen" != native ]; then
    wait_for pip
    [ -n "$chosen" ] || chosen=$(.venv/bin/python -m infra runtime | tail -n 1)
    say "runtime: $chosen"
    if [ "${chosen%%:*}" = docker ]; then say "ready after $((SECONDS - started_at)) s"; exit 0; fi
    require_linux
    packages=$(missing_packages)
    if [ -n "$packages" ]; then require_apt_for $packages; fi
fi
if [ -n "$packages" ]; then
    step apt "system packages (1 to 3 minutes): $(echo $packages)" apt_install $packages
    wait_for apt
fi
step maven "jars of Kafka $kafka_version, Connect and the search engine" fetch_jars
step go "Toxiproxy $toxiproxy_version from its Go module" build_toxiproxy
if [ -n "${jobs[pip]:-}" ]; then wait_for pip; fi
wait_for maven
step warm "start caches for Kafka and the search engine" .venv/bin/python -m infra.native.warm "$lab" "$kafka_version"
wait_for warm
wait_for go
stamp_key >"$work/stamp"
complete || fail "Set-up finished but something is still missing: postgres, redis-server, prometheus, its alertmanager or an exporter is not where the lab looks for it."
say "ready after $((SECONDS - started_at)) s"
