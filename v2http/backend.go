package v2http

import (
	"context"
	"net/http"
	"time"

	"quorate.dev/quorate/authn"
	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/member"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// Backend is the member that answers. All methods of its parts may be called at any time from any goroutine.
type Backend struct {
	Store   Store
	Watches Watches
	Cluster Cluster
	Changes Changes
	Users   Users
}

// Store is the replicated tree as this member sees it.
type Store interface {
	// View is the tree as of the last batch that this member applied, and who of v3's users may read it, by the permissions of the
	// same instant: the key of a v2 path (without the namespace), and with recursive all below it; nil, or fault.PermissionDenied,
	// fault.UserEmpty and so on. May is asked only while the tree is shared and v3 authentication is on.
	View() (*v2store.View, May)
	// Propose has the group apply one request (POST, PUT, DELETE or QGET; ID is the member's to choose) in the name of a v3
	// user, the zero Identity for nobody, and returns what it did. A refusal of the tree is a *v2store.Error; others are of
	// package fault (fault.Timeout when ctx ends first, fault.NoSpace, fault.PermissionDenied, fault.RequestTooLarge and so on).
	// When it returns, View shows the result.
	Propose(ctx context.Context, r *wire.V2Request, as authn.Identity) (*v2store.Event, error)
	// Raft is the last index known to be committed, and the term.
	Raft() (ids.Index, ids.Term)
}

// May decides about a read of a v3 user.
type May func(who authn.Identity, path string, recursive bool) error

// Watches is what has happened to the tree.
type Watches interface {
	// Watch is v2hub's: since 0 is what comes next, other indices are looked up in the history first. The error is a
	// *v2store.Error when the history no longer has since.
	Watch(path string, recursive, stream bool, since uint64) (Watcher, error)
	// Count is how many watchers wait.
	Count() int
}

// Watcher gets events. *v2hub.Watcher is one.
type Watcher interface {
	// Events gets what happens. It is closed when the watcher was too slow, and when the hub is.
	Events() <-chan *v2store.Event
	// StartIndex is the tree's index when the watcher was made.
	StartIndex() uint64
	// Close ends the watcher; it may be called more than once.
	Close()
}

// Cluster is what this member knows of the cluster.
type Cluster interface {
	ID() ids.ClusterID
	// Members are the members and what they published, in the order of their ids; Removed says whether an id was one once.
	Members() *member.View
	// Leader is 0 while there is none.
	Leader() ids.MemberID
	// Self is what /v2/stats/self shows.
	Self() SelfStats
	// Followers is what a leader knows of the others, false when this member does not lead.
	Followers() (map[ids.MemberID]FollowerStats, bool)
}

// SelfStats is what a member tells of itself. What is 0 of the rates is left out of the answer.
type SelfStats struct {
	Name              string
	ID                ids.MemberID
	State             string // StateLeader, StateFollower and so on
	Start             time.Time
	Leader            ids.MemberID
	LeaderSince       time.Time
	Received, Sent    uint64  // messages with entries
	ReceivedPerSecond float64 // of those
	ReceivedBytes     float64 // per second
	SentPerSecond     float64
	SentBytes         float64 // per second
}

// FollowerStats is how messages to another member went. Times are milliseconds.
type FollowerStats struct {
	Current, Average, Deviation, Minimum, Maximum float64
	Failed, Succeeded                             uint64
}

// Changes changes who is in the cluster, with the checks that the v3 API makes (strict reconfiguration, health, v3
// authentication: while that is on, only a v3 user with role root may).
type Changes interface {
	// Change has one change made, as a v3 user. Its member is complete. It returns when the newest View shows the change. The
	// error is of package fault; fault.MemberNotFound, MemberExist and PeerURLExist are told apart by the API.
	Change(ctx context.Context, c member.Change, as authn.Identity) error
}

// Users are the users of v3, which count while the tree is shared and v3 authentication is on.
type Users interface {
	// Enabled says whether v3 authentication is on.
	Enabled() bool
	// Check finds out who sends a request by its HTTP Basic name and password: fault.AuthFailed when they are wrong. It may take
	// as long as computing a hash does.
	Check(ctx context.Context, name, password string) (authn.Identity, error)
	// Certified is who the client's certificate names, false for nobody or where certificates do not count.
	Certified(r *http.Request) (authn.Identity, bool)
	// Admin says whether a v3 user may do what only root may: nil, or fault.PermissionDenied and so on.
	Admin(who authn.Identity) error
}

// Passwords computes hashes; *authn.Verifier is one.
type Passwords interface {
	Check(a authn.Account, password string, done func(error))
	Hash(password string, done func(hash string, err error))
}
