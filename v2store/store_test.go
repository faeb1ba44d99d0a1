package v2store_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

const second = int64(time.Second)

// start is a time after the year 2000.
var start = time.Date(2026, 11, 22, 3, 0, 0, 123456000, time.UTC).UnixNano()

func yes() *bool { v := true; return &v }
func no() *bool  { v := false; return &v }

// do applies a request and gives the answer's JSON.
func do(t *testing.T, s *v2store.Store, r wire.V2Request) string {
	t.Helper()
	if r.Time == 0 {
		r.Time = start
	}
	e, err := s.Apply(nil, &r)
	var answer any = e
	if err != nil {
		require.Nil(t, e)
		answer = err
	}
	b, err := json.Marshal(answer)
	require.NoError(t, err)
	return string(b)
}

func get(t *testing.T, s *v2store.Store, path string, recursive bool, now int64) string {
	t.Helper()
	e, err := s.Publish().Get(path, recursive, true, now)
	var answer any = e
	if err != nil {
		answer = err
	}
	b, err := json.Marshal(answer)
	require.NoError(t, err)
	return string(b)
}

// TestAnswers walks through the methods. The answers are those of etcd 3.4 (contract 10.2), with the namespace left in.
func TestAnswers(t *testing.T) {
	s := v2store.New()
	for _, step := range []struct {
		r    wire.V2Request
		want string
	}{
		{wire.V2Request{Method: "PUT", Path: "/1/foo", Val: "bar"},
			`{"action":"set","node":{"key":"/1/foo","value":"bar","modifiedIndex":1,"createdIndex":1}}`},
		{wire.V2Request{Method: "PUT", Path: "/1/foo", Val: "<b>"},
			`{"action":"set","node":{"key":"/1/foo","value":"\u003cb\u003e","modifiedIndex":2,"createdIndex":2},"prevNode":{"key":"/1/foo","value":"bar","modifiedIndex":1,"createdIndex":1}}`},
		{wire.V2Request{Method: "PUT", Path: "/1/foo", Val: "", PrevExist: yes()},
			`{"action":"update","node":{"key":"/1/foo","value":"","modifiedIndex":3,"createdIndex":2},"prevNode":{"key":"/1/foo","value":"\u003cb\u003e","modifiedIndex":2,"createdIndex":2}}`},
		{wire.V2Request{Method: "PUT", Path: "/1/foo", Val: "x", PrevExist: no()},
			`{"errorCode":105,"message":"Key already exists","cause":"/1/foo","index":3}`},
		{wire.V2Request{Method: "PUT", Path: "/1/foo/x", Val: "x"},
			`{"errorCode":104,"message":"Not a directory","cause":"/1/foo","index":3}`},
		{wire.V2Request{Method: "PUT", Path: "/1/foo", Val: "x", PrevValue: "two", PrevIndex: 17},
			`{"errorCode":101,"message":"Compare failed","cause":"[two != ] [17 != 3]","index":3}`},
		{wire.V2Request{Method: "PUT", Path: "/1/foo", Val: "x", PrevIndex: 3},
			`{"action":"compareAndSwap","node":{"key":"/1/foo","value":"x","modifiedIndex":4,"createdIndex":2},"prevNode":{"key":"/1/foo","value":"","modifiedIndex":3,"createdIndex":2}}`},
		{wire.V2Request{Method: "POST", Path: "/1/q", Val: "job"},
			`{"action":"create","node":{"key":"/1/q/00000000000000000005","value":"job","modifiedIndex":5,"createdIndex":5}}`},
		{wire.V2Request{Method: "PUT", Path: "/1/q", Val: "v"},
			`{"errorCode":102,"message":"Not a file","cause":"/1/q","index":5}`},
		{wire.V2Request{Method: "DELETE", Path: "/1/q"},
			`{"errorCode":102,"message":"Not a file","cause":"/1/q","index":5}`},
		{wire.V2Request{Method: "DELETE", Path: "/1/q", Dir: true},
			`{"errorCode":108,"message":"Directory not empty","cause":"/1/q","index":5}`},
		{wire.V2Request{Method: "PUT", Path: "/1/q", PrevExist: yes(), Expiration: start + 90*second/4},
			`{"action":"update","node":{"key":"/1/q","dir":true,"expiration":"2026-11-22T03:00:22.623456Z","ttl":23,"modifiedIndex":6,"createdIndex":5},"prevNode":{"key":"/1/q","dir":true,"modifiedIndex":5,"createdIndex":5}}`},
		{wire.V2Request{Method: "QGET", Path: "/1/q/"},
			`{"action":"get","node":{"key":"/1/q","dir":true,"expiration":"2026-11-22T03:00:22.623456Z","ttl":23,"nodes":[{"key":"/1/q/00000000000000000005","value":"job","modifiedIndex":5,"createdIndex":5}],"modifiedIndex":5,"createdIndex":5}}`},
		{wire.V2Request{Method: "DELETE", Path: "/1/q", Recursive: true},
			`{"action":"delete","node":{"key":"/1/q","dir":true,"modifiedIndex":7,"createdIndex":5},"prevNode":{"key":"/1/q","dir":true,"expiration":"2026-11-22T03:00:22.623456Z","ttl":23,"modifiedIndex":5,"createdIndex":5}}`},
		{wire.V2Request{Method: "DELETE", Path: "/1/a/b"},
			`{"errorCode":100,"message":"Key not found","cause":"/1/a","index":7}`},
		{wire.V2Request{Method: "DELETE", Path: "/1/foo", PrevValue: "y"},
			`{"errorCode":101,"message":"Compare failed","cause":"[y != x]","index":7}`},
		{wire.V2Request{Method: "DELETE", Path: "/1/foo", PrevValue: "x"},
			`{"action":"compareAndDelete","node":{"key":"/1/foo","modifiedIndex":8,"createdIndex":2},"prevNode":{"key":"/1/foo","value":"x","modifiedIndex":4,"createdIndex":2}}`},
		{wire.V2Request{Method: "PUT", Path: "/1", Val: "x"},
			`{"errorCode":107,"message":"Root is read only","cause":"/","index":8}`},
		{wire.V2Request{Method: "PUT", Path: "/1/d", Dir: true, Expiration: 5},
			`{"action":"set","node":{"key":"/1/d","dir":true,"modifiedIndex":9,"createdIndex":9}}`},
		{wire.V2Request{Method: "PUT", Path: "/1/r", Val: "v", Refresh: yes(), Expiration: start},
			`{"errorCode":100,"message":"Key not found","cause":"/1/r","index":9}`},
	} {
		require.Equal(t, step.want, do(t, s, step.r), "%+v", step.r)
	}
}

func TestListing(t *testing.T) {
	s := v2store.New()
	for _, p := range []string{"/1/a/b/x", "/1/a/b-c", "/1/a/_h", "/1/a/_d/x", "/1/z"} {
		do(t, s, wire.V2Request{Method: "PUT", Path: p})
	}
	require.Equal(t, `{"action":"get","node":{"key":"/1","dir":true,"nodes":[{"key":"/1/a","dir":true,"modifiedIndex":1,"createdIndex":1},`+
		`{"key":"/1/z","value":"","modifiedIndex":5,"createdIndex":5}]}}`, get(t, s, "/1", false, start))
	require.Equal(t, `{"action":"get","node":{"key":"/1/a","dir":true,"nodes":[{"key":"/1/a/b","dir":true,"nodes":[{"key":"/1/a/b/x","value":"","modifiedIndex":1,"createdIndex":1}],`+
		`"modifiedIndex":1,"createdIndex":1},{"key":"/1/a/b-c","value":"","modifiedIndex":2,"createdIndex":2}],"modifiedIndex":1,"createdIndex":1}}`, get(t, s, "/1/a", true, start))
	require.Equal(t, `{"action":"get","node":{"key":"/1/a/_d","dir":true,"nodes":[{"key":"/1/a/_d/x","value":"","modifiedIndex":4,"createdIndex":4}],"modifiedIndex":4,"createdIndex":4}}`,
		get(t, s, "/1/a/_d", false, start))
}

func TestExpiry(t *testing.T) {
	s := v2store.New()
	put := func(path string, expires int64) {
		do(t, s, wire.V2Request{Method: "PUT", Path: path, Val: "v", Expiration: expires})
	}
	put("/1/late", start+3*second)
	put("/1/d/x", start+2*second)
	do(t, s, wire.V2Request{Method: "PUT", Path: "/1/d", PrevExist: yes(), Expiration: start + second})
	put("/1/never", 1)
	require.Equal(t, start+second, s.Publish().NextExpiry())
	do(t, s, wire.V2Request{Method: "SYNC", Time: start + second - 1})
	require.Empty(t, s.Events())
	do(t, s, wire.V2Request{Method: "SYNC", Time: start + 5*second/2})
	events, err := json.Marshal(s.Events())
	require.NoError(t, err)
	require.JSONEq(t, `[{"action":"expire","node":{"key":"/1/d","dir":true,"modifiedIndex":5,"createdIndex":2},
		"prevNode":{"key":"/1/d","dir":true,"expiration":"2026-11-22T03:00:01.123456Z","ttl":-1,"modifiedIndex":2,"createdIndex":2}}]`, string(events))
	require.Equal(t, []v2store.Removed{{Path: "/1/d/x"}, {Path: "/1/d", Dir: true}}, s.Events()[0].Removed)
	require.Equal(t, start+3*second, s.Publish().NextExpiry())
	require.EqualValues(t, 1, s.Publish().Stats().ExpireCount)
}

func TestRefresh(t *testing.T) {
	s := v2store.New()
	do(t, s, wire.V2Request{Method: "PUT", Path: "/1/k", Val: "v"})
	require.Equal(t, `{"action":"update","node":{"key":"/1/k","value":"v","expiration":"2026-11-22T03:00:01.123456Z","ttl":1,"modifiedIndex":2,"createdIndex":1},"prevNode":{"key":"/1/k","value":"v","modifiedIndex":1,"createdIndex":1}}`,
		do(t, s, wire.V2Request{Method: "PUT", Path: "/1/k", PrevExist: yes(), Refresh: yes(), Expiration: start + second}))
	events := s.Events()
	require.True(t, events[len(events)-1].Refresh)
}

// TestTimes compares the dates of answers with those of package time.
func TestTimes(t *testing.T) {
	for _, at := range []int64{1, 999_999_999, -1, 951782400e9, 951868799e9 + 1, 1709164800e9, 4107542400e9, -2208988800e9, 1<<63 - 1, -1 << 63, start} {
		n := v2store.Node{Expiration: at}
		b, err := json.Marshal(&n)
		require.NoError(t, err)
		require.Equal(t, `{"expiration":"`+time.Unix(0, at).UTC().Format(time.RFC3339Nano)+`"}`, string(b))
	}
	for at := int64(-1 << 62); at < 1<<62; at += 1<<62/4001 + 7 {
		n := v2store.Node{Expiration: at}
		b, _ := json.Marshal(&n)
		require.Equal(t, `{"expiration":"`+time.Unix(0, at).UTC().Format(time.RFC3339Nano)+`"}`, string(b))
	}
}

func TestFounding(t *testing.T) {
	s := v2store.New()
	s.Assume(v2store.Founding{Members: 1, Published: 1, Version: true})
	require.EqualValues(t, 3, s.Publish().Index())
	require.Len(t, s.Publish().History(), 3)
	require.Contains(t, do(t, s, wire.V2Request{Method: "PUT", Path: "/1/k"}), `"modifiedIndex":4`)
	s.Assume(v2store.Founding{})
	s.Tick(nil, v2store.MemberRemoved)
	require.EqualValues(t, 6, s.Publish().Index())
	require.Len(t, s.Publish().History(), 6)
}
