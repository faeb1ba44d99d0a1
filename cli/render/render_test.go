package render_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate.dev/quorate/cli/render"
)

// printed prints a result and returns what arrived on stdout and stderr.
func printed(t *testing.T, format string, change func(*render.Printer), r render.Result) (string, string, error) {
	t.Helper()
	var out, errs bytes.Buffer
	p, ok := render.New(format, false, &out, &errs)
	if !ok {
		t.Fatalf("no format %q", format)
	}
	if change != nil {
		change(p)
	}
	err := p.Print(r)
	return out.String(), errs.String(), err
}

// TestTerminal: aligned columns without a frame, empty columns left out, rows that need attention in red.
func TestTerminal(t *testing.T) {
	list := render.EndpointHealth([]render.Health{{Endpoint: "a:1", Health: true, Took: "1ms"}, {Endpoint: "long.name:1", Took: "5s", Error: "gone"}})
	out, _, err := printed(t, "simple", func(p *render.Printer) { p.Pretty, p.Color = true, true }, list)
	want := "\x1b[1mENDPOINT     HEALTH  TOOK  ERROR\x1b[0m\na:1          true    1ms\n\x1b[31mlong.name:1  false   5s    gone\x1b[0m\n"
	if err != nil || out != want {
		t.Errorf("%v\n%q\n%q", err, out, want)
	}
	good := render.EndpointHealth([]render.Health{{Endpoint: "a:1", Health: true, Took: "1ms"}})
	out, _, _ = printed(t, "simple", func(p *render.Printer) { p.Pretty = true }, good)
	if out != "ENDPOINT  HEALTH  TOOK\na:1       true    1ms\n" {
		t.Errorf("%q", out)
	}
}

// TestPlain: in a pipe nothing is coloured, and what is wrong goes to stderr.
func TestPlain(t *testing.T) {
	list := render.EndpointHealth([]render.Health{{Endpoint: "a:1", Health: true, Took: "1ms"}, {Endpoint: "b:1", Error: "gone"}})
	out, errs, err := printed(t, "simple", nil, list)
	if err != nil || out != "a:1 is healthy: successfully committed proposal: took = 1ms\n" || errs != "b:1 is unhealthy: failed to commit proposal: gone\n" {
		t.Errorf("%v %q %q", err, out, errs)
	}
}

// TestUnsupported: a format that a result does not have is an error with etcdctl's text, and nothing is written.
func TestUnsupported(t *testing.T) {
	for format, r := range map[string]render.Result{
		"table":    render.Put(new(clientv3.PutResponse)),
		"fields":   render.UserList(new(clientv3.AuthUserListResponse)),
		"protobuf": render.EndpointHealth(nil),
	} {
		out, _, err := printed(t, format, nil, r)
		var unsupported *render.UnsupportedError
		if !errors.As(err, &unsupported) || err.Error() != format+" not supported as output format" || out != "" {
			t.Errorf("%s: %v %q", format, err, out)
		}
	}
	_, _, err := printed(t, "protobuf", nil, render.Revoke(1, new(clientv3.LeaseRevokeResponse)))
	if err == nil || !strings.HasPrefix(err.Error(), "marshal unsupported for type *clientv3.LeaseRevokeResponse (") {
		t.Error(err)
	}
}

// TestDecode: values of a known format are shown as text, others and those that cannot be decoded as they are.
func TestDecode(t *testing.T) {
	decode := func(v []byte) (string, bool, error) {
		switch string(v) {
		case "known":
			return "kind: Pod\n", true, nil
		case "broken":
			return "", true, errors.New("no")
		}
		return "", false, nil
	}
	r := &pb.RangeResponse{}
	for _, v := range []string{"known", "broken", "other"} {
		r.Kvs = append(r.Kvs, &mvccpb.KeyValue{Key: []byte("k"), Value: []byte(v)})
	}
	out, _, _ := printed(t, "simple", func(p *render.Printer) { p.Decode = decode }, render.Get((*clientv3.GetResponse)(r)))
	if out != "k\nkind: Pod\nk\nbroken\nk\nother\n" {
		t.Errorf("%q", out)
	}
}

// TestWatchColors: the kind of an event is coloured on a terminal only.
func TestWatchColors(t *testing.T) {
	kv := &mvccpb.KeyValue{Key: []byte("k"), Value: []byte("v")}
	w := &clientv3.WatchResponse{Header: new(pb.ResponseHeader), Events: []*clientv3.Event{{Kv: kv}, {Type: mvccpb.Event_DELETE, Kv: kv}}}
	out, _, _ := printed(t, "simple", func(p *render.Printer) { p.Color = true }, render.Watch(w))
	if out != "\x1b[32mPUT\x1b[0m\n\x1b[36mk\x1b[0m\nv\n\x1b[31mDELETE\x1b[0m\n\x1b[36mk\x1b[0m\nv\n" {
		t.Errorf("%q", out)
	}
	if out, _, _ = printed(t, "simple", nil, render.Watch(w)); out != "PUT\nk\nv\nDELETE\nk\nv\n" {
		t.Errorf("%q", out)
	}
}
