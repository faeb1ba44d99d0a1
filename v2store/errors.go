package v2store

import (
	"encoding/json"
	"fmt"
)

// The error codes of the v2 API (source: etcd v3.4 etcdserver/api/v2error).
const (
	CodeKeyNotFound     = 100
	CodeTestFailed      = 101
	CodeNotFile         = 102
	CodeNotDir          = 104
	CodeNodeExist       = 105
	CodeRootReadOnly    = 107
	CodeDirNotEmpty     = 108
	CodeUnauthorized    = 110
	CodePrevValue       = 201
	CodeTTLNotNumber    = 202
	CodeIndexNotNumber  = 203
	CodeInvalidField    = 209
	CodeInvalidForm     = 210
	CodeRefreshValue    = 211
	CodeRefreshTTL      = 212
	CodeRaftInternal    = 300
	CodeLeaderElection  = 301
	CodeWatcherCleared  = 400
	CodeHistoryCleared  = 401
	statusOther         = 400
	statusNotFound      = 404
	statusForbidden     = 403
	statusUnauthorized  = 401
	statusPrecondition  = 412
	statusInternalError = 500
)

// explained has the message of every code and the HTTP status where it is not 400.
var explained = map[int]struct {
	message string
	status  int
}{
	100: {"Key not found", statusNotFound},
	101: {"Compare failed", statusPrecondition},
	102: {"Not a file", statusForbidden},
	103: {"Reached the max number of peers in the cluster", 0},
	104: {"Not a directory", 0},
	105: {"Key already exists", statusPrecondition},
	106: {"The prefix of given key is a keyword in etcd", 0},
	107: {"Root is read only", 0},
	108: {"Directory not empty", statusForbidden},
	109: {"Peer address has existed", 0},
	110: {"The request requires user authentication", statusUnauthorized},
	200: {"Value is Required in POST form", 0},
	201: {"PrevValue is Required in POST form", 0},
	202: {"The given TTL in POST form is not a number", 0},
	203: {"The given index in POST form is not a number", 0},
	204: {"Value or TTL is required in POST form", 0},
	205: {"The given timeout in POST form is not a number", 0},
	206: {"Name is required in POST form", 0},
	207: {"Index or value is required", 0},
	208: {"Index and value cannot both be specified", 0},
	209: {"Invalid field", 0},
	210: {"Invalid POST form", 0},
	211: {"Value provided on refresh", 0},
	212: {"A TTL must be provided on refresh", 0},
	300: {"Raft Internal Error", statusInternalError},
	301: {"During Leader Election", statusInternalError},
	400: {"watcher is cleared due to etcd recovery", 0},
	401: {"The event in requested index is outdated and cleared", 0},
	402: {"Standby Internal Error", 0},
	403: {"Invalid active size", 0},
	404: {"Standby remove delay", 0},
	500: {"Client Internal Error", 0},
}

// Error is a refusal as the v2 API tells it. Paths in Cause are those inside of the store.
type Error struct {
	Code    int    // one of the table
	Message string // of the code
	Cause   string // what was wrong; often a path
	Index   uint64 // the index of the store when it was refused, 0 when the store was not asked

	lost bool // etcd's statistics take this refusal for a success
}

// NewError is the error of a code at an index.
func NewError(code int, cause string, index uint64) *Error {
	return &Error{Code: code, Message: explained[code].message, Cause: cause, Index: index}
}

// Error is the text, such as "Key not found (/1/foo)".
func (e *Error) Error() string { return e.Message + " (" + e.Cause + ")" }

// Status is the HTTP status that goes with the code.
func (e *Error) Status() int {
	if s := explained[e.Code].status; s != 0 {
		return s
	}
	return statusOther
}

// MarshalJSON writes the error as the API does.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Code    int    `json:"errorCode"`
		Message string `json:"message"`
		Cause   string `json:"cause,omitempty"`
		Index   uint64 `json:"index"`
	}{e.Code, e.Message, e.Cause, e.Index})
}

// HistoryCleared is the error of who asks for an event that is older than the oldest one kept.
func HistoryCleared(oldest, asked, index uint64) *Error {
	return NewError(CodeHistoryCleared, fmt.Sprintf("the requested history has been cleared [%d/%d]", oldest, asked), index)
}
