package state_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// edit changes records of the engine as the bytes say: which record, counted from the first, what to do with it, and with what. A record that
// is added gets a bucket of its own choice.
func edit(t *testing.T, e *storage.Engine, data []byte) {
	var keys, values [][]byte
	it, err := e.Iter(nil, nil)
	require.NoError(t, err)
	for ok := it.First(); ok; ok = it.Next() {
		keys, values = append(keys, append([]byte(nil), it.Key()...)), append(values, append([]byte(nil), it.Value()...))
	}
	require.NoError(t, it.Close())
	b := e.NewBatch()
	for len(data) >= 4 {
		i, what, n := int(data[0])%len(keys), data[1]%6, int(data[2])
		at := int(data[3])
		data = data[4:]
		with := data[:min(n, len(data))]
		data = data[len(with):]
		key, value := append([]byte(nil), keys[i]...), append([]byte(nil), values[i]...)
		switch what {
		case 0:
			b.Delete(key)
		case 1:
			b.Set(key, with)
		case 2: // bytes of the value
			if len(value) > 0 {
				copy(value[at%len(value):], with)
				b.Set(key, value)
			}
		case 3: // bytes of the key, but for its bucket
			if len(key) > 1 {
				copy(key[1+at%(len(key)-1):], with)
				b.Set(key, value)
			}
		case 4: // cut short
			if len(value) > 0 {
				b.Set(key, value[:at%len(value)])
			}
		default:
			b.Set(append(key[:1:1], with...), value)
		}
	}
	require.NoError(t, e.Commit(b, storage.Mark{Index: e.Applied().Index + 1, Term: e.Applied().Term}))
}

// goOn reads everything, applies commands, and does all housekeeping. What is damaged may be found out only now.
func goOn(m *state.Machine, log []command.Command) error {
	if _, err := m.View().Range(&wire.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}); err != nil {
		return err
	}
	effects, err := m.Apply(log, make([]command.Result, len(log)))
	if err != nil {
		return err
	}
	if effects.Compacted != nil {
		if err := effects.Compacted.Frozen.Close(); err != nil {
			return err
		}
	}
	for more := true; more; {
		if more, err = m.Background(3); err != nil {
			return err
		}
	}
	return nil
}

// FuzzOpen opens a state some of whose records are damaged, and wants an error or a state that can be read and go on.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{3, 2, 2, 1, 0xff, 0xff})
	f.Add([]byte{9, 4, 0, 3, 12, 3, 1, 9, 7})
	f.Add([]byte{14, 5, 3, 0, 'x', 'y', 'z', 2, 1, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newRig(t, vfs.NewMem())
		r.apply(number(1, 1, someState()))
		edit(t, r.engine, data)
		r.close()
		var err error
		r.engine, err = storage.Open("db", storage.Options{FS: r.fs, MemTableBytes: 1 << 20})
		if err != nil {
			return
		}
		defer r.close()
		if r.machine, err = state.Open(r.engine, config); err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		log := someState()
		mark := r.machine.Applied()
		for i := range log {
			log[i].Index, log[i].Term = mark.Index+1+ids.Index(i), mark.Term
		}
		if goOn(r.machine, log) == nil {
			_ = goOn(r.machine, nil)
		}
		image := r.machine.Image()
		_, _ = image.Hash(0) // of damaged records an error, but no panic
		require.NoError(t, image.Close())
	})
}
