#!/usr/bin/env bash
# Starts PostgreSQL as the image postgres does: the first time with a new cluster, with the role, the password and the database
# that POSTGRES_USER, POSTGRES_PASSWORD (or POSTGRES_PASSWORD_FILE …) and POSTGRES_DB name, and with what
# /docker-entrypoint-initdb.d holds.
set -Eeuo pipefail
shopt -s nullglob

case "${1:-}" in -*) set -- postgres "$@" ;; esac
[ "${1:-}" = postgres ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chown -R postgres:postgres "$PGDATA" /var/run/postgresql
    chmod 0700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

from_file() { # NAME DEFAULT: the variable, or what the file holds that NAME_FILE names
    local file="$1_FILE"
    if [ -n "${!1:-}" ] && [ -n "${!file:-}" ]; then
        echo "error: both $1 and $file are set, and only one may be" >&2
        exit 1
    fi
    if [ -n "${!file:-}" ]; then
        printf -v "$1" '%s' "$(<"${!file}")"
    else
        printf -v "$1" '%s' "${!1:-$2}"
    fi
    export "${1?}"
    unset "$file"
}

from_file POSTGRES_PASSWORD ""
from_file POSTGRES_USER postgres
from_file POSTGRES_DB "$POSTGRES_USER"
from_file POSTGRES_INITDB_ARGS ""

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    if [ -z "$POSTGRES_PASSWORD" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
        echo "error: the database is new and no password is given: expected POSTGRES_PASSWORD in the environment" >&2
        exit 1
    fi
    if [ -n "$POSTGRES_PASSWORD" ]; then
        eval 'initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") '"$POSTGRES_INITDB_ARGS"
    else
        eval 'initdb --username="$POSTGRES_USER" '"$POSTGRES_INITDB_ARGS"
    fi
    printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"

    # Heard by nobody else: on a socket alone.
    pg_ctl --wait -o "-c listen_addresses=''" start
    run=(psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER")
    if [ "$POSTGRES_DB" != postgres ]; then
        "${run[@]}" --dbname postgres -v name="$POSTGRES_DB" <<<'CREATE DATABASE :"name";'
    fi
    for file in /docker-entrypoint-initdb.d/*; do
        echo "running $file"
        case "$file" in
        *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
        *.sql) "${run[@]}" --dbname "$POSTGRES_DB" -f "$file" ;;
        *.sql.gz) gunzip -c "$file" | "${run[@]}" --dbname "$POSTGRES_DB" ;;
        *) echo "ignoring $file" ;;
        esac
    done
    pg_ctl --wait --mode=fast stop
fi
unset POSTGRES_PASSWORD
exec "$@"
