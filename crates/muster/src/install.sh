#!/bin/sh
# Makes osqueryd on this machine an agent of the Muster server @SERVER@.
#
# The enrolment secret is read from MUSTER_ENROL_SECRET, from standard input, or from the terminal. Run
# it as root:   sh install < file-with-the-secret
# Files go to OSQUERY_DIR (default /etc/osquery, on macOS /var/osquery). What was there before the first time is kept as *.bak.
set -eu
umask 077

fail() {
    echo "install: $*" >&2
    exit 1
}

sha256() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi | cut -c1-64
}

ca() {
    cat <<'MUSTER_CA'
@CA@
MUSTER_CA
}

flags_linux() {
    cat <<'MUSTER_FLAGS'
@FLAGS_LINUX@
MUSTER_FLAGS
}

flags_darwin() {
    cat <<'MUSTER_FLAGS'
@FLAGS_DARWIN@
MUSTER_FLAGS
}

# A file appears whole or not at all. Arguments: path, mode; content on standard input.
put() {
    [ ! -e "$1" ] || [ -e "$1.bak" ] || cp -p "$1" "$1.bak"
    cat >"$1.new"
    chmod "$2" "$1.new"
    mv -f "$1.new" "$1"
}

read_secret() {
    secret=${MUSTER_ENROL_SECRET:-}
    if [ -z "$secret" ] && [ -t 0 ]; then
        printf 'enrolment secret: ' >&2
        stty -echo
        trap 'stty echo' EXIT INT TERM
        read -r secret || true
        stty echo
        trap - EXIT INT TERM
        echo >&2
    elif [ -z "$secret" ]; then
        read -r secret || true
    fi
    [ -n "$secret" ] || fail "no enrolment secret on standard input or in MUSTER_ENROL_SECRET"
}

restart() {
    if [ "$system" = Darwin ]; then
        service=$(launchctl list 2>/dev/null | awk '$3 ~ /osqueryd|^io\.osquery\.agent$/ {print $3; exit}')
        [ -z "$service" ] || launchctl kickstart -k "system/$service"
    elif command -v systemctl >/dev/null 2>&1 && systemctl cat osqueryd >/dev/null 2>&1; then
        systemctl enable osqueryd >/dev/null 2>&1 || true
        systemctl restart osqueryd
    else
        echo "install: start it yourself: osqueryd --flagfile=$dir/osquery.flags" >&2
    fi
}

# In a function, so that a script that was cut off on its way does nothing.
main() {
    system=$(uname -s)
    case $system in
    Linux) dir=${OSQUERY_DIR:-/etc/osquery} ;;
    Darwin) dir=${OSQUERY_DIR:-/var/osquery} ;;
    *) fail "this script knows Linux and macOS; see muster generate osquery-flags" ;;
    esac
    if [ -z "${OSQUERY_DIR:-}" ]; then
        [ "$(id -u)" = 0 ] || fail "run it as root"
        command -v osqueryd >/dev/null 2>&1 || [ -x /opt/osquery/bin/osqueryd ] ||
            fail "osqueryd is not installed here; its packages are at https://osquery.io/downloads"
    fi
    # Says that the script was not put together wrongly; who sent it was checked by the line that fetched it.
    [ "$(ca | sha256)" = '@CA_SUM@' ] || fail "the CA in this script is damaged"
    read_secret
    mkdir -p "$dir"
    ca | put "$dir/ca.pem" 644
    printf '%s\n' "$secret" | put "$dir/enroll_secret" 600
    if [ "$system" = Darwin ]; then flags_darwin; else flags_linux; fi |
        sed "s#=/etc/osquery/#=$dir/#; s#=/var/osquery/#=$dir/#" | put "$dir/osquery.flags" 644
    [ -n "${OSQUERY_DIR:-}" ] || restart
    echo "osqueryd talks to @SERVER@ from now on; files are in $dir"
}

main
