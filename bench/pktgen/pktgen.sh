#!/bin/sh
# Sends UDP datagrams of many flows by the kernel's pktgen, one thread for each CPU that is named. See usage below.
set -eu

PROC=/proc/net/pktgen
FIRST_PORT=1024
MOST_PORTS=1024
# Between the first sources of two CPUs: no two have a flow in common.
SOURCES=65536

usage() {
    cat <<'END'
usage: pktgen.sh --interface DEV --to ADDRESS --mac MAC [OPTIONS]

Sends UDP datagrams over IPv4 as fast as it can, and tells how many. Needs root and a kernel with pktgen.

  --interface DEV   to send by
  --to ADDRESS      of the VIP
  --mac MAC         of the next hop: of the balancer's interface, or of the router before it
  --port PORT       of the VIP (80)
  --from ADDRESS    first source (10.1.0.1); sources count up from there
  --flows N         flows, a power of two (1024); up to 1024 source ports of each source. Divided among the CPUs: if these
                    are no power of two, somewhat fewer; the first line of all says how many
  --size BYTES      of a frame, without the checksum that the card adds (64)
  --cpus LIST       one thread on each of these CPUs, and a transmit queue of its own for each: 0,1,... (0)
  --rate PPS        at most so many packets a second, of each CPU (no limit)
  --seconds S       for how long (10)
  --count N         so many packets of each CPU, instead of a time
  --dry-run         print what would be written where, and write nothing
END
}

die() { printf 'pktgen.sh: %s\n' "$*" >&2; exit 1; }
wrong() { printf 'pktgen.sh: %s; see --help\n' "$*" >&2; exit 64; }

# --- the command line ---------------------------------------------------------------------------------------------

interface='' to='' mac='' from=10.1.0.1 port=80 flows=1024 size=64 cpus=0 rate='' seconds=10 count='' dry_run=''

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --dry-run) dry_run=yes; shift; continue ;;
        --interface | --to | --mac | --port | --from | --flows | --size | --cpus | --rate | --seconds | --count) ;;
        *) wrong "unknown option $1" ;;
    esac
    [ $# -ge 2 ] || wrong "$1 wants a value"
    case $1 in
        --interface) interface=$2 ;;
        --to) to=$2 ;;
        --mac) mac=$2 ;;
        --port) port=$2 ;;
        --from) from=$2 ;;
        --flows) flows=$2 ;;
        --size) size=$2 ;;
        --cpus) cpus=$2 ;;
        --rate) rate=$2 ;;
        --seconds) seconds=$2 ;;
        --count) count=$2 ;;
    esac
    shift 2
done

number() { # name value least most; with zeros before it a shell takes it for octal
    case $2 in '' | *[!0-9]* | 0?* | ??????????*) wrong "$1 is a number from $3 to $4, not '$2'" ;; esac
    { [ "$2" -ge "$3" ] && [ "$2" -le "$4" ]; } || wrong "$1 is a number from $3 to $4, not $2"
}

# An IPv4 address as a number.
value() {
    rest=$1
    sum=0
    for _ in 1 2 3 4; do
        part=${rest%%.*}
        case $part in '' | *[!0-9]* | 0?* | ????*) wrong "'$1' is no IPv4 address" ;; esac
        [ "$part" -le 255 ] || wrong "'$1' is no IPv4 address"
        sum=$((sum * 256 + part))
        case $rest in *.*) rest=${rest#*.} ;; *) rest='' ;; esac
    done
    case $1 in *.*.*.*.*) wrong "'$1' is no IPv4 address" ;; esac
    echo "$sum"
}

address() { echo "$(($1 >> 24 & 255)).$(($1 >> 16 & 255)).$(($1 >> 8 & 255)).$(($1 & 255))"; }

[ -n "$interface" ] || wrong "--interface is missing"
[ -n "$to" ] || wrong "--to is missing"
[ -n "$mac" ] || wrong "--mac is missing"
case $mac in
    [0-9a-fA-F][0-9a-fA-F]:[0-9a-fA-F][0-9a-fA-F]:[0-9a-fA-F][0-9a-fA-F]:[0-9a-fA-F][0-9a-fA-F]:[0-9a-fA-F][0-9a-fA-F]:[0-9a-fA-F][0-9a-fA-F]) ;;
    *) wrong "'$mac' is no MAC address" ;;
esac
number --port "$port" 1 65535
number --size "$size" 60 9000
number --flows "$flows" 1 16777216
[ $((flows & (flows - 1))) -eq 0 ] || wrong "--flows is a power of two, not $flows"
[ -z "$rate" ] || number --rate "$rate" 1 100000000
[ -z "$count" ] || number --count "$count" 1 999999999
case $seconds in '' | . | *[!0-9.]* | *.*.*) wrong "--seconds is a number, not '$seconds'" ;; esac
value "$to" >/dev/null
first=$(value "$from")
threads=0
for cpu in $(echo "$cpus" | tr , ' '); do
    number --cpus "$cpu" 0 4095
    threads=$((threads + 1))
done
[ "$threads" -gt 0 ] || wrong "--cpus names none"

# --- telling pktgen -----------------------------------------------------------------------------------------------

put() { echo "$2" >"$PROC/$1"; } # file text

# Why pktgen refused the last command of a file.
reason() { sed -n 's/^Result: */: /p' "$PROC/$1" 2>/dev/null | sed 1q; }

# A command for a file of pktgen's.
tell() {
    if [ -n "$dry_run" ]; then
        echo "$2 > $PROC/$1"
    else
        put "$1" "$2" 2>/dev/null || die "pktgen refuses '$2' ($PROC/$1)$(reason "$1")"
    fi
}

clear_all() {
    for cpu in $(echo "$cpus" | tr , ' '); do
        tell "kpktgend_$cpu" rem_device_all
    done
}

# Flows of a thread: ports count up, and addresses are drawn, so that all pairs come.
own=$((flows / threads > 0 ? flows / threads : 1))
ports=$((own < MOST_PORTS ? own : MOST_PORTS))
sources=$((own / ports))

describe() { # device queue
    base=$((first + $2 * (sources > SOURCES ? sources : SOURCES)))
    tell "$1" "count ${count:-0}"
    tell "$1" "clone_skb 0"
    tell "$1" "pkt_size $size"
    if [ -n "$rate" ]; then tell "$1" "ratep $rate"; else tell "$1" "delay 0"; fi
    tell "$1" "dst $to"
    tell "$1" "dst_mac $mac"
    tell "$1" "src_min $(address "$base")"
    # The last one is never drawn.
    tell "$1" "src_max $(address $((base + (sources > 1 ? sources : 0))))"
    tell "$1" "udp_src_min $FIRST_PORT"
    tell "$1" "udp_src_max $((FIRST_PORT + (ports > 1 ? ports : 0)))"
    tell "$1" "udp_dst_min $port"
    tell "$1" "udp_dst_max $port"
    tell "$1" "queue_map_min $2"
    tell "$1" "queue_map_max $2"
    [ "$sources" -eq 1 ] || tell "$1" "flag IPSRC_RND"
}

if [ -z "$dry_run" ]; then
    [ -e "$PROC/pgctrl" ] || modprobe -q pktgen 2>/dev/null || true
    [ -e "$PROC/pgctrl" ] || die "this kernel has no pktgen: it is built with CONFIG_NET_PKTGEN (as a module: pktgen)"
    [ -w "$PROC/pgctrl" ] || die "only root may use pktgen"
    for cpu in $(echo "$cpus" | tr , ' '); do
        [ -e "$PROC/kpktgend_$cpu" ] || die "pktgen has no thread on CPU $cpu; there are: $(ls "$PROC")"
    done
fi

echo "flows: $((ports * sources * threads)), of $ports ports and $sources sources by each CPU"
clear_all
queue=0
for cpu in $(echo "$cpus" | tr , ' '); do
    tell "kpktgend_$cpu" "add_device $interface@$cpu"
    describe "$interface@$cpu" "$queue"
    queue=$((queue + 1))
done

# --- sending ------------------------------------------------------------------------------------------------------

if [ -n "$dry_run" ]; then
    tell pgctrl start
    [ -n "$count" ] || { echo "sleep $seconds" && tell pgctrl stop; }
    clear_all
    exit 0
fi

moment() { sleep 0.02 2>/dev/null || sleep 1; }

# Has every thread begun?
all_run() {
    for cpu in $(echo "$cpus" | tr , ' '); do
        running=$(sed -n 's/^Running: *//p' "$PROC/kpktgend_$cpu")
        case " $running " in *" $interface@$cpu "*) ;; *) return 1 ;; esac
    done
}

is_starting() { kill -0 "$starter" 2>/dev/null; }

# Has all stop, and says so as often as it takes. An idle thread looks at its orders every tenth of a second only, at `stop`
# before `start`, and forgets the one when it does the other: a single `stop` soon after `start` is lost.
halt() {
    while is_starting; do
        put pgctrl stop || true
        moment
    done
}

starter='' sleeper=''
interrupted() {
    trap '' INT TERM HUP
    starter=${starter:-${!:-}}
    [ -z "$sleeper" ] || kill "$sleeper" 2>/dev/null || true
    [ -z "$starter" ] || halt
    clear_all
    exit 130
}
trap interrupted INT TERM HUP

# This ends when all have sent what they had to, or were stopped, and not before.
(trap '' INT TERM HUP && put pgctrl start) &
starter=$!
if [ -z "$count" ]; then
    # Time counts from when all send. If none does in the end, the starter has gone.
    until all_run; do
        is_starting || break
        moment
    done
    if is_starting; then
        # A shell hears signals while it waits, and not before the end of what it runs itself.
        sleep "$seconds" &
        sleeper=$!
        wait "$sleeper" || true
    fi
    halt
fi
wait "$starter" || { clear_all; die "pktgen does not start"; }

# A figure of what pktgen tells of a device: the number behind the word, where it stands first.
figure() { sed -n "s/.*$2: *\([0-9][0-9]*\).*/\1/p" "$PROC/$1" | sed 1q; }

all=0 failed=0 longest=1
for cpu in $(echo "$cpus" | tr , ' '); do
    device=$interface@$cpu
    sent=$(figure "$device" pkts-sofar)
    errors=$(figure "$device" errors)
    time=$(($(figure "$device" stopped) - $(figure "$device" started)))
    [ "$time" -gt 0 ] || time=1
    echo "$device: sent $sent packets, $errors errors, in $time us"
    all=$((all + sent))
    failed=$((failed + errors))
    [ "$time" -le "$longest" ] || longest=$time
done
clear_all
echo "total: sent $all packets, $failed errors, in $longest us"
