package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/mvcc"
	"quorate.dev/quorate/wire"
)

// checkAtStart compares this member's data with that of the others before it serves anybody, when the operator wants that. It
// passes over members that do not answer, or that are behind or compacted elsewhere.
func (s *Server) checkAtStart(ctx context.Context) error {
	if !s.cfg.Gates.Enabled("InitialCorruptCheck") {
		return nil
	}
	self := s.core.identity.member
	s.logger.Info("starting initial corruption check", zap.Stringer("local-member-id", self), zap.Duration("timeout", s.cfg.RequestTimeout()))
	own, err := s.hashAt(0)
	if err != nil {
		return fmt.Errorf("%s failed to fetch hash (%w)", self, err)
	}
	for _, p := range s.askHashes(ctx, own.Revision) {
		if p.err != nil || p.hash.Hash == own.Hash {
			continue
		}
		fields := append(hashFields("local-member", own), append(hashFields("remote-peer", p.hash), zap.Stringer("remote-peer-id", p.member))...)
		if p.hash.Compacted != own.Compacted {
			s.logger.Warn("found different compact revision values from remote peer", fields...)
			continue
		}
		s.logger.Error("found different hash values from remote peer", fields...)
		err = fmt.Errorf("%s found data inconsistency with peers: its hash at revision %d is %d and that of member %s is %d. "+
			"Find out which of them differs from the rest, and heal that one: stop it, run \"quorate heal\" with its --data-dir, and start it again",
			self, own.Revision, own.Hash, p.member, p.hash.Hash)
	}
	if err != nil {
		return err
	}
	s.logger.Info("initial corruption checking passed; no corruption", zap.Stringer("local-member-id", self))
	return nil
}

func hashFields(of string, h mvcc.Hash) []zap.Field {
	return []zap.Field{zap.Int64(of+"-revision", int64(h.Revision)), zap.Int64(of+"-compact-revision", int64(h.Compacted)), zap.Uint32(of+"-hash", h.Hash)}
}

// checker compares the members' data for as long as this member leads. One goroutine owns it.
type checker struct {
	s       *Server
	checked ids.Revision // compactions up to here were compared on all members
}

// startChecks begins the periodic comparisons.
func (s *Server) startChecks(context.Context) error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	c := &checker{s: s}
	go func() {
		defer close(done)
		c.run(ctx)
	}()
	s.onStop("comparisons of data", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	return nil
}

func (c *checker) run(ctx context.Context) {
	every := func(d time.Duration) <-chan time.Time {
		if d <= 0 {
			return nil
		}
		t := clock.Real().NewTicker(d)
		context.AfterFunc(ctx, t.Stop)
		return t.C
	}
	compactions := time.Duration(0)
	if c.s.cfg.Gates.Enabled("CompactHashCheck") {
		compactions = c.s.cfg.Checks.Compactions
	}
	full, cheap := every(c.s.cfg.Checks.Every), every(compactions)
	for {
		var check func(context.Context) error
		select {
		case <-ctx.Done():
			return
		case <-full:
			check = c.all
		case <-cheap:
			check = c.compactions
		}
		if st := c.s.core.host.Status(); !st.Self || len(c.s.core.machine.View().Members.Members()) < 2 {
			continue
		}
		if err := check(ctx); err != nil && ctx.Err() == nil {
			c.s.logger.Warn("failed to check hash KV", zap.Error(err))
		}
	}
}

// compactions compares what the members have hashed at compactions, which costs next to nothing. It looks at the newest
// compaction that all members have a hash of.
func (c *checker) compactions(ctx context.Context) error {
	for _, own := range c.s.core.compacts.log.Hashes() {
		if own.Revision <= c.checked {
			return nil
		}
		all := c.s.askHashes(ctx, own.Revision)
		asked := c.verdict(ctx, own, all)
		if asked == len(all) {
			c.s.logger.Info("successfully checked hash on whole cluster", zap.Int("number-of-peers-checked", asked),
				zap.Int64("revision", int64(own.Revision)), zap.Int64("compactRevision", int64(own.Compacted)))
			c.checked = own.Revision
			return nil
		}
		c.s.logger.Warn("skipped revision in compaction hash check; was not able to check all peers", zap.Int("number-of-peers-checked", asked),
			zap.Int("number-of-peers", len(all)), zap.Int64("revision", int64(own.Revision)))
	}
	return nil
}

// errChanged says that a member's own hash at one revision differs between two readings.
var errChanged = errors.New("two readings of this member's own data differ")

// all compares all data at the revision of this moment. Every member reads its whole store for that.
func (c *checker) all(ctx context.Context) error {
	own, err := c.s.hashAt(0)
	if err != nil {
		return err
	}
	all := c.s.askHashes(ctx, own.Revision)
	if err := (condition{c.s}).Read(ctx, false); err != nil {
		return fmt.Errorf("make sure that this member still leads: %w", err)
	}
	now := c.s.core.machine.View().Revision()
	for _, p := range all {
		if p.err == nil && p.current > now { // nobody can have what the leader has not
			c.s.logger.Error("revision from follower must be less than or equal to leader's", zap.Int64("leader-revision", int64(now)),
				zap.Int64("follower-revision", int64(p.current)), zap.Stringer("follower-peer-id", p.member))
			c.alarm(p.member)
		}
	}
	if differs(own, all) { // before anybody is blamed: does this member's disk say the same thing twice?
		again, err := c.s.hashAt(own.Revision)
		if err == nil && again.Compacted == own.Compacted && again.Hash != own.Hash {
			c.alarm(c.s.core.identity.member)
			return errChanged
		}
	}
	c.s.logger.Info("finished peer corruption check", zap.Int("number-of-peers-checked", c.verdict(ctx, own, all)))
	return nil
}

func differs(own mvcc.Hash, all []peerHash) bool {
	return slices.ContainsFunc(all, func(p peerHash) bool {
		return p.err == nil && p.hash.Compacted == own.Compacted && p.hash.Hash != own.Hash
	})
}

// verdict raises an alarm for every member whose hash is not that of the majority, or for the whole cluster when no hash is. It
// returns how many members were compared with.
func (c *checker) verdict(_ context.Context, own mvcc.Hash, all []peerHash) (compared int) {
	by := map[uint32][]ids.MemberID{own.Hash: {c.s.core.identity.member}}
	for _, p := range all {
		if p.err == nil && p.hash.Compacted == own.Compacted {
			by[p.hash.Hash] = append(by[p.hash.Hash], p.member)
			compared++
		}
	}
	if len(by) == 1 {
		return compared
	}
	majority := false
	var wrong []ids.MemberID
	for hash, members := range by {
		c.s.logger.Error("members' data differs", zap.Int64("revision", int64(own.Revision)), zap.Int64("compact-revision", int64(own.Compacted)),
			zap.Uint32("hash", hash), zap.Stringers("members", members), zap.Bool("majority", len(members) > (len(all)+1)/2))
		if len(members) > (len(all)+1)/2 {
			majority = true
			continue
		}
		wrong = append(wrong, members...)
	}
	if !majority {
		c.s.logger.Error("the members' data differs and no majority agrees, so nobody knows whose is right: the whole cluster stops writing")
		wrong = []ids.MemberID{0}
	}
	slices.SortFunc(wrong, func(a, b ids.MemberID) int { return cmp.Compare(a, b) })
	for _, id := range wrong {
		c.alarm(id)
	}
	return compared
}

// alarm raises CORRUPT for a member, 0 meaning all, unless it is up.
func (c *checker) alarm(id ids.MemberID) {
	if slices.Contains(c.s.core.machine.View().Alarms, wire.AlarmMember{MemberID: uint64(id), Alarm: wire.AlarmCorrupt}) {
		return
	}
	c.s.logger.Error("raising a CORRUPT alarm", zap.Stringer("member", id))
	done := make(answer, 1)
	c.s.core.host.ProposeMessage(command.Alarm, &wire.AlarmRequest{Action: wire.AlarmActivate, MemberID: uint64(id), Alarm: wire.AlarmCorrupt}, done)
	if err := <-done; err != nil {
		c.s.logger.Warn("could not raise the alarm, will try again with the next comparison", zap.Stringer("member", id), zap.Error(err))
	}
}
