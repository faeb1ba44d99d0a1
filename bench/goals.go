package main

import "fmt"

// bound is how a goal limits a figure.
type bound int

const (
	ratioAtLeast bound = iota // ours / etcd's
	ratioAtMost
	atMost  // ours alone, in the figure's stored unit
	atLeast // the same, the other way round
	noGoal  // shown only
)

// goal is a row of the goals table: one figure of one job.
type goal struct {
	row    string
	job    string
	figure string
	bound  bound
	value  float64
}

// goalsOf are the goals of a cluster of so many members.
func goalsOf(members int) []goal {
	if members > 1 {
		return clusterGoals
	}
	return goals
}

// clusterGoals are those of three members that share one machine with the clients. The CPU is that of all members.
var clusterGoals = []goal{
	{"put 256 B, all clients: rate", "put", "rate", ratioAtLeast, 2.5},
	{"— CPU per op over all members", "put", "CPU per op", ratioAtMost, 0.25},
	{"— p99", "put", "p99", noGoal, 0},
	{"the same, lean client: rate", "put-lean", "rate", noGoal, 0},
	{"— CPU per op over all members", "put-lean", "CPU per op", noGoal, 0},
	{"linearizable get, all clients: rate", "get", "rate", noGoal, 0},
	{"— CPU per op over all members", "get", "CPU per op", noGoal, 0},
	{"the same, lean client: rate", "get-lean", "rate", noGoal, 0},
	{"serializable get, all clients: rate", "get-serializable", "rate", noGoal, 0},
	{"one client put: p50", "one-put", "p50", noGoal, 0},
	{"one client get: p50", "one-get", "p50", noGoal, 0},
	{"watch fan-out: events delivered", "watch", "events/s", noGoal, 0},
	{"— CPU per event over all members", "watch", "CPU per event", noGoal, 0},
	{"node-lease transactions by schedule: p50", "lease", "p50", noGoal, 0},
	{"— p99", "lease", "p99", noGoal, 0},
	{"— highest sustained rate", "lease-max", "rate", noGoal, 0},
	{"the same, lean client: p50", "lease-lean", "p50", noGoal, 0},
	{"— p99", "lease-lean", "p99", noGoal, 0},
	{"— highest sustained rate", "lease-max-lean", "rate", noGoal, 0},
}

// goals are those of one member, in the order of the table.
var goals = []goal{
	{"put 256 B, all clients: rate", "put", "rate", ratioAtLeast, 2.5},
	{"— server CPU per op", "put", "CPU per op", ratioAtMost, 0.2},
	{"— p99", "put", "p99", ratioAtMost, 0.5},
	{"the same, lean client: rate", "put-lean", "rate", ratioAtLeast, 5},
	{"linearizable get, all clients: rate", "get", "rate", ratioAtLeast, 2.2},
	{"— server CPU per op", "get", "CPU per op", ratioAtMost, 1.0 / 6},
	{"the same, lean client: rate", "get-lean", "rate", noGoal, 0},
	{"serializable get, all clients: rate", "get-serializable", "rate", noGoal, 0},
	{"one client put: p50", "one-put", "p50", ratioAtMost, 0.55},
	{"one client get: p50", "one-get", "p50", ratioAtMost, 0.45},
	{"load of the large store: rate", "load", "rate", ratioAtLeast, 2.5},
	{"— server CPU per op", "load", "CPU per op", ratioAtMost, 0.2},
	{"— resident memory per live data, settled", "settled", "resident / live data", atMost, 1.3},
	{"— disk, settled", "settled", "disk", ratioAtMost, 0.6},
	{"paginated list of it: whole", "list", "seconds", atMost, 2},
	{"— a page, p50", "list", "p50", atMost, 1.5},
	{"one Range of it: time", "range-all", "seconds", atMost, 1.5},
	{"— peak memory above resting", "range-all", "above resting", atMost, 64e6},
	{"RangeStream of it: first message", "range-stream", "first byte", atMost, 20},
	{"— peak memory above resting", "range-stream", "above resting", noGoal, 0},
	{"restart with it, after SIGTERM", "restart-term", "seconds", atMost, 0.5},
	{"restart with it, after kill -9", "restart-kill", "seconds", atMost, 0.5},
	{"— the first paginated list then", "list-after-kill", "seconds", noGoal, 0},
	{"ten lists of 150,000 pods of 10 KB at once, pages of 10,000: peak memory above resting", "pods-pages", "above resting", atMost, 128e6},
	{"— time", "pods-pages", "seconds", noGoal, 0},
	{"one such list in one answer: peak memory above resting", "pods-list", "above resting", atMost, 128e6},
	{"— time", "pods-list", "seconds", noGoal, 0},
	{"ten such lists in one answer each, at once: peak memory above resting", "pods-lists", "above resting", atMost, 128e6},
	{"— time", "pods-lists", "seconds", noGoal, 0},
	{"watch fan-out: events delivered", "watch", "events/s", ratioAtLeast, 1.5},
	{"— server CPU per event", "watch", "CPU per event", ratioAtMost, 0.25},
	{"the same, lean client: events delivered", "watch-lean", "events/s", noGoal, 0},
	{"— server CPU per event", "watch-lean", "CPU per event", noGoal, 0},
	{"the same live, a stream each: events delivered", "watch-live", "events/s", noGoal, 0},
	{"— server CPU per event", "watch-live", "CPU per event", noGoal, 0},
	{"proxy fan-out: events a second on 2 cores of its own", "proxy-fanout", "events/s on 2 cores", ratioAtLeast, 3},
	{"— proxy CPU per event", "proxy-fanout", "CPU per event", atMost, 2},
	{"— events delivered, everything on this machine", "proxy-fanout", "events/s", noGoal, 0},
	{"— resident memory of the proxy, peak", "proxy-fanout", "peak resident", noGoal, 0},
	{"the same, a stream each: events a second on 2 cores", "proxy-streams", "events/s on 2 cores", ratioAtLeast, 3},
	{"the same with 4 clients that put: events a second on 2 cores", "proxy-live", "events/s on 2 cores", noGoal, 0},
	{"— p99 from put to event", "proxy-live", "p99", noGoal, 0},
	{"node-lease transactions by schedule: p50", "lease", "p50", atMost, 3},
	{"— p99", "lease", "p99", atMost, 25},
	{"— highest sustained rate", "lease-max", "rate", ratioAtLeast, 4},
	{"the same, lean client: p50", "lease-lean", "p50", atMost, 3},
	{"— p99", "lease-lean", "p99", atMost, 25},
	{"— highest sustained rate", "lease-max-lean", "rate", ratioAtLeast, 4},
	{"write p99 beside watchers that stopped reading / quiet", "stopped-watchers", "loaded / quiet", atMost, 1.1},
	{"write p99 while compacting / quiet", "compaction", "loaded / quiet", atMost, 1.1},
	{"Kubernetes: nodes held within the service levels", "k8s-limit", "nodes", ratioAtLeast, 4},
	{"— at least", "k8s-limit", "nodes", atLeast, 5000},
	{"— peak memory", "k8s-limit", "peak resident", noGoal, 0},
	{"at 5,000 nodes and 150,000 pods: p99 of all calls", "k8s-steady", "p99", atMost, 20},
	{"— slowest verb and resource but pages of 10,000: p99", "k8s-steady", "slowest p99", noGoal, 0},
	{"— events delivered: p99", "k8s-steady", "delivery p99", noGoal, 0},
	{"— progress requests: p99.9", "k8s-steady", "progress p99.9", noGoal, 0},
	{"— progress requests: p99.99", "k8s-steady", "progress p99.99", atMost, 5},
	{"— CPU of the server", "k8s-steady", "CPU share", noGoal, 0},
	{"— peak memory", "k8s-steady", "peak resident", noGoal, 0},
	{"— while an API server lists everything: p99 of all calls", "k8s-relist", "p99", noGoal, 0},
	{"events to a single watcher", "k8s-flood", "events/s", atLeast, 100_000},
	{"— server CPU per event", "k8s-flood", "CPU per event", noGoal, 0},
	{"authenticate, users seen before: rate", "authenticate", "rate", noGoal, 0},
	{"— server CPU per op", "authenticate", "CPU per op", noGoal, 0},
	{"— p99", "authenticate", "p99", noGoal, 0},
	{"authenticate, 50 users for the first time: p99", "first-logins", "p99", noGoal, 0},
	{"write p99 beside wrong passwords / quiet", "wrong-passwords", "loaded / quiet", noGoal, 0},
	{"put with authentication: rate", "put-auth", "rate", noGoal, 0},
	{"— server CPU per op", "put-auth", "CPU per op", noGoal, 0},
	{"put over TLS: rate", "put-tls", "rate", noGoal, 0},
	{"— server CPU per op", "put-tls", "CPU per op", noGoal, 0},
	{"put over TLS, the certificate names the user: rate", "put-tls-auth", "rate", noGoal, 0},
	{"— server CPU per op", "put-tls-auth", "CPU per op", noGoal, 0},
	{"idle: memory", "idle", "resident", atMost, 25e6},
	{"— disk", "idle", "disk", atMost, 8e6},
	{"— CPU", "idle", "CPU share", atMost, 0.005},
	{"overload: peak memory above resting", "overload", "above resting", noGoal, 0},
	{"— time to a refusal, p99", "overload", "refusal p99", noGoal, 0},
	{"— refused", "overload", "refused", noGoal, 0},
	{"— failed otherwise, mostly by timeout", "overload", "failed", noGoal, 0},
	{"— p99 in the 5 s after", "overload", "after p99", noGoal, 0},
}

// verdict is what a run says about a goal.
type verdict struct {
	etcd, ours, ratio string
	goal              string
	reached           string // yes, no, "-" when nothing was to be reached, or why it is not known
}

const unknown = "not measured"

// judge holds the medians of both servers against the goal. A figure that is missing where the goal needs it leaves the
// verdict open; it never counts as reached.
func (g *goal) judge(ours, etcd spread) verdict {
	f := figureNamed(g.figure)
	v := verdict{etcd: unknown, ours: unknown, ratio: "-", reached: unknown}
	if etcd.n > 0 {
		v.etcd = f.show(etcd.median)
	}
	if ours.n > 0 {
		v.ours = f.show(ours.median)
	}
	known := ours.n > 0 && etcd.n > 0 && etcd.median != 0
	ratio := 0.0
	if known {
		ratio = ours.median / etcd.median
		v.ratio = fmt.Sprintf("%.2f", ratio)
	}
	switch g.bound {
	case ratioAtLeast:
		v.goal = fmt.Sprintf("≥ %.3gx", g.value)
		v.reached = answerTo(known, ratio >= g.value)
	case ratioAtMost:
		v.goal = fmt.Sprintf("≤ %.3gx", g.value)
		v.reached = answerTo(known, ratio <= g.value)
	case atMost:
		v.goal = "≤ " + f.show(g.value)
		v.reached = answerTo(ours.n > 0, ours.median <= g.value)
	case atLeast:
		v.goal = "≥ " + f.show(g.value)
		v.reached = answerTo(ours.n > 0, ours.median >= g.value)
	case noGoal:
		v.goal, v.reached = "-", "-"
	}
	return v
}

func answerTo(known, reached bool) string {
	switch {
	case !known:
		return unknown
	case reached:
		return "yes"
	}
	return "no"
}
