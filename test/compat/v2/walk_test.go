package v2

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The walk: random requests from a seed, sent to both servers, below /v2/keys/w. COMPAT_SEED and COMPAT_OPS choose others.
const (
	walkOps     = 5000
	walkEpisode = 150 // requests between opening watches and comparing what they got
	walkWatches = 6
	walkValues  = 4
	walkShown   = 12 // requests before a difference that are printed
)

// walk is the state of one walk.
type walk struct {
	t     *testing.T
	p     *pair
	rnd   *rand.Rand
	past  []told // events that watchers without a stream can be given
	log   []string
	index uint64
	paths []string
	done  int
}

// told is an event that happened.
type told struct {
	path  string
	index uint64
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestRandomWalk compares every answer, every event of the watches that are open meanwhile, and the counters of the store.
func TestRandomWalk(t *testing.T) {
	seed := number(t, "COMPAT_SEED", uint64(time.Now().UnixNano()))
	ops := int(number(t, "COMPAT_OPS", walkOps))
	t.Logf("COMPAT_SEED=%d COMPAT_OPS=%d go test -run TestRandomWalk .", seed, ops)
	w := &walk{t: t, p: startPair(t), rnd: rand.New(rand.NewPCG(seed, 2))}
	for w.done < ops {
		w.episode(min(walkEpisode, ops-w.done))
	}
	w.send(request{method: "GET", path: "/v2/keys?recursive=true&sorted=true"})
	w.send(request{method: "GET", path: "/v2/stats/store"})
	t.Logf("%d requests", len(w.log))
}

// episode opens watches, sends n requests, and compares what the watches got.
func (w *walk) episode(n int) {
	w.paths = w.paths[:0]
	for i := range walkWatches {
		path := w.path()
		query := "wait=true&stream=true"
		if w.rnd.IntN(2) == 0 {
			query += "&recursive=true"
		}
		if w.rnd.IntN(4) == 0 { // from an index to come
			query += fmt.Sprintf("&waitIndex=%d", w.index+1+uint64(w.rnd.IntN(20)))
		}
		w.paths = append(w.paths, path)
		w.try(&statement{verb: "watch", name: fmt.Sprint(i), req: request{method: "GET", path: "/v2/keys" + path + "?" + query}})
	}
	for range n {
		w.step()
	}
	w.done += n
	w.try(&statement{verb: "until", req: request{method: "GET", path: "/v2/stats/store"}, match: regexp.MustCompile(fmt.Sprintf(`"watchers":%d\b`, walkWatches))})
	w.send(request{method: "GET", path: "/v2/stats/store"})
	for i, path := range w.paths {
		w.end(fmt.Sprint(i), path)
	}
	w.past = nil
}

// end has a watch see a last event, and compares all that it saw.
func (w *walk) end(name, path string) {
	w.send(request{method: "DELETE", path: "/v2/keys/w?recursive=true"})
	last := fmt.Sprintf("the end of %s at %d", name, len(w.log))
	w.send(form("PUT", "/v2/keys"+path, url.Values{"value": {last}}))
	var a [2]*answer
	until := func(s *target) *answer {
		out := &answer{}
		for out.err == nil && !strings.Contains(out.body, last) {
			line := s.watches[name].read(1)
			out.body += line.body
			out.err = line.err
			if strings.HasSuffix(line.body, "(end)") {
				break
			}
		}
		s.watches[name].close()
		return out
	}
	both(func() { a[0] = until(w.p.judge) }, func() { a[1] = until(w.p.other) })
	w.check("the events of watch "+name+" of "+path, w.p.differences(request{}, a[0], a[1]))
}

// step sends one random request.
func (w *walk) step() {
	switch n := w.rnd.IntN(100); {
	case n < 45:
		w.put()
	case n < 52:
		v := url.Values{}
		w.some(v)
		w.send(form("POST", "/v2/keys"+w.path(), v))
	case n < 68:
		w.remove()
	case n < 90:
		w.get()
	case n < 98:
		w.wait()
	default:
		w.expire()
	}
}

// path is one of a small tree, sometimes its root.
func (w *walk) path() string {
	names := []string{"a", "b", "c", "_h", "a-", "B"}
	p := "/w"
	for range w.rnd.IntN(5) {
		p += "/" + names[min(w.rnd.IntN(len(names)), w.rnd.IntN(len(names)))]
	}
	return p
}

func form(method, path string, v url.Values) request {
	return request{method, path, v.Encode(), [][2]string{{"Content-Type", "application/x-www-form-urlencoded"}}}
}

// some puts in parameters of a write.
func (w *walk) some(v url.Values) {
	if w.rnd.IntN(4) > 0 {
		v.Set("value", w.value())
	}
	if w.rnd.IntN(5) == 0 {
		v.Set("dir", strconv.FormatBool(w.rnd.IntN(4) > 0))
	}
	if w.rnd.IntN(5) == 0 {
		v.Set("ttl", []string{"", "1000", "5000"}[w.rnd.IntN(3)])
	}
	if w.rnd.IntN(12) == 0 {
		v.Set("noValueOnSuccess", "true")
	}
	if w.rnd.IntN(100) == 0 {
		v.Set([]string{"prevExist", "ttl", "dir", "prevIndex", "refresh", "wait"}[w.rnd.IntN(6)], "bad")
	}
}

func (w *walk) value() string { return "v" + strconv.Itoa(w.rnd.IntN(walkValues)) }

// compared puts in what a write compares with.
func (w *walk) compared(v url.Values) {
	if w.rnd.IntN(4) == 0 {
		v.Set("prevValue", w.value())
	}
	if w.rnd.IntN(5) == 0 {
		index := uint64(w.rnd.IntN(int(w.index) + 3))
		if len(w.past) > 0 && w.rnd.IntN(3) > 0 {
			index = w.past[len(w.past)-1-w.rnd.IntN(min(5, len(w.past)))].index
		}
		v.Set("prevIndex", strconv.FormatUint(index, 10))
	}
}

func (w *walk) put() {
	v := url.Values{}
	w.some(v)
	path := w.path()
	switch w.rnd.IntN(5) {
	case 0:
		v.Set("prevExist", "true")
	case 1:
		v.Set("prevExist", "false")
	case 2:
		w.compared(v)
	case 3:
		v.Set("prevExist", "true")
		w.compared(v)
	}
	if w.rnd.IntN(12) == 0 {
		v.Set("refresh", "true")
		v.Set("ttl", "3000")
		if w.rnd.IntN(8) > 0 {
			v.Del("value")
		}
	}
	w.send(form("PUT", "/v2/keys"+path, v))
}

func (w *walk) remove() {
	v := url.Values{}
	if w.rnd.IntN(3) == 0 {
		v.Set("dir", "true")
	}
	if w.rnd.IntN(6) == 0 {
		v.Set("recursive", "true")
	}
	if w.rnd.IntN(3) == 0 {
		w.compared(v)
	}
	w.send(request{method: "DELETE", path: "/v2/keys" + w.path() + "?" + v.Encode()})
}

func (w *walk) get() {
	v := url.Values{}
	for _, name := range []string{"recursive", "sorted", "quorum"} {
		if w.rnd.IntN(2) == 0 {
			v.Set(name, "true")
		}
	}
	method := http.MethodGet
	if w.rnd.IntN(8) == 0 {
		method = http.MethodHead
	}
	w.send(request{method: method, path: "/v2/keys" + w.path() + "?" + v.Encode()})
}

// wait asks for an event that there was, or whose index is gone from the history: in both cases there is an answer.
func (w *walk) wait() {
	if len(w.past) == 0 {
		return
	}
	e := w.past[w.rnd.IntN(len(w.past))]
	path, recursive := e.path, w.rnd.IntN(2) == 0
	if recursive && w.rnd.IntN(2) == 0 {
		path = path[:strings.LastIndex(path, "/")]
	}
	index := e.index - min(e.index-1, uint64(w.rnd.IntN(10)*w.rnd.IntN(10)))
	w.send(request{method: "GET", path: fmt.Sprintf("/v2/keys%s?wait=true&recursive=%t&waitIndex=%d", path, recursive, index)})
}

// expire writes something that expires at once, and waits for that.
func (w *walk) expire() {
	path := w.path()
	v := url.Values{"ttl": {"0"}, "value": {w.value()}}
	if w.rnd.IntN(2) == 0 {
		v = url.Values{"ttl": {"0"}, "prevExist": {"true"}}
	}
	w.try(&statement{verb: "watch", name: "expire", req: request{method: "GET", path: "/v2/keys" + path + "?wait=true&stream=true"}})
	// How much of the second is over in the answer, nobody knows.
	q := form("PUT", "/v2/keys"+path, v)
	var a [2]*answer
	both(func() { a[0] = w.p.judge.do(q) }, func() { a[1] = w.p.other.do(q) })
	if a[0].status != a[1].status {
		w.check(fmt.Sprint(q), w.p.differences(q, a[0], a[1]))
	}
	w.note(q, a[0])
	if a[0].status < 300 {
		w.try(&statement{verb: "read", name: "expire", n: 2})
		w.index++
	}
	w.try(&statement{verb: "close", name: "expire"})
}

// try runs a statement of a script.
func (w *walk) try(s *statement) {
	w.check(fmt.Sprintf("%s %s %v", s.verb, s.name, s.req), w.p.run(s))
}

// send sends a request to both.
func (w *walk) send(q request) {
	a, wrong := w.p.do(q, false)
	w.check(fmt.Sprint(q.method, " ", q.path, " ", q.body), wrong)
	w.note(q, a)
}

// note remembers what happened.
func (w *walk) note(q request, a *answer) {
	var e event
	if q.method == "GET" || q.method == "HEAD" || a.err != nil || a.status >= 300 {
		return
	}
	w.index, _ = strconv.ParseUint(a.headers.Get("X-Etcd-Index"), 10, 64)
	if json.Unmarshal([]byte(a.body), &e) == nil && e.Node != nil && !strings.Contains(q.body, "refresh=true") {
		w.past = append(w.past, told{e.Node.Key, w.index})
	}
}

func (w *walk) check(what string, wrong []string) {
	w.log = append(w.log, what)
	if len(wrong) > 0 {
		w.t.Fatalf("after %d requests, the last of them\n  %s\n%s", len(w.log), strings.Join(w.log[max(0, len(w.log)-walkShown):], "\n  "), strings.Join(wrong, "\n"))
	}
}
