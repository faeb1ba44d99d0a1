package fault

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"
)

// TestTextsMatchEtcd compares code and text with etcd's own published values.
func TestTextsMatchEtcd(t *testing.T) {
	for _, c := range []struct {
		ours   *Error
		theirs error
	}{
		{EmptyKey, rpctypes.ErrGRPCEmptyKey}, {KeyNotFound, rpctypes.ErrGRPCKeyNotFound}, {ValueProvided, rpctypes.ErrGRPCValueProvided},
		{LeaseProvided, rpctypes.ErrGRPCLeaseProvided}, {TooManyOps, rpctypes.ErrGRPCTooManyOps}, {DuplicateKey, rpctypes.ErrGRPCDuplicateKey},
		{InvalidClientAPIVersion, rpctypes.ErrGRPCInvalidClientAPIVersion}, {InvalidSortOption, rpctypes.ErrGRPCInvalidSortOption},
		{Compacted, rpctypes.ErrGRPCCompacted}, {FutureRev, rpctypes.ErrGRPCFutureRev}, {NoSpace, rpctypes.ErrGRPCNoSpace},
		{LeaseNotFound, rpctypes.ErrGRPCLeaseNotFound}, {LeaseExist, rpctypes.ErrGRPCLeaseExist}, {LeaseTTLTooLarge, rpctypes.ErrGRPCLeaseTTLTooLarge},
		{WatchCanceled, rpctypes.ErrGRPCWatchCanceled},
		{MemberExist, rpctypes.ErrGRPCMemberExist}, {PeerURLExist, rpctypes.ErrGRPCPeerURLExist}, {MemberBadURLs, rpctypes.ErrGRPCMemberBadURLs},
		{MemberNotFound, rpctypes.ErrGRPCMemberNotFound}, {MemberNotLearner, rpctypes.ErrGRPCMemberNotLearner}, {LearnerNotReady, rpctypes.ErrGRPCLearnerNotReady},
		{TooManyLearners, rpctypes.ErrGRPCTooManyLearners}, {ClusterIDMismatch, rpctypes.ErrGRPCClusterIDMismatch},
		{NotSupportedForLearner, rpctypes.ErrGRPCNotSupportedForLearner}, {BadLeaderTransferee, rpctypes.ErrGRPCBadLeaderTransferee},
		{RequestTooLarge, rpctypes.ErrGRPCRequestTooLarge},
		{NoLeader, rpctypes.ErrGRPCNoLeader}, {NotLeader, rpctypes.ErrGRPCNotLeader}, {LeaderChanged, rpctypes.ErrGRPCLeaderChanged},
		{NotCapable, rpctypes.ErrGRPCNotCapable}, {Stopped, rpctypes.ErrGRPCStopped}, {Timeout, rpctypes.ErrGRPCTimeout},
		{TimeoutDueToLeaderFail, rpctypes.ErrGRPCTimeoutDueToLeaderFail}, {TimeoutDueToConnectionLost, rpctypes.ErrGRPCTimeoutDueToConnectionLost},
		{TimeoutWaitAppliedIndex, rpctypes.ErrGRPCTimeoutWaitAppliedIndex}, {Unhealthy, rpctypes.ErrGRPCUnhealthy}, {Corrupt, rpctypes.ErrGRPCCorrupt},
		{WrongDowngradeVersionFormat, rpctypes.ErrGRPCWrongDowngradeVersionFormat}, {InvalidDowngradeTargetVersion, rpctypes.ErrGRPCInvalidDowngradeTargetVersion},
		{ClusterVersionUnavailable, rpctypes.ErrGRPCClusterVersionUnavailable}, {DowngradeInProcess, rpctypes.ErrGRPCDowngradeInProcess},
		{NoInflightDowngrade, rpctypes.ErrGRPCNoInflightDowngrade},
		{RootUserNotExist, rpctypes.ErrGRPCRootUserNotExist}, {RootRoleNotExist, rpctypes.ErrGRPCRootRoleNotExist}, {UserAlreadyExist, rpctypes.ErrGRPCUserAlreadyExist},
		{UserEmpty, rpctypes.ErrGRPCUserEmpty}, {UserNotFound, rpctypes.ErrGRPCUserNotFound}, {RoleAlreadyExist, rpctypes.ErrGRPCRoleAlreadyExist},
		{RoleNotFound, rpctypes.ErrGRPCRoleNotFound}, {RoleEmpty, rpctypes.ErrGRPCRoleEmpty}, {AuthFailed, rpctypes.ErrGRPCAuthFailed},
		{PermissionNotGiven, rpctypes.ErrGRPCPermissionNotGiven}, {PermissionDenied, rpctypes.ErrGRPCPermissionDenied}, {RoleNotGranted, rpctypes.ErrGRPCRoleNotGranted},
		{PermissionNotGranted, rpctypes.ErrGRPCPermissionNotGranted}, {AuthNotEnabled, rpctypes.ErrGRPCAuthNotEnabled}, {InvalidAuthToken, rpctypes.ErrGRPCInvalidAuthToken},
		{InvalidAuthMgmt, rpctypes.ErrGRPCInvalidAuthMgmt}, {AuthOldRevision, rpctypes.ErrGRPCAuthOldRevision},
	} {
		want := status.Convert(c.theirs)
		if c.ours.Text != want.Message() || uint32(c.ours.Code) != uint32(want.Code()) {
			t.Errorf("%s: got %d %q, etcd has %d %q", c.ours.Name, c.ours.Code, c.ours.Text, want.Code(), want.Message())
		}
	}
	// The two rows that etcd's server maps to client-side values: right text, code Unknown.
	for _, c := range []struct {
		ours   *Error
		theirs error
	}{{MemberNotEnoughStarted, rpctypes.ErrMemberNotEnoughStarted}, {TooManyRequests, rpctypes.ErrTooManyRequests}} {
		if c.ours.Text != c.theirs.Error() || c.ours.Code != CodeUnknown {
			t.Errorf("%s: got %d %q, want Unknown %q", c.ours.Name, c.ours.Code, c.ours.Text, c.theirs.Error())
		}
	}
}

func TestNamesAndTextsAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, e := range All() {
		for _, key := range []string{"name " + e.Name, "text " + e.Text} {
			if other, dup := seen[key]; dup {
				t.Errorf("%s: %s already belongs to %s", e.Name, key, other)
			}
			seen[key] = e.Name
		}
	}
}

func TestOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		code Code
		text string
	}{
		{nil, OK, ""},
		{EmptyKey, CodeInvalidArgument, "etcdserver: key is not provided"},
		{fmt.Errorf("put %q: %w", "k", NoSpace), CodeResourceExhausted, "etcdserver: mvcc: database space exceeded"},
		{fmt.Errorf("x: %w", context.Canceled), CodeCanceled, "context canceled"},
		{context.DeadlineExceeded, CodeDeadlineExceeded, "context deadline exceeded"},
		{errors.New("odd"), CodeUnknown, "odd"},
	} {
		if code, text := Of(c.err); code != c.code || text != c.text {
			t.Errorf("Of(%v) = %d %q, want %d %q", c.err, code, text, c.code, c.text)
		}
	}
}
