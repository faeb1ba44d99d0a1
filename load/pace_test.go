package load

import (
	"context"
	"errors"
	"math"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/internal/freeport"
)

func TestSchedule(t *testing.T) {
	for _, rate := range []float64{0.3, 1, 3, 7, 999.9, 10_000, 333_333} {
		s := newSchedule(&Shape{Rate: rate, Duration: 10 * time.Second, Warmup: 2 * time.Second})
		if want := int64(12 * rate); s.last != want {
			t.Errorf("rate %v: %d requests in 12 s, want %d", rate, s.last, want)
		}
		for _, i := range []int64{0, 1, 2, 3, 5, 100, 1001} {
			at := s.at(i)
			if i < s.last && (s.due(at) != i+1 || i > 0 && s.due(at-1) != i) {
				t.Errorf("rate %v: request %d at %v: %d due then, %d just before", rate, i, at, s.due(at), s.due(at-1))
			}
			if want := float64(i) / rate; math.Abs(at.Seconds()-want) > 1e-6 {
				t.Errorf("rate %v: request %d at %v, want %v", rate, i, at, want)
			}
			if s.before(at) != i || s.before(at+1) != i+1 {
				t.Errorf("rate %v: %d before %v", rate, s.before(at), at)
			}
		}
	}
	s := newSchedule(&Shape{Rate: 100, Total: 50, Warmup: time.Second})
	if s.last != 150 {
		t.Errorf("a total of 50 after a warm-up of 100 is %d in all", s.last)
	}
	if s = newSchedule(&Shape{Rate: 100, Total: 50, Duration: 100 * time.Millisecond}); s.last != 10 {
		t.Errorf("the shorter of 50 requests and 0.1 s is %d", s.last)
	}
}

// gate is a server whose puts wait until they are let through, or are refused.
type gate struct {
	pb.UnimplementedKVServer
	arrived atomic.Int64
	refuse  atomic.Bool
	pass    chan struct{} // closed to let everything through
}

func (g *gate) Put(ctx context.Context, _ *pb.PutRequest) (*pb.PutResponse, error) {
	g.arrived.Add(1)
	if g.refuse.Load() {
		return nil, status.Error(codes.ResourceExhausted, "etcdserver: too many requests")
	}
	select {
	case <-g.pass:
	case <-ctx.Done():
	}
	return &pb.PutResponse{}, nil
}

func startGate(t *testing.T) (*gate, *grpc.Server, string) {
	t.Helper()
	g := &gate{pass: make(chan struct{})}
	l, err := net.Listen("tcp", freeport.Address(t)) // a server that goes away comes back there
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	pb.RegisterKVServer(s, g)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return g, s, l.Addr().String()
}

// until polls for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("it does not happen: %s", what)
		}
	}
}

type outcome struct {
	res *Result
	err error
}

func start(t *testing.T, name string, o Options) chan outcome {
	t.Helper()
	end, _ := startUntil(t, name, o)
	return end
}

// startUntil is start with a way to interrupt the run.
func startUntil(t *testing.T, name string, o Options) (chan outcome, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	end := make(chan outcome, 1)
	go func() {
		res, err := Run(ctx, name, o)
		end <- outcome{res, err}
	}()
	return end, cancel
}

// probe is the put workload, which tells a test how many answers have come.
type probe struct {
	kvWork
	answered *atomic.Int64
}

func (p *probe) job(r *run, i int) (job, transport) {
	j, via := p.kvWork.job(r, i)
	return &probeJob{j, p.answered}, via
}

type probeJob struct {
	job
	answered *atomic.Int64
}

func (p *probeJob) done(body []byte, err error) (int, error) {
	p.answered.Add(1)
	return p.job.done(body, err)
}

// TestOpenLoopHidesNothing runs an open loop of 10 requests a second on a clock that stands still between steps, against a
// server that stalls for two seconds with room for 5 requests under way. Every request's latency is then known: those that had
// to wait for a slot count from when they were meant to start.
func TestOpenLoopHidesNothing(t *testing.T) {
	g, _, address := startGate(t)
	m := clock.NewManual(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	var answered atomic.Int64
	kinds = append(kinds, Kind{Name: "probe", make: func(*run) workload { return &probe{answered: &answered} }})
	t.Cleanup(func() { kinds = kinds[:len(kinds)-1] })
	end := start(t, "probe", Options{Clock: m, Target: Target{Endpoints: []string{address}, Connections: 2},
		Shape: Shape{Rate: 10, Duration: 3 * time.Second, InFlight: 5}})
	m.Await(2) // the ticker, and the pacer waiting for the next request to be due
	for range 4 {
		m.Advance(100 * time.Millisecond)
		m.Await(2)
	}
	until(t, "five requests on schedule", func() bool { return g.arrived.Load() == 5 })
	m.Advance(1600 * time.Millisecond) // it is 2.0 s: 16 more are due, and none can start
	m.Await(2)
	if n := g.arrived.Load(); n != 5 {
		t.Fatalf("%d requests under way with room for 5", n)
	}
	close(g.pass)
	until(t, "the rest that is due", func() bool { return answered.Load() == 21 })
	for i := int64(22); i <= 30; i++ {
		m.Await(2)
		m.Advance(100 * time.Millisecond)
		until(t, "a request on schedule", func() bool { return answered.Load() == i })
	}
	out := <-end
	if out.err != nil {
		t.Fatal(out.err)
	}
	res := out.res
	if res.Operations != 30 || res.Errors != 0 || res.Extra["not_sent"] != 0 {
		t.Errorf("%d operations, %d errors, extra %v", res.Operations, res.Errors, res.Extra)
	}
	// The request meant for 0.0 s took 2 s, the next 1.9 s and so on down to 0: 1 s in the mean for those 21, nothing for the 9
	// others.
	if l := res.Latency; l.Max != 2000 || l.Mean != 700 || l.P50 < 495 || l.P50 > 505 {
		t.Errorf("latency %+v", l)
	}
	// Of the 16 that had to wait, the last was due just then.
	if late := res.Extra["late"]; late != 15 {
		t.Errorf("%v late", late)
	}
}

// TestOpenLoopReportsWhatWasNotSent: when the time is over, requests that found no slot are counted.
func TestOpenLoopReportsWhatWasNotSent(t *testing.T) {
	g, _, address := startGate(t)
	m := clock.NewManual(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	end := start(t, "put", Options{Clock: m, Target: Target{Endpoints: []string{address}, Timeout: 10 * time.Second},
		Shape: Shape{Rate: 10, Duration: 2 * time.Second, InFlight: 3, AllowErrors: true}})
	for range 3 {
		m.Await(2)
		m.Advance(100 * time.Millisecond)
	}
	m.Await(2) // the fourth finds no slot
	m.Advance(1700 * time.Millisecond)
	// The run is over for the pacer; the three under way end by the timeout of the connection, which is real.
	out := <-end
	if out.err != nil {
		t.Fatal(out.err)
	}
	if r := out.res; g.arrived.Load() != 3 || r.Operations != 0 || r.Errors != 3 || r.Extra["not_sent"] != 17 {
		t.Errorf("%d arrived, %d operations, %d errors, extra %v", g.arrived.Load(), r.Operations, r.Errors, r.Extra)
	}
}

// TestRefusals are counted apart, with a latency of their own; without AllowErrors the first one ends the run.
func TestRefusals(t *testing.T) {
	g, _, address := startGate(t)
	g.refuse.Store(true)
	o := Options{Target: Target{Endpoints: []string{address}}, Shape: Shape{Clients: 4, Total: 40, AllowErrors: true}}
	out := <-start(t, "put", o)
	if out.err != nil {
		t.Fatal(out.err)
	}
	if r := out.res; r.Operations != 0 || r.Errors != 0 || r.Extra["refused"] != 40 || r.Extra["refused_p50_ms"] <= 0 || len(r.ErrorSamples) != 1 {
		t.Errorf("%+v", r)
	}
	o.Shape.AllowErrors = false
	out = <-start(t, "put", o)
	if out.err == nil || out.err.Error() != "ResourceExhausted: etcdserver: too many requests" || out.res == nil || out.res.Extra["refused"] < 1 {
		t.Errorf("%v %+v", out.err, out.res)
	}
}

// TestLostConnections: with AllowErrors a server that goes away and comes back is loaded again; without, the run ends with an
// error that names it.
func TestLostConnections(t *testing.T) {
	for _, rate := range []float64{0, 500} {
		g, s, address := startGate(t)
		close(g.pass)
		end, interrupt := startUntil(t, "put", Options{Target: Target{Endpoints: []string{address}, Connections: 3},
			Shape: Shape{Clients: 6, Rate: rate, Duration: time.Hour, AllowErrors: true}})
		until(t, "load", func() bool { return g.arrived.Load() > 100 })
		s.Stop()
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		second := grpc.NewServer()
		again := &gate{pass: g.pass}
		pb.RegisterKVServer(second, again)
		go func() { _ = second.Serve(l) }()
		t.Cleanup(second.Stop)
		until(t, "load after the loss", func() bool { return again.arrived.Load() > 100 })
		interrupt()
		out := <-end
		if out.err != nil {
			t.Fatal(out.err)
		}
		if out.res.Operations < g.arrived.Load()/2 {
			t.Errorf("rate %v: %d requests before, %d after; %d operations, errors %v", rate, g.arrived.Load(), again.arrived.Load(),
				out.res.Operations, out.res.ErrorSamples)
		}
	}
	_, s, address := startGate(t)
	end := start(t, "put", Options{Target: Target{Endpoints: []string{address}}, Shape: Shape{Duration: time.Minute}})
	s.Stop()
	if out := <-end; out.err == nil {
		t.Error("no error from a server that went away")
	}
}

// TestInterrupt: a run that is interrupted still says what it measured, even when the server does not answer any more.
func TestInterrupt(t *testing.T) {
	for _, rate := range []float64{0, 100} {
		g, _, address := startGate(t)
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan outcome, 1)
		go func() {
			res, err := Run(ctx, "put", Options{Target: Target{Endpoints: []string{address}}, Shape: Shape{Duration: time.Hour, Rate: rate, Clients: 2}})
			end <- outcome{res, err}
		}()
		until(t, "a request", func() bool { return g.arrived.Load() > 0 })
		cancel()
		if out := <-end; out.err != nil || out.res == nil || out.res.Errors != 0 {
			t.Errorf("rate %v: %v %+v", rate, out.err, out.res)
		}
	}
}

func TestOptionsRefused(t *testing.T) {
	for name, o := range map[string]Options{
		`endpoint "x": it must be host:port`:                              {Target: Target{Endpoints: []string{"x"}}},
		`endpoint "ftp://x:1": the scheme must be http or https`:          {Target: Target{Endpoints: []string{"ftp://x:1"}}},
		"--clients is -1; it must be from 1 to 1048576":                   {Shape: Shape{Clients: -1}},
		"--compressible is 2; it must be from 0 to 1":                     {Data: Data{Compressible: 2}},
		`--key-size is 8, too small for the prefix "bench/" and 4 digits`: {Data: Data{KeySize: 8}},
		"--ttl is -1; it must be from 1 to 1073741824":                    {Work: Work{TTL: -1}},
	} {
		if name[2:7] == "key-s" {
			o.Data.Keys = 10_000
		}
		if _, err := Run(t.Context(), "put", o); err == nil || err.Error() != name {
			t.Errorf("got %v, want %s", err, name)
		}
	}
	if _, err := Run(t.Context(), "pot", Options{}); err == nil {
		t.Error("an unknown workload is accepted")
	}
	if _, err := Run(t.Context(), "put", Options{Target: Target{Endpoints: []string{"127.0.0.1:1"}}}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("nobody there: %v", err)
	}
}
