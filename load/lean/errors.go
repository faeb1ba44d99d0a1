package lean

import (
	"errors"
	"fmt"
)

// The gRPC status codes that load has to tell apart.
const (
	CodeOK                = 0
	CodeUnknown           = 2
	CodeDeadlineExceeded  = 4
	CodeResourceExhausted = 8
	CodeUnimplemented     = 12
	CodeInternal          = 13
	CodeUnavailable       = 14
)

var codeNames = [...]string{
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
	"ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss",
	"Unauthenticated",
}

// Status is a call's end other than success, as the server gave it or, for a reset stream or a timeout, as gRPC maps it.
type Status struct {
	Code    int
	Message string
}

// Error is the code's name and the message.
func (s *Status) Error() string {
	if s.Code >= 0 && s.Code < len(codeNames) {
		return codeNames[s.Code] + ": " + s.Message
	}
	return fmt.Sprintf("Code(%d): %s", s.Code, s.Message)
}

// ConnError is the end of a connection; every call under way ends with it. Use errors.As.
type ConnError struct {
	Endpoint string
	Err      error
}

// Error names the endpoint first.
func (e *ConnError) Error() string { return e.Endpoint + ": " + e.Err.Error() }

// Unwrap is the reason without the endpoint.
func (e *ConnError) Unwrap() error { return e.Err }

// Reasons of a ConnError. Use errors.Is.
var (
	ErrClosed = errors.New("the connection was closed by this client")
	ErrGoAway = errors.New("the server closes the connection (GOAWAY)")
	ErrUsedUp = errors.New("the connection has used up its stream ids")
)

// Errors of a call that was not accepted. Use errors.Is.
var (
	ErrWaiting = errors.New("too many calls wait for the server's limit of concurrent streams")
	ErrQueue   = errors.New("the server does not read this stream: its queue is full")
	ErrEnded   = errors.New("the stream has ended")
)

// statusTimeout ends a call that took longer than Config.Timeout.
var statusTimeout = &Status{Code: CodeDeadlineExceeded, Message: "no answer within the client's timeout"}

// unprocessedError marks the end of a call that the server did not look at.
type unprocessedError struct{ error }

// Unwrap is the end itself.
func (e unprocessedError) Unwrap() error { return e.error }

// Unprocessed reports whether a call that ended with err certainly had no effect, so that it may be made again elsewhere,
// whatever it is: it was never sent, or the server said that it did not look at it.
func Unprocessed(err error) bool {
	var u unprocessedError
	return errors.As(err, &u)
}
