package world

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/internal/check"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// asker is a client of the v2 API. What it does to v3 keys of the same names joins the history of all.
type asker struct {
	caller
	known   map[string]*v2store.Node // as it saw them last; looked up only
	asked   int
	granted int64
	leases  []int64
	success time.Duration
}

// act does one thing, and then another.
func (x *asker) act() {
	w := x.w
	if w.quiet {
		return
	}
	pause := w.set.Every
	if w.healed { // everybody is waited for
		pause = min(pause, 200*time.Millisecond)
	}
	w.after(w.between(pause/4, 2*pause), x.act)
	if x.open > 4 || w.resting() {
		return
	}
	switch n := w.rng.IntN(100); {
	case n < 15 && w.set.Mode != modeSeparate && w.now > 1500*time.Millisecond:
		x.beside()
	case n < 17 && w.set.Mode == "":
		x.v2(check.V2Request{Method: "MODE", Value: []string{modeSeparate, modeShared, modeShared}[w.rng.IntN(3)]}, false)
	case n < 32:
		x.v2(check.V2Request{Method: "QGET", Path: x.path(), Recursive: w.chance(3)}, false)
	case n < 38:
		x.v2(check.V2Request{Method: "GET", Path: x.path(), Recursive: w.chance(3)}, false)
	case n < 50:
		x.v2(check.V2Request{Method: "GET", Path: x.path(), Recursive: w.chance(3)}, true)
	default:
		x.v2(x.write(), false)
	}
}

// path draws what a request is about.
func (x *asker) path() string {
	rng := x.w.rng
	switch n := rng.IntN(100); {
	case n < 45:
		return fmt.Sprintf("/1/r%d", rng.IntN(4))
	case n < 75:
		return fmt.Sprintf("/1/d%d/%s", rng.IntN(2), []string{"a", "b", "_h", "a/x"}[rng.IntN(4)])
	case n < 88:
		return fmt.Sprintf("/1/d%d", rng.IntN(2))
	case n < 93:
		return fmt.Sprintf("/1/r%d/deep", rng.IntN(4))
	case n < 95:
		return "/1/_s"
	case n < 97:
		return "/1/q"
	case n < 98:
		return "/1//d0/./b/"
	}
	return "/1"
}

// write draws a change.
func (x *asker) write() check.V2Request {
	w := x.w
	x.asked++
	yes, no := true, false
	r := check.V2Request{Method: "PUT", Path: x.path(), Value: fmt.Sprintf("%d.%d", x.id, x.asked)}
	if w.chance(4) {
		r.TTL = int64(1 + w.rng.IntN(6))
	}
	seen := x.known[v2store.Clean(r.Path)]
	switch n := w.rng.IntN(100); {
	case n < 30:
	case n < 36:
		r.PrevExist = &no
	case n < 43:
		r.PrevExist = &yes
	case n < 62:
		x.compare(&r, seen)
	case n < 69:
		r.Method, r.Value, r.TTL = "DELETE", "", 0
		x.compare(&r, seen)
	case n < 80:
		r.Method, r.Value, r.TTL, r.Dir, r.Recursive = "DELETE", "", 0, w.chance(3), w.chance(2)
	case n < 88:
		r.Method, r.Path = "POST", []string{"/1/q", "/1/q", "/1/d0", "/1/r1"}[w.rng.IntN(4)]
		r.Dir = w.chance(8)
	case n < 94:
		r.Refresh, r.PrevExist, r.Value, r.TTL = true, &yes, "", int64(1+w.rng.IntN(6))
	default:
		r.Dir, r.Value = true, ""
		if w.chance(3) {
			r.PrevExist = &yes
		}
	}
	return r
}

// compare makes a request hang on what is there.
func (x *asker) compare(r *check.V2Request, seen *v2store.Node) {
	value, index := "0", uint64(1+x.w.rng.IntN(50))
	if seen != nil && seen.Value != nil {
		value, index = *seen.Value, seen.Modified
	}
	n := x.w.rng.IntN(4)
	if n != 0 {
		r.PrevIndex = index
	}
	if n < 2 {
		r.PrevValue = value
	}
	if n == 3 && x.w.chance(3) { // one of the two is wrong
		r.PrevValue, r.PrevIndex = value, index+1
	}
}

// beside does something to a v3 key, which in shared mode is a file.
func (x *asker) beside() {
	w := x.w
	x.asked++
	key := []string{"/r0", "/r1", "/d0", "/d0/a", "/d0/a/x", "/d1/b", "/d1/_h", "/r0/deep", "/q", "/d0//b", "/"}[w.rng.IntN(11)]
	q := check.Request{Kind: check.Put, Key: key, Value: fmt.Sprintf("%d.%d", x.id, x.asked)}
	switch n := w.rng.IntN(20); {
	case n < 7:
	case n < 10:
		q = check.Request{Kind: check.Delete, Key: key}
	case n < 12:
		q = check.Request{Kind: check.Delete, Key: "/d0", End: "/d1"}
	case n < 15:
		other := q
		other.Key = key + "/in"
		q = check.Request{Kind: check.Txn, If: []check.Compare{{Key: key, Target: check.ByVersion, Relation: '>', Number: int64(w.rng.IntN(2))}},
			Then: []check.Request{other, q}, Else: []check.Request{{Kind: check.Delete, Key: key}, other}}
	case n < 17 || len(x.leases) == 0:
		x.granted++
		x.grant(int64(x.id)<<32|x.granted, int64(1+w.rng.IntN(4)), func(id, _ int64) {
			if id != 0 {
				x.leases = append(x.leases, id)
			}
		})
		return
	default:
		q.Lease = x.leases[len(x.leases)-1]
	}
	x.ask(q, func(_ check.Answer, err error) { x.answered(err) })
}

func (x *asker) answered(err error) {
	var refused *v2store.Error
	if err == nil || certain(err) || errors.As(err, &refused) {
		x.success = x.w.now
	}
}

// v2 asks for something and records what comes of it.
func (x *asker) v2(r check.V2Request, local bool) {
	w := x.w
	o := &check.V2Op{Client: x.id, Call: w.instant(), Return: check.Never, Request: r, Local: local}
	w.legacy.ops = append(w.legacy.ops, o)
	x.open++
	call(w, func(m *Member, answer func(*v2store.Event, error)) { m.serveV2(o, answer) }, func(e *v2store.Event, err error) {
		x.open--
		if errors.Is(err, errNeverAsked) {
			return
		}
		x.answered(err)
		x.record(o, e, err)
	})
}

// record writes an operation down.
func (x *asker) record(o *check.V2Op, e *v2store.Event, err error) {
	w := x.w
	var refused *v2store.Error
	switch {
	case err == nil:
		o.Return = w.instant()
		if o.Request.Method != "MODE" {
			seen := v2event(e)
			o.Event = &seen
			x.learn(e.Node)
		}
		w.counts.V2Answered++
	case errors.As(err, &refused):
		o.Return, o.Refusal = w.instant(), &check.V2Refusal{Code: refused.Code, Cause: refused.Cause, Index: refused.Index}
		w.counts.V2Refused++
	case certain(err):
		o.Return, o.Refusal = w.instant(), &check.V2Refusal{}
		w.counts.V2Refused++
	default:
		w.counts.V2Unknown++
	}
	if index := indexOf(o); index > 0 {
		w.legacy.samples = append(w.legacy.samples, check.V2Sample{Via: o.Via, From: o.Call, To: o.Return, Index: index})
	}
	w.trace.note(x.name, "%v by %s: %v, %v", o.Request, o.Via, o.Event, err)
}

// indexOf is the index that a reading was answered with, which is the member's.
func indexOf(o *check.V2Op) uint64 {
	if o.Event != nil && o.Request.Method == "GET" {
		return o.Event.Index
	}
	return 0
}

func (x *asker) learn(n *v2store.Node) {
	if n == nil {
		return
	}
	x.known[n.Key] = n
	for _, c := range n.Nodes {
		x.learn(c)
	}
}

// serveV2 does what the server does with a request of the v2 API.
func (m *Member) serveV2(o *check.V2Op, answer func(*v2store.Event, error)) {
	o.Via = fmt.Sprintf("%s#%d", m.name, m.life)
	r := &o.Request
	r.Time = m.wall()
	if r.TTL > 0 {
		r.Expiration = r.Time + r.TTL*int64(time.Second)
	}
	if r.Method == "GET" {
		read := func() {
			r.Time = m.wall()
			answer(m.state.View().V2.Get(r.Path, r.Recursive, true, r.Time))
		}
		if o.Local {
			read()
			return
		}
		m.drive.Host.Read(func(err error) {
			if err != nil {
				answer(nil, err)
				return
			}
			read()
		})
		return
	}
	id := byRoot.prove(m.state.View().Auth)
	m.drive.Host.ProposeAs(command.V2, v2wire(r).Append(nil), id.User, id.Revision, waiter(func(r *command.Result) { answer(r.V2, r.Err) }))
}

// v2wire is a request as the log has it.
func v2wire(r *check.V2Request) *wire.V2Request {
	out := &wire.V2Request{
		Method: r.Method, Path: r.Path, Val: r.Value, Dir: r.Dir, PrevValue: r.PrevValue, PrevIndex: r.PrevIndex, PrevExist: r.PrevExist,
		Expiration: r.Expiration, Recursive: r.Recursive, Time: r.Time,
	}
	if r.Refresh {
		out.Refresh = proto.Bool(true)
	}
	return out
}

// flood makes many requests at once.
func (w *World) flood() {
	m := w.anyMember()
	if !m.serves(false) {
		w.after(w.upTo(time.Second), w.flood)
		return
	}
	w.trace.note(m.name, "is flooded with requests of the v2 API")
	m.enter(m.life, func() {
		for i := range w.set.Flood {
			o := &check.V2Op{Client: 599, Call: w.instant(), Return: check.Never, Request: check.V2Request{Method: "PUT", Path: fmt.Sprintf("/1/flood%d", i%10), Value: fmt.Sprint(i)}}
			w.legacy.ops = append(w.legacy.ops, o)
			m.serveV2(o, func(e *v2store.Event, err error) {
				if err == nil {
					seen := v2event(e)
					o.Event, o.Return = &seen, w.instant()
				}
			})
		}
	})
}

// v2event is an event as the judge has it.
func v2event(e *v2store.Event) check.V2Event {
	out := check.V2Event{Index: e.Index, Action: e.Action, Refresh: e.Refresh}
	if e.Node != nil {
		out.Node = v2node(e.Node)
	}
	if e.Prev != nil {
		prev := v2node(e.Prev)
		out.Prev = &prev
	}
	return out
}

func v2node(n *v2store.Node) check.V2Node {
	out := check.V2Node{Key: n.Key, Dir: n.Dir, Expiration: n.Expiration, TTL: n.TTL, Modified: n.Modified, Created: n.Created}
	if n.Value != nil {
		out.Value, out.Shown = *n.Value, true
	}
	for _, c := range n.Nodes {
		out.Nodes = append(out.Nodes, v2node(c))
	}
	return out
}
