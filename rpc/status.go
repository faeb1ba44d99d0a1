package rpc

import (
	"encoding/base64"
	"fmt"
	"unicode/utf8"
)

// Code is a gRPC status code, as numbered by the gRPC specification (statuscodes.md).
type Code uint32

// The codes of gRPC.
const (
	OK                 Code = 0
	Canceled           Code = 1
	Unknown            Code = 2
	InvalidArgument    Code = 3
	DeadlineExceeded   Code = 4
	NotFound           Code = 5
	AlreadyExists      Code = 6
	PermissionDenied   Code = 7
	ResourceExhausted  Code = 8
	FailedPrecondition Code = 9
	Aborted            Code = 10
	OutOfRange         Code = 11
	Unimplemented      Code = 12
	Internal           Code = 13
	Unavailable        Code = 14
	DataLoss           Code = 15
	Unauthenticated    Code = 16
)

var codeNames = [...]string{
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
	"ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss",
	"Unauthenticated",
}

// String returns the code's name as dashboards spell it, for example "NotFound"; "Code(n)" for numbers gRPC does not define.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("Code(%d)", uint32(c))
}

// Status is how a call ended. A nil Status means OK.
type Status struct {
	Code    Code
	Message string // any text; it is percent-encoded on the wire
	Details []byte // a serialized google.rpc.Status, sent as grpc-status-details-bin; nil for none
}

// Error returns the status in the form grpc clients print it.
func (s *Status) Error() string {
	return fmt.Sprintf("rpc error: code = %s desc = %s", s.Code, s.Message)
}

func statusf(code Code, format string, args ...any) *Status {
	return &Status{Code: code, Message: fmt.Sprintf(format, args...)}
}

// The endings rpc itself gives.
var (
	statusDeadline = &Status{Code: DeadlineExceeded, Message: "context deadline exceeded"}
	statusCanceled = &Status{Code: Canceled, Message: "context canceled"}
	statusClosing  = &Status{Code: Unavailable, Message: "transport is closing"}
)

const hexDigits = "0123456789ABCDEF"

// appendPercent appends msg with every byte outside printable ASCII, and '%', as %XX; bytes that are not UTF-8 become
// U+FFFD first. Source: gRPC over HTTP2, "Percent-Encoded".
func appendPercent(dst []byte, msg string) []byte {
	for _, r := range msg {
		if r >= ' ' && r <= '~' && r != '%' {
			dst = append(dst, byte(r))
			continue
		}
		var enc [utf8.UTFMax]byte
		for _, b := range enc[:utf8.EncodeRune(enc[:], r)] {
			dst = append(dst, '%', hexDigits[b>>4], hexDigits[b&15])
		}
	}
	return dst
}

// decodeBin decodes the base64 of one -bin metadata value, with or without padding.
func decodeBin(v string) (string, error) {
	enc := base64.RawStdEncoding
	if len(v)%4 == 0 {
		enc = base64.StdEncoding
	}
	b, err := enc.DecodeString(v)
	return string(b), err
}
