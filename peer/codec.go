package peer

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/limits"
)

// Kinds of frames on a stream of appends (source: etcd's msgappv2).
const (
	frameHeartbeat = 0
	frameEntries   = 1
	frameMessage   = 2
)

// encoder appends frames of one stream. It is for one goroutine.
type encoder interface {
	// message appends a message. What it writes depends on all messages before.
	message(b []byte, m *raftpb.Message) ([]byte, error)
	// heartbeat appends a sign of life.
	heartbeat(b []byte) []byte
}

// decoder reads what the encoder of the same kind has written. It is for one goroutine.
type decoder interface {
	// next returns the next message, nil for a sign of life. The message is the caller's. Any error ends the stream.
	next() (*raftpb.Message, error)
}

// plainEncoder writes length and message (source: etcd's message stream).
type plainEncoder struct{}

func (plainEncoder) message(b []byte, m *raftpb.Message) ([]byte, error) { return appendSized(b, m) }

func (plainEncoder) heartbeat(b []byte) []byte {
	b, _ = appendSized(b, linkHeartbeat) // it has no field that could fail
	return b
}

// linkHeartbeat is a sign of life on a message stream: a heartbeat of nobody.
var linkHeartbeat = &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum()}

// isLinkHeartbeat knows also those in which zeros are written out.
func isLinkHeartbeat(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgHeartbeat && m.GetFrom() == 0 && m.GetTo() == 0
}

// appendSized appends the size of a message in eight bytes and the message.
func appendSized(b []byte, m *raftpb.Message) ([]byte, error) {
	at := len(b)
	b, err := proto.MarshalOptions{}.MarshalAppend(append(b, 0, 0, 0, 0, 0, 0, 0, 0), m)
	if err != nil {
		return b[:at], fmt.Errorf("peer: encode a %s: %w", m.GetType(), err)
	}
	binary.BigEndian.PutUint64(b[at:], uint64(len(b)-at-8))
	return b, nil
}

// appendEncoder writes appends. One that continues where the one before ended, as nearly all do, is written as its entries
// and its commit index alone.
type appendEncoder struct {
	position
}

// position is what both ends of a stream of appends remember: the term and index of the last entry that went over it.
type position struct{ term, index uint64 }

// continues reports whether m goes on where the stream stands.
func (p *position) continues(m *raftpb.Message) bool {
	return m.GetIndex() == p.index && m.GetLogTerm() == p.term && m.GetLogTerm() == m.GetTerm()
}

// reached moves to where the stream stands after a whole message.
func (p *position) reached(m *raftpb.Message) {
	p.term, p.index = m.GetTerm(), m.GetIndex()
	if n := len(m.GetEntries()); n > 0 {
		p.index = m.GetEntries()[n-1].GetIndex()
	}
}

func (e *appendEncoder) message(b []byte, m *raftpb.Message) ([]byte, error) {
	if !e.continues(m) {
		at := len(b)
		b, err := appendSized(append(b, frameMessage), m)
		if err != nil {
			return b[:at], err
		}
		e.reached(m)
		return b, nil
	}
	b = append(b, frameEntries)
	b = binary.BigEndian.AppendUint64(b, uint64(len(m.GetEntries())))
	for _, entry := range m.GetEntries() {
		at := len(b)
		b = appendEntry(append(b, 0, 0, 0, 0, 0, 0, 0, 0), entry)
		binary.BigEndian.PutUint64(b[at:], uint64(len(b)-at-8))
	}
	e.index += uint64(len(m.GetEntries()))
	return binary.BigEndian.AppendUint64(b, m.GetCommit()), nil
}

func (e *appendEncoder) heartbeat(b []byte) []byte { return append(b, frameHeartbeat) }

// Field numbers of raftpb.Entry (source: go.etcd.io/raft/v3/raftpb).
const (
	entryType  = 1
	entryTerm  = 2
	entryIndex = 3
	entryData  = 4
)

// appendEntry appends an entry as proto.Marshal would.
func appendEntry(b []byte, e *raftpb.Entry) []byte {
	if e.Type != nil {
		b = protowire.AppendVarint(protowire.AppendTag(b, entryType, protowire.VarintType), uint64(*e.Type))
	}
	if e.Term != nil {
		b = protowire.AppendVarint(protowire.AppendTag(b, entryTerm, protowire.VarintType), *e.Term)
	}
	if e.Index != nil {
		b = protowire.AppendVarint(protowire.AppendTag(b, entryIndex, protowire.VarintType), *e.Index)
	}
	if e.Data != nil {
		b = protowire.AppendBytes(protowire.AppendTag(b, entryData, protowire.BytesType), e.Data)
	}
	return append(b, e.ProtoReflect().GetUnknown()...)
}

// plainDecoder reads a message stream.
type plainDecoder struct{ r *bufio.Reader }

func (d *plainDecoder) next() (*raftpb.Message, error) {
	m, err := readSized(d.r)
	if err != nil || isLinkHeartbeat(m) {
		return nil, err
	}
	return m, nil
}

// readSized reads a message behind its size.
func readSized(r *bufio.Reader) (*raftpb.Message, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	m := &raftpb.Message{}
	if err := proto.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("peer: a message of %d bytes cannot be understood: %w", len(body), err)
	}
	return m, nil
}

// readBody reads eight bytes of size and what they announce, in new memory. Memory is taken as bytes arrive, so that a
// wrong size costs nothing.
func readBody(r *bufio.Reader) ([]byte, error) {
	size, err := readNumber(r)
	if err != nil {
		return nil, err
	}
	if size > limits.PeerMessageBytes {
		return nil, fmt.Errorf("peer: a message of %d bytes is announced, more than the %d that one may have: the connection is out of step", size, limits.PeerMessageBytes)
	}
	const step = 1 << 20
	body := make([]byte, 0, min(size, step))
	for uint64(len(body)) < size {
		at := len(body)
		body = append(body, make([]byte, min(size-uint64(at), max(step, uint64(at))))...)
		if _, err := io.ReadFull(r, body[at:]); err != nil {
			return nil, midway(err)
		}
	}
	return body, nil
}

// readNumber reads eight bytes. It returns io.EOF only when there are none.
func readNumber(r *bufio.Reader) (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b[:]), nil
}

// midway is the error for a stream that ends within a frame.
func midway(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendDecoder reads a stream of appends.
type appendDecoder struct {
	position
	r        *bufio.Reader
	from, to uint64 // of the stream: frames of entries do not say
}

func (d *appendDecoder) next() (*raftpb.Message, error) {
	kind, err := d.r.ReadByte()
	if err != nil {
		return nil, err
	}
	switch kind {
	case frameHeartbeat:
		return nil, nil
	case frameEntries:
		m, err := d.entries()
		return m, midway(err)
	case frameMessage:
		m, err := readSized(d.r)
		if err != nil {
			return nil, midway(err)
		}
		d.reached(m)
		return m, nil
	}
	return nil, fmt.Errorf("peer: a frame of kind %d is not known: the connection is out of step", kind)
}

// entries reads a frame of entries and completes the message from where the stream stands.
func (d *appendDecoder) entries() (*raftpb.Message, error) {
	count, err := readNumber(d.r)
	if err != nil {
		return nil, err
	}
	if count > limits.PeerMessageBytes/entryLeast {
		return nil, fmt.Errorf("peer: %d entries are announced: the connection is out of step", count)
	}
	m := &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: proto.Uint64(d.from), To: proto.Uint64(d.to),
		Term: proto.Uint64(d.term), LogTerm: proto.Uint64(d.term), Index: proto.Uint64(d.index),
	}
	var size uint64
	for range count {
		body, err := readBody(d.r)
		if err != nil {
			return nil, err
		}
		if size += uint64(len(body)) + entryLeast; size > limits.PeerMessageBytes {
			return nil, fmt.Errorf("peer: %d entries have more than the %d bytes that a message may have", count, limits.PeerMessageBytes)
		}
		e, err := decodeEntry(body)
		if err != nil {
			return nil, err
		}
		m.Entries = append(m.Entries, e)
	}
	commit, err := readNumber(d.r)
	if err != nil {
		return nil, err
	}
	m.Commit = proto.Uint64(commit)
	d.index += count
	return m, nil
}

// entryLeast is what an entry takes at least beside its data: its size.
const entryLeast = 8

// decodeEntry reads an entry, whose data it leaves where it is. The numbers share one piece of memory with the entry.
func decodeEntry(body []byte) (*raftpb.Entry, error) {
	x := &struct {
		raftpb.Entry
		term, index uint64
		kind        raftpb.EntryType
	}{}
	for rest := body; len(rest) > 0; {
		num, typ, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return nil, entryError(body, n)
		}
		value := rest[n:]
		switch {
		case num == entryData && typ == protowire.BytesType:
			data, m := protowire.ConsumeBytes(value)
			if n = m; n >= 0 {
				x.Data = data[:len(data):len(data)]
			}
		case num <= entryIndex && typ == protowire.VarintType:
			v, m := protowire.ConsumeVarint(value)
			switch n = m; num {
			case entryType:
				x.kind = raftpb.EntryType(v)
				x.Type = &x.kind
			case entryTerm:
				x.term = v
				x.Term = &x.term
			case entryIndex:
				x.index = v
				x.Index = &x.index
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, value)
		}
		if n < 0 {
			return nil, entryError(body, n)
		}
		rest = value[n:]
	}
	return &x.Entry, nil
}

func entryError(body []byte, n int) error {
	return fmt.Errorf("peer: an entry of %d bytes cannot be understood: %w", len(body), protowire.ParseError(n))
}
