package insight

import (
	"cmp"
	"context"
	"errors"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
)

// ErrBusy says that as many look already as may.
var ErrBusy = errors.New("as many look at this member already as may: try again in some seconds")

// Top is the answer of GET /quorate/top: what clients asked for in a window of time.
type Top struct {
	Member   string  `json:"member"` // id, hexadecimal
	Time     int64   `json:"time"`   // end of the window, nanoseconds since 1970
	Seconds  float64 `json:"seconds"`
	Sampled  uint64  `json:"sampled"` // calls that were recorded; each row is an estimate where that is less than Calls
	Calls    uint64  `json:"calls"`   // calls and streams that began and ended in the window
	Depth    int     `json:"depth"`   // how many parts of a key make a prefix
	Methods  []Row   `json:"methods"`
	Clients  []Row   `json:"clients"`
	Prefixes []Row   `json:"prefixes"` // with the method
	Keys     []Row   `json:"keys"`     // asked for alone, not in ranges
	Watch    Watches `json:"watch"`
}

// Row is what one method, client, prefix or key had of the calls.
type Row struct {
	Method string  `json:"method,omitempty"` // without its package
	Client string  `json:"client,omitempty"` // address without the port
	User   string  `json:"user,omitempty"`
	Key    []byte  `json:"key,omitempty"`  // or prefix; of a long key the beginning
	Calls  uint64  `json:"calls"`          // at least so many
	Over   uint64  `json:"over,omitempty"` // and at most so many more, which may have been others'
	Failed uint64  `json:"failed,omitempty"`
	In     uint64  `json:"in"`   // bytes of requests
	Out    uint64  `json:"out"`  // bytes of answers
	Mean   float64 `json:"mean"` // seconds
	P99    float64 `json:"p99"`  // seconds, the upper bound of a bucket
	Max    float64 `json:"max"`  // seconds
}

// Watches is the state of the watches at the end of the window.
type Watches struct {
	Streams  int       `json:"streams"`
	Watchers int       `json:"watchers"`
	Slow     int       `json:"slow"`   // watchers that are behind
	Events   uint64    `json:"events"` // offered to watchers in the window
	Behind   []Watcher `json:"behind"` // those farthest behind
	Largest  []Streams `json:"largest"`
}

// Watcher is one that is behind.
type Watcher struct {
	Client string `json:"client"`
	Key    []byte `json:"key"`
	End    []byte `json:"end,omitempty"` // as in a create request
	Lag    int64  `json:"lag"`           // revisions
	Full   bool   `json:"full"`          // its client does not take what was sent
}

// Streams are the watch streams of one client.
type Streams struct {
	Client   string `json:"client"`
	Streams  int    `json:"streams"`
	Watchers int    `json:"watchers"`
}

// Call is one call or stream that has ended.
type Call struct {
	Weight  uint64 // as Sample returned it
	Method  string // such as "/etcdserverpb.KV/Put"
	Client  string // address without the port
	User    string
	Key     []byte // "" for none
	Single  bool   // it asked for this key alone
	In, Out int    // bytes
	Took    time.Duration
	Failed  bool
}

// Desk is where calls are recorded while somebody looks. Its methods may be used from any goroutine.
type Desk struct {
	clock clock.Clock
	looks atomic.Pointer[[]*look] // nil while nobody looks; replaced, never changed
	every atomic.Uint64           // one of so many calls is recorded

	mu    sync.Mutex // for changes of looks, and the pace
	slice time.Time  // begin of the present slice of time
	taken int        // calls recorded in it
}

// NewDesk makes a desk. A nil clock is the real one.
func NewDesk(c clock.Clock) *Desk {
	if c == nil {
		c = clock.Real()
	}
	d := &Desk{clock: c}
	d.every.Store(1)
	return d
}

// Sample says whether a call that begins now is to be recorded: 0 for no, else the number of calls that it stands for.
func (d *Desk) Sample() uint64 {
	if !d.Looking() {
		return 0
	}
	every := d.every.Load()
	if every > 1 && rand.Uint64N(every) != 0 { // not each n-th, which a client's habit might hit or miss
		return 0
	}
	return every
}

// Looking says whether anybody looks.
func (d *Desk) Looking() bool { return d != nil && d.looks.Load() != nil }

// Record counts a call that Sample chose.
func (d *Desk) Record(c *Call) {
	looks := d.looks.Load()
	if looks == nil {
		return
	}
	d.pace()
	for _, l := range *looks {
		l.record(c)
	}
}

// paceSlice is the time in which the pace is measured.
const paceSlice = 100 * time.Millisecond

// pace chooses fewer calls when there are more than limits.TopCallsPerSecond.
func (d *Desk) pace() {
	const most = int(limits.TopCallsPerSecond * paceSlice / time.Second)
	now := d.clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.slice) >= paceSlice {
		if every := d.every.Load(); every > 1 && d.taken < most/4 {
			d.every.Store(every / 2)
		}
		d.slice, d.taken = now, 0
	}
	if d.taken++; d.taken >= most {
		d.every.Store(d.every.Load() * 2)
		d.taken = 0
	}
}

// Look records what happens until window is over or ctx ends. depth is how many parts of a key, divided by '/', make its
// prefix. Time and Seconds, and everything about calls, is filled in. Errors: ErrBusy, or ctx's.
func (d *Desk) Look(ctx context.Context, window time.Duration, depth int) (*Top, error) {
	l := &look{depth: depth, methods: newSketch(limits.TopMethods), clients: newSketch(limits.TopClients), prefixes: newSketch(limits.TopPrefixes), keys: newSketch(limits.TopKeys)}
	if !d.open(l) {
		return nil, ErrBusy
	}
	defer d.close(l)
	began := d.clock.Now()
	timer := d.clock.NewTimer(window)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ended := d.clock.Now()
	top := l.result()
	top.Time, top.Seconds = ended.UnixNano(), ended.Sub(began).Seconds()
	return top, nil
}

func (d *Desk) open(l *look) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	var now []*look
	if p := d.looks.Load(); p != nil {
		now = slices.Clone(*p)
	}
	if len(now) >= limits.TopLooks {
		return false
	}
	now = append(now, l)
	d.looks.Store(&now)
	return true
}

func (d *Desk) close(l *look) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := slices.DeleteFunc(slices.Clone(*d.looks.Load()), func(o *look) bool { return o == l })
	if len(now) == 0 {
		d.looks.Store(nil)
		d.every.Store(1)
		return
	}
	d.looks.Store(&now)
}

// look is one window of recording.
type look struct {
	depth int

	mu             sync.Mutex
	sampled, calls uint64

	methods, clients, prefixes, keys *sketch
}

func (l *look) record(c *Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sampled++
	l.calls += c.Weight
	l.methods.add(c, Row{Method: short(c.Method)})
	l.clients.add(c, Row{Client: c.Client, User: c.User})
	if len(c.Key) == 0 {
		return
	}
	l.prefixes.add(c, Row{Method: short(c.Method), Key: prefixOf(c.Key, l.depth)})
	if c.Single {
		l.keys.add(c, Row{Key: c.Key[:min(len(c.Key), limits.TopKeyBytes)]})
	}
}

// short is a method without the package of its service: "KV/Put".
func short(method string) string {
	method = strings.TrimPrefix(method, "/")
	service, name, _ := strings.Cut(method, "/")
	return service[strings.LastIndexByte(service, '.')+1:] + "/" + name
}

// prefixOf is the first parts of a key, up to and with the '/' behind the last of them. A key without that has its first bytes
// for a prefix.
func prefixOf(key []byte, depth int) []byte {
	end, parts := 0, 0
	for i, b := range key {
		if b != '/' {
			continue
		}
		end = i + 1
		if i > 0 {
			parts++
		}
		if parts == depth {
			break
		}
	}
	if end <= 1 {
		end = min(len(key), limits.TopBarePrefixBytes)
	}
	return key[:min(end, limits.TopKeyBytes)]
}

func (l *look) result() *Top {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Top{
		Sampled: l.sampled, Calls: l.calls, Depth: l.depth,
		Methods: l.methods.rows(limits.TopRows), Clients: l.clients.rows(limits.TopRows), Prefixes: l.prefixes.rows(limits.TopRows), Keys: l.keys.rows(limits.TopRows),
	}
}

// latencies counts in buckets, each twice as wide as the one before: the first is up to 1 us, the last has no bound.
type latencies [28]uint32

func (h *latencies) add(d time.Duration, n uint64) {
	i := bits.Len64(uint64(max(0, d.Microseconds())))
	h[min(i, len(h)-1)] += uint32(n)
}

// quantile is the upper bound of the bucket that the q-th part falls into, and not more than most.
func (h *latencies) quantile(q float64, most time.Duration) time.Duration {
	var all uint64
	for _, n := range h {
		all += uint64(n)
	}
	rest := uint64(q * float64(all))
	for i, n := range h {
		if uint64(n) > rest {
			return min(most, time.Microsecond<<i)
		}
		rest -= uint64(n)
	}
	return most
}

// ByWatchers orders clients, those with most watchers first.
func ByWatchers(a, b Streams) int {
	return cmp.Or(cmp.Compare(b.Watchers, a.Watchers), cmp.Compare(b.Streams, a.Streams), cmp.Compare(a.Client, b.Client))
}

func byCalls(a, b Row) int {
	return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(b.In+b.Out, a.In+a.Out), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Client, b.Client),
		cmp.Compare(a.User, b.User), slices.Compare(a.Key, b.Key))
}
