package cli

import (
	"context"
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// isUsage says whether an error is about the arguments.
func isUsage(err error) bool {
	var f *Failure
	return errors.As(err, &f) && f.Code == ExitBadArgs
}

// fromServer says whether an error came from an endpoint, or from the lack of one, and not from something here.
func fromServer(err error) bool {
	var known rpctypes.EtcdError
	if errors.As(err, &known) || isUnreachable(err) {
		return true
	}
	s, ok := status.FromError(err)
	return ok && s.Code() != codes.OK && s.Code() != codes.Canceled
}

// isUnreachable says whether an error may mean that nothing, or something else, listens at an endpoint.
func isUnreachable(err error) bool {
	if errors.Is(err, errRefused) || errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
		return true
	}
	var known rpctypes.EtcdError
	if errors.As(err, &known) {
		return false // it was etcd's protocol that answered
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Unimplemented:
		return true
	}
	return false
}

// advices say what to do about errors of a server.
var advices = []struct {
	err  error
	text string
}{
	{rpctypes.ErrNoSpace, "the database is as large as its quota: compact (quorate compaction REVISION), defragment (quorate defrag), then take the alarm back (quorate alarm disarm)"},
	{rpctypes.ErrCorrupt, "a member's data differs from the others' (quorate alarm list names it): stop it, run \"quorate heal\" on its data directory and start it again"},
	{rpctypes.ErrUserEmpty, "authentication is on: say who you are with --user NAME"},
	{rpctypes.ErrAuthFailed, "the name or the password is wrong; --user NAME asks for the password"},
	{rpctypes.ErrInvalidAuthToken, "the token is not one of this cluster, or it expired: log in again with --user NAME"},
	{rpctypes.ErrPermissionDenied, "no role of this user allows it: \"quorate user get NAME --detail\" shows what does, \"quorate role grant-permission\" adds it"},
	{rpctypes.ErrRootUserNotExist, "make the user first: quorate user add root"},
	{rpctypes.ErrRootRoleNotExist, "give the user root the role root: quorate user grant-role root root"},
	{rpctypes.ErrCompacted, "that revision is gone: leave --rev out, or ask for a newer one"},
	{rpctypes.ErrFutureRev, "that revision does not exist yet: \"quorate endpoint status -w fields\" shows the newest"},
	{rpctypes.ErrLeaseNotFound, "it expired, was revoked, or the id is not hexadecimal: \"quorate lease list\" shows all"},
	{rpctypes.ErrMemberNotFound, "\"quorate member list\" shows the ids"},
	{rpctypes.ErrMemberLearnerNotReady, "it has not caught up with the leader yet: try again in a moment (quorate endpoint status --cluster shows how far it is)"},
	{rpctypes.ErrUnhealthy, "too few members are up to change the membership: start those that are down first"},
	{rpctypes.ErrNoLeader, "the members have no leader now: look which are up with \"quorate endpoint health --cluster\""},
	{rpctypes.ErrTimeout, "the server waited in vain for a majority or its disk: \"quorate endpoint status --cluster\" shows the members"},
	{rpctypes.ErrTimeoutDueToLeaderFail, "the leader changed during the request: try again"},
	{rpctypes.ErrRequestTooLarge, "the server takes larger requests with a larger --max-request-bytes"},
	{rpctypes.ErrTooManyOps, "the server takes more operations with a larger --max-txn-ops"},
	{rpctypes.ErrNotLeader, "name the leader with --endpoints: \"quorate endpoint status --cluster\" shows it"},
}

// advice is what to do about an error, "" when that is not known.
func advice(err error) string {
	for _, a := range advices {
		if errors.Is(err, a.err) {
			return a.text
		}
	}
	return ""
}
