#!/bin/sh
# Moves the store of a Kubernetes cluster from etcd to Quorate, and back, while reads go on. docs/migrating-kubernetes.md is its manual.
#
#   switchover.sh CONF check     looks whether everything is in place; changes nothing
#   switchover.sh CONF prepare   API servers one by one to the balancer's door for the store
#   switchover.sh CONF go        closes for writes, copies, compares, starts Quorate, switches, opens for writes
#   switchover.sh CONF back      (or --back) the way back to etcd, whatever was reached: with all that was written since
#   switchover.sh CONF finish    API servers one by one past the balancer, straight to the store
#   switchover.sh CONF status    where things stand
#
# Every command can be run again after it was interrupted, and goes on. A failure of "go" or "back" before the switch opens for writes
# again where they were before. No data is deleted: what stands in the way is moved aside.
set -eu

usage() { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -eq 2 ] || usage
[ -r "$1" ] || { echo "switchover.sh: cannot read $1" >&2; exit 2; }

# ---- what CONF may replace ---------------------------------------------------------------------------------------------------------

MAP=/etc/haproxy/switchover.map
STATE=/var/lib/quorate-switchover
ETCD_DIR=/var/lib/etcd
QUORATE_DIR=/var/lib/quorate/data
BALANCERS=here
SOCKET=/run/haproxy/admin.sock
TOOL=quorate
ETCDUTL=etcdutl
QUORATE_MEMBERS=
ETCD_MEMBERS=
DRAIN=20        # seconds for requests under way to end
START=120       # seconds for a store to answer after its start
EVERY=0.03      # seconds between two attempts of the prober, besides what an attempt takes itself

balancer_command() { printf '%s\n' "$2" | curl -sS -m 5 --unix-socket "$SOCKET" telnet://haproxy; }  # NAME COMMAND
balancer_map() { cat > "$MAP.new" && mv "$MAP.new" "$MAP"; }                                          # NAME, text on standard input
start_quorate() { ! id quorate > /dev/null 2>&1 || chown -R quorate: "$QUORATE_DIR"; systemctl start quorate; }
stop_quorate() { systemctl stop quorate; }
start_etcd() { ! id etcd > /dev/null 2>&1 || chown -R etcd: "$ETCD_DIR"; systemctl start etcd; }
stop_etcd() { systemctl stop etcd; }
restart_apiserver() { die "CONF has no function restart_apiserver" "write it: switchover.conf shows how"; }
restore_others() { die "CONF has no function restore_others" "write it: switchover.conf shows how"; }

# One member takes over everything, ids too. Of several each gets a new id: those of the other store still run, and members that have
# their ids and know their addresses must not talk to them.
copy_to_quorate() {
	if [ -z "$QUORATE_MEMBERS" ]; then
		"$TOOL" import --from "${ETCD%%,*}" $TLS --data-dir "$QUORATE_DIR"
	else
		snapshot "${ETCD%%,*}"
		"$TOOL" etcdutl snapshot restore "$STATE/snapshot.db" --data-dir "$QUORATE_DIR" $(membership "$QUORATE_MEMBERS")
		others quorate "$QUORATE_MEMBERS"
	fi
}
copy_to_etcd() {
	if [ -z "$ETCD_MEMBERS" ]; then
		"$TOOL" export --from "${QUORATE%%,*}" $TLS --to-etcd "$ETCD_DIR"
	else
		snapshot "${QUORATE%%,*}"
		"$ETCDUTL" snapshot restore "$STATE/snapshot.db" --data-dir "$ETCD_DIR" $(membership "$ETCD_MEMBERS")
		others etcd "$ETCD_MEMBERS"
	fi
}
snapshot() { rm -f "$STATE/snapshot.db"; "$TOOL" etcdctl --endpoints="$1" $TLS snapshot save "$STATE/snapshot.db"; }
membership() { # the first of NAME=URL,NAME=URL is the member of this machine
	first=${1%%,*}
	echo "--name ${first%%=*} --initial-advertise-peer-urls ${first#*=} --initial-cluster $1 --initial-cluster-token switchover"
}
others() { case $2 in *,*) restore_others "$1" "$STATE/snapshot.db" ;; esac }

# shellcheck source=/dev/null
. "$(realpath "$1")"

# ---- small things ------------------------------------------------------------------------------------------------------------------

say() { printf '%s  %s\n' "$(date -u +%H:%M:%S)" "$*"; }
step() { printf '\n'; say "== $*"; }
die() { # WHAT DO
	printf '\n%s  FAILED: %s\n          What to do: %s\n' "$(date -u +%H:%M:%S)" "$1" "${2-see docs/migrating-kubernetes.md}" >&2
	exit 1
}
now() { date +%s%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.2f s", (b - a) / 1e9 }'; }
other() { case $1 in etcd) echo quorate ;; *) echo etcd ;; esac }
urls() { case $1 in etcd) echo "$ETCD" ;; *) echo "$QUORATE" ;; esac }
ctl() { side=$1; shift; "$TOOL" etcdctl --endpoints="$(urls "$side")" $TLS --dial-timeout=2s --command-timeout="${WAIT-5s}" "$@"; }

# eventually SECONDS COMMAND...: until it succeeds.
eventually() {
	until_=$(($(date +%s) + $1)); shift
	until "$@"; do
		[ "$(date +%s)" -lt "$until_" ] || return 1
		sleep 0.05
	done
}

# ---- the balancers -----------------------------------------------------------------------------------------------------------------

# command COMMAND: on every balancer.
command_all() { for b in $BALANCERS; do balancer_command "$b" "$1" || return 1; done; }

# doors: "API STORE" as they stand, a line for each different answer of the balancers. where DOOR: one of them.
doors() { for b in $BALANCERS; do balancer_command "$b" "show map $MAP" | awk '$2 == "api" { a = $3 } $2 == "store" { s = $3 } END { print a, s }'; done | sort -u; }
where() { doors | awk -v d="$1" '{ print d == "api" ? $1 : $2 }' | sort -u | tr '\n' ' ' | sed 's/ $//'; }

# set_doors API STORE: first what a restart reads, then what counts now.
set_doors() {
	for b in $BALANCERS; do
		printf 'api %s\nstore %s\n' "$1" "$2" | balancer_map "$b" || return 1
		balancer_command "$b" "set map $MAP store $2; set map $MAP api $1" > /dev/null || return 1
	done
	[ "$(doors)" = "$1 $2" ]
}

# busy PATTERN: how many requests are under way in these back ends of all balancers.
busy() { command_all "show stat" | awk -F, -v p="^($1)\$" '$1 ~ p && $2 == "BACKEND" { n += $5 } END { print n + 0 }'; }
idle() { [ "$(busy "$1")" -eq 0 ]; }

# cut_off BACKEND [SERVER]: ends its requests. Watches are resumed by their clients where they were.
cut_off() {
	for b in $BALANCERS; do
		for s in ${2-$(balancer_command "$b" "show stat" | awk -F, -v p="$1" '$1 == p && $2 != "BACKEND" { print $2 }')}; do
			balancer_command "$b" "shutdown sessions server $1/$s" > /dev/null
		done
	done
}
cut_until_idle() { cut_off "$1"; idle "$1"; }

# ---- the stores --------------------------------------------------------------------------------------------------------------------

# revisions SIDE: of all its members, different ones once.
revisions() { ctl "$1" endpoint status -w json 2> /dev/null | tr ',{' '\n\n' | sed -n 's/^"revision":\([0-9]*\).*/\1/p' | sort -un | tr '\n' ' ' | sed 's/ $//'; }
one_revision() { revision=$(revisions "$1"); case $revision in '' | *' '*) return 1 ;; esac }
answers() { ctl "$1" endpoint health > /dev/null 2>&1 && case $(revisions "$1") in '' | *' '*) false ;; esac; }

# hashes SIDE REVISION: of all its members, different ones once.
hashes() { WAIT=10m ctl "$1" endpoint hashkv --rev "$2" -w json 2> /dev/null | tr ',{}' '\n\n\n' | sed -n 's/^"hash":\([0-9]*\)$/\1/p' | sort -un | tr '\n' ' ' | sed 's/ $//'; }

# leases SIDE: all of them, in the form in which they are renewed.
leases() {
	u=$(urls "$1")
	curl -fsS -m 5 $TLS -d '{}' "${u%%,*}/v3/lease/leases" | tr ',{' '\n\n' | sed -n 's/^"ID":"\([0-9]*\)".*/{"ID":"\1"}/p' | sort
}

# keep_leases SIDE: renews every lease, again and again, so that none ends while the store is copied: an expired one deletes its keys,
# and the store would not stand still.
keep_leases() {
	url=$(urls "$1"); url=${url%%,*}
	while kill -0 $$; do
		leases "$1" > "$STATE/leases"
		[ ! -s "$STATE/leases" ] || curl -sS -m 5 $TLS --data-binary "@$STATE/leases" -o /dev/null "$url/v3/lease/keepalive"
		sleep 2
	done 2>> "$STATE/leases.log"
}

# ---- the API -----------------------------------------------------------------------------------------------------------------------

PROBE=/api/v1/namespaces/kube-system/configmaps
patch_probe() { # -> body, and the status on a line of its own
	curl -s -m 10 $ADMIN -X PATCH -H 'Content-Type: application/merge-patch+json' -d "{\"data\":{\"at\":\"$(now)\"}}" -w '\n%{http_code}\n' "$API$PROBE/switchover-probe"
}
probe() { # a line for each attempt to write: begin, end, status
	while kill -0 $$; do # it ends with the script, however that ends
		s=$(now)
		code=$(patch_probe | tail -n 1) || code=000
		printf '%s %s %s\n' "$s" "$(now)" "$code"
		sleep "$EVERY"
	done > "$STATE/probe"
}
written_since() { awk -v t="$1" '$1 > t && $3 == 200 { found = 1 } END { exit !found }' "$STATE/probe"; }

# downtime: from the end of the last write before the pause to the end of the first one after it. When an earlier run closed, from then on.
downtime() {
	awk -v last="$(cat "$STATE/closed")" '$3 == 200 { if ($2 - last > most) most = $2 - last; last = $2 } $3 != 200 { refused++ }
		END { printf "%.2f s (a prober: %d of %d attempts refused)", most / 1e9, refused, NR }' "$STATE/probe"
}
refused() { answer=$(patch_probe) || :; case $answer in *'"reason":"ServiceUnavailable"'*503) ;; *) false ;; esac; }
reads_work() { [ "$(curl -s -m 10 $ADMIN -o /dev/null -w '%{http_code}' "$API/api/v1/namespaces/kube-system")" = 200 ]; }

# ---- start and end of a run --------------------------------------------------------------------------------------------------------

phase=open      # open; closed: writes are refused and nothing has moved; switched: reads are on the other side
from=etcd
background=

stop_background() {
	for p in $background; do kill "$p" 2> /dev/null || :; done
	background=
}

finish_run() {
	rc=$?
	trap - EXIT INT TERM HUP
	stop_background
	if [ $rc -ne 0 ]; then
		case $phase in
		closed)
			if set_doors read-write "$from"; then
				say "Writes are open again on $from, as before. Nothing was lost and nothing has moved. Mend the cause and run the same command again."
			else
				say "WRITES ARE STILL CLOSED: the balancer did not take the command. Write two lines, 'api read-write' and 'store $from', to $MAP and restart haproxy."
			fi ;;
		switched)
			say "Reads are on $(other "$from"), writes are closed. Run the same command again to go on, or 'back' to return to etcd." ;;
		esac
	fi
	rm -rf "$STATE/lock"
	exit $rc
}

begin_run() {
	mkdir -p "$STATE"
	if ! mkdir "$STATE/lock" 2> /dev/null; then
		holder=$(cat "$STATE/lock/pid" 2> /dev/null) || holder=
		[ -n "$holder" ] && ! kill -0 "$holder" 2> /dev/null || die "another run holds $STATE/lock: process $holder" "let it end; if there is none, remove that directory"
		say "an earlier run, process $holder, ended without a word; going on after it"
	fi
	echo $$ > "$STATE/lock/pid"
	trap finish_run EXIT
	trap 'exit 130' INT TERM HUP
}

# ---- check -------------------------------------------------------------------------------------------------------------------------

watch_streams() { # SIDE: how many watch streams it has, of whomever
	for u in $(urls "$1" | tr ',' ' '); do curl -sS -m 5 $TLS "$u/metrics"; done | awk '$1 == "etcd_debugging_mvcc_watch_stream_total" { n += $2 } END { print n + 0 }'
}
nobody_past_the_door() { [ "$(watch_streams "$1")" -le "$(busy "$1-watch")" ]; }
apis_up() { command_all "show stat" | awk -F, '$1 == "api-read" && $2 != "BACKEND" && $18 ~ /^UP/ { n++ } END { print n + 0 }'; }

cmd_check() {
	step "Tools, balancer, stores"
	for t in curl awk sed date "$TOOL"; do command -v "$t" > /dev/null || die "there is no program $t" "install it on this machine"; done
	case $(now) in *[!0-9]*) die "date +%s%N does not tell nanoseconds" "install GNU coreutils" ;; esac
	for b in $BALANCERS; do balancer_command "$b" "show map $MAP" > /dev/null || die "the balancer $b does not answer on its socket" "start haproxy with deploy/switchover/haproxy.cfg"; done
	case "$(where api)/$(where store)" in
	read-write/etcd | read-only/etcd* | read-only/quorate* | read-write/quorate) ;;
	*) die "the doors stand at api '$(where api)', store '$(where store)'" "make $MAP two lines, 'api read-write' and 'store etcd', and restart haproxy" ;;
	esac
	say "balancer: api is $(where api), store is $(where store); $(apis_up) API servers are ready"
	[ "$(apis_up)" -gt 0 ] || die "no API server is ready behind the balancer" "look at 'show stat' on its socket"
	reads_work || die "GET $API/api/v1/namespaces/kube-system fails" "try it with curl: $ADMIN"
	case $(where store) in
	etcd*)
		eventually 10 one_revision etcd || die "the members of etcd do not agree: revisions '$revision'" "etcdctl endpoint status"
		[ -n "$QUORATE_MEMBERS" ] || [ "$(ctl etcd member list | wc -l)" -eq 1 ] || die "etcd has several members, and QUORATE_MEMBERS is empty" "name the members of quorate: they get ids of their own"
		alarms=$(ctl etcd alarm list) || die "etcd does not answer: $ETCD" "etcdctl endpoint health"
		curl -fsS -m 5 $TLS -d '{}' -o /dev/null "${ETCD%%,*}/v3/lease/leases" || die "${ETCD%%,*}/v3/lease/leases does not answer" "leases are kept alive by it meanwhile: etcd 3.4 or later, with its gateway on"
		[ -z "$alarms" ] || die "etcd has an alarm: $alarms" "mend that first"
		say "etcd: revision $(revisions etcd), no alarm" ;;
	*) say "quorate: revision $(revisions quorate)" ;;
	esac
}

check_doors_used() { # SIDE
	[ "$(busy "$1-watch")" -gt 0 ] && eventually 10 nobody_past_the_door "$1" && return
	die "$1 has $(watch_streams "$1") streams of watches, and $(busy "$1-watch") of them come through the balancer: somebody else reads, and may write" \
		"every API server must have --etcd-servers=$STORE: run 'prepare'. Others (backups that watch, Calico on the same etcd) must be stopped"
}

# ---- prepare, finish ---------------------------------------------------------------------------------------------------------------

server_state() { for b in $BALANCERS; do for k in api-read api-read-as api-write api-write-as; do balancer_command "$b" "set server $k/$1 state $2" > /dev/null; done; done; }
server_idle() { [ "$(command_all "show stat" | awk -F, -v s="$1" '($1 == "api-write" || $1 == "api-write-as") && $2 == s { n += $5 } END { print n + 0 }')" -eq 0 ]; }
server_ready() { [ "$(command_all "show stat" | awk -F, -v s="$1" '$1 == "api-read" && $2 == s && $37 != "L7OK" { n++ } END { print n + 0 }')" -eq 0 ]; }

# roll URLS: API servers one by one to this store.
roll() {
	for a in $APISERVERS; do
		step "API server $a to $1"
		[ "$(apis_up)" -gt 1 ] || say "it is the only one: reads stop until it is back"
		server_state "$a" drain
		eventually "$DRAIN" server_idle "$a" || say "some requests of $a still go on: it ends them as it stops"
		sleep 2 # for reads; what still goes on then are watches, for which an API server would wait for a minute before it ends
		cut_off api-read "$a"
		cut_off api-read-as "$a"
		t=$(now)
		restart_apiserver "$a" "$1" || { server_state "$a" ready; die "API server $a did not come back with --etcd-servers=$1" "look at its log; give it its old --etcd-servers and restart it. The others serve"; }
		eventually "$START" server_ready "$a" || die "the balancer does not see $a ready" "look at its log; 'show stat' tells what the balancer sees. The others serve"
		server_state "$a" ready
		say "ready after $(since "$t")"
	done
}

cmd_prepare() {
	cmd_check
	roll "$STORE"
	check_doors_used "$(where store | sed 's/-read-only//')"
	say "all API servers reach the store through the balancer, and nobody watches past it"
	say "Next: 'go', when a pause of writes is allowed. The way back: give API servers their old --etcd-servers."
}

cmd_finish() {
	cmd_check
	s=$(where store)
	case $s in *-read-only) die "writes are closed" "finish 'go' or 'back' first" ;; esac
	roll "$(urls "$s")"
	say "API servers talk to $s directly. The balancer's door for the store is not used any more."
}

# ---- go, back ----------------------------------------------------------------------------------------------------------------------

# close_writes SIDE: for clients with an answer that explains itself, then for everybody.
close_writes() {
	step "Closing for writes"
	curl -s -o /dev/null -m 10 $ADMIN -H 'Content-Type: application/json' -d '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"switchover-probe"}}' "$API$PROBE" || :
	: > "$STATE/probe"
	probe & background="$background $!"
	was=$(doors)
	if [ "$was" = "read-write $1" ]; then
		rm -f "$STATE/closed"
		eventually 20 written_since 0 || die "a write fails already: $(patch_probe | tail -n 3)" "ADMIN in the configuration must be able to change ConfigMaps in kube-system"
	fi
	phase=closed
	closed_at=$(now)
	[ -f "$STATE/closed" ] || echo "$closed_at" > "$STATE/closed"
	set_doors read-only "${was#* }" || die "the balancer does not close the door for clients" "look at its socket"
	eventually 2 idle 'api-write|api-write-as' || say "some changes are still under way, or an exec: what they write from now on is refused by the next door"
	set_doors read-only "$1-read-only" || die "the balancer does not close the door for API servers" "look at its socket"
	eventually "$DRAIN" idle "$1-write" || die "$(busy "$1-write") writes to $1 did not end within $DRAIN s" "find out what hangs in $1"
	say "closed after $(since "$closed_at"): clients get 503, API servers Unavailable, reads go on"
	keep_leases "$1" & background="$background $!"
	eventually 10 refused || die "a write through the balancer was not refused as it should be: $answer" "is this the balancer of $API?"
	if "$TOOL" etcdctl --endpoints="$STORE" $TLS del switchover-probe > /dev/null 2>&1; then
		die "a write through $STORE was not refused" "is haproxy.cfg changed?"
	fi
	say "proved: a change by a client and one by an API server are refused"
	eventually 10 one_revision "$1" || die "the members of $1 do not agree: revisions '$revision'" "etcdctl endpoint status"
	echo "$revision" > "$STATE/revision"
	say "$1 stands at revision $revision"
}

# same SIDE1 SIDE2: the first has not moved since it was closed, and the other holds the same.
same() {
	stands=$(revisions "$1")
	[ "$stands" = "$revision" ] || die "$1 has moved from revision $revision to '$stands': somebody writes to it past the balancer" "find who connects to $(urls "$1"), stop that, and run this again"
	a=$(hashes "$1" "$revision") b=$(hashes "$2" "$revision")
	[ -n "$a" ] && [ "$a" = "$b" ] || die "the copies differ at revision $revision: HashKV of $1 is '$a', of $2 '$b'" "keep both directories and report it"
	leases "$1" > "$STATE/leases.$1"
	leases "$2" > "$STATE/leases.$2"
	cmp -s "$STATE/leases.$1" "$STATE/leases.$2" || die "$1 has $(wc -l < "$STATE/leases.$1") leases, $2 has $(wc -l < "$STATE/leases.$2"), and they are not the same" "keep both directories and report it"
	say "same: HashKV at revision $revision is $a on both sides, and $1 still stands there; $(wc -l < "$STATE/leases.$1") leases; $2 is at $(revisions "$2")"
}

move_aside() { # DIR
	[ ! -e "$1" ] || { aside=$1.$(date -u +%Y%m%dT%H%M%SZ); mv "$1" "$aside"; say "moved aside: $aside"; }
}

copy() { # FROM TO
	if [ -f "$STATE/copied" ] && [ "$(cat "$STATE/copied")" = "$2 $revision" ] && answers "$2"; then
		say "$2 runs already with a copy of revision $revision"
		return
	fi
	step "Copying $1 to $2"
	t=$(now)
	stop_"$2" || die "$2 could not be stopped" "stop it by hand"
	case $2 in etcd) move_aside "$ETCD_DIR" ;; *) move_aside "$QUORATE_DIR" ;; esac
	rm -f "$STATE/copied"
	set +e
	(set -e; copy_to_"$2")
	rc=$?
	set -e
	[ $rc -eq 0 ] || die "the copy failed" "its last lines say why"
	say "copied in $(since "$t")"
	step "Starting $2"
	t=$(now)
	start_"$2" || die "$2 did not start" "look at its log"
	eventually "$START" answers "$2" || die "$2 does not answer within $START s: $(urls "$2")" "look at its log"
	echo "$2 $revision" > "$STATE/copied"
	say "answers after $(since "$t")"
}

store_ready() { [ "$(command_all "show stat" | awk -F, -v p="$1-read" '$1 == p && $2 == "BACKEND" && $18 ~ /^UP/ { n++ } END { print n + 0 }')" -eq "$(echo $BALANCERS | wc -w)" ]; }

# switch FROM TO: reads first. Until writes are open both sides are the same.
switch() {
	step "Switching API servers from $1 to $2"
	t=$(now)
	eventually 20 store_ready "$2" || die "the balancer does not reach $2" "compare its back end $2-read with $(urls "$2")"
	phase=switched
	set_doors read-only "$2-read-only" || die "the balancer does not switch" "look at its socket"
	eventually "$DRAIN" cut_until_idle "$1-watch" || die "watches at $1 do not end" "run this again"
	eventually 20 reads_work || die "reads through $API fail" "run 'back', or look at the API servers' logs and run this again"
	say "switched in $(since "$t"): reads and watches are on $2"
}

open_writes() { # SIDE
	step "Opening for writes"
	t=$(now)
	set_doors read-write "$1" || die "the balancer does not open" "run this again"
	phase=open
	eventually 30 written_since "$t" || die "the doors are open, and writes through $API fail: $(patch_probe | tail -n 3)" "look at the API servers' logs; 'back' returns to etcd with what was written"
	stop_background
	curl -s -o /dev/null -m 10 $ADMIN -X DELETE "$API$PROBE/switchover-probe" || :
	printf '\n'
	say "DONE: the cluster is on $1. Downtime of writes: $(downtime)."
	rm -f "$STATE/copied" "$STATE/closed"
}

# move FROM TO: all of it, from wherever the last run ended.
move() {
	from=$1
	if [ "$(where store)" = "$2-read-only" ]; then
		say "an earlier run had switched to $2 already; writes are still closed"
		phase=switched
		: > "$STATE/probe"
		probe & background="$background $!"
		eventually 20 reads_work || die "reads through $API fail" "run 'back', or look at the API servers' logs and run this again"
		cut_until_idle "$1-watch" || :
	else
		close_writes "$1"
		copy "$1" "$2"
		same "$1" "$2"
		switch "$1" "$2"
	fi
	open_writes "$2"
}

cmd_go() {
	cmd_check
	case $(where store) in
	quorate) [ "$(where api)" = read-write ] || set_doors read-write quorate; say "The cluster is on quorate already."; return ;;
	etcd) check_doors_used etcd ;;
	esac
	move etcd quorate
	say "Keep etcd and its data as they are until you trust this. The way back: 'back'. Next: 'finish'."
}

# unmoved: writes were never open on quorate, and it is where the copy was.
unmoved() {
	revision=$(cat "$STATE/revision" 2> /dev/null) && [ "$(revisions quorate)" = "$revision" ] || return 1
	a=$(hashes etcd "$revision") # none if etcd is older than that
	[ -n "$a" ] && [ "$a" = "$(hashes quorate "$revision")" ]
}

cmd_back() {
	cmd_check
	case $(where store) in
	etcd | etcd-read-only)
		# An interrupted "back" may have switched already: etcd is then as new as quorate, and what "go" left closed is as it was.
		set_doors read-write etcd || die "the balancer does not open" "look at its socket"
		say "The cluster is on etcd, and writes are open. Nothing had moved." ;;
	quorate-read-only)
		keep_leases quorate & background="$background $!" # it must not move between this look and the switch
		if unmoved; then
			from=quorate
			switch quorate etcd
			set_doors read-write etcd || die "the balancer does not open" "run this again"
			phase=open
			rm -f "$STATE/copied" "$STATE/closed"
			say "The cluster is on etcd, and writes are open. Nothing had been written to quorate."
			return
		fi
		stop_background
		move quorate etcd ;;
	quorate)
		check_doors_used quorate
		move quorate etcd ;;
	esac
}

cmd_status() {
	say "api: $(where api); store: $(where store); API servers ready: $(apis_up); revisions: etcd '$(revisions etcd)', quorate '$(revisions quorate)'"
}

{ # read to the end before it runs: whoever edits this file meanwhile changes nothing
	case $2 in
	check) cmd_check ;;
	status) cmd_status ;;
	prepare) begin_run; cmd_prepare ;;
	go) begin_run; cmd_go ;;
	back | --back) begin_run; cmd_back ;;
	finish) begin_run; cmd_finish ;;
	*) usage ;;
	esac
	exit
}
