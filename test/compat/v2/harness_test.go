package v2

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate.dev/quorate/test/compat/etcd34"
	"quorate.dev/quorate/test/compat/proc"
)

// patience bounds every wait; no test waits for a duration.
const patience = 2 * time.Minute

// self puts a second etcd in the place of quorate, to judge the comparison: it must find nothing.
var self = os.Getenv("COMPAT_SELF") != ""

// target is one of the two servers.
type target struct {
	name, url string
	logs      func(int) string
	gets      [2]uint64         // getsSuccess and getsFail at the start
	vars      map[string]string // what a script remembers
	watches   map[string]*stream
	reached   map[int]bool // error codes seen
}

// pair is etcd and what is compared with it.
type pair struct{ judge, other *target }

// startPair starts both with fresh data and the same ids.
func startPair(t *testing.T, flags ...string) *pair {
	t.Helper()
	p := &pair{}
	var errs [2]error
	both(func() { p.judge, errs[0] = startEtcd(t, "etcd", flags) }, func() {
		if self {
			p.other, errs[1] = startEtcd(t, "other etcd", flags)
			return
		}
		s, err := proc.Start(proc.Quorate, filepath.Join(t.TempDir(), "quorate"), append([]string{"--enable-v2=true", "--bcrypt-cost=4", "--unsafe-no-fsync"}, flags...)...)
		if errs[1] = err; err == nil {
			t.Cleanup(s.Kill)
			p.other = newTarget("quorate", s.URL(), s.LogTail)
		}
	})
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*target{p.judge, p.other} {
		s.gets = s.readGets(t)
	}
	return p
}

func startEtcd(t *testing.T, name string, flags []string) (*target, error) {
	s, err := etcd34.Start(filepath.Join(t.TempDir(), "etcd"), append([]string{
		"--initial-cluster=m1=" + proc.AdvertisedPeer, "--initial-advertise-peer-urls=" + proc.AdvertisedPeer, "--advertise-client-urls=" + proc.AdvertisedClient,
	}, flags...)...)
	if err != nil {
		return nil, err
	}
	t.Cleanup(s.Kill)
	return newTarget(name, s.URL(), s.LogTail), nil
}

func newTarget(name, url string, logs func(int) string) *target {
	return &target{name: name, url: url, logs: logs, vars: map[string]string{}, watches: map[string]*stream{}, reached: map[int]bool{}}
}

// both runs f and g at the same time.
func both(f, g func()) {
	var wg sync.WaitGroup
	wg.Go(f)
	wg.Go(g)
	wg.Wait()
}

// request is one HTTP request.
type request struct {
	method, path, body string
	headers            [][2]string
}

// answer is what came back.
type answer struct {
	status  int
	headers http.Header
	coding  []string
	body    string
	err     error
}

var client = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
}

func (s *target) open(ctx context.Context, q request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, s.url, strings.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	path, query, _ := strings.Cut(q.path, "?")
	req.URL.Opaque, req.URL.RawQuery = path, query // as written, not cleaned
	for _, h := range q.headers {
		req.Header.Add(h[0], h[1])
	}
	return client.Do(req)
}

// do sends a request and reads the whole answer.
func (s *target) do(q request) *answer {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp, err := s.open(ctx, q)
	if err != nil {
		return &answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return &answer{resp.StatusCode, resp.Header, resp.TransferEncoding, string(body), err}
}

func (s *target) readGets(t *testing.T) [2]uint64 {
	t.Helper()
	var got struct{ GetsSuccess, GetsFail uint64 }
	if a := s.do(request{method: "GET", path: "/v2/stats/store"}); a.err != nil || json.Unmarshal([]byte(a.body), &got) != nil {
		t.Fatalf("%s: /v2/stats/store: %v %s", s.name, a.err, a.body)
	}
	return [2]uint64{got.GetsSuccess, got.GetsFail}
}

// stream is a watch that is open.
type stream struct {
	resp   *http.Response
	lines  *bufio.Reader
	cancel context.CancelFunc
}

// watch opens a stream and returns when its headers have come.
func (s *target) watch(name string, q request) *answer {
	ctx, cancel := context.WithCancel(context.Background())
	timer := time.AfterFunc(patience, cancel)
	resp, err := s.open(ctx, q)
	timer.Stop()
	if err != nil {
		cancel()
		return &answer{err: err}
	}
	s.watches[name] = &stream{resp, bufio.NewReader(resp.Body), cancel}
	return &answer{status: resp.StatusCode, headers: resp.Header, coding: resp.TransferEncoding}
}

// read takes the next lines of a stream; 0 reads to its end.
func (w *stream) read(n int) *answer {
	timer := time.AfterFunc(patience, w.cancel)
	defer timer.Stop()
	a := &answer{}
	for i := 0; n == 0 || i < n; i++ {
		line, err := w.lines.ReadString('\n')
		a.body += line
		if err == io.EOF {
			a.body += "(end)"
			return a
		}
		if err != nil {
			a.err = err
			return a
		}
	}
	return a
}

func (w *stream) close() {
	w.cancel()
	w.resp.Body.Close()
}

// node and event have the fields of an answer in etcd's order.
type node struct {
	Key        string  `json:"key,omitempty"`
	Value      *string `json:"value,omitempty"`
	Dir        bool    `json:"dir,omitempty"`
	Expiration string  `json:"expiration,omitempty"`
	TTL        int64   `json:"ttl,omitempty"`
	Nodes      []*node `json:"nodes,omitempty"`
	Modified   uint64  `json:"modifiedIndex,omitempty"`
	Created    uint64  `json:"createdIndex,omitempty"`
}

type event struct {
	Action string `json:"action"`
	Node   *node  `json:"node,omitempty"`
	Prev   *node  `json:"prevNode,omitempty"`
}

// plainer makes lines comparable: it sorts listings that need not be in an order, and takes out times, which it checks.
type plainer struct {
	sorted bool // listings are in order already
	ttls   []int64
}

// line is one line of an answer. One that is not an event, or not written as etcd would write it, stays as it is.
func (p *plainer) line(text string) string {
	var e event
	if json.Unmarshal([]byte(text), &e) != nil || e.Action == "" || encode(&e) != strings.TrimSuffix(text, "\n") {
		return text
	}
	for _, n := range []*node{e.Node, e.Prev} {
		p.node(n)
	}
	return encode(&e) + text[len(strings.TrimSuffix(text, "\n")):]
}

func (p *plainer) node(n *node) {
	if n == nil {
		return
	}
	if n.Expiration != "" {
		at, err := time.Parse(time.RFC3339Nano, n.Expiration)
		if err != nil || at.Format(time.RFC3339Nano) != n.Expiration || at.Location() != time.UTC {
			n.Expiration = "not a time: " + n.Expiration
		} else {
			n.Expiration = "(time)"
		}
		p.ttls = append(p.ttls, n.TTL)
		n.TTL = 0
	}
	if !p.sorted {
		slices.SortFunc(n.Nodes, func(a, b *node) int { return strings.Compare(a.Key, b.Key) })
	}
	for _, c := range n.Nodes {
		p.node(c)
	}
}

func encode(e *event) string {
	text, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// Patterns of what differs in correct servers: times, and what depends on how the log is written.
var (
	volatileSelf = regexp.MustCompile(`"(startTime|uptime)":"[^"]*"`)
	rates        = regexp.MustCompile(`"(getsSuccess|getsFail)":(\d+)`)
	errorCode    = regexp.MustCompile(`^\{"errorCode":(\d+),`)
)

// facts lists what is compared of an answer, and the TTLs in it apart, since clocks are read twice.
func (s *target) facts(q request, a *answer) (facts []string, ttls []int64) {
	if a.err != nil {
		return []string{"error " + strings.ReplaceAll(a.err.Error(), s.url, "URL")}, nil
	}
	facts = append(facts, fmt.Sprint("status ", a.status), fmt.Sprint("transfer ", a.coding))
	for name, values := range a.headers {
		text := fmt.Sprint(values)
		switch name {
		case "Date":
			text = ""
		case "Content-Length": // times have different lengths
			text = fmt.Sprint(values[0] == strconv.Itoa(len(a.body)) || q.method == http.MethodHead)
		case "X-Raft-Index", "X-Raft-Term":
			n, err := strconv.ParseUint(values[0], 10, 64)
			text = fmt.Sprint(len(values), err == nil && n > 0)
		}
		facts = append(facts, name+": "+s.plain("", text))
	}
	slices.Sort(facts)
	p := &plainer{sorted: strings.Contains(q.path, "sorted=true")}
	for line := range strings.Lines(a.body) {
		if m := errorCode.FindStringSubmatch(line); m != nil {
			code, _ := strconv.Atoi(m[1])
			s.reached[code] = true
		}
		facts = append(facts, "body "+strconv.Quote(s.plain(q.path, p.line(line))))
	}
	return facts, p.ttls
}

func (s *target) plain(path, line string) string {
	switch {
	case strings.HasPrefix(path, "/v2/stats/self"):
		line = volatileSelf.ReplaceAllString(line, `"$1":"(any)"`)
	case strings.HasPrefix(path, "/v2/stats/store"):
		// Reads that a start makes are counted.
		line = rates.ReplaceAllStringFunc(line, func(m string) string {
			parts := rates.FindStringSubmatch(m)
			n, _ := strconv.ParseUint(parts[2], 10, 64)
			i := 0
			if parts[1] == "getsFail" {
				i = 1
			}
			return fmt.Sprintf(`"%s":%d`, parts[1], n-s.gets[i])
		})
	}
	for name, value := range s.vars {
		line = strings.ReplaceAll(line, value, "$"+name)
	}
	return strings.ReplaceAll(line, s.url, "URL")
}

// differences are the facts of the one that are not facts of the other.
func (p *pair) differences(q request, judge, other *answer) (lines []string) {
	j, jt := p.judge.facts(q, judge)
	o, ot := p.other.facts(q, other)
	if slices.Equal(j, o) {
		if len(jt) != len(ot) {
			return []string{fmt.Sprintf("TTLs: %s %v, %s %v", p.judge.name, jt, p.other.name, ot)}
		}
		for i := range jt {
			if d := jt[i] - ot[i]; d < -1 || d > 1 {
				return []string{fmt.Sprintf("TTLs: %s %v, %s %v", p.judge.name, jt, p.other.name, ot)}
			}
		}
		return nil
	}
	for _, f := range j {
		if !slices.Contains(o, f) {
			lines = append(lines, fmt.Sprintf("only %s: %s", p.judge.name, short(f)))
		}
	}
	for _, f := range o {
		if !slices.Contains(j, f) {
			lines = append(lines, fmt.Sprintf("only %s: %s", p.other.name, short(f)))
		}
	}
	if len(lines) == 0 {
		lines = append(lines, fmt.Sprintf("the same in another order or number: %v and %v", j, o))
	}
	return lines
}

func short(s string) string {
	if len(s) > 2000 {
		return s[:1000] + " ... " + s[len(s)-1000:]
	}
	return s
}

// do sends the same request to both and returns the judge's answer and the differences.
func (p *pair) do(q request, expand bool) (*answer, []string) {
	var j, o *answer
	qj, qo := q, q
	if expand {
		qj, qo = p.judge.expand(q), p.other.expand(q)
	}
	both(func() { j = p.judge.do(qj) }, func() { o = p.other.do(qo) })
	return j, p.differences(q, j, o)
}

// expand puts in what the script remembers.
func (s *target) expand(q request) request {
	put := func(text string) string {
		for name, value := range s.vars {
			text = strings.ReplaceAll(text, "$"+name, value)
		}
		return text
	}
	q.path, q.body = put(q.path), put(q.body)
	q.headers = slices.Clone(q.headers)
	for i := range q.headers {
		q.headers[i][1] = put(q.headers[i][1])
	}
	return q
}
