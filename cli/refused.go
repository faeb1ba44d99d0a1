package cli

import (
	"errors"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"

	"quorate.dev/quorate/limits"
)

// errRefused ends a verb under our own name whose endpoints all refuse connections: a person shall not wait for the timeout to
// be told that nothing is there.
var errRefused = errors.New("no server answers")

// giveUp ends the session when its first client has no connection after a moment and nothing listens at any endpoint, seen
// twice so that a server that is just starting is not missed.
func (s *Session) giveUp(c *clientv3.Client, endpoints []string) {
	for range 2 {
		timer := s.Clock().NewTimer(limits.RefusedTime / 2)
		select {
		case <-timer.C:
		case <-s.Context.Done():
			timer.Stop()
			return
		}
		if c.ActiveConnection().GetState() == connectivity.Ready {
			return
		}
		for _, ep := range endpoints {
			if !s.refuses(ep) {
				return
			}
		}
	}
	s.stop(errRefused)
}

func (s *Session) refuses(endpoint string) bool {
	p, err := s.probeOf(s.Context, endpoint)
	if err != nil {
		return false
	}
	conn, err := p.dial()
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
