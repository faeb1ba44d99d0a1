package peer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func appendOf(term, logTerm, index uint64, sizes ...int) *raftpb.Message {
	m := &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: &term, LogTerm: &logTerm, Index: &index, Commit: proto.Uint64(index / 2),
	}
	for i, n := range sizes {
		e := &raftpb.Entry{Term: proto.Uint64(term), Index: proto.Uint64(index + 1 + uint64(i)), Data: bytes.Repeat([]byte{byte(i)}, n)}
		if n == 0 {
			e.Data = nil
		}
		if n%2 == 0 {
			e.Type = raftpb.EntryNormal.Enum()
		}
		m.Entries = append(m.Entries, e)
	}
	return m
}

// TestAppendStream sends appends that continue each other and some that do not, and signs of life between them.
func TestAppendStream(t *testing.T) {
	messages := []*raftpb.Message{
		appendOf(3, 2, 10, 5, 6, 0), // after a change of term
		appendOf(3, 3, 13, 7),       // continues
		appendOf(3, 3, 14),          // empty, continues
		appendOf(3, 3, 12, 9, 9),    // goes back
		appendOf(3, 3, 14, 1<<20),   // continues what went back
		appendOf(4, 3, 15, 1),
		appendOf(4, 4, 16, 2, 2, 2),
	}
	enc := &appendEncoder{}
	var b []byte
	var kinds []byte
	for _, m := range messages {
		b = enc.heartbeat(b)
		at := len(b)
		var err error
		b, err = enc.message(b, m)
		require.NoError(t, err)
		kinds = append(kinds, b[at])
	}
	require.Equal(t, []byte{2, 1, 1, 2, 1, 2, 1}, kinds)
	dec := &appendDecoder{r: bufio.NewReader(bytes.NewReader(b)), from: 1, to: 2}
	for i, want := range messages {
		m, err := dec.next()
		require.NoError(t, err)
		require.Nil(t, m, "a sign of life")
		m, err = dec.next()
		require.NoError(t, err)
		require.True(t, proto.Equal(want, m), "message %d: %v", i, m)
	}
	_, err := dec.next()
	require.Equal(t, io.EOF, err)
}

// TestEntryBytes compares with the library, and checks that what it does not know is kept.
func TestEntryBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 1000 {
		e := &raftpb.Entry{}
		if r.IntN(4) > 0 {
			e.Term = proto.Uint64(r.Uint64() >> r.IntN(64))
		}
		if r.IntN(4) > 0 {
			e.Index = proto.Uint64(r.Uint64() >> r.IntN(64))
		}
		if r.IntN(4) > 0 {
			e.Type = raftpb.EntryType(r.IntN(3)).Enum()
		}
		if n := r.IntN(300); n > 20 {
			e.Data = make([]byte, n-21)
		}
		want, err := proto.Marshal(e)
		require.NoError(t, err)
		require.Equal(t, want, appendEntry([]byte{}, e))
		back, err := decodeEntry(want)
		require.NoError(t, err)
		require.True(t, proto.Equal(e, back))
	}
}

// TestMessageStream sends messages and signs of life, also one in which zeros are written out as older members do.
func TestMessageStream(t *testing.T) {
	var enc plainEncoder
	b := enc.heartbeat(nil)
	vote := &raftpb.Message{Type: raftpb.MsgVote.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: proto.Uint64(9), Context: []byte("x")}
	b, err := enc.message(b, vote)
	require.NoError(t, err)
	old := &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(0), To: proto.Uint64(0), Snapshot: &raftpb.Snapshot{}}
	b, err = enc.message(b, old)
	require.NoError(t, err)
	dec := &plainDecoder{r: bufio.NewReader(bytes.NewReader(b))}
	m, err := dec.next()
	require.NoError(t, err)
	require.Nil(t, m)
	m, err = dec.next()
	require.NoError(t, err)
	require.True(t, proto.Equal(vote, m))
	m, err = dec.next()
	require.NoError(t, err)
	require.Nil(t, m)
	_, err = dec.next()
	require.Equal(t, io.EOF, err)
}

// TestDamagedStreams cuts and changes a stream at every byte: it ends with an error, or with messages, and takes no memory for
// what is not there.
func TestDamagedStreams(t *testing.T) {
	enc := &appendEncoder{}
	var b []byte
	for _, m := range []*raftpb.Message{appendOf(3, 2, 10, 5, 6), appendOf(3, 3, 12, 7, 8)} {
		var err error
		b, err = enc.message(b, m)
		require.NoError(t, err)
	}
	read := func(b []byte) error {
		d := &appendDecoder{r: bufio.NewReader(bytes.NewReader(b)), from: 1, to: 2}
		for {
			if _, err := d.next(); err != nil {
				return err
			}
		}
	}
	whole := 0
	for n := range len(b) {
		if err := read(b[:n]); errors.Is(err, io.EOF) {
			whole++
		} else {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%d bytes", n)
		}
		for _, v := range []byte{0, 1, 0x7f, 0xff} {
			damaged := bytes.Clone(b)
			damaged[n] = v
			require.Error(t, read(damaged))
		}
	}
	require.Equal(t, 2, whole, "cuts between frames")
	huge := append([]byte{frameEntries}, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff)
	require.ErrorContains(t, read(huge), "4294967295 entries are announced")
	require.ErrorContains(t, read(append([]byte{frameMessage}, 0, 0, 0, 1, 0, 0, 0, 0)), "a message of 4294967296 bytes is announced")
}

func FuzzStreams(f *testing.F) {
	enc := &appendEncoder{}
	b, _ := enc.message(nil, appendOf(3, 2, 10, 5, 6))
	b, _ = enc.message(enc.heartbeat(b), appendOf(3, 3, 12, 7))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, d := range []decoder{&appendDecoder{r: bufio.NewReader(bytes.NewReader(b))}, &plainDecoder{r: bufio.NewReader(bytes.NewReader(b))}} {
			for err := error(nil); err == nil; {
				_, err = d.next()
			}
		}
	})
}
