package proxy

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/rpc"
)

// namespace puts a prefix before every key that clients name, and takes it away from every key that they are shown. It looks
// at encoded messages only as far as there are keys in them; everything else stays as it came, byte by byte.
type namespace struct {
	prefix []byte
	end    []byte // of the range of all keys with prefix
}

func newNamespace(prefix string) *namespace {
	if prefix == "" {
		return nil
	}
	return &namespace{prefix: []byte(prefix), end: prefixEnd([]byte(prefix))}
}

// prefixEnd is the key behind all keys with prefix, which is "\x00", meaning the end of all keys, after 0xff bytes alone.
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end
		}
	}
	return []byte{0}
}

// rewriter makes another message of one. The first stays as it is.
type rewriter func(msg []byte) ([]byte, *rpc.Status)

// rewriting is what is done to the requests and responses of a method; nil for nothing.
func (n *namespace) rewriting(method string) (there, back rewriter) {
	if n == nil {
		return nil, nil
	}
	s, ok := keysIn[method]
	if !ok {
		return nil, nil
	}
	if s.request != nil {
		there = func(msg []byte) ([]byte, *rpc.Status) { return n.rewrite(s.request, msg) }
	}
	if s.response != nil {
		back = func(msg []byte) ([]byte, *rpc.Status) { return n.rewrite(s.response, msg) }
	}
	return there, back
}

// treat says what is done to a field.
type treat uint8

const (
	within   treat = iota // a message with keys in it
	key                   // a key of a client: it gets the prefix, and must be there
	name                  // the name of a lock or an election, which begins keys: it gets the prefix, also when it is empty
	rangeEnd              // the end of a range: "\x00" becomes the end of the namespace
	shown                 // a key of the store: it loses the prefix
	listed                // one of several keys of the store: it loses the prefix, and without it is left out
)

// shape says where the keys of a message are.
type shape map[protowire.Number]place

type place struct {
	treat treat
	of    shape // for within
}

// The shapes of etcdserverpb, mvccpb, v3lockpb and v3electionpb.
var (
	keyValue      = shape{1: {treat: shown}}
	rangeRequest  = shape{1: {treat: key}, 2: {treat: rangeEnd}}
	rangeResponse = shape{2: {of: keyValue}}
	putRequest    = shape{1: {treat: key}}
	putResponse   = shape{2: {of: keyValue}}
	deleteRequest = shape{1: {treat: key}, 2: {treat: rangeEnd}}
	deleteReply   = shape{3: {of: keyValue}}
	compare       = shape{3: {treat: key}, 64: {treat: rangeEnd}}
	txnRequest    = shape{1: {of: compare}}
	txnResponse   = shape{}
	leaderKey     = shape{1: {treat: name}, 2: {treat: key}}
	leaderShown   = shape{1: {treat: shown}, 2: {treat: shown}}
)

func init() {
	// A transaction holds others.
	op := shape{1: {of: rangeRequest}, 2: {of: putRequest}, 3: {of: deleteRequest}, 4: {of: txnRequest}}
	txnRequest[2], txnRequest[3] = place{of: op}, place{of: op}
	txnResponse[3] = place{of: shape{1: {of: rangeResponse}, 2: {of: putResponse}, 3: {of: deleteReply}, 4: {of: txnResponse}}}
}

// keysIn are the methods with keys in their messages. Watches are not here: package fan has them.
var keysIn = map[string]struct{ request, response shape }{
	methodRange:                           {rangeRequest, rangeResponse},
	"/etcdserverpb.KV/RangeStream":        {rangeRequest, shape{1: {of: rangeResponse}}},
	"/etcdserverpb.KV/Put":                {putRequest, putResponse},
	"/etcdserverpb.KV/DeleteRange":        {deleteRequest, deleteReply},
	"/etcdserverpb.KV/Txn":                {txnRequest, txnResponse},
	"/etcdserverpb.Lease/LeaseTimeToLive": {nil, shape{5: {treat: listed}}},
	"/v3lockpb.Lock/Lock":                 {shape{1: {treat: name}}, shape{2: {treat: shown}}},
	"/v3lockpb.Lock/Unlock":               {shape{1: {treat: key}}, nil},
	"/v3electionpb.Election/Campaign":     {shape{1: {treat: name}}, shape{2: {of: leaderShown}}},
	"/v3electionpb.Election/Proclaim":     {shape{1: {of: leaderKey}}, nil},
	"/v3electionpb.Election/Leader":       {shape{1: {treat: name}}, shape{2: {of: keyValue}}},
	"/v3electionpb.Election/Observe":      {shape{1: {treat: name}}, shape{2: {of: keyValue}}},
	"/v3electionpb.Election/Resign":       {shape{1: {of: leaderKey}}, nil},
}

// nestedMax bounds transactions within transactions.
const nestedMax = 64

func (n *namespace) rewrite(s shape, msg []byte) ([]byte, *rpc.Status) {
	return n.appendTo(make([]byte, 0, len(msg)+4*len(n.prefix)+16), s, msg, nestedMax)
}

var (
	statusEmptyKey  = &rpc.Status{Code: rpc.Code(fault.EmptyKey.Code), Message: fault.EmptyKey.Text}
	statusMalformed = &rpc.Status{Code: rpc.Internal, Message: "the message cannot be decoded as what its method takes"}
)

// appendTo appends msg, rewritten, to dst.
func (n *namespace) appendTo(dst []byte, s shape, msg []byte, depth int) ([]byte, *rpc.Status) {
	if depth == 0 {
		return nil, statusMalformed
	}
	given := uint64(0) // the fields with keys that were there, bit by bit
	for len(msg) > 0 {
		num, kind, tag := protowire.ConsumeTag(msg)
		if tag < 0 {
			return nil, statusMalformed
		}
		size := protowire.ConsumeFieldValue(num, kind, msg[tag:])
		if size < 0 {
			return nil, statusMalformed
		}
		whole := msg[:tag+size]
		msg = msg[tag+size:]
		p, known := s[num]
		if !known || kind != protowire.BytesType {
			dst = append(dst, whole...)
			continue
		}
		value, _ := protowire.ConsumeBytes(whole[tag:])
		if len(value) > 0 || p.treat == name {
			given |= 1 << (num & 63)
		}
		if p.treat == within {
			inner, bad := n.appendTo(make([]byte, 0, len(value)+4*len(n.prefix)+16), p.of, value, depth-1)
			if bad != nil {
				return nil, bad
			}
			dst = protowire.AppendBytes(protowire.AppendTag(dst, num, kind), inner)
			continue
		}
		dst = n.appendKey(dst, num, p.treat, value)
	}
	for num, p := range s {
		if given&(1<<(num&63)) != 0 {
			continue
		}
		switch p.treat {
		case key:
			return nil, statusEmptyKey
		case name:
			dst = n.appendKey(dst, num, name, nil)
		}
	}
	return dst, nil
}

// appendKey appends the field that one with a key becomes.
func (n *namespace) appendKey(dst []byte, num protowire.Number, t treat, value []byte) []byte {
	var before, after []byte
	switch t {
	case key, name:
		before, after = n.prefix, value
	case rangeEnd:
		switch {
		case len(value) == 0:
		case len(value) == 1 && value[0] == 0:
			after = n.end
		default:
			before, after = n.prefix, value
		}
	case shown, listed:
		var ours bool
		if after, ours = bytes.CutPrefix(value, n.prefix); !ours && t == listed {
			return dst
		}
	}
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(len(before)+len(after)))
	return append(append(dst, before...), after...)
}
