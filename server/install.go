package server

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate.dev/quorate/snapshot"
	"quorate.dev/quorate/wal"
)

func pendingInstall(d *dataDir) (*snapshot.Manifest, error) {
	return snapshot.Pending(vfs.Default, d.path)
}

// install carries out an intended install: first the log continues after the snapshot, then the snapshot's files become the
// store. Each step may be repeated, so a crash between them does no harm: as long as the intention is there, the store and
// the log are not looked at by anything else.
func install(d *dataDir, m *snapshot.Manifest) error {
	if err := resetLog(d, m); err != nil {
		return fmt.Errorf("install the snapshot at index %d: %w", m.Index, err)
	}
	return snapshot.Swap(vfs.Default, d.path, d.store)
}

// resetLog makes the log continue after the snapshot. Nothing is lost when it does already: the member wrote nothing after
// it had decided to install.
func resetLog(d *dataDir, m *snapshot.Manifest) error {
	log, replay, err := wal.Open(d.log, wal.Options{}, m.Index)
	if err != nil { // it ends before the snapshot
		if log, replay, err = wal.OpenWhole(d.log, wal.Options{}); err != nil {
			return err
		}
	}
	// The vote must outlive the reset: this member must not vote twice in a term.
	hard := &raftpb.HardState{Term: replay.HardState.Term, Vote: replay.HardState.Vote, Commit: proto.Uint64(uint64(m.Index))}
	if hard.GetTerm() < uint64(m.Term) {
		hard.Term, hard.Vote = proto.Uint64(uint64(m.Term)), proto.Uint64(0)
	}
	err = log.Install(hard, m.Index, m.Term)
	return errors.Join(err, log.Close())
}
