package state_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wire"
)

// decisive is a log in which whether a write happens depends on every change of users and roles before it.
func decisive() []command.Command {
	return number(1, 1, mustParse(
		"user add root x", "user grant root root", "role add r", "role grant r readwrite a c", "user add ann x", "user grant ann r", "grant 7 60", "enable",
		"as ann 7 put a 1",
		"as root 7 put z 1 lease=7",
		"as ann 7 put b 1 lease=7",
		"as root 7 role grant r write z",
		"as ann 7 put b 2",
		"as ann 8 put b 3 lease=7",
		"as ann 8 txn mod(a) 2 ; put z 2 ; put c 1",
		"as root 8 role grant r readwrite c +",
		"as ann 9 txn mod(a) 2 ; put z 3 ; put c 1",
		"as root 9 user add bob x",
		"as ann 9 put a 3",
		"as bob 10 put a 4",
		"as root 10 user grant bob r",
		"as bob 11 put a 5",
		"as root 11 role revoke r a c",
		"as bob 12 put a 6",
		"as bob 12 del c d",
		"as root 12 user password ann y",
		"as ann 12 put d 1",
		"as ann 13 revoke 7",
		"as root 13 user revoke ann r",
		"as ann 14 put d 2",
		"as root 14 role delete r",
		"as bob 15 put d 3",
		"as root 15 disable",
		"put d 4",
		"enable",
		"put d 5",
		"as root 16 put d 6",
	))
}

// run is everything in which two members must agree at the end of a log.
type run struct {
	results []string
	content string
	hash    string
	view    string // with the hash of the authentication state
}

func (o *run) finish(r *rig) {
	r.settle()
	o.content, o.hash, o.view = r.content(), r.hash(), showView(r, r.machine.View())
	r.close()
}

func undisturbed(t *testing.T, log []command.Command) run {
	r := newRig(t, vfs.NewMem())
	var o run
	o.results, _ = r.apply(log)
	o.finish(r)
	return o
}

// TestMembersAgreeAfterRestart is etcd's bug 11651: a member that was restarted had another authentication revision than the
// others, so it refused writes that they applied. One member stops after every entry in turn, once cleanly and once without
// power, when it has to apply again what was not durable.
func TestMembersAgreeAfterRestart(t *testing.T) {
	log := decisive()
	want := undisturbed(t, log)
	t.Log(want.results)
	for at := range log {
		for _, power := range []bool{true, false} {
			r := newRig(t, vfs.NewCrashableMem())
			results, _ := r.apply(log[:at])
			if power {
				r.reopen()
			} else {
				fs := r.fs.CrashClone(vfs.CrashCloneCfg{})
				require.NoError(t, r.engine.CloseDirty())
				r.fs = fs
				r.open()
			}
			back := int(r.machine.Applied().Index)
			again, _ := r.apply(log[back:])
			got := run{results: append(results[:back], again...)}
			got.finish(r)
			require.Equal(t, want, got, "stopped after entry %d, power %t", at, power)
		}
	}
}

// TestMembersAgreeAfterSnapshot is etcd's bug 14571, and 13883 before it: a member that had received a snapshot did not work
// out what the users in it may do, so it refused writes that the others applied. A new member gets a snapshot taken after
// every entry in turn, and the log from there.
func TestMembersAgreeAfterSnapshot(t *testing.T) {
	log := decisive()
	want := undisturbed(t, log)
	for at := range log {
		leader := newRig(t, vfs.NewMem())
		results, _ := leader.apply(log[:at])
		require.NoError(t, leader.engine.Checkpoint("sent"))
		joined := &rig{TB: t, fs: leader.fs}
		var err error
		joined.engine, err = storage.Open("sent", storage.Options{FS: leader.fs, MemTableBytes: 1 << 20})
		require.NoError(t, err)
		joined.machine, err = state.Open(joined.engine, config)
		require.NoError(t, err)
		require.Equal(t, leader.machine.View().Auth.Hash(), joined.machine.View().Auth.Hash())
		leader.close()
		rest, _ := joined.apply(log[at:])
		got := run{results: append(results, rest...)}
		got.finish(joined)
		require.Equal(t, want, got, "snapshot after entry %d", at)
	}
}

// TestKindsInNobodysName: while authentication is enabled, only what members do themselves takes effect in nobody's name.
func TestKindsInNobodysName(t *testing.T) {
	passes := map[command.Kind]bool{command.Empty: true, command.Compaction: true, command.LeaseGrant: true, command.LeaseCheckpoint: true,
		command.Alarm: true, command.MemberAttributes: true, command.ClusterVersion: true, command.DowngradeInfo: true, command.ConfChange: true,
		command.Authenticate: true, command.AuthStatus: true, command.Unknown: true, command.V2: true}
	for _, row := range command.Table() {
		r := newRig(t, vfs.NewMem())
		log := append(mustParse("user add root x", "user grant root root", "enable"), command.Command{Kind: row.Kind})
		results, _ := r.apply(number(1, 1, log))
		refused := results[3] == "UserEmpty rev 1"
		require.Equal(t, !passes[row.Kind], refused, "%s: %s", row.Name, results[3])
		r.close()
	}
}

// TestAuthenticatedPutAllocates: deciding a put of a user costs no memory.
func TestAuthenticatedPutAllocates(t *testing.T) {
	allocations := func(last string) float64 {
		r := newRig(t, vfs.NewMem())
		defer r.close()
		r.apply(number(1, 1, mustParse("user add root x", "user grant root root", "role add r", "role grant r readwrite a c", "user add ann x",
			"user grant ann r", "put a 1", last)))
		c := cmd(command.Put, &wire.PutRequest{Key: []byte("a"), Value: []byte("v"), PrevKV: true})
		c.Username, c.AuthRevision = "ann", 1<<40
		cmds, results := []command.Command{c}, make([]command.Result, 1)
		next := r.machine.Applied().Index
		return testing.AllocsPerRun(500, func() {
			next++
			cmds[0].Index, cmds[0].Term = next, 1
			if _, err := r.machine.Apply(cmds, results); err != nil || results[0].Err != nil {
				t.Error(err, results[0].Err)
			}
		})
	}
	without, with := allocations("empty"), allocations("enable")
	require.Equal(t, without, with)
}
