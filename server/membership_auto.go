package server

import (
	"context"
	"time"

	"go.uber.org/zap"

	"quorate.dev/quorate/internal/clock"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/node"
)

// promoteEvery is how often a leader that promotes by itself looks at its learners.
const promoteEvery = time.Second

// promoteLearners has this member, whenever it leads, make learners voters as soon as they are ready, if the operator wants that.
func (s *Server) promoteLearners(context.Context) error {
	if !s.cfg.Cluster.AutoPromote {
		return nil
	}
	end, done := make(chan struct{}), make(chan struct{})
	s.onStop("promotion of learners", func(context.Context) error { close(end); <-done; return nil })
	go func() {
		defer close(done)
		ticks := clock.Real().NewTicker(promoteEvery)
		defer ticks.Stop()
		for {
			select {
			case <-ticks.C:
				s.promoteReady(end)
			case <-s.ending:
				return
			case <-end:
				return
			}
		}
	}()
	return nil
}

// promoteReady promotes the learners that have started and have most of the log.
func (s *Server) promoteReady(end <-chan struct{}) {
	if !s.core.host.Status().Self {
		return
	}
	for _, m := range s.core.machine.View().Members.Members() {
		if !m.IsLearner || !m.Started() {
			continue
		}
		result := make(chan error, 1)
		s.core.host.Progress(m.ID, func(p node.Progress, err error) {
			if err != nil || float64(p.Match) < learnerReady*float64(p.Leader) {
				result <- err
				return
			}
			s.membership().promoteHere(m.ID, func(err error) { s.promoted(m, err); result <- err })
		})
		select {
		case <-result:
		case <-end:
			return
		}
	}
}

func (s *Server) promoted(m member.Member, err error) {
	if err != nil {
		s.logger.Warn("could not promote a learner that is ready; trying again", zap.Stringer("member-id", m.ID), zap.Error(err))
		return
	}
	s.logger.Info("promoted a learner that was ready", zap.Stringer("member-id", m.ID), zap.String("name", m.Name))
}
