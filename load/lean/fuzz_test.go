package lean

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// countingHandler counts the ends of a stream.
type countingHandler struct{ ends chan error }

func (h countingHandler) Message([]byte)    {}
func (h countingHandler) Piece([]byte, int) {}
func (h countingHandler) End(err error)     { h.ends <- err }

// FuzzServerFrames lets a server say anything behind its SETTINGS: every call ends exactly once, nothing panics or hangs.
func FuzzServerFrames(f *testing.F) {
	var buf bytes.Buffer
	p := newPeer(f, nil)
	p.fr = http2.NewFramer(&buf, nil)
	p.fr.AllowIllegalWrites = true
	seed := func(frames func()) {
		buf.Reset()
		frames()
		f.Add(bytes.Clone(buf.Bytes()))
	}
	seed(func() {
		p.reply(1, []byte("one"))
		p.reply(3, []byte("two"))
		p.reply(5, []byte("three"))
		p.reply(7, nil)
	})
	seed(func() {
		p.open(7)
		p.check(p.fr.WriteDataPadded(7, false, appendMessage(appendMessage(nil, []byte("a")), []byte("bc")), make([]byte, 3)))
		p.open(9)
		p.check(p.fr.WriteData(9, true, appendMessage(nil, make([]byte, 300))))
		p.check(p.fr.WriteRSTStream(1, http2.ErrCodeCancel))
		p.check(p.fr.WriteGoAway(3, http2.ErrCodeNo, []byte("bye")))
		p.reply(3, []byte("x"))
	})
	seed(func() {
		block := p.block(":status", "200", "grpc-status", "5", "grpc-message", "%41")
		p.check(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:3], EndStream: true, PadLength: 4}))
		p.check(p.fr.WriteContinuation(1, true, block[3:]))
		p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1}))
		p.check(p.fr.WriteWindowUpdate(5, 100))
		p.check(p.fr.WritePing(false, [8]byte{1}))
	})
	var settings bytes.Buffer
	_ = http2.NewFramer(&settings, nil).WriteSettings()
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		c, err := newConn(ours, Config{Address: "fuzz:1"})
		if err != nil {
			t.Fatal(err)
		}
		var calls []*answer
		for i := range 3 {
			a := newAnswer()
			if err := c.Call(Put, raw(make([]byte, 40_000*i)), a); err == nil {
				calls = append(calls, a)
			}
		}
		whole, pieces := newWholeHandler(), countingHandler{make(chan error, 10)}
		s1, err1 := c.Open(Watch, whole)
		s2, err2 := c.Open(RangeStream, pieces)
		if err1 == nil {
			_ = s1.Send(raw("x"), false)
		}
		if err2 == nil {
			_ = s2.Send(raw("y"), true)
		}
		_ = c.Flush()
		_ = theirs.SetDeadline(time.Now().Add(patience))
		_, _ = theirs.Write(settings.Bytes())
		_, _ = theirs.Write(data)
		theirs.Close()
		select {
		case <-c.Gone():
		case <-time.After(patience):
			t.Fatal("the connection does not end")
		}
		for _, a := range calls {
			a.wait(t)
		}
		if err1 == nil && len(whole.ends) != 1 || err2 == nil && len(pieces.ends) != 1 {
			t.Fatalf("streams ended %d and %d times", len(whole.ends), len(pieces.ends))
		}
	})
}

// wholeHandler takes whole messages of any number.
type wholeHandler struct{ ends chan error }

func newWholeHandler() wholeHandler   { return wholeHandler{make(chan error, 10)} }
func (h wholeHandler) Message([]byte) {}
func (h wholeHandler) End(err error)  { h.ends <- err }
