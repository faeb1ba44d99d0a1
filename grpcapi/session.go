package grpcapi

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/wire"
)

// This file is the small client of our own store on which Lock and Election stand. Its calls block, in the goroutine of
// the call that waits. Keys and steps are those of etcd's client package concurrency, so that its users and the callers of
// these services can share a lock (source: contract of etcd v3.7 client/v3/concurrency).

// sessionTTLSeconds is the TTL of a lease made for a caller who brought none. Nobody keeps it alive.
const sessionTTLSeconds = 60

// errSessionExpired is the answer to a Lock whose key is gone when its turn comes.
var errSessionExpired = errors.New("mutex: session is expired")

// outcome is what a goroutine that waits for a command gets to keep of its result.
type outcome struct {
	err   error
	rev   ids.Revision
	lease ids.LeaseID
	txn   wire.TxnResponse
}

// patience is a waiter of one goroutine. Capacity 1: Complete never blocks, even when the goroutine has gone.
type patience chan outcome

func (w patience) Complete(r *command.Result) {
	o := outcome{err: r.Err, rev: r.Revision, lease: r.Lease}
	if r.Err == nil && r.Txn != nil {
		// The result is valid only now; its encoded form is ours.
		if err := o.txn.Unmarshal(r.Txn.Append(nil)); err != nil {
			panic("BUG: own transaction response does not decode: " + err.Error())
		}
	}
	w <- o
}

func (w patience) wait(ctx context.Context) (outcome, error) {
	select {
	case o := <-w:
		return o, o.err
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
}

// CheckQuota refuses what would cost that many bytes more than the quota has, with fault.NoSpace, and sees to the alarm.
func (v *Services) CheckQuota(ctx context.Context, cost int64) error { return v.checkFull(ctx, cost) }

// checkFull is admit for callers that wait.
func (v *Services) checkFull(ctx context.Context, cost int64) error {
	full, raise := v.full(cost)
	if !full {
		return nil
	}
	if raise {
		up := make(chan struct{})
		v.raiseNoSpace(func() { close(up) })
		select {
		case <-up:
		case <-ctx.Done():
		}
	}
	return fault.NoSpace
}

// commit runs a transaction under the same checks as a client's. Once it is proposed, its outcome is waited for even when
// ctx ends: who gives up has to know what there is to take back. The node bounds that wait.
func (v *Services) commit(ctx context.Context, who asker, txn *wire.TxnRequest) (outcome, error) {
	if err := v.checkFull(ctx, txnCost(txn)); err != nil {
		return outcome{}, err
	}
	if err := checkTxn(txn, v.Settings.MaxTxnOps); err != nil {
		return outcome{}, err
	}
	now := who.renewed(v.Store.View())
	if now.err != nil {
		return outcome{}, now.err
	}
	w := make(patience, 1)
	now.propose(command.Txn, txn.Append(nil), w)
	return w.wait(context.WithoutCancel(ctx))
}

// get reads the newest state behind the barrier.
func (v *Services) get(ctx context.Context, who asker, req *wire.RangeRequest) (*wire.RangeResponse, error) {
	if err := checkRange(req); err != nil {
		return nil, err
	}
	if err := v.await(ctx); err != nil {
		return nil, err
	}
	var resp *wire.RangeResponse
	err := v.fresh(func(view *state.View) (err error) {
		now := who.renewed(view)
		if err := now.may(view, &auth.Request{Ops: []auth.Op{auth.OfRange(req)}}); err != nil {
			return err
		}
		resp, err = view.Range(req)
		return err
	})
	return resp, err
}

// remove deletes a key and waits for it.
func (v *Services) remove(ctx context.Context, who asker, key []byte) (outcome, error) {
	req := wire.DeleteRangeRequest{Key: key}
	if err := checkDelete(&req); err != nil {
		return outcome{}, err
	}
	now := who.renewed(v.Store.View())
	if now.err != nil {
		return outcome{}, now.err
	}
	w := make(patience, 1)
	now.propose(command.DeleteRange, req.Append(nil), w)
	return w.wait(ctx)
}

// session gives the lease to use: the caller's, or a fresh one when it is 0.
func (v *Services) session(ctx context.Context, who asker, lease int64) (int64, error) {
	if lease != 0 {
		return lease, nil
	}
	if err := v.checkFull(ctx, limits.QuotaCostLease); err != nil {
		return 0, err
	}
	view := v.Store.View()
	now := who.renewed(view)
	if err := now.mayGrant(view); err != nil {
		return 0, err
	}
	w := make(patience, 1)
	v.grant(now, wire.LeaseGrantRequest{TTL: sessionTTLSeconds}, w)
	o, err := w.wait(ctx)
	return int64(o.lease), err
}

// sessionKey is the key of a lease among those that wait for name.
func sessionKey(name []byte, lease int64) []byte {
	return strconv.AppendInt(append(append([]byte(nil), name...), '/'), lease, 16)
}

// queueOf is the range of all keys that wait for name.
func queueOf(name []byte) wire.RangeRequest {
	prefix := append(append([]byte(nil), name...), '/')
	end := append(append([]byte(nil), name...), '/'+1)
	return wire.RangeRequest{Key: prefix, RangeEnd: end}
}

// first asks for the oldest key of a queue: the owner.
func first(name []byte) *wire.RangeRequest {
	r := queueOf(name)
	r.SortOrder, r.SortTarget, r.Limit = wire.SortAscend, wire.SortByCreate, 1
	return &r
}

// created compares a key's create revision.
func created(key []byte, rev int64) []wire.Compare {
	return []wire.Compare{{Target: wire.CompareCreate, Key: key, Union: wire.UnionCreate, Number: rev}}
}

// turn waits until no key of the queue is older than rev. Each wait is for the one just before, so that a release wakes one.
func (v *Services) turn(ctx context.Context, who asker, name []byte, rev int64) error {
	last := queueOf(name)
	last.SortOrder, last.SortTarget, last.Limit = wire.SortDescend, wire.SortByCreate, 1
	last.MaxCreateRevision = rev - 1
	for {
		resp, err := v.get(ctx, who, &last)
		if err != nil {
			return err
		}
		if len(resp.KVs) == 0 {
			return nil
		}
		req := &wire.WatchCreateRequest{
			Key: wire.KeyOf(resp.KVs[0]), StartRevision: resp.Header.Revision + 1, Filters: []wire.FilterType{wire.FilterNoPut},
		}
		err = v.follow(ctx, who, req, func(*wire.WatchResponse, *wire.Event) (bool, error) { return false, nil })
		if err != nil {
			return err
		}
	}
}

// follow calls f for each event of a watch until f wants no more.
func (v *Services) follow(ctx context.Context, who asker, req *wire.WatchCreateRequest, f func(*wire.WatchResponse, *wire.Event) (more bool, err error)) error {
	t := newTap()
	g := &guard{door: who.door}
	g.know(&who)
	stream := v.Hub.OpenGuarded(t, g)
	defer stream.Close()
	stream.Create(req, watchRefusal(who.err))
	for {
		resp, err := t.next(ctx)
		if err != nil {
			return err
		}
		if resp.Canceled {
			return canceled(resp)
		}
		for _, raw := range resp.Events {
			var ev wire.Event
			if err := ev.Unmarshal(raw); err != nil {
				panic("BUG: own event does not decode: " + err.Error())
			}
			if more, err := f(resp, &ev); err != nil || !more {
				return err
			}
		}
	}
}

// canceled says why the hub ended a watch.
func canceled(resp *wire.WatchResponse) error {
	if resp.CompactRevision != 0 {
		return fault.Compacted
	}
	return errors.New(resp.CancelReason)
}

// tapMessages is how many responses a tap holds before its watcher has to wait.
const tapMessages = 16

// tap is a watch stream's sink inside this process.
type tap struct {
	in     chan []byte
	full   chan struct{} // capacity 1: a response was turned away
	failed chan error    // capacity 1: why the watch cannot go on
	notify func()
}

func newTap() *tap {
	return &tap{in: make(chan []byte, tapMessages), full: make(chan struct{}, 1), failed: make(chan error, 1)}
}

// Flush does nothing: what is queued has arrived.
func (t *tap) Flush() {}

// TrySend queues one response.
func (t *tap) TrySend(head, body []byte) bool {
	select {
	case t.in <- slices.Concat(head, body):
		return true
	default:
	}
	select {
	case t.full <- struct{}{}:
	default:
	}
	return false
}

// NotifyWritable keeps the function that says there is room again. It is called before any TrySend.
func (t *tap) NotifyWritable(fn func()) { t.notify = fn }

// Fail ends the watch.
func (t *tap) Fail(err error) {
	select {
	case t.failed <- err:
	default:
	}
}

// next waits for a response. When one was turned away, it takes what is queued first and then asks for the rest.
func (t *tap) next(ctx context.Context) (*wire.WatchResponse, error) {
	for {
		select {
		case msg := <-t.in:
			return decodeResponse(msg), nil
		default:
		}
		select {
		case msg := <-t.in:
			return decodeResponse(msg), nil
		case <-t.full:
			t.notify()
		case err := <-t.failed:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func decodeResponse(msg []byte) *wire.WatchResponse {
	resp := new(wire.WatchResponse)
	if err := resp.Unmarshal(msg); err != nil {
		panic("BUG: own watch response does not decode: " + err.Error())
	}
	return resp
}
