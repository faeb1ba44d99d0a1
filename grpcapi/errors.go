package grpcapi

import (
	"errors"
	"fmt"
	"math"
	"time"

	"quorate.dev/quorate/fault"
	"quorate.dev/quorate/limits"
	"quorate.dev/quorate/rpc"
)

// unsupported is the refusal of something that this version does not do.
func unsupported(name, text string) *fault.Error {
	return &fault.Error{Name: name, Code: fault.CodeUnimplemented, Text: "quorate: " + text}
}

// What etcd does and this version does not. Each is a row of docs/COMPAT.md.
var (
	errDowngrade = unsupported("DowngradeUnsupported",
		"this version cannot downgrade a running cluster; take a snapshot and restore it with the older version")
)

// statusOf is the one place where an error becomes what a client sees.
func statusOf(err error) *rpc.Status {
	if s, ok := errors.AsType[*rpc.Status](err); ok { // a stream's own ending
		return s
	}
	code, text := fault.Of(err)
	return &rpc.Status{Code: rpc.Code(code), Message: text}
}

// malformed is the status of a request that is not a message of its type, worded as grpc-go words it.
func malformed(err error) *rpc.Status {
	return &rpc.Status{Code: rpc.Code(fault.CodeInternal), Message: fmt.Sprintf("grpc: error unmarshalling request: %v", err)}
}

// answerTooLarge is the refusal of an answer that no gRPC client takes, worded as grpc-go words it.
func answerTooLarge(size int) error {
	return &fault.Error{Name: "AnswerTooLarge", Code: fault.CodeResourceExhausted,
		Text: fmt.Sprintf("grpc: trying to send message larger than max (%d vs. %d)", size, math.MaxInt32)}
}

// opaque is statusOf for Lock and Election: etcd serves them through its own client, whose errors lose their code on the
// way and travel as Unknown with the same text. Only an ended context keeps its code.
func opaque(err error) *rpc.Status {
	s := statusOf(err)
	switch fault.Code(s.Code) {
	case fault.CodeCanceled, fault.CodeDeadlineExceeded:
	default:
		s.Code = rpc.Code(fault.CodeUnknown)
	}
	return s
}

// errUnknownMethod is etcd's text for an action that is not in the enum; it has no code of its own.
var errUnknownMethod = errors.New("etcdserver: unknown method")

// requestTimeout is how long the server works on a request before it gives up.
func requestTimeout(election time.Duration) time.Duration {
	return limits.RequestTimeoutBase + 2*election
}
