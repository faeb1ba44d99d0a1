package grpcapi

import (
	"bytes"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/insight"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/rpc"
)

// counted follows one call or stream for those who look at what clients ask for, from its arrival to its end.
type counted struct {
	desk *insight.Desk
	next rpc.Witness // who follows it besides; nil for nobody

	mu   sync.Mutex
	call insight.Call
}

// count has the desk count a call, or a stream, which has no msg yet. Who followed it before goes on to, and is told of its end twice
// when that comes between the two looks at it here.
func (v *Services) count(x exchange, d *door, msg []byte, weight uint64) {
	w := &counted{desk: v.Desk, next: x.Witness()}
	w.call = insight.Call{Weight: weight, Method: d.path, Client: hostOf(x.Peer()), In: len(msg)}
	key, single := keyOf(d.method, msg)
	w.call.Key, w.call.Single = bytes.Clone(key[:min(len(key), limits.TopKeyBytes)]), single
	x.SetWitness(w)
}

// countedFor says who sent a request.
func countedFor(c authn.Caller, user string) {
	x, ok := c.(exchange)
	if !ok {
		return
	}
	if w, ok := x.Witness().(*counted); ok {
		w.mu.Lock()
		w.call.User = user
		w.mu.Unlock()
	}
}

// Replied implements rpc.Witness.
func (w *counted) Replied(m rpc.Message) {
	w.Streaming(m.Size())
	if w.next != nil {
		w.next.Replied(m)
	}
}

// Streaming implements rpc.StreamWitness.
func (w *counted) Streaming(size int) {
	w.mu.Lock()
	w.call.Out = size
	w.mu.Unlock()
}

// Ended implements rpc.Witness.
func (w *counted) Ended(st *rpc.Status, took time.Duration) {
	w.mu.Lock()
	w.call.Took, w.call.Failed = took, st != nil
	w.desk.Record(&w.call)
	w.mu.Unlock()
	if w.next != nil {
		w.next.Ended(st, took)
	}
}

// hostOf is an address without its port.
func hostOf(a net.Addr) string {
	if host, _, err := net.SplitHostPort(a.String()); err == nil {
		return host
	}
	return a.String()
}

// keyOf is the key that a request asks for, of a range its begin and of a transaction the first one named, and whether it asks for
// this key alone. It refers to msg.
func keyOf(m auth.Method, msg []byte) (key []byte, single bool) {
	switch m {
	case auth.MethodRange, auth.MethodDeleteRange:
		key = fieldBytes(msg, 1)
		return key, len(fieldBytes(msg, 2)) == 0
	case auth.MethodPut:
		return fieldBytes(msg, 1), true
	case auth.MethodLock, auth.MethodCampaign, auth.MethodLeader:
		return fieldBytes(msg, 1), false
	case auth.MethodTxn:
		if compare := fieldBytes(msg, 1); compare != nil {
			return fieldBytes(compare, 3), true
		}
		for _, list := range []protowire.Number{2, 3} { // success, failure
			if op := fieldBytes(msg, list); op != nil {
				return firstOp(op)
			}
		}
	}
	return nil, false
}

// firstOp is keyOf for one operation of a transaction: a range, a put, a delete or a transaction.
func firstOp(op []byte) (key []byte, single bool) {
	for field, m := range []auth.Method{1: auth.MethodRange, 2: auth.MethodPut, 3: auth.MethodDeleteRange} {
		if body := fieldBytes(op, protowire.Number(field)); field > 0 && body != nil {
			return keyOf(m, body)
		}
	}
	return nil, false
}

// fieldBytes is the first field of that number, nil when there is none. What is malformed ends the search.
func fieldBytes(msg []byte, want protowire.Number) []byte {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return nil
		}
		msg = msg[n:]
		if num == want && typ == protowire.BytesType {
			b, n := protowire.ConsumeBytes(msg)
			if n < 0 {
				return nil
			}
			return b
		}
		if n = protowire.ConsumeFieldValue(num, typ, msg); n < 0 {
			return nil
		}
		msg = msg[n:]
	}
	return nil
}
