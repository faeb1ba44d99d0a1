package state_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// second is one of v2's times; v2Epoch is the time at which they start in tests.
const (
	second  = int64(1_000_000_000)
	v2Epoch = 1_700_000_000 * second
)

// parseV2 reads a request of the v2 API: METHOD PATH [VALUE] [dir=1] [recursive=1] [prev=VALUE] [index=N] [exist=BOOL] [refresh=1]
// [expires=S] [at=S]; times are seconds after v2Epoch.
func parseV2(f *fields) command.Command {
	m := &wire.V2Request{Method: f.word(0), Path: f.word(1), Val: f.word(2), Dir: f.has("dir"), Recursive: f.has("recursive"),
		PrevValue: f.named["prev"], PrevIndex: uint64(f.int(f.named["index"])), Time: v2Epoch + f.int(f.named["at"])*second}
	if f.has("expires") {
		m.Expiration = v2Epoch + f.int(f.named["expires"])*second
	}
	if m.Method == "MODE" {
		m.Path, m.Val = "", m.Path
	}
	if f.has("exist") {
		is := f.named["exist"] == "true"
		m.PrevExist = &is
	}
	if f.has("refresh") {
		is := true
		m.Refresh = &is
	}
	return cmd(command.V2, m)
}

func text(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// showV2 prints the tree with its history; nothing for one that is empty.
func showV2(t testing.TB, v *state.View, out *strings.Builder) {
	t.Helper()
	if v.V2.Len() == 0 && v.V2.Mode() == v2store.Separate {
		return
	}
	fmt.Fprintf(out, "v2 %s index %d bytes %d next %d stats %s\n", v.V2.Mode(), v.V2.Index(), v.V2.Bytes(), v.V2.NextExpiry(), text(t, v.V2.Stats()))
	for _, path := range []string{v2store.Keys, v2store.Auth} {
		e, err := v.V2.Get(path, true, true, v2Epoch)
		if err == nil {
			fmt.Fprintf(out, "v2 tree %s\n", text(t, e))
		}
		v.V2.Files(path, func(path, value string) bool { fmt.Fprintf(out, "v2 file %s=%s\n", path, value); return true })
	}
	for _, e := range v.V2.History() {
		fmt.Fprintf(out, "v2 event %s\n", showV2Event(t, e))
	}
}

func showV2Event(t testing.TB, e *v2store.Event) string {
	t.Helper()
	return fmt.Sprintf("%d refresh %t mirrored %t %s", e.Index, e.Refresh, e.Mirrored, text(t, e))
}

// randomV2Log is a random log of a store that both APIs use, in both modes, with times that pass.
func randomV2Log(r *rand.Rand, n int) []command.Command {
	g := generator{r}
	log := mustParse("add 161 http://a:1", "attributes 161 n http://c", "version 3.7.0")
	if r.IntN(2) == 0 {
		log = append(log, mustParse("user add root x", "user grant root root", "role add r0", "role grant r0 readwrite /a /b", "user add u0 x", "user grant u0 r0")...)
	}
	now := v2Epoch
	for i := len(log); i < n; i++ {
		now += g.Int64N(2) * second
		c := g.shared(now)
		switch r.IntN(6) {
		case 0, 1:
			c.Username, c.AuthRevision = "u0", 1<<40
		case 2, 3:
			c.Username, c.AuthRevision = "root", 1<<40
		}
		log = append(log, c)
	}
	return number(1, 1, log)
}

// path is one of few, so that files and directories get into each other's way.
func (g generator) path() string {
	p := ""
	for range 1 + g.IntN(3) {
		p += "/" + []string{"a", "b", "_h", "a-b"}[g.IntN(4)]
	}
	return p
}

// sharedKey is a v3 key, mostly one that is a path.
func (g generator) sharedKey() []byte {
	switch g.IntN(12) {
	case 0:
		return []byte(g.path() + "/")
	case 1:
		return g.key()
	}
	return []byte(g.path())
}

// shared makes a command of either API at a time.
func (g generator) shared(now int64) command.Command {
	switch n := g.IntN(100); {
	case n < 15:
		return cmd(command.Put, &wire.PutRequest{Key: g.sharedKey(), Value: fmt.Append(nil, g.IntN(4)), Lease: g.lease()})
	case n < 22:
		d := &wire.DeleteRangeRequest{Key: g.sharedKey()}
		if g.IntN(3) == 0 {
			d.RangeEnd = g.sharedKey()
		}
		return cmd(command.DeleteRange, d)
	case n < 28:
		t := &wire.TxnRequest{}
		for range g.IntN(4) {
			t.Success = append(t.Success, wire.RequestOp{Put: &wire.PutRequest{Key: g.sharedKey(), Value: fmt.Append(nil, g.IntN(4))}})
		}
		return cmd(command.Txn, t)
	case n < 32:
		return g.command(int(now % 100))
	case n < 35:
		mode := []string{"shared", "shared", "shared", "separate", "other"}[g.IntN(5)]
		return cmd(command.V2, &wire.V2Request{Method: "MODE", Val: mode})
	case n < 37:
		return []command.Command{{Kind: command.AuthEnable}, {Kind: command.AuthDisable, Username: "root", AuthRevision: 1 << 40}}[g.IntN(2)]
	case n < 45:
		return cmd(command.V2, &wire.V2Request{Method: "SYNC", Time: now})
	}
	return cmd(command.V2, g.v2(now))
}

func (g generator) v2(now int64) *wire.V2Request {
	flag := func() *bool { v := g.IntN(2) == 0; return []*bool{nil, nil, &v}[g.IntN(3)] }
	m := &wire.V2Request{Method: "PUT", Path: v2store.Keys + g.path(), Val: fmt.Sprint(g.IntN(4)), Time: now, PrevExist: flag(), Dir: g.IntN(6) == 0}
	switch n := g.IntN(20); {
	case n < 4:
		m.Method, m.Recursive = "DELETE", g.IntN(2) == 0
	case n < 6:
		m.Method = "POST"
	case n == 6:
		m.Method = "QGET"
	case n == 7:
		m.Path = []string{"/", "/0", "/1", "/2", "/2/users/x", "//1/a/./b/../c/", "/1/\xff"}[g.IntN(7)]
	case n == 8:
		m.Refresh = flag()
	}
	if g.IntN(4) == 0 {
		m.PrevValue = fmt.Sprint(g.IntN(4))
	}
	if g.IntN(8) == 0 {
		m.PrevIndex = g.Uint64N(40)
	}
	if g.IntN(3) == 0 {
		m.Expiration = now + g.Int64N(12)*second
	}
	return m
}
