package server

import "testing"

// TestHeaderBeforeHost checks that a header can be made while the log is replayed: a start with entries to replay publishes
// their events before the raft host is known here.
func TestHeaderBeforeHost(t *testing.T) {
	s := &Server{}
	s.core.identity.member = 7
	s.core.peers = &peers{s: s}
	if head := s.header(); head.MemberID != 7 || head.RaftTerm != 0 {
		t.Fatalf("%+v", head)
	}
}
