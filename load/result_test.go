package load

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/load/lean"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// sample is a result with something in every field.
func sample(seconds int) *Result {
	res := &Result{Workload: "txn", Endpoints: []string{"127.0.0.1:2379", "10.0.0.2:2379"}, Client: "lean", Connections: 100, Clients: 20_000,
		TargetRate: 10_000, Seconds: float64(seconds) + 0.25, Operations: 1_234_567, Errors: 3, ErrorSamples: []string{"3 x Unavailable: <&>", "1 x ResourceExhausted: etcdserver: too many requests"},
		Rate: 9999.6, Bytes: 95_866_880, Latency: Latency{0.21, 3.2, 1.5, 8.25, 12.5, 43.75, 131.5, 1_500.4},
		Extra: map[string]float64{"late": 12, "not_sent": 0, "refused": 1, "refused_p50_ms": 0.3, "events": 1_000_000, "events_per_second": 794_000.2, "client_cpu_us_per_op": 3.21}}
	for i := range seconds + 1 {
		row := Second{Second: i + 1, Operations: int64(9000 + i*311%1000), P50: 1.5 + float64(i%4)/8, P99: 20 + float64(i*37%50)}
		if i == 7 {
			row = Second{Second: 8} // nothing completed
		}
		if i == seconds {
			row.Operations /= 4
		}
		res.Timeline = append(res.Timeline, row)
	}
	return res
}

// TestGolden holds every form of a result to a file.
func TestGolden(t *testing.T) {
	long, short, none := sample(200), sample(12), sample(0)
	for name, write := range map[string]func(io.Writer) error{
		"result.json": short.JSON, "table.txt": short.Table, "plot.txt": short.Plot, "plot-long.txt": long.Plot, "plot-none.txt": none.Plot,
		"plot.svg": short.SVG, "plot-long.svg": long.SVG, "plot-none.svg": none.SVG,
	} {
		var got bytes.Buffer
		if err := write(&got); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name)
		if *rewrite {
			if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != string(want) {
			t.Errorf("%s differs; -rewrite writes it anew. Got:\n%s", file, got.String())
		}
		if strings.HasSuffix(name, ".svg") {
			checkXML(t, name, got.Bytes())
		}
	}
}

func checkXML(t *testing.T, name string, text []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
	}
}

// TestEmptyResult: a run in which nothing succeeded still is a whole object for scripts, and draws without failing.
func TestEmptyResult(t *testing.T) {
	res := new(Result)
	res.measure(&sums{}, nil)
	var b bytes.Buffer
	if err := errors.Join(res.JSON(&b), res.Table(io.Discard), res.Plot(io.Discard), res.SVG(io.Discard)); err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back["timeline"] == nil {
		t.Errorf("%v %s", err, b.String())
	}
}

// TestTimeline: seconds of several connections meet in one row, late ones count, and the row of a second without answers is
// there.
func TestTimeline(t *testing.T) {
	lines := []*line{{}, {}}
	times := &timeline{open: map[int]*Histogram{}}
	for _, l := range lines {
		l.rec.line = times
	}
	at := func(i int, done, took time.Duration, err error) { lines[i].rec.record(done, done-took, 10, err) }
	const ms = time.Millisecond
	at(0, 100*ms, 5*ms, nil)
	at(1, 900*ms, 15*ms, nil)
	at(0, 950*ms, 25*ms, nil)
	at(0, 960*ms, 970*ms, nil) // started before measuring
	closeLines(lines, times, 2)
	at(1, 999*ms, 1*ms, nil) // measured in the first second, recorded late
	at(1, 2100*ms, 7*ms, nil)
	at(0, 2200*ms, 9*ms, errors.New("broken"))
	at(0, 2300*ms, 9*ms, &lean.Status{Code: lean.CodeResourceExhausted, Message: "busy"})
	closeLines(lines, times, 4)
	for i := range times.rows {
		times.rows[i].P50, times.rows[i].P99 = round(times.rows[i].P50, 0), round(times.rows[i].P99, 0)
	}
	if want := []Second{{1, 4, 15, 25}, {2, 0, 0, 0}, {3, 1, 7, 7}}; !reflect.DeepEqual(times.rows, want) {
		t.Errorf("rows %v, want %v", times.rows, want)
	}
	s := sum(lines)
	if s.all.Count() != 5 || s.bytes != 50 || s.errors != 1 || s.refused.Count() != 1 || s.last != 2300*ms {
		t.Errorf("%d operations, %d bytes, %d errors, %d refused, last %v", s.all.Count(), s.bytes, s.errors, s.refused.Count(), s.last)
	}
	if got := strings.Join(s.samples(), "|"); got != "1 x ResourceExhausted: busy|1 x broken" {
		t.Error(got)
	}
}

// TestRefusal: by code or, as etcd words it, by text; nothing else.
func TestRefusal(t *testing.T) {
	for err, want := range map[error]bool{
		&lean.Status{Code: lean.CodeResourceExhausted, Message: "x"}:                    true,
		&lean.Status{Code: lean.CodeUnknown, Message: "etcdserver: too many requests"}:  true,
		&lean.Status{Code: lean.CodeUnavailable, Message: "etcdserver: leader changed"}: false,
		errors.New("too many requests"):                                                 false,
	} {
		if refusal(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}

// TestErrorTextsAreBounded: a server that words every error differently does not fill the client's memory.
func TestErrorTextsAreBounded(t *testing.T) {
	l := &line{}
	l.rec.line = &timeline{open: map[int]*Histogram{}}
	for i := range 1000 {
		l.rec.record(1, 1, 0, fmt.Errorf("error %d", i))
	}
	samples := sum([]*line{l}).samples()
	if len(samples) > ErrorTexts+1 || !strings.HasSuffix(samples[0], otherErrors) || !strings.HasPrefix(samples[0], "98") {
		t.Errorf("%d texts, first %q", len(samples), samples[0])
	}
}

func TestKeys(t *testing.T) {
	k := keySpace{"p/", 8, 12345}
	last := ""
	for i := range int64(12345) {
		key := string(k.appendKey([]byte("x"), i))
		if want := fmt.Sprintf("xp/%06d", i); key != want {
			t.Fatalf("key %d is %q, want %q", i, key, want)
		}
		if key <= last {
			t.Fatalf("%q is not above %q", key, last)
		}
		last = key
		if n, ok := k.number([]byte(key[1:])); !ok || n != i {
			t.Fatalf("%q is number %d", key, n)
		}
	}
	for _, other := range []string{"", "p/", "p/01234", "p/012345x", "q/000001", "p/099999", "p/-00001"} {
		if n, ok := k.number([]byte(other)); ok {
			t.Errorf("%q is number %d", other, n)
		}
	}
	for prefix, want := range map[string]string{"a": "b", "a\xff": "b", "\xff\xff": "\x00", "bench/": "bench0"} {
		if got := string(prefixEnd([]byte(prefix))); got != want {
			t.Errorf("behind %q is %q, want %q", prefix, got, want)
		}
	}
}

// TestValues: values differ, repeat with the seed, and have the compressible tail that was asked for.
func TestValues(t *testing.T) {
	d := Data{ValueSize: 101, Compressible: 0.4}
	a, b := d.values(), d.values()
	one, two := newSource(7, 1), newSource(7, 1)
	first := bytes.Clone(a.next(one))
	if !bytes.Equal(first, b.next(two)) {
		t.Error("the same seed gives different values")
	}
	second := a.next(one)
	if random := 101 - 40; bytes.Equal(first[:random], second[:random]) || !bytes.Equal(first[random:], second[random:]) || len(first) != 101 {
		t.Errorf("%q\n%q", first, second)
	}
	if v := d.values(); bytes.Equal(first, v.next(newSource(8, 1))) {
		t.Error("another seed gives the same value")
	}
	for _, part := range []float64{0, 0.5, 0.9} {
		d := Data{ValueSize: 4096, Compressible: part}
		v := d.values()
		var packed bytes.Buffer
		z, err := flate.NewWriter(&packed, flate.BestCompression)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if _, err := z.Write(v.next(one)); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if got := 1 - float64(packed.Len())/(50*4096); got < part-0.03 || got > part+0.03 {
			t.Errorf("compressible %v: %.3f compresses away", part, got)
		}
	}
}

// TestKeyScanner counts keys however the answer is cut.
func TestKeyScanner(t *testing.T) {
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 1 << 40}, More: true, Count: 300}
	for i := range 300 {
		resp.Kvs = append(resp.Kvs, &mvccpb.KeyValue{Key: fmt.Append(nil, i), Value: make([]byte, i*3), ModRevision: int64(i) << 30})
	}
	flat, err := proto.Marshal(resp)
	if err != nil {
		t.Fatal(err)
	}
	nested, err := proto.Marshal(&pb.RangeStreamResponse{RangeResponse: resp})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		nested bool
		body   []byte
	}{{false, flat}, {true, nested}} {
		for range 50 {
			s := keyScanner{nested: c.nested}
			for range 3 { // messages of one answer
				s.begin()
				for rest := c.body; len(rest) > 0; {
					n := min(len(rest), 1+r.IntN(200))
					s.feed(rest[:n])
					rest = rest[n:]
				}
			}
			s.begin()
			if s.bad || s.keys != 900 {
				t.Fatalf("nested %v: %d keys, bad %v", c.nested, s.keys, s.bad)
			}
		}
		s := keyScanner{nested: c.nested}
		s.begin()
		s.feed(c.body[:len(c.body)/2])
		if s.begin(); !s.bad {
			t.Error("half a message passes")
		}
	}
	s := keyScanner{}
	s.begin()
	s.feed(bytes.Repeat([]byte{0xff}, 20))
	if !s.bad {
		t.Error("an endless number passes")
	}
}

// TestCountEvents agrees with the generated types, and ends at nonsense.
func TestCountEvents(t *testing.T) {
	w := &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: 9}, WatchId: 3, Events: []*mvccpb.Event{
		{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte("k1")}}, {Kv: &mvccpb.KeyValue{Key: []byte("k2"), Value: []byte("v")}}}}
	b, err := proto.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	n, first := countEvents(b)
	var kv mvccpb.KeyValue
	if err := proto.Unmarshal(kvOf(first), &kv); err != nil || n != 2 || string(kv.Key) != "k1" {
		t.Errorf("%d events, first %v, %v", n, &kv, err)
	}
	for i := range b {
		countEvents(b[:i])
		kvOf(b[i:])
	}
	if n, _ := countEvents([]byte{0x5a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}); n != 0 {
		t.Error("an event longer than its message counts")
	}
}
