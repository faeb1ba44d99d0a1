package rpc

import "time"

// CrowdFor sets how long after a refusal readers take turns, before the server serves.
func (s *Server) CrowdFor(d time.Duration) { s.crowd.span = d }
