package compat

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"quorate.dev/quorate/test/compat/diff"
	"quorate.dev/quorate/test/compat/proc"
)

// The JSON gateway: the requests of testdata/gateway.http and conversations over WebSockets.

// webRequest is one statement of gateway.http:
//
//	METHOD PATH [BODY]   a request; the rest of the line is the body
//	  Name: value        its headers follow, indented
//	  lines N            read so many lines of the answer, then go away
//	let NAME REGEXP      remembers the first group of what matches the answer as $NAME, which is not compared then
type webRequest struct {
	at                 int // line number
	method, path, body string
	headers            [][2]string
	lines              int
	lets               [][2]string // names and patterns
}

func webRequests(t *testing.T) (all []webRequest) {
	text, err := os.ReadFile("testdata/gateway.http")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0][0] == '#':
		case words[0] == "let":
			last := &all[len(all)-1]
			last.lets = append(last.lets, [2]string{words[1], words[2]})
		case line[0] != ' ':
			method, rest, _ := strings.Cut(line, " ")
			path, body, _ := strings.Cut(rest, " ")
			all = append(all, webRequest{at: i + 1, method: method, path: path, body: body})
		case words[0] == "lines":
			if all[len(all)-1].lines, err = strconv.Atoi(words[1]); err != nil {
				t.Fatal(err)
			}
		default:
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			last := &all[len(all)-1]
			last.headers = append(last.headers, [2]string{name, strings.TrimSpace(value)})
		}
	}
	return all
}

// webSession is what is remembered of one server.
type webSession struct{ vars map[string]string }

func (s *webSession) expand(text string) string {
	for name, value := range s.vars {
		text = strings.ReplaceAll(text, "$"+name, value)
	}
	return text
}

// do performs a statement and lists what came back.
func (s *webSession) do(t *testing.T, server *proc.Server, q webRequest) []diff.Fact {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, q.method, server.URL()+q.path, strings.NewReader(s.expand(q.body)))
	if err != nil {
		t.Error(err)
		return nil
	}
	for _, h := range q.headers {
		if h[0] == "Host" {
			req.Host = h[1]
		}
		req.Header.Add(h[0], s.expand(h[1]))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return []diff.Fact{{Path: "error", Value: err.Error()}}
	}
	defer resp.Body.Close()
	facts := []diff.Fact{{Path: "status", Value: resp.Status}, {Path: "transfer", Value: fmt.Sprint(resp.TransferEncoding)}}
	for _, name := range []string{"Content-Type", "Grpc-Metadata-Content-Type", "Www-Authenticate", "Trailer", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers"} {
		facts = append(facts, diff.Fact{Path: name, Value: fmt.Sprint(resp.Header.Values(name))})
	}
	lines, err := readLines(resp.Body, q.lines)
	if err != nil {
		facts = append(facts, diff.Fact{Path: "reading", Value: err.Error()})
	}
	for _, let := range q.lets {
		m := regexp.MustCompile(let[1]).FindStringSubmatch(strings.Join(lines, "\n"))
		if m == nil {
			facts = append(facts, diff.Fact{Path: "let " + let[0], Value: fmt.Sprint("no match in ", lines)})
			continue
		}
		s.vars[let[0]] = m[1]
	}
	for i, line := range lines {
		facts = append(facts, diff.Fact{Path: fmt.Sprintf("line %d", i), Value: s.plain(line)})
	}
	return facts
}

// readLines reads n lines, or all when n is 0.
func readLines(r io.Reader, n int) (lines []string, err error) {
	b := bufio.NewReader(r)
	for n == 0 || len(lines) < n {
		line, err := b.ReadString('\n')
		if line != "" {
			lines = append(lines, line)
		}
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
	}
	return lines, nil
}

// volatileJSON are the only values that are not compared exactly; see diff's table for the reasons.
var volatileJSON = regexp.MustCompile(`"(dbSize|dbSizeInUse|raftIndex|raftAppliedIndex|TTL|remaining_bytes|blob|token)":("[^"]*")|"(hash)":(\d+)`)

// plain is a line of an answer without what may differ: the blanks that a build puts into JSON, and what volatileJSON names.
func (s *webSession) plain(line string) string {
	var b bytes.Buffer
	if json.Compact(&b, []byte(line)) == nil {
		line = b.String()
		if strings.HasPrefix(line, "{\"header\"") || strings.HasPrefix(line, "{\"result\"") {
			line = volatileJSON.ReplaceAllString(line, `"$1$3":(any)`)
		}
	}
	for name, value := range s.vars {
		if len(value) > 15 { // ids that are made of chance or the time, and tokens
			line = strings.ReplaceAll(line, value, "$"+name)
		}
	}
	return strings.ReplaceAll(line, "proto:\u00a0", "proto: ")
}

// TestGateway sends every request of testdata/gateway.http to both servers.
func TestGateway(t *testing.T) {
	p := startPair(t, opponent(), "--unsafe-no-fsync", "--bcrypt-cost=4", "--host-whitelist=127.0.0.1,good.example", "--cors=http://a.example:80,http://b.example:80")
	sessions := []*webSession{{vars: map[string]string{}}, {vars: map[string]string{}}}
	requests := webRequests(t)
	seen := map[string]bool{}
	for _, q := range requests {
		var j, o []diff.Fact
		both(func() { j = sessions[0].do(t, p.judge, q) }, func() { o = sessions[1].do(t, p.other, q) })
		for _, line := range diff.Compare(j, o) {
			t.Errorf("gateway.http:%d: %s %s %s: %s", q.at, q.method, q.path, q.body, line)
		}
		if slices.Contains(j, diff.Fact{Path: "status", Value: "200 OK"}) {
			seen[q.path] = true
		}
	}
	for _, path := range gatewayPaths {
		if !seen[path] {
			t.Errorf("no request to %s was answered with 200", path)
		}
	}
	t.Logf("%d requests", len(requests))
}

// gatewayPaths are the paths for which a single member has a good answer: promote alone is missing.
var gatewayPaths = func() []string {
	var all []string
	for line := range strings.Lines(`
kv/ range put deleterange txn compaction lease/revoke lease/timetolive lease/leases
/ watch
lease/ grant revoke keepalive timetolive leases
cluster/member/ add remove update list
maintenance/ alarm status defragment hash hashkv snapshot transfer-leadership
auth/ enable disable status authenticate user/add user/get user/list user/delete user/changepw user/grant user/revoke
auth/role/ add get list delete grant revoke
lock/ lock unlock
election/ campaign proclaim leader observe resign
`) {
		words := strings.Fields(line)
		for i := range words {
			if i > 0 {
				all = append(all, "/v3/"+strings.TrimPrefix(words[0], "/")+words[i])
			}
		}
	}
	return all
}()

// talk is a conversation over a WebSocket: it sends all messages, and takes so many.
type talk struct {
	name     string
	path     string
	protocol []string
	cookie   string
	send     []string
	take     int
	end      bool // then the server ends the connection
}

// TestGatewaySockets has the same conversations with both servers.
func TestGatewaySockets(t *testing.T) {
	p := startPair(t, opponent(), "--unsafe-no-fsync", "--bcrypt-cost=4")
	create := `{"create_request":{"key":"` + strings.Repeat("YWFh", 100) + `"}}` // a length of three bytes
	for _, c := range []talk{
		{name: "watch", path: "/v3/watch", send: []string{`{"create_request":{"key":"YQ==","start_revision":"1"}}`, create}, take: 2},
		{name: "cancel", path: "/v3/watch", send: []string{create, `{"cancel_request":{"watch_id":"0"}}`}, take: 2},
		{name: "two in one message", path: "/v3/watch", send: []string{create + create}, take: 2},
		{name: "keepalive", path: "/v3/lease/keepalive", send: []string{`{"ID":"7"}`, `{"ID":"8"}`}, take: 2},
		{name: "unknown path", path: "/v3/nothing", take: 1, end: true},
		{name: "another version", path: "/v3beta/watch", send: []string{create}, take: 1},
		{name: "other method", path: "/v3/watch?method=GET", send: []string{create}, take: 1},
		{name: "subprotocol", path: "/v3/watch", protocol: []string{"Bearer", "nonsense"}, send: []string{create}, take: 1},
		{name: "other subprotocol", path: "/v3/watch", protocol: []string{"chat"}, send: []string{create}, take: 1},
		{name: "cookie", path: "/v3/watch", cookie: "token=nonsense", send: []string{create}, take: 1},
		{name: "enable"},
		{name: "nobody", path: "/v3/watch", send: []string{create}, take: 1},
		{name: "nobody keeps alive", path: "/v3/lease/keepalive", send: []string{`{"ID":"7"}`}, take: 1, end: true},
		{name: "wrong subprotocol", path: "/v3/watch", protocol: []string{"Bearer", "nonsense"}, send: []string{create}, take: 1},
		{name: "wrong cookie", path: "/v3/watch", cookie: "token=nonsense", send: []string{create}, take: 1},
		{name: "wrong cookie keeps alive", path: "/v3/lease/keepalive", cookie: "token=nonsense", send: []string{`{"ID":"7"}`}, take: 1, end: true},
		{name: "token", path: "/v3/watch", protocol: []string{"Bearer", "TOKEN"}, send: []string{create}, take: 1},
		{name: "token", path: "/v3/watch", cookie: "token=TOKEN", send: []string{create}, take: 1},
		{name: "token", path: "/v3/lease/keepalive", cookie: "token=TOKEN", send: []string{`{"ID":"7"}`}, take: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			compareBoth(t, p, func(t *testing.T, s *proc.Server) []diff.Fact { return converse(t, s, c) })
		})
	}
}

// converse has a conversation with one server.
func converse(t *testing.T, s *proc.Server, c talk) []diff.Fact {
	h := http.Header{}
	web := &webSession{vars: map[string]string{}}
	if c.name == "enable" {
		var facts []diff.Fact
		for _, q := range []webRequest{{path: "/v3/auth/user/add", body: `{"name":"root","password":"p"}`}, {path: "/v3/auth/user/grant", body: `{"user":"root","role":"root"}`}, {path: "/v3/auth/enable"}} {
			q.method = http.MethodPost
			for _, f := range web.do(t, s, q) {
				f.Path = q.path + " " + f.Path
				facts = append(facts, f)
			}
		}
		return facts
	}
	if c.name == "token" {
		web.do(t, s, webRequest{method: http.MethodPost, path: "/v3/auth/authenticate", body: `{"name":"root","password":"p"}`, lets: [][2]string{{"TOKEN", `"token": ?"([^"]*)"`}}})
		c.cookie = strings.ReplaceAll(c.cookie, "TOKEN", web.vars["TOKEN"])
		c.protocol = slices.Clone(c.protocol)
		for i := range c.protocol {
			c.protocol[i] = strings.ReplaceAll(c.protocol[i], "TOKEN", web.vars["TOKEN"])
		}
	}
	if c.cookie != "" {
		h.Set("Cookie", c.cookie)
	}
	d := websocket.Dialer{Subprotocols: c.protocol, HandshakeTimeout: time.Minute}
	conn, resp, err := d.Dial("ws"+strings.TrimPrefix(s.URL(), "http")+c.path, h)
	if err != nil {
		return []diff.Fact{{Path: "dial", Value: err.Error()}}
	}
	defer conn.Close()
	facts := []diff.Fact{{Path: "status", Value: resp.Status}, {Path: "subprotocol", Value: conn.Subprotocol()}}
	for _, m := range c.send {
		if err := conn.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
			facts = append(facts, diff.Fact{Path: "write", Value: err.Error()})
		}
	}
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	for i := range c.take {
		kind, m, err := conn.ReadMessage()
		if err != nil {
			return append(facts, diff.Fact{Path: "read", Value: err.Error()})
		}
		facts = append(facts, diff.Fact{Path: fmt.Sprintf("message %d", i), Value: fmt.Sprintf("%d %s", kind, web.plain(string(m)))})
	}
	if c.end {
		_, m, err := conn.ReadMessage()
		facts = append(facts, diff.Fact{Path: "end", Value: fmt.Sprintf("%s %t", m, err != nil)})
	}
	return facts
}
