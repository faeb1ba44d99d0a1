package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/internal/check"
)

// recorder is one client that asks at random and writes down what it is answered.
type recorder struct {
	id      int
	cli     *clientv3.Client
	rng     *rand.Rand
	began   time.Time
	seen    *atomic.Int64 // the newest revision that any client was answered with
	safe    *atomic.Int64 // up to here every event is in the hands of some watch: compaction may go this far
	pause   time.Duration // between two requests, on average
	history []check.Operation
	leases  []int64
	mods    map[string]int64 // what this client saw last of each key
	stats   stats
	last    atomic.Int64 // when it was last answered, since began
	mu      sync.Mutex
	errors  map[string]int
}

type stats struct{ answered, refused, unknown int }

const (
	keyCount  = 24
	opTimeout = 2 * time.Second
)

func (r *recorder) now() int64 { return int64(time.Since(r.began)) }

func (r *recorder) key() string { return fmt.Sprintf("k%02d", r.rng.IntN(keyCount)) }

func (r *recorder) value() string { return fmt.Sprintf("%d.%d", r.id, len(r.history)) }

// run asks until ctx ends.
func (r *recorder) run(ctx context.Context) {
	for ctx.Err() == nil {
		r.ask(ctx, r.choose())
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(r.rng.Int64N(int64(2*r.pause) + 1))):
		}
	}
}

// choose makes up a request.
func (r *recorder) choose() check.Request {
	put := check.Request{Kind: check.Put, Key: r.key(), Value: r.value(), Prev: r.rng.IntN(3) == 0}
	switch n := r.rng.IntN(100); {
	case n < 33:
		return put
	case n < 50:
		return check.Request{Kind: check.Range, Key: put.Key}
	case n < 56:
		return check.Request{Kind: check.Range, Key: "k", End: "l", Limit: int64(r.rng.IntN(3) * 6)}
	case n < 60:
		return check.Request{Kind: check.Range, Key: "k", End: "l", Stale: true}
	case n < 64 && r.seen.Load() > 20:
		return check.Request{Kind: check.Range, Key: "k", End: "l", Revision: r.seen.Load() - r.rng.Int64N(20)}
	case n < 69:
		return check.Request{Kind: check.Delete, Key: put.Key, Prev: put.Prev}
	case n < 70:
		return check.Request{Kind: check.Delete, Key: put.Key, End: put.Key[:2] + "\xff"}
	case n < 84:
		return r.txn(put)
	case n < 88 || len(r.leases) == 0:
		return check.Request{Kind: check.Grant}
	case n < 95:
		put.Key = fmt.Sprintf("k%02d", r.rng.IntN(keyCount))
		put.Lease = r.leases[r.rng.IntN(len(r.leases))]
		return put
	case n < 98:
		i := r.rng.IntN(len(r.leases))
		lease := r.leases[i]
		if r.rng.IntN(3) > 0 { // the others are used on, to be refused
			r.leases = append(r.leases[:i], r.leases[i+1:]...)
		}
		return check.Request{Kind: check.Revoke, Lease: lease}
	}
	if safe := r.safe.Load(); safe > 100 && r.rng.IntN(4) == 0 {
		return check.Request{Kind: check.Compact, Revision: safe - 60}
	}
	return put
}

// txn replaces two keys if the first is as this client saw it last, and reads otherwise.
func (r *recorder) txn(put check.Request) check.Request {
	put.Prev = false
	c := check.Compare{Key: put.Key, Target: check.ByMod, Relation: '=', Number: r.mods[put.Key]}
	switch r.rng.IntN(4) {
	case 0:
		c.Relation = '>'
	case 1:
		c = check.Compare{Key: put.Key, Target: check.ByVersion, Relation: '<', Number: int64(r.rng.IntN(9))}
	}
	other := check.Request{Kind: check.Put, Key: put.Key + "+", Value: put.Value}
	if r.rng.IntN(3) == 0 {
		other = check.Request{Kind: check.Delete, Key: put.Key + "+"}
	}
	return check.Request{Kind: check.Txn, If: []check.Compare{c},
		Then: []check.Request{put, other, {Kind: check.Range, Key: put.Key, End: put.Key + "~"}},
		Else: []check.Request{{Kind: check.Range, Key: put.Key}}}
}

// ask asks, and writes it down.
func (r *recorder) ask(ctx context.Context, q check.Request) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	o := check.Operation{Client: r.id, Call: r.now(), Request: q}
	var err error
	o.Answer, err = r.do(ctx, q)
	o.Return = r.now()
	switch refusal := refusalOf(err); {
	case err == nil:
		r.stats.answered++
		r.last.Store(o.Return)
		r.learn(o)
	case refusal != "":
		o.Answer = check.Answer{Refusal: refusal}
		r.stats.refused++
		r.last.Store(o.Return)
		r.forget(q, refusal)
	default:
		o.Answer, o.Return = check.Answer{}, check.Never
		r.stats.unknown++
		r.mu.Lock()
		r.errors[err.Error()]++
		r.mu.Unlock()
	}
	r.history = append(r.history, o)
}

// learn remembers what the next requests need.
func (r *recorder) learn(o check.Operation) {
	for s := r.seen.Load(); s < o.Answer.Revision && !r.seen.CompareAndSwap(s, o.Answer.Revision); s = r.seen.Load() {
	}
	if o.Answer.Lease != 0 {
		r.leases = append(r.leases, o.Answer.Lease)
	}
	switch o.Request.Kind {
	case check.Put:
		r.mods[o.Request.Key] = o.Answer.Revision
	case check.Range:
		for _, kv := range o.Answer.KVs {
			r.mods[kv.Key] = kv.Mod
		}
	}
}

// forget drops a lease that is no more.
func (r *recorder) forget(q check.Request, refusal string) {
	for i, lease := range r.leases {
		if refusal == check.LeaseNotFound && lease == q.Lease && r.rng.IntN(2) == 0 {
			r.leases = append(r.leases[:i], r.leases[i+1:]...)
			return
		}
	}
}

// refusalOf is the text of an error that says for certain that nothing happened, and empty for all others.
func refusalOf(err error) string {
	var known rpctypes.EtcdError
	if !errors.As(err, &known) {
		return ""
	}
	switch known.Error() {
	case check.LeaseNotFound, check.LeaseExists, check.Compacted, check.FutureRev,
		"etcdserver: mvcc: database space exceeded", "etcdserver: too many requests":
		return known.Error()
	}
	return ""
}

// do sends a request and translates the answer.
func (r *recorder) do(ctx context.Context, q check.Request) (check.Answer, error) {
	switch q.Kind {
	case check.Grant:
		resp, err := r.cli.Grant(ctx, int64(2+r.rng.IntN(20)))
		if err != nil {
			return check.Answer{}, err
		}
		return check.Answer{Revision: resp.Revision, Lease: int64(resp.ID)}, nil
	case check.Revoke:
		resp, err := r.cli.Revoke(ctx, clientv3.LeaseID(q.Lease))
		if err != nil {
			return check.Answer{}, err
		}
		return check.Answer{Revision: resp.Header.Revision}, nil
	case check.Compact:
		resp, err := r.cli.Compact(ctx, q.Revision)
		if err != nil {
			return check.Answer{}, err
		}
		return check.Answer{Revision: resp.Header.Revision}, nil
	case check.Txn:
		resp, err := r.cli.Txn(ctx).If(compares(q.If)...).Then(ops(q.Then)...).Else(ops(q.Else)...).Commit()
		if err != nil {
			return check.Answer{}, err
		}
		a := check.Answer{Revision: resp.Header.Revision, Succeeded: resp.Succeeded}
		for _, part := range resp.Responses {
			a.Parts = append(a.Parts, partOf(part))
		}
		return a, nil
	}
	resp, err := r.cli.Do(ctx, opOf(q))
	if err != nil {
		return check.Answer{}, err
	}
	switch q.Kind {
	case check.Put:
		return putAnswer((*etcdserverpb.PutResponse)(resp.Put())), nil
	case check.Delete:
		return deleteAnswer((*etcdserverpb.DeleteRangeResponse)(resp.Del())), nil
	}
	return rangeAnswer((*etcdserverpb.RangeResponse)(resp.Get())), nil
}

func putAnswer(resp *etcdserverpb.PutResponse) check.Answer {
	a := check.Answer{Revision: resp.Header.GetRevision()}
	if resp.PrevKv != nil {
		a.KVs = []check.KV{kvOf(resp.PrevKv)}
	}
	return a
}

func deleteAnswer(resp *etcdserverpb.DeleteRangeResponse) check.Answer {
	return check.Answer{Revision: resp.Header.GetRevision(), Count: resp.Deleted, KVs: kvsOf(resp.PrevKvs)}
}

func rangeAnswer(resp *etcdserverpb.RangeResponse) check.Answer {
	return check.Answer{Revision: resp.Header.GetRevision(), Count: resp.Count, More: resp.More, KVs: kvsOf(resp.Kvs)}
}

func partOf(part *etcdserverpb.ResponseOp) check.Answer {
	switch {
	case part.GetResponsePut() != nil:
		return putAnswer(part.GetResponsePut())
	case part.GetResponseDeleteRange() != nil:
		return deleteAnswer(part.GetResponseDeleteRange())
	}
	return rangeAnswer(part.GetResponseRange())
}

func kvOf(kv *mvccpb.KeyValue) check.KV {
	return check.KV{Key: string(kv.Key), Value: string(kv.Value), Create: kv.CreateRevision, Mod: kv.ModRevision, Version: kv.Version, Lease: kv.Lease}
}

func kvsOf(kvs []*mvccpb.KeyValue) (out []check.KV) {
	for _, kv := range kvs {
		out = append(out, kvOf(kv))
	}
	return out
}

func opOf(q check.Request) clientv3.Op {
	var opts []clientv3.OpOption
	if q.End != "" {
		opts = append(opts, clientv3.WithRange(q.End))
	}
	switch q.Kind {
	case check.Put:
		opts = append(opts, clientv3.WithLease(clientv3.LeaseID(q.Lease)))
		if q.Prev {
			opts = append(opts, clientv3.WithPrevKV())
		}
		return clientv3.OpPut(q.Key, q.Value, opts...)
	case check.Delete:
		if q.Prev {
			opts = append(opts, clientv3.WithPrevKV())
		}
		return clientv3.OpDelete(q.Key, opts...)
	}
	if q.Stale {
		opts = append(opts, clientv3.WithSerializable())
	}
	return clientv3.OpGet(q.Key, append(opts, clientv3.WithRev(q.Revision), clientv3.WithLimit(q.Limit))...)
}

func ops(qs []check.Request) (out []clientv3.Op) {
	for _, q := range qs {
		out = append(out, opOf(q))
	}
	return out
}

func compares(cs []check.Compare) (out []clientv3.Cmp) {
	for _, c := range cs {
		sign := string(c.Relation)
		if c.Relation == '!' {
			sign = "!="
		}
		switch c.Target {
		case check.ByVersion:
			out = append(out, clientv3.Compare(clientv3.Version(c.Key), sign, c.Number))
		case check.ByCreate:
			out = append(out, clientv3.Compare(clientv3.CreateRevision(c.Key), sign, c.Number))
		case check.ByMod:
			out = append(out, clientv3.Compare(clientv3.ModRevision(c.Key), sign, c.Number))
		case check.ByLease:
			out = append(out, clientv3.Compare(clientv3.LeaseValue(c.Key), sign, c.Number))
		default:
			out = append(out, clientv3.Compare(clientv3.Value(c.Key), sign, c.Value))
		}
	}
	return out
}
