package state_test

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/wire"
)

// pack writes commands in the form that unpack reads: kind, length in two bytes, body.
func pack(cmds []command.Command) []byte {
	var out []byte
	for _, c := range cmds {
		out = append(out, byte(c.Kind), byte(len(c.Body)>>8), byte(len(c.Body)))
		out = append(out, c.Body...)
	}
	return out
}

// wholeEntry in place of a kind says that the body is an entry of the log, to be decoded first.
const wholeEntry = 0xff

func unpack(b []byte) []command.Command {
	var out []command.Command
	for len(b) >= 3 && len(out) < 50 {
		kind, n := b[0], int(b[1])<<8|int(b[2])
		b = b[3:]
		body := b[:min(n, len(b))]
		b = b[len(body):]
		c := command.Command{Kind: command.Kind(kind), Body: body}
		if kind == wholeEntry {
			var err error
			if c, err = command.Decode(body); err != nil {
				continue
			}
		}
		out = append(out, c)
	}
	return out
}

// someState is what every input finds.
func someState() []command.Command {
	return mustParse(
		"add 161 http://a:2380 name=a", "add 162 http://b:2380 learner", "grant 1 60", "grant 2 60", "put k01 v lease=1", "put k02 v",
		"put k03 v lease=2", "put k02 w", "del k03", "compact 3",
		"user add root x", "user grant root root", "role add r0", "role grant r0 write k02", "user add u0 x", "user grant u0 r0",
	)
}

// FuzzApply applies whatever bytes a log may hold, once as one batch and once as many with a restart, and wants no panic and
// no difference.
func FuzzApply(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		f.Add(pack(randomLog(r, 1+r.IntN(8))))
	}
	entry := command.AppendEntry(nil, 7, command.Put, (&wire.PutRequest{Key: []byte("k")}).Append(nil))
	f.Add(append([]byte{wholeEntry, 0, byte(len(entry))}, entry...))
	f.Add(pack(randomAuthLog(r, 40)))
	entry = command.AppendEntryAs(nil, 8, "u0", 9, command.DeleteRange, (&wire.DeleteRangeRequest{Key: []byte("k02"), PrevKV: true}).Append(nil))
	f.Add(append(pack(mustParse("enable")), append([]byte{wholeEntry, 0, byte(len(entry))}, entry...)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		log := number(1, 1, append(someState(), unpack(data)...))
		one, many := newRig(t, vfs.NewMem()), newRig(t, vfs.NewMem())
		want, _ := one.apply(log)
		var got []string
		for i := range log {
			results, _ := many.apply(log[i : i+1])
			got = append(got, results...)
			if i == len(log)/2 {
				many.settle()
			}
		}
		require.Equal(t, want, got)
		require.Equal(t, showView(t, one.machine.View()), showView(t, many.machine.View()))
		one.settle()
		many.settle()
		many.reopen()
		require.Equal(t, showView(t, one.machine.View()), showView(t, many.machine.View()))
		require.Equal(t, one.content(), many.content())
		require.Equal(t, one.hash(), many.hash())
		one.close()
		many.close()
	})
}
