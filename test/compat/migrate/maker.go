package migrate

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"quorate.dev/quorate/test/compat/etcd34"
)

// Maker fills a cluster through the v2 API. The same seed sends the same requests; indices in them are those that the server told.
type Maker struct {
	servers []*etcd34.Server
	rand    *rand.Rand
	indices map[string]string // of the files that were written last
	Counts  map[int]int       // answers by status
	brief   time.Time         // when a key was made last that lives for a second
}

// NewMaker makes one. All servers are of one cluster.
func NewMaker(seed uint64, servers ...*etcd34.Server) *Maker {
	return &Maker{servers: servers, rand: rand.New(rand.NewPCG(seed, 2)), indices: map[string]string{}, Counts: map[int]int{}}
}

// names have what is special in paths, in JSON and in the order of names.
var names = []string{"a", "b", "a-b", "a.b", "_h", "z z", "ü", "<&>", "c", "0", "00"}

func (m *Maker) path() string {
	var b strings.Builder
	for range 1 + m.rand.IntN(4) {
		b.WriteString("/" + names[m.rand.IntN(len(names))])
	}
	return b.String()
}

// Do sends one request of the seed.
func (m *Maker) Do() error {
	p := m.path()
	form := url.Values{}
	method := http.MethodPut
	switch k := m.rand.IntN(20); {
	case k < 8:
		form.Set("value", m.value())
	case k < 9:
		form.Set("dir", "true")
	case k < 11:
		method = http.MethodPost
		form.Set("value", m.value())
	case k < 12:
		form.Set("value", m.value())
		form.Set("prevExist", strconv.FormatBool(m.rand.IntN(2) == 0))
	case k < 14:
		form.Set("value", m.value())
		form.Set("prevIndex", m.index(p))
	case k < 15:
		method, p = http.MethodDelete, p+"?prevIndex="+m.index(p)
	case k < 17:
		method, p = http.MethodDelete, p+"?recursive="+strconv.FormatBool(m.rand.IntN(3) == 0)+"&dir="+strconv.FormatBool(m.rand.IntN(2) == 0)
	case k < 18:
		form.Set("refresh", "true")
		form.Set("prevExist", "true")
		form.Set("ttl", "5000")
	case k < 19:
		form.Set("prevExist", "true") // of a directory, mostly
		form.Set("dir", "true")
		form.Set("ttl", m.ttl())
	default:
		method, p = http.MethodGet, p+"?quorum=true&recursive=true"
	}
	if m.rand.IntN(5) == 0 && form.Get("value") != "" {
		form.Set("ttl", m.ttl())
	}
	return m.send(method, p, form)
}

const briefTTL = "1" // seconds

// Settled waits until no key has been over for less than a second: etcd says that such a key has the TTL 0, as if it had none, and its
// --no-ttl keeps it.
func (m *Maker) Settled() {
	if d := time.Until(m.brief.Add(2500 * time.Millisecond)); d > 0 {
		<-time.After(d)
	}
}

// ttl is one that ends during the test or long after it.
func (m *Maker) ttl() string { return []string{briefTTL, "3000", "100000", ""}[m.rand.IntN(4)] }

func (m *Maker) value() string {
	return []string{"", "x", "ü <&> \" \\ \u2028", strings.Repeat("long ", m.rand.IntN(50))}[m.rand.IntN(4)] + strconv.Itoa(m.rand.IntN(100))
}

func (m *Maker) index(p string) string {
	if i := m.indices[p]; i != "" && m.rand.IntN(4) > 0 {
		return i
	}
	return "7"
}

func (m *Maker) send(method, p string, form url.Values) error {
	path, query, _ := strings.Cut(p, "?")
	u := "/v2/keys" + (&url.URL{Path: path}).EscapedPath()
	if query != "" {
		u += "?" + query
	}
	if method != http.MethodPut && method != http.MethodPost {
		form = nil
	}
	if form.Get("ttl") == briefTTL {
		m.brief = time.Now()
	}
	a, err := m.servers[m.rand.IntN(len(m.servers))].Do(method, u, form)
	if err != nil {
		return err
	}
	m.Counts[a.Status]++
	if a.Status >= 500 {
		return fmt.Errorf("%s %s: %d %s", method, u, a.Status, a.Body)
	}
	var e struct {
		Node struct {
			Key           string
			ModifiedIndex uint64
		}
	}
	if json.Unmarshal(a.Body, &e) == nil && e.Node.ModifiedIndex > 0 {
		m.indices[e.Node.Key] = strconv.FormatUint(e.Node.ModifiedIndex, 10)
	}
	return nil
}

// Bulk sends so much that the log gets another segment, which has 64 MB. The requests are refused when they are applied: snapshots
// hold the last thousand events with their values, and etcd would be busy with that for minutes.
func (m *Maker) Bulk() error {
	value := strings.Repeat("0123456789abcdef", 60_000)
	for range 70 {
		if err := m.send(http.MethodPut, "/bulk", url.Values{"value": {value}, "prevExist": {"true"}}); err != nil {
			return err
		}
	}
	return nil
}
