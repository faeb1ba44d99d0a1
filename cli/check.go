package cli

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// checkLoad is a size of check perf or check datascale.
type checkLoad struct {
	limit   int // writes a second, or writes
	clients int
}

// loadNames are the values of --load.
var loadNames = map[string]string{"s": "s", "small": "s", "m": "m", "medium": "m", "l": "l", "large": "l", "xl": "xl", "xLarge": "xl"}

// checkTime is how long check perf writes, in seconds.
const checkTime = 60

// checkFlags are those of both checks.
type checkFlags struct {
	load, prefix    string
	compact, defrag bool
	seconds         int
}

func (f *checkFlags) register(fs *pflag.FlagSet) {
	fs.BoolVar(&f.compact, "auto-compact", false, "Compact storage with last revision after test is finished.")
	fs.BoolVar(&f.defrag, "auto-defrag", false, "Defragment storage after test is finished.")
}

func checkVerb() Verb {
	perf, scale := new(checkFlags), new(checkFlags)
	return Verb{
		Use: "check <subcommand>", Short: "commands for checking properties of the etcd cluster. Use `etcdctl check --help` to see subcommands",
		Long: "commands for checking properties of the etcd cluster", Group: GroupUtility, Verbs: []Verb{
			{Use: "perf [options]", Short: "Check the performance of the etcd cluster", Run: perf.perf, Interrupts: true,
				Complete: map[string][]string{"load": {"small", "medium", "large", "xLarge"}},
				Flags: func(fs *pflag.FlagSet) {
					fs.StringVar(&perf.load, "load", "s", "The performance check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge). Different workload models use different configurations in terms of number of clients and expected throughput.")
					fs.StringVar(&perf.prefix, "prefix", "/etcdctl-check-perf/", "The prefix for writing the performance check's keys.")
					perf.register(fs)
					fs.IntVar(&perf.seconds, "seconds", checkTime, "how long to write")
					_ = fs.MarkHidden("seconds") // etcdctl has no such flag
				}},
			{Use: "datascale [options]", Short: "Check the memory usage of holding data for different workloads on a given server endpoint.", Run: scale.datascale,
				Long: "If no endpoint is provided, localhost will be used. If multiple endpoints are provided, first endpoint will be used.",
				Flags: func(fs *pflag.FlagSet) {
					fs.StringVar(&scale.load, "load", "s", "The datascale check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)")
					fs.StringVar(&scale.prefix, "prefix", "/etcdctl-check-datascale/", "The prefix for writing the datascale check's keys.")
					scale.register(fs)
				}},
		},
	}
}

// checker is a check being run.
type checker struct {
	f       *checkFlags
	s       *Session
	clients []*clientv3.Client
	bar     *progress
	mu      sync.Mutex
	times   []float64      // seconds of each write that succeeded
	errs    map[string]int // how often each error came
	rate    float64        // writes a second that succeeded
}

// start understands --load, opens the clients and refuses a prefix that somebody uses.
func (f *checkFlags) start(s *Session, loads map[string]checkLoad, quote string) (*checker, checkLoad, error) {
	load, ok := loads[loadNames[f.load]]
	if !ok {
		return nil, load, Failf(ExitBadFeature, "unknown load option %v", f.load)
	}
	k := &checker{f: f, s: s, errs: make(map[string]int)}
	for range load.clients {
		c, err := s.Client()
		if err != nil {
			return nil, load, err
		}
		k.clients = append(k.clients, c)
	}
	resp, err := k.clients[0].Get(s.Process.Context, f.prefix, clientv3.WithPrefix(), clientv3.WithLimit(1))
	if err != nil {
		return nil, load, err
	}
	if len(resp.Kvs) > 0 {
		return nil, load, Failf(ExitInvalidInput, "prefix %q has keys. Delete with %setcdctl del --prefix %s%s first", f.prefix, quote, f.prefix, quote)
	}
	return k, load, nil
}

// perf writes at a fixed rate for a minute and judges rate and latency.
func (f *checkFlags) perf(s *Session, _ []string) error {
	k, load, err := f.start(s, map[string]checkLoad{"s": {150, 50}, "m": {1000, 200}, "l": {8000, 500}, "xl": {15000, 1000}}, "'")
	if err != nil {
		return err
	}
	duration := time.Duration(f.seconds) * time.Second
	ctx, cancel := context.WithTimeout(s.Process.Context, duration)
	defer cancel()
	if OnTerminal(s.Process.Stderr) {
		k.bar = newProgress(s, "check perf", "writes", int64(load.limit)*int64(f.seconds))
	}
	k.write(k.paced(ctx, load.limit), 256, 1024)
	k.bar.end()
	if err := k.cleanup(); err != nil {
		return err
	}
	if !k.verdict(load.limit) {
		s.Printf("FAIL\n")
		return Fail(ExitError, nil)
	}
	s.Printf("PASS\n")
	return nil
}

// paced lets limit writes a second begin until ctx ends. Those that could not begin in time begin as soon as they can.
func (k *checker) paced(ctx context.Context, limit int) <-chan struct{} {
	turns := make(chan struct{}, len(k.clients))
	go func() {
		defer close(turns)
		tick := k.s.Clock().NewTicker(time.Millisecond)
		defer tick.Stop()
		start := k.s.Clock().Now()
		for begun := 0; ; {
			due := int(k.s.Clock().Now().Sub(start).Seconds() * float64(limit))
			for ; begun < due; begun++ {
				select {
				case turns <- struct{}{}:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return turns
}

// write lets every client write while there are turns.
func (k *checker) write(turns <-chan struct{}, keySize, valueSize int) {
	value := string(make([]byte, valueSize))
	start := k.s.Clock().Now()
	var writing sync.WaitGroup
	for _, c := range k.clients {
		writing.Go(func() {
			key := make([]byte, keySize)
			for range turns {
				binary.PutVarint(key, rand.Int64N(math.MaxInt64))
				begin := k.s.Clock().Now()
				_, err := c.Put(k.s.Context, k.f.prefix+string(key), value)
				k.record(k.s.Clock().Now().Sub(begin), err)
			}
		})
	}
	writing.Wait()
	k.rate = float64(len(k.times)) / k.s.Clock().Now().Sub(start).Seconds()
}

func (k *checker) record(took time.Duration, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.errs[err.Error()]++
		return
	}
	k.times = append(k.times, took.Seconds())
	k.bar.to(int64(len(k.times)))
}

// spread returns the longest time and the standard deviation, in seconds.
func (k *checker) spread() (slowest, deviation float64) {
	if len(k.times) == 0 {
		return 0, math.NaN()
	}
	sum := 0.0
	for _, t := range k.times {
		sum += t
		slowest = max(slowest, t)
	}
	mean, squares := sum/float64(len(k.times)), 0.0
	for _, t := range k.times {
		squares += (t - mean) * (t - mean)
	}
	return slowest, math.Sqrt(squares / float64(len(k.times)))
}

// Limits of check perf, in seconds.
const (
	slowestAllowed   = 0.5
	deviationAllowed = 0.1
)

// verdict prints what was measured, and what a person can do about it under our own name.
func (k *checker) verdict(limit int) bool {
	ok := k.errors()
	advice := func(text string) {
		ok = false
		if k.s.Own() {
			k.s.Printf("      %s\n", text)
		}
	}
	if k.rate/float64(limit) <= 0.9 {
		k.s.Printf("FAIL: Throughput too low: %d writes/s\n", int(k.rate)+1)
		advice(fmt.Sprintf("%d/s were asked for: look at the disk of the leader and at the CPU with \"quorate doctor\", or take a smaller --load", limit))
	} else {
		k.s.Printf("PASS: Throughput is %d writes/s\n", int(k.rate)+1)
	}
	slowest, deviation := k.spread()
	if slowest > slowestAllowed {
		k.s.Printf("Slowest request took too long: %fs\n", slowest)
		advice(fmt.Sprintf("more than %.1fs: something stalled, mostly a disk that others use, too, or an election; \"quorate status\" shows the term", slowestAllowed))
	} else {
		k.s.Printf("PASS: Slowest request took %fs\n", slowest)
	}
	if deviation > deviationAllowed {
		k.s.Printf("Stddev too high: %fs\n", deviation)
		advice(fmt.Sprintf("more than %.1fs: latency is uneven; give the data a disk of its own", deviationAllowed))
	} else {
		k.s.Printf("PASS: Stddev is %fs\n", deviation)
	}
	return ok
}

// errors prints the errors of writes; false when there were any.
func (k *checker) errors() bool {
	if len(k.errs) == 0 {
		return true
	}
	k.s.Printf("FAIL: too many errors\n")
	texts := make([]string, 0, len(k.errs))
	for text := range k.errs {
		texts = append(texts, text)
	}
	sort.Strings(texts)
	for _, text := range texts {
		k.s.Printf("FAIL: ERROR(%v) -> %d\n", text, k.errs[text])
	}
	return false
}

// checkPatience bounds each step of cleaning up.
const checkPatience = 30 * time.Second

// cleanup deletes what was written, also after an interrupt. A deletion that fails is only remarked.
func (k *checker) cleanup() error {
	ctx, cancel := context.WithTimeout(k.s.Context, checkPatience)
	defer cancel()
	resp, err := k.clients[0].Delete(ctx, k.f.prefix, clientv3.WithPrefix())
	if err != nil {
		k.s.Printf("FAIL: Cleanup failed during key deletion: ERROR(%v)\n", err)
		return k.shrink(0)
	}
	return k.shrink(resp.Header.Revision)
}

// shrink compacts up to rev and defragments, if that was asked for.
func (k *checker) shrink(rev int64) error {
	c := k.clients[0]
	if k.f.compact && rev > 0 {
		k.s.Printf("Compacting with revision %d\n", rev)
		ctx, cancel := context.WithTimeout(k.s.Context, checkPatience)
		defer cancel()
		if _, err := c.Compact(ctx, rev, clientv3.WithCompactPhysical()); err != nil {
			return err
		}
		k.s.Printf("Compacted with revision %d\n", rev)
	}
	if !k.f.defrag {
		return nil
	}
	for _, ep := range c.Endpoints() {
		k.s.Printf("Defragmenting %q\n", ep)
		ctx, cancel := context.WithTimeout(k.s.Context, checkPatience)
		_, err := c.Defragment(ctx, ep)
		cancel()
		if err != nil {
			return err
		}
		k.s.Printf("Defragmented %q\n", ep)
	}
	return nil
}

// datascale writes a number of keys and says how much more memory the server takes with them.
func (f *checkFlags) datascale(s *Session, _ []string) error {
	k, load, err := f.start(s, map[string]checkLoad{"s": {10_000, 50}, "m": {100_000, 200}, "l": {1_000_000, 500}, "xl": {3_000_000, 1000}}, "")
	if err != nil {
		return err
	}
	before := k.memory()
	if before == 0 {
		s.Printf("FAIL: Could not read process_resident_memory_bytes before the put operations.\n")
		return Fail(ExitError, nil)
	}
	s.Printf("Start data scale check for work load [%v key-value pairs, %v bytes per key-value, %v concurrent clients].\n", load.limit, 1024, load.clients)
	if OnTerminal(s.Process.Stderr) {
		k.bar = newProgress(s, "check datascale", "writes", int64(load.limit))
	}
	k.write(k.numbered(load.limit), 512, 512)
	k.bar.end()
	after := k.memory()
	if after == 0 {
		s.Printf("FAIL: Could not read process_resident_memory_bytes after the put operations.\n")
		return Fail(ExitError, nil)
	}
	resp, err := k.clients[0].Delete(s.Context, f.prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	if err := k.shrink(resp.Header.Revision); err != nil {
		return err
	}
	if !k.errors() {
		return Fail(ExitError, nil)
	}
	s.Printf("PASS: Approximate system memory used : %v MB.\n", strconv.FormatFloat((after-before)/(1<<20), 'f', 2, 64))
	return nil
}

// numbered gives n turns.
func (k *checker) numbered(n int) <-chan struct{} {
	turns := make(chan struct{}, len(k.clients))
	go func() {
		defer close(turns)
		for range n {
			select {
			case turns <- struct{}{}:
			case <-k.s.Process.Context.Done():
				return
			}
		}
	}()
	return turns
}

// memory reads how many bytes the first endpoint's process has in memory from its metrics, 0 after saying why it cannot.
func (k *checker) memory() float64 {
	const name = "process_resident_memory_bytes"
	url := k.clients[0].Endpoints()[0]
	secure := k.s.spec.Secure
	client := &http.Client{Transport: &http.Transport{}}
	switch {
	case strings.HasPrefix(url, "https://"):
		cert, err := tls.LoadX509KeyPair(secure.Cert, secure.Key)
		if err != nil {
			k.s.Printf("client certificate error: %v\n", err)
			return 0
		}
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{ //nolint:gosec // the flag says so
			Certificates: []tls.Certificate{cert}, InsecureSkipVerify: secure.InsecureSkipVerify}}
	case !strings.HasPrefix(url, "http://"):
		url = "http://" + url
	}
	url += "/metrics"
	req, err := http.NewRequestWithContext(k.s.Context, http.MethodGet, url, nil)
	if err != nil {
		k.s.Printf("fetch error: %v\n", err)
		return 0
	}
	resp, err := client.Do(req)
	if err != nil {
		k.s.Printf("fetch error: %v\n", err)
		return 0
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		k.s.Printf("fetch error: reading %s: %v\n", url, err)
		return 0
	}
	for _, line := range strings.Split(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, name); ok {
			bytes, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				k.s.Printf("parse error: %v\n", err)
			}
			return bytes
		}
	}
	k.s.Printf("could not find: %v\n", name)
	return 0
}
