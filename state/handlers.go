package state

import (
	"fmt"

	"quorate.dev/quorate/command"
	"quorate.dev/quorate/fault"
)

// A handler applies one command, given its request's bytes, and fills the result. It checks first and then changes: once it
// has written, it cannot fail, except when the disk does, and then it sets Machine.failed. An error refuses the command.
type handler func(m *Machine, body []byte, r *command.Result) error

// handlers has the handler of every kind.
var handlers = [...]handler{
	command.Unknown:          unknown,
	command.Empty:            empty,
	command.Put:              put,
	command.DeleteRange:      deleteRange,
	command.Txn:              txn,
	command.Compaction:       compaction,
	command.LeaseGrant:       leaseGrant,
	command.LeaseRevoke:      leaseRevoke,
	command.LeaseCheckpoint:  leaseCheckpoint,
	command.Alarm:            alarm,
	command.MemberAttributes: memberAttributes,
	command.ClusterVersion:   clusterVersion,
	command.DowngradeInfo:    downgradeInfo,
	command.ConfChange:       confChange,
	command.V2:               v2,

	command.AuthEnable:               authEnable,
	command.AuthDisable:              authDisable,
	command.AuthUserAdd:              authUserAdd,
	command.AuthUserDelete:           authNames(command.AuthUserDelete, authUserDelete),
	command.AuthUserChangePassword:   authNames(command.AuthUserChangePassword, authUserChangePassword),
	command.AuthUserGrantRole:        authNames(command.AuthUserGrantRole, authUserGrantRole),
	command.AuthUserRevokeRole:       authNames(command.AuthUserRevokeRole, authUserRevokeRole),
	command.AuthRoleAdd:              authNames(command.AuthRoleAdd, authRoleAdd),
	command.AuthRoleDelete:           authNames(command.AuthRoleDelete, authRoleDelete),
	command.AuthRoleGrantPermission:  authRoleGrantPermission,
	command.AuthRoleRevokePermission: authRoleRevokePermission,
	command.Authenticate:             authenticate,
	command.AuthStatus:               authAsked,
	command.AuthUserGet:              authAsked,
	command.AuthUserList:             authAsked,
	command.AuthRoleGet:              authAsked,
	command.AuthRoleList:             authAsked,
}

// denied says whether an alarm denies the command. A corrupt store is the worse news; one that is fenced denies nothing. A Txn or a V2 may go past NOSPACE when it puts
// nothing, which its handler finds out.
func (m *Machine) denied(row *command.Row) error {
	switch {
	case m.alarms.corrupt && row.DeniedByCorrupt && !contained(m.alarms.list, m.members.View()):
		return fault.Corrupt
	case m.alarms.noSpace && row.DeniedByNoSpace && row.Kind != command.Txn && row.Kind != command.V2:
		return fault.NoSpace
	}
	return nil
}

// message is what request bodies decode into.
type message interface{ Unmarshal([]byte) error }

// decode reads a request. Bytes that are none were not written by any member, so the error is no fault.
func decode(kind command.Kind, m message, body []byte) error {
	if err := m.Unmarshal(body); err != nil {
		return fmt.Errorf("state: the %s request in the log cannot be read: %w", kind, err)
	}
	return nil
}

// unknown refuses what another version of the store may know.
func unknown(*Machine, []byte, *command.Result) error {
	return fmt.Errorf("state: the request in the log is not known to this version")
}

// empty is the entry that begins a term.
func empty(*Machine, []byte, *command.Result) error { return nil }
