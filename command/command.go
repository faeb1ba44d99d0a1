// Package command is the vocabulary of the replicated log: what an entry can ask for, how it is encoded, and what its
// execution answers.
//
// It does not execute anything (state does) and does not know raft (node does). An entry's bytes are etcd's
// InternalRaftRequest; Decode turns them into a Command whose Body is the client's own request message, and AppendEntry
// makes them by splicing that message in. A Result travels back through the Waiter of the member that proposed.
//
// Invariants: every kind has exactly one row in the table; Decode of the same bytes gives the same Command on every member.
package command

import (
	"fmt"

	"quorate.dev/quorate/ids"
	"quorate.dev/quorate/v2store"
	"quorate.dev/quorate/wire"
)

// Kind says what a command asks for.
type Kind uint8

// The kinds of commands.
const (
	Unknown Kind = iota // an entry this version does not know; it is refused the same way on every member
	Empty               // raft's own empty entry at the start of a term
	Put
	DeleteRange
	Txn
	Compaction
	LeaseGrant
	LeaseRevoke
	LeaseCheckpoint
	Alarm
	MemberAttributes
	ClusterVersion
	DowngradeInfo
	AuthEnable
	AuthDisable
	AuthUserAdd
	AuthUserDelete
	AuthUserChangePassword
	AuthUserGrantRole
	AuthUserRevokeRole
	AuthRoleAdd
	AuthRoleDelete
	AuthRoleGrantPermission
	AuthRoleRevokePermission
	Authenticate
	AuthStatus // this and the next four ask only; etcd has them in its log
	AuthUserGet
	AuthUserList
	AuthRoleGet
	AuthRoleList
	V2         // a request of the v2 API, or of the members about the v2 tree
	ConfChange // a change of the raft configuration; not an InternalRaftRequest: Body is raftpb.ConfChange bytes
	kinds
)

// Row is what the table says of one kind.
type Row struct {
	Kind  Kind
	Name  string // the name in metrics and logs, as etcd's "op" label has it
	Field int32  // the field of InternalRaftRequest that holds it, 0 when none
	// DeniedByNoSpace commands are refused while a NOSPACE alarm is up. A Txn is refused only when one of its branches puts, a V2
	// only when it may take space.
	DeniedByNoSpace bool
	// DeniedByCorrupt commands are refused while a CORRUPT alarm is up.
	DeniedByCorrupt bool
}

var table = [kinds]Row{
	{Kind: Unknown, Name: "Unknown"},
	{Kind: Empty, Name: "Empty"},
	{Put, "Put", wire.FieldPut, true, true},
	{DeleteRange, "DeleteRange", wire.FieldDeleteRange, false, true},
	{Txn, "Txn", wire.FieldTxn, true, true},
	{Compaction, "Compaction", wire.FieldCompaction, false, true},
	{LeaseGrant, "LeaseGrant", wire.FieldLeaseGrant, true, true},
	{LeaseRevoke, "LeaseRevoke", wire.FieldLeaseRevoke, false, true},
	{LeaseCheckpoint, "LeaseCheckpoint", wire.FieldLeaseCheckpoint, false, false},
	{Alarm, "Alarm", wire.FieldAlarm, false, false},
	{MemberAttributes, "ClusterMemberAttrSet", wire.FieldMemberAttrSet, false, false},
	{ClusterVersion, "ClusterVersionSet", wire.FieldClusterVersionSet, false, false},
	{DowngradeInfo, "DowngradeInfoSet", wire.FieldDowngradeInfoSet, false, false},
	{AuthEnable, "AuthEnable", wire.FieldAuthEnable, false, false},
	{AuthDisable, "AuthDisable", wire.FieldAuthDisable, false, false},
	{AuthUserAdd, "AuthUserAdd", wire.FieldAuthUserAdd, false, false},
	{AuthUserDelete, "AuthUserDelete", wire.FieldAuthUserDelete, false, false},
	{AuthUserChangePassword, "AuthUserChangePassword", wire.FieldAuthUserChangePassword, false, false},
	{AuthUserGrantRole, "AuthUserGrantRole", wire.FieldAuthUserGrantRole, false, false},
	{AuthUserRevokeRole, "AuthUserRevokeRole", wire.FieldAuthUserRevokeRole, false, false},
	{AuthRoleAdd, "AuthRoleAdd", wire.FieldAuthRoleAdd, false, false},
	{AuthRoleDelete, "AuthRoleDelete", wire.FieldAuthRoleDelete, false, false},
	{AuthRoleGrantPermission, "AuthRoleGrantPermission", wire.FieldAuthRoleGrantPermission, false, false},
	{AuthRoleRevokePermission, "AuthRoleRevokePermission", wire.FieldAuthRoleRevokePermission, false, false},
	{Authenticate, "Authenticate", wire.FieldAuthenticate, false, false},
	{AuthStatus, "AuthStatus", wire.FieldAuthStatus, false, false},
	{AuthUserGet, "AuthUserGet", wire.FieldAuthUserGet, false, false},
	{AuthUserList, "AuthUserList", wire.FieldAuthUserList, false, false},
	{AuthRoleGet, "AuthRoleGet", wire.FieldAuthRoleGet, false, false},
	{AuthRoleList, "AuthRoleList", wire.FieldAuthRoleList, false, false},
	{V2, "V2", wire.FieldV2, true, true},
	{Kind: ConfChange, Name: "ConfChange"},
}

// Table returns the rows of all kinds, in order of Kind.
func Table() []Row { return append([]Row(nil), table[:]...) }

// Row returns the kind's row; that of Unknown for a number that is no kind.
func (k Kind) Row() *Row {
	if k >= kinds {
		k = Unknown
	}
	return &table[k]
}

// String is the row's name.
func (k Kind) String() string { return k.Row().Name }

// Command is one decoded entry of the log. Body aliases the entry's bytes.
type Command struct {
	Index        ids.Index
	Term         ids.Term
	ID           uint64 // finds the waiter on the member that proposed it; 0 when nobody waits
	Username     string
	AuthRevision uint64
	Kind         Kind
	Body         []byte // the request's message bytes
}

// AppendEntry appends the log entry that asks for kind with the given request bytes, which are spliced in unchanged.
// It panics for a kind that is not written as an InternalRaftRequest.
func AppendEntry(dst []byte, id uint64, kind Kind, body []byte) []byte {
	m := entry(id, kind)
	m.Body = body
	return m.Append(dst)
}

// AppendEntryAs is AppendEntry for a request of a user, who was known at that revision of the authentication state. It is the
// same as AppendEntry for "" and 0.
func AppendEntryAs(dst []byte, id uint64, user string, revision uint64, kind Kind, body []byte) []byte {
	m := entry(id, kind)
	m.Username, m.AuthRevision, m.Body = user, revision, body
	return m.Append(dst)
}

func entry(id uint64, kind Kind) wire.Internal {
	field := kind.Row().Field
	if field == 0 {
		panic(fmt.Sprintf("BUG: command %s has no form in the log", kind))
	}
	return wire.Internal{ID: id, Field: field}
}

// Decode reads a normal entry of the log. An empty entry is Empty. A request this version does not know gives kind Unknown
// and no error; bytes that are no InternalRaftRequest give kind Unknown and an error. Index and Term are the caller's to set.
func Decode(data []byte) (Command, error) { return DecodeAfter(data, "") }

// DecodeAfter is Decode for an entry that is likely to come in the same name as another one. It costs no memory then.
func DecodeAfter(data []byte, username string) (Command, error) {
	if len(data) == 0 {
		return Command{Kind: Empty}, nil
	}
	m := wire.Internal{Likely: username}
	if err := m.Unmarshal(data); err != nil {
		return Command{Kind: Unknown}, fmt.Errorf("log entry of %d bytes is not an InternalRaftRequest: %w", len(data), err)
	}
	return Command{ID: m.ID, Username: m.Username, AuthRevision: m.AuthRevision, Kind: kindOf(m.Field), Body: m.Body}, nil
}

// kindOf finds the kind that a field holds. The frequent kinds stand first in the table.
func kindOf(field int32) Kind {
	for i := Put; i < kinds; i++ {
		if table[i].Field == field && field != 0 {
			return i
		}
	}
	return Unknown
}

// Result is what one command answers. Only the fields of its kind are set. It is valid until the waiter's Complete returns;
// byte slices in it are immutable and may be kept.
type Result struct {
	Err      error              // a fault, possibly wrapped; nil when the command took effect
	Revision ids.Revision       // the store's revision after the command: what the response header carries
	PrevKV   []byte             // Put: the replaced KeyValue in wire form, nil when there was none
	Deleted  int64              // DeleteRange
	PrevKVs  [][]byte           // DeleteRange: the deleted KeyValues in wire form
	Txn      *wire.TxnResponse  // Txn; its own header holds only the revision
	Lease    ids.LeaseID        // LeaseGrant
	TTL      int64              // LeaseGrant, seconds
	Alarms   []wire.AlarmMember // Alarm
	Index    ids.Index          // Authenticate: of its entry, which ends a simple token
	V2       *v2store.Event     // V2; a refusal of the tree is a *v2store.Error in Err
}

// Waiter is told the result of a command that this member proposed: exactly once, when it is applied or wherever the
// proposal failed. Complete must not block.
type Waiter interface {
	Complete(*Result)
}
