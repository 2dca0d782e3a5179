#!/usr/bin/env bash
# Gets the parts of the stack that this machine lacks into a folder. What is there is left alone.
#   fetch.sh DIR [mysql] [redis] [java] [kafka] [cassandra] [compose]
# Without names: all but compose. Nothing is installed, except Java and Maven by apt-get, where they
# are missing and we are root on a Debian. About 140 MB; a minute or two.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
packages=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- mysql redis java kafka cassandra

fail() {
    echo "fetch: $*" >&2
    exit 1
}

# Two at once would write into each other's folders.
if command -v flock >/dev/null; then
    exec 9>"$packages/.lock"
    flock -w 900 9 || fail "another fetch has been at $packages for 15 minutes"
fi

on_debian() { command -v apt-get >/dev/null && command -v dpkg >/dev/null; }

need_debian() { on_debian || fail "$1 is fetched from Debian's packages, and this is no Debian: $2"; }

# apt_install PACKAGE...: on the machine itself
apt_install() {
    on_debian && [ "$(id -u)" = 0 ] || fail "missing: $*. Install it (as root: apt-get install $*)."
    echo "installing $*"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" >/dev/null
}

java_17() {
    ! java -version 2>&1 | grep -qE 'version "(11|17)\.' || return 0
    apt_install openjdk-17-jre-headless
}

# debian_mirror [apt's options]: where this machine gets its Debian from; '' when apt has no lists
debian_mirror() {
    apt-get "$@" indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
        grep '/debian/$' | sort -u | head -1 || true
}

# own_apt FOLDER [unstable]: apt's options for lists and a cache of our own, so that the machine's stay
# as they are; with the machine's sources, or Debian unstable from the same mirror.
own_apt() {
    mkdir -p "$1"/lists/partial "$1"/archives/partial
    apt_options=(-qq -o "Dir::State::Lists=$1/lists" -o "Dir::Cache=$1" -o APT::Sandbox::User=root)
    if [ "${2:-}" = unstable ]; then
        local mirror
        mirror=$(debian_mirror)
        if [ -z "$mirror" ]; then # a fresh machine has no lists yet
            apt-get "${apt_options[@]}" update
            mirror=$(debian_mirror "${apt_options[@]}")
        fi
        [ -n "$mirror" ] || fail "apt knows no Debian mirror (apt-get indextargets)"
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$1/sources"
        apt_options+=(-o "Dir::Etc::sourcelist=$1/sources" -o Dir::Etc::sourceparts=/dev/null)
    fi
    apt-get "${apt_options[@]}" update
}

# unpack FOLDER PACKAGE...: download into FOLDER/new, unpack, and only then call it FOLDER/root
unpack() {
    local folder=$1 deb
    shift
    mkdir -p "$folder/debs" "$folder/new"
    (cd "$folder/debs" && apt-get "${apt_options[@]}" download "$@")
    for deb in "$folder"/debs/*.deb; do dpkg -x "$deb" "$folder/new"; done
    rm -rf "$folder/debs" "$folder/apt"
}

# Debian stable has no MySQL. Unstable's comes with all that it links to, libc included, and runs
# under its own loader: it never meets this machine's libraries.
get_mysql() {
    local to=$packages/mysql list
    [ ! -x "$to/root/usr/sbin/mysqld" ] || return 0
    need_debian mysqld "see paytm-lab stack up for other ways"
    rm -rf "$to"
    own_apt "$to/apt" unstable
    list=$(apt-cache "${apt_options[@]}" depends --recurse --no-recommends --no-suggests \
        --no-conflicts --no-breaks --no-replaces --no-enhances mysql-server-core |
        grep -E '^\w' | sort -u | grep -vE 'perl|mime|gconv|debconf')
    # shellcheck disable=SC2086 # a list of words
    unpack "$to" $list
    mv "$to/new" "$to/root"
}

# Redis' one program is server, client helper and checker, by the name it is called: redis-tools has it.
get_redis() {
    local to=$packages/redis
    [ ! -x "$to/root/usr/bin/redis-server" ] || return 0
    need_debian redis-server "brew or conda have it"
    rm -rf "$to"
    own_apt "$to/apt"
    unpack "$to" redis-tools libjemalloc2 liblzf1 libatomic1
    ln -s redis-check-rdb "$to/new/usr/bin/redis-server"
    mv "$to/new" "$to/root"
}

get_java() { java_17; }

# jars NAME: what files/NAME.pom.xml names, with all that it depends on
jars() {
    local to=$packages/$1
    [ ! -d "$to/lib" ] || return 0
    command -v mvn >/dev/null || apt_install maven
    rm -rf "$to"
    mvn -B -q -f "$here/files/$1.pom.xml" dependency:copy-dependencies \
        -DoutputDirectory="$to/new" -DincludeScope=runtime
    mv "$to/new" "$to/lib"
}

get_kafka() { jars kafka; }
get_cassandra() { jars cassandra; }

# docker-compose 2 as one static program, which checks a compose file without an engine.
get_compose() {
    local to=$packages/compose
    [ ! -x "$to/docker-compose" ] || return 0
    need_debian docker-compose "Docker's own installation has it"
    rm -rf "$to"
    own_apt "$to/apt" unstable
    unpack "$to" docker-compose
    mv "$to/new/usr/libexec/docker/cli-plugins/docker-compose" "$to/docker-compose"
    rm -rf "$to/new"
}

for part in "$@"; do
    case $part in
    mysql | redis | java | kafka | cassandra | compose)
        echo "$part"
        "get_$part"
        ;;
    *) fail "there is no part $part" ;;
    esac
done
