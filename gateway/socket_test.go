package gateway_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/rpc"
)

// The kinds of frames.
const (
	opMore  = 0
	opText  = 1
	opBytes = 2
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// frame is a frame of a WebSocket as the test sends and sees it.
type frame struct {
	op    byte
	data  string
	more  bool // not the last of its message
	plain bool // without a mask
	extra byte // further bits of the first byte
}

// socketClient is a WebSocket client that may break every rule.
type socketClient struct {
	net.Conn
	r    *bufio.Reader
	resp *http.Response
}

func dialSocket(t *testing.T, s *stand, path, headers string) *socketClient {
	t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	c := &socketClient{Conn: nc, r: bufio.NewReader(nc)}
	if headers == "" {
		headers = "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	}
	if _, err := io.WriteString(nc, headers+"\r\n"); err != nil {
		t.Fatal(err)
	}
	if c.resp, err = http.ReadResponse(c.r, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *socketClient) send(t *testing.T, f frame) {
	t.Helper()
	first := f.op | f.extra
	if !f.more {
		first |= 0x80
	}
	var out []byte
	switch n := len(f.data); {
	case n > 1<<16-1:
		out = binary.BigEndian.AppendUint64([]byte{first, 127}, uint64(n))
	case n > 125:
		out = binary.BigEndian.AppendUint16([]byte{first, 126}, uint16(n))
	default:
		out = []byte{first, byte(n)}
	}
	data := []byte(f.data)
	if !f.plain {
		out[1] |= 0x80
		mask := []byte{1, 2, 3, 4}
		out = append(out, mask...)
		for i := range data {
			data[i] ^= mask[i%4]
		}
	}
	if _, err := c.Write(append(out, data...)); err != nil {
		t.Fatal(err)
	}
}

// next reads the next frame; one without a kind says that the connection has ended.
func (c *socketClient) next(t *testing.T) (f frame) {
	t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(c.r, head); err != nil {
		return frame{}
	}
	size := uint64(head[1])
	switch size {
	case 126:
		b := make([]byte, 2)
		_, _ = io.ReadFull(c.r, b)
		size = uint64(binary.BigEndian.Uint16(b))
	case 127:
		b := make([]byte, 8)
		_, _ = io.ReadFull(c.r, b)
		size = binary.BigEndian.Uint64(b)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(c.r, data); err != nil {
		t.Fatal(err)
	}
	return frame{op: head[0] & 0x0F, data: string(data), more: head[0]&0x80 == 0}
}

// tellKeys answers every request of a watch with its key, and "large" with a large message.
func tellKeys(t *testing.T) rpc.StreamHandler {
	return func(st *rpc.Stream) *rpc.Status {
		for {
			msg, err := st.Recv()
			if err != nil {
				return nil
			}
			var req etcdserverpb.WatchRequest
			if err := proto.Unmarshal(msg, &req); err != nil {
				t.Error(err)
			}
			reason := string(req.GetCreateRequest().GetKey())
			if reason == "large" {
				reason = strings.Repeat("x", 100_000)
			}
			if st.Send(message(t, &etcdserverpb.WatchResponse{CancelReason: reason})) != nil {
				return nil
			}
		}
	}
}

const sayA = `{"create_request":{"key":"YQ=="}}`

// TestSocket: what a WebSocket client may send, and what it gets.
func TestSocket(t *testing.T) {
	s := newStand(t, nil, map[string]rpc.StreamHandler{"Watch/Watch": tellKeys(t)})
	a := frame{op: opText, data: `{"result":{"cancel_reason":"a"}}`}
	for _, c := range []struct {
		name string
		send []frame
		want []frame
	}{
		{"text", []frame{{op: opText, data: sayA}}, []frame{a}},
		{"bytes", []frame{{op: opBytes, data: sayA}}, []frame{a}},
		{"two messages", []frame{{op: opText, data: sayA}, {op: opText, data: sayA}}, []frame{a, a}},
		{"two in one", []frame{{op: opText, data: sayA + sayA}}, []frame{a, a}},
		{"one in two", []frame{{op: opText, data: sayA[:18]}, {op: opText, data: sayA[18:]}}, []frame{a}},
		{"parts", []frame{{op: opText, data: sayA[:9], more: true}, {op: opMore, more: true}, {op: opPing, data: "p"}, {op: opMore, data: sayA[9:]}}, []frame{{op: opPong, data: "p"}, a}},
		{"pong", []frame{{op: opPong}, {op: opText, data: sayA}}, []frame{a}},
		{"padded", []frame{{op: opText, data: strings.Repeat(" ", 500) + sayA}}, []frame{a}},
		{"large answer", []frame{{op: opText, data: `{"create_request":{"key":"bGFyZ2U="}}`}}, []frame{{op: opText, data: `{"result":{"cancel_reason":"` + strings.Repeat("x", 100_000) + `"}}`}}},
		{"close", []frame{{op: opClose, data: "\x03\xe8bye"}}, []frame{{op: opClose, data: "\x03\xe8"}}},
		{"no JSON", []frame{{op: opText, data: "nonsense"}}, []frame{{op: opText, data: `{"code":3,"message":"Failed to decode request: invalid character 'o' in literal null (expecting 'u')"}`}, {op: opClose, data: "\x03\xe8"}}},
		{"no mask", []frame{{op: opText, data: sayA, plain: true}}, []frame{broken}},
		{"unknown kind", []frame{{op: 3, data: sayA}}, []frame{broken}},
		{"extension", []frame{{op: opText, data: sayA, extra: 0x40}}, []frame{broken}},
		{"more of nothing", []frame{{op: opMore, data: sayA}}, []frame{broken}},
		{"message in a message", []frame{{op: opText, data: sayA, more: true}, {op: opText, data: sayA}}, []frame{broken}},
		{"long ping", []frame{{op: opPing, data: strings.Repeat("p", 126)}}, []frame{broken}},
		{"ping in parts", []frame{{op: opPing, more: true}}, []frame{broken}},
		{"too large", []frame{{op: opText, data: strings.Repeat(" ", 100_000)}}, []frame{{op: opClose, data: "\x03\xf1message too large"}}},
		{"too large in parts", []frame{{op: opText, data: strings.Repeat(" ", bound-1), more: true}, {op: opMore, data: sayA}}, []frame{{op: opClose, data: "\x03\xf1message too large"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := dialSocket(t, s, "/v3/watch", "")
			if client.resp.StatusCode != http.StatusSwitchingProtocols || client.resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
				t.Fatalf("handshake: %v", client.resp)
			}
			for _, f := range c.send {
				client.send(t, f)
			}
			for i, want := range c.want {
				if got := client.next(t); got != want {
					t.Fatalf("frame %d is %.300s, want %.300s", i, fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
				}
			}
		})
	}
}

var broken = frame{op: opClose, data: "\x03\xeanot a WebSocket frame as RFC 6455 has it"}

// TestSocketGone: a client that goes away without a word ends its call.
func TestSocketGone(t *testing.T) {
	over := make(chan struct{})
	s := newStand(t, nil, map[string]rpc.StreamHandler{"Watch/Watch": func(st *rpc.Stream) *rpc.Status {
		_ = st.Send(message(t, &etcdserverpb.WatchResponse{Created: true}))
		<-st.Context().Done()
		close(over)
		return nil
	}})
	c := dialSocket(t, s, "/v3/watch", "")
	c.send(t, frame{op: opText, data: `{}`})
	if f := c.next(t); f.op != opText {
		t.Fatalf("%+v", f)
	}
	c.Close()
	select {
	case <-over:
	case <-time.After(patience):
		t.Fatal("the call goes on")
	}
}

// TestHandshake: what is no handshake is refused, and a request that does not ask for one is none.
func TestHandshake(t *testing.T) {
	s := newStand(t, map[string]rpc.UnaryHandler{"KV/Range": echo(t)}, nil)
	const good = "GET /v3/watch HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for edit, want := range map[string]int{
		"GET →POST ": http.StatusMethodNotAllowed, "13→12": http.StatusBadRequest, "dGhlIHNhbXBsZSBub25jZQ==→": http.StatusBadRequest,
		"dGhlIHNhbXBsZSBub25jZQ==→dGhl": http.StatusBadRequest, "websocket→chat": http.StatusNotImplemented, "Connection: Upgrade→Connection: close": http.StatusNotImplemented,
	} {
		from, to, _ := strings.Cut(edit, "→")
		c := dialSocket(t, s, "", strings.Replace(good, from, to, 1))
		if c.resp.StatusCode != want {
			t.Errorf("%s: %s", edit, c.resp.Status)
		}
	}
}
