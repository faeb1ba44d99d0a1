package state_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

func lines(t testing.TB, first ids.Index, text ...string) []command.Command {
	t.Helper()
	var log []command.Command
	for _, line := range text {
		c, err := parse(line)
		require.NoError(t, err, line)
		log = append(log, c)
	}
	return number(first, 1, log)
}

// TestEveryKindIsHandled gives every kind of the table, and numbers that are no kind, to a machine.
func TestEveryKindIsHandled(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.close()
	var log []command.Command
	for _, row := range command.Table() {
		log = append(log, command.Command{Kind: row.Kind})
	}
	log = append(log, command.Command{Kind: 200})
	results, _ := r.apply(number(1, 1, log))
	require.Len(t, results, len(log))
	require.Equal(t, results[command.Unknown], results[len(log)-1])
}

// TestAlarmsDenyAsTheTableSays raises each alarm and gives every kind a request that is good otherwise.
func TestAlarmsDenyAsTheTableSays(t *testing.T) {
	good := map[command.Kind]string{
		command.Put: "put a 1", command.DeleteRange: "del a", command.Txn: "txn ; put a 1", command.Compaction: "compact 2",
		command.LeaseGrant: "grant 8 10", command.LeaseRevoke: "revoke 7", command.LeaseCheckpoint: "checkpoint 7 1",
		command.Alarm: "alarm get 0 0", command.MemberAttributes: "attributes 161 n", command.ClusterVersion: "version 3.7.0",
		command.DowngradeInfo: "downgrade", command.ConfChange: "update 161 http://a:1", command.Empty: "empty",
		command.AuthEnable: "enable", command.AuthDisable: "disable", command.AuthUserAdd: "user add u x",
		command.AuthUserDelete: "user delete root", command.AuthUserChangePassword: "user password root x",
		command.AuthUserGrantRole: "user grant root r", command.AuthUserRevokeRole: "user revoke root root",
		command.AuthRoleAdd: "role add q", command.AuthRoleDelete: "role delete r", command.AuthRoleGrantPermission: "role grant r read k",
		command.AuthRoleRevokePermission: "role revoke r a", command.Authenticate: "raw Empty", command.AuthStatus: "raw AuthStatus",
		command.AuthUserGet: "user get root", command.AuthUserList: "user list", command.AuthRoleGet: "role get r", command.AuthRoleList: "raw AuthRoleList", command.V2: "v2 PUT /1/a b",
	}
	for _, row := range command.Table() {
		if row.Kind == command.Unknown {
			continue
		}
		for _, alarm := range []struct {
			kind   string
			denies bool
			with   error
		}{{"1", row.DeniedByNoSpace, fault.NoSpace}, {"2", row.DeniedByCorrupt, fault.Corrupt}} {
			r := newRig(t, vfs.NewMem())
			log := lines(t, 1, "add 161 http://a:1", "grant 7 60", "put a 1", "user add root x", "user grant root root", "role add r",
				"role grant r read a", "alarm activate 5 "+alarm.kind, good[row.Kind])
			last := len(log) - 1
			results := make([]command.Result, len(log))
			effects, err := r.machine.Apply(log, results)
			require.NoError(t, err)
			if effects.Compacted != nil {
				require.NoError(t, effects.Compacted.Frozen.Close())
			}
			if alarm.denies {
				require.ErrorIs(t, results[last].Err, alarm.with, row.Name)
			} else {
				require.NoError(t, results[last].Err, row.Name)
			}
			r.close()
		}
	}
}

func TestResultsOfEntriesAppliedBefore(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.close()
	log := lines(t, 1, "put a 1", "put a 2")
	r.apply(log)
	before := r.machine.View()
	results, effects := r.apply(log)
	require.Equal(t, []string{"ok rev 3", "ok rev 3"}, results)
	require.Empty(t, showEffects(&effects))
	require.Same(t, before, r.machine.View(), "nothing new, no new view")
	require.Equal(t, storage.Mark{Index: 2, Term: 1}, r.machine.Applied())
}

func TestApplyRefusesGaps(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.close()
	r.apply(lines(t, 1, "empty"))
	require.PanicsWithValue(t, "BUG: entry 3 of term 1 is applied after entry 1@1", func() { r.apply(lines(t, 3, "empty")) })
	require.Panics(t, func() { r.apply(number(2, 0, lines(t, 1, "empty"))) }, "a lower term")
	require.Panics(t, func() { _, _ = r.machine.Apply(make([]command.Command, 1), nil) })
}

// TestViewsAreOfOneInstant reads views while a batch after the other changes keys, leases and alarms together.
func TestViewsAreOfOneInstant(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.close()
	r.apply(lines(t, 1, "empty"))
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			var last ids.Index
			for {
				select {
				case <-stop:
					return
				default:
				}
				v := r.machine.View()
				resp, err := v.Range(&wire.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
				if errors.Is(err, mvcc.Stale) {
					continue
				}
				leased := v.Leases.KeyCount(7)
				// Each round of three commands ends with as many keys as alarms as attached keys.
				if err != nil || v.Applied < last || len(resp.KVs) != leased || len(v.Alarms) != leased {
					t.Errorf("view of %d after %d: %v, %d keys, %d attached, %d alarms", v.Applied, last, err, len(resp.KVs), leased, len(v.Alarms))
					return
				}
				last = v.Applied
			}
		}()
	}
	index := ids.Index(2)
	for round := range 300 {
		n := round % 5
		batch := []string{"grant 7 60", fmt.Sprintf("put k%d v lease=7", n), fmt.Sprintf("alarm activate %d 9", n)}
		if n == 4 {
			batch = []string{"revoke 7", "alarm deactivate 0 9", "alarm deactivate 1 9", "alarm deactivate 2 9", "alarm deactivate 3 9", fmt.Sprintf("compact %d", r.machine.View().Revision())}
		}
		r.apply(lines(t, index, batch...))
		index += ids.Index(len(batch))
		r.settle()
	}
	close(stop)
	readers.Wait()
}

// TestAlarmViewsDoNotChange keeps every view of a row of changes and looks at them at the end.
func TestAlarmViewsDoNotChange(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.close()
	var views []*state.View
	var shown []string
	index := ids.Index(1)
	for _, line := range []string{"activate 5 1", "activate 3 1", "activate 4 1", "deactivate 3 1", "activate 1 1", "deactivate 5 1", "activate 2 1"} {
		r.apply(lines(t, index, "alarm "+line))
		index++
		v := r.machine.View()
		views, shown = append(views, v), append(shown, fmt.Sprint(v.Alarms))
	}
	for i, v := range views {
		require.Equal(t, shown[i], fmt.Sprint(v.Alarms))
	}
	require.Equal(t, "[{1 1} {2 1} {4 1}]", shown[6])
}

// TestDiskFailureIsFinal makes every write of the engine fail from some point on: the machine says so and stays as it was.
func TestDiskFailureIsFinal(t *testing.T) {
	mem := vfs.NewMem()
	var broken errorfs.Toggle
	broken.Injector = errorfs.ErrInjected.If(errorfs.Writes)
	e, err := storage.Open("db", storage.Options{FS: errorfs.Wrap(mem, &broken), MemTableBytes: 1 << 20})
	require.NoError(t, err)
	m, err := state.Open(e, config)
	require.NoError(t, err)
	_, err = m.Apply(lines(t, 1, "put a 1"), make([]command.Result, 1))
	require.NoError(t, err)
	broken.On()
	require.Error(t, e.Flush())
	before := m.View()
	for range 2 {
		_, err = m.Apply(lines(t, 2, "put a 2"), make([]command.Result, 1))
		require.ErrorContains(t, err, "injected error")
	}
	_, err = m.Background(1)
	require.ErrorContains(t, err, "injected error")
	require.Same(t, before, m.View())
	require.Equal(t, ids.Index(1), m.Applied().Index)
	require.Error(t, e.CloseDirty())
}

func TestOpenRefusesDamage(t *testing.T) {
	for name, rec := range map[string][2]string{
		"key":      {"kx", ""},
		"lease":    {"lx", ""},
		"member":   {"Mx", ""},
		"alarm":    {"a\xff", ""},
		"revision": {"mscheduledCompactRev", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := storage.Open("db", storage.Options{FS: vfs.NewMem()})
			require.NoError(t, err)
			defer func() { require.NoError(t, e.Close()) }()
			b := e.NewBatch()
			b.Set([]byte(rec[0]), []byte(rec[1]))
			require.NoError(t, e.Commit(b, storage.Mark{Index: 1, Term: 1}))
			_, err = state.Open(e, config)
			require.ErrorContains(t, err, "the store is damaged")
		})
	}
}

func TestConfig(t *testing.T) {
	e, err := storage.Open("db", storage.Options{FS: vfs.NewMem()})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	for _, ttl := range []int64{-1, limits.LeaseTTLSecondsMax + 1} {
		_, err := state.Open(e, state.Config{LeaseTTLMin: ttl})
		require.ErrorContains(t, err, "the shortest lease")
	}
	_, err = state.Open(e, state.Config{})
	require.NoError(t, err)
}

// TestImage takes an image and changes the state behind it.
func TestImage(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.close()
	r.apply(lines(t, 1, "put a 1", "grant 7 60", "add 161 http://a:1"))
	image, hash := r.machine.Image(), r.hash()
	content := r.content()
	r.apply(lines(t, 4, "put b 1", "revoke 7", "compact 2"))
	r.settle()
	require.Equal(t, content, dump(t, image.Frozen, nil, nil))
	require.Equal(t, storage.Mark{Index: 3, Term: 1}, image.Mark())
	h, err := image.Hash(0)
	require.NoError(t, err)
	require.Equal(t, hash, fmt.Sprintf("%08x at %d, compacted %d", h.Hash, h.Revision, h.Compacted))
	require.NoError(t, image.Close())
}

// TestCompactionIsFrozenBeforeTheScrub hashes what a compaction effect holds after everything was removed.
func TestCompactionIsFrozenBeforeTheScrub(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.close()
	r.apply(lines(t, 1, "put a 1", "put a 2", "put a 3"))
	all := r.hash() // of everything up to 4
	log := lines(t, 4, "compact 4")
	effects, err := r.machine.Apply(log, make([]command.Result, 1))
	require.NoError(t, err)
	r.settle()
	c := effects.Compacted
	require.Equal(t, []ids.Revision{-1, 4}, []ids.Revision{c.Previous, c.At})
	h, err := mvcc.HashOf(c.Frozen, c.Previous, c.At)
	require.NoError(t, err)
	require.Equal(t, all, fmt.Sprintf("%08x at %d, compacted %d", h.Hash, h.Revision, h.Compacted))
	require.NoError(t, c.Frozen.Close())
}

func TestRetainedBytes(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.close()
	r.apply(lines(t, 1, "grant 7 60", "put a 1", "put a 2"))
	full := r.machine.View().RetainedBytes()
	r.apply(lines(t, 4, "compact 3", "revoke 7"))
	require.Equal(t, full-limits.QuotaCostLease, r.machine.View().RetainedBytes())
	r.settle()
	require.Equal(t, (full-limits.QuotaCostLease)/2, r.machine.View().RetainedBytes())
}

// putBatch is a batch of n puts of 256 bytes over existing keys.
func putBatch(first ids.Index, n int) []command.Command {
	var log []command.Command
	for i := range n {
		log = append(log, cmd(command.Put, &wire.PutRequest{Key: fmt.Appendf(nil, "key-%06d", i), Value: make([]byte, 256)}))
	}
	return number(first, 1, log)
}

// TestAllocationsOfPuts holds plain puts to a budget: per put the version, its bytes, and the event, and little per batch.
func TestAllocationsOfPuts(t *testing.T) {
	const n = 100
	r := newRig(t, vfs.NewMem())
	defer r.close()
	log, results := putBatch(1, n), make([]command.Result, n)
	apply := func() {
		_, err := r.machine.Apply(log, results)
		require.NoError(t, err)
		number(log[n-1].Index+1, 1, log)
	}
	for range 10 { // keys exist and buffers have grown
		apply()
	}
	if got := testing.AllocsPerRun(50, apply) / n; got > 3.3 {
		t.Errorf("%.2f allocations a put, the budget is 3.3", got)
	}
}

func BenchmarkApplyPuts(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			r := newRig(b, vfs.NewMem())
			defer r.close()
			log, results := putBatch(1, n), make([]command.Result, n)
			b.ReportAllocs()
			for i := 0; i < b.N; i += n {
				if _, err := r.machine.Apply(log, results); err != nil {
					b.Fatal(err)
				}
				number(log[n-1].Index+1, 1, log)
			}
		})
	}
}
