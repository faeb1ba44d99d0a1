package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/config"
	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/snapshot"
	"quorate.dev/quorate/storage"
	"quorate.dev/quorate/wal"
	"quorate.dev/quorate/wire"
)

// healName is the file in a data directory that says that the store is to be replaced by that of the others.
const healName = "heal.json"

// healing is what the file says.
type healing struct {
	Peers []string `json:"peers"` // URLs of the other members, as the old store knows them
	Done  bool     `json:"done"`  // the new store is in place; what is left is to take back the alarm
}

// Heal marks the data directory of a stopped member, so that its next start throws its store away and takes that of the leader.
// Identity, vote and log stay, so the member is the same to the others and nothing that it acknowledged is lost. It returns a
// text that says what happens next. Errors: the directory is in use or holds no member, or the member is the only one.
func Heal(m config.Member, logger *zap.Logger) (string, error) {
	if _, err := os.Stat(m.DataDir); err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	d, err := openDataDir(m, logger)
	if err != nil {
		return "", err
	}
	defer func() { _ = d.Close() }()
	if !wal.Exists(vfs.Default, d.log) {
		return "", fmt.Errorf("there is no log in %s: %s is not the data directory of a member (or its log is elsewhere: give --wal-dir)", d.log, d.path)
	}
	log, replay, err := wal.OpenWhole(d.log, wal.Options{})
	if err != nil {
		return "", fmt.Errorf("the log must be whole, because it holds what this member has promised to others; remove this member from the cluster and add it anew: %w", err)
	}
	self := replay.Metadata.Member
	if err := log.Close(); err != nil {
		return "", err
	}
	peers, err := storedPeers(d, self)
	text := fmt.Sprintf("The next start of the member in %s takes its data from the leader. The store that is there now is removed then.\n", d.path)
	switch {
	case err != nil:
		text += fmt.Sprintf("Its store cannot be read (%v), so the others are looked for at the addresses of --initial-cluster.\n", err)
	case len(peers) == 0:
		return "", fmt.Errorf("member %s in %s is the only one of its cluster: there is nobody to take its data from; restore it from a backup", self, d.path)
	}
	return text, d.writeHealing(&healing{Peers: peers})
}

// storedPeers are the peer URLs of the other members, as the store knows them.
func storedPeers(d *dataDir, self ids.MemberID) (urls []string, err error) {
	e, err := storage.Open(d.store, storage.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	table, err := member.Open(e, 0)
	if err != nil {
		return nil, err
	}
	for _, m := range table.View().Members() {
		if m.ID != self {
			urls = append(urls, m.PeerURLs...)
		}
	}
	return urls, nil
}

func (d *dataDir) readHealing() (*healing, error) {
	b, err := os.ReadFile(filepath.Join(d.path, healName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	h := &healing{}
	if err == nil {
		err = json.Unmarshal(b, h)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: remove it to start with the store as it is, or run \"quorate heal\" again", filepath.Join(d.path, healName), err)
	}
	return h, nil
}

// writeHealing replaces the file, durably; nil removes it.
func (d *dataDir) writeHealing(h *healing) (err error) {
	name := filepath.Join(d.path, healName)
	if h == nil {
		err = os.Remove(name)
	} else {
		var b []byte
		if b, err = json.Marshal(h); err != nil {
			return err
		}
		err = errors.Join(writeSynced(name+".new", b), os.Rename(name+".new", name))
	}
	dir, opening := os.Open(d.path)
	if opening != nil {
		return errors.Join(err, opening)
	}
	return errors.Join(err, dir.Sync(), dir.Close())
}

func writeSynced(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// position is a place in the log of the group.
type position struct {
	Index ids.Index
	Term  ids.Term
	Least ids.Index // everything up to here is committed
}

// covers says whether a member whose log ends at p may go on with nothing but the state after the entry (index, term), which is
// committed. It may if that is at or after p in the order by which raft compares logs: then every entry that it gives up is
// either part of that state, or was passed over when the entry's term began and can never be committed.
func (p position) covers(index ids.Index, term ids.Term) bool {
	return index >= p.Least && (term > p.Term || term == p.Term && index >= p.Index)
}

// endOfLog is where this member's log ends, and who it is.
func (d *dataDir) endOfLog() (position, wal.Metadata, error) {
	from, err := wal.Span(d.log, wal.Options{})
	if err != nil {
		return position{}, wal.Metadata{}, err
	}
	log, replay, err := wal.Open(d.log, wal.Options{}, from)
	if err != nil {
		return position{}, wal.Metadata{}, err
	}
	p := position{Least: max(from, ids.Index(replay.HardState.GetCommit()))} // what the log has let go of was applied
	if n := len(replay.Entries); n > 0 {
		p.Index, p.Term = ids.Index(replay.Entries[n-1].GetIndex()), ids.Term(replay.Entries[n-1].GetTerm())
	}
	return p, replay.Metadata, log.Close()
}

// heal fetches the leader's state when this member is marked to be healed, before anything of it is opened. It returns when that is to
// be installed; until then this member takes no part in anything, so it waits for as long as it takes to find a leader.
func (s *Server) heal(ctx context.Context) error {
	h, err := s.dir.readHealing()
	if h == nil || err != nil || h.Done {
		return err
	}
	pending, err := pendingInstall(s.dir)
	if err != nil {
		return err
	}
	if pending == nil { // else a whole snapshot is there already
		if err := s.fetchState(ctx, h); err != nil {
			return err
		}
	}
	h.Done = true
	return s.dir.writeHealing(h)
}

func (s *Server) fetchState(ctx context.Context, h *healing) error {
	end, me, err := s.dir.endOfLog()
	if err != nil {
		return fmt.Errorf("heal this member: %w", err)
	}
	depot, err := snapshot.New(snapshot.Options{Dir: s.dir.path, Checkpoint: func(string) (*raftpb.SnapshotMetadata, error) { return nil, errors.ErrUnsupported }})
	if err != nil {
		return err
	}
	peers := slices.Clone(h.Peers)
	if founders, err := s.cfg.Founders(); err == nil {
		own := config.URLStrings(s.cfg.Cluster.AdvertisePeer)
		for _, f := range founders {
			for _, u := range f.PeerURLs {
				if !slices.Contains(own, u) && !slices.Contains(peers, u) {
					peers = append(peers, u)
				}
			}
		}
	}
	s.logger.Warn("healing this member: its store is replaced by the leader's", zap.Stringer("local-member-id", me.Member), zap.Strings("peers", peers),
		zap.Uint64("log-ends-at", uint64(end.Index)), zap.Uint64("of-term", uint64(end.Term)))
	again := clock.Real().NewTicker(limits.HealRetry)
	defer again.Stop()
	for {
		for _, url := range peers {
			f := &fetcher{url: url, me: me, tls: s.secure.peer.Client()}
			meta, err := f.fetch(ctx, depot, end)
			if err == nil {
				s.logger.Info("fetched the leader's store", zap.String("from", url), zap.Uint64("index", meta.GetIndex()))
				return depot.Install(meta)
			}
			s.logger.Warn("could not fetch the store from a member, trying others", zap.String("from", url), zap.Error(err))
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// finishHealing takes back the alarm that named this member, once it serves again.
func (s *Server) finishHealing(ctx context.Context) error {
	h, err := s.dir.readHealing()
	if h == nil || err != nil {
		return err
	}
	id := s.core.identity.member
	for slices.Contains(s.core.machine.View().Alarms, wire.AlarmMember{MemberID: uint64(id), Alarm: wire.AlarmCorrupt}) {
		done := make(answer, 1)
		s.core.host.ProposeMessage(command.Alarm, &wire.AlarmRequest{Action: wire.AlarmDeactivate, MemberID: uint64(id), Alarm: wire.AlarmCorrupt}, done)
		select {
		case err = <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if errors.Is(err, fault.Stopped) {
			return err
		}
		if err != nil {
			s.logger.Warn("could not take back the alarm of this member, which is healed; trying again", zap.Error(err))
		}
	}
	s.logger.Info("this member is healed", zap.Stringer("local-member-id", id))
	return s.dir.writeHealing(nil)
}
