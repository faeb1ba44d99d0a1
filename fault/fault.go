// Package fault is the one table of errors that a client can see: a name, a gRPC code and the exact text that etcd uses.
//
// It is not for internal errors (a disk that lies, a broken invariant); those are plain errors of the package that finds
// them and reach a client, if at all, as code Unknown. Values of this package travel up unchanged or wrapped with %w, and
// the front turns them into a gRPC status with Of.
//
// Invariants: texts are unique and match etcd's byte for byte, because client libraries recognise an error by its text
// (source: etcd v3.7 api/v3rpc/rpctypes/error.go and server/etcdserver/api/v3rpc/util.go).
package fault

import (
	"context"
	"errors"
)

// Code is a gRPC status code (https://grpc.github.io/grpc/core/md_doc_statuscodes.html).
type Code uint32

// The gRPC status codes, 0 to 16.
const (
	OK Code = iota
	CodeCanceled
	CodeUnknown
	CodeInvalidArgument
	CodeDeadlineExceeded
	CodeNotFound
	CodeAlreadyExists
	CodePermissionDenied
	CodeResourceExhausted
	CodeFailedPrecondition
	CodeAborted
	CodeOutOfRange
	CodeUnimplemented
	CodeInternal
	CodeUnavailable
	CodeDataLoss
	CodeUnauthenticated
)

// Error is an expected error with the form it takes on the wire. Compare with errors.Is against the variables below.
type Error struct {
	Name string // the identifier used in documents, such as "EmptyKey"
	Code Code   // the gRPC code on the wire
	Text string // the status message, byte for byte
}

// Error returns the text as a client sees it.
func (e *Error) Error() string { return e.Text }

var table []*Error

func row(name string, code Code, text string) *Error {
	e := &Error{Name: name, Code: code, Text: text}
	table = append(table, e)
	return e
}

// All returns every error of the table, for tests and documents.
func All() []*Error { return append([]*Error(nil), table...) }

// Of finds the wire form of err: the first *Error in its chain; context errors as gRPC reports them; anything else as
// CodeUnknown with the error's own text.
func Of(err error) (Code, string) {
	if err == nil {
		return OK, ""
	}
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Code, e.Text
	case errors.Is(err, context.Canceled):
		return CodeCanceled, context.Canceled.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return CodeDeadlineExceeded, context.DeadlineExceeded.Error()
	}
	return CodeUnknown, err.Error()
}

// The errors of key-value requests.
var (
	EmptyKey                = row("EmptyKey", CodeInvalidArgument, "etcdserver: key is not provided")
	KeyNotFound             = row("KeyNotFound", CodeInvalidArgument, "etcdserver: key not found")
	ValueProvided           = row("ValueProvided", CodeInvalidArgument, "etcdserver: value is provided")
	LeaseProvided           = row("LeaseProvided", CodeInvalidArgument, "etcdserver: lease is provided")
	TooManyOps              = row("TooManyOps", CodeInvalidArgument, "etcdserver: too many operations in txn request")
	DuplicateKey            = row("DuplicateKey", CodeInvalidArgument, "etcdserver: duplicate key given in txn request")
	InvalidClientAPIVersion = row("InvalidClientAPIVersion", CodeInvalidArgument, "etcdserver: invalid client api version")
	InvalidSortOption       = row("InvalidSortOption", CodeInvalidArgument, "etcdserver: invalid sort option")
	Compacted               = row("Compacted", CodeOutOfRange, "etcdserver: mvcc: required revision has been compacted")
	FutureRev               = row("FutureRev", CodeOutOfRange, "etcdserver: mvcc: required revision is a future revision")
	NoSpace                 = row("NoSpace", CodeResourceExhausted, "etcdserver: mvcc: database space exceeded")
	// StreamSort and StreamFilters are the two refusals of RangeStream.
	StreamSort    = row("StreamSort", CodeUnimplemented, "RangeStream does not support custom sort orders")
	StreamFilters = row("StreamFilters", CodeUnimplemented, "RangeStream does not support revision filters")
)

// The errors of leases and watches.
var (
	LeaseNotFound    = row("LeaseNotFound", CodeNotFound, "etcdserver: requested lease not found")
	LeaseExist       = row("LeaseExist", CodeFailedPrecondition, "etcdserver: lease already exists")
	LeaseTTLTooLarge = row("LeaseTTLTooLarge", CodeOutOfRange, "etcdserver: too large lease TTL")
	WatchCanceled    = row("WatchCanceled", CodeCanceled, "etcdserver: watch canceled")
)

// The errors of membership.
var (
	MemberExist  = row("MemberExist", CodeFailedPrecondition, "etcdserver: member ID already exist")
	PeerURLExist = row("PeerURLExist", CodeFailedPrecondition, "etcdserver: Peer URLs already exists")
	// MemberNotEnoughStarted travels as Unknown: etcd's server maps it to the client-side value, which has no gRPC status.
	MemberNotEnoughStarted = row("MemberNotEnoughStarted", CodeUnknown, "etcdserver: re-configuration failed due to not enough started members")
	MemberBadURLs          = row("MemberBadURLs", CodeInvalidArgument, "etcdserver: given member URLs are invalid")
	MemberNotFound         = row("MemberNotFound", CodeNotFound, "etcdserver: member not found")
	MemberNotLearner       = row("MemberNotLearner", CodeFailedPrecondition, "etcdserver: can only promote a learner member")
	LearnerNotReady        = row("LearnerNotReady", CodeFailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader")
	TooManyLearners        = row("TooManyLearners", CodeFailedPrecondition, "etcdserver: too many learner members in cluster")
	ClusterIDMismatch      = row("ClusterIDMismatch", CodeFailedPrecondition, "etcdserver: cluster ID mismatch")
	NotSupportedForLearner = row("NotSupportedForLearner", CodeFailedPrecondition, "etcdserver: rpc not supported for learner")
	BadLeaderTransferee    = row("BadLeaderTransferee", CodeFailedPrecondition, "etcdserver: bad leader transferee")
)

// The errors of load and of the cluster's condition.
var (
	RequestTooLarge = row("RequestTooLarge", CodeInvalidArgument, "etcdserver: request is too large")
	// TooManyRequests travels as Unknown for the same reason as MemberNotEnoughStarted.
	TooManyRequests            = row("TooManyRequests", CodeUnknown, "etcdserver: too many requests")
	NoLeader                   = row("NoLeader", CodeUnavailable, "etcdserver: no leader")
	NotLeader                  = row("NotLeader", CodeFailedPrecondition, "etcdserver: not leader")
	LeaderChanged              = row("LeaderChanged", CodeUnavailable, "etcdserver: leader changed")
	NotCapable                 = row("NotCapable", CodeFailedPrecondition, "etcdserver: not capable")
	Stopped                    = row("Stopped", CodeUnavailable, "etcdserver: server stopped")
	Timeout                    = row("Timeout", CodeUnavailable, "etcdserver: request timed out")
	TimeoutDueToLeaderFail     = row("TimeoutDueToLeaderFail", CodeUnavailable, "etcdserver: request timed out, possibly due to previous leader failure")
	TimeoutDueToConnectionLost = row("TimeoutDueToConnectionLost", CodeUnavailable, "etcdserver: request timed out, possibly due to connection lost")
	TimeoutWaitAppliedIndex    = row("TimeoutWaitAppliedIndex", CodeUnavailable, "etcdserver: request timed out, waiting for the applied index took too long")
	TimeoutLeaderTransfer      = row("TimeoutLeaderTransfer", CodeUnknown, "etcdserver: request timed out, leader transfer took too long")
	Unhealthy                  = row("Unhealthy", CodeUnavailable, "etcdserver: unhealthy cluster")
	// StoreUnreadable is not etcd's, which dies when its file cannot be read.
	StoreUnreadable = row("StoreUnreadable", CodeUnavailable, "etcdserver: this member cannot read its store, ask another one")
	Corrupt         = row("Corrupt", CodeDataLoss, "etcdserver: corrupt cluster")
)

// The errors of downgrade.
var (
	WrongDowngradeVersionFormat   = row("WrongDowngradeVersionFormat", CodeInvalidArgument, "etcdserver: wrong downgrade target version format")
	InvalidDowngradeTargetVersion = row("InvalidDowngradeTargetVersion", CodeInvalidArgument, "etcdserver: invalid downgrade target version")
	ClusterVersionUnavailable     = row("ClusterVersionUnavailable", CodeFailedPrecondition, "etcdserver: cluster version not found during downgrade")
	DowngradeInProcess            = row("DowngradeInProcess", CodeFailedPrecondition, "etcdserver: cluster has a downgrade job in progress")
	NoInflightDowngrade           = row("NoInflightDowngrade", CodeFailedPrecondition, "etcdserver: no inflight downgrade job")
)

// The errors of authentication and authorization.
var (
	RootUserNotExist     = row("RootUserNotExist", CodeFailedPrecondition, "etcdserver: root user does not exist")
	RootRoleNotExist     = row("RootRoleNotExist", CodeFailedPrecondition, "etcdserver: root user does not have root role")
	UserAlreadyExist     = row("UserAlreadyExist", CodeFailedPrecondition, "etcdserver: user name already exists")
	UserEmpty            = row("UserEmpty", CodeInvalidArgument, "etcdserver: user name is empty")
	UserNotFound         = row("UserNotFound", CodeFailedPrecondition, "etcdserver: user name not found")
	RoleAlreadyExist     = row("RoleAlreadyExist", CodeFailedPrecondition, "etcdserver: role name already exists")
	RoleNotFound         = row("RoleNotFound", CodeFailedPrecondition, "etcdserver: role name not found")
	RoleEmpty            = row("RoleEmpty", CodeInvalidArgument, "etcdserver: role name is empty")
	AuthFailed           = row("AuthFailed", CodeInvalidArgument, "etcdserver: authentication failed, invalid user ID or password")
	PermissionNotGiven   = row("PermissionNotGiven", CodeInvalidArgument, "etcdserver: permission not given")
	PermissionDenied     = row("PermissionDenied", CodePermissionDenied, "etcdserver: permission denied")
	RoleNotGranted       = row("RoleNotGranted", CodeFailedPrecondition, "etcdserver: role is not granted to the user")
	PermissionNotGranted = row("PermissionNotGranted", CodeFailedPrecondition, "etcdserver: permission is not granted to the role")
	AuthNotEnabled       = row("AuthNotEnabled", CodeFailedPrecondition, "etcdserver: authentication is not enabled")
	InvalidAuthToken     = row("InvalidAuthToken", CodeUnauthenticated, "etcdserver: invalid auth token")
	InvalidAuthMgmt      = row("InvalidAuthMgmt", CodeInvalidArgument, "etcdserver: invalid auth management")
	AuthOldRevision      = row("AuthOldRevision", CodeInvalidArgument, "etcdserver: revision of auth store is old")
	// The next two are not in etcd's table and travel as they are.
	NoPasswordUser  = row("NoPasswordUser", CodeUnknown, "auth: authentication failed, password was given for no password user")
	TokenVerifyOnly = row("TokenVerifyOnly", CodeUnknown, "auth: token signing attempted with verify-only key")
)

// The errors of the lock and election services.
var (
	ElectionNoLeader      = row("ElectionNoLeader", CodeUnknown, "election: no leader")
	ElectionNotLeader     = row("ElectionNotLeader", CodeUnknown, "election: not leader")
	ElectionMissingLeader = row("ElectionMissingLeader", CodeUnknown, `"leader" field must be provided`)
)
