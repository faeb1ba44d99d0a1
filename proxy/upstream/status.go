package upstream

import (
	"errors"

	"quorate.dev/quorate/load/lean"
	"quorate.dev/quorate/rpc"
)

// StatusOf is what a client of the proxy is told when a call to the store ended with err: the store's own status; or
// Unavailable with the reason when the connection was lost or there is none.
func StatusOf(err error) *rpc.Status {
	var s *lean.Status
	if errors.As(err, &s) {
		return &rpc.Status{Code: rpc.Code(s.Code), Message: s.Message} //nolint:gosec // a status code
	}
	return &rpc.Status{Code: rpc.Unavailable, Message: err.Error()}
}
