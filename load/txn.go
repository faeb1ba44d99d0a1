package load

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/wire"
)

// TxnKeysMax bounds the key space of txn, because the revision of every key is kept (8 bytes each).
const TxnKeysMax = 1 << 26

// nodeLeasePrefix is where Kubernetes keeps the leases of its nodes.
const nodeLeasePrefix = "/registry/leases/kube-node-lease/node-"

var txnKinds = []Kind{{
	Name: "txn", Summary: "Update keys as Kubernetes does: if the revision is the one known, put, else get",
	Detail: "Each request is a transaction that compares a key's mod revision with the last known one, puts when they are equal and\n" +
		"gets otherwise. A key has at most one request under way. --node-leases renews the leases of --keys nodes (default\n" +
		"100,000) in turn, under Kubernetes' keys; with --rate R every node renews every keys/R seconds. Leases that do not\n" +
		"exist are made first. extra.conflicts counts requests that found another revision.",
	Example: "quorate bench txn --keys 1000 --clients 100 --connections 10\nquorate bench txn --node-leases --rate 10000 --connections 10 --seconds 30",
	make:    func(*run) workload { return new(txnWork) },
	adjust: func(o *Options) {
		if o.Work.NodeLeases {
			o.Data.Sequential = true
			set(&o.Data.Keys, 100_000)
			set(&o.Data.Prefix, nodeLeasePrefix)
			set(&o.Data.KeySize, len(o.Data.Prefix)+8)
			set(&o.Data.ValueSize, 512)
		}
		set(&o.Data.Keys, 10_000)
		set(&o.Shape.InFlight, int(min(InFlightDefault, o.Data.Keys)))
	},
}}

// txnWork knows the mod revision of every key.
type txnWork struct {
	revisions []atomic.Int64 // 0 for a key that does not exist, busy while a request is under way
	conflicts atomic.Int64
}

// busy stands for the revision of a key whose request is under way.
const busy = -1

// readPage is how many keys setUp reads at a time.
const readPage = 10_000

func (w *txnWork) setUp(ctx context.Context, r *run) error {
	d, slots := &r.o.Data, int64(r.o.Shape.Clients)
	if r.open {
		slots = int64(r.o.Shape.InFlight)
	}
	if d.Keys > TxnKeysMax || d.Keys < slots {
		return fmt.Errorf("--keys is %d; it must be from %d, the requests under way, to %d", d.Keys, slots, TxnKeysMax)
	}
	w.revisions = make([]atomic.Int64, d.Keys)
	if err := w.readRevisions(ctx, r); err != nil {
		return err
	}
	if !r.o.Work.NodeLeases {
		return nil
	}
	return w.makeMissing(ctx, r)
}

// readRevisions learns what exists.
func (w *txnWork) readRevisions(ctx context.Context, r *run) error {
	keys := r.o.Data.space()
	req := wire.RangeRequest{Key: keys.appendKey(nil, 0), RangeEnd: keys.end(), Limit: readPage, KeysOnly: true}
	for {
		body, err := r.ask(ctx, r.lines[0], lean.Range, &req)
		if err != nil {
			return err
		}
		var resp wire.RangeResponse
		if err := resp.Unmarshal(body); err != nil {
			return err
		}
		for _, kv := range resp.KVs {
			if i, ok := keys.number(wire.KeyOf(kv)); ok {
				w.revisions[i].Store(wire.ModRevisionOf(kv))
			}
		}
		if !resp.More || len(resp.KVs) == 0 {
			return nil
		}
		req.Key = append(append([]byte(nil), wire.KeyOf(resp.KVs[len(resp.KVs)-1])...), 0)
	}
}

// number is the number of a key that appendKey wrote.
func (k keySpace) number(key []byte) (int64, bool) {
	digits, ok := strings.CutPrefix(string(key), k.prefix)
	if !ok || len(key) != k.size {
		return 0, false
	}
	i, err := strconv.ParseInt(digits, 10, 64)
	return i, err == nil && i >= 0 && i < k.count
}

func (w *txnWork) makeMissing(ctx context.Context, r *run) error {
	var missing []int64
	for i := range w.revisions {
		if w.revisions[i].Load() == 0 {
			missing = append(missing, int64(i))
		}
	}
	keys, rnd, v := r.o.Data.space(), newSource(r.o.Shape.Seed, 1<<40), r.o.Data.values()
	value := v.next(rnd)
	return r.bulk(ctx, &bulk{n: int64(len(missing)),
		write: func(i int64) (lean.Method, lean.Message) {
			return lean.Put, &wire.PutRequest{Key: keys.appendKey(nil, missing[i]), Value: value}
		},
		read: func(i int64, body []byte) error {
			var resp wire.PutResponse
			err := resp.Unmarshal(body)
			w.revisions[missing[i]].Store(resp.Header.Revision)
			return err
		}})
}

func (w *txnWork) job(r *run, i int) (job, transport) {
	j := &txnJob{w: w, d: &r.o.Data, keys: r.o.Data.space(), rnd: newSource(r.o.Shape.Seed, uint64(i)), values: r.o.Data.values()}
	j.req.Compare = []wire.Compare{{Result: wire.CompareEqual, Target: wire.CompareMod, Union: modRevisionField}}
	j.req.Success = []wire.RequestOp{{Put: &j.put}}
	j.req.Failure = []wire.RequestOp{{Range: &j.get}}
	return j, unary
}

// modRevisionField is Compare's field number of mod_revision.
const modRevisionField = 6

func (w *txnWork) finish(_ context.Context, _ *run, res *Result) error {
	res.Extra["conflicts"] = float64(w.conflicts.Load())
	return nil
}

type txnJob struct {
	w      *txnWork
	d      *Data
	keys   keySpace
	rnd    source
	values values

	key  []byte
	at   int64 // number of the key
	rev  int64 // that was known of it
	req  wire.TxnRequest
	put  wire.PutRequest
	get  wire.RangeRequest
	resp wire.TxnResponse
}

func (j *txnJob) next(n int64, _ time.Duration) (lean.Method, lean.Message, bool) {
	// There are at least as many keys as slots, and a slot holds one at most: the search ends.
	for j.at = pick(j.d, j.rnd, n); ; j.at = (j.at + 1) % j.d.Keys {
		if j.rev = j.w.revisions[j.at].Swap(busy); j.rev != busy {
			break
		}
	}
	j.key = j.keys.appendKey(j.key[:0], j.at)
	j.req.Compare[0].Key, j.req.Compare[0].Number = j.key, j.rev
	j.put.Key, j.put.Value = j.key, j.values.next(j.rnd)
	j.get.Key = j.key
	return lean.Txn, &j.req, true
}

var errTxnAnswer = errors.New("the answer to a transaction does not fit it")

func (j *txnJob) done(body []byte, err error) (int, error) {
	if err != nil {
		// Whether the write happened is not known: the next one finds out.
		j.w.revisions[j.at].Store(j.rev)
		return 0, nil
	}
	known := j.rev
	defer func() { j.w.revisions[j.at].Store(known) }()
	if err := j.resp.Unmarshal(body); err != nil {
		return 0, err
	}
	if len(j.resp.Responses) != 1 {
		return 0, errTxnAnswer
	}
	if j.resp.Succeeded {
		known = j.resp.Header.Revision
		return len(j.put.Value), nil
	}
	j.w.conflicts.Add(1)
	got := j.resp.Responses[0].Range
	if got == nil || len(got.KVs) > 1 {
		return 0, errTxnAnswer
	}
	if known = 0; len(got.KVs) == 1 {
		known = wire.ModRevisionOf(got.KVs[0])
	}
	return 0, nil
}
