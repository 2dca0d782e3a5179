#!/bin/sh
# Makes the passwords of this machine's containers, once: compose/.env, for your eyes only.
# What is in the file already stays, so it is safe to repeat.
#   compose/secrets.sh [FILE]
set -eu
umask 077
file=${1:-$(cd "$(dirname "$0")" && pwd)/.env}
new=$(mktemp "$file.XXXXXX")
trap 'rm -f "$new"' EXIT

if [ -e "$file" ]; then
    cat "$file" >"$new"
else
    cat >"$new" <<'TEXT'
# Written by compose/secrets.sh. Holds passwords; the volumes know them too: keep them together.
# Other images than compose.yml's, for example:
#   MYSQL_IMAGE=mysql:8.0.40  REDIS_IMAGE  ZOOKEEPER_IMAGE  KAFKA_IMAGE  CASSANDRA_IMAGE  PYTHON_IMAGE
TEXT
fi

random() {
    word=$(head -c 1024 /dev/urandom | LC_ALL=C tr -dc 'A-Za-z0-9' | head -c 32)
    [ ${#word} -eq 32 ] || { echo "secrets: /dev/urandom gave too little" >&2; exit 1; }
    echo "$word"
}

for name in PAYTM_LAB_MYSQL_PASSWORD PAYTM_LAB_REDIS_PASSWORD MYSQL_ROOT_PASSWORD JUPYTER_TOKEN; do
    grep -q "^$name=." "$new" && continue
    [ -z "$(tail -c 1 "$new")" ] || echo >>"$new"
    secret=$(random)
    echo "$name=$secret" >>"$new"
done
chmod 600 "$new"
mv "$new" "$file"
trap - EXIT
