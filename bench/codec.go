package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// The gRPC methods that are called.
const (
	methodRange       = "/etcdserverpb.KV/Range"
	methodRangeStream = "/etcdserverpb.KV/RangeStream"
	methodPut         = "/etcdserverpb.KV/Put"
	methodTxn         = "/etcdserverpb.KV/Txn"
	methodCompact     = "/etcdserverpb.KV/Compact"
	methodWatch       = "/etcdserverpb.Watch/Watch"
)

// rawCodec moves bytes that were encoded here: decoding every answer into the generated types would cost the client, which
// shares the machine with the server, more than some servers need to answer.
type rawCodec struct{}

// message is a request or an answer as it is on the wire; its memory is used again by the next call.
type message struct{ b []byte }

// answer takes what came, which is valid only until decode returns.
type answer interface {
	decode(data mem.BufferSlice) error
}

func (m *message) decode(data mem.BufferSlice) error {
	n := data.Len()
	m.b = slices.Grow(m.b[:0], n)[:n]
	data.CopyTo(m.b)
	return nil
}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.(*message).b)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error { return v.(answer).decode(data) }

func (rawCodec) Name() string { return "proto" }

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendInt(b []byte, field protowire.Number, v int64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}

// appendPut encodes a PutRequest.
func appendPut(b, key, value []byte) []byte { return appendBytes(appendBytes(b, 1, key), 2, value) }

// query is a RangeRequest.
type query struct {
	key, end     []byte // end empty: one key
	limit, rev   int64  // 0: none, the newest
	serializable bool
}

func (q *query) append(b []byte) []byte {
	b = appendBytes(b, 1, q.key)
	if len(q.end) > 0 {
		b = appendBytes(b, 2, q.end)
	}
	b = appendInt(appendInt(b, 3, q.limit), 4, q.rev)
	if q.serializable {
		b = appendInt(b, 7, 1)
	}
	return b
}

// appendUpdate encodes the transaction by which Kubernetes writes: put if the key's mod revision is rev, else get. Space for
// the nested messages is taken from scratch.
func appendUpdate(b []byte, scratch *[]byte, key, value []byte, rev int64) []byte {
	const modRevision = 2
	s := appendInt((*scratch)[:0], 2, modRevision)
	s = appendBytes(s, 3, key)
	s = protowire.AppendVarint(protowire.AppendTag(s, 6, protowire.VarintType), uint64(rev))
	b = appendBytes(b, 1, s)
	putSize := protowire.SizeTag(1) + protowire.SizeBytes(len(key)) + protowire.SizeTag(2) + protowire.SizeBytes(len(value))
	s = protowire.AppendVarint(protowire.AppendTag(s[:0], 2, protowire.BytesType), uint64(putSize))
	s = appendPut(s, key, value)
	b = appendBytes(b, 2, s)
	getSize := protowire.SizeTag(1) + protowire.SizeBytes(len(key))
	s = protowire.AppendVarint(protowire.AppendTag(s[:0], 1, protowire.BytesType), uint64(getSize))
	s = appendBytes(s, 1, key)
	*scratch = s
	return appendBytes(b, 3, s)
}

// appendWatch encodes a WatchRequest that creates one watcher of [key, end).
func appendWatch(b, key, end []byte) []byte {
	return appendBytes(b, 1, appendBytes(appendBytes(nil, 1, key), 2, end))
}

// fields calls each for every field of a message: v for varints, body for length-delimited fields.
func fields(b []byte, each func(field protowire.Number, v uint64, body []byte) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var v uint64
		var body []byte
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			body, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := each(field, v, body); err != nil {
			return err
		}
	}
	return nil
}

// inner is one varint or message inside a message; 0 and nil when it is absent.
func inner(b []byte, want protowire.Number) (v uint64, body []byte, err error) {
	err = fields(b, func(field protowire.Number, x uint64, y []byte) error {
		if field == want {
			v, body = x, y
		}
		return nil
	})
	return v, body, err
}

// revisionOf is the header's revision of any answer.
func revisionOf(b []byte) (int64, error) {
	_, header, err := inner(b, 1)
	if err != nil {
		return 0, err
	}
	rev, _, err := inner(header, 3)
	return int64(rev), err
}

// page is what a list needs of a RangeResponse. Last aliases the answer.
type page struct {
	kvs  int
	last []byte // the last key
	more bool
	rev  int64
}

func decodePage(b []byte) (page, error) {
	var p page
	var last []byte
	err := fields(b, func(field protowire.Number, v uint64, body []byte) error {
		switch field {
		case 2:
			p.kvs++
			last = body
		case 3:
			p.more = v != 0
		}
		return nil
	})
	if err != nil {
		return p, err
	}
	if p.rev, err = revisionOf(b); err != nil || last == nil {
		return p, err
	}
	_, p.last, err = inner(last, 1)
	return p, err
}

// updated reads a TxnResponse of appendUpdate: the key's mod revision now, and whether the put was done.
func updated(b []byte) (rev int64, done bool, err error) {
	succeeded, _, err := inner(b, 2)
	if err != nil {
		return 0, false, err
	}
	if succeeded != 0 {
		rev, err = revisionOf(b)
		return rev, true, err
	}
	for _, step := range []protowire.Number{3, 1, 2} { // responses, response_range, kvs
		if _, b, err = inner(b, step); err != nil {
			return 0, false, err
		}
	}
	if b == nil {
		return 0, false, errors.New("a node's key is gone")
	}
	mod, _, err := inner(b, 3)
	return int64(mod), false, err
}

// counter counts one length-delimited field of an answer of any size without holding the answer in one piece.
type counter struct {
	field protowire.Number
	in    protowire.Number // the message that holds the field, 0: the answer itself
	n     int
}

func (c *counter) decode(data mem.BufferSlice) error {
	r := data.Reader()
	defer r.Close()
	outside := c.in != 0
	for r.Remaining() > 0 {
		tag, err := readVarint(r)
		if err != nil {
			return err
		}
		field, kind := protowire.DecodeTag(tag)
		switch kind {
		case protowire.VarintType:
			if _, err := readVarint(r); err != nil {
				return err
			}
		case protowire.BytesType:
			size, err := readVarint(r)
			if err != nil {
				return err
			}
			if outside && field == c.in {
				outside = false
				continue // its fields follow
			}
			if n, err := r.Discard(int(size)); err != nil || n != int(size) {
				return io.ErrUnexpectedEOF
			}
			if field == c.field {
				c.n++
			}
		default:
			return fmt.Errorf("field %d of an answer has wire type %d", field, kind)
		}
	}
	return nil
}

func readVarint(r io.ByteReader) (uint64, error) {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		c, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, nil
		}
	}
	return 0, errors.New("a varint of more than ten bytes")
}
