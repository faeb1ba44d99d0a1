package load

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/wire"
)

var kvKinds = []Kind{
	{Name: "put", Summary: "Write values to keys at random, or in order",
		Detail:  "Each request writes one key of the key space. bytes counts the values.",
		Example: "quorate bench put --connections 100 --clients 1000 --value-size 256\nquorate bench put --rate 5000 --seconds 60 --plot",
		make:    func(*run) workload { return new(kvWork) }},
	{Name: "get", Summary: "Read single keys, linearizable or --serializable",
		Detail: "Each request reads one key. A key that does not exist is no error but counts in extra.misses: load the keys first\n" +
			"with \"quorate bench fill\" and the same --keys, --key-size and --prefix. bytes counts the responses.",
		Example: "quorate bench fill --keys 100000\nquorate bench get --keys 100000 --connections 100 --clients 1000",
		make:    func(*run) workload { return &kvWork{reads: 1} }},
	{Name: "mixed", Summary: "Reads and writes of single keys, --read-ratio of them reads",
		Detail:  "Each request reads or writes one key, at random with the ratio given.",
		Example: "quorate bench mixed --read-ratio 0.9 --connections 10 --clients 100",
		make:    func(r *run) workload { return &kvWork{reads: r.o.Work.ReadRatio} }},
	{Name: "fill", Summary: "Write every key of the key space once, in order",
		Detail:  "Loads a store for other workloads. --seconds, --total and --warmup have no effect.",
		Example: "quorate bench fill --keys 500000 --value-size 1024 --connections 100 --clients 1000",
		make:    func(*run) workload { return new(kvWork) }, adjust: once},
	{Name: "range", Summary: "Read --span consecutive keys at a time",
		Detail:  "Each request is a Range from a key at random over the next --span keys. extra.keys counts the keys that came back.",
		Example: "quorate bench range --span 1000 --keys 100000 --clients 10",
		make:    func(*run) workload { return new(rangeWork) }},
}

// kvWork reads and writes single keys.
type kvWork struct {
	plain
	reads  float64 // fraction
	gets   atomic.Int64
	misses atomic.Int64
}

func (w *kvWork) job(r *run, i int) (job, transport) {
	return &kvJob{w: w, o: r.o, keys: r.o.Data.space(), rnd: newSource(r.o.Shape.Seed, uint64(i)), values: r.o.Data.values()}, unary
}

func (w *kvWork) finish(_ context.Context, _ *run, res *Result) error {
	if w.reads > 0 {
		res.Extra["misses"] = float64(w.misses.Load())
	}
	if w.reads > 0 && w.reads < 1 {
		res.Extra["reads"] = float64(w.gets.Load())
	}
	return nil
}

type kvJob struct {
	w      *kvWork
	o      *Options
	keys   keySpace
	rnd    source
	values values

	key  []byte
	put  wire.PutRequest
	get  wire.RangeRequest
	read bool // the request under way
	resp wire.RangeResponse
}

// pick is the number of the key of request n.
func pick(d *Data, rnd source, n int64) int64 {
	if d.Sequential {
		return n % d.Keys
	}
	return rnd.rnd.Int64N(d.Keys)
}

func (j *kvJob) next(n int64, _ time.Duration) (lean.Method, lean.Message, bool) {
	j.key = j.keys.appendKey(j.key[:0], pick(&j.o.Data, j.rnd, n))
	j.read = j.w.reads == 1 || j.w.reads > 0 && j.rnd.rnd.Float64() < j.w.reads
	if j.read {
		j.get.Key, j.get.Serializable = j.key, j.o.Work.Serializable
		return lean.Range, &j.get, true
	}
	j.put.Key, j.put.Value = j.key, j.values.next(j.rnd)
	return lean.Put, &j.put, true
}

// errAnswer is an answer that cannot be right.
var errAnswer = errors.New("the server's answer does not fit the request")

func (j *kvJob) done(body []byte, err error) (int, error) {
	if err != nil {
		return 0, nil
	}
	if !j.read {
		return len(j.put.Value), nil
	}
	if err := j.resp.Unmarshal(body); err != nil {
		return 0, err
	}
	j.w.gets.Add(1)
	switch {
	case len(j.resp.KVs) == 0:
		j.w.misses.Add(1)
	case len(j.resp.KVs) > 1 || string(wire.KeyOf(j.resp.KVs[0])) != string(j.key):
		return 0, errAnswer
	}
	return len(body), nil
}

// rangeWork reads consecutive keys.
type rangeWork struct {
	plain
	keys atomic.Int64
}

func (w *rangeWork) job(r *run, i int) (job, transport) {
	return &rangeJob{w: w, o: r.o, keys: r.o.Data.space(), rnd: newSource(r.o.Shape.Seed, uint64(i))}, unary
}

func (w *rangeWork) finish(_ context.Context, _ *run, res *Result) error {
	res.Extra["keys"] = float64(w.keys.Load())
	return nil
}

type rangeJob struct {
	w        *rangeWork
	o        *Options
	keys     keySpace
	rnd      source
	from, to []byte
	req      wire.RangeRequest
	resp     wire.RangeResponse
}

func (j *rangeJob) next(n int64, _ time.Duration) (lean.Method, lean.Message, bool) {
	span := min(j.o.Work.Span, j.o.Data.Keys)
	first := n * span % j.o.Data.Keys
	if !j.o.Data.Sequential {
		first = j.rnd.rnd.Int64N(j.o.Data.Keys - span + 1)
	}
	j.from = j.keys.appendKey(j.from[:0], first)
	if last := first + span; last < j.o.Data.Keys {
		j.to = j.keys.appendKey(j.to[:0], last)
	} else {
		j.to = j.keys.end()
	}
	j.req = wire.RangeRequest{Key: j.from, RangeEnd: j.to, Limit: j.o.Work.Limit, Serializable: j.o.Work.Serializable,
		CountOnly: j.o.Work.CountOnly, KeysOnly: j.o.Work.KeysOnly}
	return lean.Range, &j.req, true
}

func (j *rangeJob) done(body []byte, err error) (int, error) {
	if err != nil {
		return 0, nil
	}
	if err := j.resp.Unmarshal(body); err != nil {
		return 0, err
	}
	if int64(len(j.resp.KVs)) > j.o.Work.Span || len(j.resp.KVs) > 0 && string(wire.KeyOf(j.resp.KVs[0])) < string(j.from) {
		return 0, errAnswer
	}
	j.w.keys.Add(int64(len(j.resp.KVs)))
	return len(body), nil
}
