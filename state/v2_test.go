package state_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"quorate.dev/quorate/auth"
	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/state"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// keysOf are the v3 keys and their values.
func keysOf(r *rig) map[string]string {
	r.Helper()
	resp, err := r.machine.View().Range(&wire.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	require.NoError(r, err)
	keys := map[string]string{}
	for _, kv := range resp.KVs {
		keys[string(wire.KeyOf(kv))] = string(wire.ValueOf(kv))
	}
	return keys
}

// agree checks what shared mode promises: every file is a v3 key with the same value, and every v3 key that is a path is such a file,
// unless a directory is in its place or a file is where one of its directories would be.
func agree(r *rig) {
	r.Helper()
	v := r.machine.View().V2
	if v.Mode() != v2store.Shared {
		return
	}
	keys, files := keysOf(r), map[string]string{}
	v.Files(v2store.Keys, func(path, value string) bool { files[v2store.KeyOf(path)] = value; return true })
	for key, value := range files {
		if was, ok := keys[key]; !ok || was != value {
			r.Fatalf("the file %s is %q, the key %q, %t", key, value, was, ok)
		}
	}
	for key := range keys {
		path, ok := v2store.PathOf([]byte(key))
		if _, shown := files[key]; !ok || shown {
			continue
		}
		blocked := v.IsDir(path)
		for i := 1; i < len(key); i++ {
			_, file := files[key[:i]]
			blocked = blocked || key[i] == '/' && file
		}
		if !blocked {
			r.Fatalf("nothing keeps %s from being shown", key)
		}
	}
}

// TestSharedModeAgrees applies random requests of both APIs and compares the keys with the files after each. The events of both
// must tell what happened: a file is what its last event says.
func TestSharedModeAgrees(t *testing.T) {
	modes := map[v2store.Mode]int{}
	for range 6 {
		rnd := seeded(t)
		r := newRig(t, vfs.NewMem())
		told := map[string]string{}
		index := r.machine.View().V2.Index()
		log := randomV2Log(rnd, 1500)
		for i := range log {
			if rnd.IntN(40) == 0 {
				r.reopen()
			}
			_, effects := r.apply(log[i : i+1])
			agree(r)
			modes[r.machine.View().V2.Mode()]++
			for _, e := range effects.V2 {
				require.Equal(t, index+1, e.Index, "indices have no gaps")
				index = e.Index
				hear(told, e)
			}
			if len(effects.V2) == 0 { // what a store that was never asked takes from the members is no event
				index = r.machine.View().V2.Index()
			}
			files := map[string]string{}
			r.machine.View().V2.Files("/", func(path, value string) bool { files[path] = value; return true })
			require.Equal(t, files, told, "after command %d", i)
		}
		r.close()
	}
	t.Logf("commands by mode: %v", modes)
	require.Greater(t, modes[v2store.Shared], 200)
}

// TestRefreshToADirectory: a refresh that makes a directory of a file takes the key away, which would be neither shown nor kept until it
// can be when the directory expires.
func TestRefreshToADirectory(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.close()
	yes, later := true, v2Epoch+5*second
	r.apply(lines(t, 1, "v2 MODE shared", "v2 PUT /1/a-b 0"))
	r.apply(number(3, 1, []command.Command{
		cmd(command.V2, &wire.V2Request{Method: "PUT", Path: "/1/a-b", Dir: true, Refresh: &yes, Time: v2Epoch, Expiration: later}),
	}))
	agree(r)
	require.NotContains(t, keysOf(r), "/a-b")
	r.apply(number(4, 1, []command.Command{cmd(command.V2, &wire.V2Request{Method: "SYNC", Time: later + second})}))
	agree(r)
	require.False(t, r.machine.View().V2.IsDir("/1/a-b"))
}

// hear follows an event as a watcher of everything would.
func hear(files map[string]string, e *v2store.Event) {
	for _, gone := range e.Removed {
		delete(files, gone.Path)
	}
	switch {
	case e.Node.Dir:
		delete(files, e.Node.Key)
	case e.Node.Value != nil:
		files[e.Node.Key] = *e.Node.Value
	}
}

// TestV2AfterRestart stops after every command in turn, cleanly and without power, and compares view and history.
func TestV2AfterRestart(t *testing.T) {
	rnd := seeded(t)
	log := randomV2Log(rnd, 400)
	views := viewsOf(t, log)
	r := newRig(t, vfs.NewCrashableMem())
	for at := range log {
		r.apply(log[at : at+1])
		if rnd.IntN(2) == 0 {
			r.reopen()
		} else {
			require.NoError(t, r.engine.Flush())
			fs := r.fs.CrashClone(vfs.CrashCloneCfg{})
			require.NoError(t, r.engine.CloseDirty())
			r.fs = fs
			r.open()
		}
		require.Equal(t, views[at+1], showView(t, r.machine.View()), "after command %d", at)
	}
	r.close()
}

// TestV2AfterCheckpoint has new members join with the store of another one, taken at random places, and the log from there.
func TestV2AfterCheckpoint(t *testing.T) {
	rnd := seeded(t)
	log := randomV2Log(rnd, 600)
	views := viewsOf(t, log)
	for range 8 {
		at := rnd.IntN(len(log))
		first := newRig(t, vfs.NewMem())
		first.apply(log[:at])
		require.NoError(t, first.engine.Checkpoint("sent"))
		joined := &rig{TB: t, fs: first.fs}
		var err error
		joined.engine, err = storage.Open("sent", storage.Options{FS: first.fs, MemTableBytes: 1 << 20})
		require.NoError(t, err)
		joined.machine, err = state.Open(joined.engine, config)
		require.NoError(t, err)
		require.Equal(t, views[at], showView(t, joined.machine.View()))
		joined.apply(log[at:])
		require.Equal(t, views[len(log)], showView(t, joined.machine.View()))
		joined.close()
		first.close()
	}
}

// TestUnusedTreeHasNoRows: a store whose v2 API nobody uses keeps nothing for it.
func TestUnusedTreeHasNoRows(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.close()
	r.apply(lines(t, 1, "add 161 http://a:1", "attributes 161 n http://c", "version 3.7.0", "put /a 1"))
	require.NotContains(t, "\n"+r.content(), "\n\"v")
	require.EqualValues(t, 3, r.machine.View().V2.Index())
	r.reopen()
	require.EqualValues(t, 3, r.machine.View().V2.Index())
	results, _ := r.apply(lines(t, 5, "v2 PUT /1/foo bar"))
	require.Equal(t, []string{`ok rev 2 v2 {"action":"set","node":{"key":"/1/foo","value":"bar","modifiedIndex":4,"createdIndex":4}}`}, results)
	require.Len(t, r.machine.View().V2.History(), 4)
	require.EqualValues(t, len("/1/foo")+len("bar")+int(r.machine.View().Stats().RetainedBytes), r.machine.View().RetainedBytes())
}

// TestV2IndexOfAFounder: the first write has index 4 as in etcd, whatever came first: the v2 API or what the member tells of itself.
func TestV2IndexOfAFounder(t *testing.T) {
	log := []string{"add 161 http://a:1 name=n", "attributes 161 n http://c", "version 3.7.0"}
	for i := 1; i <= len(log); i++ {
		r := newRig(t, vfs.NewMem())
		r.apply(lines(t, 1, slices.Insert(slices.Clone(log), i, "v2 MODE shared")...))
		r.apply(lines(t, 5, "v2 PUT /1/foo bar"))
		require.EqualValues(t, 4, r.machine.View().V2.Index(), "MODE after %d entries", i)
		r.close()
	}
}

// TestV2PermissionsOfView: reads are decided like writes.
func TestV2PermissionsOfView(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.close()
	r.apply(lines(t, 1, "user add root x", "user grant root root", "role add r", "role grant r read /a", "role grant r read /d/ /d0", "user add ann x", "user grant ann r",
		"put /a 1", "put /d/x 1", "enable"))
	ann := auth.Identity{User: "ann", Revision: r.machine.View().Auth.Revision()}
	may := func(path string, below bool) error { return r.machine.View().MayReadV2(ann, path, below) }
	require.NoError(t, may("/1/b", true), "in separate mode v3's users are not asked")
	r.apply(lines(t, 11, "v2 MODE shared"))
	require.NoError(t, may("/1/a", false))
	require.ErrorIs(t, may("/1/a", true), fault.PermissionDenied)
	require.ErrorIs(t, may("/1/d", false), fault.PermissionDenied, "its own key is not allowed")
	require.NoError(t, may("/1/d/x", true), fault.PermissionDenied)
	require.ErrorIs(t, may("/1", false), fault.PermissionDenied)
	require.ErrorIs(t, may("/2/users", false), fault.PermissionDenied)
	require.ErrorIs(t, r.machine.View().MayReadV2(auth.Identity{}, "/1/a", false), fault.UserEmpty)
	root := auth.Identity{User: "root", Revision: ann.Revision}
	require.NoError(t, r.machine.View().MayReadV2(root, "/2/users", true))
	require.NoError(t, r.machine.View().MayReadV2(root, "/1", true))
}

// TestShareLargeStore shares more keys than are looked at in one piece.
func TestShareLargeStore(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.close()
	var log []command.Command
	for i := range 2500 {
		log = append(log, cmd(command.Put, &wire.PutRequest{Key: []byte("/k/" + strings.Repeat("x", i/100) + string(rune('a'+i%100))), Value: []byte("v")}))
	}
	r.apply(number(1, 1, log))
	r.apply(number(2501, 1, mustParse("v2 PUT /1/own 1", "v2 MODE shared")))
	agree(r)
	require.Equal(t, "1", keysOf(r)["/own"])
	require.Len(t, r.machine.View().V2.History(), 1000)
	r.reopen()
	agree(r)
}
